"""What a client does, blocking or asyncio: put, take, iterate, map; and what it does when the daemon dies."""

from __future__ import annotations

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
    DaemonUnreachable,
    Full,
    InvalidTask,
    TaskFailed,
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
