"""Alarms of a real daemon: on the bus, in the log, in a list, told to a program, until what they are about is over."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.circle import Circle
from helpers.daemon import Daemon, function
from helpers.disks import small_disk
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.status import AlarmInfo
from taskmaster.daemon.journal import checksums
from taskmaster.learners import connect

#: Appends what it was told to a file, one line a time.
HOOK = """#!/bin/sh
printf '%s %s %s\\t' "$TASKMASTER_ALARM_STATE" "$TASKMASTER_ALARM_KIND" "$TASKMASTER_ALARM_SUBJECT" >> "$0.said"
cat >> "$0.said"
"""


def program(path: Path, text: str) -> list[str]:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def said(hook: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """What the program was told: in its environment, and on its standard input."""
    path = Path(f"{hook[0]}.said")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.split("\t") for line in lines if line.endswith("}")]
    return [(words, json.loads(text)) for words, text in pairs]


def kinds(alarms: tuple[AlarmInfo, ...]) -> list[str]:
    return [alarm.kind for alarm in alarms]


def taskmaster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskmaster", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def broken(place: Path) -> dict[str, dict[str, Any]]:
    """A Master whose workers cannot start as long as there is a file."""
    (place / "broken").write_text("raise")
    keys = {"setup": "evaluations:set_up", "env": {"BROKEN": str(place / "broken")}, "restarts": 2}
    return {"pump": function("echo", **keys)}


def start(place: Path, masters: dict[str, Any], alarms: dict[str, Any], **settings: Any) -> Daemon:
    """A daemon with a section of its configuration for alarms."""
    daemon = Daemon(place / "d", masters, **settings)
    with (daemon.folder / "daemon.toml").open("a") as file:
        file.write("[alarms]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in alarms.items()))
    try:
        return daemon.start()
    except BaseException:
        daemon.close()
        raise


def test_an_alarm_is_raised_listed_told_to_a_program_and_cleared(place: Path) -> None:
    hook = program(place / "hook", HOOK)
    daemon = start(place, broken(place), {"command": hook})
    try:
        with daemon.connect() as lab:
            [alarm] = eventually(lab.standing_alarms, "the alarm")
            assert (alarm.kind, alarm.level, alarm.subject) == ("crash_loop", "error", "pump")
            assert "gave up after 2 attempts" in alarm.message
            [published] = eventually(lambda: lab.alarms, "it on the bus")
            assert (published.message, published.state) == (alarm.message, "raised")
            [(words, told)] = eventually(lambda: said(hook), "the program")
            assert words == "raised crash_loop pump"
            assert told == {
                "daemon": "tested",
                "state": "raised",
                "kind": "crash_loop",
                "level": "error",
                "subject": "pump",
                "about": "",
                "message": alarm.message,
                "time": published.time,
            }
            shown = taskmaster("alarms", "--address", daemon.address)
            assert (shown.returncode, "crash_loop" in shown.stdout, alarm.message in shown.stdout) == (0, True, True)
            listed = json.loads(taskmaster("alarms", "--address", daemon.address, "--json").stdout)
            assert [each["kind"] for each in listed] == ["crash_loop"]
            assert "1 alarm stands: taskmaster alarms" in taskmaster("status", "--address", daemon.address).stdout
            turns = lab.status().turns
            eventually(lambda: lab.status().turns > turns + 3, "some turns more")

            (place / "broken").unlink()
            lab["pump"].resume()
            eventually(lambda: not lab.standing_alarms(), "it to be over")
            eventually(lambda: len(said(hook)) == 2, "the program to be told")
            assert [words for words, _ in said(hook)] == ["raised crash_loop pump", "cleared crash_loop pump"]
            assert len(lab.alarms) == 1, "what is over is no alarm"
            assert daemon.log.count(alarm.message) == 2, "once when it was raised, once when it was over"
        assert taskmaster("alarms", "--address", daemon.address).stdout == "no alarm stands\n"
    finally:
        daemon.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("#!/bin/sh\necho no such recipient >&2; exit 3\n", "ended with status 3: no such recipient"),
        ("#!/bin/sh\nexec sleep 60\n", "took more than 0.2 s, and was killed"),
        ("#!/bin/sh\nsleep 60 &\nexec yes too much >&2\n", "took more than 0.2 s, and was killed: "),
        ("no program at all", "cannot be run: "),
    ],
    ids=["fails", "hangs", "floods", "is none"],
)
def test_a_program_that_fails_costs_a_line_in_the_log(place: Path, text: str, complaint: str) -> None:
    hook = program(place / "hook", text)
    daemon = start(place, broken(place), {"command": hook, "timeout": "200 ms"})
    try:
        eventually(lambda: f"the program for alarms {hook[0]} {complaint}" in daemon.log, "the complaint")
        with daemon.connect() as lab:
            assert kinds(lab.standing_alarms()) == ["crash_loop"]
            assert len(daemon.log) < 50_000
    finally:
        daemon.close()


def test_the_daemon_works_on_while_the_program_does(place: Path) -> None:
    """It is told of one alarm after the other, and nobody waits for it: not even the daemon's end, for long."""
    hook = program(place / "hook", '#!/bin/sh\necho $$ >> "$0.said"; exec sleep 60\n')
    daemon = start(place, {**broken(place), "echo": function("echo")}, {"command": hook})
    try:
        running = eventually(lambda: (place / "hook.said").exists() and (place / "hook.said").read_text(), "it runs")
        with daemon.connect() as lab:
            assert lab["echo"].map(list(range(1000))) == list(range(1000))
        assert daemon.stop() == 0
        eventually(lambda: not Path(f"/proc/{int(running)}").exists(), "nothing of it is left")
    finally:
        daemon.close()


