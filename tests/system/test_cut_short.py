"""What ends in the midst of things: runs, iterations, loops, connections. Who waits is told, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.twins import connect, told_to_both
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, ConnectionClosed, DaemonUnreachable, Fenced, InvalidTask, UnknownRun
from taskmaster.learners import Loop, client
from taskmaster.learners.client import Lab
from taskmaster.learners.names import fresh_name
from taskmaster.learners.results import Result
from taskmaster.learners.workmaster import WorkMaster

SECONDS = {"parameters": {"seconds": {"min": 0, "max": 10}}}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "echo": function("echo", workers=2),
        "off": function("echo", workers=0),
        "wait": function("wait", workers=2, **SECONDS),
        "small": function("wait", workers=1, max_queued_tasks=4, **SECONDS),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


# -- iterations -------------------------------------------------------------------------------------------------------


@told_to_both
async def test_results_of_tasks_that_were_not_taken_are_not_waited_for_in_silence(lab: Any, daemon: Daemon) -> None:
    run = await lab["off"].open("fenced")
    with daemon.connect() as other:
        other["off"].open("fenced").detach()
        await run.tasks.put_many([1, 2, 3])
        with pytest.raises(Fenced):
            async for _ in run.results:
                pass
        with pytest.raises(Fenced):  # and however often it is tried
            async for _ in run.results:
                pass


@told_to_both
async def test_nor_are_those_of_a_run_that_was_deleted(lab: Any, daemon: Daemon) -> None:
    run = await lab["off"].open("deleted")
    with daemon.connect() as other:
        other.delete_run(run.number)
    await run.tasks.put_many([1, 2, 3])
    with pytest.raises(UnknownRun):
        async for _ in run.results:
            pass


def test_an_iteration_that_is_cancelled_loses_nothing(daemon: Daemon) -> None:
    """It gives others a turn now and then; cancelled there, too, it has taken nothing."""
    n, seen = 5000, []

    async def story() -> None:
        async with connect["asyncio"](daemon.address, PATIENCE) as lab, lab["echo"].open() as run:
            await run.tasks.put_many(list(range(n)))

            async def eat() -> None:
                async for result in run.results:
                    seen.append(result.index)  # noqa: PERF401 - what came before it is cancelled counts

            while len(seen) < n:
                eating = asyncio.ensure_future(eat())
                await asyncio.sleep(0)
                eating.cancel()
                await asyncio.wait([eating])

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))
    assert sorted(seen) == list(range(n))


def test_a_reader_follows_to_the_end_however_late_it_hears_of_tasks(daemon: Daemon, lab: Lab) -> None:
    """Of tasks put and a run closed while the reader was cut off it hears by a page: it is not over before they end."""
    run = lab["wait"].open("followed")
    with daemon.connect() as other, other["wait"].watch("followed") as reader:
        core = other._core
        heard, core.on_publication = core.on_publication, lambda frames, now: None  # type: ignore[method-assign]
        run.tasks.put_many([{"seconds": 0.5}, {"seconds": 1.0}])
        run.close()
        core.on_publication = heard  # type: ignore[method-assign]
        assert sorted(result.index for result in reader.results.follow()) == [0, 1]


# -- connections ------------------------------------------------------------------------------------------------------


def test_all_runs_of_a_client_are_told_of_again_after_a_restart(start_daemon: StartDaemon) -> None:
    """Their subscriptions leave in one go; ZeroMQ would drop those beyond its mark."""
    daemon, n = start_daemon({"echo": function("echo")}), 700
    with daemon.connect() as lab:
        runs = [lab["echo"].open(f"r{k}") for k in range(n)]
        daemon.restart()
        for run in runs:
            run.tasks.put(1)
        assert [run.results.get(PATIENCE).output for run in runs] == [1] * n


@pytest.mark.parametrize("twin", connect)
def test_results_may_be_published_elsewhere_after_a_restart(start_daemon: StartDaemon, twin: str) -> None:
    daemon = start_daemon({"echo": function("echo")}, **{**tcp(), "results": "tcp://127.0.0.1:0"})

    async def story() -> None:
        async with connect[twin](daemon.address, PATIENCE) as lab, lab["echo"].open() as run:
            before = lab._core.results_address
            for k in range(3):
                await run.tasks.put(k)
                assert (await run.results.get(PATIENCE)).output == k
                if k == 0:
                    daemon.restart()
            assert lab._core.results_address != before

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))


def test_a_master_used_by_several_threads_at_first_has_one_run_of_its_own(lab: Lab) -> None:
    for _ in range(20):
        master = lab["echo"]
        together = threading.Barrier(4)

        def use(_: int, master: client.Master = master, together: threading.Barrier = together) -> int:
            together.wait()
            return master.run.number

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(use, range(4)))) == 1


def test_who_has_a_channel_has_the_connection(daemon: Daemon) -> None:
    results = client.connect(daemon.address)["echo"].results
    tasks = client.connect(daemon.address)["echo"].tasks
    tasks.put(2)
    with pytest.raises(TimeoutError):
        results.get(0.01)


def test_closing_while_many_wait_tells_all_of_them(daemon: Daemon) -> None:
    for _ in range(10):
        lab = daemon.connect()
        run = lab["off"].open("awaited")
        told: list[BaseException] = []

        def wait(run: client.Run = run, told: list[BaseException] = told) -> None:
            with pytest.raises(ConnectionClosed) as caught:
                run.results.get(PATIENCE)
            told.append(caught.value)

        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(wait) for _ in range(20)]
            sleepers = lab._channel._sleepers
            eventually(lambda sleepers=sleepers: len(sleepers) > 10, "many to wait")  # type: ignore[misc]
            lab.close()
            for each in waiting:
                each.result(PATIENCE)
        assert len(told) == 20


def test_waking_who_does_not_wait_never_waits(daemon: Daemon) -> None:
    """It is done with the lock held; and what wakes a thread is a socket, which takes in only so much."""
    with daemon.connect() as lab, lab._channel.lock:
        for _ in range(20_000):
            lab._channel.notify()


def test_a_signal_handler_may_close(daemon: Daemon) -> None:
    lab = daemon.connect()
    run = lab["off"].open("awaited")
    before = signal.signal(signal.SIGUSR1, lambda *_: lab.close())
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(ConnectionClosed):
            run.results.get(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_full_daemon_is_asked_again_when_there_may_be_room(lab: Lab) -> None:
    """And not only when the client looks after things, once a second."""
    run = lab["small"].open()
    began = time.monotonic()
    for _ in range(40):
        run.tasks.put({"seconds": 0.01})
    assert sum(1 for _ in run.results) == 40
    assert time.monotonic() - began < 5


@told_to_both
async def test_after_a_long_silence_an_answer_is_given_time(lab: Any, daemon: Daemon) -> None:
    core = lab._core
    core.last_heard -= 60
    core.on_tick(core.last_heard + 60)
    core.describe(core.last_heard + 60)
    core.on_tick(core.last_heard + 61)
    assert not core._said_away


def test_waiting_without_end_may_be_written_as_infinity(daemon: Daemon) -> None:
    with client.connect(daemon.address, patience=float("inf")) as lab:
        assert lab.patience is None
        assert lab.status().name


def test_no_two_names_are_alike() -> None:
    names = [fresh_name() for _ in range(100_000)]
    assert len(set(names)) == len(names)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, fresh_name().encode())
        os._exit(0)
    os.wait()
    assert os.read(reader, 100).decode().split("-")[2] != fresh_name().split("-")[2]
    os.close(reader)
    os.close(writer)


# -- loops ------------------------------------------------------------------------------------------------------------


class Counting:
    """What it asks says how much it had been told and asked before."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.asked = 0

    def ask(self, n: int) -> list[Any]:
        points = []
        for _ in range(n):
            self.asked += 1
            points.append({"seconds": 0.01 + (1000 * len(self.told) + self.asked) * 1e-6})
        return points

    def tell(self, point: Any, output: Any) -> None:
        self.told.append(point)


