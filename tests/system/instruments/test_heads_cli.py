"""What the command line says of heads: whether they are safe after a stop, why they do not work, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from helpers import probes
from helpers.cli import Program, Terminal
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.probes import await_states
from helpers.waiting import eventually

from taskmaster.cli.commands import heads as heads_command
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab


@pytest.fixture(scope="module")
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0.01) as probe:
        yield probe


@pytest.fixture(scope="module")
def daemon(probe: Laboratory, start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"stm": probes.stm(probe, ["tip-1", "tip-2"]), "square": function("square")})


@pytest.fixture
def lab(daemon: Daemon, probe: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        yield lab
        probe.control.replug("tip-2")
        for name in ("tip-1", "tip-2"):
            lab.set_head("stm", name, inside=True)
        lab.reset()
        await_states(lab, "ready", "ready")


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


def test_a_stop_says_how_many_heads_are_known_to_be_safe(lab: Lab, program: Program) -> None:
    said = program("stop", "stm", "--reason", "smoke")
    assert said.out == "Master 'stm' is stopped; 2 of 2 heads known to be safe; go on with: taskmaster reset stm\n"
    assert said.status == 0
    assert [info.safe for info in lab.heads()] == [True, True]


def test_a_stop_names_the_heads_that_are_not_known_to_be_safe(
    lab: Lab, program: Program, probe: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_command, "SAFE_SECONDS", 0.5)
    probe.control.unplug("tip-2")
    said = program("stop", "--reason", "smoke")
    assert said.out == "all instruments are stopped; 1 of 2 heads known to be safe; go on with: taskmaster reset\n"
    assert said.err.splitlines()[-1].startswith("taskmaster: NOT KNOWN TO BE SAFE: stm/tip-2 (its worker, process ")
    assert said.status == 12
    eventually(lambda: "not known to be safe: Unreachable" in program("stop").err, "it to be known why")
    shown = program("stop", "--json")
    assert json.loads(shown.out)["heads"] == [
        {"master": "stm", "head": "tip-1", "safe": True},
        {"master": "stm", "head": "tip-2", "safe": False},
    ]
    assert shown.status == 12


def test_where_there_is_no_instrument_nothing_was_stopped(
    start_daemon: StartDaemon, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKMASTER", start_daemon({"square": function("square")}).address)
    assert program("stop").out == "there are no instruments here: nothing was stopped\n"


def test_who_waits_for_results_is_told_why_there_are_none(lab: Lab, program: Program) -> None:
    program("pause", "stm")
    with Terminal("submit", "stm", "1,1", "--run", "awaited", "--wait") as terminal:
        terminal.await_text(r"its tasks wait: Master 'stm' is paused; go on with it: taskmaster resume stm")
        program("resume", "stm")
        assert terminal.wait() == 0


def test_status_says_why_tasks_wait(lab: Lab, program: Program) -> None:
    lab.set_head("stm", "tip-2", inside=False, reason="a new tip")
    wait = "Master 'stm': 1 task waits for heads that do not work at present (head 'tip-2'): taskmaster heads stm\n"
    put = program("submit", "stm", "1,1", "--run", "aside", "--head", "tip-2")
    assert put.err == f"taskmaster: {wait}"
    assert wait in program("status").out
    lab.set_head("stm", "tip-1", inside=False)
    await_states(lab, "out", "out")
    eventually(lambda: all(info.safe for info in lab.heads()), "them to be out")
    why = "tip-1 out (by local); tip-2 out (by local: a new tip)"
    assert f"Master 'stm': no head works: {why}; see taskmaster heads stm\n" in program("status").out
    assert f"has no head that works at present ({why})" in program("submit", "stm", "2,2", "--run", "aside").err
    program("cancel", "stm/aside", "--all")
    program("pause", "stm")
    assert "Master 'stm': paused; when it may go on: taskmaster resume stm\n" in program("status").out
    program("resume", "stm")


def test_who_puts_a_head_in_is_told_what_else_keeps_it_from_work(lab: Lab, program: Program) -> None:
    program("heads", "stm", "--out", "tip-2", "--reason", "a new tip")
    said = program("heads", "stm", "--out", "tip-2")
    assert "by local: a new tip" in said.out, "it is out for that, though it was not said again"
    lab.stop("stm", reason="smoke")
    said = program("heads", "stm", "--in", "tip-2")
    assert said.out.endswith(
        "head 'tip-2' is in service, but stopped by local: smoke; go on with: taskmaster reset stm\n"
    )
    lab.reset("stm")
    program("pause", "stm")
    said = program("heads", "stm", "--in", "tip-2")
    assert said.out.endswith("head 'tip-2' is in service, but its Master is paused: taskmaster resume stm\n")
    program("resume", "stm")


def test_a_head_that_there_is_not_is_unknown_as_a_master_is(lab: Lab, program: Program) -> None:
    for line in (["heads", "stm", "--in", "tip-9"], ["heads", "stm", "--out", "tip-9"]):
        said = program(*line)
        assert (said.status, said.err) == (
            8,
            "taskmaster: Master 'stm' has no head 'tip-9'; did you mean 'tip-2'?\n",
        )


def test_a_reset_says_what_it_has_not_released(lab: Lab, program: Program) -> None:
    assert program("reset").out == "no instrument is stopped: nothing was to be reset\n"
    lab.stop()
    program("pause", "stm")
    paused = "Master 'stm' is paused all the same; go on with: taskmaster resume stm\n"
    assert program("reset").out == f"all instruments are released\n{paused}"
    program("resume", "stm")
    assert program("reset", "stm").out == "Master 'stm' is not stopped: nothing was to be reset\n"


def test_points_for_a_head_that_there_is_not_leave_no_run(lab: Lab, program: Program) -> None:
    before = lab.runs()
    said = program("submit", "stm", "1,1", "--head", "tip-9")
    assert (said.status, said.err) == (8, "taskmaster: Master 'stm' has no head 'tip-9'; did you mean 'tip-2'?\n")
    said = program("submit", "stm", "1,1", "--capability", "cold")
    assert (said.status, "no head of Master 'stm' has the capability 'cold'" in said.err) == (1, True)
    assert lab.runs() == before
