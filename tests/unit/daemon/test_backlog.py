"""What waits, and whose turn it is, is the same as looking at every run would say, and costs no more for many."""

from __future__ import annotations

import random
import time

import pytest
from helpers.heart import Heart, spec

from taskmaster.daemon.backlog import Backlog
from taskmaster.daemon.run import Run


@pytest.mark.parametrize("seed", range(10))
def test_the_next_run_is_the_one_that_looking_at_all_would_find(seed: int) -> None:
    chance = random.Random(seed)
    backlog = Backlog()
    everyone = [Run(number, "svm", str(number), 7, 0.0) for number in range(1, 7)]
    for _ in range(1000):
        run, step = chance.choice(everyone), chance.choice(("queue", "empty", "charge", "prioritise", "pause", "next"))
        was_waiting = run in backlog.runs
        if step == "queue":
            run.queued.add(run.next_index, run.next_index + 3)
            run.next_index += 3
            run.blocks.nbytes += 24
        elif step == "empty":
            run.queued.remove(0, run.next_index)
            run.blocks.nbytes = 0
        elif step == "charge":
            run.virtual_time += chance.randint(-2, 2)
        elif step == "prioritise":
            run.priority = chance.randint(0, 1)
        elif step == "pause":
            run.paused = chance.random() < 0.3
        elif step == "next":
            waiting = [run for run in everyone if run.queued]
            able = [run for run in waiting if not run.paused]
            expected = min(able, key=lambda run: (-run.priority, run.virtual_time, run.id), default=None)
            assert backlog.next() is expected
            assert backlog.tasks == sum(len(run.queued) for run in waiting)
            assert backlog.bytes == sum(run.input_bytes for run in waiting)
            if expected is not None:
                backlog.clock = max(backlog.clock, expected.virtual_time)
                expected.virtual_time += 1
                backlog.note(expected)
            continue
        before = run.virtual_time
        backlog.note(run)
        assert run.virtual_time == (max(before, backlog.clock) if run.queued and not was_waiting else before)


def test_entries_that_are_out_of_date_do_not_pile_up() -> None:
    backlog = Backlog()
    everyone = [Run(number, "svm", str(number), 7, 0.0) for number in range(1, 11)]
    for run in everyone:
        run.queued.add(0, 10)
        backlog.note(run)
    for turn in range(5000):
        run = everyone[turn % 9 + 1]
        run.virtual_time = 1e6 - turn  # less each time: what was put in before lies too deep to come up
        backlog.note(run)
        assert backlog.next() is everyone[0]
    assert len(backlog._heap) < 200


def test_a_put_and_a_lease_cost_the_same_however_many_runs_wait() -> None:
    def seconds(n: int) -> float:
        heart = Heart(spec())
        for number in range(n):
            heart.open(name=str(number)).put(1, 2)
        hand = heart.hand()
        last = heart.open(name=str(n - 1))
        began = time.process_time()
        for _ in range(100):
            last.put(3)
            hand.report(hand.assignments.pop(0))
        return time.process_time() - began

    few = min(seconds(30) for _ in range(3))
    assert seconds(3000) < 4 * few, "a hundred times the runs"
