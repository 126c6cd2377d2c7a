"""The daemon's decisions alone, turn by turn: no sockets, no processes, and a clock that moves when it is told to.

Every turn's records go through :class:`simulation.ledger.Ledger`, which keeps the books a second time and objects to a
gap in the events, a second outcome, an attempt that is charged twice, or counts that do not add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from simulation.ledger import Book, Event, Ledger

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.table import Table, pack_values
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Dispatched, Effects, Sender, ToWorker
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.leases import Started, Worker
from taskmaster.daemon.looking import look_up
from taskmaster.daemon.master import Master, MasterSpec
from taskmaster.daemon.roles import LOCAL, Peer
from taskmaster.daemon.run import Run
from taskmaster.daemon.status import master_status
from taskmaster.drivers.progress import Position

__all__ = ["Assignment", "Conversation", "Hand", "Heart", "output", "spec"]

T = TypeVar("T")

_numbers = count(1)


def spec(
    name: str = "svm",
    on_lost: str = "retry",
    *,
    outputs: Sequence[Field] = (),
    parameters: Sequence[Field] = (),
    **rest: Any,
) -> MasterSpec:
    """A Master that takes values of any form, unless parameters or outputs are declared."""
    return MasterSpec(name, "process", Schema(parameters, name), Schema(outputs, name, "output"), on_lost, **rest)


def output(value: float) -> float:
    """What every evaluation here makes of its input."""
    return 2.0 * value + 1.0


@dataclass
class Assignment:
    """A lease as a worker got it."""

    message: m.Dispatch
    rows: list[Any]

    @property
    def lease(self) -> m.LeaseId:
        return self.message.lease

    @property
    def indices(self) -> list[int]:
        return list(range(self.message.first, self.message.first + self.message.n))


class Heart:
    """Core and Masters of one daemon, and what is on its disk: in a journal, too, if there is to be one."""

    def __init__(self, *specs: MasterSpec, journal: Journal | None = None) -> None:
        self.now = 1000.0
        self.specs = specs
        self.journal = journal
        self.epoch = 0
        self.turns = 0
        self.ledger = Ledger()
        #: events on disk that the last turn has added
        self.events: list[tuple[Book, Event]] = []
        self.hands: dict[bytes, Hand] = {}
        self._start()

    def _start(self) -> None:
        self.epoch += 1
        self.is_dead = False
        self.core = Core(Identity("here", self.epoch), [Master(each, self.epoch) for each in self.specs], lambda: 7)

    def restart(self, progress: Mapping[str, Sequence[Position]]) -> None:
        """Forget all and read it from the journal; ``progress`` is what the daemon's former workers had noted."""
        assert self.journal is not None
        self._start()
        out = Effects(wall=self.now)
        restore(self.core, self.journal, progress, self.now, out)
        self.commit(out)

    def commit(self, out: Effects) -> None:
        """Write a turn down."""
        if self.journal is not None and out.records:
            self.journal.commit(out.records)
        self.events = self.ledger.apply(out.records)

    @contextmanager
    def turn(self, *, torn: bool = False) -> Iterator[Effects]:
        """One turn of the broker: whatever is said inside is decided and committed together.

        Of a ``torn`` one nothing is committed, and nothing leaves but what leaves before that: it is the last before a
        restart.
        """
        assert not self.is_dead, "nobody can talk to it"
        self.turns += 1
        out = Effects(turn=self.turns, wall=self.now)
        yield out
        self.core.end_turn(self.now, out)
        self._tell(out.urgent)
        self.deliver(out.early)
        self.is_dead = torn
        if torn:
            return
        self.commit(out)
        self._tell(out.to_workers)
        self.deliver(out.dispatches)
        for asked in out.questions:
            if asked.address in self.hands:
                self.hands[asked.address].heard.append(asked.message)

    def _tell(self, notes: Sequence[ToWorker]) -> None:
        for note in notes:
            if note.address in self.hands:
                self.hands[note.address].heard.append(note.message)

    def deliver(self, dispatches: Sequence[Dispatched]) -> None:
        """Hand leases to their workers."""
        for each in dispatches:
            if each.address not in self.hands:
                continue  # lost on the way
            rows = [row for table in each.tables for row in table.rows()]
            self.hands[each.address].assignments.append(Assignment(each.message, rows))

    def wait(self, seconds: float = 0.0) -> Effects:
        """Let time pass, then make a turn in which nobody says anything."""
        self.now += seconds
        with self.turn() as out:
            pass
        return out

    def tick(self, seconds: float = 1.0) -> Effects:
        """Let time pass, then make a turn that looks after silent workers, old leases and counts."""
        self.now += seconds
        with self.turn() as out:
            self.core.on_tick(self.now, out)
        return out

    def say(self, message: m.ClientMessage, table: Table | None = None, address: bytes = b"client") -> Effects:
        """A client's message, in a turn of its own."""
        with self.turn() as out:
            self.core.on_client(Sender(address, "ada"), message, table, out)
        return out

    def ask(self, message: m.ClientMessage, kind: type[T], table: Table | None = None) -> T:
        """A client's message and the answer to it, which is of this ``kind``."""
        out = self.say(message, table)
        if out.queries:
            (query,) = out.queries
            answer: Any = look_up(self.core, query.message, query.peer, self.now)  # type: ignore[arg-type]
        else:
            (reply,) = out.replies
            answer = reply.message
        assert isinstance(answer, kind), answer
        return answer

    def held(self, **question: Any) -> m.HeldList:
        """The answer to a client's question for tasks in doubt, as the client reads it."""
        (query,) = self.say(m.ListHeld(9, **question)).queries
        assert isinstance(query.message, m.ListHeld)
        answer = codec.daemon_decoder().decode(codec.encode(self.core.held_list(query.message)))
        assert isinstance(answer, m.HeldList)
        return answer

    def open(self, master: str = "svm", name: str = "a", **rest: Any) -> Conversation:
        """Open a run for writing."""
        opened = self.ask(m.Open(1, master, name, **rest), m.Opened)
        return Conversation(self, opened.run, opened.writer, opened.next_index)

    def hand(self, master: str = "svm", slots: int = 1, *, local: bool = True, peer: Peer = LOCAL) -> Hand:
        """A worker that has said hello and is ready."""
        hand = Hand(self, master, slots, local=local, peer=peer)
        if local:
            self.core.workforce.hired(hand.token)
        hand.hello()
        hand.say(m.Ready())
        return hand

    def stranger(self, address: bytes, peer: Peer = LOCAL) -> Hand:
        """Somebody at the workers' socket who has not said hello."""
        stranger = self.hands[address] = Hand(self, "svm", peer=peer)
        stranger.address = address
        return stranger

    def statistics(self, master: str = "svm") -> Any:
        """The Master's status."""
        return master_status(self.core.masters[master], self.now)


