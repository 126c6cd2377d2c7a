"""The method: rivals take turns, round by round, and what counts is the median of each round's ratio.

On the machines this is for, what the scheduler and the neighbours do changes figures threefold within minutes. Whatever
disturbs one round disturbs everyone in it, so ratios within a round hold where figures do not. Each round begins with
another contestant, and a round before the first is not counted.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.machine import Conditions

__all__ = ["Limit", "Limits", "Row", "at_least", "at_most", "compare", "interleave", "median", "single"]

#: What one round of a contestant gives: its figure, in the unit of its row.
Round: TypeAlias = Callable[[], float]


@dataclass(frozen=True)
class Limit:
    """Where a figure has to lie."""

    value: float
    upward: bool

    def holds(self, figure: float) -> bool:
        """Whether ``figure`` keeps to it."""
        return figure >= self.value if self.upward else figure <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.upward else '≤'} {self.value:g}"


def at_least(value: float) -> Limit:
    """The more the better."""
    return Limit(value, upward=True)


def at_most(value: float) -> Limit:
    """The less the better."""
    return Limit(value, upward=False)


#: What must be, and what is aimed at.
Limits: TypeAlias = tuple[Limit | None, Limit | None]


@dataclass(frozen=True)
class Row:
    """One line of the table. Limits apply to the ratio where there is a rival, else to our own figure."""

    figure: str
    unit: str
    ours: Sequence[float]
    rival: str = ""
    #: the rival's rounds; None where it is not installed
    theirs: Sequence[float] | None = None
    must: Limit | None = None
    aim: Limit | None = None
    #: what the machine was like meanwhile
    conditions: Conditions | None = None

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of ours by the rival's."""
        if not self.theirs:
            return None
        return statistics.median(ours / theirs for ours, theirs in zip(self.ours, self.theirs))

    @property
    def ratio_of_best(self) -> float | None:
        """Our best round by the rival's: what is left when the neighbours' part in a noisy run is taken away."""
        if not self.theirs:
            return None
        best = max if self.unit.endswith("/s") else min
        return best(self.ours) / best(self.theirs)

    @property
    def judged(self) -> float | None:
        """What the limits are about."""
        return self.ratio if self.rival else median(self.ours)

    @property
    def verdict(self) -> str:
        """Whether the limits hold."""
        judged = self.judged
        if judged is None:
            return "not installed"
        if self.must is not None and not self.must.holds(judged):
            return "BELOW MUST"
        if self.aim is not None:
            return "aim" if self.aim.holds(judged) else ("must" if self.must is not None else "below aim")
        return "must" if self.must is not None else ""


def median(values: Sequence[float]) -> float:
    """The median of the rounds."""
    return statistics.median(values)


def interleave(contestants: Mapping[str, Round], rounds: int) -> dict[str, list[float]]:
    """Figures of each contestant by its name, one a round."""
    names = list(contestants)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            _tidy()
            value = contestants[name]()
            if turn >= 0:
                figures[name].append(value)
    return figures


def _tidy() -> None:
    """Let nobody's garbage, and no survivors of earlier rounds, cost the next contestant collections."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def compare(
    figure: str,
    unit: str,
    figures: Mapping[str, Sequence[float]],
    limits: Mapping[str, Limits],
) -> list[Row]:
    """A row for each rival in ``limits``; ours is the contestant ``"ours"``."""
    return [
        Row(figure, unit, figures["ours"], rival, figures.get(rival), must, aim)
        for rival, (must, aim) in limits.items()
    ]


def single(
    figure: str,
    unit: str,
    ours: Sequence[float],
    must: Limit | None = None,
    aim: Limit | None = None,
) -> Row:
    """A row without a rival."""
    return Row(figure, unit, ours, must=must, aim=aim)
