"""What a client, blocking or asyncio, is told of what cannot be, and when."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.twins import connect, told_to_both
from helpers.waiting import PATIENCE

from taskmaster.bus.errors import (
    CallerError,
    Conflict,
    InvalidTask,
    TaskFailed,
    UnknownMaster,
    UnknownRun,
)


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "echo": function("echo", workers=2),
        "square": function(
            "square_or_raise", workers=2, parameters={"x": {"min": -2e6, "max": 2e6}}, outputs={"y": {}}
        ),
        "plane": function("plane", parameters={"x": {"min": 0, "max": 1}, "y": {}}, outputs={"z": {}}),
    }
    return start_shared_daemon(masters, **tcp())


@told_to_both
async def test_a_point_that_the_master_does_not_take_is_refused_whole(lab: Any, daemon: Daemon) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"x": 1.5, "y": 0}, r"'plane'.*'x'.*1\.5"),
        ({"x": 1}, r"'plane'.*'y' is missing"),
        ({"x": 0, "y": 0, "zz": 0}, r"'plane'.*'zz' is unknown.*'x'"),
        ({"x": "a", "y": 0}, r"'plane'.*'x'.*'a'"),
        ({"x": float("nan"), "y": 0}, r"'plane'.*'x'.*NaN is not allowed"),
        (3.0, r"'plane'.*a point must be a dict"),
    ]
    async with lab["plane"].open() as run:
        for point, message in wrong:
            with pytest.raises(InvalidTask, match=message):
                await run.tasks.put(point)
            with pytest.raises(InvalidTask, match=message):
                await run.tasks.put_many([{"x": 0, "y": 0}, point])
        with pytest.raises(InvalidTask, match=r"'plane'.*shape \(n, 2\)"):
            await run.tasks.put_many(np.zeros((3, 3)))
        with pytest.raises(InvalidTask, match=r"'plane'.*'x'.*2"):
            await run.tasks.put_many(np.full((3, 2), 2.0))
        assert run.next_index == 0
        assert await run.tasks.put({"x": 0, "y": 1}) == 0
        assert [result.index async for result in run.results] == [0]


@told_to_both
async def test_what_cannot_travel_is_refused_where_it_is_put(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        await run.tasks.put("before")
        for impossible in (object(), {1, 2}, [{"a": print}], "\ud800", np.array([object()])):
            with pytest.raises(InvalidTask, match=r"Master 'echo'.*cannot travel"):
                await run.tasks.put(impossible)
            with pytest.raises(InvalidTask, match=r"Master 'echo'.*cannot travel.*none of the block was queued"):
                await run.tasks.put_many(["good", impossible])
        assert await run.tasks.put("after") == 1
        assert {result.output async for result in run.results} == {"before", "after"}


@told_to_both
async def test_a_failed_task_raises_when_its_output_is_wanted_and_not_before(lab: Any, daemon: Daemon) -> None:
    async with lab["square"].open() as run:
        await run.tasks.put({"x": 1.5e6})
        async for result in run.results:
            assert (result.index, result.outcome, result.input) == (0, "failed", {"x": 1.5e6})
            assert result.error.kind == "ValueError"
            assert result.error.args == ("1500000.0 is too large",)
            assert "in square_or_raise" in result.error.traceback
            with pytest.raises(
                TaskFailed, match=r"ValueError: 1500000.0 is too large\n\nRemote traceback:\n(.*\n)*.*raise"
            ):
                _, _ = result
            with pytest.raises(TaskFailed):
                _ = result.output
            assert "failed" in repr(result)


@told_to_both
async def test_names_that_are_not_there(lab: Any, daemon: Daemon) -> None:
    assert "square" in lab
    assert "circle" not in lab
    assert list(lab) == ["echo", "square", "plane"]
    assert len(lab) == 3
    with pytest.raises(UnknownMaster, match=r"'squar'.*'square'"):
        lab["squar"]
    with pytest.raises(UnknownRun, match="'nobody'"):
        await lab["echo"].watch("nobody")
    with pytest.raises(Conflict, match="seed"):
        async with lab["echo"].open(seed=1) as run:
            await lab["echo"].open(run.name, seed=2)


@told_to_both
async def test_what_is_given_wrongly_is_refused_at_once_in_words_that_name_it(lab: Any, daemon: Daemon) -> None:
    run = await lab["echo"].open(seed=np.int64(3), priority=np.int8(1), metadata={"by": "me"})
    assert run.seed == 3
    wrong: dict[str, Callable[[], Any]] = {
        "a run's name must be a string, not 5": lambda: lab["echo"].open(5),
        "a run's name has a character that cannot travel": lambda: lab["echo"].open("\ud800"),
        "a run's name must be a string, not None": lambda: lab["echo"].watch(None),
        "a seed must be a whole number from 0 to 9223372036854775807, not 'x'": lambda: lab["echo"].open("q", seed="x"),
        f"a seed must be .*, not {2**70}": lambda: lab["echo"].open("q", seed=2**70),
        "a seed must be .*, not a value of type int": lambda: lab["echo"].open("q", seed=10**5000),
        "a priority must be .*, not 1.5": lambda: lab["echo"].open("q", priority=1.5),
        "metadata 'a' must be a string, not <object": lambda: lab["echo"].open("q", metadata={"a": object()}),
        "metadata must be a dict of strings, not 3": lambda: lab["echo"].open("q", metadata=3),
        "the index of a task: expected several, .* not 3": lambda: run.cancel(3),
        "the index of a task must be .*, not 1.5": lambda: run.cancel([1.5]),
        "a priority must be .*, not 'high'": lambda: run.prioritise("high"),
        "the number of worker processes must be .*, not 'x'": lambda: lab["echo"].set_workers("x"),
        "the number of worker processes must be .*, not -1": lambda: lab["echo"].set_workers(-1),
        "the number of a run must be .*, not 'first'": lambda: lab.delete_run("first"),
        "ListRuns cannot be asked of the daemon like this": lambda: lab.runs(5),
    }
    before = time.monotonic()
    for words, use in wrong.items():
        with pytest.raises(CallerError, match=words):
            await use()
    with pytest.raises(UnknownMaster, match="has no Master 5"):
        lab[5]
    with pytest.raises(InvalidTask, match=r"'x' must be a number in .*, got a value of type int"):
        await lab["square"].map([{"x": 10**5000}])
    assert time.monotonic() - before < PATIENCE / 3, "none of them was waited for"
    assert await lab["echo"].map([1]) == [1], "and the connection is as good as before"
    await run.close()


@pytest.mark.parametrize("twin", connect)
@pytest.mark.parametrize("address", ["foo", "tcp://localhost", "inproc://here", "ipc://", f"ipc:///{'x' * 200}", 5])
def test_what_is_no_address_is_refused_and_leaves_nothing_open(twin: str, address: Any) -> None:
    async def try_it() -> None:
        with pytest.raises(CallerError, match=r"no address of a daemon|check the address"):
            await connect[twin](address)

    asyncio.run(try_it())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        asyncio.run(try_it())
    assert len(os.listdir("/proc/self/fd")) <= before
