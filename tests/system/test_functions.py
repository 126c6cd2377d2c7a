"""What a function may get, do and return: what it does wrong costs its own task and nothing else."""

from __future__ import annotations

import math
import os
import re
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon, short_folder
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Lab, Master
from taskmaster.learners.results import Result

RECYCLE_AFTER = 20


@pytest.fixture(scope="module")
def marks() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "marks"


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, marks: Path) -> Daemon:
    x: dict[str, Any] = {"x": {}}
    how = {"how": {"kind": "str"}}
    picture = {"picture": {"shape": [2, 3]}, "count": {"kind": "int"}}
    threads = function("meet", threads=4)
    del threads["workers"]
    return start_shared_daemon(
        {
            "free": function("behave"),
            "forking": function("ended_child"),
            "forking_threads": {**threads, "driver": "thread", "function": "evaluations:ended_child"},
            "bounded": function("behave", parameters=how, outputs={"y": {"min": 0, "max": 100, "nan": False}}),
            "picture": function("behave", parameters=how, outputs=picture),
            "keywords": function("hypotenuse", call="keywords", parameters={"a": {}, "b": {}}, outputs={"c": {}}),
            "batch": function("roots", batch=True, parameters=x, outputs={"root": {}}),
            "free_batch": function("lengths", batch=True),
            "threads": {**threads, "driver": "thread"},
            "recycled": function("pid", recycle_after=RECYCLE_AFTER),
            "prepared": function(
                "marks",
                setup="evaluations:mark_setup",
                teardown="evaluations:mark_teardown",
                env={"MARKS": str(marks)},
            ),
        }
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def evaluate(master: Master, points: Any) -> list[Result]:
    """The results for ``points``, in their order."""
    with master.open() as run:
        run.tasks.put_many(points)
        return sorted(run.results, key=lambda result: result.index)


def failure(result: Result) -> TaskFailed:
    assert result.outcome == "failed", result
    assert isinstance(result.error, TaskFailed)
    return result.error


def alone_among_good_ones(master: Master, how: str) -> TaskFailed:
    """Evaluate a bad point between two good ones, in one process; returns how the bad one failed."""
    lost = master.statistics().lost
    before, bad, after = evaluate(master, [{"how": "1"}, {"how": how}, {"how": "2"}])
    assert (before.output, after.output) == (1.0, 2.0)
    assert before.worker == bad.worker == after.worker
    assert master.statistics().lost == lost
    return failure(bad)


# -- what it raises ---------------------------------------------------------------------------------------------------


def test_an_exception_fails_its_task_with_type_message_and_remote_traceback(lab: Lab) -> None:
    error = alone_among_good_ones(lab["bounded"], "raise")
    assert (error.kind, error.args[0]) == ("ValueError", "the sample is gone")
    assert "in behave" in error.traceback
    assert "taskmaster" not in error.traceback, "our own frames tell the user nothing"
    assert str(error).startswith("ValueError: the sample is gone")


def test_unpacking_the_result_of_a_failed_task_raises_it(lab: Lab) -> None:
    (result,) = evaluate(lab["free"], ["raise"])
    with pytest.raises(TaskFailed, match="the sample is gone"):
        _, _ = result
    assert result.input == "raise"


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("exit", "SystemExit"),
        ("recurse", "RecursionError"),
        ("raise odd", "evaluations.Odd"),
        ("raise long", "ValueError"),
    ],
)
def test_whatever_it_raises_is_the_failure_of_its_task(lab: Lab, how: str, kind: str) -> None:
    error = alone_among_good_ones(lab["bounded"], how)
    assert error.kind == kind
    assert len(str(error)) < 50_000


# -- what it returns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unfit", "unfit inside"])
def test_an_output_that_cannot_be_encoded_fails_its_task_and_says_of_what_type_it_is(lab: Lab, how: str) -> None:
    before, bad, after = evaluate(lab["free"], ["1", how, "2"])
    assert (before.output, after.output) == (1.0, 2.0)
    assert "Unfit" in str(failure(bad))


