"""``taskmaster serve``, and ``taskmaster check --journal`` on what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli import Program, Terminal, taskmaster
from helpers.daemon import Daemon, function, toml
from helpers.documents import document, section, tables
from helpers.visits import Visits
from helpers.waiting import PATIENCE, all_ended

from taskmaster.daemon.journal.report import JournalReport, RunReport
from taskmaster.learners.client import connect

SERVE = ("-m", "taskmaster", "serve")
ECHO = {"echo": function("echo")}


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    daemon = Daemon(place / "d", ECHO)
    yield daemon
    daemon.close()


def serve(config: Path) -> str:
    """What `serve` says when it cannot, which is one line."""
    said = taskmaster("serve", config, "--log-level", "error")
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("taskmaster: ")
    return f"{said.status} {said.err.removeprefix('taskmaster: ').rstrip()}"


# -- a service --------------------------------------------------------------------------------------------------------


def test_it_tells_systemd_when_it_is_ready_alive_and_stopping(daemon: Daemon) -> None:
    daemon.launch(program=SERVE, WATCHDOG_USEC="200000")
    daemon.await_note("READY=1")
    daemon.await_note("WATCHDOG=1")
    daemon.notes.clear()
    daemon.await_note("WATCHDOG=1")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    daemon._drain_notes()
    assert "STOPPING=1" in daemon.notes
    assert "clients find it by: export TASKMASTER=ipc:///" in daemon.log


def test_it_works_on_where_whoever_started_it_does_not_listen_any_more(daemon: Daemon) -> None:
    daemon.launch(program=SERVE)
    daemon.await_note("READY=1")
    (daemon.folder / "notify").unlink()
    assert daemon.stop() == 0
    assert "cannot tell" in daemon.log
    assert "has stopped" in daemon.log


def test_a_loop_that_hangs_feeds_the_watchdog_no_more(daemon: Daemon) -> None:
    daemon.launch(program=SERVE, WATCHDOG_USEC="100000")
    daemon.await_note("WATCHDOG=1")
    daemon.signal(signal.SIGSTOP)
    daemon._drain_notes()
    daemon.notes.clear()
    with pytest.raises(AssertionError, match="no WATCHDOG=1"):
        daemon.await_note("WATCHDOG=1", timeout=0.3)
    daemon.signal(signal.SIGCONT)
    daemon.await_note("WATCHDOG=1")


def test_logs_for_programs_have_the_documented_keys(daemon: Daemon) -> None:
    daemon.launch(program=(*SERVE, "--log-format", "json"))
    daemon.await_note("READY=1")
    assert daemon.stop() == 0
    entries = [json.loads(line) for line in daemon.log.splitlines()]
    [keys] = tables(section(document("docs/cli.md"), "Of logs"))
    assert {tuple(entry) for entry in entries} == {tuple(row[0] for row in keys)}
    assert any("is ready at" in entry["message"] for entry in entries)


# -- a person in a terminal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_lets_evaluations_finish_and_a_second_one_does_not(presses: int, place: Path) -> None:
    config = place / "lab.toml"
    with Visits(place) as visits:
        masters = {"visit": function("visit", env=visits.env)}
        config.write_text(toml({"state": "state", "durability": "crash", "grace": "60 s"}, masters))
        with Terminal("serve", config, columns=200) as terminal:
            terminal.await_text(r"daemon '.*' is ready at ipc:///\S+/control \(epoch \d+\)")
            with connect(f"ipc://{place}/state/control") as lab:
                run = lab["visit"].open("kept")
                run.tasks.put("under way")
                visit = visits.next()
                worker = os.pidfd_open(visit.pid)
                terminal.press("\x03")
                terminal.await_text(r"stopping: evaluations under way may take up to 1 min \(once more: none\)")
                if presses == 1:
                    visit.go()
                    assert run.results.get(PATIENCE).output == "under way"
                else:
                    terminal.press("\x03")
                assert terminal.wait() == 0
                assert "has stopped" in terminal.lines[-1]
                assert all_ended([worker]), "no process is left behind"
                os.close(worker)


# -- what keeps it from starting --------------------------------------------------------------------------------------


def test_what_keeps_it_from_starting_is_one_line_with_a_code_of_its_own(daemon: Daemon, place: Path) -> None:
    daemon.launch(program=SERVE)
    daemon.await_note("READY=1")
    config = daemon.folder / "daemon.toml"
    said = serve(config)
    assert said == (
        f"5 another daemon (process {daemon.pid}) uses the state directory {daemon.state}; stop it, or give this one "
        "another ([daemon] state = …)"
    )

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        (place / "taken.toml").write_text(toml({"state": "other", "listen": address}, ECHO))
        said = serve(place / "taken.toml")
        assert said.startswith("6 ")
        assert address in said

    (place / "file").write_text("")
    (place / "state.toml").write_text(toml({"state": "file/state"}, ECHO))
    said = serve(place / "state.toml")
    assert said.startswith(f"10 the state directory {place}/file/state cannot be written: Not a directory; choose")

    assert serve(place / "nowhere.toml").startswith(f"3 {place}/nowhere.toml: there is no such file")
    (place / "wrong.toml").write_text("[masters.echo]\ndriver = 'proces'\nfunction = 'a:b'\n")
    assert serve(place / "wrong.toml") == (
        f"3 {place}/wrong.toml:2: masters.echo.driver: unknown driver 'proces'; did you mean 'process'?"
    )


# -- the journal ------------------------------------------------------------------------------------------------------


def test_a_journal_is_checked_found_damaged_and_salvaged(
    daemon: Daemon, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = Program(capsys, monkeypatch)
    daemon.launch(program=SERVE)
    daemon.await_note("READY=1")
    with daemon.connect() as lab, lab["echo"].open("measured") as run:
        run.tasks.put_many([f"point {k}" for k in range(50)])
        assert len(list(run.results)) == 50
    said = typed("check", "--journal", daemon.state)
    assert said.status == 0, "a daemon at work on it does not stand in the way"
    assert said.out.splitlines()[-1] == "It is whole."
    said = typed("check", "--journal", daemon.state, "--salvage", place / "new")
    assert said.status == 1
    assert said.err == f"taskmaster: a daemon (process {daemon.pid}) is at work in {daemon.state}; stop it first\n"
    daemon.stop()

    said = typed("check", "--journal", daemon.folder / "daemon.toml", "--json")
    report = json.loads(said.out)
    [keys] = tables(section(document("docs/cli.md"), "Of `check --journal`"))
    assert set(report) == {row[0] for row in keys} == {*(f.name for f in dataclasses.fields(JournalReport)), "ok"}
    [measured] = report["runs"]
    assert set(measured) == {*(field.name for field in dataclasses.fields(RunReport)), "ok"}
    assert (report["ok"], measured["tasks"], measured["events_kept"]) == (True, 50, measured["events"])

    database = daemon.state / "journal.db"
    data = bytearray(database.read_bytes())
    at = data.rindex(b"point 3")
    data[at] ^= 0xFF
    database.write_bytes(data)
    assert serve(daemon.folder / "daemon.toml").startswith("7 ")
    said = typed("check", "--journal", daemon.state)
    assert said.status == 7
    assert said.err == f"taskmaster: the journal in {daemon.state} is damaged, see above\n"
    assert "It is DAMAGED." in said.out
    assert f"taskmaster check --journal {daemon.state} --salvage NEW" in said.out

    said = typed("check", "--journal", daemon.state, "--salvage", place / "new")
    assert (said.status, said.err) == (0, "")
    assert f'state = "{place}/new"' in said.out
    assert typed("check", "--journal", place / "new").status == 0
    daemon.configure(ECHO, state=str(place / "new"), listen=f"ipc://{place}/new/control")
    daemon.launch(program=SERVE)
    daemon.await_note("READY=1")
    with daemon.connect() as lab:
        assert [run.name for run in lab.runs()] == ["measured"]
        assert lab["echo"].statistics().state == "paused", "somebody has to look at it first"
    assert typed("resume", "echo", "--address", daemon.address).status == 0
