"""Several laboratories in one thread, each with a daemon's decisions and a journal of its own, and one learner on them.

Time is virtual, and what happens in it is chosen: at each step whether what was sent to a daemon arrives there, and
which of its tasks end. So one leg may be far ahead of another when the loop is killed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.rambling import Play
from helpers.rehearsal import Rehearsal, RehearsedRun, Stage
from taskmaster.bus.fields import Field
from taskmaster.learners import Routes
from taskmaster.learners.history import History
from taskmaster.learners.results import Result

__all__ = ["Branch", "BranchRun", "Junction"]


class BranchRun(RehearsedRun):
    """A leg: of a Master whose time passes with that of the others."""

    master: Branch

    @property
    def next_event(self) -> float:
        """The next step, if there is anything to come of it."""
        return self.now + 1.0 if self.master.core.outbox or self._open else math.inf

    def advance(self, to: float) -> None:
        """What was sent may arrive, and some of what is open may end."""
        if to <= self.now:
            return
        self.now = to
        branch = self.master
        branch.before()
        arrives, ends = branch.choose()
        if arrives or not self._open:
            self.pump()
        if ends and self._open:
            branch.play(self)

    def arrived(self) -> Result | None:
        """The next result, if it has come."""
        return self.core.take()

    @property
    def _open(self) -> int:
        return len(self.master.stage.run(self.number).open)


class Branch(Rehearsal):
    """One of the Masters; ``choose()`` says whether what was sent arrives, and whether tasks end."""

    def __init__(self, stage: Stage, play: Play, choose: Callable[[], tuple[bool, bool]]) -> None:
        super().__init__(stage, play)
        self.choose = choose

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> BranchRun:
        run = super().open(name, seed=seed, metadata=metadata)
        return BranchRun(self, run.core)


class Junction:
    """The stages of several Masters, which outlive the programs that use them."""

    def __init__(self, folder: Path, parameters: Sequence[Field], choices: Sequence[int], n: int = 2) -> None:
        places = [folder / f"stage {k}" for k in range(n)]
        for place in places:
            place.mkdir()
        self.stages = [Stage(place, parameters) for place in places]
        self._parameters = parameters
        self._choices = iter(choices)
        self._play = Play(iter(choices[::-1]))

    def routes(self, before: Callable[[], None] = lambda: None) -> Routes:
        """The Masters as a new program has them; ``before`` is called at each step of each of them."""
        branches = [Branch(stage, self._play, self._choose) for stage in self.stages]
        for branch in branches:
            branch.before = before
        return Routes(branches, self._cost)

    def replace(self, k: int, folder: Path) -> None:
        """A new daemon in the place of one of them, which knows of nothing."""
        self.stages[k].journal.close()
        self.stages[k] = Stage(folder, self._parameters)

    def histories(self) -> list[History]:
        """What is recorded of the only run of each."""
        return [Branch(stage, self._play, self._choose).history(1) for stage in self.stages]

    def close(self) -> None:
        """The end of all of them."""
        for stage in self.stages:
            stage.journal.close()

    def _choose(self) -> tuple[bool, bool]:
        choice = next(self._choices, 3)
        return choice % 2 == 1, choice // 2 % 2 == 1

    def _cost(self, point: Any, master: Any, in_flight: int) -> float:
        return in_flight + next(self._choices, 0) % 5
