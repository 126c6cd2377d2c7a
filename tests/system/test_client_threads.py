"""The blocking client among threads, signals, forks and the garbage collector."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import ConnectionClosed, RunClosed
from taskmaster.learners import channel
from taskmaster.learners.client import Lab, Run


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"echo": function("echo", workers=2), "off": function("echo", workers=0)})


@pytest.fixture
def lab(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A connection that is not looked after every second: who misses being woken waits in vain."""
    monkeypatch.setattr(channel, "TICK_SECONDS", 2 * PATIENCE)
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def run(lab: Lab) -> Run:
    return lab["echo"].open()


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Have each done in a thread of its own; their results. Raises what one of them raises."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result(2 * PATIENCE) for future in [threads.submit(work) for work in works]]


# -- putting and taking in different threads --------------------------------------------------------------------------


def test_several_threads_put_and_several_take_and_each_task_is_put_and_taken_once(run: Run) -> None:
    indices: dict[int, Any] = {}
    taken: dict[int, Any] = {}

    def put(who: int) -> None:
        for k in range(1000):
            indices[run.tasks.put((who, k)) if k % 10 else run.tasks.put_many([(who, k)])[0]] = (who, k)

    def take() -> None:
        while len(taken) < 4000:
            try:
                result = run.results.get(timeout=0.1)
            except TimeoutError:
                continue
            assert result.index not in taken
            taken[result.index] = result.output

    at_once(*(lambda who=who: put(who) for who in range(4)), take, take)
    assert sorted(indices) == list(range(4000))
    assert taken == indices


def test_threads_that_iterate_share_the_results(run: Run) -> None:
    run.tasks.put_many(list(range(50_000)))
    parts = at_once(*[lambda: [result.index for result in run.results]] * 3)
    assert sorted(index for part in parts for index in part) == list(range(50_000))


@pytest.mark.parametrize("sends", [False, True])
def test_whoever_waits_is_woken_whatever_another_thread_does_meanwhile(lab: Lab, run: Run, *, sends: bool) -> None:
    """One thread waits on the sockets for its result while another uses them, and so takes that in."""
    busy = lab["off"].open()
    done = threading.Event()

    def meddle() -> None:
        while not done.is_set():
            for _ in range(100):
                busy.results.get_nowait()
            if sends:
                busy.tasks.put("x")
                busy.flush()

    def play() -> None:
        try:
            for k in range(1000):
                run.tasks.put(k)
                began = time.monotonic()
                assert run.results.get(PATIENCE).output == k
                assert time.monotonic() - began < PATIENCE / 2, "it was not woken, and looked when its time was over"
        finally:
            done.set()

    at_once(play, meddle)
    busy.cancel()


def test_two_who_wait_are_both_told(lab: Lab, run: Run) -> None:
    """Only one of them can listen; the other is passed what it waits for, then the listening."""
    other = lab["echo"].open()

    def play(mine: Run) -> None:
        for k in range(300):
            mine.tasks.put(k)
            assert mine.results.get(PATIENCE).output == k

    at_once(lambda: play(run), lambda: play(other), lambda: lab["echo"].map(range(1000)))


def test_what_was_gathered_is_sent_though_nobody_waits(lab: Lab, daemon: Daemon, run: Run) -> None:
    for k in range(100):
        run.tasks.put(k)
    with daemon.connect() as other:
        reader = other["echo"].watch(run.name)
        assert sorted(reader.results.get(PATIENCE).output for _ in range(100)) == list(range(100))


# -- closing, elsewhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("close", "error"), [("run", RunClosed), ("lab", ConnectionClosed)])
def test_who_waits_hears_that_another_thread_has_closed(lab: Lab, run: Run, close: str, error: type[Exception]) -> None:
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        with pytest.raises(error):
            run.results.get(PATIENCE)

    def end() -> None:
        assert waits.wait(PATIENCE)
        eventually(lambda: run._channel._leader not in (None, run._channel._keeper.ident), "somebody to wait")
        (run if close == "run" else lab).close()

    at_once(wait, end)


def test_ctrl_c_interrupts_waiting_and_loses_nothing(run: Run) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)  # the test needs the default handler and its own timing only
    for k in range(20):
        timer = threading.Timer(0.002 * (k % 3), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                run.results.get(timeout=PATIENCE)
        except KeyboardInterrupt:
            timer.join()
        run.tasks.put(k)
        assert run.results.get(PATIENCE).output == k


# -- fork -------------------------------------------------------------------------------------------------------------

FORKS = """
import os, sys, threading
from taskmaster.bus.errors import ConnectionClosed
from taskmaster.learners import connect

lab = connect(sys.argv[1])
run = lab["echo"].open()
done = threading.Event()

def work():
    while not done.is_set():
        lab["echo"].map(range(100))

thread = threading.Thread(target=work)
thread.start()
for _ in range(30):
    child = os.fork()
    if not child:
        status = 1
        try:
            run.tasks.put(1)
        except ConnectionClosed as error:
            status = 0 if "the process that this one was forked from; connect again" in str(error) else 2
        with connect(sys.argv[1]) as own:
            status += own["echo"].map([7]) != [7]
        lab.close()
        sys.exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set()
thread.join()
assert lab["echo"].map([1]) == [1]
lab.close()
print("well")
"""


def test_a_forked_child_is_told_to_connect_by_itself_and_does_no_harm(daemon: Daemon) -> None:
    program = [sys.executable, "-W", "ignore", "-c", FORKS, daemon.address]
    done = subprocess.run(program, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


# -- nobody closes ----------------------------------------------------------------------------------------------------


def test_a_connection_that_is_forgotten_leaves_nothing_behind(daemon: Daemon) -> None:
    def use() -> None:
        lab = daemon.connect()
        assert lab["echo"].map([1]) == [1]
        run = lab["echo"].open()
        run.tasks.put(1)
        assert run.results.get(PATIENCE).output == 1

    use()
    gc.collect()
    eventually(
        lambda: "taskmaster-keeper" not in {thread.name for thread in threading.enumerate()}, "its thread to end"
    )
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        use()
    gc.collect()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, "its descriptors to be closed")


def test_a_program_that_does_not_close_ends_all_the_same(daemon: Daemon) -> None:
    program = (
        f"from taskmaster.learners import connect; run = connect({daemon.address!r})['echo'].open(); run.tasks.put(1)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
