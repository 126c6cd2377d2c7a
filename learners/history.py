"""A recorded run, read back from its daemon: what its learner was asked, which points it gave, how its tasks ended.

It is read by pages, as it is used: of a run of any length no more is held than one page of either kind, and the inputs
of those tasks that had been put and had not ended where the reader stands.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import CallerError, JournalDamaged, ProtocolError, UnknownRun
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.bus.table import Buffer, Table
from taskmaster.learners.inputs import OwnInputs
from taskmaster.learners.results import Chunk, Result

if TYPE_CHECKING:
    from taskmaster.learners.client import Lab
    from taskmaster.learners.run import Run

__all__ = [
    "AskedBlock",
    "HasHistory",
    "History",
    "Reading",
    "Recording",
    "Replayable",
    "asked_blocks",
    "noted_behind",
    "recording_of",
    "writers_of",
]


@dataclass(frozen=True)
class AskedBlock:
    """Tasks ``first … first + points.n - 1`` as they were put, and where in them the learner was asked.

    ``asks`` has, in order, ``offset``, ``after``, ``asked``: from task ``first + offset`` on it is points that the
    learner gave when it was asked for ``asked`` and event ``after`` was the last that it had been told of; see
    `taskmaster.bus.messages.Ask`. Tasks before the first of these belong to the last ask of the block before.
    """

    first: int
    points: Table
    asks: tuple[m.Ask, ...]
    #: the parameters of the Master that they were put to, where that is one of several
    schema: Schema | None = None


class RecordingReader(Protocol):
    """A recording that is read once for both: what was asked, and how it ended."""

    def asks(self) -> Iterator[AskedBlock]:
        """See :meth:`Recording.asks`."""

    def results(self, until: float = ...) -> Iterator[Result]:
        """See :meth:`Recording.results`."""


class Recording(Protocol):
    """What is recorded of a run, whether a daemon has it or a simulation: see :class:`History`."""

    @property
    def master(self) -> str:
        """Its Master's name."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str:
        """``MASTER/NAME``."""

    @property
    def seed(self) -> int: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def created(self) -> float:
        """When it was made, in seconds since 1970."""

    @property
    def parameters(self) -> Sequence[Field]: ...

    @property
    def outputs(self) -> Sequence[Field]: ...

    @property
    def next_index(self) -> int:
        """How many tasks it has."""

    @property
    def next_seq(self) -> int:
        """How many events it has."""

    @property
    def ended(self) -> int:
        """How many of its tasks have ended: of so many events there are results."""

    def asks(self) -> Iterator[AskedBlock]:
        """Its tasks as they were put, with what the learner was asked."""

    def results(self, until: float = ...) -> Iterator[Result]:
        """How its tasks ended, in the order of the events, up to the one before event ``until``."""

    def reading(self) -> RecordingReader:
        """To read both at the same time."""


class HasHistory(Protocol):
    """A run: of a daemon, or of a simulation."""

    def history(self) -> Recording:
        """What is recorded of it up to now."""


#: What can be replayed, and compared.
Replayable: TypeAlias = "HasHistory | Recording"


def recording_of(run: Replayable) -> Recording:
    """What is recorded of a run up to now; what is a recording already is that. Raises CallerError for what is none."""
    history: Any = getattr(run, "history", run)
    made: Any = history() if callable(history) else history
    if not all(hasattr(made, name) for name in ("asks", "results", "reading")):
        raise CallerError(f"what is recorded is read of a run, not of {shown(run)}: {_how_to_have_it(run)}")
    return cast("Recording", made)


def _how_to_have_it(given: Any) -> str:
    """The run that somebody may have meant."""
    if isinstance(given, str):
        master, slash, name = given.rpartition("/")
        return f"it is lab[{(master if slash else 'MASTER')!r}].watch({name!r}), of lab = connect()"
    if hasattr(given, "watch"):
        theirs = f"lab[{given.name!r}]" if hasattr(given, "lab") else "master"  # a simulated one is of no lab
        return f"give one of this Master's, {theirs}.watch(NAME)"
    if hasattr(given, "run_"):
        return "give the Loop's run, loop.run_"
    return "give lab['MASTER'].watch(NAME), of lab = connect()"


