"""What a Loop drives a learner against: a daemon's Master, a recorded run, or a simulation.

Only what a Loop needs; the blocking client's :class:`~taskmaster.learners.client.Master` and
:class:`~taskmaster.learners.run.Run` have it, and what stands in for them has to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from taskmaster.bus.fields import Field
from taskmaster.bus.messages import BY_HAND, Order
from taskmaster.bus.status import WriterInfo
from taskmaster.learners.history import AskedBlock, HasHistory
from taskmaster.learners.results import Result

__all__ = [
    "Introducing",
    "LegRun",
    "LegTasks",
    "Recorded",
    "Target",
    "TargetResults",
    "TargetRun",
    "TargetTasks",
    "Virtual",
]


class TargetTasks(Protocol):
    """Where points are put."""

    def put(self, point: Any) -> int:
        """Put a point; returns its index, one more than the last one's. Raises InvalidTask."""

    def put_many(self, points: Sequence[Any]) -> Sequence[int]:
        """Put several, or none where one of them is not taken. Raises InvalidTask."""

    def gather(self, on: bool = True) -> None:
        """Whether what is put may be kept until :meth:`send`, or until a result is waited for."""

    def send(self, *, listen: bool = True) -> None:
        """Let go what was gathered. ``listen``: whoever calls does not come back soon."""

    def new_ask(self, after: int | None = None, asked: int = BY_HAND) -> None:
        """The learner was asked for ``asked`` points when event ``after`` was the last that it was told.

        What is put next are those; also called if there are none. ``asked`` is KEPT or AGAIN, see
        `taskmaster.bus.messages`, where points are put that were asked for earlier, or that have failed.
        """


class TargetResults(Protocol):
    """Where results arrive, in the order in which the tasks ended."""

    def get(self, timeout: float | None = None) -> Result:
        """The next one. Raises TimeoutError after ``timeout`` seconds of the run's clock."""

    def rouse(self, on: bool = True) -> None:
        """Have :meth:`get` raise TimeoutError now: who waits there, or calls it next; not ``on``: not any more.

        From any thread, and from a signal's handler. Where nobody ever waits there is nothing to be done.
        """

    def __iter__(self) -> Iterator[Result]:
        """Results until no task is open."""


class TargetRun(Protocol):
    """One learner's conversation with a Master."""

    @property
    def master(self) -> Target: ...

    @property
    def tasks(self) -> TargetTasks: ...

    @property
    def results(self) -> TargetResults: ...

    @property
    def name(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def next_index(self) -> int:
        """The index that the next task will get."""

    @property
    def told(self) -> int:
        """``seq`` of the last event that was taken or left out; -1 if there was none."""

    def clock(self) -> float:
        """Seconds, from any origin: by which a Loop measures how long anything takes."""

    def time(self) -> float:
        """Seconds since 1970, by a clock that may be set: by which a Loop knows what time it is."""

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not arrived here."""

    def flush(self, timeout: float | None = ...) -> None:
        """Wait until all is recorded that was put, and that the learner was asked, also if nothing came of it."""

    def close(self) -> None:
        """No further tasks."""

    def detach(self) -> None:
        """Leave it as it is."""


@runtime_checkable
class Recorded(Protocol):
    """A run that may have a past: a Loop that goes on with it plays that to its learner."""

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and where the learner was asked for them."""


class LegTasks(TargetTasks, Protocol):
    """Where some of the points of a learner are put, who has others put elsewhere."""

    def new_ask(self, after: int | None = None, asked: int = BY_HAND, order: Order | None = None) -> None:
        """As :meth:`TargetTasks.new_ask`; ``order`` says where it stands among all asks of the learner."""


@runtime_checkable
class LegRun(TargetRun, Recorded, HasHistory, Protocol):
    """What a run has to be to be a leg of a routed one."""

    @property
    def tasks(self) -> LegTasks: ...

    @property
    def acknowledged(self) -> int:
        """Tasks below this index are recorded, and what was asked before them."""


@runtime_checkable
class Introducing(Protocol):
    """A run that may have had other writers, and other learners."""

    def introduce(self, metadata: Mapping[str, str]) -> None:
        """Record who puts tasks from here on."""

    def writers(self) -> Sequence[WriterInfo]:
        """Who has opened it for writing, in that order, and what they said of themselves."""


@runtime_checkable
class Virtual(Protocol):
    """A run whose time passes only where somebody waits for it: of a simulation."""

    @property
    def next_event(self) -> float:
        """When something happens next, by its clock; infinite where nothing will."""

    def advance(self, to: float) -> None:
        """Let everything happen up to this time, which becomes the present."""

    def arrived(self) -> Result | None:
        """The next result, if it has arrived; takes no time."""

    def clock(self) -> float:
        """What time it is."""


@runtime_checkable
class Target(Protocol):
    """A Master."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> Sequence[Field]: ...

    @property
    def outputs(self) -> Sequence[Field]: ...

    def wait_for_slots(self, timeout: float = ...) -> int:
        """How many tasks it evaluates at a time, once all its workers have started, or so many seconds have passed."""

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> TargetRun:
        """A run to put tasks to: a new one, or one that is gone on with."""
