"""WorkMaster: functions of the calling program, in one line, gone without trace afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.waiting import PATIENCE, all_ended, eventually

from taskmaster.bus.errors import CallerError, ConnectionClosed, InvalidTask, TaskFailed, TaskMasterError
from taskmaster.learners import Loop, WorkMaster, aio
from taskmaster.learners.points import Random, Sobol
from taskmaster.learners.replay import replay


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made; nothing may be left there."""
    with tempfile.TemporaryDirectory(prefix="tm-") as folder:  # a short path, for sockets
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert list(Path(folder).iterdir()) == [], "no trace"


@pytest.fixture(scope="module")
def squares() -> Iterator[WorkMaster]:
    with WorkMaster(lambda x: x**2, workers=2) as master:
        yield master


# -- what is evaluated ------------------------------------------------------------------------------------------------


def test_a_lambda_in_one_line() -> None:
    with WorkMaster(lambda x: x**2, workers=2) as master:
        assert master.map(range(10)) == [x**2 for x in range(10)]
        assert sorted(result.output for result in master.imap_unordered([1, 2, 3])) == [1, 4, 9]
        assert master.slots in (1, 2)
        assert repr(master) == "<WorkMaster of 2 workers>"
    assert repr(master) == "<WorkMaster of 2 workers, closed>"
    with pytest.raises(ConnectionClosed):
        master.map([1])
    master.close()


def test_closures_and_functions_of_this_file() -> None:
    scale = np.array([1.0, 10.0])
    calls: list[int] = []

    def weigh(point: dict[str, float]) -> float:
        calls.append(1)
        return helper(float(scale @ [point["a"], point["b"]]))

    with WorkMaster(weigh, workers=1, parameters={"a": (0, 1), "b": {"min": 0}}, outputs={"w": {}}) as master:
        assert [field.name for field in master.parameters] == ["a", "b"]
        assert [field.name for field in master.outputs] == ["w"]
        assert master.map(np.array([[0.0, 1.0], [1.0, 2.0]])) == [11.0, 22.0]
        with pytest.raises(InvalidTask, match=r"'a'.*2"):
            master.map([{"a": 2, "b": 0}])
    assert calls == [], "it is a copy that is called, elsewhere"


def helper(x: float) -> float:
    return x + 1.0


def test_vectorised_functions_and_threads() -> None:
    with WorkMaster(lambda X: np.sqrt(X), workers=1, batch=True) as master:
        assert master.map(np.arange(1000.0) ** 2) == list(range(1000))
    meet = threading.Barrier  # made in the worker: two threads have to be in the function at the same time

    def together(x: int, _place: dict[str, Any] = {}) -> int:  # noqa: B006 - shared by the threads
        barrier = _place.setdefault("barrier", meet(2))
        barrier.wait(timeout=30)
        return x

    with WorkMaster(together, threads=2) as master:
        assert master.map([1, 2]) == [1, 2]


def test_tasks_that_bring_their_own_function() -> None:
    with WorkMaster(None, workers=2) as master:
        tasks = [(pow, (2, 5)), (divmod, (17, 5), {}), (lambda: "alone"), (dict, (), {"a": 1})]
        assert master.map(tasks) == [32, (3, 2), "alone", {"a": 1}]
        master.tasks.put((len, ([1, 2],)))
        task, output = master.results.get(PATIENCE)
        assert (task, output) == ((len, ([1, 2],)), 2)
        wrongs: list[Any] = [3, ("pow", (2, 5)), (pow, 2), (pow, (1, 2), {}, {}), ()]
        for wrong in wrongs:
            with pytest.raises(InvalidTask, match=r"takes \(function, args, kwargs\) as tasks"):
                master.tasks.put(wrong)


def test_errors_come_with_the_remote_traceback(squares: WorkMaster) -> None:
    def unlucky(x: int) -> float:
        return 1 / x

    with WorkMaster(unlucky, workers=1) as master:
        with pytest.raises(TaskFailed, match=r"ZeroDivisionError: division by zero\n(.*\n)*.*in unlucky"):
            master.map([1, 0])
        assert [result.outcome for result in master.imap_unordered([1, 0])] == ["done", "failed"]


