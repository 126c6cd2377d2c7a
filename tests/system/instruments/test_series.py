"""Progress of tasks and monitored values: from workers that a test speaks for, by a real daemon, to both clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from helpers import twins
from helpers.daemon import Daemon, function
from helpers.handheld import PROGRAM, HandHead, instrument
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, NotAllowed, UnknownRun
from taskmaster.learners.client import Lab
from taskmaster.learners.series import ProgressPoint, Sample

NOON = 1.7e9


class Bench:
    """A daemon and the heads that are in the test's hand."""

    def __init__(self, daemon: Daemon, stack: ExitStack) -> None:
        self.daemon = daemon
        self._stack = stack

    def start(self) -> None:
        self.daemon.launch(program=PROGRAM)
        self.daemon.await_note("READY=1")

    def head(self, name: str = "tip-1") -> HandHead:
        head = HandHead(self.daemon, name)
        self._stack.callback(head.close)
        return head

    def lab(self) -> Lab:
        return self._stack.enter_context(self.daemon.connect())


@pytest.fixture
def bench(place: Path) -> Iterator[Bench]:
    monitor = {"temperature": {"unit": "K", "every": "1 s"}, "state": {"every": "1 s"}}
    with ExitStack() as stack:
        daemon = Daemon(place / "d", {"stm": instrument(4, **monitor), "svm": function("square")})
        stack.callback(daemon.close)
        stack.callback(lambda: print(daemon.log))
        bench = Bench(daemon, stack)
        bench.start()
        yield bench


def told(bench: Bench, n: int) -> None:
    """Wait until so many progress points or samples were taken."""
    eventually(lambda: rows(bench, "new_samples") + rows(bench, "new_progress") >= n, f"{n} points to be recorded")


def rows(bench: Bench, table: str) -> int:
    db = apsw.Connection(str(bench.daemon.state / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").get)
    finally:
        db.close()


@pytest.mark.parametrize("twin", twins.connect)
def test_progress_is_had_so_far_and_as_it_comes(bench: Bench, twin: str) -> None:
    head = bench.head()

    async def story() -> None:
        async with twins.connect[twin](bench.daemon.address, PATIENCE) as lab:
            run = await lab["stm"].open("surface")
            await run.tasks.put_many([{"x": 1.0}, {"x": 2.0}])
            first = await asyncio.to_thread(head.task)
            head.tell(first, NOON, current=1e-9, note="approaching")
            head.tell(first, NOON + 1.5, current=None, height=3)
            seen = []
            points = aiter(run.follow_progress())
            seen += [await anext(points) for _ in range(2)]
            assert seen == [
                ProgressPoint(0, 1, NOON, {"current": 1e-9, "note": "approaching"}),
                ProgressPoint(0, 1, NOON + 1.5, {"current": None, "height": 3}),
            ]
            head.tell(first, NOON + 2, current=2e-9, height=4)
            assert (await anext(points)).values == {"current": 2e-9, "height": 4}
            series = await run.progress(0)
            assert series.time.tolist() == [NOON, NOON + 1.5, NOON + 2]
            np.testing.assert_array_equal(series["current"], [1e-9, np.nan, 2e-9])
            np.testing.assert_array_equal(series["height"], [np.nan, 3, 4])
            assert series["note"].tolist() == ["approaching", None, None]
            assert (series.attempt, series.units) == (1, {"current": "A"})
            assert len(await run.progress(1)) == 0
            head.end(first)
            second = await asyncio.to_thread(head.task)
            head.tell(second, NOON + 3, height=0.5)
            head.end(second)
            await run.close()
            assert [(point.index, point.values) async for point in points] == [(1, {"height": 0.5})]
            again = [point async for point in run.follow_progress()]
            assert [point.index for point in again] == [0, 0, 0, 1], "for one who comes when all is over"
            await lab.delete_run(run.number)
            with pytest.raises(UnknownRun):
                await run.progress(0)

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))


