"""Clients behind a slow line, with little memory, or with points that fit into no message."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.narrow import NarrowWire
from helpers.places import StartDaemon
from helpers.twins import connect, told_to_both
from helpers.waiting import PATIENCE

from taskmaster.bus import messages as m
from taskmaster.bus.errors import DaemonUnreachable, InvalidTask
from taskmaster.learners import following
from taskmaster.learners.client import connect as connect_blocking

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {"echo": function("echo", workers=2), "off": function("echo", workers=0), "pid": function("pid")}
    return start_shared_daemon(masters, max_message="1 MiB", **tcp())


@pytest.fixture
def narrow(daemon: Daemon) -> Iterator[Callable[[float], NarrowWire]]:
    wires: list[NarrowWire] = []

    def lay(rate: float) -> NarrowWire:
        wires.append(NarrowWire(daemon.address, rate))
        return wires[-1]

    yield lay
    for wire in wires:
        wire.close()


def test_what_is_put_goes_up_a_slow_line_once(daemon: Daemon, narrow: Callable[[float], NarrowWire]) -> None:
    """A block takes longer than an answer is otherwise waited for: a copy behind it would make that worse."""
    wire = narrow(220_000.0)
    with connect_blocking(wire.address, PATIENCE, patience=PATIENCE) as lab:
        run = lab["off"].open()
        run.tasks.put_many(np.random.default_rng(1).random(110_000))
        run.flush(PATIENCE)
        lab.ask(m.Ping(0))  # behind whatever was sent besides
        assert 880_000 < wire.up < 1_000_000


@pytest.mark.parametrize("twin", connect)
def test_a_page_comes_down_a_slow_line_once(daemon: Daemon, narrow: Callable[[float], NarrowWire], twin: str) -> None:
    with daemon.connect() as lab, lab["echo"].open(f"to be seen by {twin}") as run:
        run.tasks.put_many([os.urandom(5_000) for _ in range(40)])
        assert len([*run.results]) == 40
    wire = narrow(130_000.0)

    async def story() -> None:
        async with connect[twin](wire.address, PATIENCE, patience=PATIENCE) as lab:
            async with lab["echo"].watch(f"to be seen by {twin}") as watched:
                seqs = [result.seq async for result in watched.results.follow()]
            await lab.ask(m.Ping(0))  # behind whatever is sent besides
            assert seqs == [*range(40)]

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))
    assert 400_000 < wire.down < 500_000, "outputs and inputs"


@told_to_both
async def test_a_point_that_fits_into_no_message_is_refused_and_stops_nothing(lab: Any, daemon: Daemon) -> None:
    async with lab["pid"].open() as run:
        assert await run.tasks.put("before") == 0
        with pytest.raises(InvalidTask, match=r"Master 'pid'.*1,048,576.*raise max_message"):
            await run.tasks.put(os.urandom(LIMIT))
        with pytest.raises(InvalidTask, match="point 1 of the block"):
            await run.tasks.put_many([1, os.urandom(LIMIT), 3])
        largest = os.urandom(LIMIT - 100)
        await run.tasks.put_many([largest, "x" * 1000] * 3)
        await run.tasks.put("after")
        results = {result.index: result async for result in run.results}
        assert sorted(results) == [*range(8)]
        assert results[1].input == largest
        assert all(result.output > 0 for result in results.values())


@told_to_both
async def test_results_that_nobody_takes_are_left_with_the_daemon(lab: Any, daemon: Daemon) -> None:
    """And come in order and without a gap when they are wanted."""

    def await_the_end() -> None:
        with daemon.connect() as other, other["echo"].watch(run.name) as watched:
            for _ in range(400):
                watched.results.get(PATIENCE)

    held, following.HELD_BYTES = following.HELD_BYTES, 500_000
    try:
        async with lab["echo"].open() as run:
            points = [b"%6d" % k + bytes(50_000) for k in range(400)]
            await run.tasks.put_many(points)
            await asyncio.to_thread(await_the_end)
            indices: list[int] = []
            async for result in run.results:
                waiting = sum(chunk.output_table.nbytes for chunk in run._core.chunks)
                assert waiting < 500_000 + 9_000_000, "and one page"
                assert (result.output, result.seq) == (points[result.index], len(indices))
                indices.append(result.index)
            assert sorted(indices) == [*range(400)]
    finally:
        following.HELD_BYTES = held


@pytest.mark.parametrize("twin", connect)
def test_a_request_that_was_given_up_is_not_asked_again(start_daemon: StartDaemon, twin: str) -> None:
    daemon = start_daemon({"echo": function("echo")})

    async def story() -> None:
        async with connect[twin](daemon.address, PATIENCE, patience=0.3) as lab:
            daemon.kill()
            with pytest.raises(DaemonUnreachable, match=r"\(Status\) within 0.3 s; it is not asked any further, but"):
                await lab.ask(m.Status(0))
            assert not lab._core._requests
            daemon.start()
            while True:  # until it has reconnected; what hinders that for good ends the story
                with contextlib.suppress(DaemonUnreachable):
                    await lab.status()
                    return

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))
