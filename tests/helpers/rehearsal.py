"""A laboratory in one thread: a client, the daemon's decisions and its journal, joined without sockets.

Nothing is evaluated by anybody: the test says which of the open tasks ends next, and how. So every order in which
results can come may be had, and had again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import from_code
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.status import RunInfo
from taskmaster.bus.table import Buffer, Table, pack_values
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects, Sender
from taskmaster.daemon.forking import fork
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.asks import read_asks
from taskmaster.daemon.journal.pages import read_page
from taskmaster.daemon.master import Master
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import run_info
from taskmaster.daemon.space import Space
from taskmaster.daemon.spec import MasterSpec
from taskmaster.learners.core import ClientCore
from taskmaster.learners.history import AskedBlock, History, asked_blocks, noted_behind
from taskmaster.learners.results import Result
from taskmaster.learners.runcore import RunCore

__all__ = ["Rehearsal", "RehearsedRun", "Stage"]

T = TypeVar("T")


class Stage:
    """The daemon's side: one Master ``m`` and its journal."""

    def __init__(self, folder: Path, parameters: Sequence[Field] = (), outputs: Sequence[Field] = ()) -> None:
        self.spec = MasterSpec("m", "process", Schema(parameters, "m"), Schema(outputs, "m", "output"), approval=True)
        self.journal = Journal(folder, "crash")
        self.space = Space(folder, 0)
        self.master = Master(self.spec, 1)
        self.core = Core(Identity("stage", 1), [self.master], lambda: 7)
        self.turns = 0

    def say(self, message: m.ClientMessage, table: Table | None = None) -> Effects:
        """A client's message, in a turn of its own: it is on disk when this returns."""
        with_effects = self._effects()
        self.core.on_client(Sender(b"client", "ada"), message, table, with_effects)
        return self._commit(with_effects)

    def ask(self, message: m.ClientMessage, kind: type[T], table: Table | None = None) -> T:
        """The same, and the answer to it."""
        (reply,) = self.say(message, table).replies
        if isinstance(reply.message, m.Refused):
            raise from_code(reply.message.code, reply.message.message)
        assert isinstance(reply.message, kind)
        return reply.message

    def _effects(self) -> Effects:
        self.turns += 1
        return Effects(turn=self.turns, wall=1e9 + self.turns)

    def _commit(self, out: Effects) -> Effects:
        if out.records:
            self.journal.commit(out.records)
        return out

    def run(self, number: int) -> Run:
        """The run of this number."""
        return self.core.runs[number]

    def end(self, number: int, first: int, n: int, outputs: Sequence[Any] | None) -> Effects:
        """Tasks end, with these outputs or (None) in a failure."""
        run, out = self.run(number), self._effects()
        if outputs is None:
            run.fail(first, first + n, "ValueError", "no", "worker", 1, out)
        else:
            table = self.spec.outputs.pack_rows([(y,) for y in outputs]) if self.spec.outputs else pack_values(outputs)
            head = m.EventHead(
                0, n, "done", first, len(table.frames), table.layout, (), "worker", 1, out.wall, out.wall + 0.5
            )
            run.finish(head, tuple(table.frames), out)
        return self._commit(out)

    def fork(self, number: int, name: str, at: int | None = None) -> RunInfo:
        """Fork a run."""
        (forking,) = self.say(m.Fork(9, number, name, at)).forks
        reply = fork(self.core, self.journal, self.space, forking, 2e9)
        if isinstance(reply, m.Refused):
            raise from_code(reply.code, reply.message)
        return reply.run

    def page(self, message: m.Replay | m.ReadAsks) -> tuple[m.Page | m.AsksPage, list[bytes]]:
        """What the daemon answers, through the wire."""
        read: Callable[..., Any] = read_page if isinstance(message, m.Replay) else read_asks
        page, frames = read(self.journal, self.run(message.run), message)
        decoded: Any = codec.daemon_decoder().decode(codec.encode(page))
        return decoded, [bytes(frame) for frame in frames]


class Rehearsal:
    """The client's side, a Target: ``play(open tasks)`` says which end next, see :class:`RehearsedRun`."""

    def __init__(self, stage: Stage, play: Callable[[RehearsedRun], None]) -> None:
        self.stage = stage
        self.play = play
        #: called before what was sent arrives
        self.before: Callable[[], None] = lambda: None
        self.name = "m"
        self.parameters, self.outputs = stage.spec.parameters.fields, stage.spec.outputs.fields
        self.core = ClientCore("tcp://stage")
        self._describe()

    def _describe(self) -> None:
        request = self.core.describe(0.0)
        self.core.outbox.clear()
        info = m.MasterInfo("m", "process", self.parameters, self.outputs)
        described = m.Described(request.id, 1, "stage", 1, "tcp://results", "", (info,))
        self.core.on_control([codec.encode(described)], 0.0)

    def wait_for_slots(self, timeout: float = 0.0) -> int:
        """Four."""
        return 4

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> RehearsedRun:
        """Open a run for writing."""
        request = m.Open(9, "m", name or "run", seed=seed, metadata=dict(metadata or {}))
        opened = self.stage.ask(request, m.Opened)
        return RehearsedRun(self, self.core.opened(opened, write=True, since="start"))

    # -- what a History needs of a Lab -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Rehearsal:
        return self

    def page(self, message: m.Replay | m.ReadAsks) -> tuple[Any, list[bytes]]:
        """A page of the record."""
        return self.stage.page(message)

    def pages(self, question: Any, following: Callable[[Any], Any]) -> Iterator[tuple[Any, list[bytes]]]:
        """Pages one behind the other."""
        while question is not None:
            page, frames = self.page(question)
            yield page, frames
            question = following(page)

    def history(self, number: int) -> History:
        """The record of a run, as it is now."""
        return History(self, self.info(number))  # type: ignore[arg-type]

    def info(self, number: int) -> RunInfo:
        """What a list of runs says of one."""
        return run_info(self.stage.run(number))


