"""What the owner of a key may send, in pure arithmetic."""

from __future__ import annotations

import pytest
from helpers.permissions import made

from taskmaster.bus import codec, messages as m
from taskmaster.daemon.bounds import (
    BURST_SECONDS,
    COSTS,
    FIRST_BAR,
    FORGIVEN_SECONDS,
    HEADER_TOKEN_BYTES,
    LAST_BAR,
    MORE_ARRIVALS,
    MORE_SILENT,
    MOST_ARRIVALS,
    MOST_SILENT,
    MOST_TOPICS,
    NONSENSE,
    SECOND_CHANCE,
    TOKEN_BYTES,
    TOKEN_WORKERS,
    Bounds,
)

RATE = 100.0


def sent(bounds: Bounds, n: int, now: float, size: int = 0, user: str = "anna") -> int:
    """How many of so many messages pass."""
    return sum(bounds.passes(user, size, now) for _ in range(n))


def test_a_burst_passes_and_then_so_many_a_second() -> None:
    bounds = Bounds(RATE)
    most = int(RATE * BURST_SECONDS)
    assert sent(bounds, most, 5.0) == most
    assert sent(bounds, 1, 5.0) == 0
    assert sent(bounds, 99, 6.01) == 99
    assert sent(bounds, 10, 6.01) < 10
    assert sent(bounds, 2 * most, 1000.0) == most, "more is not saved up"
    assert sent(bounds, most, 1000.0, user="otto") == most, "another pays for themselves"