def test_a_clock_that_was_ahead_at_an_earlier_start(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"echo": function("echo")})
    daemon.stop()
    db = checksums.connect(daemon.state / "journal.db", write=True)
    (epoch,) = next(iter(db.execute("SELECT value FROM meta WHERE key = 'epoch'")))
    db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch + 3_600_000,))
    db.close()
    with daemon.start().connect() as lab:
        [alarm] = eventually(lab.standing_alarms, "an alarm")
        assert alarm.kind == "clock_jump"
        assert re.match(r"the clock is (1 h|59 min .*) behind what it was at an earlier start", alarm.message)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_a_disk_that_fills_up_is_an_alarm_ever_worse_and_over_when_there_is_room(place: Path) -> None:
    hook = program(place / "hook", HOOK)
    (place / "d").mkdir()
    with small_disk(place / "d" / "state", 64 << 20) as disk:
        daemon = start(place, {"echo": function("echo")}, {"command": hook, "disk_low": "16 MB"}, keep_free="4 MB")
        try:
            with daemon.connect() as lab:
                assert lab.standing_alarms() == ()
                for free, level in ((10 << 20, "warning"), (100_000, "error")):
                    disk.leave(free)
                    [alarm] = eventually(
                        lambda level=level: [a for a in lab.standing_alarms() if a.level == level],  # type: ignore[misc]
                        f"an alarm of level {level}",
                    )
                    assert (alarm.kind, alarm.subject) == ("disk_low", "disk")
                disk.leave(40 << 20)
                eventually(lambda: not lab.standing_alarms(), "it to be over")
                eventually(lambda: len(said(hook)) == 3, "the program to be told")
                told = [(each["state"], each["level"]) for _, each in said(hook)]
                assert told[:2] == [("raised", "warning"), ("raised", "error")]
                assert told[2][0] == "cleared"
        finally:
            daemon.close()


def test_a_refused_file_of_keys_is_an_alarm_until_it_is_right(start_daemon: StartDaemon, place: Path) -> None:
    circle = Circle(place, start_daemon, {"echo": function("echo"), "pump": function("echo")})
    circle.admit("otto", "operator")
    circle.admit("eve", "observer", masters=frozenset(["echo"]))
    good = circle.keys.read_text()
    with circle.connect("otto") as otto, circle.connect("eve") as eve, connect(circle.near) as near:
        assert near.standing_alarms() == ()
        circle.keys.write_text(good + "rank = 1\n")
        [alarm] = eventually(near.standing_alarms, "the alarm")
        assert (alarm.kind, alarm.level, alarm.subject) == ("authenticator", "error", "keys")
        assert "those from before stay in force" in alarm.message
        assert "rank: unknown key" in alarm.message
        assert otto.standing_alarms() == (alarm,)
        assert eve.standing_alarms() == (), "it is about no Master of hers"
        assert (eve.status().alarms, otto.status().alarms) == (0, 1)
        [published] = eventually(lambda: otto.alarms, "it on the bus")
        assert (published.kind, published.state) == ("authenticator", "raised")
        circle.keys.write_text(good + "file = 1\n")
        eventually(lambda: len(near.alarms) == 2, "another mistake to be told")
        assert "file: unknown key" in near.standing_alarms()[0].message
        circle.keys.write_text(good)
        eventually(lambda: not near.standing_alarms(), "it to be over")
    assert circle.daemon.log.count("the changed keys are refused") == 3, "twice raised, once over"
