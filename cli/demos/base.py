"""What every demonstration has: a stage to be shown on, a run of a daemon of its own, and a report at the end."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from taskmaster.bus.errors import DaemonError
from taskmaster.bus.text import count
from taskmaster.learners.results import Result

__all__ = ["RUN", "SEED", "DemoReport", "Demonstration", "Stage", "check_complete", "over_restarts", "write_table"]

#: The name of the demonstration's run; with a state folder of one's own it is gone on with.
RUN = "demo"
SEED = 1


@dataclass(frozen=True)
class Stage:
    """Where a demonstration is shown, and how much of it."""

    console: Console
    #: for pictures, tables and logs
    folder: Path
    #: drawn in place, for a terminal; else lines are printed
    live: bool
    #: how many points; None: as the demonstration likes
    points: int | None = None

    def say(self, text: str) -> None:
        """Some words of introduction, folded by the terminal."""
        self.console.print(text, highlight=False)

    def conclude(self, text: str) -> None:
        """A line of the end, which may be a path to be copied."""
        self.console.print(text, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class DemoReport:
    """What came out."""

    #: evaluated, and those that failed besides
    points: int
    failed: int
    seconds: float
    #: of the daemon
    restarts: int
    picture: Path
    table: Path


class Demonstration(ABC):
    """One demonstration, to be run once."""

    #: name of the shipped configuration, and of what is written
    config: ClassVar[str]
    question: ClassVar[str]
    #: as many as fit into a minute
    usual_points: ClassVar[int]
    #: what it needs beyond TaskMaster and what all need, each with the name by which it is imported
    packages: ClassVar[tuple[tuple[str, str], ...]]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.total = stage.points or self.usual_points
        #: in the order in which they came
        self.results: list[Result] = []
        self.restarts = 0

    @abstractmethod
    def run(self, state: Path, *, temporary: bool) -> None:
        """Evaluate all points, with a daemon whose journal is in ``state``."""

    @abstractmethod
    def report(self, seconds: float) -> DemoReport:
        """Write the picture and the table, and say what was found.

        Raises EvaluationError if nothing could be evaluated, DaemonError if a result is missing or came twice.
        """

    @property
    def reached(self) -> int:
        """How many points it has."""
        return len(self.results)

    @property
    def _picture(self) -> Path:
        return self.stage.folder / f"{self.config}.png"

    @property
    def _table(self) -> Path:
        return self.stage.folder / f"{self.config}.csv"

    def _new_log(self) -> Path:
        log = self.stage.folder / "daemon.log"
        log.unlink(missing_ok=True)
        return log


def check_complete(results: Sequence[tuple[int, int]], total: int) -> None:
    """See that of ``total`` tasks each has one result: ``results`` are (seq, index), in the order in which they came.

    Raises DaemonError.
    """
    seqs = [seq for seq, _ in results]
    times = Counter(index for _, index in results)
    lost = [index for index in range(total) if index not in times]
    twice = [index for index, n in times.items() if n > 1]
    if lost or twice or any(later <= earlier for earlier, later in pairwise(seqs)):
        raise DaemonError(
            f"the results do not add up, which is a mistake in TaskMaster: lost {lost}, twice {twice}, in the order "
            f"{seqs}; please report it"
        )


def over_restarts(restarts: int) -> str:
    """What is said of a daemon that was killed, if it was."""
    return f", over {'one restart' if restarts == 1 else count(restarts, 'restart')} of the daemon" if restarts else ""


def write_table(file: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file."""
    with open(file, "w", newline="", encoding="utf-8") as text:
        table = csv.writer(text)
        table.writerow(headings)
        table.writerows(rows)
