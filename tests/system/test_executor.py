"""MasterExecutor keeps the standard library's contract: each test of that runs over ThreadPoolExecutor, too."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import inspect
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pytest
from helpers.places import short_folder
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, ConnectionClosed, NotAllowed, TaskFailed
from taskmaster.learners import WorkMaster
from taskmaster.learners.executor import MasterExecutor

#: Makes an executor with one worker, or two; it is shut down when the test is over.
Make: TypeAlias = Callable[[int], Executor]


@pytest.fixture(scope="module")
def masters() -> Iterator[dict[int, WorkMaster]]:
    with WorkMaster(None, workers=1) as one, WorkMaster(None, workers=2) as two:
        yield {1: one, 2: two}


@pytest.fixture(params=["standard library", "ours"])
def make(request: pytest.FixtureRequest, masters: dict[int, WorkMaster]) -> Iterator[Make]:
    made: list[Executor] = []

    def make(workers: int) -> Executor:
        ours = request.param == "ours"
        made.append(MasterExecutor(masters[workers]) if ours else ThreadPoolExecutor(workers))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


class Gate:
    """What evaluations wait at, wherever they run: a named pipe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)

    def wait(self) -> Callable[[int], int]:
        """A function that returns its argument once it has been let through, and says that it has come."""
        return _Waiting(str(self.path))

    def arrival(self) -> BinaryIO:
        """Wait for one to come; closing this lets it through."""
        return self.path.open("wb")

    def let_through(self) -> None:
        """Let one through; waits for it to come, so one that is cancelled must have come before."""
        self.arrival().close()


class _Waiting:
    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, x: int) -> int:
        with open(self._path, "rb") as pipe:
            pipe.read()
        return x


@pytest.fixture
def gate() -> Iterator[Gate]:
    with short_folder() as folder:
        yield Gate(folder)


def unlucky(x: int) -> int:
    if x == 3:
        raise KeyError(x)
    return x


# -- the contract -----------------------------------------------------------------------------------------------------


def test_a_call_has_a_result(make: Make) -> None:
    executor = make(2)
    future = executor.submit(divmod, 17, 5)
    assert isinstance(future, Future)
    assert future.result(PATIENCE) == (3, 2)
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None
    assert executor.submit(dict, a=1, b=[None, 2.5, "x"]).result(PATIENCE) == {"a": 1, "b": [None, 2.5, "x"]}


def test_any_object_comes_back(make: Make) -> None:
    def make_counter(n: int) -> Callable[[], int]:
        return lambda: n + 1

    executor = make(1)
    assert executor.submit(make_counter, 3).result(PATIENCE)() == 4
    assert executor.submit(lambda: {1, 2}).result(PATIENCE) == {1, 2}
    assert executor.submit(lambda: Path("a") / "b").result(PATIENCE) == Path("a/b")


