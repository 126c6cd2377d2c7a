"""What a worker remembers and says on a connection that may lose anything, told without a connection."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError, UnknownMaster, VersionMismatch
from taskmaster.bus.messages import LeaseId
from taskmaster.bus.table import Buffer, Layout, Part, pack_values
from taskmaster.drivers.protocol import RESEND_SECONDS, Assignment, WorkerProtocol

A, B, C = (7, 1), (7, 2), (7, 3)

Said = TypeVar("Said", bound=m.Message)


class Line:
    """A worker's protocol, and the daemon's end of its connection."""

    def __init__(self) -> None:
        self.worker = WorkerProtocol("svm", "token", pid=11, host="far")
        self.now = 100.0
        self.epoch = 7
        self._decoder = codec.worker_decoder()

    def said(self) -> list[Any]:
        """What the worker has said since this was last asked, decoded as the daemon decodes it."""
        frames, self.worker.outbox = self.worker.outbox, []
        return [self._decoder.decode(bytes(message[0])) for message in frames]

    def heard(self, kind: type[Said]) -> Said:
        """The same, where it is to be one message."""
        (message,) = self.said()
        assert isinstance(message, kind)
        return message

    def tell(self, message: m.Message, *frames: Buffer) -> None:
        self.worker.on_frames([codec.encode(message), *map(bytes, frames)], self.now)

    def greet(self) -> m.WorkerHello:
        """Have it say hello, and hear that; what it said before is lost."""
        self.worker.outbox.clear()
        self.worker.hello(self.now)
        return self.heard(m.WorkerHello)

    def welcome(self, session: int) -> list[Any]:
        """Welcome it to a session; returns what it says to that."""
        self.tell(m.Welcome(self.epoch, session, "svm", "process", {}))
        return self.said()

    def dispatch(self, lease: LeaseId, n: int = 1, *, settled: tuple[LeaseId, ...] = ()) -> None:
        table = pack_values([float(k) for k in range(n)])
        self.tell(m.Dispatch(lease, 1, 0, n, table.layout, settled=settled), *table.frames)

    def report(self, assignment: Assignment, position: int = 0, n: int = 1, *, final: bool = True) -> None:
        outputs = pack_values([1.0] * n)
        self.worker.report(assignment, position, n, outputs, (), 1.0, 2.0, None, final=final, now=self.now)

    def begin(self) -> Assignment:
        assignment = self.worker.begin()
        assert assignment is not None
        return assignment

    @property
    def waiting(self) -> list[LeaseId]:
        return [assignment.lease for assignment in self.worker.queue]

    def outcomes(self) -> list[LeaseId]:
        return [message.lease for message in self.said() if isinstance(message, m.Outcome)]


@pytest.fixture
def line() -> Line:
    """A worker that has been welcomed, and is ready."""
    line = Line()
    line.welcome(line.greet().session)
    line.worker.ready()
    line.heard(m.Ready)
    return line


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_worker_introduces_itself() -> None:
    hello = Line().greet()
    assert hello == m.WorkerHello(m.PROTOCOL_VERSION, "svm", "token", 1, 1, 11, "far")


def test_what_was_dispatched_before_the_welcome_is_not_evaluated(line: Line) -> None:
    hello = line.greet()
    line.dispatch(A)  # granted before the hello arrived: the daemon has given it up since, it is not in the hello
    assert line.worker.begin() is None
    line.welcome(hello.session)
    line.dispatch(B)
    assert line.begin().lease == B


def test_a_welcome_to_an_earlier_hello_opens_nothing() -> None:
    line = Line()
    first, second = line.greet(), line.greet()
    assert (first.session, second.session) == (1, 2)
    line.welcome(first.session)
    line.dispatch(A)
    assert line.worker.welcome is None
    assert line.waiting == []
    line.welcome(second.session)
    line.dispatch(B)
    assert line.waiting == [B]


def test_a_hello_lists_whatever_the_worker_has_of_the_daemon(line: Line) -> None:
    for lease in (A, B, C):
        line.dispatch(lease)
    line.report(line.begin())  # A: unsettled
    line.begin()  # B: being evaluated
    line.said()
    assert line.greet().leases == (A, B, C)


def test_an_unanswered_hello_is_repeated_and_nothing_else_is_said_until_it_is_answered(line: Line) -> None:
    line.dispatch(A)
    line.report(line.begin())
    session = line.greet().session
    line.said()
    line.now += RESEND_SECONDS
    line.worker.tick(line.now)
    assert line.said() == []
    line.now += 0.1
    line.worker.tick(line.now)
    again = line.heard(m.WorkerHello)
    assert (again.session, again.leases) == (session + 1, (A,))


def test_readiness_is_said_again_in_every_session(line: Line) -> None:
    assert line.welcome(line.greet().session) == [m.Ready()]


def test_a_worker_that_is_not_ready_does_not_say_so() -> None:
    line = Line()
    assert line.welcome(line.greet().session) == []


def test_a_daemon_that_has_started_anew_asks_for_a_hello_and_is_told_everything(line: Line) -> None:
    line.dispatch(A)
    line.dispatch(B)
    line.report(line.begin())
    line.said()
    line.tell(m.Refused(m.HELLO, "who are you?"))
    hello = line.heard(m.WorkerHello)
    assert hello.leases == (A, B)
    line.tell(m.Refused(m.HELLO, "who are you?"))  # it has asked twice; one answer is on its way
    assert line.said() == []
    line.epoch = 8
    ready, outcome = line.welcome(hello.session)
    assert (ready, outcome.lease) == (m.Ready(), A)
    assert line.worker.welcome is not None
    assert line.worker.welcome.epoch == 8
    line.dispatch((8, 1), settled=(A,))
    assert line.waiting == [B, (8, 1)]  # what it has not been told to forget it goes on with


def test_a_second_welcome_to_one_hello_loses_nothing(line: Line) -> None:
    session = line.greet().session
    line.welcome(session)
    line.dispatch(A)
    line.welcome(session)
    assert line.waiting == [A]
    line.tell(m.Settled((), dispatched=1))  # it may ask to be brought together again, but lists what it has
    assert [message.leases for message in line.said()] in ([], [(A,)])


@pytest.mark.parametrize("error", [VersionMismatch("speaks 2"), UnknownMaster("no such Master")])
def test_a_worker_that_is_refused_keeps_quiet(line: Line, error: Any) -> None:
    line.tell(m.Refused(error.code, str(error)))
    assert type(line.worker.refused) is type(error)
    assert str(line.worker.refused) == str(error)
    line.worker.tick(line.now + 100)
    assert line.said() == []


# -- outcomes ---------------------------------------------------------------------------------------------------------


def test_an_outcome_is_sent_until_it_is_settled(line: Line) -> None:
    line.dispatch(A)
    line.report(line.begin())
    assert line.outcomes() == [A]
    line.now += RESEND_SECONDS
    line.worker.tick(line.now)
    assert line.said() == [m.Heartbeat()]
    line.now += 0.1
    line.worker.tick(line.now)
    assert line.outcomes() == [A]
    line.worker.tick(line.now + 0.1)  # not at every tick from then on
    assert line.outcomes() == []
    line.tell(m.Settled((A,), dispatched=1))
    line.worker.tick(line.now + 100)
    assert line.said() == [m.Heartbeat()]
    assert line.worker.idle


def test_it_is_sent_again_ever_more_rarely_as_it_may_be_on_its_way_over_a_slow_line(line: Line) -> None:
    line.dispatch(A)
    line.report(line.begin())
    line.said()
    times = []
    for _ in range(1000):
        line.now += 1.0
        line.worker.tick(line.now)
        times += [line.now] * len(line.outcomes())
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:4] == [7.0, 13.0, 25.0, 49.0]
    assert set(pauses[4:]) == {61.0}
    said = line.welcome(line.greet().session)
    assert [type(message) for message in said] == [m.Ready, m.Outcome], "in a new session at once"


def test_every_part_of_an_outcome_is_sent_again_with_its_frames_and_in_order(line: Line) -> None:
    line.dispatch(A, n=3)
    assignment = line.begin()
    line.report(assignment, 0, 2, final=False)
    line.report(assignment, 2, 1)
    sent = list(line.worker.outbox)
    line.said()
    line.now += RESEND_SECONDS + 0.1
    line.worker.tick(line.now)
    assert line.worker.outbox[1:] == sent
    assert [len(frames) for frames in sent] == [2, 2]


def test_what_is_settled_may_ride_on_the_next_dispatch(line: Line) -> None:
    line.dispatch(A)
    line.report(line.begin())
    line.dispatch(B, settled=(A,))
    line.said()
    assert line.greet().leases == (B,)


def test_also_on_a_dispatch_that_comes_too_early_to_be_evaluated(line: Line) -> None:
    line.dispatch(A)
    line.report(line.begin())
    line.said()
    line.worker.hello(line.now)
    line.dispatch(B, settled=(A,))
    assert line.worker.idle


def test_a_lease_that_is_being_evaluated_is_not_forgotten_when_it_is_settled(line: Line) -> None:
    """It was stolen or has expired; its tasks that have ended may still be wanted, and it must get to its end."""
    line.dispatch(A, n=2)
    assignment = line.begin()
    line.report(assignment, 0, 1, final=False)
    line.tell(m.Settled((A,), dispatched=1))
    line.said()
    line.now += RESEND_SECONDS + 0.1
    line.worker.tick(line.now)
    assert line.outcomes() == [A]
    line.report(assignment, 1, 1)
    line.tell(m.Settled((A,), dispatched=1))
    assert line.worker.idle


def test_a_lease_that_is_settled_before_it_has_begun_never_begins(line: Line) -> None:
    line.dispatch(A)
    line.dispatch(B)
    line.tell(m.Settled((A,), dispatched=2))
    assert line.waiting == [B]


def test_outcomes_come_before_the_leave_in_a_new_session(line: Line) -> None:
    """A worker that has been dismissed could not have them settled any more."""
    line.dispatch(A)
    line.report(line.begin())
    line.worker.leave()
    line.said()
    kinds = [type(message) for message in line.welcome(line.greet().session)]
    assert kinds == [m.Ready, m.Outcome, m.Leave]


# -- dispatches -------------------------------------------------------------------------------------------------------


def test_a_lost_dispatch_shows_in_the_count(line: Line) -> None:
    line.dispatch(A)
    line.tell(m.Settled((), dispatched=1))
    assert line.said() == []
    line.tell(m.Settled((), dispatched=2))  # B did not arrive
    hello = line.heard(m.WorkerHello)
    assert hello.leases == (A,)
    line.tell(m.Settled((), dispatched=3))  # said in the session before: one hello is enough
    assert line.said() == []
    line.welcome(hello.session)
    line.tell(m.Settled((), dispatched=0))  # counted anew in each session
    assert line.said() == []
    line.tell(m.Settled((), dispatched=1))
    assert line.heard(m.WorkerHello).leases == (A,)


def test_assignments_begin_in_their_order_with_all_that_was_said_of_them(line: Line) -> None:
    table = pack_values([5.0, 6.0])
    line.tell(m.Dispatch(A, 3, 40, 2, table.layout, attempt=2, hold=0.5), *table.frames)
    line.dispatch(B)
    first = line.begin()
    assert (first.lease, first.run, first.first, first.n, first.attempt, first.hold) == (A, 3, 40, 2, 2, 0.5)
    assert first.table.rows() == [5.0, 6.0]
    assert line.begin().lease == B
    assert line.worker.begin() is None


@pytest.mark.parametrize("begun", [True, False])
def test_positions_are_revoked_before_and_while_a_lease_is_evaluated(line: Line, begun: bool) -> None:
    line.dispatch(A, n=10)
    line.dispatch(B, n=10)
    assignment = line.begin() if begun else line.worker.queue[0]
    line.tell(m.Revoke(A, ((2, 4), (8, 1000), (500, 600), (6, 6), (5, 3))))
    assert list(assignment.revoked) == [(2, 4), (8, 10)]
    assert not line.worker.queue[-1].revoked
    line.tell(m.Revoke(C, ((0, 5),)))  # of a lease that has long ended here


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1"],
        [codec.encode(m.Heartbeat())],
        [codec.encode(m.Dispatch(B, 1, 0, 2, Layout((Part(("",), "<f8"),)), settled=(A,))), bytes(8)],
        [codec.encode(m.Dispatch(B, 1, 0, 2, Layout((Part(("",), "<f8"),)), settled=(A,)))],
        [codec.encode(m.Dispatch(B, 1, 0, 2, Layout(()), settled=(A,)))],
    ],
)
def test_what_does_not_fit_the_protocol_is_refused_whole(line: Line, frames: list[bytes]) -> None:
    line.dispatch(A)
    line.report(line.begin())
    with pytest.raises(ProtocolError):
        line.worker.on_frames(frames, line.now)
    line.said()
    assert line.greet().leases == (A,)  # neither B taken nor A forgotten


# -- the end ----------------------------------------------------------------------------------------------------------


def test_goodbye_with_time_to_finish(line: Line) -> None:
    line.dispatch(A)
    line.tell(m.Goodbye("fewer workers"))
    assert line.worker.goodbye == m.Goodbye("fewer workers")
    assert not line.worker.idle
    line.report(line.begin())
    assert not line.worker.idle
    line.tell(m.Settled((A,), dispatched=1))
    assert line.worker.idle


def test_goodbye_at_once(line: Line) -> None:
    for lease in (A, B):
        line.dispatch(lease)
    line.begin()
    line.tell(m.Goodbye(drain=False))
    assert line.worker.begin() is None
    assert line.worker.goodbye is not None
    assert not line.worker.goodbye.drain


def test_a_worker_that_leaves_says_whose_it_is(line: Line) -> None:
    line.worker.leave()
    assert line.worker.leaving
    assert line.said() == [m.Leave("token")]


def test_a_driver_that_cannot_be_set_up_is_told_of(line: Line) -> None:
    line.worker.failed("ImportError", "no module", "Traceback …")
    assert line.said() == [m.WorkerFailed("token", "ImportError", "no module", "Traceback …")]


# -- any order of it all ----------------------------------------------------------------------------------------------


class LossyLine(RuleBasedStateMachine):
    """A daemon that grants, settles and gives up, over a line that keeps the order but loses whatever it likes.

    The daemon's rules, as the protocol states them: it takes a lease that a hello does not list for one that never
    arrived, and grants its task to somebody else. So a worker must never begin a lease that is given up, and never
    forget the outcome of one that is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.granted = 0
        self.dispatched = 0
        #: on their way to the worker, in order
        self.wire: list[tuple[m.Message, tuple[Buffer, ...]]] = []
        self.held: set[LeaseId] = set()
        self.reported: set[LeaseId] = set()
        #: whose outcome is on disk
        self.on_disk: set[LeaseId] = set()
        self.begun: list[Assignment] = []
        self.line.worker.ready()
        self.line.worker.hello(self.line.now)

    def _send(self, message: m.Message, *frames: Buffer) -> None:
        self.wire.append((message, frames))

    @rule(lost=st.booleans())
    def the_daemon_hears(self, lost: bool) -> None:
        for message in self.line.said():
            if lost:
                continue
            if isinstance(message, m.WorkerHello):
                self.held &= set(message.leases)
                self.dispatched = 0
                self._send(m.Welcome(7, message.session, "svm", "process", {}))
            elif isinstance(message, m.Outcome):
                assert message.lease in self.reported
                self.on_disk.add(message.lease)

    @rule()
    def the_daemon_grants(self) -> None:
        self.granted += 1
        self.dispatched += 1
        lease = (7, self.granted)
        self.held.add(lease)
        table = pack_values([1.0])
        self._send(m.Dispatch(lease, 1, 0, 1, table.layout), *table.frames)

    @rule()
    def the_daemon_settles(self) -> None:
        settled = tuple(sorted(self.on_disk & self.held))
        self.held -= set(settled)
        self._send(m.Settled(settled, self.dispatched))

    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        if self.wire:
            del self.wire[data.draw(st.integers(0, len(self.wire) - 1))]

    @rule()
    def the_worker_hears(self) -> None:
        for message, frames in self.wire:
            self.line.tell(message, *frames)
        self.wire.clear()

    @rule()
    def the_worker_begins(self) -> None:
        assignment = self.line.worker.begin()
        if assignment is not None:
            assert assignment.lease not in {known.lease for known in self.begun} | self.reported
            self.begun.append(assignment)

    @rule()
    def the_worker_ends_one(self) -> None:
        if self.begun:
            assignment = self.begun.pop(0)
            self.reported.add(assignment.lease)
            self.line.report(assignment)

    @rule()
    def time_passes(self) -> None:
        self.line.now += RESEND_SECONDS + 0.1
        self.line.worker.tick(self.line.now)

    @invariant()
    def no_outcome_is_forgotten_before_it_is_on_disk(self) -> None:
        assert self.reported - self.on_disk <= set(self.line.worker._unsettled)

    def teardown(self) -> None:
        """When the line is mended, they come together: every lease is evaluated or given up."""
        self.the_daemon_hears(lost=False)
        for _ in range(4):
            self._settle_and_listen()
            while self.line.worker.queue:
                self.the_worker_begins()
            while self.begun:
                self.the_worker_ends_one()
            self.time_passes()
        assert self.line.worker.idle
        assert not self.held

    def _settle_and_listen(self) -> None:
        for _ in range(2):
            self.the_daemon_settles()
            self.the_worker_hears()
            self.the_daemon_hears(lost=False)


