"""What the blocking and the asyncio client show alike: names, numbers and messages that need no waiting.

The two differ in how they wait, and in nothing else; :mod:`~taskmaster.learners.client` and
:mod:`~taskmaster.learners.aio` add just that.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from taskmaster.bus import messages as m, topics
from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.bus.fields import Field
from taskmaster.bus.handshakes import refusal
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.keys import Credentials
from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.bus.text import count
from taskmaster.bus.wire import MOST_INTERVALS
from taskmaster.learners.arguments import (
    LARGEST,
    Whole,
    check_since,
    duration,
    moment,
    rank,
    text,
    whole,
    wholes,
    words,
)
from taskmaster.learners.core import ClientCore
from taskmaster.learners.names import fresh_name
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.series import ProgressFollowing, SamplesFollowing, Series, gathered

__all__ = [
    "ANSWER_SECONDS",
    "MOST_WORKERS",
    "LabView",
    "MasterView",
    "RunView",
    "fork_message",
    "progress_of",
    "run_number",
    "samples_of",
]

#: Seconds that a question to the daemon may take; it answers in milliseconds, but may be on its way up.
ANSWER_SECONDS = 10.0

#: What the daemon, its journal and every client of any language can hold.
_LARGEST_SEED = 2**63 - 1
#: Worker processes that a daemon keeps for a Master at most.
MOST_WORKERS = 4096


class LabView:
    """A daemon, as it has described itself."""

    def __init__(self, address: str, patience: float | None, credentials: Credentials | None = None) -> None:
        #: the control socket's
        self.address = address
        #: seconds that the daemon has for an answer; None: as long as it takes
        self.patience = None if patience in (None, math.inf) else duration(patience, "patience")
        self._core = ClientCore(address, credentials)

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
        """The last alarms that the daemon has published: ``.level``, ``.subject``, ``.message``, ``.time``.

        Which of them stand still, ``standing_alarms()`` says.
        """
        return tuple(self._core.alarms)

    def __iter__(self) -> Iterator[str]:
        return iter([info.name for info in self._described.masters])

    def __contains__(self, name: object) -> bool:
        return any(info.name == name for info in self._described.masters)

    def __len__(self) -> int:
        return len(self._described.masters)

    def __repr__(self) -> str:
        return f"<Lab {self.name!r} at {self.address}: {', '.join(iter(self))}>"

    def _samples_question(
        self, master: str, head: str | None, name: str | None, since: Any, until: Any
    ) -> m.ReadSamples:
        self._core.master(master)
        head = None if head is None else text(head, "a head's name")
        name = None if name is None else text(name, "a value's name")
        return m.ReadSamples(0, master, head, name, moment(since, "since"), moment(until, "until"))

    def _samples_following(self, master: str, head: str | None, name: str | None, since: str) -> SamplesFollowing:
        check_since(since)
        question = self._samples_question(master, head, name, None, None)
        topic = topics.samples_topic(master)
        return SamplesFollowing(topic, master, question.head, question.name, new_only=since == "now")

    def _unsettled(self, lost: str) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"{lost} were put and not acknowledged by the daemon at {self.address}, and are not sent any more: they "
            "may or may not be in its journal. Open the run again by its name: its next_index says how many are"
        )

    def _nobody(self) -> DaemonUnreachable:
        """Nobody has answered; why that is may take a second to find out."""
        return DaemonUnreachable(
            refusal(self.address, self._core.credentials)
            or f"no daemon answers at {self.address}; is it running ('taskmaster status'), and is the address right "
            "($TASKMASTER, or the address given)?"
        )

    def _deaf(self) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"the results socket of the daemon at {self.address} ({self._core.results_address}) cannot be reached"
        )


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

    @property
    def question(self) -> str:
        """What people are asked, where they evaluate; else empty."""
        return self._info.question

    @property
    def approval(self) -> bool:
        """Whether tasks wait until somebody approves them."""
        return self._info.approval

    def __repr__(self) -> str:
        return f"<Master {self.name!r} at {self._daemon.address}>"

    def _find(self, status: DaemonStatus) -> MasterStatus:
        return next(master for master in status.masters if master.name == self.name)

    def _open_message(
        self, name: str | None, seed: Whole | None, priority: Whole | None, metadata: Mapping[str, str] | None
    ) -> m.Open:
        return m.Open(
            0,
            self.name,
            text("" if name is None else name, "a run's name") or fresh_name(),
            True,
            True,
            None if seed is None else whole(seed, "a seed", 0, _LARGEST_SEED),
            None if priority is None else rank(priority),
            words(metadata, "metadata"),
            secrets.token_hex(8),
        )

    def _watch_message(self, name: str) -> m.Open:
        return m.Open(0, self.name, text(name, "a run's name"), write=False, create=False)

    def _workers_message(self, count: Whole) -> m.SetWorkers:
        return m.SetWorkers(0, self.name, whole(count, "the number of worker processes", 0, MOST_WORKERS))


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
    def told(self) -> int:
        """``seq`` of the last event that was taken here, or left out; -1 if there was none."""
        return self._core.told

    @property
    def next_index(self) -> int:
        """The index that the next task will get."""
        return self._core.next_index

    @property
    def acknowledged(self) -> int:
        """Tasks below this index are on the daemon's disk."""
        return self._core.acknowledged

    def __repr__(self) -> str:
        tasks = f"{count(self.next_index, 'task')}, {max(0, self.open_tasks)} open"
        return f"<Run {self.name!r} of Master {self._core.master!r}: {tasks}>"

    def _wanted(self, indices: Iterable[Whole] | None) -> list[int] | None:
        """Indices to cancel, None for all."""
        return None if indices is None else sorted(set(wholes(indices, "the index of a task", 0, LARGEST - 1)))

    def _cancel_messages(self, indices: list[int] | None, queued: bool) -> list[m.Cancel]:
        core = self._core
        if indices is None:  # named, not "all": sent again after a lost answer it must not cancel what was put since
            return [m.Cancel(0, core.id, ((0, core.next_index),), queued)]
        wanted = tuple(IntervalSet((index, index + 1) for index in indices))
        return [
            m.Cancel(0, core.id, wanted[k : k + MOST_INTERVALS], queued)
            for k in range(0, max(1, len(wanted)), MOST_INTERVALS)
        ]

    def _introduction(self, metadata: Mapping[str, str]) -> m.NoteWriter:
        self._core.require_writable()
        return m.NoteWriter(0, self._core.id, self._core.writer, words(metadata, "metadata"))

    def _prioritise_message(self, priority: Whole) -> m.Prioritise:
        return m.Prioritise(0, self._core.id, rank(priority))

    def _progress_question(self, index: Whole, attempt: Whole | None) -> m.ReadProgress:
        index = whole(index, "the index of a task", 0, LARGEST)
        return m.ReadProgress(
            0, self._core.id, index, None if attempt is None else whole(attempt, "an attempt", 1, LARGEST)
        )

    def _progress_following(self, since: str) -> ProgressFollowing:
        check_since(since)
        topic = topics.progress_topic(self._core.master, self._core.id)
        return ProgressFollowing(topic, self._core.id, new_only=since == "now")

    def _is_flushed(self, full_beyond: float) -> bool:
        """Whether all that was put is on disk, or cannot be: the daemon is full, and has more tasks than that."""
        core = self._core
        is_full = core.is_turned_away and core.acknowledged > full_beyond
        return core.is_settled or core.error is not None or is_full

    def _unacknowledged(self, timeout: float | None) -> DaemonUnreachable:
        n = self._core.next_index - self._core.acknowledged
        return DaemonUnreachable(
            f"run {self.name!r}: no acknowledgement of {count(n, 'task')} within {timeout:g} s; what was put is "
            "sent on, and again where it was lost"
        )

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"run {self.name!r}: no result within {timeout:g} s; {count(self.open_tasks, 'task')} open")