def test_what_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    with pytest.raises(CallerError, match=r"locked cannot travel to a worker process: cannot pickle '_thread.lock'"):
        WorkMaster(locked)
    with pytest.raises(CallerError, match="evaluates with a function, not with a int"):
        WorkMaster(3)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="needs a function"):
        WorkMaster(None, batch=True)
    with pytest.raises(CallerError, match=r"'a' cannot be declared by 'mni'.*'min'"):
        WorkMaster(helper, parameters={"a": {"mni": 0}})
    with WorkMaster(None, workers=1) as master, pytest.raises(CallerError, match="locked cannot travel"):
        master.tasks.put((locked, (1,)))


def test_a_worker_that_hangs_or_dies_costs_its_task_only() -> None:
    def odd(x: int) -> int:
        if x == 1:
            os._exit(3)
        if x == 2:
            threading.Event().wait()
        return x

    with WorkMaster(odd, workers=1, timeout=0.3, max_attempts=1) as master:
        results = {result.index: result for result in master.imap_unordered([0, 1, 2, 3])}
        assert [results[k].outcome for k in range(4)] == ["done", "failed", "failed", "done"]
        assert "ended with status 3" in str(results[1].error)
        assert "0.3 s" in str(results[2].error)


# -- as any Master ----------------------------------------------------------------------------------------------------


def test_a_loop_takes_it() -> None:
    with WorkMaster(lambda p: p["x"] * p["y"], parameters={"x": (0, 1), "y": (0, 1)}) as master:
        learner = Sobol(master.parameters, n=16)
        loop = Loop(master.master, learner)
        loop.run().close()
        assert loop.told == 16
        assert loop.in_flight == 4


def test_a_run_of_it_is_replayed_by_its_name(tmp_path: Path) -> None:
    """Also on another day, where its state was kept."""
    parameters = {"x": (0, 1)}
    with WorkMaster(lambda p: p["x"], parameters=parameters, state=tmp_path) as master:
        Loop(master, Random(master.parameters), goal=8, name="night").run().close()
    with WorkMaster(lambda p: p["x"], parameters=parameters, state=tmp_path) as master:
        replayed = replay(Random(master.parameters), master.watch("night"))
        assert (replayed.told, replayed.divergence) == (8, None)


def test_asyncio_programs_connect_to_it(squares: WorkMaster) -> None:
    import asyncio

    async def use() -> list[Any]:
        async with aio.connect(squares.lab.address) as lab:
            [name] = lab
            return await lab[name].map([1, 2, 3])

    assert asyncio.run(use()) == [1, 4, 9]


def test_workers_are_captured_and_released_while_it_runs() -> None:
    def pid(x: int) -> int:
        return os.getpid()

    with WorkMaster(pid, workers=1) as master:
        [first] = set(master.map(range(20)))
        assert master.capture(2) == 3
        eventually(lambda: master.slots == 3, "the captured workers to be ready")
        assert master.release(2) == 1
        eventually(lambda: master.slots == 1, "the released workers to have gone")
        assert len(set(master.map(range(20)))) == 1
        with pytest.raises(CallerError, match="5 workers cannot be released: there are 1"):
            master.release(5)
        assert master.slots == 1, "none has gone"
        assert master.release() == 0
        eventually(lambda: master.slots == 0, "the last to have gone")
        master.tasks.put(0)
        with pytest.raises(TimeoutError):
            master.results.get(timeout=0.1)
        assert master.capture() == 1
        assert master.results.get(PATIENCE).output != first


def test_numbers_that_make_no_sense_are_refused(squares: WorkMaster) -> None:
    for absurd in (0, -1, 5000, "two", 1.5):
        with pytest.raises(CallerError, match=f"the number of workers must be .* from 1 to 4096, not {absurd!r}"):
            WorkMaster(abs, workers=absurd)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match=r"threads must be a whole number from 1 to .*, not 0"):
        WorkMaster(abs, threads=0)
    with pytest.raises(CallerError, match=r"timeout must be a number of seconds, not -1"):
        WorkMaster(abs, timeout=-1)
    with pytest.raises(CallerError, match=r"max_attempts must be a whole number from 1 to .*, not 0"):
        WorkMaster(abs, max_attempts=0)
    for scale in (squares.capture, squares.release):
        with pytest.raises(CallerError, match=r"the number of workers to .*, not -1"):
            scale(-1)
    assert squares.capture(0) == 2, "as before"