TestLossyLine = LossyLine.TestCase
TestLossyLine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_is_settled_before_it_has_begun_is_not_begun(line: Line) -> None:
    """A head's worker has tasks at hand while it is in another; meanwhile somebody else may have been given them."""
    line.dispatch(A, 3)
    at_hand = line.begin()
    line.tell(m.Settled((A,), 1))
    assert list(at_hand.revoked) == [(0, 3)]
    line.report(at_hand, 0, 0)
    line.tell(m.Settled((A,), 1))
    assert line.worker.idle


# -- interlocks -------------------------------------------------------------------------------------------------------


def trips(said: list[Any]) -> list[tuple[str, str]]:
    return [(each.interlock, each.reason) for each in said if isinstance(each, m.Tripped)]


def test_a_trip_that_has_passed_while_nobody_listened_is_told_all_the_same(line: Line) -> None:
    hello = line.greet()
    story = [
        m.Tripped(1.0, "hot", "its value cannot be had", lost=True, number=1),
        m.Tripped(2.0, "hot", "95 is above max = 60", number=2),
        m.Tripped(3.0, "door", "'OPEN' is not 'CLOSED'", number=3),
        m.Tripped(4.0, "hot", "", number=4),
        m.Tripped(5.0, "hot", "its value cannot be had", lost=True, number=5),
        m.Tripped(6.0, "hot", "", number=6),
    ]
    for tripped in story:
        line.worker.report_trip(tripped)
    assert not line.worker.idle, "it stays until that is told"
    told = [("hot", "95 is above max = 60"), ("door", "'OPEN' is not 'CLOSED'"), ("hot", "")]
    line.tell(m.HeadOrder((8, 1), "work"))
    assert trips(line.welcome(hello.session)) == told
    assert trips(line.welcome(line.greet().session)) == told, "until it is answered"
    line.tell(m.HeadOrder((8, 2), "stop"))
    assert trips(line.welcome(line.greet().session)) == told, "an order alone is no answer"
    line.tell(m.HeadOrder((8, 2), "stop", heard=3))
    assert trips(line.welcome(line.greet().session)) == [("door", "'OPEN' is not 'CLOSED'"), ("hot", "")]
    assert (line.worker.order.number, line.worker.order.what, line.worker.order.heard) == ((8, 2), "stop", 3)


def test_an_answer_that_an_order_has_overtaken_counts_and_its_order_does_not(line: Line) -> None:
    line.worker.report_trip(m.Tripped(1.0, "hot", "95 is above max = 60", number=1))
    line.tell(m.HeadOrder((7, 3), "stop"))
    line.tell(m.HeadOrder((7, 2), "work", heard=1))
    assert (line.worker.order.number, line.worker.order.what, line.worker.order.heard) == ((7, 3), "stop", 1)
    assert line.worker.idle
