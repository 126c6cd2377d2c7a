"""What goes wrong in a simulated laboratory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import shown
from taskmaster.learners.arguments import duration
from taskmaster.learners.simulate.latency import Constant, Latency, as_latency

__all__ = ["Failures", "FailuresLike", "as_failures", "uniforms"]

_BLOCK = 1024


@dataclass(frozen=True)
class Failures:
    """What goes wrong, how often, and how long it takes until somebody notices.

    An evaluation that fails is an outcome. A worker that dies and an answer that is lost are noticed after a while, and
    the task is evaluated again, as the daemon does it with a repeatable one: ``max_attempts`` times in all. An answer
    that comes late is taken as long as no later attempt has begun, and ignored afterwards.

    Raises CallerError for what is no probability or duration.
    """

    #: probability that an evaluation fails when it is done
    fail: float = 0.0
    #: mean seconds of evaluating after which a worker dies; its task dies with it
    lifetime: float = math.inf
    #: how long a dead worker is away
    repair: Latency = field(default_factory=lambda: Constant(60.0))
    #: probability that an answer never arrives
    lost: float = 0.0
    #: probability that an answer is late
    late: float = 0.0
    #: how late it is then
    lateness: Latency = field(default_factory=lambda: Constant(60.0))
    #: seconds from a death, or from when an answer was due, until the Master has noticed
    notice: float = 10.0

    def __post_init__(self) -> None:
        for name in ("fail", "lost", "late"):
            share = getattr(self, name)
            if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
                raise CallerError(f"{name} of Failures is a probability, a number from 0 to 1, not {shown(share)}")
        if self.lost + self.late > 1:
            raise CallerError(f"lost and late answers together cannot be more than all: {self.lost} + {self.late} > 1")
        if not (isinstance(self.lifetime, (int, float)) and self.lifetime > 0):
            raise CallerError(f"lifetime of Failures must be a number of seconds above 0, not {self.lifetime!r}")
        for name in ("repair", "lateness"):
            object.__setattr__(self, name, as_latency(getattr(self, name), f"{name} of Failures"))
        duration(self.notice, "notice of Failures")
        if math.isinf(self.notice):
            raise CallerError("notice of Failures must be finite: a task that nobody misses would never end")

    @property
    def is_none(self) -> bool:
        """Whether nothing goes wrong."""
        return not (self.fail or self.lost or self.late) and math.isinf(self.lifetime)


#: A number stands for the probability that an evaluation fails.
FailuresLike: TypeAlias = Failures | float


def as_failures(failures: FailuresLike | None) -> Failures:
    """What a caller gave. Raises CallerError."""
    if failures is None or isinstance(failures, Failures):
        return failures or Failures()
    if not isinstance(failures, (int, float)) or isinstance(failures, bool):
        raise CallerError(
            "failures are the probability that an evaluation fails, or Failures(fail=…, lifetime=…), "
            f"not {shown(failures)}"
        )
    return Failures(fail=failures)


def uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Numbers uniform in [0, 1), without an end."""
    while True:
        yield from rng.random(_BLOCK).tolist()
