"""Masters of driver `gpu`, with a real daemon and workers, on the processor; and on a device where there is one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Terminal, taskmaster
from helpers.daemon import EVALUATIONS, Daemon, toml
from helpers.devices_there import NO_DEVICE
from helpers.dialled import Dialled
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually
from helpers.work import rows as work

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Lab, Master

X: dict[str, Any] = {"x": {}}
ASKED = {"x": {}, "do": {"kind": "int"}}
WHOLE = {"n": {"kind": "int"}}
PLACES = {"pid": {"kind": "int"}, "rows": {"kind": "int"}, "device": {"kind": "int"}}


def rows(name: str, **keys: Any) -> dict[str, Any]:
    """A Master that evaluates a function of `work/rows.py` on the processor."""
    known = {"driver": "gpu", "device": "cpu", "function": f"rows:{name}", "path": [str(EVALUATIONS)]}
    return {**known, "parameters": X, "outputs": {"y": {}}, **keys}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "product": rows("product", parameters={"a": {}, "b": {}}),
        "undeclared": rows("product", parameters={"a": {}, "b": {}}, outputs={}),
        "single": rows("product", parameters={"a": {}, "b": {}}, dtype="float32", outputs={}),
        "asked": rows("asked", parameters=ASKED),
        "strict": rows("asked", parameters=ASKED, outputs={"y": {"nan": False}}),
        "hasty": rows("asked", parameters=ASKED, timeout="0.5 s"),
        "slowly": rows("slowly_asked", parameters=ASKED, timeout="1.5 s"),
        "small": rows("small", outputs={"y": {}, "rows": {}}),
        "two": rows("where", devices=[0, 1], outputs=PLACES),
        "waiting": rows("where", linger="0.3 s", batch=64, outputs=PLACES),
        "many": rows(
            "many",
            parameters={"x": {}, "k": {"kind": "int"}},
            outputs={"picture": {"shape": [2, 3]}, "count": {"kind": "int"}},
        ),
        "slow": rows("slow", outputs={"pid": {"kind": "int"}}),
        "floats": rows("dtype", parameters=WHOLE, dtype="float64", outputs={"dtype": {"kind": "str"}}),
        "whole": rows("dtype", parameters=WHOLE, outputs={"dtype": {"kind": "str"}}),
        "away": rows("where", devices=[], outputs=PLACES),
        "lame": rows("where", devices=[0, 1], outputs=PLACES, setup="rows:fail_at_one", restarts=2),
        "cuda": rows("product", device="cuda", restarts=2),
    }
    return start_shared_daemon(masters)


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def ended(master: Master, points: Any) -> dict[int, Any]:
    """What came of points: outputs, or errors."""
    with master.open() as run:
        run.tasks.put_many(points)
        found: dict[int, Any] = {}
        while len(found) < len(points):
            result = run.results.get(PATIENCE)
            found[result.index] = result.output if result.outcome == "done" else result.error
        return found


# -- rows and outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 5000])
def test_rows_are_the_parameters_in_their_order(lab: Lab, n: int) -> None:
    points = np.random.default_rng(n).random((n, 2))
    found = ended(lab["product"], points)
    assert [found[k] for k in range(n)] == (points[:, 0] * points[:, 1]).tolist()


def test_points_by_name_are_rows_as_well(lab: Lab) -> None:
    assert ended(lab["product"], [{"b": 3.0, "a": 2.0}, {"a": 5.0, "b": 7.0}]) == {0: 6.0, 1: 35.0}


def test_outputs_that_are_not_declared_are_as_the_function_has_them(lab: Lab) -> None:
    assert ended(lab["undeclared"], [{"a": 2.0, "b": 3.0}])[0] == 6.0
    single = ended(lab["single"], [{"a": 0.1, "b": 3.0}])[0]
    assert single == np.float32(0.1) * np.float32(3.0)


def test_whole_numbers_are_whole_in_rows_unless_it_is_said_otherwise(lab: Lab) -> None:
    assert ended(lab["whole"], [{"n": 3}]) == {0: "int64"}
    assert ended(lab["floats"], [{"n": 3}]) == {0: "float64"}


def test_outputs_may_be_arrays_and_whole_numbers(lab: Lab) -> None:
    found = ended(lab["many"], [{"x": 2.0, "k": 7}, {"x": 3.0, "k": -1}])
    assert [found[k]["count"] for k in (0, 1)] == [7, -1]
    assert found[1]["picture"].tolist() == [[3.0] * 3] * 2


def test_tasks_of_many_runs_are_evaluated_together(lab: Lab) -> None:
    master = lab["waiting"]
    master.wait_for_slots()
    runs = [master.open() for _ in range(64)]
    for run in runs:
        run.tasks.put({"x": 1.0})
        run.tasks.send()
    together = [run.results.get(PATIENCE).output["rows"] for run in runs]
    assert max(together) >= 32
    for run in runs:
        run.close()


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_just_the_rows_that_raise_fail(lab: Lab) -> None:
    points = [{"x": float(k), "do": work.RAISES if k in (3, 900) else 0} for k in range(1000)]
    found = ended(lab["asked"], points)
    failed = {k: found.pop(k) for k in (3, 900)}
    assert found == {k: 2.0 * k for k in range(1000) if k not in failed}
    for error in failed.values():
        assert isinstance(error, TaskFailed)
        assert error.kind == "ValueError"
        assert "a bad row" in str(error)
        assert 'raise ValueError("a bad row")' in error.traceback
        assert "drivers/gpu" not in error.traceback


def test_nan_is_a_result_unless_the_outputs_forbid_it(lab: Lab) -> None:
    points = [{"x": 1.0, "do": 0}, {"x": 1.0, "do": work.IS_NAN}, {"x": 2.0, "do": 0}]
    found = ended(lab["asked"], points)
    assert (found[0], found[2]) == (2.0, 4.0)
    assert np.isnan(found[1])
    strict = ended(lab["strict"], points)
    assert (strict[0], strict[2]) == (2.0, 4.0)
    assert "NaN is not allowed" in str(strict[1])


def test_a_row_that_breaks_the_device_is_found_over_the_deaths_of_workers(lab: Lab) -> None:
    master = lab["asked"]
    lost = master.statistics().lost
    points = [{"x": float(k), "do": work.BREAKS if k == 321 else 0} for k in range(500)]
    found = ended(master, points)
    error = found.pop(321)
    assert found == {k: 2.0 * k for k in range(500) if k != 321}, "its neighbours are none the worse"
    assert isinstance(error, TaskFailed)
    assert error.kind == "DeviceFailed"
    assert "an illegal memory access was encountered" in str(error)
    assert "attempt 3 of 3" in str(error)
    assert master.statistics().lost - lost == 3
    assert ended(master, [{"x": 4.0, "do": 0}]) == {0: 8.0}, "and it goes on"


def test_a_row_that_hangs_falls_to_the_time_out(lab: Lab) -> None:
    points = [{"x": float(k), "do": work.HANGS if k == 2 else 0} for k in range(4)]
    found = ended(lab["hasty"], points)
    error = found.pop(2)
    assert found == {0: 0.0, 1: 2.0, 3: 6.0}
    assert isinstance(error, TaskFailed)
    assert error.kind == "TaskTimeout"


def test_the_time_out_is_that_of_one_launch_and_not_of_all_that_it_takes_to_tell_rows_apart(lab: Lab) -> None:
    points = [{"x": float(k), "do": work.RAISES if k == 5 else 0} for k in range(256)]
    found = ended(lab["slowly"], points)
    error = found.pop(5)
    assert isinstance(error, TaskFailed)
    assert error.kind == "ValueError"
    assert found == {k: 2.0 * k for k in range(256) if k != 5}
    assert lab["slowly"].statistics().lost == 0


def test_a_launch_is_not_broken_off_for_a_row_that_is_cancelled(lab: Lab) -> None:
    """With its worker, thousands of others' rows would have to be evaluated again."""
    master = lab["slow"]
    [pid] = ended(master, [{"x": 0.0}]).values()
    with master.open() as run:
        run.tasks.put({"x": 1.0})
        run.tasks.send()
        eventually(lambda: master.statistics().leased, "its being evaluated")
        run.cancel()
        assert run.results.get(PATIENCE).outcome == "cancelled"
    assert ended(master, [{"x": 2.0}]) == {0: pid}, "the same process goes on"


