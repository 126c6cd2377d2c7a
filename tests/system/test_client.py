"""What a client does, blocking or asyncio: put, take, iterate, follow, map, cancel, pause; and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.twins import Blocking, connect, told_to_both
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import (
    CallerError,
    Conflict,
    ConnectionClosed,
    DaemonUnreachable,
    Full,
    InvalidTask,
    NotAllowed,
    RunClosed,
    TaskCancelled,
    TaskFailed,
    UnknownMaster,
    UnknownRun,
)
from taskmaster.learners import runcore


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "echo": function("echo", workers=2),
        "square": function(
            "square_or_raise", workers=2, parameters={"x": {"min": -2e6, "max": 2e6}}, outputs={"y": {}}
        ),
        "plane": function("plane", parameters={"x": {"min": 0, "max": 1}, "y": {}}, outputs={"z": {}}),
        "wait": function("wait"),
        "off": function("echo", workers=0),
    }
    return start_shared_daemon(masters, **tcp())


# -- putting and taking -----------------------------------------------------------------------------------------------


@told_to_both
async def test_one_after_the_other(lab: Any, daemon: Daemon) -> None:
    before = time.time()
    async with lab["square"].open(seed=7, metadata={"why": "to see"}) as run:
        assert (run.seed, run.metadata, run.next_index) == (7, {"why": "to see"}, 0)
        for k in range(5):
            assert await run.tasks.put({"x": float(k)}) == k
            result = await run.results.get(timeout=PATIENCE)
            point, y = result
            assert (point, y) == ({"x": float(k)}, float(k * k))
            assert (result.index, result.seq, result.attempt, result.outcome, result.error) == (k, k, 1, "done", None)
            assert before - 1 < result.started <= result.finished < time.time() + 1
            assert result.worker.startswith("square-")
        assert run.open_tasks == 0
        assert await lab["square"].slots() in (1, 2), "as many as have started"


@told_to_both
async def test_blocks_come_in_all_forms(lab: Any, daemon: Daemon) -> None:
    async with lab["plane"].open() as run:
        array = np.array([[0.25, 1.0], [0.5, 2.0]])
        column = np.array([0.75, 1.0])
        assert await run.tasks.put_many(array) == range(2)
        assert await run.tasks.put_many({"y": [3, 4], "x": column}) == range(2, 4)
        assert await run.tasks.put_many([{"x": 0, "y": 5}]) == range(4, 5)
        assert await run.tasks.put_many([]) == range(5, 5)
        array[:] = column[:] = 0.0  # what was put does not change any more
        told = {result.index: tuple(result) async for result in run.results}
    assert [told[k][0] for k in range(5)] == [
        {"x": 0.25, "y": 1.0},
        {"x": 0.5, "y": 2.0},
        {"x": 0.75, "y": 3.0},
        {"x": 1.0, "y": 4.0},
        {"x": 0.0, "y": 5.0},
    ]
    assert [told[k][1] for k in range(5)] == [1.25, 2.5, 3.75, 5.0, 5.0]


@told_to_both
async def test_values_of_any_form_travel_as_they_were_when_they_were_put(lab: Any, daemon: Daemon) -> None:
    async with lab["echo"].open() as run:
        changing: list[Any] = [1, {"deep": [2]}]
        array = np.arange(3.0)
        values = [changing, array, (1.0, 2.0), (1, "a"), 2**70, "µm", b"\0", None, True, 1 + 2j, np.float32(0.5)]
        for value in values:
            await run.tasks.put(value)
        changing[1]["deep"].append(3)
        array[:] = -1.0
        told = {result.index: (result.input, result.output) async for result in run.results}
    for index, sent in enumerate([[1, {"deep": [2]}], np.arange(3.0), *values[2:]]):
        point, output = told[index]
        np.testing.assert_equal(point, sent)
        np.testing.assert_equal(output, sent)
        assert type(output) is type(sent)


@told_to_both
async def test_many_puts_are_gathered_and_none_is_lost(lab: Any, daemon: Daemon) -> None:
    n = 20_000
    async with lab["square"].open() as run:
        for k in range(n):
            await run.tasks.put({"x": float(k)})
        outputs = {result.index: result.output async for result in run.results}
    assert outputs == {k: float(k * k) for k in range(n)}


@told_to_both
async def test_get_waits_as_long_as_it_is_told_to(lab: Any, daemon: Daemon) -> None:
    async with lab["off"].open() as run:
        assert run.results.get_nowait() is None
        await run.tasks.put(1)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no result within 0.05 s; 1 task open"):
            await run.results.get(timeout=0.05)
        assert 0.05 <= time.monotonic() - began < 5
        assert await run.cancel() == 1


@told_to_both
async def test_what_a_daemon_that_hangs_cannot_take_is_full(lab: Any, daemon: Daemon) -> None:
    window, runcore.WINDOW_TASKS = runcore.WINDOW_TASKS, 3
    run = await lab["off"].open()
    daemon.signal(signal.SIGSTOP)
    try:
        assert [run.tasks.put_nowait(k) for k in range(3)] == [0, 1, 2]
        with pytest.raises(Full, match=r"run '.*' of Master 'off': 3 tasks wait to be acknowledged; put again later"):
            run.tasks.put_nowait(3)
        assert run.next_index == 3
    finally:
        daemon.signal(signal.SIGCONT)
        runcore.WINDOW_TASKS = window
    assert await run.tasks.put("later") == 3
    assert await run.cancel() == 4
    await run.close()


# -- errors -----------------------------------------------------------------------------------------------------------


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
    assert list(lab) == ["echo", "square", "plane", "wait", "off"]
    assert len(lab) == 5
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


# -- map --------------------------------------------------------------------------------------------------------------


@told_to_both
async def test_map_keeps_the_order(lab: Any, daemon: Daemon) -> None:
    assert await lab["echo"].map(range(3000)) == list(range(3000))
    assert await lab["square"].map(np.arange(4.0)) == [0.0, 1.0, 4.0, 9.0]
    assert await lab["echo"].map([]) == []
    with pytest.raises(InvalidTask):
        await lab["square"].map([{"x": 1e9}])


@told_to_both
async def test_imap_unordered_gives_results_as_they_come(lab: Any, daemon: Daemon) -> None:
    told = [tuple(result) async for result in lab["echo"].imap_unordered(["a", "b", "c"])]
    assert sorted(told) == [("a", "a"), ("b", "b"), ("c", "c")]


@told_to_both
async def test_a_map_that_fails_cancels_the_rest(lab: Any, daemon: Daemon) -> None:
    with pytest.raises(TaskFailed, match="TypeError"):
        await lab["wait"].map([{"seconds": "many"}, {"seconds": 600}, {"seconds": 600}])
    assert await outcomes_of_last_run(lab, "wait") == ["failed", "cancelled", "cancelled"]


@told_to_both
async def test_what_nobody_waits_for_any_more_is_cancelled(lab: Any, daemon: Daemon) -> None:
    points = [{"seconds": 0}, {"seconds": 600}, {"seconds": 600}]
    async with aclosing(aiter(lab["wait"].imap_unordered(points))) as results:
        assert (await anext(results)).output == 0
    assert await outcomes_of_last_run(lab, "wait") == ["done", "cancelled", "cancelled"]


async def outcomes_of_last_run(lab: Any, master: str) -> list[str]:
    """Once it is closed and nothing of it open."""
    name = (await lab.runs(master))[-1].name
    reader = await lab[master].watch(name)
    outcomes = {result.index: result.outcome async for result in reader.results.follow()}
    await reader.detach()
    return [outcomes[index] for index in sorted(outcomes)]


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


# -- the daemon dies --------------------------------------------------------------------------------------------------


@told_to_both
async def test_a_restart_of_the_daemon_is_but_a_pause(lab: Any, daemon: Daemon) -> None:
    async with lab["square"].open() as run:
        await run.tasks.put_many(np.arange(500.0))
        first = [await run.results.get(PATIENCE) for _ in range(50)]
        daemon.kill()
        for k in range(500, 1000):
            await run.tasks.put({"x": float(k)})
        daemon.start()
        rest = [result async for result in run.results]
        told = [*first, *rest]
        assert [result.seq for result in told] == list(range(1000))
        assert {result.index: result.output for result in told} == {k: float(k * k) for k in range(1000)}
        assert (await lab.status()).epoch > 1


@told_to_both
async def test_who_asks_a_daemon_that_is_away_waits_as_long_as_wanted(lab: Any, daemon: Daemon) -> None:
    connecting = connect["blocking" if isinstance(lab, Blocking) else "asyncio"]
    async with connecting(daemon.address, patience=0.2) as hasty, connecting(daemon.address, patience=None) as patient:
        daemon.kill()
        asks: list[Callable[[], Any]] = [
            lambda: hasty["echo"].slots(),
            lambda: hasty["echo"].map([1]),
            lambda: hasty.delete_run(1),
        ]
        for ask in asks:
            with pytest.raises(DaemonUnreachable, match=r"did not answer .* within 0.2 s; .*connect\(patience=None\)"):
                await ask()

        def start_when_it_is_missed() -> None:
            eventually(lambda: patient._core._requests, "somebody to ask")
            daemon.start()

        starting = threading.Thread(target=start_when_it_is_missed)
        starting.start()
        assert await patient["echo"].map([1, 2]) == [1, 2]
        starting.join()
    with pytest.raises(CallerError, match="patience must be a number of seconds, not 'long'"):
        await connecting(daemon.address, patience="long")
