"""Subscribers that are slow, stopped, deaf or late cost the daemon bounded memory and nobody else anything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.raw import RawPeer
from helpers.subscriber import Subscriber, summary
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import messages as m
from taskmaster.learners.client import Lab, Run

#: More than all queues of a daemon may take together.
VOLUME = 160 << 20
#: What a stopped subscriber may cost at most, see `daemon/publishing.py`; and what all the rest may.
QUEUE, REST = 32 << 20, 24 << 20
LINE = "x" * 8000


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_daemon({"echo": function("echo", workers=2), "wordy": function("complain")}, **tcp())


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def run(lab: Lab) -> Run:
    return lab["echo"].open("talk")


def put_and_take(run: Run, volume: int) -> None:
    """Have so many bytes of results published, at the pace at which this client takes them."""
    for _ in range(0, volume, 100 * len(LINE)):
        run.tasks.put_many([LINE] * 100)
        for _ in range(100):
            assert run.results.get(PATIENCE).output == LINE


def test_a_stopped_subscriber_costs_bounded_memory_and_catches_up_by_replay(daemon: Daemon, run: Run) -> None:
    with ExitStack() as stack:
        stopped = Subscriber(daemon.address, "echo", "talk")
        stack.callback(stopped.close)
        put_and_take(run, 1 << 20)
        stopped.await_following()
        stopped.process.send_signal(signal.SIGSTOP)
        before = daemon.memory
        put_and_take(run, VOLUME)
        assert daemon.memory - before < QUEUE + REST
        stopped.process.send_signal(signal.SIGCONT)
        run.close()
        with run.master.lab["echo"].watch("talk") as again:
            assert stopped.summary() == summary(again.results.follow())


def test_deaf_subscribers_are_dropped_for_and_others_keep_pace(daemon: Daemon, lab: Lab, run: Run) -> None:
    assert lab._core.described is not None
    with zmq.Context() as context, ExitStack() as stack:
        for _ in range(3):
            deaf = stack.enter_context(context.socket(zmq.SUB))
            deaf.setsockopt(zmq.RCVHWM, 1)
            deaf.setsockopt(zmq.SUBSCRIBE, b"")
            deaf.connect(lab._core.described.results)
        before = daemon.memory
        put_and_take(run, VOLUME)
        assert daemon.memory - before < 3 * QUEUE + REST


def test_whoever_asks_for_pages_and_reads_none_costs_a_page_or_two(daemon: Daemon, lab: Lab, run: Run) -> None:
    put_and_take(run, 12 << 20)
    with RawPeer(daemon.address, rcvhwm=1) as deaf:
        before = daemon.memory
        for k in range(300):  # of half a megabyte each
            deaf.say(m.Replay(k + 1, run._core.id, 0, inputs=True))
        lab.ask(m.Ping(0), timeout=PATIENCE)
        eventually(lambda: daemon.memory - before < 8 << 20, "the daemon to keep no pages")
        put_and_take(run, 1 << 20)
        assert daemon.memory - before < 8 << 20


def test_results_of_tasks_that_fail_wordily_reach_everybody(daemon: Daemon) -> None:
    """Their tracebacks are more than a message's header may hold."""
    n = 8000
    with daemon.connect() as lab:
        run = lab["wordy"].open("complaints")
        run.tasks.put_many(list(range(n)))
        told = {result.index: str(result.error) for result in run.results}
        assert len(told) == n
        with lab["wordy"].watch("complaints") as late:
            again: dict[int, str] = {}
            while len(again) < n:
                result = late.results.get(PATIENCE)
                again[result.index] = str(result.error)
        assert again == told
        assert lab.status().dropped == 0


def test_a_subscriber_that_was_stopped_while_the_daemon_was_killed_catches_up_with_the_next(
    daemon: Daemon, run: Run
) -> None:
    with ExitStack() as stack:
        stopped = Subscriber(daemon.address, "echo", "talk")
        stack.callback(stopped.close)
        put_and_take(run, 1 << 20)
        stopped.await_following()
        stopped.process.send_signal(signal.SIGSTOP)
        put_and_take(run, 1 << 20)
        daemon.restart()
        put_and_take(run, 1 << 20)
        run.close()
        stopped.process.send_signal(signal.SIGCONT)
        with daemon.connect() as lab, lab["echo"].watch("talk") as again:
            assert stopped.summary() == summary(again.results.follow())


def test_whoever_comes_late_is_told_everything_and_whoever_comes_now_what_is_new(lab: Lab, daemon: Daemon) -> None:
    with lab["echo"].open("early") as run:
        run.tasks.put_many(list(range(1000)))
        assert len(list(run.results)) == 1000
        with daemon.connect() as other:
            late = other["echo"].watch("early")
            new = daemon.connect()["echo"].watch("early", since="now")
            run.tasks.put("more")
            assert [result.seq for result in (late.results.get(PATIENCE) for _ in range(1001))] == list(range(1001))
            assert new.results.get(PATIENCE).output == "more"
            new.master.lab.close()


def test_subscribers_that_come_and_go_leave_nothing_behind(lab: Lab, daemon: Daemon, run: Run) -> None:
    for _ in range(20):
        with daemon.connect() as other, other["echo"].watch("talk"):
            pass
    before = daemon.descriptors
    for _ in range(20):
        with daemon.connect() as other, other["echo"].watch("talk"):
            pass
    few = 5  # of the daemon's own, that it had not opened yet
    eventually(lambda: daemon.descriptors <= before + few, "the connections of those who left to be closed")
