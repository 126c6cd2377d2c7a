"""A worker towards a daemon that may restart, forget, repeat itself, or talk nonsense."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.garbage import SAID, mutated

from taskmaster.bus import codec
from taskmaster.bus import messages as m
from taskmaster.bus.errors import ProtocolError, VersionMismatch
from taskmaster.bus.table import Buffer, pack_values
from taskmaster.drivers.protocol import RESEND_SECONDS, Assignment, WorkerProtocol

_decode = codec.worker_decoder().decode


class Daemon:
    """The other side of the wire, which the test plays; time passes when it says so."""

    def __init__(self) -> None:
        self.worker = WorkerProtocol("svm", "svm-1", pid=7, host="lab")
        self.now = 0.0
        self.epoch = 1
        self.dispatched = 0

    def say(self, message: m.ToWorker, frames: Sequence[Buffer] = ()) -> None:
        self.worker.on_frames([codec.encode(message), *map(bytes, frames)], self.now)

    def hear(self) -> list[m.WorkerMessage]:
        """What the worker has said since; frames are looked at where there are any."""
        heard: list[m.WorkerMessage] = []
        for header, *frames in self.worker.outbox:
            message = _decode(header)
            if isinstance(message, m.Outcome):
                layout, n = message.outputs, message.n - len(message.errors)
                codec.table_of(layout, n, frames[: len(frames) - message.timed])
            heard.append(message)
        self.worker.outbox.clear()
        return heard

    def hear_of(self, kind: type[Any]) -> Any:
        """The only thing the worker has said."""
        [message] = self.hear()
        assert isinstance(message, kind)
        return message

    def welcome(self) -> None:
        self.dispatched = 0
        self.say(m.Welcome(self.epoch, self.worker._session, "svm", "process", {}))

    def dispatch(self, number: int, n: int = 3, settled: tuple[m.LeaseId, ...] = ()) -> m.LeaseId:
        table = pack_values([float(k) for k in range(n)])
        self.dispatched += 1
        self.say(m.Dispatch((self.epoch, number), 1, 0, n, table.layout, settled=settled), table.frames)
        return (self.epoch, number)


@pytest.fixture
def daemon() -> Daemon:
    """It has welcomed the worker, which is ready."""
    daemon = Daemon()
    daemon.worker.hello(0.0)
    assert daemon.hear_of(m.WorkerHello) == m.WorkerHello(m.PROTOCOL_VERSION, "svm", "svm-1", 1, 1, 7, "lab")
    daemon.welcome()
    daemon.worker.ready()
    assert daemon.hear() == [m.Ready()]
    return daemon


def report(daemon: Daemon, assignment: Assignment, low: int = 0, high: int | None = None) -> None:
    """Some tasks of an assignment, or all, have ended."""
    high = assignment.n if high is None else high
    outputs = pack_values([0.5] * (high - low))
    daemon.worker.report(
        assignment, low, high - low, outputs, (), 1.0, 2.0, None, final=high == assignment.n, now=daemon.now
    )


def begin(worker: WorkerProtocol) -> Assignment:
    assignment = worker.begin()
    assert assignment is not None
    return assignment


def leases(worker: WorkerProtocol) -> list[m.LeaseId]:
    return [assignment.lease for assignment in worker.queue]


# -- evaluating -------------------------------------------------------------------------------------------------------


def test_a_lease_from_its_dispatch_to_its_end(daemon: Daemon) -> None:
    lease = daemon.dispatch(1)
    assignment = begin(daemon.worker)
    assert (assignment.lease, assignment.n, assignment.table.rows()) == (lease, 3, [0.0, 1.0, 2.0])
    assert daemon.worker.begin() is None
    report(daemon, assignment, 0, 2)
    report(daemon, assignment, 2)
    assert [(o.lease, o.position, o.n, o.final) for o in daemon.hear() if isinstance(o, m.Outcome)] == [
        (lease, 0, 2, False),
        (lease, 2, 1, True),
    ]
    daemon.say(m.Settled((lease,), daemon.dispatched))
    assert daemon.worker.idle


def test_leases_are_begun_in_the_order_of_their_coming(daemon: Daemon) -> None:
    granted = [daemon.dispatch(number) for number in (1, 2, 3)]
    assert [begin(daemon.worker).lease for _ in granted] == granted


def test_an_outcome_is_said_again_until_it_is_settled(daemon: Daemon) -> None:
    report(daemon, begin_of(daemon, 1))
    said = daemon.hear_of(m.Outcome)
    for _ in range(3):
        daemon.now += RESEND_SECONDS / 2
        daemon.worker.tick(daemon.now)
        assert daemon.hear() == [m.Heartbeat()], "not too soon"
        daemon.now += RESEND_SECONDS / 2 + 0.1
        daemon.worker.tick(daemon.now)
        assert daemon.hear() == [m.Heartbeat(), said]
    daemon.dispatch(2, settled=(said.lease,))
    daemon.now += RESEND_SECONDS + 1
    daemon.worker.tick(daemon.now)
    assert daemon.hear() == [m.Heartbeat()], "a dispatch may say so as well"


def test_of_a_lease_that_goes_on_nothing_is_forgotten(daemon: Daemon) -> None:
    assignment = begin_of(daemon, 1)
    report(daemon, assignment, 0, 2)
    part = daemon.hear_of(m.Outcome)
    daemon.say(m.Settled((assignment.lease,), daemon.dispatched))
    daemon.now += RESEND_SECONDS + 0.1
    daemon.worker.tick(daemon.now)
    assert daemon.hear() == [m.Heartbeat(), part]
    report(daemon, assignment, 2)
    daemon.say(m.Settled((assignment.lease,), daemon.dispatched))
    assert daemon.worker.idle


def begin_of(daemon: Daemon, number: int) -> Assignment:
    daemon.dispatch(number)
    return begin(daemon.worker)


def test_what_is_taken_back_is_known_before_and_after_the_beginning(daemon: Daemon) -> None:
    begun = begin_of(daemon, 1)
    daemon.dispatch(2)
    for number in (1, 2, 3):  # the third is not here, or not any more
        daemon.say(m.Revoke((1, number), ((1, 2), (2, 99))))
    assert list(begun.revoked) == [(1, 3)]
    assert list(daemon.worker.queue[0].revoked) == [(1, 3)]


def test_what_is_not_wanted_any_more_is_not_begun(daemon: Daemon) -> None:
    daemon.dispatch(1)
    lease = daemon.dispatch(2)
    daemon.say(m.Settled(((1, 1), (1, 77)), daemon.dispatched))
    assert leases(daemon.worker) == [lease]


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_dispatch_before_the_welcome_is_dropped(daemon: Daemon) -> None:
    kept = daemon.dispatch(1)
    daemon.worker.hello(daemon.now)
    assert daemon.hear_of(m.WorkerHello).leases == (kept,)
    daemon.dispatch(2)
    daemon.welcome()
    assert leases(daemon.worker) == [kept], "the daemon takes it for one that never arrived, and grants it again"
    assert daemon.hear() == [m.Ready()], "it says again that it is ready"


def test_a_welcome_to_an_older_hello_is_none(daemon: Daemon) -> None:
    late = m.Welcome(1, 1, "svm", "process", {})
    daemon.worker.hello(daemon.now)
    daemon.hear()
    daemon.say(late)
    daemon.dispatch(1)
    assert not daemon.worker.queue
    assert daemon.hear() == []


def test_a_welcome_that_comes_twice_costs_a_hello_at_most(daemon: Daemon) -> None:
    lease = daemon.dispatch(1)
    daemon.say(m.Welcome(1, 1, "svm", "process", {}))
    assert daemon.hear() == [m.Ready()]
    daemon.say(m.Settled((), 1))
    assert daemon.hear_of(m.WorkerHello).leases == (lease,)
    assert leases(daemon.worker) == [lease]


def test_a_lost_dispatch_is_noticed_by_their_number(daemon: Daemon) -> None:
    assignment = begin_of(daemon, 1)
    daemon.say(m.Settled((), 1))
    assert daemon.hear() == []
    daemon.say(m.Settled((), 2))
    hello = daemon.hear_of(m.WorkerHello)
    assert (hello.session, hello.leases) == (2, (assignment.lease,))
    daemon.say(m.Settled((), 3))
    assert daemon.hear() == [], "it has said so"
    daemon.welcome()
    daemon.hear()
    daemon.dispatch(5)
    daemon.say(m.Settled((), 1))
    assert daemon.hear() == [], "counted anew in each session"


def test_a_hello_without_an_answer_is_repeated(daemon: Daemon) -> None:
    daemon.worker.hello(daemon.now)
    daemon.hear()
    daemon.worker.tick(daemon.now + RESEND_SECONDS)
    assert daemon.hear() == [], "until then nothing is said: not even that it lives"
    daemon.worker.tick(daemon.now + RESEND_SECONDS + 0.1)
    assert daemon.hear_of(m.WorkerHello).session == 3


def test_a_daemon_that_starts_anew_is_told_everything_again(daemon: Daemon) -> None:
    ended, begun, waiting = begin_of(daemon, 1), begin_of(daemon, 2), daemon.dispatch(3)
    report(daemon, ended)
    outcome = daemon.hear_of(m.Outcome)
    daemon.epoch = 2
    daemon.say(m.Refused(m.HELLO, "who are you?"))
    daemon.say(m.Refused(m.HELLO, "who are you?"))
    assert daemon.hear_of(m.WorkerHello).leases == (ended.lease, begun.lease, waiting)
    daemon.welcome()
    assert daemon.hear() == [m.Ready(), outcome]
    assert daemon.worker.welcome is not None
    assert daemon.worker.welcome.epoch == 2
    lease = daemon.dispatch(1)
    assert lease == (2, 1)
    assert leases(daemon.worker) == [waiting, lease]
    daemon.say(m.Settled((ended.lease, waiting), daemon.dispatched))  # it has given the one that waits to somebody else
    assert leases(daemon.worker) == [lease]
    report(daemon, begun)
    assert daemon.hear_of(m.Outcome).lease == (1, 2), "of the older epoch: the daemon decides"


def test_a_worker_that_is_not_wanted_falls_silent() -> None:
    daemon = Daemon()
    daemon.worker.hello(0.0)
    daemon.hear()
    daemon.say(m.Refused("version", "install the same release on both sides"))
    assert isinstance(daemon.worker.refused, VersionMismatch)
    daemon.worker.tick(100.0)
    assert daemon.hear() == []


def test_a_worker_that_cannot_work_says_why(daemon: Daemon) -> None:
    daemon.worker.failed("ImportError", "no module", "Traceback …")
    assert daemon.hear() == [m.WorkerFailed("svm-1", "ImportError", "no module", "Traceback …")]


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_who_leaves_says_so_again_behind_its_outcomes(daemon: Daemon) -> None:
    report(daemon, begin_of(daemon, 1))
    outcome = daemon.hear_of(m.Outcome)
    daemon.worker.leave()
    assert daemon.hear() == [m.Leave("svm-1")]
    daemon.worker.hello(daemon.now)
    daemon.hear()
    daemon.welcome()
    assert daemon.hear() == [m.Ready(), outcome, m.Leave("svm-1")]


@pytest.mark.parametrize("drain", [True, False])
def test_a_goodbye_leaves_time_or_does_not(daemon: Daemon, drain: bool) -> None:
    begin_of(daemon, 1)
    daemon.dispatch(2)
    daemon.say(m.Goodbye("recycled", drain))
    assert daemon.worker.goodbye == m.Goodbye("recycled", drain)
    assert len(daemon.worker.queue) == drain
    assert not daemon.worker.idle, "one has begun"


# -- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 2**40, 2])
def test_a_dispatch_that_does_not_add_up_changes_nothing(daemon: Daemon, n: int) -> None:
    table = pack_values([1.0])
    report(daemon, begin_of(daemon, 1))
    with pytest.raises(ProtocolError):
        daemon.say(m.Dispatch((1, 2), 1, 0, n, table.layout, settled=((1, 1),)), table.frames)
    assert not daemon.worker.queue
    assert not daemon.worker.idle, "nor is anything settled by it"
    daemon.say(m.Settled((), 1))
    assert daemon.hear_of(m.Outcome).lease == (1, 1), "nor has it been counted"


def test_no_dispatch_at_all_is_refused(daemon: Daemon) -> None:
    for frames in ([], [b""], [b"\xc1"]):
        with pytest.raises(ProtocolError):
            daemon.worker.on_frames(frames, 0.0)


@pytest.mark.parametrize("seed", range(2))
def test_thousands_of_damaged_messages_are_taken_or_refused(daemon: Daemon, seed: int) -> None:
    chance = random.Random(seed)
    tags = [b"dispatch", b"welcome", b"revoke", b"settled", b"goodbye", b"refused"]
    said = [frames for frames in SAID if any(tag in frames[0][:12] for tag in tags)]
    taken = 0
    for _ in range(3000):
        try:
            daemon.worker.on_frames(mutated(chance, said), 0.0)
            taken += 1
        except ProtocolError:
            continue
        while (assignment := daemon.worker.begin()) is not None:
            assert assignment.n == assignment.table.n > 0
            report(daemon, assignment)
        daemon.hear()
        if daemon.worker._session > 1 and not daemon.worker._in_session:
            daemon.welcome()
    assert taken > 100