def test_bytes_count_and_what_stays_in_the_journal() -> None:
    most = int(RATE * BURST_SECONDS)
    assert sent(Bounds(RATE), most, 5.0, size=TOKEN_BYTES) == most // 2
    bounds = Bounds(RATE)
    note = m.NoteWriter(1, 1, 1, {})
    for _ in range(int(most // (1 + COSTS[m.NoteWriter]))):
        assert bounds.passes("anna", 0, 5.0)
        bounds.charge("anna", note)
    assert sent(bounds, most, 5.0) < 1 + COSTS[m.NoteWriter]
    bounds.charge("nobody", note)
    assert sent(bounds, 1, 5.0, user="nobody") == 1, "who comes by a Unix socket has no account"


def test_thousands_of_workers_come_back_at_once() -> None:
    """When the daemon has been restarted: each says hello, and that it is ready."""
    bounds = Bounds()
    for token in range(8_000):
        hello = m.WorkerHello(m.PROTOCOL_VERSION, "svm", f"svm-{token:032x}", 7, 4, 12345, "lab-7", ((1, 1), (1, 2)))
        for message in (hello, m.Ready()):
            header = codec.encode(message)
            assert bounds.passes("rig", len(header), 5.0)
            bounds.charge_header("rig", len(header))
            bounds.charge("rig", message)


def test_a_long_header_is_dearer_than_as_many_bytes_of_a_table() -> None:
    most = int(RATE * BURST_SECONDS)
    bounds = Bounds(RATE)
    assert bounds.passes("anna", 0, 5.0)
    bounds.charge_header("anna", HEADER_TOKEN_BYTES)
    assert sent(bounds, most, 5.0) == most - 1, "a short one is paid with its message"
    bounds = Bounds(RATE)
    assert bounds.passes("anna", 0, 5.0)
    bounds.charge_header("anna", 100 * HEADER_TOKEN_BYTES)
    assert sent(bounds, most, 5.0) == most - 101
    bounds.charge_header("nobody", 1 << 20)


def test_who_is_barred_comes_back_by_itself_and_later_each_time() -> None:
    bounds = Bounds(RATE)
    now, bars = 5.0, []
    for _ in range(8):
        while bounds.passes("anna", 0, now):
            pass
        bars.append(bounds.bar("anna", now))
        assert bounds.bar("anna", now) == 0.0, "is out already"
        assert bounds.is_barred("anna", now)
        assert bounds.barred(now) == {"anna": bars[-1]}
        assert sent(bounds, 1, now + bars[-1] / 2) == 0
        now += bars[-1]
        assert not bounds.is_barred("anna", now)
        assert sent(bounds, 1, now) == 1
    assert bars == [min(LAST_BAR, FIRST_BAR * 2**k) for k in range(8)]
    bounds.tidy(now + FORGIVEN_SECONDS + 1)
    assert bounds.bar("anna", now + FORGIVEN_SECONDS + 1) == FIRST_BAR, "is forgiven"


def test_topics_are_counted_until_they_are_let_go() -> None:
    bounds = Bounds(RATE)
    assert bounds.passes("anna", 0, 5.0)
    assert bounds.follow("anna", MOST_TOPICS)
    assert not bounds.follow("anna", 1)
    bounds.tidy(5.0 + 2 * FORGIVEN_SECONDS)
    assert not bounds.follow("anna", 1), "who follows something is not forgotten"
    assert bounds.follow("anna", -2)


def test_who_comes_back_has_not_saved_anything_up() -> None:
    bounds = Bounds(RATE)
    while bounds.passes("anna", 0, 5.0):
        pass
    back = 5.0 + bounds.bar("anna", 5.0)
    few = int(RATE * SECOND_CHANCE)
    assert sent(bounds, few + 1, back) == few
    assert sent(bounds, 1000, back + 2 * BURST_SECONDS) == int(RATE * BURST_SECONDS), "behaving, they have all again"


def test_debts_are_paid_before_anybody_is_let_in_again() -> None:
    bounds = Bounds(RATE)
    assert bounds.passes("anna", 0, 5.0)
    bounds.spend("anna", 20 * RATE)
    assert not bounds.passes("anna", 0, 5.0)
    assert bounds.bar("anna", 5.0) == pytest.approx(18.0, abs=0.1)
    assert not bounds.passes("anna", 0, 20.0)
    assert bounds.passes("anna", 0, 24.0)
    bounds.spend("anna", 1e9)
    assert bounds.bar("anna", 24.0) == LAST_BAR


def test_who_says_nothing_connects_so_often_and_who_speaks_as_often_as_they_like() -> None:
    bounds = Bounds(RATE)
    assert sum(bounds.knock("anna", 5.0) for _ in range(5000)) == MOST_SILENT
    assert bounds.silent(5.0) == ["anna"]
    assert bounds.silent(5.0 + 2 / MORE_SILENT) == []
    assert sum(bounds.knock("anna", 15.0) for _ in range(5000)) == 10 * MORE_SILENT
    assert bounds.knock("otto", 15.0)
    for _ in range(5000):
        bounds.speak("otto")
        assert bounds.knock("otto", 15.0)
    assert sum(bounds.knock("otto", 15.0) for _ in range(5000)) <= MOST_SILENT, "more is not saved up"
    bounds.speak("nobody")


def test_nonsense_is_dear() -> None:
    bounds = Bounds(RATE * NONSENSE)
    most = int(RATE * BURST_SECONDS)
    for _ in range(most - 1):
        assert bounds.passes("anna", 0, 5.0)
        bounds.charge_nonsense("anna")
    assert sent(bounds, most, 5.0) < 2 * NONSENSE
    bounds.charge_nonsense("nobody")


@pytest.mark.parametrize("kind", COSTS)
def test_nothing_costs_more_than_a_second(kind: type[m.Message]) -> None:
    bounds = Bounds(2.0)
    assert bounds.passes("anna", 0, 5.0)
    bounds.charge("anna", made(kind, "stm", 1))
    assert sent(bounds, 1, 5.5) == 1


@pytest.mark.parametrize("size", [64 << 20, 8 << 20])
def test_a_large_message_gets_through_also_where_the_rate_is_low_and_by_who_was_kept_out(size: int) -> None:
    bounds = Bounds(RATE)
    assert sent(bounds, 2, 5.0, size) == 2
    assert sent(bounds, 1, 5.0, size) == 0
    now = 5.0 + bounds.bar("anna", 5.0)
    assert sent(bounds, 1, now, size) == 1
    assert sent(bounds, 1, now, size) == 0
    now += 10.0
    assert bounds.passes("anna", 0, now)
    bounds.charge_header("anna", size)
    assert sent(bounds, 10_000, now) == RATE - 1


def test_workers_that_are_vouched_for_are_paid_for() -> None:
    bounds = Bounds(RATE)
    assert bounds.passes("anna", 0, 5.0)
    bounds.charge_lookups("anna", 20 * TOKEN_WORKERS)
    assert sent(bounds, 1000, 5.0) == RATE * BURST_SECONDS - 21
    bounds.charge_lookups("nobody", 1000)


def test_workers_whose_network_fails_again_and_again_are_back_within_minutes() -> None:
    bounds = Bounds()

    def come(now: float, n: int) -> int:
        """How many of so many connections, by which something is said at once."""
        let_in = 0
        for _ in range(n):
            if bounds.knock("rig", now):
                bounds.speak("rig")
                let_in += 1
        return let_in

    assert come(0.0, 10_000) == come(10.0, 10_000) == 10_000
    missing = 10_000 - come(20.0, 10_000)
    assert missing
    assert bounds.silent(20.0) == ["rig"]
    assert come(20.0 + 240.0, missing) == missing
    assert come(1e6, 50_000) == MOST_ARRIVALS, "more is not saved up"
    assert come(1e6 + 1.0, 50_000) == MORE_ARRIVALS