def test_a_fork_has_the_progress_of_what_has_ended_in_it(bench: Bench) -> None:
    head, lab = bench.head(), bench.lab()
    run = lab["stm"].open("surface")
    run.tasks.put_many([{"x": 1.0}, {"x": 2.0}])
    first = head.task()
    head.tell(first, NOON, current=1e-9, note="a, b")
    head.tell(first, NOON + 1, current=2e-9, note="[c]")
    head.end(first)
    second = head.task()
    head.tell(second, NOON + 2, height=0.5)
    told(bench, 3)
    lab.fork(run.number, "again")
    bench.daemon.restart()
    with bench.daemon.connect() as later:
        fork = later["stm"].watch("again")
        series = fork.progress(0)
        assert series.time.tolist() == [NOON, NOON + 1]
        assert series["current"].tolist() == [1e-9, 2e-9]
        assert series["note"].tolist() == ["a, b", "[c]"]
        assert len(fork.progress(1)) == 0, "it is evaluated again, and tells of that"
        assert len(later["stm"].watch("surface").progress(1)) == 1


@pytest.mark.parametrize("twin", twins.connect)
def test_samples_are_had_between_two_times_and_as_they_come(bench: Bench, twin: str) -> None:
    one, two = bench.head("tip-1"), bench.head("tip-2")
    for k in range(20):
        one.sample(NOON + k, temperature=4.2 + k / 10)
    one.sample(NOON + 30, state="cold", temperature=None)
    two.sample(NOON + 30, temperature=77)
    told(bench, 23)

    async def story() -> None:
        async with twins.connect[twin](bench.daemon.address, PATIENCE) as lab:
            series = await lab.samples("stm", "tip-1", "temperature", since=NOON + 5, until=NOON + 7)
            assert series.time.tolist() == [NOON + 5, NOON + 6, NOON + 7]
            np.testing.assert_allclose(series["temperature"], [4.7, 4.8, 4.9])
            assert series.units == {"temperature": "K"}
            assert np.isnan((await lab.samples("stm", "tip-1", "temperature"))["temperature"][-1])
            assert (await lab.samples("stm", "tip-1", "state"))["state"].tolist() == ["cold"]
            assert len(await lab.samples("stm", "tip-3", "state")) == 0
            kept = aiter(lab.follow_samples("stm", "tip-2", since="start"))
            assert await anext(kept) == Sample("tip-2", "temperature", NOON + 30, 77)
            one.sample(NOON + 40, temperature=5.0)
            two.sample(NOON + 40, temperature=78.5)
            assert await anext(kept) == Sample("tip-2", "temperature", NOON + 40, 78.5)
            (first, second, *_) = await lab.heads("stm")
            assert {name: (one.value, one.unit) for name, one in first.values.items()} == {
                "temperature": (5.0, "K"),
                "state": ("cold", ""),
            }
            assert second.values["temperature"].value == 78.5
            for wrong in ({"head": "tip-9"}, {"since": "noon"}):
                with pytest.raises(CallerError):
                    await lab.samples(**{"master": "stm", "head": "tip-1", "name": "state", **wrong})

    asyncio.run(asyncio.wait_for(story(), 2 * PATIENCE))


def test_a_head_shows_its_task_with_the_latest_progress_and_how_busy_it_was(bench: Bench) -> None:
    head, lab = bench.head(), bench.lab()
    run = lab["stm"].open("surface")
    run.tasks.put({"x": 1.0})
    task = head.task()
    head.tell(task, NOON, current=1.0)
    head.tell(task, NOON + 1, current=2.0)

    def shown() -> Any:
        info = lab.heads("stm")[0]
        return info if info.task is not None and info.task.progress else None

    info = eventually(shown, "progress to be shown")
    assert (info.task.run, info.task.name, info.task.index, info.task.attempt) == (run.number, "surface", 0, 1)
    assert (info.task.progress, info.task.time) == ({"current": 2.0}, NOON + 1)
    assert 0 < info.utilisation <= 1
    assert info.attended > 0
    head.end(task)
    eventually(lambda: lab.heads("stm")[0].task is None, "the task to end")