def noted_behind(page: m.AsksPage) -> int:
    """How many asks are recorded behind the last task, of a page that begins with that one."""
    return sum(ask.offset >= head.n for head in page.blocks for ask in head.asks)


def asked_blocks(page: m.AsksPage, frames: Sequence[Buffer], end: int) -> list[AskedBlock]:
    """The blocks of a page, of tasks below ``end``. Raises ProtocolError where its frames are not what it says."""
    if sum(head.frames for head in page.blocks) != len(frames):
        raise ProtocolError("a page's frames do not fit its blocks")
    if not page.blocks:
        raise JournalDamaged(f"run {page.run}: of its {end} tasks, only {page.next_index} are recorded")
    blocks = []
    at = 0
    for head in page.blocks:
        table = Table.checked(head.layout, head.n, frames[at : at + head.frames])
        at += head.frames
        if head.first + head.n <= end:
            blocks.append(AskedBlock(head.first, table, head.asks))
        elif head.first < end:
            n = end - head.first
            blocks.append(AskedBlock(head.first, table.slice(0, n), tuple(a for a in head.asks if a.offset < n)))
    return blocks


def writers_of(lab: Lab, run: int) -> Iterator[WriterInfo]:
    """Who has opened a run for writing, in that order; ``run`` is its number. Raises UnknownRun."""
    after, more = 0, True
    while more:
        page: m.WriterList = lab.ask(m.ReadWriters(0, run, after))
        yield from page.writers
        more, after = page.more, page.writers[-1].writer if page.more else after


class History:
    """A run of ``lab``'s daemon, as its journal has it.

    The daemon may be at work on it: what is recorded after this was made is left out.
    """

    def __init__(self, lab: Lab, run: RunInfo) -> None:
        self.info = run
        self._lab = lab
        self._master = lab[run.master]

    @classmethod
    def of(cls, run: Run) -> History:
        """That of a run that is open here, whether for reading or for writing, up to now. Raises UnknownRun."""
        lab = run.master.lab
        for info in lab.runs(run.master.name):
            if info.run == run.number:
                return cls(lab, info)
        raise UnknownRun(f"run {run.name!r} of Master {run.master.name!r} was deleted")

    def __repr__(self) -> str:
        return f"<History of run {self.info.run} ({self.title}): {self.info.tasks} tasks, {self.info.events} events>"

    @property
    def name(self) -> str:
        """The run's."""
        return self.info.name

    @property
    def title(self) -> str:
        """``MASTER/NAME``."""
        return f"{self.info.master}/{self.info.name}"

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by; None where its daemon is a part of this program."""
        return None if getattr(self._lab, "is_embedded", False) else self.title

    @property
    def master(self) -> str:
        """Its Master's name."""
        return self.info.master

    @property
    def created(self) -> float:
        """When it was made, in seconds since 1970."""
        return self.info.created

    @property
    def seed(self) -> int:
        """What its learner's randomness came from."""
        return self.info.seed

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was recorded with it when it was made."""
        return self.info.metadata

    @property
    def parameters(self) -> Sequence[Field]:
        """Of its Master, as it is now."""
        return self._master.parameters

    @property
    def outputs(self) -> Sequence[Field]:
        """Of its Master, as it is now."""
        return self._master.outputs

    @property
    def next_index(self) -> int:
        """How many tasks it has."""
        return self.info.tasks

    @property
    def next_seq(self) -> int:
        """How many events it has."""
        return self.info.events

    @property
    def ended(self) -> int:
        """How many of its tasks have ended: of so many events there are results."""
        return self.info.done + self.info.failed + self.info.cancelled

    @property
    def lab(self) -> Lab:
        """Its daemon."""
        return self._lab

    def asks(self, first: int = 0) -> Iterator[AskedBlock]:
        """Its tasks from ``first`` on as they were put, with what the learner was asked."""
        if first >= self.next_index:
            return

        def following(page: m.AsksPage) -> m.ReadAsks | None:
            end = page.blocks[-1].first + page.blocks[-1].n if page.blocks else self.next_index
            return m.ReadAsks(0, self.info.run, end) if end < self.next_index else None

        for page, frames in self._lab.pages(m.ReadAsks(0, self.info.run, first), following):
            yield from asked_blocks(page, frames, self.next_index)

    def writers(self) -> list[WriterInfo]:
        """Who has opened it for writing, in that order, and which learner they said asks from there on."""
        return list(writers_of(self._lab, self.info.run))

    def results(self, until: float = math.inf) -> Iterator[Result]:
        """How its tasks ended, in the order of the events, up to the one before event ``until``."""
        return Reading(self, keep_asks=False).results(until)

    def reading(self) -> Reading:
        """To read what was asked and how it ended at the same time, each page once."""
        return Reading(self)

    def events(self, until: float = math.inf) -> Iterator[tuple[m.EventHead, Sequence[Buffer]]]:
        """Its events that tell of tasks which have ended, with their frames; a row's last ones may lie behind."""
        until = min(until, self.next_seq)
        if until <= 0:
            return

        def following(page: m.Page) -> m.Replay | None:
            last = page.events[-1] if page.events else None
            if last is None or last.seq + last.n >= until:
                return None
            return m.Replay(0, self.info.run, last.seq + last.n)

        for page, frames in self._lab.pages(m.Replay(0, self.info.run, 0), following):
            at = 0
            for head in page.events:
                own = frames[at : at + head.frames]
                at += head.frames
                if head.kind in ("done", "cancelled") and head.seq < until:
                    yield head, own