@pytest.mark.parametrize(
    ("how", "words"),
    [("101", "100"), ("-1", "0"), ("nan", "NaN"), ("nothing", "None"), ("text", "'text'"), ("array", "shape")],
)
def test_an_output_that_is_not_as_declared_fails_its_task_naming_output_and_limit(
    lab: Lab, how: str, words: str
) -> None:
    error = alone_among_good_ones(lab["bounded"], how)
    assert "output 'y'" in str(error)
    assert words in str(error)


def test_outputs_of_declared_shapes_arrive_as_arrays(lab: Lab) -> None:
    (result,) = evaluate(lab["picture"], [{"how": "picture"}])
    assert result.output["count"] == 3
    np.testing.assert_array_equal(result.output["picture"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("how", "words"),
    [("flat picture", "'picture'"), ("no count", "'count'"), ("half a count", "'count'"), ("one too many", "'time'")],
)
def test_several_outputs_must_be_just_those_declared(lab: Lab, how: str, words: str) -> None:
    good, bad = evaluate(lab["picture"], [{"how": "picture"}, {"how": how}])
    assert good.outcome == "done"
    assert words in str(failure(bad))


def test_without_declared_outputs_anything_that_travels_is_fine(lab: Lab) -> None:
    nothing, nan, text, array = (result.output for result in evaluate(lab["free"], ["nothing", "nan", "text", "array"]))
    assert (nothing, text) == (None, "text")
    assert math.isnan(nan)
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))


# -- how it is called -------------------------------------------------------------------------------------------------


def test_call_keywords_spreads_the_point(lab: Lab) -> None:
    assert [result.output for result in evaluate(lab["keywords"], [{"a": 3, "b": 4}, {"b": 12, "a": 5}])] == [5, 13]


def test_a_batch_function_gets_columns_and_one_bad_row_costs_just_its_task(lab: Lab) -> None:
    x = np.arange(1000.0)
    x[[17, 600]] = -1
    results = evaluate(lab["batch"], x.reshape(-1, 1))
    assert [result.index for result in results if result.outcome == "failed"] == [17, 600]
    assert "-1.0 has no root" in str(failure(results[17]))
    assert all(result.output == math.sqrt(x[result.index]) for result in results if result.outcome == "done")


def test_a_batch_function_that_returns_too_few_fails_the_rows_it_left_out(lab: Lab) -> None:
    results = evaluate(lab["free_batch"], ["a", "bb", "skip", "dddd"])
    assert [result.index for result in results if result.outcome == "failed"] == [2]
    assert [result.output for result in results if result.outcome == "done"] == [1, 2, 4]


def test_threads_evaluate_at_the_same_time_in_one_process(lab: Lab) -> None:
    eventually(lambda: lab["threads"].slots == 4, "four slots")
    results = evaluate(lab["threads"], list(range(8)))
    assert len({result.output for result in results[:8]}) == 4
    assert len({result.worker for result in results}) == 1


@pytest.mark.parametrize("master", ["forking", "forking_threads"])
def test_processes_that_a_function_forks_end_as_any_other(lab: Lab, master: str) -> None:
    """And not, as a worker does, when they have done what they have in hand: a pool of processes waits for its own."""
    assert {result.output for result in evaluate(lab[master], list(range(50)))} == {signal.SIGTERM}


def test_processes_are_replaced_after_as_many_evaluations_as_configured(lab: Lab) -> None:
    results = evaluate(lab["recycled"], list(range(200)))
    by_process = Counter(result.output for result in results)
    # It says that it leaves with the lease in hand that makes it enough, and perhaps the next: each as many at most.
    assert max(by_process.values()) < 3 * RECYCLE_AFTER
    assert min(list(by_process.values())[:-1]) >= RECYCLE_AFTER, "none but the last goes before"
    assert lab["recycled"].statistics().lost == 0, "leaving is no loss"
    assert {result.attempt for result in results} == {1}


