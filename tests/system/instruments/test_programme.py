"""Programmes of two weeks at a simulated growth chamber, a day in a second: what the chamber was told, and when."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from helpers.daemon import Daemon
from helpers.places import StartDaemon
from helpers.probes import heads
from helpers.waiting import eventually

from taskmaster.drivers.instruments.notes import read_token
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run

#: Seconds of the programmes, and of the chambers, in one.
SPEED = 1e5
DAYS = 14
#: The temperature of each day is its own.
TEMPERATURES = [15.0 + day for day in range(DAYS)]


def growth(chamber: str, **programme: Any) -> dict[str, Any]:
    """Keys of a Master with one chamber: another temperature each day, and light as the learner says."""
    steps = [{"at": f"{day} d", "temperature": celsius} for day, celsius in enumerate(TEMPERATURES)]
    steps[0]["light"] = "light"
    return {
        "driver": "visa",
        "heads": [{"name": "chamber-1", "resource": chamber}],
        "deadman": "60 s",
        "on_shutdown": "continue",
        "reconnect": {"first": "20 ms", "longest": "100 ms"},
        "parameters": {"light": {"min": 0, "max": 1200}},
        "setpoints": {"temperature": {"min": 5, "max": 45}, "light": {"min": 0, "max": 1500}},
        "outputs": {"mass": {"unit": "g"}, "air": {"unit": "°C"}},
        "programme": {"duration": f"{DAYS} d", "sample": "1 h", "speed": SPEED, "steps": steps, **programme},
        "commands": {
            "open": ["*CLS"],
            "set": ["TEMP:SP {temperature:.2f}", "LIGHT:SP {light:.0f}", "RUN"],
            "read": {"mass": "PLANT:MASS?", "air": "TEMP?"},
            "safe": ["STANDBY"],
            "errors": {"query": "SYST:ERR?"},
        },
    }


class Room:
    """One chamber, and the daemon that runs programmes there."""

    def __init__(self, chambers: Laboratory, start: StartDaemon) -> None:
        self.chambers = chambers
        self._start = start

    def daemon(self, keys: Mapping[str, Any] | None = None, **programme: Any) -> Daemon:
        table = {**growth(self.chambers.heads[0].resource, **programme), **(keys or {})}
        return self._start({"growth": table}, lost_after="1 s", heartbeat="200 ms", grace="0 s")

    @property
    def told(self) -> list[float]:
        """The temperatures that the chamber was told, one after the other; none stands twice in a row."""
        actions = self.chambers.control.actions("chamber-1").actions
        celsius = [action.arguments[0] for action in actions if action.command == "TEMP:SP"]
        return [now for before, now in pairwise([0.0, *celsius]) if now != before]

    def await_checkpoint(self, daemon: Daemon) -> None:
        """Wait until what is kept of the programme is another."""

        def kept() -> list[bytes]:
            tokens = (read_token(path.with_suffix("")) for path in daemon.state.rglob("*.token"))
            return [checkpoint.token for checkpoint in tokens if checkpoint is not None]

        before = kept()
        eventually(lambda: kept() not in (before, []), "a checkpoint")

    def await_day(self, day: int) -> None:
        eventually(lambda: TEMPERATURES[day] in self.told, f"day {day} to begin, among {self.told}")


@pytest.fixture
def chambers() -> Iterator[Laboratory]:
    with Laboratory("chambers", count=1, factor=SPEED, variation=0) as chambers:
        yield chambers


@pytest.fixture
def room(chambers: Laboratory, start_daemon: StartDaemon) -> Room:
    return Room(chambers, start_daemon)


def begin(lab: Lab, light: float = 400.0) -> Run:
    run = lab["growth"].open("plant")
    run.tasks.put({"light": light})
    return run


def kill_all(daemon: Daemon, lab: Lab) -> None:
    """As a power cut would."""
    pids = [daemon.guardians()["growth"], heads(lab)["chamber-1"].pid]
    daemon.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_two_weeks_survive_three_restarts_of_the_daemon(room: Room) -> None:
    watched = {
        "interlocks": {"limiter": {"query": "ALARM?", "every": "100 ms", "equals": 0}},
        "monitor": {"humidity": {"query": "HUM?", "every": "100 ms"}},
    }
    daemon = room.daemon(watched, interruption="pauses")
    with daemon.connect() as lab:
        run = begin(lab)
        room.await_day(2)
        daemon.kill()
        daemon.start()
        room.await_day(5)
        daemon.stop()
        daemon.start()
        room.await_day(8)
        kill_all(daemon, lab)
        daemon.start()
        result = run.results.get(timeout=30)

        assert result.output["mass"] > 0.1
        assert not lab.held()
    counts = room.chambers.control.actions("chamber-1").counts
    assert min(counts["ALAR?"], counts["HUM?"]) > 50, "it was watched all the time"
    told = room.told
    assert told.count(TEMPERATURES[0]) == 1, "it began once"
    assert list(dict.fromkeys(told)) == TEMPERATURES, "every day came, in order"


def test_a_chamber_that_is_unplugged_now_and_then_goes_on_and_is_not_given_up(room: Room) -> None:
    steps = [{"at": "0 h", "temperature": 30, "light": "light"}]
    daemon = room.daemon({"quarantine_after": 2}, duration="4 d", steps=steps, interruption="pauses")
    control = room.chambers.control
    with daemon.connect() as lab:
        run = begin(lab)
        for times in (2, 3):
            room.await_checkpoint(daemon)
            control.unplug("chamber-1")
            eventually(lambda: heads(lab)["chamber-1"].state == "faulty", "the head to be missed")
            control.replug("chamber-1")
            control.wait("chamber-1", "TEMP:SP", times)
        result = run.results.get(timeout=30)
        assert result.output["mass"] > 0
        assert result.attempt == 1
    assert "STAN" not in control.actions("chamber-1").counts, "it is gone on with, not begun anew"
