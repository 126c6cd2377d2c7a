"""Heads of one controller: one process, one connection, and each has it for itself while it has a task."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import probes
from helpers.daemon import EVALUATIONS
from helpers.places import StartDaemon
from helpers.probes import await_states, heads, outcomes, points
from helpers.waiting import eventually

from taskmaster.drivers.simulated import Laboratory

TIP = "tip-1"


@pytest.fixture
def settling() -> float:
    return 0.005


@pytest.fixture
def probe(settling: float) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, settling=settling) as probe:
        yield probe


def master(probe: Laboratory) -> dict[str, Any]:
    keys = probes.stm(probe, [TIP], query_timeout="2 s")
    keys["commands"] = {**keys["commands"], "read": {"at": "POS?"}}
    keys["outputs"] = {"at": {"shape": [2]}}
    return {
        **keys,
        "shared": True,
        "resource": probe[TIP].resource,
        "identity": probe[TIP].identity,
        "heads": [{"name": "left"}, {"name": "right"}],
    }


def test_they_take_turns_at_one_connection(probe: Laboratory, start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"stm": master(probe)})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        assert len({info.pid for info in heads(lab).values()}) == 1
        wanted = points(60)
        run = lab["stm"].open()
        run.tasks.put_many(wanted)
        seen = {}
        for result in run.results:
            seen[result.index] = result
        reached = np.array([seen[index].output for index in range(60)])
        assert np.abs(reached - wanted).max() < 1.0, "each reads where it has gone to, and not where the other has"
        assert {result.worker for result in seen.values()} == {"left", "right"}
        assert probe.control.statistics(TIP)["connections"] == 1


def test_when_their_process_is_killed_each_has_its_own_task_in_doubt(
    probe: Laboratory, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon({"stm": master(probe)})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        run = lab["stm"].open()
        run.tasks.put_many(points(40))
        probe.control.wait(TIP, "POS", 5)
        os.kill(heads(lab)["left"].pid, signal.SIGKILL)

        def resolved() -> bool:
            """A head with a task in doubt is parked; one may be that has not reported yet, and one amid a task."""
            for held in lab.held():
                lab.resolve(held.run, held.index, "fail")
            (info,) = (info for info in lab.runs() if info.run == run.number)
            return info.done + info.failed == 40

        eventually(resolved, "every task to end")
        # Each has one in hand or is between two, and may have been granted the next one just then.
        assert 36 <= outcomes(run, 40)["done"] <= 39
        assert max(probes.visits(probe, [TIP]).values()) == 1
    assert daemon.log.count("it was brought to its safe state") == 2
    assert "NOT KNOWN TO BE SAFE" not in daemon.log, "none has locked the other out"


@pytest.mark.parametrize("settling", [0.5])
def test_the_time_of_a_task_begins_with_its_turn(probe: Laboratory, start_daemon: StartDaemon) -> None:
    names = ("left", "middle", "right")
    keys = {**master(probe), "timeout": "900 ms", "heads": [{"name": name} for name in names]}
    daemon = start_daemon({"stm": keys})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready", "ready")
        run = lab["stm"].open()
        run.tasks.put_many(points(3))
        assert outcomes(run, 3)["done"] == 3


@pytest.mark.parametrize("settling", [30.0])
def test_a_stop_reaches_the_one_that_waits_for_its_turn(probe: Laboratory, start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"stm": master(probe)})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        lab["stm"].open().tasks.put_many(points(2))
        probe.control.wait(TIP, "POS", 1)
        mark = probe.control.mark()
        lab.stop(reason="smoke")
        eventually(lambda: probe.control.first_safe(TIP, mark), "it to be safe")
        await_states(lab, "stopped", "stopped")
        status = lab["stm"].statistics()
        assert (status.held, status.queued) == (1, 1), "the other had not begun"


@pytest.mark.parametrize("settling", [30.0])
def test_a_task_that_is_cancelled_is_broken_off_and_takes_nobody_along(
    probe: Laboratory, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon({"stm": {**master(probe), "on_lost": "retry"}})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        worker = heads(lab)["left"].pid
        run = lab["stm"].open()
        run.tasks.put_many(points(1))
        probe.control.wait(TIP, "POS", 1)
        mark = probe.control.mark()
        assert run.cancel() == 1
        eventually(lambda: probe.control.first_safe(TIP, mark), "its head to be safe")
        lab["stm"].open().tasks.put_many(points(2))
        probe.control.wait(TIP, "POS", 2)
        assert {info.pid for info in lab.heads()} == {worker}, "the process of both heads goes on"
    assert "was killed" not in daemon.log


def test_objects_of_a_class_take_turns_too(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keys = {
        "driver": "instrument",
        "class": "turning:Channel",
        "path": [str(EVALUATIONS)],
        "shared": True,
        "resource": "/dev/null",
        "kwargs": {"folder": str(tmp_path), "number": "{name}"},
        "heads": [{"name": "one"}, {"name": "two"}],
        "parameters": {"x": {}},
        "outputs": {"y": {}},
    }
    daemon = start_daemon({"both": keys})
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        run = lab["both"].open()
        run.tasks.put_many({"x": [float(k) for k in range(40)]})
        results = list(run.results)
        assert sorted(result.output for result in results) == [2.0 * k for k in range(40)]
        assert {result.worker for result in results} == {"one", "two"}
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) >= 80
    assert all(entered == left for entered, left in zip(calls[::2], calls[1::2])), "one was in the other's turn"
