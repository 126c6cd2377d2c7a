"""Metrics as Prometheus reads them, and when a daemon is not well."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest

from taskmaster.bus import messages as m
from taskmaster.bus.status import (
    AlarmInfo,
    DaemonStatus,
    DeviceStatus,
    HeadInfo,
    JournalStatus,
    MasterStatus,
    WorkerStatus,
)
from taskmaster.daemon.alarms import KINDS
from taskmaster.daemon.effects import Publication
from taskmaster.daemon.health import CREW_SECONDS, STILL_SECONDS, Crews, Pulse
from taskmaster.daemon.metrics import METRICS, Counts, Snapshot, render

NASTY = 'a "quoted"\\back\nslash'
JOURNAL = JournalStatus("/state/journal.db", "power", "full", 5000, 7000, 42, 0.001, 0.25, 1.5, 4096)
DEVICE = DeviceStatus("H200", 0.75, 4096, memory=1 << 30, free=1 << 29)
WORKERS = (WorkerStatus("svm-1", "busy", local=True, device=DEVICE), WorkerStatus("svm-2", "idle", local=True))
MASTERS = (
    MasterStatus("svm", "process", "ready", slots=2, queued=7, leased=2, lost=3, task_seconds=0.02, workers=WORKERS),
    MasterStatus("stm", "visa", "no heads", held=1, unserved=5),
)
HEADS = (HeadInfo("stm", "tip-1", "tripped", tasks=9, busy=12.5), HeadInfo("stm", NASTY, "busy", safe=True))
ALARMS = (AlarmInfo("held_tasks", "warning", "stm", "one is in doubt", 5.0),)
STATUS = DaemonStatus("lab-7", "0.1.0", 12, 345, 60.0, 10**8, JOURNAL, MASTERS, 1, 99, 50, 2, 1, 3, 4, 5)
AT = Snapshot(STATUS, 1e9, ALARMS, HEADS, {("svm", "done"): 11, ("svm", "failed"): 1}, {"svm": 4})
NONE = Snapshot(DaemonStatus("lab-7", "0.1.0", 12, 345, 60.0, 10**8, JournalStatus("", "power")), 1e9)


def parsed(text: str) -> dict[str, Any]:
    """As Prometheus' own library for Python reads it: metrics by name."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def samples(families: dict[str, Any], name: str) -> dict[tuple[str, ...], float]:
    family = next(family for family in families.values() if any(sample.name == name for sample in family.samples))
    return {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name == name}


def test_prometheus_reads_what_the_daemon_has_counted() -> None:
    families = parsed(render(AT))
    assert {name.removesuffix("_total") for name in (metric.name for metric in METRICS)} == families.keys()
    assert samples(families, "taskmaster_build_info") == {("0.1.0", "lab-7"): 1}
    assert samples(families, "taskmaster_start_time_seconds") == {(): 1e9 - 60}
    assert samples(families, "taskmaster_journal_full") == {(): 1}
    assert samples(families, "taskmaster_journal_commit_duration_seconds") == {("0.5",): 0.001, ("0.99",): 0.25}
    assert samples(families, "taskmaster_journal_commit_duration_seconds_sum") == {(): 1.5}
    assert samples(families, "taskmaster_journal_commit_duration_seconds_count") == {(): 42}
    tasks = samples(families, "taskmaster_master_tasks")
    assert (tasks["svm", "queued"], tasks["stm", "held"], tasks["svm", "held"]) == (7, 1, 0)
    ended = samples(families, "taskmaster_master_tasks_ended_total")
    assert (ended["svm", "done"], ended["svm", "failed"], ended["stm", "done"]) == (11, 1, 0)
    for name, value in (("keys", 3), ("connections_refused_total", 4), ("messages_refused_total", 5)):
        assert samples(families, f"taskmaster_{name}") == {(): value}
    assert samples(families, "taskmaster_device_utilisation") == {("svm", "svm-1", "H200"): 0.75}
    assert samples(families, "taskmaster_device_memory_free_bytes") == {("svm", "svm-1", "H200"): 1 << 29}
    states = samples(families, "taskmaster_master_state")
    assert [state for state, value in states.items() if value] == [("svm", "ready"), ("stm", "no heads")]
    workers = samples(families, "taskmaster_master_workers")
    assert (workers["svm", "busy"], workers["svm", "idle"], workers["stm", "idle"]) == (1, 1, 0)
    assert samples(families, "taskmaster_master_workers_wanted") == {("svm",): 4}
    alarms = samples(families, "taskmaster_alarms")
    assert [key for key, value in alarms.items() if value] == [("held_tasks", "warning")]
    assert {kind for kind, _ in alarms} == KINDS.keys(), "those that do not stand are 0, not missing"
    assert samples(families, "taskmaster_head_safe") == {("stm", "tip-1"): 0, ("stm", NASTY): 1}
    assert samples(families, "taskmaster_head_busy_seconds_total")["stm", "tip-1"] == 12.5


