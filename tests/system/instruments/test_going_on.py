"""Long tasks go on where they were interrupted, whatever was; and heads find out what has become of tasks in doubt."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import EVALUATIONS, Daemon
from helpers.places import StartDaemon
from helpers.probes import await_states, heads
from helpers.waiting import eventually

from taskmaster.learners.client import Lab, Run


class Room:
    """Growth chambers of one folder."""

    def __init__(self, folder: Path, start: StartDaemon) -> None:
        self.folder = folder
        self._start = start

    def daemon(self, kind: str = "Chamber", **keys: Any) -> Daemon:
        chambers = {
            "driver": "instrument",
            "class": f"growing:{kind}",
            "path": [str(EVALUATIONS)],
            "kwargs": {"folder": str(self.folder)},
            "heads": [{"name": "chamber-1"}, {"name": "chamber-2", "capabilities": ["bright"]}],
            "parameters": {"light": {"min": 0, "max": 100}},
            "outputs": {"mass": {"unit": "g"}},
            "reconnect": {"first": "20 ms", "longest": "100 ms"},
            **keys,
        }
        return self._start({"chambers": chambers}, lost_after="1 s", heartbeat="200 ms", grace="0 s")

    def pass_day(self, day: int) -> None:
        (self.folder / str(day)).touch()

    @property
    def record(self) -> list[str]:
        path = self.folder / "record"
        return path.read_text().splitlines() if path.exists() else []

    def await_note(self, note: str) -> None:
        eventually(lambda: note in self.record, f"{note!r} in {self.record}")


@pytest.fixture
def room(tmp_path: Path, start_daemon: StartDaemon) -> Room:
    return Room(tmp_path, start_daemon)


def sow(lab: Lab, room: Room) -> Run:
    """A plant in the bright chamber."""
    await_states(lab, "ready", "ready")
    run = lab["chambers"].open("plant")
    run.tasks.put({"light": 10.0}, where={"capability": "bright"})
    room.await_note("chamber-2 sow 10")
    return run


def interrupt_worker(daemon: Daemon, lab: Lab) -> None:
    os.kill(heads(lab)["chamber-2"].pid, signal.SIGKILL)


def interrupt_guardian(daemon: Daemon, lab: Lab) -> None:
    os.kill(daemon.guardians()["chambers"], signal.SIGKILL)


def interrupt_everything(daemon: Daemon, lab: Lab) -> None:
    """As a power cut would, but that the notes of progress stay."""
    pids = [daemon.guardians()["chambers"], *(info.pid for info in lab.heads())]
    daemon.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    daemon.start()


def interrupt_by_stop(daemon: Daemon, lab: Lab) -> None:
    lab.stop(reason="smoke")
    eventually(lambda: all(info.safe for info in lab.heads()), "all to be safe")
    lab.reset()


def interrupt_by_restart(daemon: Daemon, lab: Lab) -> None:
    daemon.stop()
    daemon.start()


INTERRUPTIONS = [interrupt_worker, interrupt_guardian, interrupt_everything, interrupt_by_stop, interrupt_by_restart]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_a_plant_goes_on_growing_where_it_was(room: Room, interrupt: Callable[[Daemon, Lab], None]) -> None:
    daemon = room.daemon()
    with daemon.connect() as lab:
        run = sow(lab, room)
        room.pass_day(1)
        room.pass_day(2)
        room.await_note("chamber-2 day 2")
        interrupt(daemon, lab)
        room.await_note("chamber-2 resume 10 from 2")
        room.pass_day(3)
        room.pass_day(4)
        result = run.results.get(timeout=30)
        assert result.output == 40.0
        assert result.worker == "chamber-2"
        done = [note for note in room.record if not note.endswith("safe")]
        assert done == [
            f"chamber-2 {note}" for note in ("sow 10", "day 1", "day 2", "resume 10 from 2", "day 3", "day 4")
        ]


def test_a_checkpoint_that_only_the_disk_of_its_worker_has_outlives_a_power_cut(room: Room) -> None:
    daemon = room.daemon()
    with daemon.connect() as lab:
        sow(lab, room)
        room.pass_day(1)
        room.await_note("chamber-2 day 1")
        pids = [daemon.guardians()["chambers"], *(info.pid for info in lab.heads())]
        daemon.kill()
        room.pass_day(2)
        room.await_note("chamber-2 day 2")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for notes in (daemon.state / "guardians" / "chambers").iterdir():
            if notes.suffix not in (".token", ".1") and notes.name not in ("lock", "log"):
                _date_back(notes)
        daemon.start()
        room.await_note("chamber-2 resume 10 from 2")


def _date_back(notes: Path) -> None:
    """Have them be from before the machine was started."""
    data = notes.read_bytes()
    notes.write_bytes(bytes(byte ^ 255 for byte in data[:8]) + data[8:])


def test_one_that_was_interrupted_before_its_first_checkpoint_is_in_doubt(room: Room) -> None:
    daemon = room.daemon()
    with daemon.connect() as lab:
        sow(lab, room)
        interrupt_worker(daemon, lab)
        (held,) = eventually(lab.held, "the task to be in doubt")
        assert room.record.count("chamber-2 sow 10") == 1
        lab.resolve(held.run, held.index, "retry")
        eventually(lambda: room.record.count("chamber-2 sow 10") == 2, "it to be sown again, as somebody has said")


def test_after_too_long_a_person_is_asked_and_may_have_it_go_on(room: Room) -> None:
    daemon = room.daemon(resume_within="1 s")
    with daemon.connect() as lab:
        run = sow(lab, room)
        room.pass_day(1)
        room.await_note("chamber-2 day 1")
        lab.stop(reason="a power cut")
        (held,) = eventually(lab.held, "somebody to be asked")
        assert "it was interrupted for more than resume_within = 1 s" in held.reason
        lab.reset()
        lab.resolve(held.run, held.index, "resume")
        room.await_note("chamber-2 resume 10 from 1")
        for day in (2, 3, 4):
            room.pass_day(day)
        assert run.results.get(timeout=30).output == 40.0


@pytest.mark.parametrize(("found", "state"), [("12.5", "done"), ("", "sown again"), (None, "held")])
def test_a_head_finds_out_what_has_become_of_its_task(room: Room, found: str | None, state: str) -> None:
    daemon = room.daemon("Forgetful")
    if found is not None:
        (room.folder / "harvest").write_text(found)
    with daemon.connect() as lab:
        run = sow(lab, room)
        interrupt_worker(daemon, lab)
        room.await_note("chamber-2 look")
        if state == "done":
            assert run.results.get(timeout=30).output == 12.5
            await_states(lab, "ready", "ready")
        elif state == "held":
            eventually(lambda: room.record[-1] == "chamber-2 safe", "it to be safe again")
            assert [held.index for held in lab.held()] == [0]
        else:
            eventually(lambda: room.record.count("chamber-2 sow 10") == 2, "it to be evaluated")
            assert not lab.held()


# -- an only head, which has no name ----------------------------------------------------------------------------------


def sow_alone(lab: Lab, room: Room) -> Run:
    await_states(lab, "ready")
    run = lab["chambers"].open("plant")
    run.tasks.put({"light": 10.0})
    room.await_note(" sow 10")
    return run


def test_at_an_only_head_without_a_name_it_goes_on_as_well(room: Room) -> None:
    daemon = room.daemon(heads=[])
    with daemon.connect() as lab:
        run = sow_alone(lab, room)
        room.pass_day(1)
        room.await_note(" day 1")
        lab.stop()
        eventually(lambda: lab.heads()[0].safe, "it to be safe")
        lab.reset()
        room.await_note(" resume 10 from 1")
        interrupt_by_restart(daemon, lab)
        eventually(lambda: room.record.count(" resume 10 from 1") == 2, "it to go on after a restart, too")
        for day in (2, 3, 4):
            room.pass_day(day)
        result = run.results.get(timeout=30)
        assert (result.output, result.worker) == (40.0, "chambers")


def test_an_only_head_without_a_name_is_parked_for_a_task_in_doubt(room: Room) -> None:
    daemon = room.daemon(heads=[])
    with daemon.connect() as lab:
        run = sow_alone(lab, room)
        run.tasks.put({"light": 20.0})
        os.kill(heads(lab)[""].pid, signal.SIGKILL)
        (held,) = eventually(lab.held, "the task to be in doubt")
        await_states(lab, "parked")
        interrupt_by_restart(daemon, lab)
        await_states(lab, "parked")
        assert " sow 20" not in room.record, "nothing is begun meanwhile"
        lab.resolve(held.run, held.index, "fail")
        room.await_note(" sow 20")
