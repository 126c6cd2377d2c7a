"""All runs of a daemon, by number and by name; those in which nothing is going on take a few hundred bytes each.

Runs are kept for good, and most are over: every ``map`` leaves one, and a lab has a hundred thousand of them after some
years. A :class:`~taskmaster.daemon.run.Run` with its intervals and estimates takes some kilobytes; of one without open
tasks, twenty numbers and texts are enough to make it again, just as it was, when somebody asks for it. Nobody can tell
which runs are laid aside.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from heapq import merge
from itertools import islice
from typing import Protocol

import msgspec

from taskmaster.bus import codec, values
from taskmaster.bus.errors import ProtocolError, UnknownRun
from taskmaster.bus.status import HeldTask, RunInfo
from taskmaster.bus.text import count, how_to_resolve
from taskmaster.daemon.held import Doubt
from taskmaster.daemon.run import Run

__all__ = ["Resting", "Runs", "Shift", "encoded_input", "metadata_of", "no_run", "run_info", "still_open"]

#: So many of a Master's newest runs are looked through for one with a name like a mistyped one: to compare takes some
#: 20 µs each.
_CANDIDATES = 500
#: Bytes of an input that is told with a task in doubt: what people look at, and not what makes a list slow.
_SHOWN_BYTES = 64 << 10
#: So many tasks in doubt are named where a run cannot be deleted for them.
_NAMED = 5


class Resting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run without open tasks."""

    run: int
    master: str
    name: str
    seed: int
    created: float
    user: str
    #: JSON, as in the journal
    metadata: str
    priority: int
    closed: bool
    paused: bool
    writer: int
    next_index: int
    next_seq: int
    done: int
    failed: int
    cancelled: int
    claims: tuple[tuple[str, int], ...] = ()
    task_seconds: float = 0.0
    largest: int = 0
    virtual_time: float = 0.0

    @classmethod
    def of(cls, run: Run) -> Resting:
        """What is to be known of a run that is laid aside."""
        return cls(
            run.id,
            run.master,
            run.name,
            run.seed,
            run.created,
            run.user,
            _json(run.metadata).decode(),
            run.priority,
            run.closed,
            run.paused,
            run.writer,
            run.next_index,
            run.next_seq,
            run.done,
            run.failed,
            run.cancelled,
            tuple(run.claims.items()),
            run.estimate.seconds,
            run.estimate.largest,
            run.virtual_time,
        )

    def waken(self) -> Run:
        """The run as it was."""
        run = Run(self.run, self.master, self.name, self.seed, self.created, self.user)
        run.metadata = metadata_of(self)
        run.priority, run.closed, run.paused, run.writer = self.priority, self.closed, self.paused, self.writer
        run.next_index, run.next_seq = self.next_index, self.next_seq
        run.done, run.failed, run.cancelled = self.done, self.failed, self.cancelled
        run.claims = dict(self.claims)
        run.estimate.seconds, run.estimate.largest = self.task_seconds, self.largest
        run.virtual_time = self.virtual_time
        return run


_json = msgspec.json.Encoder().encode
_metadata = msgspec.json.Decoder(dict[str, str]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Resting).decode


class Shift(Protocol):
    """Who is told which of its runs are awake: a Master."""

    def add_run(self, run: Run) -> None: ...

    def remove_run(self, run: Run) -> None: ...

    def rest(self, run: Resting, change: int) -> None: ...


