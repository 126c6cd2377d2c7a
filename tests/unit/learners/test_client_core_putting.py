"""Putting without sockets: what fits into messages, and what is sent again when, and when not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers.shore import Shore

from taskmaster.bus import messages as m
from taskmaster.bus.errors import InvalidTask, TooLarge
from taskmaster.bus.fields import Field
from taskmaster.bus.table import Layout, Table
from taskmaster.learners import runcore, window

LIMIT = 10_000


def submitted(shore: Shore) -> list[tuple[m.Submit, Table]]:
    """The blocks sent since this was asked last, none of which is larger than the daemon takes."""
    blocks = [(said, frames) for said, frames in shore.heard() if isinstance(said, m.Submit)]
    limit = shore.core.max_message
    assert all(len(frame) <= limit for _, frames in blocks for frame in frames)
    return [
        (said, Table.checked(said.layout, said.n, [bytes(frame) for frame in frames[1:]])) for said, frames in blocks
    ]


# -- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [b"x" * LIMIT, "x" * LIMIT, "ä" * LIMIT, np.zeros(LIMIT // 4), [0.5] * LIMIT, (0.5,) * LIMIT, 1 << (9 * LIMIT)],
    ids=lambda point: type(point).__name__,
)
def test_a_point_that_fits_into_no_message_is_refused_where_it_is_put(point: Any) -> None:
    shore = Shore(max_message=LIMIT)
    run = shore.open()
    with pytest.raises(InvalidTask, match=r"Master 'm'.*bytes is more than the 10,000.*raise max_message"):
        run.put(point, shore.now)
    with pytest.raises(InvalidTask, match=r"more than the 10,000.*point 1 of the block; none of it"):
        run.put_many([1, point, 2], shore.now)
    assert (run.next_index, run.open_tasks, run.is_settled) == (0, 0, True)
    assert run.put("and what follows is not stuck", shore.now) == 0
    ((_, table),) = submitted(shore)
    assert table.rows() == ["and what follows is not stuck"]


@pytest.mark.parametrize("field", [Field("x", "str"), Field("x", "any"), Field("x", shape=(-1,))])
def test_so_is_one_of_declared_parameters(field: Field) -> None:
    shore = Shore(field, Field("y"), max_message=LIMIT)
    run = shore.open()
    large: Any = np.zeros(LIMIT) if field.shape else "x" * LIMIT
    small: Any = np.zeros(3) if field.shape else "x"
    with pytest.raises(InvalidTask, match="more than the 10,000"):
        run.put({"x": large, "y": 1.0}, shore.now)
    with pytest.raises(InvalidTask, match="point 1 of the block"):
        run.put_many([{"x": small, "y": 1.0}, {"x": large, "y": 1.0}], shore.now)
    assert run.put({"x": small, "y": 1.0}, shore.now) == 0


def test_a_block_is_cut_to_what_fits_and_to_no_less() -> None:
    """Rows of very different sizes: an average would not do."""
    shore = Shore(max_message=LIMIT)
    run = shore.open()
    points = [b"x" * size for size in [10] * 500 + [LIMIT - 100] + [4000] * 7 + [10]]
    run.put_many(points, shore.now)
    blocks = submitted(shore)
    assert [row for _, table in blocks for row in table.rows()] == points
    assert [block.first for block, _ in blocks] == [0, *itertools.accumulate(block.n for block, _ in blocks)][:-1]
    assert all(one.nbytes + other.nbytes > LIMIT for (_, one), (_, other) in itertools.pairwise(blocks))
    run = shore.open()
    column = np.arange(20_000.0)
    run.put_many(column, shore.now)
    assert np.concatenate([table.column("") for _, table in submitted(shore)]).tolist() == column.tolist()


def test_gathered_puts_are_sent_in_blocks_that_fit_with_the_asks_that_began_in_each() -> None:
    """Told something before each put, which is noted in the header: that has to fit as well."""
    shore = Shore(max_message=LIMIT)
    run = shore.open()
    for k in range(3000):
        run.told = 10**12 + k
        run.put(b"x" * (k % 50 * 100) if k < 500 else k, shore.now)
        shore.say(m.Ack(1, 1, 1))  # all but the first have to wait
    shore.say(m.Ack(1, run.acknowledged, 1))
    blocks = submitted(shore)
    while not run.is_settled:
        shore.say(m.Ack(1, blocks[-1][0].first + blocks[-1][0].n, 1))
        blocks += submitted(shore)
    asks = [(block.first + ask.offset, ask.after) for block, _ in blocks for ask in block.asks]
    assert asks == [(k, 10**12 + k) for k in range(3000)]
    assert all(ask.offset < block.n for block, _ in blocks for ask in block.asks)


def test_a_question_larger_than_a_message_is_an_error_and_not_asked() -> None:
    shore = Shore(max_message=LIMIT)
    with pytest.raises(TooLarge, match=r"Cancel needs a message of .* takes up to 10,000"):
        shore.core.request(m.Cancel(0, 1, tuple((k, k + 1) for k in range(0, 10**5, 2))), shore.now)
    assert not shore.heard()


def test_the_bytes_gathered_are_bounded() -> None:
    shore = Shore()
    run = shore.open()
    for _ in range(100):
        run.put(b"x" * 1_000_000, shore.now)
    assert run._window.nbytes > 90_000_000, "counted against what may wait, and packed"


# -- what is sent again -----------------------------------------------------------------------------------------------


def test_nothing_is_sent_twice_for_being_slow() -> None:
    """A minute without a word: the daemon is asked where it stands, in few bytes, and that is all."""
    shore = Shore()
    run = shore.open()
    run.put_many(np.zeros(100_000), shore.now)
    assert len(submitted(shore)) == 1
    shore.wait(60)
    heard = shore.heard()
    assert {type(message) for message, _ in heard} == {m.Ping}
    assert len(heard) < 20
    shore.say(m.Ack(1, 100_000, 1))
    assert run.is_settled
    shore.say(m.Pong(heard[0][0].id, 1, 100_000, 0, 1))
    shore.wait(10)
    assert not submitted(shore)


def test_what_was_lost_is_sent_again_once_the_daemon_has_said_where_it_stands() -> None:
    shore = Shore()
    run = shore.open()
    for _ in range(3):
        run.put_many(np.zeros(10), shore.now)
    assert [block.first for block, _ in submitted(shore)] == [0, 10, 20]
    shore.wait(3)
    (ping,) = shore.said(m.Ping)
    run.put_many(np.zeros(10), shore.now)
    assert [block.first for block, _ in submitted(shore)] == [30], "behind the question"
    shore.say(m.Pong(ping.id, 1, 10, 0, 1))
    assert [block.first for block, _ in submitted(shore)] == [10, 20, 30]


def test_what_was_put_behind_the_question_is_not_taken_for_lost() -> None:
    shore = Shore()
    run = shore.open()
    run.put_many(np.zeros(10), shore.now)
    shore.wait(3)
    (ping,) = shore.said(m.Ping)
    run.put_many(np.zeros(10), shore.now)
    shore.heard()
    shore.say(m.Pong(ping.id, 1, 10, 0, 1))
    assert not shore.heard()


def test_a_gap_is_filled_once_however_many_blocks_were_refused_behind_it() -> None:
    """They arrive one by one over a slow line, and each is refused."""
    shore = Shore()
    run = shore.open()
    for _ in range(10):
        run.put_many(np.zeros(10), shore.now)
    shore.heard()
    heard = []
    for first in range(20, 100, 10):
        shore.now += 1.5
        shore.say(m.Refused("gap", "tasks are missing", 0, 1, first, 10, 1))
        heard += shore.messages()
    (ping,) = heard
    shore.say(m.Pong(ping.id, 1, 10, 0, 1))
    assert [block.first for block, _ in submitted(shore)] == [*range(10, 100, 10)]


def test_after_a_restart_what_the_journal_lacks_is_sent_again() -> None:
    shore = Shore()
    run = shore.open()
    for _ in range(3):
        run.put_many(np.zeros(10), shore.now)
    shore.heard()
    shore.beacon(epoch=2, next_seq=0)
    (ping,) = shore.said(m.Ping)
    shore.say(m.Pong(ping.id, 2, 20, 0, 1))
    assert [block.first for block, _ in submitted(shore)] == [20]


def test_a_question_asked_behind_much_that_was_put_waits_for_a_bounded_part_of_it() -> None:
    shore = Shore()
    run = shore.open()
    run.put_many(np.zeros(16 << 20), shore.now)
    sent = submitted(shore)
    assert sum(table.nbytes for _, table in sent) == window.SENT_BYTES
    for _ in range(50):
        block = sent[-1][0]
        shore.say(m.Ack(1, block.first + block.n, 1))
        sent += submitted(shore)
    assert run.is_settled
    assert sum(block.n for block, _ in sent) == 16 << 20


# -- questions that nobody waits for any more -------------------------------------------------------------------------


def test_a_question_is_repeated_until_it_is_withdrawn() -> None:
    shore = Shore()
    request = shore.core.request(m.SetWorkers(0, "m", 0), shore.now)
    shore.wait(10)
    assert 3 <= len(shore.said(m.SetWorkers)) <= 4, "each time after a longer pause"
    shore.wait(5)
    shore.core.withdraw(request)
    shore.wait(30)
    assert not shore.said(m.SetWorkers), "nor is it sent that had not left"
    shore.say(m.Done(request.id))
    assert not request.answered


def test_leaving_a_run_withdraws_what_it_has_asked() -> None:
    shore = Shore()
    run = shore.open(next_index=5, next_seq=5)
    shore.wait(3)
    shore.heard()
    shore.core.forget(run)
    shore.wait(10)
    assert not shore.heard()


def test_what_a_layout_of_no_bytes_weighs_is_no_division_by_zero() -> None:
    shore = Shore(Field("x", shape=(0,)), max_message=LIMIT)
    run = shore.open()
    run.put_many({"x": np.zeros((200_000, 0))}, shore.now)
    assert sum(block.n for block, _ in submitted(shore)) == 200_000
    assert runcore.WINDOW_TASKS > 200_000
    assert isinstance(run.schema.pack_points([]).layout, Layout)
