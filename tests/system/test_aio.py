"""The asyncio client among other tasks: cancellation, fairness, many at once."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import CallerError, ConnectionClosed, DaemonUnreachable, RunClosed
from taskmaster.learners import aio, runcore


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"echo": function("echo", workers=2), "off": function("echo", workers=0)})


def play(daemon: Daemon, story: Callable[[aio.Lab], Coroutine[Any, Any, None]]) -> None:
    """Tell ``story`` in an event loop of its own."""

    async def tell() -> None:
        async with aio.connect(daemon.address, PATIENCE) as lab:
            await asyncio.wait_for(story(lab), 2 * PATIENCE)

    asyncio.run(tell())


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_getting_can_be_cancelled_at_any_moment_without_losing_a_result(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        chance = random.Random(4)
        async with lab["echo"].open() as run:
            told: list[int] = []
            for k in range(400):
                await run.tasks.put(k)
                getting = asyncio.create_task(run.results.get())
                for _ in range(chance.randrange(10)):
                    await asyncio.sleep(chance.choice((0, 0, 0.0003)))
                if not k % 50:  # on a busy machine none would be there in time
                    await asyncio.wait([getting])
                getting.cancel()
                try:
                    told.append((await getting).index)
                except asyncio.CancelledError:
                    continue
            assert told, "sometimes the result was faster"
            assert len(told) < 400, "and sometimes not"
            told += [result.index async for result in run.results]
        assert sorted(told) == list(range(400))

    play(daemon, story)


def test_a_timeout_around_it_loses_nothing_either(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        async with lab["echo"].open() as run:
            told = 0
            for k in range(100):
                await run.tasks.put(k)
                try:
                    async with asyncio.timeout(0.0001 * (k % 10)):
                        await run.results.get()
                        told += 1
                except TimeoutError:
                    continue
            assert told + len([result async for result in run.results]) == 100

    play(daemon, story)


def test_what_a_cancelled_put_would_have_put_was_not_put(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: aio.Lab) -> None:
        run = await lab["off"].open()
        monkeypatch.setattr(runcore, "WINDOW_TASKS", 3)
        daemon.signal(signal.SIGSTOP)
        try:
            putting = [asyncio.create_task(run.tasks.put(k)) for k in range(6)]
            await asyncio.wait(putting[:3])
            putting[3].cancel()
            putting[5].cancel()
            await asyncio.wait([putting[3], putting[5]])
        finally:
            daemon.signal(signal.SIGCONT)
        assert [await putting[k] for k in (0, 1, 2, 4)] == [0, 1, 2, 3]
        await run.cancel()
        assert {result.index: result.input async for result in run.results} == {0: 0, 1: 1, 2: 2, 3: 4}
        await run.close()

    play(daemon, story)


def test_a_map_that_is_cancelled_leaves_nothing_to_do(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        mapping = asyncio.create_task(lab["off"].map(range(100)))
        while not (runs := await lab.runs("off")) or runs[-1].tasks < 100:
            await asyncio.sleep(0)
        mapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mapping
        async with lab["off"].watch(runs[-1].name) as reader:
            assert [result.outcome async for result in reader.results.follow()] == ["cancelled"] * 100

    play(daemon, story)


# -- many at once -----------------------------------------------------------------------------------------------------


def test_hundreds_of_tasks_share_a_connection(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        threads = threading.active_count()

        async def one(k: int) -> None:
            assert await lab["echo"].map([k, k + 1]) == [k, k + 1]

        await asyncio.gather(*map(one, range(200)))
        assert threading.active_count() == threads, "no thread besides"

    play(daemon, story)


def test_some_put_and_some_take(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        async with lab["echo"].open() as run:
            taken: list[int] = []

            async def put() -> None:
                for k in range(500):
                    await run.tasks.put(k)

            async def take() -> None:
                while len(taken) < 2000:
                    try:
                        taken.append((await run.results.get(timeout=0.2)).index)
                    except TimeoutError:
                        continue

            await asyncio.gather(put(), put(), put(), put(), take(), take())
            assert sorted(taken) == list(range(2000))

    play(daemon, story)


def test_putting_and_taking_much_leaves_others_their_turn(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        ticking = asyncio.create_task(tick())
        async with lab["echo"].open() as run:
            for k in range(50_000):
                await run.tasks.put(k)
            while_putting = turns
            assert while_putting > 100
            await asyncio.sleep(0)
            async for _ in run.results:
                pass
            assert turns - while_putting > 20
        ticking.cancel()

    play(daemon, story)


# -- closing ----------------------------------------------------------------------------------------------------------


def test_who_waits_hears_that_another_task_has_closed(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        for close, error in (("run", RunClosed), ("lab", ConnectionClosed)):
            run = await lab["off"].open()
            waiting = [asyncio.create_task(run.results.get()) for _ in range(3)]
            await asyncio.sleep(0)
            await (run if close == "run" else lab).close()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, error)

    play(daemon, story)


def test_a_connection_belongs_to_its_event_loop(daemon: Daemon) -> None:
    loop = asyncio.new_event_loop()
    lab = loop.run_until_complete(aio.connect(daemon.address))
    run = loop.run_until_complete(lab["echo"].open())

    async def elsewhere() -> None:
        with pytest.raises(CallerError, match="belongs to another event loop"):
            await run.tasks.put(1)
        with pytest.raises(CallerError, match="belongs to another event loop"):
            await run.results.get()
        with pytest.raises(CallerError, match="belongs to another event loop"):
            await lab.status()

    asyncio.run(elsewhere())
    with pytest.raises(CallerError, match="belongs to another event loop"):
        run.tasks.put_nowait(1)
    assert loop.run_until_complete(lab["echo"].map([1])) == [1]
    loop.run_until_complete(lab.close())
    loop.close()


def test_nobody_answers_where_no_daemon_is(daemon: Daemon) -> None:
    async def story(lab: aio.Lab) -> None:
        with pytest.raises(DaemonUnreachable, match="is it running"):
            await aio.connect(daemon.address + "-not", timeout=0.05)

    play(daemon, story)


def test_connections_that_are_forgotten_leave_nothing_behind(daemon: Daemon) -> None:
    async def use() -> None:
        lab = await aio.connect(daemon.address)
        assert await lab["echo"].map([1]) == [1]

    async def forget() -> None:
        await use()
        gc.collect()
        await asyncio.sleep(0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await use()
        gc.collect()
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= before

    asyncio.run(forget())
    asyncio.run(use())
    gc.collect()