class Runs:
    """The runs of a daemon. To ask for one by its number or name is enough to have it awake; to look at all is not."""

    def __init__(self, masters: Mapping[str, Shift]) -> None:
        self._masters = masters
        self._awake: dict[int, Run] = {}
        #: as msgpack: a tenth of what the objects would take
        self._resting: dict[int, bytes] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        #: the same numbers by Master, in order: the very objects, so that it takes eight bytes for each
        self._in_order: dict[str, list[int]] = {}
        #: of the run that is made next; the numbers of deleted ones are not given again
        self.next_number = 1
        #: how many runs each user has made
        self.made: Counter[str] = Counter()
        #: and how many bytes of metadata, as JSON, these have
        self.metadata_bytes: Counter[str] = Counter()
        #: runs that may be laid aside, as far as is known
        self._quiet: dict[int, Run] = {}

    def __len__(self) -> int:
        return len(self._awake) + len(self._resting)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted((*self._awake, *self._resting)))

    def __contains__(self, number: object) -> bool:
        return number in self._awake or number in self._resting

    def __getitem__(self, number: int) -> Run:
        run = self.get(number)
        if run is None:
            raise KeyError(number)
        return run

    def get(self, number: int) -> Run | None:
        """The run of this number, awake."""
        run = self._awake.get(number)
        return run if run is not None or number not in self._resting else self._waken(number)

    def require(self, number: int) -> Run:
        """The run of this number, awake; raises UnknownRun."""
        run = self.get(number)
        if run is None:
            raise no_run(number)
        return run

    def look(self, number: int) -> Run | Resting | None:
        """The same, or what is known of it where it is laid aside, which it stays: for who only wants to read."""
        run = self._awake.get(number)
        if run is not None:
            return run
        state = self._resting.get(number)
        return None if state is None else _unpack(state)

    def named(self, master: str, name: str) -> Run | None:
        """The run of this name."""
        number = self._numbers.get(master, {}).get(name)
        return None if number is None else self[number]

    def keys(self) -> Set[int]:
        """All numbers."""
        return self._awake.keys() | self._resting.keys()

    def values(self) -> Iterator[Run]:
        """All runs by their numbers, to be looked at: of those laid aside, it is a copy."""
        for run in map(self.look, self):
            if run is not None:
                yield run.waken() if isinstance(run, Resting) else run

    def find(self, master: str, name: str) -> Run | Resting | None:
        """The run of this name, as :meth:`look` gives it."""
        number = self._numbers.get(master, {}).get(name)
        return None if number is None else self.look(number)

    def infos(
        self, master: str | None, after: int, most_bytes: int, sees: Callable[[str], bool] = lambda master: True
    ) -> tuple[tuple[RunInfo, ...], bool]:
        """The runs of a Master, or of all that one ``sees``, with numbers above ``after``, and whether not all.

        They take up to ``most_bytes`` in a message, but there is one at least if there is any.
        """
        infos: list[RunInfo] = []
        left = most_bytes
        for run in map(self.look, self._numbers_of(master, after, sees)):
            if run is None:
                continue
            info = run_info(run)
            left -= codec.size_of(info)
            if left < 0 and infos:
                return tuple(infos), True
            infos.append(info)
        return tuple(infos), False

    def _numbers_of(self, master: str | None, after: int, sees: Callable[[str], bool]) -> Iterator[int]:
        """The numbers above ``after`` of a Master's runs, or of all, as far as one ``sees`` them.

        Others are not even looked at: how many there are of these is told by nothing, and costs nothing.
        """
        masters = self._in_order if master is None else (master,) if master in self._in_order else ()
        return merge(*(_above(after, self._in_order[one]) for one in masters if sees(one)))

    def held(
        self,
        master: str | None,
        number: int | None,
        after: tuple[int, int],
        most_bytes: int,
        sees: Callable[[str], bool] = lambda master: True,
    ) -> tuple[tuple[HeldTask, ...], bool]:
        """The tasks in doubt of a Master or of one run, or all of Masters that one ``sees``, and whether not all.

        Of those behind ``after`` (run, index).

        They take up to ``most_bytes`` in a message, but there is one at least if there is any. Raises JournalError
        where an input cannot be read.
        """
        tasks: list[HeldTask] = []
        left = most_bytes
        for run in self._doubtful(master, number, after[0]):
            if not sees(run.master):
                continue
            for index, doubt in run.held.after(after[1] if run.id == after[0] else -1):
                task = _held_task(run, index, doubt)
                left -= codec.size_of(task)
                if left < 0 and tasks:
                    return tuple(tasks), True
                tasks.append(task)
        return tuple(tasks), False

    def _doubtful(self, master: str | None, number: int | None, first: int) -> list[Run]:
        """The runs from the number ``first`` on that have tasks in doubt, which keep them awake."""
        return sorted(
            (
                run
                for run in self._awake.values()
                if run.held and run.id >= first and master in (None, run.master) and number in (None, run.id)
            ),
            key=lambda run: run.id,
        )

    def latest_names(self, master: str) -> list[str]:
        """What the newest runs of a Master are called."""
        return list(islice(reversed(self._numbers.get(master, {})), _CANDIDATES))

    # -- changes ------------------------------------------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Take up a run that is new, or has something going on."""
        self.next_number = max(self.next_number, run.id + 1)
        self._name(run.master, run.name, run.id, run.user, len(_json(run.metadata)))
        self._take_up(run)

    def add_resting(self, state: Resting) -> None:
        """Take up one that has not."""
        self._name(state.master, state.name, state.run, state.user, len(state.metadata.encode()))
        self._lay_aside(state)

    def _name(self, master: str, name: str, number: int, user: str, size: int) -> None:
        names = self._numbers.setdefault(master, {})
        if name not in names:
            self.made[user] += 1
            self.metadata_bytes[user] += size
        names[name] = number
        in_order = self._in_order.setdefault(master, [])
        if in_order and number <= in_order[-1]:  # seldom: numbers are given in order
            if in_order[bisect_left(in_order, number)] != number:
                insort(in_order, number)
        else:
            in_order.append(number)

    def remove(self, run: Run) -> None:
        """Forget a run without open tasks."""
        del self._awake[run.id], self._numbers[run.master][run.name]
        in_order = self._in_order[run.master]
        del in_order[bisect_left(in_order, run.id)]
        self.made[run.user] -= 1
        self.metadata_bytes[run.user] -= len(_json(run.metadata))
        self._quiet.pop(run.id, None)
        if run.master in self._masters:
            self._masters[run.master].remove_run(run)

    def touched(self, runs: Mapping[int, Run]) -> None:
        """Tasks of these have come or gone."""
        self._quiet.update(runs)

    def lay_aside(self, in_use: Set[int]) -> None:
        """Once in a while: keep little of runs without open tasks. Those ``in_use`` are referred to elsewhere."""
        for number, run in list(self._quiet.items()):
            if run.open:
                del self._quiet[number]  # it is touched again when they end
            elif number not in in_use:
                del self._quiet[number], self._awake[number]
                if run.master in self._masters:
                    self._masters[run.master].remove_run(run)
                self._lay_aside(Resting.of(run))

    def _lay_aside(self, state: Resting) -> None:
        self._resting[state.run] = _pack(state)
        if state.master in self._masters:
            self._masters[state.master].rest(state, 1)

    def _waken(self, number: int) -> Run:
        state = _unpack(self._resting.pop(number))
        if state.master in self._masters:
            self._masters[state.master].rest(state, -1)
        run = state.waken()
        self._take_up(run)
        return run

    def _take_up(self, run: Run) -> None:
        self._awake[run.id] = self._quiet[run.id] = run
        if run.master in self._masters:
            self._masters[run.master].add_run(run)