def test_setup_runs_once_in_each_process_before_and_teardown_after_the_evaluations(lab: Lab, marks: Path) -> None:
    master = lab["prepared"]
    first, second = evaluate(master, [1, 2])
    assert first.output == second.output == ["setup"]
    (worker,) = master.statistics().workers
    master.set_workers(0)
    eventually(lambda: not master.statistics().workers, "the worker to leave")
    eventually(lambda: f"teardown {worker.pid}" in marks.read_text(), "its teardown")


# -- a function that cannot be had ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "words"), [("the pump is off", "the pump is off"), ("segfault", "SIGSEGV")])
def test_workers_that_cannot_start_end_in_a_state_that_says_why_and_resume_tries_again(
    start_daemon: StartDaemon, place: Path, how: str, words: str
) -> None:
    broken = place / "broken"
    broken.write_text(how)
    daemon = start_daemon(
        {"pump": function("echo", setup="evaluations:set_up", env={"BROKEN": str(broken)}, restarts=2)}
    )
    with daemon.connect() as lab:
        master = lab["pump"]
        run = master.open()
        run.tasks.put("waiting")
        alarm = eventually(lambda: lab.alarms, "an alarm")[0]
        status = master.statistics()
        assert (status.state, status.slots, status.queued) == ("crash loop", 0, 1)
        assert words in status.reason
        assert words in alarm.message
        assert "taskmaster resume pump" in alarm.message

        broken.unlink()
        master.resume()
        assert run.results.get(PATIENCE).output == "waiting"
        assert run.results.get_nowait() is None
        assert (master.statistics().state, master.statistics().reason) == ("ready", "")


def test_workers_that_die_with_nothing_to_do_are_not_replaced_for_ever(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"doomed": function("echo", setup="evaluations:doomed", restarts=3)})
    with daemon.connect() as lab:
        alarm = eventually(lambda: lab.alarms, "an alarm")[0]
        assert "gave up after 3 attempts" in alarm.message
        assert lab["doomed"].statistics().state == "crash loop"
        assert "ended with status 7" in lab["doomed"].statistics().reason
    assert daemon.log.count("ended with status 7") == 3 + 1, "each death, and the alarm"


def test_where_every_task_ends_its_worker_the_next_are_started_ever_later_and_it_says_so(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon({"fatal": function("die", workers=1, max_attempts=30)})
    with daemon.connect() as lab, lab["fatal"].open() as run:
        run.tasks.put_many(["die"] * 100)
        reason = eventually(lambda: lab["fatal"].statistics().reason, "a word on it")
        assert re.match(r"\d+ workers in a row died before a task ended: .* ended with status 1; .* later", reason)
        assert lab["fatal"].statistics().state != "crash loop", "it goes on"
        run.cancel()
        run.tasks.put("live")
        assert run.results.get(PATIENCE).outcome == "cancelled"
        eventually(lambda: lab["fatal"].statistics().done == 1, "the harmless one")
        assert lab["fatal"].statistics().reason == ""


def test_where_no_process_can_be_started_the_daemon_goes_on_and_says_so(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"many": function("echo", workers=1, restarts=2)})
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with daemon.connect() as lab:
        many = lab["many"]
        assert many.map([1]) == [1]
        used = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 12, hard))
        many.set_workers(30)
        alarm = eventually(lambda: lab.alarms, "an alarm")[0]
        assert "no worker process can be started: [Errno 24] Too many open files" in alarm.message
        assert many.map([2]) == [2], "those that are there go on"
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        many.set_workers(12)
        eventually(lambda: many.slots == 12, "all of them")
        assert many.statistics().state == "ready"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"function": "nowhere:at_all"}, "no module 'nowhere'"),
        ({"function": "evaluations:squaer"}, "square"),
        ({"function": "evaluations:echo", "setup": "evaluations:EVALUATE"}, "EVALUATE"),
    ],
)
def test_a_function_that_cannot_be_found_is_named(start_daemon: StartDaemon, keys: dict[str, str], words: str) -> None:
    daemon = start_daemon({"lost": {**function("echo"), **keys, "restarts": 1}})
    with daemon.connect() as lab:
        reason = eventually(lambda: lab["lost"].statistics().reason, "the reason")
    assert words in reason
    assert keys.get("setup", keys["function"]) in reason