class _Read(Chunk):
    """An event that was read with where its inputs are: few who replay a run look at these."""

    __slots__ = ("_places",)

    def __init__(
        self,
        head: m.EventHead,
        outputs: Table | None,
        times: Buffer | None,
        places: Sequence[tuple[Table, int, int]],
    ) -> None:
        super().__init__(head, outputs, times, ())
        self._places = places

    def input(self, k: int) -> Any:
        """The input of its ``k``-th task."""
        if self._inputs is None:
            self._inputs = [row for table, low, high in self._places for row in table.slice(low, high).rows()]
        return self._inputs[k]


class Reading:
    """A history read once for both: what was asked, and how it ended. Neither runs far ahead of the other."""

    def __init__(self, history: History, *, keep_asks: bool = True) -> None:
        self._history = history
        self._blocks = history.asks()
        #: blocks that were read for the sake of results, and that :meth:`asks` has yet to give
        self._ahead: deque[AskedBlock] | None = deque() if keep_asks else None
        self._inputs = OwnInputs()
        self._end = 0

    def asks(self) -> Iterator[AskedBlock]:
        """See :meth:`History.asks`."""
        while True:
            block = self._ahead.popleft() if self._ahead else self._read()
            if block is None:
                return
            yield block

    def results(self, until: float = math.inf) -> Iterator[Result]:
        """See :meth:`History.results`."""
        until = min(until, self._history.next_seq)
        for head, frames in self._history.events(until):
            outputs, times, edited = codec.event_tables(head, frames)
            places = self._inputs_of(head.first, head.first + head.n)
            if edited is None:
                chunk: Chunk = _Read(head, outputs, times, places)
            else:
                chunk = Chunk(head, outputs, times, (edited,))
            for k in range(min(head.n, int(until) - head.seq)):
                yield Result(chunk, k)

    def _read(self) -> AskedBlock | None:
        block = next(self._blocks, None)
        if block is not None:
            self._inputs.add(block.first, block.points)
            self._end = block.first + block.points.n
        return block

    def _inputs_of(self, low: int, high: int) -> list[tuple[Table, int, int]]:
        """Where the inputs are of tasks ``low ≤ i < high``, which end now.

        Raises ProtocolError where the record has them not.
        """
        while self._end < high:
            block = self._read()
            if block is None:
                raise ProtocolError(f"tasks {self._end} to {high - 1} have ended, and their inputs are not recorded")
            if self._ahead is not None:
                self._ahead.append(block)
        places = self._inputs.places(low, high)
        self._inputs.on_ended(low, high)
        return places
