"""The worker's side of the workers socket, without the socket.

Keeps what a worker has to remember to be safe on a lossy connection: the session (so that no dispatch the daemon has
given up is evaluated), outcomes until they are settled (so that none is lost), what is revoked. The real worker and the
simulation run this same code.

Sessions
    A worker says hello with a session number one higher each time: at first, when asked to, and when a dispatch must
    have been lost. The daemon takes every lease that the hello does not list for one that never arrived. So the worker
    drops whatever was dispatched before the welcome to its latest hello: connections keep the order of messages, so
    what comes after that welcome was granted after that hello.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError, TaskMasterError, from_code
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.joining import first_of, parts
from taskmaster.bus.messages import LeaseId, TaskError
from taskmaster.bus.status import DeviceStatus
from taskmaster.bus.table import Buffer, Table
from taskmaster.bus.text import shortened
from taskmaster.drivers.sharing import Sharing

__all__ = ["Assignment", "Question", "WorkerProtocol"]

#: Seconds after which an outcome that was not settled is sent again, and an unanswered hello repeated.
RESEND_SECONDS = 3.0
#: That doubles each time, up to this: on a slow line it may just be on its way, and each repetition delays the rest.
RESEND_LONGEST_SECONDS = 60.0
#: Messages that may wait for a daemon that takes none, before what is of interest only now is left out.
_MOST_WAITING = 100


@dataclass(slots=True)
class Assignment:
    """A lease as its worker sees it."""

    lease: LeaseId
    run: int
    first: int
    n: int
    table: Table
    #: which evaluation of its tasks this is, from 1
    attempt: int = 1
    #: seconds that an ended task may wait for others to be reported with
    hold: float = 0.0
    #: the checkpoint from which a head goes on with its task
    token: bytes | None = None
    #: positions that are not wanted any more
    revoked: IntervalSet = field(default_factory=IntervalSet)


@dataclass(frozen=True, slots=True)
class Question:
    """What a head is asked about a task in doubt."""

    run: int
    index: int
    attempt: int
    table: Table
    token: bytes


@dataclass(slots=True)
class _Sent:
    """Outcomes of one lease that are not settled yet."""

    messages: list[list[Buffer]] = field(default_factory=list)
    #: of those that have their frames in a segment, by their places above
    shared: dict[int, m.Outcome] = field(default_factory=dict)
    at: float = 0.0
    patience: float = RESEND_SECONDS

    @property
    def numbers(self) -> list[int]:
        """Of the segments."""
        return [outcome.segment.number for outcome in self.shared.values() if outcome.segment is not None]


class WorkerProtocol:
    """State of one worker towards the daemon. ``outbox`` collects the messages to send, as frames."""

    def __init__(
        self,
        master: str,
        token: str,
        *,
        slots: int = 1,
        pid: int = 0,
        host: str = "",
        head: str = "",
        sharing: Sharing | None = None,
    ) -> None:
        """``sharing`` is for large frames, with a daemon on this machine."""
        self._sharing = sharing
        self.master = master
        self.token = token
        self.slots = slots
        #: of one that evaluates many tasks together, of whatever leases: how many, and how many such at a time
        self.batch = self.shares = 0
        #: what to say of the device that it evaluates on
        self.device: Callable[[], DeviceStatus] | None = None
        self._pid = pid
        self._host = host
        #: of an instrument: which head this worker has, what that is to do, and what was said of it
        self.head = head
        self.order = m.HeadOrder((0, 0), "work")
        self._head_report: m.HeadReport | None = None
        #: the latest about each interlock that has ever tripped, and the weightiest that the daemon has not heard
        self._trips: dict[str, m.Tripped] = {}
        self._unheard: dict[str, m.Tripped] = {}
        self._checkpoint: m.Checkpoint | None = None
        #: what this head is asked about tasks in doubt
        self.questions: deque[Question] = deque()
        #: tasks of a head that are not wanted any more, also where they have begun
        self.interrupts: deque[m.Interrupt] = deque(maxlen=_MOST_WAITING)
        self.outbox: list[list[Buffer]] = []
        self.welcome: m.Welcome | None = None
        self.goodbye: m.Goodbye | None = None
        self.refused: TaskMasterError | None = None
        self.leaving = False
        #: assignments not begun yet, in the order of their numbers
        self.queue: deque[Assignment] = deque()
        self._session = 0
        self._in_session = False
        #: messages may go as one: by what the latest welcome said, for another may come of another daemon
        self._joins = False
        self._ready = False
        self._hello_at = 0.0
        self._dispatched = 0
        self._begun: dict[LeaseId, Assignment] = {}
        self._unsettled: dict[LeaseId, _Sent] = {}
        self._decoder = codec.to_worker_decoder()

    # -- what the worker does -----------------------------------------------------------------------------------------

    def hello(self, now: float) -> None:
        """Introduce this worker, or bring it and the daemon together again."""
        self._session += 1
        self._in_session = self._joins = False
        self._hello_at = now
        leases = {*self._begun, *self._unsettled, *(assignment.lease for assignment in self.queue)}
        self._send(
            m.WorkerHello(
                m.PROTOCOL_VERSION,
                self.master,
                self.token,
                self._session,
                self.slots,
                self._pid,
                self._host,
                tuple(sorted(leases)),
                self.head,
                None if self._sharing is None else self._sharing.proof,
                self.batch,
                self.shares,
                several=True,
            )
        )

    def ready(self) -> None:
        """The driver is set up."""
        self._ready = True
        self._send(m.Ready())

    def report_head(self, report: m.HeadReport) -> None:
        """Say how the head is; said again after each welcome."""
        report = replace(report, error=shortened(report.error))
        if report != self._head_report:
            self._head_report = report
            if self._in_session:
                self._send(report)

    def report_trip(self, tripped: m.Tripped) -> None:
        """Say that an interlock has tripped, or holds again; said again after each welcome.

        That it had tripped is, too, until the daemon has heard it, though it holds again: something follows from it.
        """
        name = tripped.interlock
        self._trips[name] = tripped
        if tripped.reason and (name not in self._unheard or (self._unheard[name].lost and not tripped.lost)):
            self._unheard[name] = tripped
        if self._in_session:
            self._send(tripped)

    def mention(self, message: m.Progress | m.Samples | m.Polled) -> None:
        """Say what is of interest only now: left out where nobody listens, or more is waiting already."""
        if self._in_session and len(self.outbox) < _MOST_WAITING:
            self._send(message)

    def keep(self, checkpoint: m.Checkpoint) -> None:
        """From here a head's task can go on; said again after each welcome."""
        self._checkpoint = checkpoint
        if self._in_session:
            self._send(checkpoint)

    def answer(
        self,
        question: Question,
        state: Literal["done", "not_begun", "unknown"],
        outputs: Table | None = None,
        reason: str = "",
    ) -> None:
        """What a head has found out about a task in doubt."""
        layout = outputs.layout if outputs is not None else None
        message = m.Reconciled(question.run, question.index, question.attempt, state, layout, shortened(reason))
        self.outbox.append([codec.encode(message), *(outputs.frames if outputs is not None else ())])

    def failed(self, kind: str, message: str, traceback: str) -> None:
        """The driver cannot be set up."""
        self._send(m.WorkerFailed(self.token, kind, message, traceback))

    def leave(self) -> None:
        """Take nothing more; `goodbye` is set when the last lease is settled."""
        self.leaving = True
        self._send(m.Leave(self.token))

    def begin(self) -> Assignment | None:
        """The next assignment to evaluate, or None."""
        if not self.queue:
            return None
        assignment = self.queue.popleft()
        self._begun[assignment.lease] = assignment
        return assignment

    def report(
        self,
        assignment: Assignment,
        position: int,
        n: int,
        outputs: Table | None,
        errors: Sequence[TaskError],
        started: float,
        finished: float,
        times: Buffer | None,
        *,
        final: bool,
        now: float,
        doubt: bool = False,
    ) -> None:
        """Tasks of an assignment have ended; remembered until the daemon says that it is on disk.

        ``doubt``: its one task may have acted, and nobody knows how that ended.
        """
        message = m.Outcome(
            assignment.lease,
            position,
            n,
            outputs.layout if outputs is not None else None,
            tuple(errors),
            started,
            finished,
            times is not None,
            final,
            doubt,
        )
        behind: list[Buffer] = [*(outputs.frames if outputs is not None else ()), *(() if times is None else (times,))]
        sent = self._unsettled.setdefault(assignment.lease, _Sent())
        if self._sharing is not None and (segment := self._sharing.put(behind)) is not None:
            message.segment = segment
            sent.shared[len(sent.messages)] = message
            behind = []
        frames: list[Buffer] = [codec.encode(message), *behind]
        sent.messages.append(frames)
        sent.at = now
        if final:
            self._begun.pop(assignment.lease, None)
        self.outbox.append(frames)

    def tick(self, now: float) -> None:
        """Once a second or so: send again what was not answered, show that this worker is alive."""
        if self.refused is not None:
            return
        if not self._in_session:
            if now - self._hello_at > RESEND_SECONDS:
                self.hello(now)
            return
        if len(self.outbox) < _MOST_WAITING:  # more would pile up for as long as the daemon is away
            self._send(m.Heartbeat(device=None if self.device is None else self.device()))
        for sent in self._unsettled.values():
            if now - sent.at > sent.patience:
                sent.at = now
                sent.patience = min(2 * sent.patience, RESEND_LONGEST_SECONDS)
                self._send_again(sent)
        if self._sharing is not None:
            self._give_back()
            self._sharing.tidy(now)

    def is_settled(self, lease: LeaseId) -> bool:
        """Whether the daemon has taken all that was said of a lease, and nothing of it is being evaluated."""
        return lease not in self._begun and lease not in self._unsettled

    @property
    def idle(self) -> bool:
        """Nothing to evaluate, nothing unsettled, and no trip that the daemon has not heard of."""
        return not (self.queue or self._begun or self._unsettled or self._unheard)

    def next_out(self) -> tuple[int, Sequence[Buffer]]:
        """How many messages of the outbox, which has some, to send as one, and that one."""
        return first_of(self.outbox) if self._joins else (1, self.outbox[0])

    # -- what the daemon says -----------------------------------------------------------------------------------------

    def on_frames(self, frames: Sequence[bytes], now: float) -> None:
        """A message of the daemon's. One that does not fit the protocol raises ProtocolError and changes nothing."""
        if not frames:
            raise ProtocolError("a message of too many frames")
        message = self._decoder.decode(frames[0])
        if self._in_session:
            self._give_back()
        if isinstance(message, m.Several):
            self._on_several(message, frames[1:], now)
        else:
            self._on_message(message, frames[1:], now)

    def _on_message(self, message: m.ToWorker, frames: Sequence[Buffer], now: float) -> None:
        if isinstance(message, m.Dispatch):
            self._on_dispatch(message, frames)
        elif isinstance(message, m.Settled):
            self._on_settled(message.leases)
            if self._in_session and message.dispatched > self._dispatched:
                self.hello(now)
        elif isinstance(message, m.Welcome):
            self._on_welcome(message, now)
        elif isinstance(message, m.Revoke):
            self._on_revoke(message)
        elif isinstance(message, m.Goodbye):
            self.goodbye = message
            if not message.drain:
                self.queue.clear()
        elif isinstance(message, m.Reconcile):
            table = codec.table_of(message.layout, 1, frames)
            if table:
                self.questions.append(Question(message.run, message.index, message.attempt, table, message.token))
        elif isinstance(message, m.Interrupt):
            self.interrupts.append(message)
        elif isinstance(message, m.HeadOrder):
            self._on_order(message)
        elif isinstance(message, m.Returned):
            if self._sharing is not None:
                self._sharing.on_returned(message.numbers)
        elif isinstance(message, m.Alive):
            pass  # that it was heard of is all
        elif isinstance(message, m.Several):
            raise ProtocolError("several messages within several")
        elif message.code == m.HELLO:
            if self._in_session:
                self.hello(now)
        else:
            self.refused = from_code(message.code, message.message)

    def _on_several(self, message: m.Several, frames: Sequence[Buffer], now: float) -> None:
        """Each as if it had come by itself: what one is not costs the others nothing."""
        wrong: ProtocolError | None = None
        for part in parts(message, frames):
            try:
                self._on_message(self._decoder.decode(part[0]), part[1:], now)
            except ProtocolError as error:
                wrong = error
        if wrong is not None:
            raise wrong

    def _on_welcome(self, welcome: m.Welcome, now: float) -> None:
        if welcome.session != self._session:
            return
        self.welcome = welcome
        self._in_session = True
        self._joins = welcome.several
        self._dispatched = 0
        if self._sharing is not None:
            self._sharing.meet(welcome.pid, welcome.proof, takes=welcome.takes)
            self._give_back()
            if not welcome.takes:
                self._unshare()
        if self._ready:
            self._send(m.Ready())
        if self._head_report is not None:
            self._send(self._head_report)
        trips = {tripped.number: tripped for tripped in (*self._unheard.values(), *self._trips.values())}
        for number in sorted(trips):
            self._send(trips[number])
        if self._checkpoint is not None and self._checkpoint.lease in (*self._begun, *self._unsettled):
            self._send(self._checkpoint)  # before an outcome that says that its task is interrupted
        for sent in self._unsettled.values():
            sent.at, sent.patience = now, RESEND_SECONDS
            self._send_again(sent)
        if self.leaving:  # after the outcomes: they could not be settled with a worker that has been dismissed
            self._send(m.Leave(self.token))

    def _taken(self, segment: m.Segment) -> Sequence[Buffer]:
        """The frames of a segment of the daemon's. Raises ProtocolError."""
        if self._sharing is None:
            raise ProtocolError("a segment for a worker that has not asked for any")
        return self._sharing.take(segment)

    def _give_back(self) -> None:
        """Say which segments of the daemon's nobody reads here any more."""
        if self._sharing is not None and (numbers := self._sharing.returns()):
            self._send(m.Returned(numbers))

    def _send_again(self, sent: _Sent) -> None:
        self.outbox += sent.messages
        if self._sharing is not None:
            self._sharing.sent_again(sent.numbers)

    def _unshare(self) -> None:
        """The daemon takes no segments (any more): what is in such goes through the socket."""
        for sent in self._unsettled.values():
            for place, outcome in sent.shared.items():
                if outcome.segment is not None and self._sharing is not None:
                    behind = self._sharing.take_back(outcome.segment)
                    sent.messages[place] = [codec.encode(replace(outcome, segment=None)), *behind]
            if self._sharing is not None:
                self._sharing.release(sent.numbers)
            sent.shared.clear()

    def _on_order(self, order: m.HeadOrder) -> None:
        """The latest one counts; what an earlier one has taken into account, that has, too."""
        heard = max(order.heard, self.order.heard)
        latest = max(order, self.order, key=lambda order: order.number)
        self.order = replace(latest, heard=heard)
        self._unheard = {name: tripped for name, tripped in self._unheard.items() if tripped.number > heard}

    def _on_dispatch(self, message: m.Dispatch, frames: Sequence[Buffer]) -> None:
        if message.segment is not None:
            if not self._in_session:
                return
            frames = self._taken(message.segment)
        table = codec.table_of(message.layout, message.n, frames)
        if not table:
            raise ProtocolError("a dispatch without tasks")
        self._on_settled(message.settled)
        if self._in_session:
            self._dispatched += 1
            self.queue.append(
                Assignment(
                    message.lease,
                    message.run,
                    message.first,
                    message.n,
                    table,
                    message.attempt,
                    message.hold,
                    message.token,
                )
            )

    def _on_settled(self, leases: Sequence[LeaseId]) -> None:
        for lease in leases:
            if lease in self._begun:  # it is this worker's no more: what it has not begun of it somebody else may do
                assignment = self._begun[lease]
                assignment.revoked.add(0, assignment.n)
            else:
                sent = self._unsettled.pop(lease, None)
                if sent is not None and sent.shared and self._sharing is not None:
                    self._sharing.settled(sent.numbers)
                self.queue = deque(waiting for waiting in self.queue if waiting.lease != lease)

    def _on_revoke(self, message: m.Revoke) -> None:
        for assignment in (*self._begun.values(), *self.queue):
            if assignment.lease == message.lease:
                for low, high in message.intervals:
                    assignment.revoked.add(max(0, low), min(high, assignment.n))

    def _send(self, message: m.WorkerMessage) -> None:
        self.outbox.append([codec.encode(message)])
