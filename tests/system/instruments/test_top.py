"""Instruments that are stopped, by the key S in ``taskmaster top`` or otherwise, and what people are told of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import probes
from helpers.cli import Program, Terminal
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.probes import await_states, states
from helpers.waiting import eventually

from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab

LONG_MOVE = {"x": 400.0, "y": 400.0}


@pytest.fixture(scope="module")
def probe() -> Iterator[Laboratory]:
    """A tip takes longer to settle than any test."""
    with Laboratory("probe", heads=2, settling=600) as probe:
        yield probe


@pytest.fixture(scope="module")
def daemon(probe: Laboratory, start_shared_daemon: StartDaemon) -> Daemon:
    masters = {"left": probes.stm(probe, ["tip-1"]), "right": probes.stm(probe, ["tip-2"])}
    return start_shared_daemon({**masters, "square": function("square")})


def moves(probe: Laboratory) -> int:
    return sum(probes.visits(probe, ["tip-1", "tip-2"]).values())


@pytest.fixture
def lab(daemon: Daemon, probe: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Both heads are in the middle of a task."""
    monkeypatch.setenv("TASKMASTER", daemon.address)
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready")
        before = moves(probe)
        for master in ("left", "right"):
            lab[master].tasks.put(LONG_MOVE)
        eventually(lambda: moves(probe) == before + 2, "both to move: a task that has not begun is not in doubt")
        await_states(lab, "busy", "busy")
        yield lab
        lab.stop()
        eventually(lambda: len(lab.held()) == 2, "what was broken off to be in doubt")
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail")
        lab.reset()


def test_a_capital_s_stops_all_instruments_and_asks_nothing(lab: Lab, probe: Laboratory) -> None:
    begun = probe.control.mark()
    with Terminal("top", columns=120) as terminal:
        terminal.await_text("q leaves; S stops the instruments at once")
        terminal.press("s")
        mark = probe.control.mark()
        terminal.press("S")
        terminal.await_text(r"stopped all instruments, until: taskmaster reset \(2 of 2 heads are known to be safe\)")
        assert states(lab) == ["stopped", "stopped"]
        assert [info.reason.split(": ")[1] for info in lab.heads()] == ["key S in top"] * 2
        for head in ("tip-1", "tip-2"):
            safe = probe.control.first_safe(head, begun)
            assert safe is not None
            assert mark < safe < mark + 1.0, "and the small letter did nothing"
        terminal.press("q")
        assert terminal.wait() == 0


def test_of_one_master_it_stops_that_one(lab: Lab, probe: Laboratory) -> None:
    with Terminal("top", "left", columns=120) as terminal:
        terminal.await_text("S stops")
        terminal.press("S")
        terminal.await_text("stopped Master 'left', until: taskmaster reset left ")
        assert states(lab) == ["stopped", "busy"]


def test_what_could_not_be_stopped_is_said(lab: Lab) -> None:
    with Terminal("top", "square", columns=120) as terminal:
        terminal.await_text("\nq leaves *\n")
        terminal.press("S")
        terminal.await_text("NOT STOPPED: Master 'square' is no instrument")
        assert states(lab) == ["busy", "busy"]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


def test_who_puts_tasks_for_a_stopped_master_is_told_why_they_wait(lab: Lab, typed: Program) -> None:
    lab.stop("left", reason="smoke", who="ada")
    said = "stopped by ada: smoke; when it may go on: taskmaster reset left\n"
    assert f"Master 'left': {said}" in typed("status").out
    put = typed("submit", "left", "1,1", "--run", "waiting")
    assert f"taskmaster: its tasks wait: Master 'left' is {said}" in put.err
    assert typed("cancel", "left/waiting", "--all").status == 0


def test_a_master_whose_heads_are_all_out_of_service_says_so(lab: Lab, typed: Program) -> None:
    lab.set_head("left", "tip-1", inside=False)
    lab.stop("left")
    lab.reset("left")
    eventually(lambda: lab["left"].statistics().state == "no heads", "the head to be out")
    assert "left    no heads" in typed("status", "left").out
    lab.set_head("left", "tip-1", inside=True)