def test_where_there_is_too_little_memory_smaller_batches_do(lab: Lab) -> None:
    found = ended(lab["small"], np.arange(3000.0).reshape(-1, 1))
    assert [found[k]["y"] for k in range(3000)] == [2.0 * k for k in range(3000)]
    assert max(output["rows"] for output in found.values()) <= 100


# -- devices -----------------------------------------------------------------------------------------------------------


def test_each_device_has_a_worker(lab: Lab) -> None:
    master = lab["two"]
    eventually(lambda: len([w for w in master.statistics().workers if w.state == "idle"]) == 2, "two workers")
    found = ended(master, np.arange(20_000.0).reshape(-1, 1))
    assert {output["device"] for output in found.values()} == {0, 1}
    assert len({output["pid"] for output in found.values()}) == 2


def test_each_process_of_a_host_elsewhere_has_a_device_too(lab: Lab, daemon: Daemon) -> None:
    master = lab["away"]
    with Dialled(daemon.address, "away", 2):
        eventually(lambda: len(master.statistics().workers) == 2 and master.statistics().slots == 2048, "two workers")
        found = ended(master, np.arange(20_000.0).reshape(-1, 1))
        assert {output["device"] for output in found.values()} == {0, 1}
    eventually(lambda: not master.statistics().workers, "their end")