def test_map_keeps_the_order_and_ends_with_the_shortest(make: Make) -> None:
    executor = make(2)
    assert list(executor.map(pow, range(100), [2] * 7)) == [0, 1, 4, 9, 16, 25, 36]
    assert list(executor.map(lambda x: -x, range(100), chunksize=7)) == [-x for x in range(100)]
    assert list(executor.map(abs, [])) == []
    with pytest.raises(TypeError):
        executor.map(abs, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_takes_what_this_release_of_python_has_besides(make: Make, chunksize: int) -> None:
    executor: Any = make(1)
    if "buffersize" in inspect.signature(Executor.map).parameters:  # from 3.14 on
        results = executor.map(abs, itertools.count(), chunksize=chunksize, buffersize=2)
        assert list(itertools.islice(results, 9)) == [*range(9)]
    else:
        with pytest.raises(TypeError, match="buffersize"):
            executor.map(abs, [1], chunksize=chunksize, buffersize=2)


def test_map_raises_where_the_call_stands_and_cancels_the_rest(make: Make) -> None:
    results = make(1).map(unlucky, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError) as raised:
        next(results)
    assert raised.value.args == (3,)
    with pytest.raises(StopIteration):
        next(results)


def test_map_gives_up_after_its_timeout(make: Make, gate: Gate) -> None:
    executor = make(1)
    first = executor.submit(gate.wait(), 1)
    results = executor.map(abs, [7], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    gate.let_through()
    assert first.result(PATIENCE) == 1


def test_what_was_raised_is_raised(make: Make) -> None:
    executor = make(2)
    future = executor.submit(unlucky, 3)
    with pytest.raises(KeyError) as raised:
        future.result(PATIENCE)
    assert raised.value.args == (3,)
    assert future.exception() is raised.value
    for name, kind in (("int", ValueError), ("open", FileNotFoundError), ("len", TypeError)):
        with pytest.raises(kind):
            executor.submit(getattr(__import__("builtins"), name), "/nowhere" if name != "len" else 3).result(PATIENCE)


def test_waiting_for_a_result_times_out(make: Make, gate: Gate) -> None:
    future = make(1).submit(gate.wait(), 5)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    assert not future.done()
    gate.let_through()
    assert future.result(PATIENCE) == 5


def test_callbacks_are_called_once_in_their_order_whatever_they_raise(
    make: Make, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    future = make(1).submit(gate.wait(), 5)
    called: list[tuple[str, int]] = []

    def raise_something(_: Future[int]) -> None:
        raise RuntimeError("a bad callback")

    future.add_done_callback(lambda done: called.append(("first", done.result())))
    future.add_done_callback(raise_something)
    future.add_done_callback(lambda done: called.append(("second", done.result())))
    gate.let_through()
    eventually(lambda: len(called) == 2, "the callbacks to be called")
    future.add_done_callback(lambda done: called.append(("late", done.result())))
    assert called == [("first", 5), ("second", 5), ("late", 5)]
    assert "a bad callback" in caplog.text


def test_a_callback_may_submit_further_calls(make: Make) -> None:
    executor = make(1)
    ended = threading.Event()

    def go_on(future: Future[int]) -> None:
        if future.result() < 20:
            executor.submit(lambda x: x + 1, future.result()).add_done_callback(go_on)
        else:
            ended.set()

    executor.submit(int, 0).add_done_callback(go_on)
    assert ended.wait(PATIENCE)


def test_a_call_that_waits_can_be_cancelled(make: Make, gate: Gate) -> None:
    executor = make(1)
    first = executor.submit(gate.wait(), 1)
    waiting = [executor.submit(abs, k) for k in range(5)]
    told: list[bool] = []
    waiting[3].add_done_callback(lambda future: told.append(future.cancelled()))
    assert waiting[3].cancel()
    assert waiting[3].cancel(), "a second time"
    assert waiting[3].cancelled()
    assert waiting[3].done()
    assert told == [True]
    with pytest.raises(futures.CancelledError):
        waiting[3].result(PATIENCE)
    gate.let_through()
    done, left = futures.wait([first, *waiting], timeout=PATIENCE)
    assert (len(done), len(left)) == (6, 0), "one that was cancelled is waited for like any other"
    assert [future.result() for k, future in enumerate(waiting) if k != 3] == [0, 1, 2, 4]


def test_a_call_that_has_ended_cannot_be_cancelled(make: Make) -> None:
    future = make(1).submit(abs, -1)
    assert future.result(PATIENCE) == 1
    assert not future.cancel()
    assert not future.cancelled()


def test_waiting_for_the_first_of_several(make: Make, gate: Gate) -> None:
    executor = make(2)
    slow, quick, bad = executor.submit(gate.wait(), 1), executor.submit(abs, 2), executor.submit(unlucky, 3)
    done, left = futures.wait([slow, quick], return_when=futures.FIRST_COMPLETED, timeout=PATIENCE)
    assert (done, left) == ({quick}, {slow})
    done, left = futures.wait([slow, bad], return_when=futures.FIRST_EXCEPTION, timeout=PATIENCE)
    assert (done, left) == ({bad}, {slow})
    gate.let_through()
    assert set(futures.as_completed([slow, quick, bad], timeout=PATIENCE)) == {slow, quick, bad}


def test_shutdown_waits_for_what_was_submitted(make: Make) -> None:
    with make(2) as executor:
        submitted = [executor.submit(abs, -k) for k in range(50)]
    assert all(future.done() for future in submitted)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError):
        executor.map(abs, [1])
    executor.shutdown()


def test_shutdown_need_not_wait(make: Make, gate: Gate) -> None:
    executor = make(1)
    submitted = [executor.submit(gate.wait(), 1), *(executor.submit(abs, k) for k in range(5))]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in submitted)
    gate.let_through()
    assert [future.result(PATIENCE) for future in submitted] == [1, 0, 1, 2, 3, 4]
    executor.shutdown()


def test_shutdown_can_cancel_what_waits(make: Make, gate: Gate) -> None:
    executor = make(1)
    first = executor.submit(gate.wait(), 1)
    waiting = [executor.submit(abs, k) for k in range(100)]
    with gate.arrival():
        executor.shutdown(wait=False, cancel_futures=True)
        eventually(lambda: all(future.cancelled() for future in waiting[50:]), "those that wait to be cancelled")
        assert not first.done()
    assert first.result(PATIENCE) == 1, "what has begun goes on"
    eventually(lambda: all(future.done() for future in waiting), "those that had been granted to end")
    assert all(future.cancelled() or future.result() == k for k, future in enumerate(waiting)), "some had been granted"
    executor.shutdown()


def test_a_callback_that_wants_to_end_it_all_ends_nothing(make: Make, gate: Gate) -> None:
    executor = make(2)

    def leave(_: Future[int]) -> None:
        raise SystemExit(3)

    executor.submit(gate.wait(), 1).add_done_callback(leave)
    gate.let_through()
    assert [executor.submit(abs, -k).result(PATIENCE) for k in range(3)] == [0, 1, 2]
    executor.shutdown()


def test_threads_submit_at_the_same_time(make: Make) -> None:
    executor = make(2)
    results: dict[int, list[int]] = {}

    def use(k: int) -> None:
        results[k] = [executor.submit(pow, j, k).result(PATIENCE) for j in range(30)]

    threads = [threading.Thread(target=use, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: [j**k for j in range(30)] for k in range(8)}


def test_asyncio_runs_in_it(make: Make, gate: Gate) -> None:
    executor = make(1)

    async def use() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.gather(*(loop.run_in_executor(executor, abs, -k) for k in range(20))) == [*range(20)]
        with pytest.raises(KeyError):
            await loop.run_in_executor(executor, unlucky, 3)
        first = loop.run_in_executor(executor, gate.wait(), 1)
        second = loop.run_in_executor(executor, abs, 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.to_thread(gate.let_through)
        assert await asyncio.wait_for(first, PATIENCE) == 1

    asyncio.run(use())


def test_a_loops_default_executor(make: Make) -> None:
    async def use() -> int:
        executor = make(1)
        assert isinstance(executor, ThreadPoolExecutor), "asyncio asks for one"
        asyncio.get_running_loop().set_default_executor(executor)
        return await asyncio.get_running_loop().run_in_executor(None, abs, -4)

    assert asyncio.run(use()) == 4, "and shuts it down at the end"


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor(1)", "MasterExecutor(WorkMaster(None, workers=1))"])
def test_a_program_that_ends_waits_for_what_it_has_submitted(kind: str) -> None:
    program = f"""
        from concurrent.futures import ThreadPoolExecutor
        from taskmaster.learners import WorkMaster
        from taskmaster.learners.executor import MasterExecutor

        executor = {kind}
        for k in range(5):
            executor.submit(pow, k, 2).add_done_callback(lambda future: print(future.result(), flush=True))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout.split(), ran.stderr, ran.returncode) == (["0", "1", "4", "9", "16"], "", 0)


# -- and what ours has beside -----------------------------------------------------------------------------------------


@pytest.fixture
def ours(masters: dict[int, WorkMaster]) -> Iterator[MasterExecutor]:
    with MasterExecutor(masters[1]) as executor:
        yield executor


def test_the_remote_traceback_is_the_cause(ours: MasterExecutor) -> None:
    error = ours.submit(unlucky, 3).exception(PATIENCE)
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, TaskFailed)
    assert error.__cause__.kind == "KeyError"
    assert "in unlucky\n    raise KeyError(x)" in error.__cause__.traceback


def test_an_exception_whose_type_is_unknown_here_is_a_failure(ours: MasterExecutor) -> None:
    def raise_something() -> None:
        class Odd(Exception):
            pass

        raise Odd("one of a kind")

    with pytest.raises(TaskFailed, match="Odd: one of a kind"):
        ours.submit(raise_something).result(PATIENCE)
    with pytest.raises(TaskFailed, match="SystemExit"):
        ours.submit(sys.exit, 3).result(PATIENCE)


def test_a_call_under_way_can_be_cancelled_and_the_worker_goes_on(masters: dict[int, WorkMaster], gate: Gate) -> None:
    with MasterExecutor(masters[1]) as executor:
        first, second = executor.submit(gate.wait(), 1), executor.submit(abs, -2)
        before = masters[1].statistics().cancelled
        with gate.arrival():
            assert first.cancel()
            eventually(lambda: masters[1].statistics().cancelled == before + 1, "the daemon to have heard of it")
        assert second.result(PATIENCE) == 2


def test_all_that_has_no_result_can_be_abandoned(masters: dict[int, WorkMaster], gate: Gate) -> None:
    executor = MasterExecutor(masters[1])
    abandoned = [executor.submit(gate.wait(), 1), *(executor.submit(abs, k) for k in range(10))]
    with gate.arrival():
        executor.abandon(wait=False)
        assert all(future.cancelled() for future in abandoned)
        executor.abandon()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_nothing_is_left_of_what_was_cancelled(masters: dict[int, WorkMaster], gate: Gate) -> None:
    with MasterExecutor(masters[1]) as executor:
        executor.submit(gate.wait(), 1)
        for future in [executor.submit(abs, k) for k in range(3000)]:
            assert future.cancel()
        gate.let_through()
        eventually(lambda: masters[1].statistics().queued == 0, "the daemon to have heard of it")
        assert executor.submit(abs, -9).result(PATIENCE) == 9


def test_the_number_of_workers_is_live() -> None:
    with WorkMaster(None, workers=1) as master, MasterExecutor(master) as executor:
        assert executor.await_workers() == 1
        assert executor._max_workers == 1
        master.capture(2)
        eventually(lambda: executor._max_workers == 3, "the new workers to be counted")
        master.release(2)
        eventually(lambda: executor._max_workers == 1, "the released ones not to be")
        master.release(1)
        eventually(lambda: master.slots == 0, "the last to go")
        waiting = executor.submit(abs, -1)
        assert executor._max_workers == 1, "what is submitted waits for a worker to come"
        assert not waiting.done()
        master.capture(1)
        assert waiting.result(PATIENCE) == 1


def test_a_worker_that_dies_costs_an_attempt_and_no_more(gate: Gate) -> None:
    with WorkMaster(None, workers=1, max_attempts=2) as master, MasterExecutor(master) as executor:
        mark = gate.path.with_name("mark")

        def die_once(x: int) -> int:
            if not mark.exists():
                mark.touch()
                os._exit(3)
            return x

        assert executor.submit(die_once, 5).result(PATIENCE) == 5
        with pytest.raises(TaskFailed, match="ended with status 4"):
            executor.submit(os._exit, 4).result(PATIENCE)
        assert executor.submit(abs, -1).result(PATIENCE) == 1, "the executor is not broken by that"


def test_results_are_only_unpickled_where_the_daemon_is_trusted(masters: dict[int, WorkMaster]) -> None:
    with MasterExecutor(masters[1], unpickle=False) as executor:
        assert executor.submit(list, (1, 2)).result(PATIENCE) == [1, 2]
        with pytest.raises(TypeError, match=r"builtins\.set cannot travel"):
            executor.submit(set, (1, 2)).result(PATIENCE)


def test_a_master_with_a_function_of_its_own_evaluates_points() -> None:
    with (
        WorkMaster(lambda p: p["x"] * p["y"], workers=1, parameters={"x": (0, 9), "y": (0, 9)}) as master,
        MasterExecutor(master) as executor,
    ):
        assert executor.evaluate({"x": 2, "y": 3}) == 6
        assert executor.evaluate((2, 4.5)) == 9
        assert list(executor.map(executor.evaluate, [(1, 1), (2, 2)])) == [1, 4]
        with pytest.raises(CallerError, match="has 2 values, for x, y; this one has 1"):
            executor.evaluate(3)
        with pytest.raises(NotAllowed, match=r"give executor\.evaluate as the function, .* or of the MasterMap"):
            executor.submit(abs, 3)
        with pytest.raises(CallerError, match="pickles no results"):
            MasterExecutor(master, unpickle=True)
        with (
            WorkMaster(abs, workers=1) as other,
            MasterExecutor(other) as elsewhere,
            pytest.raises(NotAllowed, match="submit it to the executor that it is of"),
        ):
            elsewhere.submit(executor.evaluate, {"x": 1, "y": 1})


def test_what_cannot_travel_is_said_at_once(ours: MasterExecutor) -> None:
    with pytest.raises(CallerError, match="<lambda> cannot travel to a worker process: cannot pickle"):
        ours.submit(lambda lock: lock, threading.Lock())
    assert ours.submit(abs, -1).result(PATIENCE) == 1


def test_whoever_waits_when_the_daemon_ends_for_good_is_told(gate: Gate) -> None:
    master = WorkMaster(None, workers=1)
    executor = MasterExecutor(master)
    future = executor.submit(gate.wait(), 1)
    with gate.arrival():
        master._process.kill()
    with pytest.raises(Exception, match="killed by signal 9; what was not done is lost"):
        future.result(PATIENCE)
    with pytest.raises(Exception, match="killed by signal 9"):
        executor.submit(abs, 1)
    executor.shutdown()
    master._finalizer()


def test_one_whose_connection_was_closed_says_so() -> None:
    with WorkMaster(None, workers=1) as master:
        executor = MasterExecutor(master)
    with pytest.raises(ConnectionClosed):
        executor.submit(abs, 1)
    executor.shutdown()


def test_no_thread_is_left_while_nothing_is_waited_for(masters: dict[int, WorkMaster]) -> None:
    executor = MasterExecutor(masters[1])
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    eventually(lambda: all(thread.name != "taskmaster-futures" for thread in threading.enumerate()), "it to rest")
    assert executor.submit(abs, -2).result(PATIENCE) == 2
    gone = weakref.ref(executor)
    eventually(lambda: all(thread.name != "taskmaster-futures" for thread in threading.enumerate()), "it to rest")
    del executor
    assert gone() is None


def test_learners_of_adaptive_run_on_it_unmodified(masters: dict[int, WorkMaster]) -> None:
    adaptive = pytest.importorskip("adaptive")

    def peak(x: float) -> float:
        return x + 0.01 / (0.01 + x * x)

    with MasterExecutor(masters[2]) as executor:
        executor.await_workers()
        learner = adaptive.Learner1D(peak, bounds=(-1, 1))
        adaptive.BlockingRunner(learner, npoints_goal=80, executor=executor)
        assert len(learner.data) >= 80
        assert all(value == peak(x) for x, value in learner.data.items())

        async def run() -> Any:
            other = adaptive.Learner2D(lambda p: p[0] * p[1], bounds=[(0, 1), (0, 1)])
            runner = adaptive.AsyncRunner(other, npoints_goal=30, executor=executor)
            assert runner._get_max_tasks() == 2
            await runner.task
            return other

        assert asyncio.run(run()).npoints >= 30

        def flawed(x: float) -> float:
            raise ValueError(f"not at {x}")

        with pytest.raises(RuntimeError, match="not at"):
            adaptive.BlockingRunner(
                adaptive.Learner1D(flawed, bounds=(-1, 1)), npoints_goal=5, executor=executor, retries=1
            )


def test_a_runner_of_adaptive_grows_and_shrinks_with_the_workers() -> None:
    adaptive = pytest.importorskip("adaptive")

    def slowly(x: float) -> float:
        time.sleep(0.005)
        return x

    async def pending(runner: Any, n: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(runner.pending_points) != n:
                await asyncio.sleep(0.01)

    async def run(master: WorkMaster, executor: MasterExecutor) -> None:
        learner = adaptive.Learner1D(slowly, bounds=(-1, 1))
        runner = adaptive.AsyncRunner(learner, goal=lambda learner: False, executor=executor)
        await pending(runner, 1)
        master.capture(2)
        await pending(runner, 3)
        master.release(2)
        await pending(runner, 1)
        runner.cancel()

    with WorkMaster(None, workers=1) as master, MasterExecutor(master) as executor:
        executor.await_workers()
        asyncio.run(run(master, executor))