def fork_message(run: int, name: str, at: int | None) -> m.Fork:
    """A Fork. Raises CallerError for what is no run, no name or no number of events."""
    at = None if at is None else whole(at, "at", 0, LARGEST)
    return m.Fork(0, run_number(run), text(name, "a run's name"), at)


def run_number(run: Whole) -> int:
    """The number of a run. Raises CallerError for anything else, such as its name."""
    return whole(run, "the number of a run", 0, LARGEST)


def progress_of(pieces: Sequence[m.Piece], fields: Iterable[Field]) -> Series:
    """What the latest of some evaluations of a task has told, with the units of those of its values that have any."""
    latest = max((piece.attempt for piece in pieces), default=0)
    series = gathered([piece for piece in pieces if piece.attempt == latest])
    known = {field.name: field.unit for field in fields if field.unit}
    return replace(series, units={name: known[name] for name in series.values if name in known})


def samples_of(pieces: Sequence[m.Piece], question: m.ReadSamples, units: Mapping[str, str]) -> Series:
    """The samples of one monitored value."""
    begin = -math.inf if question.begin is None else question.begin
    series = gathered(pieces, begin, math.inf if question.end is None else question.end)
    name = question.name or ""
    values = series.values or {name: np.empty(0)}
    return replace(series, values=values, units={name: units[name]} if name in units else {})