def test_each_attempt_has_a_series_of_its_own_and_all_goes_with_the_run(bench: Bench) -> None:
    head, lab = bench.head(), bench.lab()
    run = lab["stm"].open()
    run.tasks.put({"x": 1.0})
    task = head.task()
    head.tell(task, NOON, height=1)
    told(bench, 1)
    head.doubt(task)
    eventually(lambda: lab.held() or None, "the task to be in doubt")
    head.close()
    bench.daemon.kill()
    bench.start()
    lab.resolve(run.number, 0, "retry")
    head = bench.head()
    task = head.task()
    assert task.attempt == 2
    head.tell(task, NOON + 5, height=2)
    head.end(task)
    run.results.get(timeout=PATIENCE)
    run.close()
    assert [series.attempt for series in (run.progress(0), run.progress(0, 1))] == [2, 1]
    assert run.progress(0, 1)["height"].tolist() == [1]
    assert [(p.attempt, p.values["height"]) for p in run.follow_progress()] == [(1, 1), (2, 2)]
    lab.delete_run(run.number)
    assert rows(bench, "new_progress") + rows(bench, "progress") == 0


def test_what_was_published_is_there_after_a_kill_and_a_follower_misses_nothing(bench: Bench) -> None:
    lab = bench.lab()
    seen: list[float] = []
    enough = threading.Event()

    def follow() -> None:
        for sample in lab.follow_samples("stm", "tip-1", "temperature", since="start"):
            seen.append(float(sample.value))  # type: ignore[arg-type]
            if seen[-1] >= 400:
                enough.set()
                return

    thread = threading.Thread(target=follow)
    thread.start()
    sent = 0
    for killed in (True, True, False):
        head = bench.head()
        end = time.monotonic() + 0.6
        while time.monotonic() < end or (sent < 400 and not killed):
            head.sample(NOON + sent, temperature=float(sent))
            sent += 1
            time.sleep(0.003)
        if killed:
            bench.daemon.kill()
            at_least = list(seen)
            head.close()
            bench.start()
            there = lab.samples("stm", "tip-1", "temperature")["temperature"].tolist()
            assert there[: len(at_least)] == at_least, "what was published is there"
    thread.join(PATIENCE)
    assert enough.is_set()
    assert seen == sorted(set(seen)), "each once, and in order"
    assert seen == lab.samples("stm", "tip-1", "temperature")["temperature"].tolist()[: len(seen)]


def test_what_does_not_fit_is_dropped_and_the_daemon_goes_on(bench: Bench) -> None:
    head, lab = bench.head(), bench.lab()
    run = lab["stm"].open()
    run.tasks.put({"x": 1.0})
    task = head.task()
    before = bench.daemon.memory
    head.sample(NOON, unheard_of=1)
    head.sample(NOON, temperature="x" * 100_000)
    head.sample(float("nan"), temperature=1)
    head.tell(task, NOON, **{f"v{k}": k for k in range(1000)})
    head.tell(task, -5.0, height=1)
    head.peer.say(type(task)(task.lease, 1, 0, 1, task.layout))  # no message of a worker's
    for _ in range(20_000):
        head.tell(task, NOON, height=1)
    head.sample(NOON + 1, temperature=300.0)
    head.end(task)
    assert next(run.results.follow()).outcome == "done"
    assert lab.samples("stm", "tip-1", "temperature")["temperature"].tolist() == [300.0]
    assert 0 < len(run.progress(0)) < 20_000, "a flood is cut down to what people can look at"
    assert bench.daemon.memory - before < 50_000_000
    assert lab.status().points_dropped > 10_000
    with pytest.raises(NotAllowed):
        lab.samples("svm", "", "temperature")
