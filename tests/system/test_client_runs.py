"""Runs as a client sees them, blocking or asyncio: resumed, followed, deleted, cancelled, paused, closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.twins import connect, told_to_both
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import (
    CallerError,
    ConnectionClosed,
    NotAllowed,
    RunClosed,
    TaskCancelled,
    UnknownRun,
)


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "echo": function("echo", workers=2),
        "off": function("echo", workers=0),
    }
    return start_shared_daemon(masters, **tcp())


# -- a run and its readers --------------------------------------------------------------------------------------------


@told_to_both
async def test_a_run_is_resumed_by_its_name(lab: Any, daemon: Daemon) -> None:
    name = f"resumed {time.monotonic()}"
    async with lab["echo"].open(name, seed=3) as run:
        await run.tasks.put_many(["a", "b"])
        assert len([result async for result in run.results]) == 2
    async with lab["echo"].open(name) as run:
        assert (run.next_index, run.seed) == (2, 3)
        assert await run.tasks.put("c") == 2
        told = [result async for result in run.results]
        assert [result.seq for result in told] == [0, 1, 4], "closing and opening it again are events, too"
        assert {result.index: (result.input, result.output) for result in told} == {
            0: ("a", "a"),
            1: ("b", "b"),
            2: ("c", "c"),
        }
    async with lab["echo"].open(name, since="now") as run:
        assert await run.tasks.put("d") == 3
        assert [result.output async for result in run.results] == ["d"]
    with pytest.raises(CallerError, match="'start' or 'now'"):
        await lab["echo"].open(name, since="yesterday")


@told_to_both
async def test_a_reader_follows_to_the_end_whoever_writes(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        await run.tasks.put_many(list(range(100)))
        reader = await lab["echo"].watch(run.name)
        latecomer = await lab["echo"].watch(run.name)
        await run.tasks.put_many(list(range(100, 200)))
        assert len([result async for result in run.results]) == 200
    assert {result.output async for result in reader.results.follow()} == set(range(200))
    assert len([result async for result in latecomer.results]) == 200
    with pytest.raises(RunClosed, match="closed, and all its results were taken"):
        await reader.results.get(timeout=PATIENCE)
    with pytest.raises(RunClosed, match="opened for reading"):
        await reader.tasks.put(1)
    with pytest.raises(RunClosed, match="opened for reading"):
        reader.tasks.put_nowait(1)


async def follow(reader: Any, told: list[Any]) -> None:
    async for result in reader.results.follow():
        told.append(result.output)  # noqa: PERF401 - to be seen although an error ends it


@told_to_both
async def test_followers_of_a_deleted_run_are_told(lab: Any, daemon: Daemon) -> None:
    run = await lab["echo"].open()
    await run.tasks.put(1)
    assert (await run.results.get(PATIENCE)).output == 1
    async with connect["asyncio"](daemon.address) as other:
        there = await other["echo"].watch(run.name)
        here = await lab["echo"].watch(run.name)
        await lab.delete_run(run.number)
        for reader in (here, there):
            told: list[Any] = []
            with pytest.raises(UnknownRun, match=r"run '.*' of Master 'echo' was deleted"):
                await follow(reader, told)
            assert told == [1], "what had been told before is still there"
        with pytest.raises(UnknownRun, match=r"was deleted"):
            await run.results.get(PATIENCE)
        with pytest.raises(UnknownRun, match=r"was deleted"):
            await run.tasks.put(2)
    async with lab["echo"].open(run.name) as again:
        assert (again.next_index, again.number != run.number) == (0, True)


@told_to_both
async def test_a_run_with_open_tasks_is_not_deleted(lab: Any, daemon: Daemon) -> None:
    async with lab["off"].open() as run:
        await run.tasks.put(1)
        await run.flush()
        with pytest.raises(NotAllowed, match="has 1 task without an outcome; cancel it first"):
            await lab.delete_run(run.number)
        await run.cancel()


# -- switches ---------------------------------------------------------------------------------------------------------


@told_to_both
async def test_cancelled_tasks_arrive_as_such(lab: Any, daemon: Daemon) -> None:
    async with lab["off"].open() as run:
        await run.tasks.put_many(list("abcdef"))
        assert await run.cancel([1, 2, 5, 99]) == 3
        assert await run.cancel([]) == 0
        with pytest.raises(CallerError, match=r"the index of a task .* from 0 to .*, not -1"):
            await run.cancel([-1])
        told = [await run.results.get(PATIENCE) for _ in range(3)]
        assert sorted((result.index, result.input) for result in told) == [(1, "b"), (2, "c"), (5, "f")]
        for result in told:
            assert result.outcome == "cancelled"
            assert isinstance(result.error, TaskCancelled)
            with pytest.raises(TaskCancelled, match=f"task {result.index} was cancelled"):
                _ = result.output
        assert await run.cancel() == 3
        assert len([result async for result in run.results]) == 3
        assert await run.cancel() == 0


@told_to_both
async def test_a_paused_run_waits_and_a_paused_master_too(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        for switch in (run, lab["echo"]):
            await switch.pause()
            await run.tasks.put(1)
            with pytest.raises(TimeoutError):
                await run.results.get(timeout=0.1)
            await switch.resume()
            assert (await run.results.get(PATIENCE)).output == 1
        await run.prioritise(5)
        [info] = [info for info in await lab.runs("echo") if info.name == run.name]
        assert (info.priority, info.paused, info.tasks) == (5, False, 2)


@told_to_both
async def test_what_was_closed_says_so(lab: Any, daemon: Daemon) -> None:
    run = await lab["echo"].open()
    await run.tasks.put(1)
    assert (await run.results.get(PATIENCE)).output == 1
    await run.close()
    await run.close()
    with pytest.raises(RunClosed, match="closed here; open it by name to go on"):
        await run.tasks.put(2)
    with pytest.raises(RunClosed, match="closed here"):
        await run.results.get(PATIENCE)
    unfinished = await lab["echo"].open()
    await lab.close()
    await lab.close()
    uses: list[Callable[[], Any]] = [
        lambda: unfinished.tasks.put(1),
        lambda: unfinished.tasks.put_many([1]),
        lambda: unfinished.results.get(1),
        lambda: unfinished.flush(),
        lambda: lab.status(),
        lambda: lab["echo"].map([1]),
    ]
    for use in uses:
        with pytest.raises(ConnectionClosed, match="was closed; connect again"):
            await use()
    with pytest.raises(ConnectionClosed):
        unfinished.tasks.put_nowait(1)
    await unfinished.detach()


@told_to_both
async def test_an_error_leaves_the_run_open_and_everything_that_was_put_is_there(lab: Any, daemon: Daemon) -> None:
    name = f"unlucky {time.monotonic()}"

    async def have_bad_luck() -> None:
        async with lab["off"].open(name) as run:
            for k in range(1000):
                await run.tasks.put(k)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await have_bad_luck()
    [info] = [info for info in await lab.runs("off") if info.name == name]
    assert (info.tasks, info.closed) == (1000, False)
    async with lab["off"].open(name) as again:
        await again.cancel()