def _above(after: int, numbers: list[int]) -> Iterator[int]:
    return (numbers[k] for k in range(bisect_right(numbers, after), len(numbers)))


def run_info(run: Run | Resting) -> RunInfo:
    """A run, for lists."""
    number, held, proposed, metadata = (
        (run.id, len(run.held), len(run.proposed), run.metadata)
        if isinstance(run, Run)
        else (run.run, 0, 0, metadata_of(run))
    )
    return RunInfo(
        number,
        run.master,
        run.name,
        run.created,
        run.next_index,
        run.done,
        run.failed,
        run.cancelled,
        held,
        run.next_seq,
        run.closed,
        run.paused,
        run.priority,
        run.seed,
        metadata,
        proposed,
        run.user,
    )


def _held_task(run: Run, index: int, doubt: Doubt) -> HeldTask:
    """A task in doubt, for lists."""
    value = encoded_input(run, index)
    return HeldTask(
        run.id,
        run.master,
        run.name,
        index,
        doubt.attempt,
        doubt.worker,
        doubt.since,
        doubt.reason,
        value,
        value is None,
    )


def encoded_input(run: Run, index: int) -> msgspec.Raw | None:
    """The input of an open task; None where it is too large to be shown, or is none that anybody could read."""
    (table,) = run.inputs(index, index + 1)
    if table.nbytes > _SHOWN_BYTES:
        return None
    try:
        return msgspec.Raw(values.encode(table.rows()[0]))
    except (ProtocolError, TypeError):
        return None


def no_run(number: int) -> UnknownRun:
    """There is no run of this number, as far as whoever asked may know."""
    return UnknownRun(f"run {number} is not in this daemon's journal; open it by name, or list those that are")


def metadata_of(run: Resting) -> dict[str, str]:
    """What is recorded of a run that is laid aside."""
    return _metadata(run.metadata)


def still_open(run: Run) -> str:
    """Why a run cannot be deleted, and what is to be done first."""
    n, held = len(run.open), len(run.held)
    text = f"run {run.name!r} has {count(n, 'task')} without an outcome"
    if not held:
        return f"{text}; cancel {'it' if n == 1 else 'them'} first"
    numbers = [index for index, _ in islice(run.held.after(-1), _NAMED)]
    which = ", ".join(map(str, numbers)) + (", …" if held > _NAMED else "")
    others = "" if n == held else "cancel the others, and "
    return (
        f"{text}; {count(held, 'is', 'are')} in doubt ({which}): {others}resolve {'it' if held == 1 else 'those'} "
        f"first: {how_to_resolve(run.id, numbers[0])}"
    )
