"""What there is of a simulated run: what a daemon's journal has of a real one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taskmaster.bus.status import WriterInfo
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from taskmaster.learners.simulate.journal import RunJournal

__all__ = ["SimulatedHistory"]


class SimulatedHistory:
    """A :class:`~taskmaster.learners.history.Recording`; what becomes of the run after this was made is left out."""

    def __init__(self, run: RunJournal) -> None:
        self.name, self.seed, self.metadata = run.name, run.seed, run.metadata
        self.master = run.master.name
        self.title = f"{self.master}/{self.name}"
        self.parameters, self.outputs = run.master.parameters, run.master.outputs
        self.created = run.created
        self.next_index, self.next_seq, self.ended = run.next_index, len(run.events), len(run.events)
        self._blocks = tuple(run.record())
        self._events = tuple(run.events)
        self._writers = tuple(run.writers)

    def __repr__(self) -> str:
        return f"<SimulatedHistory of {self.title}: {self.next_index} tasks, {self.next_seq} events>"

    def asks(self) -> Iterator[AskedBlock]:
        """Its tasks as they were put, with what the learner was asked."""
        return iter(self._blocks)

    def results(self, until: float = math.inf) -> Iterator[Result]:
        """How its tasks ended, in the order of the events, up to the one before event ``until``."""
        return iter(self._events[: int(min(until, self.next_seq))])

    def reading(self) -> SimulatedHistory:
        """Itself: it is all here."""
        return self

    def writers(self) -> list[WriterInfo]:
        """Who has opened it for writing, in that order, and which learner they said asks from there on."""
        return list(self._writers)