@dataclass
class Conversation:
    """A writer's end of a run."""

    heart: Heart
    run: int
    writer: int
    next_index: int = 0

    @property
    def book(self) -> Book:
        """The run as it is on disk."""
        return self.heart.ledger.books[self.run]

    @property
    def state(self) -> Run:
        """The run as the daemon has it in mind."""
        return self.heart.core.runs[self.run]

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The run's events."""
        return [(event.kind, event.index) for event in self.book.events]

    def submission(self, values: Sequence[Any], first: int | None = None) -> tuple[m.Submit, Table]:
        """A block, as a message."""
        table = pack_values(values)
        first = self.next_index if first is None else first
        return m.Submit(self.run, self.writer, first, table.n, table.layout, (m.Ask(0, -1),)), table

    def put(self, *values: float, where: m.Where | None = None) -> Effects:
        """Submit the next tasks."""
        message, table = self.submission(values)
        message.where = where
        self.next_index += len(values)
        return self.heart.say(message, table)

    def cancel(self, *intervals: tuple[int, int], queued: bool = False) -> int:
        """Cancel tasks; returns how many were."""
        return self.heart.ask(m.Cancel(2, self.run, intervals or None, queued), m.Done).count

    def resolve(self, index: int, action: str, attempt: int = 0, table: Table | None = None) -> Any:
        """An operator's word on a held task; returns the answer."""
        message = m.Resolve(3, self.run, index, action, table.layout if table else None, "seen", attempt)
        return self.heart.say(message, table).replies[0].message


@dataclass
class Hand:
    """A worker that does nothing by itself."""

    heart: Heart
    master: str
    slots: int = 1
    local: bool = True
    number: int = field(default_factory=lambda: next(_numbers))
    #: whose it is
    peer: Peer = LOCAL
    #: leases it has got, and all else that it was told
    assignments: list[Assignment] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    session: int = 0

    def __post_init__(self) -> None:
        self.token = f"token-{self.number}"
        self.address = b""

    @property
    def known(self) -> Worker:
        """This worker as the Master knows it."""
        return self.heart.core.masters[self.master].workers[self.token]

    def hello(self, *leases: m.LeaseId) -> None:
        """Dial in (again), by a new connection."""
        self.session += 1
        self.heart.hands.pop(self.address, None)
        self.address = f"{self.token}-{self.session}".encode()
        self.heart.hands[self.address] = self
        self.say(
            m.WorkerHello(
                m.PROTOCOL_VERSION, self.master, self.token, self.session, self.slots, self.number, "far", leases
            )
        )

    def say(self, message: m.WorkerMessage, table: Table | None = None) -> Effects:
        """Say something, in a turn of its own."""
        with self.heart.turn() as out:
            sender = Sender(self.address, self.peer.name, self.peer)
            self.heart.core.workforce.on_worker(sender, message, table, None, self.heart.now, out)
        return out

    def report(
        self,
        at: Assignment,
        low: int = 0,
        high: int | None = None,
        *,
        seconds: float = 0.001,
        errors: Sequence[int] = (),
        final: bool | None = None,
    ) -> Effects:
        """The outcome of the tasks at positions ``low ≤ p < high``, each of which took ``seconds``."""
        message, table = self.outcome(at, low, high, seconds=seconds, errors=errors, final=final)
        return self.say(message, table)

    def outcome(
        self,
        at: Assignment,
        low: int = 0,
        high: int | None = None,
        *,
        seconds: float = 0.001,
        errors: Sequence[int] = (),
        final: bool | None = None,
    ) -> tuple[m.Outcome, Table | None]:
        """What :meth:`report` says."""
        high = at.message.n if high is None else high
        values = [output(row) for p, row in enumerate(at.rows[low:high]) if p not in errors]
        table = pack_values(values) if values else None
        now = self.heart.now
        message = m.Outcome(
            at.lease,
            low,
            high - low,
            table.layout if table else None,
            tuple(m.TaskError(p, "ValueError", "no") for p in errors),
            now - seconds * (high - low),
            now,
            final=high == at.message.n if final is None else final,
        )
        return message, table

    def die(self, started: Started | None, kind: str = "WorkerLost", reason: str = "killed by SIGKILL") -> Effects:
        """It is gone; the daemon, or its host, knows how far it had come, or (None) does not."""
        with self.heart.turn() as out:
            self.heart.core.workforce.departed(self.token, kind, reason, started, out)
        return out

    def begun(self, at: Assignment, tasks: int) -> Started:
        """It had begun so many tasks of this lease, and of no later one any."""
        return Started(at.lease, {at.lease: tasks})