def test_several_in_one_program_and_one_within_another(squares: WorkMaster) -> None:
    def nested(x: int) -> int:
        from taskmaster.learners import WorkMaster

        with WorkMaster(lambda y: y + 1, workers=1) as inner:
            return int(sum(inner.map([x, x])))

    with WorkMaster(nested, workers=1) as master:
        assert master.map([1, 2]) == [4, 6]
        assert squares.map([5]) == [25]


# -- what is left of it -----------------------------------------------------------------------------------------------


def test_a_state_folder_is_kept_and_taken_up_again(temporary: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tm-", dir="/tmp") as folder:
        state = Path(folder) / "state"
        with WorkMaster(lambda x: x + 1, workers=1, state=state) as master:
            run = master.open("kept")
            run.tasks.put_many([1, 2])
            assert len(list(run.results)) == 2
            with pytest.raises(TaskMasterError, match=re.escape(str(state))):
                WorkMaster(lambda x: x, state=state)
        assert (state / "journal.db").exists()
        with WorkMaster(lambda x: x + 10, workers=1, state=state) as master:
            run = master.open("kept")
            assert run.tasks.put(3) == 2
            assert sorted(result.output for result in run.results) == [2, 3, 13]


def test_an_error_inside_leaves_nothing_either() -> None:
    processes: list[int] = []

    def have_bad_luck() -> None:
        with WorkMaster(lambda x: x, workers=2) as master:
            master.tasks.put_many(range(1000))
            processes.extend(processes_of(master))
            raise KeyError

    with pytest.raises(KeyError):
        have_bad_luck()
    assert all_ended(processes)
    close_all(processes)


def processes_of(master: WorkMaster) -> list[int]:
    """Its daemon and workers, as pidfds."""
    eventually(lambda: master.slots, "a worker to be ready")
    status = master.lab.status()
    return [os.pidfd_open(pid) for pid in (status.pid, *(worker.pid for worker in status.masters[0].workers))]


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


PROGRAM = """
import os, sys, threading
from taskmaster.learners import WorkMaster

offset = 100

def evaluate(x):
    return add(x) + offset

def add(x):
    return x + 1

master = WorkMaster(evaluate, workers=2)
print(*master.map([1, 2]), flush=True)
status = master.lab.status()
print(status.pid, *[worker.pid for worker in status.masters[0].workers], flush=True)
"""


def start(then: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A program of its own that has mapped something, and pidfds of its daemon and workers."""
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + textwrap.dedent(then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "102 103\n", "what stands in __main__ travels"
    return program, [os.pidfd_open(int(pid)) for pid in program.stdout.readline().split()]


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("master.tasks.put_many(range(100_000)); raise SystemExit(4)", 4),
        ("if not os.fork(): sys.exit()\nos.wait(); assert master.map([1]) == [102]; sys.exit(5)", 5),
    ],
    ids=["end", "exit", "busy", "fork"],
)
def test_the_end_of_the_program_ends_it(then: str, status: int) -> None:
    program, processes = start(then)
    with program:
        assert program.wait(PATIENCE) == status
    assert all_ended(processes)
    close_all(processes)


@pytest.mark.parametrize("then", ["sys.stdin.read()", "if not os.fork(): sys.stdin.read()\nsys.stdin.read()"])
def test_a_program_that_is_killed_takes_its_processes_along(temporary: Path, then: str) -> None:
    """Also where a child that it has forked lives on, with copies of all its descriptors."""
    program, processes = start(then)
    with program:
        program.kill()
        program.wait(PATIENCE)
        assert all_ended(processes)
        close_all(processes)
    eventually(lambda: not list(temporary.iterdir()), "the daemon to have removed its state as the last thing it did")
