"""What a worker that evaluates many tasks together is given: whole batches, of whatever runs, and the next ahead."""

from __future__ import annotations

from dataclasses import replace

from helpers.heart import Hand, Heart, spec

from taskmaster.bus import messages as m
from taskmaster.bus.status import DeviceStatus
from taskmaster.daemon.roster import BATCHES_IN_HAND

BATCH, SHARES, SLOTS = 100, 3, 1024


def gatherer(heart: Heart) -> Hand:
    """A worker that says so when it is set up."""
    hand = Hand(heart, "svm", SLOTS)
    heart.core.workforce.hired(hand.token)
    hand.hello()
    hand.session += 1
    version = m.PROTOCOL_VERSION
    hand.say(
        m.WorkerHello(version, "svm", hand.token, hand.session, SLOTS, hand.number, batch=BATCH, shares=SHARES),
    )
    hand.say(m.Ready())
    return hand


def sizes(hand: Hand) -> list[int]:
    return [len(at.indices) for at in hand.assignments]


def test_a_run_of_many_tasks_is_given_in_batches_though_nothing_is_known_of_their_time() -> None:
    heart = Heart(spec())
    hand, run = gatherer(heart), heart.open()
    run.put(*range(5000))
    assert sizes(hand) == [BATCH] * SHARES, "one that is evaluated, and what is copied in and out beside it"
    assert sum(sizes(hand)) == BATCHES_IN_HAND * BATCH
    hand.report(hand.assignments[0], seconds=0.01)
    assert sum(sizes(hand)[1:]) >= BATCHES_IN_HAND * BATCH, "and the next as soon as one has ended"


def test_of_many_runs_with_a_task_each_all_are_given_that_fit_into_the_next_batches() -> None:
    heart = Heart(spec())
    hand = gatherer(heart)
    runs = [heart.open(name=f"run-{k}") for k in range(400)]
    for run in runs:
        run.put(1.0)
    assert sizes(hand) == [1] * BATCHES_IN_HAND * BATCH
    assert len({at.message.run for at in hand.assignments}) == len(hand.assignments)


def test_workers_alike_share_what_is_less_than_their_batches() -> None:
    heart = Heart(spec())
    one, other, run = gatherer(heart), gatherer(heart), heart.open()
    run.put(*range(90))
    assert sum(sizes(one)) + sum(sizes(other)) == 90
    assert abs(sum(sizes(one)) - sum(sizes(other))) < 30


def test_batches_are_as_large_as_the_device_says_that_they_are() -> None:
    heart = Heart(spec())
    hand, run = gatherer(heart), heart.open()
    hand.say(m.Heartbeat(device=DeviceStatus("H200", batch=4 * BATCH)))
    run.put(*range(5000))
    assert sizes(hand) == [4 * BATCH] * SHARES
    assert heart.statistics().workers[0].device == DeviceStatus("H200", batch=4 * BATCH)


def test_a_process_that_is_to_be_replaced_gets_no_batch_beyond_that() -> None:
    heart = Heart(replace(spec(), largest_chunk=7))
    hand, run = gatherer(heart), heart.open()
    run.put(*range(5000))
    assert set(sizes(hand)) == {7}