class RehearsedRun:
    """A run that is open for writing, a TargetRun."""

    def __init__(self, master: Rehearsal, core: RunCore) -> None:
        self.master = master
        self.core = core
        self.name, self.seed, self.metadata = core.name, core.seed, core.metadata
        self.number = core.id
        self.command_name = f"{master.name}/{core.name}"
        self.tasks = _Tasks(self)
        self.results = _Results(self)
        #: what is sent arrives when it is read
        self.now = 0.0

    @property
    def next_index(self) -> int:
        return self.core.next_index

    @property
    def told(self) -> int:
        return self.core.told

    @property
    def open_tasks(self) -> int:
        return self.core.open_tasks

    @property
    def acknowledged(self) -> int:
        return self.core.acknowledged

    def history(self) -> History:
        return self.master.history(self.number)

    def time(self) -> float:
        """The same."""
        return self.clock()

    def clock(self) -> float:
        return self.now

    def record(self) -> Iterator[AskedBlock]:
        first, end = 0, self.core.acknowledged
        while first < end:
            page, frames = self.master.page(m.ReadAsks(0, self.number, first))
            for block in asked_blocks(page, frames, end):
                first = block.first + block.points.n
                yield block

    def detach(self) -> None:
        """Nobody else is told of it."""

    def flush(self, timeout: float | None = None) -> None:
        """What was asked in vain is noted, twice: as where an answer is lost."""
        self.pump()
        first, asks = self.core.take_vain()
        if asks:
            at = noted_behind(self.master.page(m.ReadAsks(9, self.number, first - 1))[0])
            for _ in range(2):
                self.master.stage.ask(m.NoteAsks(9, self.number, self.core.writer, first, at, asks), m.Done)

    def close(self) -> None:
        self.flush()
        self.master.stage.say(m.Close(9, self.number, self.core.writer))

    def pump(self) -> None:
        """What was sent arrives, and is answered."""
        core, stage = self.master.core, self.master.stage
        decode = codec.client_decoder().decode
        while core.outbox:
            header, *frames = core.outbox.popleft()
            message = decode(header)
            if isinstance(message, m.Replay):
                page, attached = stage.page(message)
                core.on_control([codec.encode(page), *attached], self.now)
                continue
            assert isinstance(message, m.Submit)
            table = Table.checked(message.layout, message.n, frames)
            effects = stage.say(message, table)
            self.publish(effects)
            run = stage.run(self.number)
            core.on_control([codec.encode(m.Ack(run.id, run.next_index, run.writer))], self.now)

    def publish(self, effects: Effects, *, lost: bool = False) -> None:
        """Events come; where they are ``lost``, a beacon says so, and they are asked for."""
        core, run = self.master.core, self.master.stage.run(self.number)
        topic = self.core.topic
        for publication in () if lost else effects.publications:
            head, frames = publication.head, list(publication.frames)
            if publication.inputs and (topic.endswith(b"/io") or head.edited):
                inputs = codec.merge(publication.inputs)
                frames += inputs.frames
                head = replace(head, frames=len(frames), inputs=inputs.layout)
            self._deliver(topic, m.Events(run.id, 1, (head,), run.next_index, run.writer), frames)
        if lost:
            self._deliver(topic, m.Beacon(run.id, 1, run.next_seq, run.next_index), ())
        for live in self.master.core.all_runs():
            core._follow(live)
        core.subscriptions.clear()

    def _deliver(self, topic: bytes, message: m.Events | m.Beacon, frames: Sequence[Buffer]) -> None:
        self.master.core.on_publication([topic, codec.encode(message), *map(bytes, frames)], self.now)


class _Tasks:
    def __init__(self, run: RehearsedRun) -> None:
        self._run = run

    def put(self, point: Any) -> int:
        return self._run.core.put(point, self._run.now)

    def put_many(self, points: Sequence[Any]) -> range:
        return self._run.core.put_many(points, self._run.now)

    def gather(self, on: bool = True) -> None:
        """Nothing is gathered."""

    def send(self, *, listen: bool = True) -> None:
        """Nothing was gathered."""

    def new_ask(self, after: int | None = None, asked: int = m.BY_HAND, order: m.Order | None = None) -> None:
        self._run.core.new_ask(after, asked, order)


class _Results:
    def __init__(self, run: RehearsedRun) -> None:
        self._run = run

    def get(self, timeout: float | None = None) -> Result:
        run = self._run
        while True:
            run.master.before()
            run.pump()
            result = run.core.take()
            if result is not None:
                run.now += 1.0
                return result
            run.master.play(run)

    def rouse(self, on: bool = True) -> None:
        """Nobody ever waits."""

    def __iter__(self) -> Iterator[Result]:
        while self._run.open_tasks:
            yield self.get()