def test_status_says_what_the_devices_do(lab: Lab) -> None:
    master = lab["two"]
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            ended(master, np.arange(2000.0).reshape(-1, 1))

    loader = threading.Thread(target=load)
    loader.start()
    try:
        seen = eventually(
            lambda: next(
                (w.device for w in master.statistics().workers if w.device and w.device.batches and w.device.rows), None
            ),
            "a device that has done something",
        )
    finally:
        stop.set()
        loader.join()
    assert seen.name == "cpu"
    assert 0 < seen.utilisation <= 1
    assert seen.batch >= 1
    assert seen.kernel > 0


def test_with_one_device_lost_a_master_goes_on_with_the_others_and_says_so(lab: Lab) -> None:
    master = lab["lame"]
    status = eventually(
        lambda: (s := master.statistics()) and s.state == "degraded" and "gave up" in s.reason and s, "degraded"
    )
    assert "device 1 cannot be used" in status.reason
    assert "device 1 has fallen off the bus" in status.reason
    assert "goes on with 0" in status.reason
    assert {output["device"] for output in ended(master, np.arange(100.0).reshape(-1, 1)).values()} == {0}
    [alarm] = [alarm for alarm in lab.standing_alarms() if alarm.subject == "lame"]
    assert "device 1 has fallen off the bus" in alarm.message


def test_where_no_workers_are_wanted_there_are_none(lab: Lab) -> None:
    assert lab["away"].statistics().state == "no workers"


@pytest.mark.skipif(not NO_DEVICE, reason="there is a CUDA device here")
def test_without_a_device_there_is_one_clear_error_and_no_silent_fallback(lab: Lab) -> None:
    status = eventually(lambda: (s := lab["cuda"].statistics()) and s.state == "crash loop" and s, "an error")
    assert "driver 'gpu'" in status.reason
    assert 'device = "cpu"' in status.reason
    assert not status.slots


def test_check_shows_the_devices_or_says_why_there_are_none(place: Path) -> None:
    masters = {"cpu": rows("product"), "cuda": rows("product", device="cuda")}
    file = place / "lab.toml"
    file.write_text(toml({"state": "state"}, masters))
    said = taskmaster("check", str(file), "--connect", "cpu")
    assert said.status == 0
    assert "the processor, as declared" in said.out
    said = taskmaster("check", str(file), "--connect", "--json")
    found = json.loads(said.out)
    cuda = next(one for one in found["devices"] if one["master"] == "cuda")
    assert cuda["problem"] == NO_DEVICE
    assert said.status == (3 if NO_DEVICE else 0)
    assert found["ok"] == (not NO_DEVICE)
    if not NO_DEVICE:
        assert cuda["versions"]["driver"]
        assert all(device["memory"] > 0 and "." in device["capability"] for device in cuda["devices"])
    else:
        assert "Master 'cuda': no " in taskmaster("check", str(file), "--connect").out


def test_status_has_a_table_of_devices(lab: Lab, daemon: Daemon) -> None:
    eventually(lambda: lab["product"].statistics().workers[0].device, "a word of the device's")
    said = taskmaster("status", "product", "--address", daemon.address)
    [line] = [line for line in said.out.splitlines() if line.startswith("product") and " cpu " in line]
    assert "%" in line


def test_top_has_it_as_well(daemon: Daemon) -> None:
    with Terminal("top", "product", columns=140, environment={"TASKMASTER": daemon.address}) as terminal:
        terminal.await_text(r"device +busy +batch(.|\n)*\nproduct +product-\d+ +cpu +\d+%")
        terminal.press("q")
        assert terminal.wait() == 0