def test_a_daemon_without_masters_tells_what_it_can() -> None:
    assert "taskmaster_journal_size_bytes" in parsed(render(NONE))
    for name in ("taskmaster_head_safe", "taskmaster_keys"):
        assert name not in render(NONE), "no metric without a sample"


def test_names_follow_the_conventions() -> None:
    """The rules of `promtool check metrics`, and of https://prometheus.io/docs/practices/naming/."""
    abbreviated = {"s", "ms", "us", "ns", "sec", "kb", "mb", "gb", "b", "h", "d", "min"}
    for metric in METRICS:
        words = metric.name.split("_")
        assert re.fullmatch(r"taskmaster(_[a-z]+)+", metric.name), metric.name
        assert (words[-1] == "total") == (metric.kind == "counter"), metric.name
        assert not {"gauge", "counter", "summary", *abbreviated} & set(words), metric.name
        assert words[-1] not in ("count", "sum", "bucket"), metric.name
        assert not {"milliseconds", "minutes", "hours", "kilobytes", "megabytes", "percent"} & set(words), metric.name
        assert metric.help.endswith("."), metric.name
        assert all(re.fullmatch("[a-z]+", label) and label not in ("le", "job", "instance") for label in metric.labels)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=render(AT), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ended_tasks_only_grow_whatever_becomes_of_their_runs() -> None:
    counts = Counts()

    def ended(kind: str, n: int, failed: int = 0) -> Publication:
        errors = tuple(m.TaskError(at, "ValueError", "") for at in range(failed))
        return Publication("svm", 1, m.EventHead(0, n, kind, errors=errors), (), ())

    counts.note([ended("done", 10, failed=3), ended("held", 2), ended("closed", 1)])
    counts.note([ended("cancelled", 4), ended("done", 1)])
    assert counts.ended == {("svm", "done"): 8, ("svm", "failed"): 3, ("svm", "cancelled"): 4}


# -- health -----------------------------------------------------------------------------------------------------------


def test_a_loop_that_turns_is_well() -> None:
    pulse = Pulse(100.0)
    assert pulse.reasons(101.0) == []
    pulse.committing = 101.0
    assert pulse.reasons(101.5) == []


def test_a_loop_that_stands_still_is_not() -> None:
    pulse = Pulse(100.0)
    assert pulse.reasons(101 + STILL_SECONDS) == ["the broker loop has not turned for 6 s"]
    pulse.committing = 100.5
    assert pulse.reasons(101 + STILL_SECONDS) == ["a commit to the journal has taken 5.5 s so far"]
    pulse.waits = "no room left on the disk"
    assert pulse.reasons(101 + STILL_SECONDS) == ["no room left on the disk"]
    pulse.stopping, pulse.troubles = True, ("Master 'svm' has 0 of 2 worker processes",)
    assert pulse.reasons(101.0) == [
        "no room left on the disk",
        "the daemon is about to stop",
        "Master 'svm' has 0 of 2 worker processes",
    ]


def looks(crews: Crews, masters: Iterable[MasterStatus], at: float) -> list[str]:
    status = DaemonStatus("lab-7", "0.1.0", 1, 1, 1.0, 1, JOURNAL, tuple(masters))
    return list(crews.look(status, {"svm": 2}, at))


def test_a_master_that_lacks_workers_for_long_is_not_well() -> None:
    crews = Crews()
    full, half = MASTERS[0], MasterStatus("svm", "process", "ready", workers=WORKERS[:1])
    assert looks(crews, [full], 0) == []
    assert looks(crews, [half], 1) == []
    assert looks(crews, [half], 2 + CREW_SECONDS) == ["Master 'svm' has 1 of 2 worker processes"]
    assert looks(crews, [full], 50) == []
    assert looks(crews, [half], 51) == [], "it may take a while anew"


def test_a_master_whose_workers_cannot_start_is_not_well_at_once() -> None:
    broken = MasterStatus("svm", "process", "crash loop", "no module named svm")
    assert looks(Crews(), [broken], 0) == ["Master 'svm' cannot start its workers (no module named svm)"]


def test_masters_that_wait_for_others_are_well() -> None:
    waiting = [
        MasterStatus("far", "process", "no workers"),  # the configuration has it dialled in to
        MasterStatus("desk", "human", "waiting for people"),
        MasterStatus("stm", "visa", "stopped", "by ada"),
    ]
    crews = Crews()
    looks(crews, waiting, 0)
    assert looks(crews, waiting, 100) == []
    heads = MasterStatus("stm", "visa", "no heads", "tip-1 away")
    looks(crews, [heads], 100)
    assert looks(crews, [heads], 200) == ["Master 'stm' has no head that works (tip-1 away)"]
