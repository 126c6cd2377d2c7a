"""What a worker says when it comes and goes, and what it takes in, on a connection that may lose anything."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.lines import A, B, C, Line

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError, UnknownMaster, VersionMismatch
from taskmaster.bus.joining import first_of, parts
from taskmaster.bus.table import Layout, Part, pack_values
from taskmaster.bus.text import LONGEST_TEXT
from taskmaster.drivers.protocol import RESEND_SECONDS, Question

# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_worker_introduces_itself() -> None:
    hello = Line().greet()
    assert hello == m.WorkerHello(m.PROTOCOL_VERSION, "svm", "token", 1, 1, 11, "far", several=True)


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


def test_what_is_told_of_a_head_fits_a_message_whatever_it_raises(line: Line) -> None:
    line.worker.report_head(m.HeadReport("faulty", "ACME", "x" * 1_000_000))
    line.worker.answer(Question(1, 1, 1, pack_values([1.0]), b""), "unknown", reason="y" * 1_000_000)
    report, answer = line.said()
    assert isinstance(report, m.HeadReport)
    assert isinstance(answer, m.Reconciled)
    assert {len(report.error), len(answer.reason)} == {LONGEST_TEXT}
    line.worker.report_head(m.HeadReport("faulty", "ACME", "x" * 1_000_000))
    assert line.said() == [], "it is as before"


# -- several messages as one ------------------------------------------------------------------------------------------


def joined(*messages: list[Any]) -> tuple[m.Several, list[Any]]:
    header, *frames = first_of(messages)[1]
    several = codec.to_worker_decoder().decode(header)
    assert isinstance(several, m.Several)
    return several, frames


def lease_of(lease: m.LeaseId) -> list[Any]:
    table = pack_values([1.0])
    return [codec.encode(m.Dispatch(lease, 1, 0, 1, table.layout)), *table.frames]


def test_leases_that_came_as_one_message_are_those_that_were_sent(line: Line) -> None:
    several, frames = joined(lease_of(A), lease_of(B), lease_of(C))
    line.tell(several, *frames)
    assert line.waiting == [A, B, C]
    assert line.begin().table.rows() == [1.0]


def test_what_is_no_message_among_several_is_said_and_costs_the_others_nothing(line: Line) -> None:
    nested = [codec.encode(m.Several(((codec.encode(m.Goodbye()), ()),)))]
    several, frames = joined(lease_of(A), nested, lease_of(B))
    with pytest.raises(ProtocolError, match="within several"):
        line.tell(several, *frames)
    assert line.waiting == [A, B]
    assert line.worker.goodbye is None


def test_outcomes_go_as_one_message_to_who_takes_that(line: Line) -> None:
    for lease in (A, B, C):
        line.dispatch(lease)
        line.report(line.begin())
    assert line.worker.next_out()[0] == 1, "the daemon has not said so"
    session = line.greet().session
    line.tell(m.Welcome(8, session, "svm", "process", {}, several=True))
    count, frames = line.worker.next_out()
    assert count == len(line.worker.outbox) == 4, "the outcomes are sent again, after it has said that it is ready"
    several = codec.worker_decoder().decode(bytes(frames[0]))
    assert isinstance(several, m.Several)
    kinds = [type(codec.worker_decoder().decode(bytes(part[0]))) for part in parts(several, frames[1:])]
    assert kinds == [m.Ready, m.Outcome, m.Outcome, m.Outcome]


def test_a_hello_goes_by_itself_for_another_daemon_may_hear_it(line: Line) -> None:
    line.tell(m.Welcome(8, line.greet().session, "svm", "process", {}, several=True))
    line.worker.outbox.clear()
    line.dispatch(A)
    line.report(line.begin())
    line.worker.hello(line.now)
    assert line.worker.next_out() == (1, line.worker.outbox[0])
    del line.worker.outbox[0]
    assert line.worker.next_out()[0] == 1
