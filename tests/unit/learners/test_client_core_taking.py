"""Taking without sockets: pages that are asked for once, results left with the daemon, inputs that are here."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.shore import Shore, done

from taskmaster.bus import messages as m
from taskmaster.bus.table import pack_values
from taskmaster.learners import following, runcore
from taskmaster.learners.inputs import OwnInputs
from taskmaster.learners.runcore import RunCore


def page(asked: m.Replay, end: int, *, n: int = 10, size: int = 1) -> tuple[m.Page, list[bytes]]:
    """What the daemon answers: up to ``n`` of its ``end`` events."""
    events = [done(seq, b"x" * size, own=False) for seq in range(asked.since, min(asked.since + n, end))]
    frames = [bytes(frame) for _, own in events for frame in own]
    return m.Page(asked.id, 1, end, tuple(head for head, _ in events), 1), frames


def told(run: RunCore) -> list[int]:
    """Take what has arrived; the numbers of the events."""
    seqs = []
    while (result := run.take()) is not None:
        seqs.append(result.seq)
    return seqs


# -- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_that_takes_minutes_is_asked_for_once() -> None:
    """Where it is, nobody can say; the small question behind it is answered after it."""
    shore = Shore()
    run = shore.open(write=False, next_index=10, next_seq=10)
    (asked,) = shore.said(m.Replay)
    shore.wait(180)
    heard = [message for message, _ in shore.heard()]
    assert {type(message) for message in heard} == {m.Ping}
    shore.say(*page(asked, 10))
    shore.say(m.Pong(heard[0].id, 1, 10, 10, 0))
    assert told(run) == [*range(10)]
    shore.wait(20)
    assert not shore.said(m.Replay)


def test_a_page_that_was_lost_is_asked_for_again_and_each_time_after_a_longer_pause() -> None:
    shore = Shore()
    run = shore.open(write=False, next_index=10, next_seq=10)
    asked_at = [shore.now]
    (asked,) = shore.said(m.Replay)
    while len(asked_at) < 8:
        shore.wait(1)
        for message in itertools.chain.from_iterable(iter(shore.messages, [])):
            if isinstance(message, m.Ping):
                shore.say(m.Pong(message.id, 1, 10, 10, 0))
            elif isinstance(message, m.Replay):
                asked_at.append(shore.now)
                asked = message
    pauses = [after - before for before, after in itertools.pairwise(asked_at)]
    assert pauses[0] <= 2 * following.PAGE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(runcore.PAGE_LONGEST_SECONDS, abs=3)
    shore.say(*page(asked, 10))
    assert told(run) == [*range(10)]


def test_after_a_restart_a_page_is_asked_for_again_by_the_same_number() -> None:
    """A daemon drops the second question where it still has the first; and whichever page comes is taken."""
    shore = Shore()
    run = shore.open(write=False, next_index=10, next_seq=10)
    (lost,) = shore.said(m.Replay)
    shore.beacon(epoch=2, next_seq=10)
    (ping,) = shore.said(m.Ping)
    shore.say(m.Pong(ping.id, 2, 10, 10, 0))
    (asked,) = shore.said(m.Replay)
    assert asked == lost
    for _ in range(2):
        shore.say(*page(asked, 10))
    assert told(run) == [*range(10)]


# -- results that nobody takes ----------------------------------------------------------------------------------------


def test_pages_are_asked_for_as_long_as_little_waits_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HELD_BYTES", 300_000)
    shore = Shore()
    run = shore.open(write=False, next_index=1000, next_seq=1000)
    seqs: list[int] = []
    while len(seqs) < 1000:
        while asked := shore.said(m.Replay):
            shore.say(*page(asked[0], 1000, size=9_000))
            assert sum(chunk.nbytes for chunk in run.chunks) < 300_000 + 120_000, "and one page"
        result = run.take()
        assert result is not None, "where nothing waits any more, a page is on its way"
        seqs.append(result.seq)
    assert seqs == [*range(1000)], "in order, and none is missing"


def test_what_is_published_beyond_the_mark_is_dropped_and_asked_for_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "HELD_BYTES", 50_000)
    shore = Shore()
    run = shore.open()
    run.put_many([0] * 100, shore.now)
    shore.heard()
    for seq in range(100):
        head, frames = done(seq, b"x" * 1000)
        shore.publish(head, frames=frames, next_index=100)
    assert run.is_settled, "what they acknowledge is heeded"
    assert sum(chunk.nbytes for chunk in run.chunks) < 60_000
    assert run.open_tasks > 0
    assert not shore.said(m.Replay), "not yet"
    seqs = []
    while (result := run.take()) is not None:
        seqs.append(result.seq)
        assert result.input == (0 if len(seqs) <= 25 else result.index if result._chunk.head.inputs else 0)
        for asked in shore.said(m.Replay):
            shore.say(*page(asked, 100))
    assert seqs == [*range(100)]
    assert run.open_tasks == 0


def test_what_waits_behind_a_gap_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "AHEAD_BYTES", 20_000)
    shore = Shore()
    run = shore.open()
    run.put_many([0] * 100, shore.now)
    shore.heard()
    for seq in range(1, 100):
        head, frames = done(seq, b"x" * 1000)
        shore.publish(head, frames=frames, next_index=100)
    assert sum(len(frame) for _, frames in run._ahead.values() for frame in frames) <= 20_000
    (asked,) = shore.said(m.Replay)
    shore.say(*page(asked, 100))
    (asked,) = shore.said(m.Replay)
    assert asked.since == 20, "what had waited was taken into account"
    shore.say(*page(asked, 100, n=100))
    assert told(run) == [*range(100)]


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_inputs_are_found_whatever_the_order_in_which_tasks_end() -> None:
    kept = OwnInputs()
    for k in range(300):
        kept.add(k, pack_values([k]))
    kept.add(300, pack_values(["another", "layout"]))
    kept.add(302, pack_values([*range(302, 1000)]))
    for low, high in ((299, 301), (5, 250), (0, 1), (900, 1000), (301, 900)):
        rows = [row for table in kept.of(low, high) for row in table.rows()]
        assert rows == [{300: "another", 301: "layout"}.get(k, k) for k in range(low, high)]
        assert kept.cover(low, high)
        kept.on_ended(low, high)
    kept.on_ended(1, 5)
    assert not kept.cover(0, 1), "all of its table have ended"
    kept.on_ended(0, 1000)
    assert len(kept) == 0


def test_inputs_of_tasks_that_were_not_taken_are_dropped() -> None:
    kept = OwnInputs()
    for k in range(100):
        kept.add(k, pack_values([k]))
    kept.drop_from(40)
    assert kept.cover(0, 40)
    assert not kept.cover(0, 41)
    kept.add(40, pack_values([40.5]))
    assert [row for table in kept.of(38, 41) for row in table.rows()] == [38, 39, 40.5]


def test_a_result_costs_the_same_however_many_single_puts_are_outstanding() -> None:
    def seconds(n: int, points: Sequence[Any], tables: int) -> float:
        shore = Shore()
        run = shore.open()
        for k in range(n):
            run.put(points[k % len(points)], shore.now)
            run.on_ack(k + 1, 1, shore.now)
        assert len(run._inputs) <= tables, "they are joined where they are alike"
        events = [done(seq, 1.0) for seq in range(500)]
        began = time.process_time()
        for event in events:
            run.on_event(*event)
        return time.process_time() - began

    few = min(seconds(500, (1.0, "two"), 500) for _ in range(3))
    assert min(seconds(20_000, (1.0, "two"), 20_000) for _ in range(3)) < 5 * few
    assert min(seconds(20_000, (1.0,), 20_000 // 64 + 64) for _ in range(3)) < 5 * few
