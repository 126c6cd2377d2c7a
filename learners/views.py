"""What the blocking and the asyncio client show alike: names, numbers and messages that need no waiting.

The two differ in how they wait, and in nothing else; :mod:`~taskmaster.learners.client` and
:mod:`~taskmaster.learners.aio` add just that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, DaemonUnreachable
from taskmaster.bus.fields import Field
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.learners.core import ClientCore, Request
from taskmaster.learners.names import fresh_name
from taskmaster.learners.runcore import RunCore

__all__ = ["ANSWER_SECONDS", "LabView", "MasterView", "RunView", "resolve"]

#: Seconds that a question to the daemon may take; it answers in milliseconds, but may be on its way up.
ANSWER_SECONDS = 10.0


class LabView:
    """A daemon, as it has described itself."""

    def __init__(self, address: str) -> None:
        #: the control socket's
        self.address = address
        self._core = ClientCore(address)

    @property
    def _described(self) -> m.Described:
        assert self._core.described is not None, "connect() waits for it"
        return self._core.described

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self._described.name

    @property
    def alarms(self) -> tuple[m.Alarm, ...]:
        """The last alarms that the daemon has published: ``.level``, ``.subject``, ``.message``, ``.time``."""
        return tuple(self._core.alarms)

    def __iter__(self) -> Iterator[str]:
        return iter([info.name for info in self._described.masters])

    def __contains__(self, name: object) -> bool:
        return any(info.name == name for info in self._described.masters)

    def __len__(self) -> int:
        return len(self._described.masters)

    def __repr__(self) -> str:
        return f"<Lab {self.name!r} at {self.address}: {', '.join(iter(self))}>"

    def _is_settled(self) -> bool:
        return all(run.is_settled or run.error is not None for run in self._core.all_runs())

    def _nobody(self) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"no daemon answers at {self.address}; is it running ('taskmaster status'), and is the address right "
            "($TASKMASTER, or the address given)?"
        )

    def _late(self, what: Request, timeout: float) -> DaemonUnreachable:
        self._core.withdraw(what)  # lest it be carried out after the next start of a daemon that is away
        return DaemonUnreachable(
            f"the daemon at {self.address} did not answer ({type(what.message).__name__}) within {timeout:g} s; it may "
            "carry that out yet"
        )

    def _deaf(self) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"the results socket of the daemon at {self.address} ({self._results_address}) cannot be reached"
        )

    @property
    def _results_address(self) -> str:
        return resolve(self._described.results, self.address)


class MasterView:
    """One Master, as its daemon has described it."""

    def __init__(self, core: ClientCore, name: str) -> None:
        #: its name
        self.name = name
        self._daemon = core
        core.master(name)

    @property
    def _info(self) -> m.MasterInfo:
        return self._daemon.master(self.name)

    @property
    def parameters(self) -> tuple[Field, ...]:
        """What a point consists of; empty where points of any form are taken."""
        return self._info.parameters

    @property
    def outputs(self) -> tuple[Field, ...]:
        """What an evaluation gives; empty where that may be anything."""
        return self._info.outputs

    @property
    def description(self) -> str:
        """What it evaluates, in the configuration's words."""
        return self._info.description

    def __repr__(self) -> str:
        return f"<Master {self.name!r} at {self._daemon.address}>"

    def _find(self, status: DaemonStatus) -> MasterStatus:
        return next(master for master in status.masters if master.name == self.name)

    def _open_message(
        self, name: str | None, seed: int | None, priority: int | None, metadata: Mapping[str, str] | None
    ) -> m.Open:
        claim = secrets.token_hex(8)
        return m.Open(0, self.name, name or fresh_name(), True, True, seed, priority, dict(metadata or {}), claim)

    def _watch_message(self, name: str) -> m.Open:
        return m.Open(0, self.name, name, write=False, create=False)


class RunView:
    """One run, as far as this client has heard of it."""

    def __init__(self, core: RunCore) -> None:
        self._core = core

    @property
    def name(self) -> str:
        """Its name; opening it again by that goes on with it."""
        return self._core.name

    @property
    def number(self) -> int:
        """Its number in the daemon's journal, by which it can be deleted."""
        return self._core.id

    @property
    def seed(self) -> int:
        """The seed recorded with it: whatever is random in its learner should come from there."""
        return self._core.seed

    @property
    def metadata(self) -> dict[str, str]:
        """What was noted when it was created."""
        return self._core.metadata

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not arrived here."""
        return self._core.open_tasks

    @property
    def next_index(self) -> int:
        """The index that the next task will get."""
        return self._core.next_index

    def __repr__(self) -> str:
        count = f"{self.next_index} tasks, {max(0, self.open_tasks)} open"
        return f"<Run {self.name!r} of Master {self._core.master!r}: {count}>"

    def _cancel_message(self, indices: Iterable[int] | None) -> m.Cancel:
        core = self._core
        if indices is None:  # named, not "all": sent again after a lost answer it must not cancel what was put since
            return m.Cancel(0, core.id, ((0, core.next_index),))
        wanted = sorted(set(indices))
        if wanted and wanted[0] < 0:
            raise CallerError(f"run {self.name!r} has no task {wanted[0]}: tasks are numbered from 0")
        return m.Cancel(0, core.id, tuple(IntervalSet((index, index + 1) for index in wanted)))

    def _is_flushed(self, full_beyond: float) -> bool:
        """Whether all that was put is on disk, or cannot be: the daemon is full, and has more tasks than that."""
        core = self._core
        is_full = core.is_turned_away and core.acknowledged > full_beyond
        return core.is_settled or core.error is not None or is_full

    def _unacknowledged(self, timeout: float | None) -> DaemonUnreachable:
        n = self._core.next_index - self._core.acknowledged
        return DaemonUnreachable(
            f"run {self.name!r}: {n} tasks were not acknowledged within {timeout:g} s; they are being sent again"
        )

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"run {self.name!r}: no result within {timeout:g} s; {self.open_tasks} tasks are open")


def check_since(since: str) -> None:
    """Raise CallerError unless it is one of the two words."""
    if since not in ("start", "now"):
        raise CallerError(f"since must be 'start' or 'now', not {since!r}")


def resolve(address: str, control: str) -> str:
    """A daemon's address as this client reaches it: one bound to all interfaces is where the control socket was."""
    if address.startswith(("tcp://0.0.0.0:", "tcp://*:")) and control.startswith("tcp://"):
        return control.rpartition(":")[0] + ":" + address.rpartition(":")[2]
    return address
