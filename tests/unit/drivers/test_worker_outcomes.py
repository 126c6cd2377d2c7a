"""What a worker says until it was heard: outcomes, and that an interlock has tripped."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from helpers.lines import A, B, Line

from taskmaster.bus import messages as m
from taskmaster.drivers.protocol import RESEND_SECONDS

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