def test_an_interrupted_loop_asks_what_it_would_have_asked(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def interrupt(loop: Loop, result: Result) -> None:
        if loop.told == 8 and not loop.interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    loop = Loop(lab["wait"], Counting(), goal=20, in_flight=4, name="interrupted", hook=interrupt)
    loop.run()
    assert loop.told == 11
    loop.run().detach()
    with caplog.at_level(logging.WARNING, "taskmaster"):
        again = Loop(lab["wait"], Counting(), goal=24, name="interrupted")
        again.run().close()
    assert "the learner now asks" not in caplog.text
    assert again.learner.told[:20] == loop.learner.told  # type: ignore[attr-defined]
    assert again.told == 24


def test_points_that_were_asked_with_one_that_is_refused_are_put_later(lab: Lab) -> None:
    points = [{"seconds": 0.001}, {"seconds": 0.002}, {"seconds": 50.0}, {"seconds": 0.004}]

    class Given(Counting):
        def ask(self, n: int) -> list[Any]:
            asked, self.asked = points[self.asked : self.asked + n], self.asked + n
            return asked

        def done(self) -> bool:
            return len(self.told) == len(points)

    loop = Loop(lab["wait"], Given(), in_flight=4)
    with pytest.raises(InvalidTask):
        loop.run()
    points[2]["seconds"] = 0.003
    loop.run().close()
    assert sorted(point["seconds"] for point in loop.learner.told) == [0.001, 0.002, 0.003, 0.004]  # type: ignore[attr-defined]


def test_a_learner_that_could_not_take_a_result_gets_it_again(lab: Lab) -> None:
    class Busy(Counting):
        def tell(self, point: Any, output: Any) -> None:
            if len(self.told) == 3 and self.asked < 1000:
                self.asked = 1000
                raise OSError("no room for it just now")
            super().tell(point, output)

    loop = Loop(lab["wait"], Busy(), goal=6, in_flight=2)
    with pytest.raises(OSError, match="no room"):
        loop.run()
    loop.run().close()
    assert len({point["seconds"] for point in loop.learner.told}) == loop.told == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize("keys", [{"goal": 5.5}, {"goal": "5"}, {"in_flight": 2.5}, {"retries": -1}])
def test_numbers_that_are_none_are_refused_at_once(lab: Lab, keys: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match=r"must be a whole number|a goal is a number of points, .*, not '5'"):
        Loop(lab["wait"], Counting(), **keys)


# -- WorkMaster -------------------------------------------------------------------------------------------------------


def test_a_workmaster_whose_daemon_was_killed_keeps_nobody_waiting() -> None:
    def map_much() -> None:
        with WorkMaster(time.sleep) as master:
            threading.Timer(0.3, os.kill, (master._process.pid, signal.SIGKILL)).start()
            master.map([0.1] * 1000)

    with pytest.raises(
        DaemonUnreachable, match=r"the daemon of this WorkMaster \(process \d+\) was killed by signal 9"
    ):
        map_much()


def test_a_workmaster_lives_as_long_as_anything_of_it() -> None:
    def channels() -> tuple[client.Tasks, client.Results]:
        master = WorkMaster(abs)
        return master.tasks, master.results

    tasks, results = channels()
    gc.collect()
    tasks.put(-4)
    assert results.get(PATIENCE).output == 4
    assert sorted(result.output for result in WorkMaster(abs).imap_unordered([-1, -2])) == [1, 2]


def test_workers_captured_by_several_threads_are_all_counted() -> None:
    with WorkMaster(abs, workers=1) as master:
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(lambda _: master.capture(), range(4)))
        assert sorted(counts) == [2, 3, 4, 5]
