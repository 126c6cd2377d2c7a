"""``taskmaster worker``: processes of another machine, with its folders, evaluate for a Master and leave again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli import Terminal, taskmaster
from helpers.daemon import Daemon, function, tcp
from helpers.documents import document, section
from helpers.places import StartDaemon, short_folder
from helpers.tunnel import tunnel
from helpers.visits import Visits
from helpers.waiting import PATIENCE, all_ended, eventually

from taskmaster.bus.errors import TaskFailed
from taskmaster.learners.client import Lab

CTRL_C = "\x03"


@pytest.fixture(scope="module")
def visits() -> Iterator[Visits]:
    with short_folder() as folder, Visits(folder) as visits:
        yield visits


@pytest.fixture(scope="module")
def here() -> Iterator[Path]:
    """The folder of functions on the daemon's machine."""
    with short_folder() as folder:
        (folder / "where.py").write_text("def evaluate(point): return 'the daemon'\n")
        yield folder


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon, here: Path) -> Daemon:
    elsewhere = {"driver": "process", "workers": 0, "path": [str(here)]}
    masters = {
        "where": {**elsewhere, "function": "where:evaluate"},
        "only-there": {**elsewhere, "function": "only_there:evaluate"},
        "visit": function("visit", workers=0),
        "large": function("allocate", workers=0, memory_limit="512 MB"),
    }
    return start_shared_daemon(masters, **tcp())


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


def test_its_folders_are_those_of_its_own_machine(lab: Lab, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "where.py").write_text("def evaluate(point): return 'elsewhere'\n")
    (tmp_path / "only_there.py").write_text("def evaluate(point): return point + 1\n")
    with Terminal("worker", daemon.address, "where", "-n", "1", "--path", tmp_path, columns=200) as terminal:
        terminal.await_text(r"1 worker process for Master 'where' of 'tested' at tcp://\S+; Ctrl-C to leave")
        assert lab["where"].map([1]) == ["elsewhere"], "though the daemon's folder is here, too"
        terminal.press(CTRL_C)
        assert terminal.wait() == 0
        assert "left Master 'where'" in terminal.lines[-1]
    eventually(lambda: not lab["where"].statistics().workers, "it to be gone")
    with Terminal("worker", daemon.address, "only-there", "-n", "2", "--path", tmp_path) as terminal:
        eventually(lambda: lab["only-there"].slots == 2, "both to be ready")
        assert lab["only-there"].map(range(10)) == list(range(1, 11))
        [name, _] = sorted(worker.name for worker in lab["only-there"].statistics().workers)
        assert name.startswith(f"{os.uname().nodename}:")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 0


def test_ctrl_c_finishes_what_is_under_way_and_is_no_capacity_meanwhile(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    environment = visits.env
    with lab["visit"].open() as run:
        with Terminal("worker", daemon.address, "visit", "-n", "1", environment=environment) as terminal:
            run.tasks.put("long")
            visit = visits.next()
            terminal.press(CTRL_C)
            terminal.await_text("leaving: what is being evaluated is finished first")
            eventually(lambda: lab["visit"].slots == 0, "the daemon to have heard of it")
            assert [worker.state for worker in lab["visit"].statistics().workers] == ["leaving"]
            visit.go()
            assert run.results.get(PATIENCE).output == "long"
            assert terminal.wait() == 0
        assert lab["visit"].statistics().lost == 0


def test_a_second_ctrl_c_leaves_at_once_and_the_task_is_tried_elsewhere(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with lab["visit"].open() as run:
        with Terminal("worker", daemon.address, "visit", "-n", "1", environment=visits.env) as terminal:
            run.tasks.put("long")
            visit = visits.next()
            worker = os.pidfd_open(visit.pid)
            terminal.press(CTRL_C)
            terminal.await_text("leaving")
            terminal.press(CTRL_C)
            assert terminal.wait() == 130
            assert all_ended([worker]), "no process is left behind"
            os.close(worker)
        with Terminal("worker", daemon.address, "visit", "-n", "1", environment=visits.env) as terminal:
            visits.next().go()
            result = run.results.get(PATIENCE)
            assert (result.output, result.attempt) == ("long", 2)
            terminal.press(CTRL_C)
            assert terminal.wait() == 0


def test_it_says_once_that_the_daemon_is_gone_and_once_that_it_is_back(
    lab: Lab, daemon: Daemon, visits: Visits
) -> None:
    with Terminal("worker", daemon.address, "visit", "-n", "2", environment=visits.env) as terminal:
        eventually(lambda: lab["visit"].slots == 2, "both to be ready")
        daemon.kill()
        terminal.await_text(r"Master 'visit': no connection to the daemon at tcp://\S+; waiting for it to come back")
        daemon.start()
        terminal.await_text(r"Master 'visit': connected to the daemon at tcp://\S+")
        eventually(lambda: lab["visit"].slots == 2, "both to be back, too")
        terminal.press(CTRL_C)
        assert terminal.wait() == 0
        assert terminal.text.count("no connection to") == terminal.text.count("connected to") == 1


def test_the_masters_memory_limit_holds_elsewhere_too(lab: Lab, daemon: Daemon) -> None:
    with Terminal("worker", daemon.address, "large", "-n", "1") as terminal, lab["large"].open() as run:
        run.tasks.put_many([1, 4096])
        small, large = sorted(run.results, key=lambda result: result.index)
        assert small.output == 1 << 20
        assert isinstance(large.error, TaskFailed)
        assert large.error.kind == "MemoryError"
        terminal.press(CTRL_C)
        assert terminal.wait() == 0


def test_one_that_cannot_evaluate_here_gives_up_and_says_why(daemon: Daemon) -> None:
    said = taskmaster("worker", daemon.address, "only-there", "-n", "1", "--log-level", "error")
    assert said.status == 9
    assert "no module 'only_there' in " in said.err
    assert said.err.splitlines()[-1] == (
        "taskmaster: Master 'only-there': its workers cannot start here; gave up after 5 attempts; what they said is "
        "above"
    )


def test_a_master_or_daemon_that_there_is_not(daemon: Daemon) -> None:
    said = taskmaster("worker", daemon.address, "vist")
    assert said.status == 8
    assert said.err == f"taskmaster: the daemon at {daemon.address} has no Master 'vist'; did you mean 'visit'?\n"
    said = taskmaster("worker", "tcp://127.0.0.1:1", "visit")
    assert said.status == 4
    assert said.err.startswith("taskmaster: no daemon listens at tcp://127.0.0.1:1 (Connection refused)")


def test_from_another_machine_it_takes_a_tunnel_of_three_ports(lab: Lab, daemon: Daemon, tmp_path: Path) -> None:
    """The recipe of docs/cli.md: a worker and a client, each on a machine that shares no network with the daemon."""
    (tmp_path / "where.py").write_text("def evaluate(point): return f'{point} over there'\n")
    program = (sys.executable, "-m", "taskmaster")
    with short_folder() as folder, tunnel(folder, daemon.ports) as elsewhere:
        if elsewhere is None:
            pytest.skip("no network namespaces on this system")
        worker = elsewhere.start(*program, "worker", daemon.address, "where", "-n", "1", "--path", str(tmp_path))
        try:
            eventually(lambda: lab["where"].slots == 1, "the worker to be ready")
            put = ("submit", "where", '"here"', "--wait", "--address", daemon.address)
            with elsewhere.start(*program, *put) as client:
                printed, _ = client.communicate(timeout=PATIENCE)
            assert (client.returncode, "→ here over there" in printed) == (0, True), printed
        finally:
            worker.terminate()
            worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0, "it left in order"
    section(document("docs/cli.md"), "From another machine")
