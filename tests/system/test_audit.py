"""Who has done what, by the daemon itself: from where, over kills, changes of keys, and commands beside the daemon."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.circle import Circle
from helpers.cli import Terminal, taskmaster
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon, short_folder, starter
from helpers.waiting import eventually

from taskmaster.bus import messages as m
from taskmaster.bus.errors import Conflict, NotAllowed, UnknownMaster
from taskmaster.bus.keys import fingerprint
from taskmaster.bus.status import AuditEntry
from taskmaster.learners import aio, connect
from taskmaster.learners.client import Lab

HERE = f"uid {os.getuid()} pid {os.getpid()}"


@pytest.fixture(scope="module")
def circle() -> Iterator[Circle]:
    masters = {name: function("echo", workers=0) for name in ("echo", "other")}
    with short_folder() as folder, starter(folder) as start:
        circle = Circle(folder, start, masters)
        circle.admit("anna", "learner")
        circle.admit("otto", "operator")
        circle.admit("ruth", "admin")
        yield circle


def end_of(lab: Lab) -> int:
    """The number of the last entry."""
    return max((entry.entry for entry in lab.audit()), default=0)


def stored(daemon: Daemon, *options: str) -> list[AuditEntry]:
    """All of it as the command reads it from the state directory."""
    said = taskmaster("audit", daemon.state, "--json", *options)
    assert said.status == 0, said.err
    return [AuditEntry(**json.loads(line)) for line in said.out.splitlines()]


def test_who_did_what_from_where(circle: Circle) -> None:
    with circle.connect("otto") as otto, circle.connect("ruth") as ruth, connect(circle.near) as near:
        since = end_of(near)
        otto["echo"].pause()
        near["echo"].resume()
        with pytest.raises(UnknownMaster):
            otto.ask(m.Pause(0, "eco"))
        found = [entry for entry in ruth.audit(after=since) if entry.what in ("pause", "resume")]
        assert [(e.user, e.role, e.origin, e.what, e.master, e.outcome) for e in found] == [
            ("otto", "operator", "127.0.0.1", "pause", "echo", "done"),
            ("local", "admin", HERE, "resume", "echo", "done"),
            ("otto", "operator", "127.0.0.1", "pause", "eco", "refused"),
        ]
        assert "did you mean 'echo'?" in found[-1].why
        assert abs(found[0].time - time.time()) < 3600
        reading = [entry for entry in near.audit(after=since, user="ruth") if entry.what == "read_audit"]
        assert len(reading) == 1, "that it is read is on record, too"


def test_only_admins_read_it_and_who_may_not_is_on_record(circle: Circle) -> None:
    with circle.connect("anna") as anna, circle.connect("otto") as otto, connect(circle.near) as near:
        since = end_of(near)
        for lab in (anna, otto):
            with pytest.raises(NotAllowed, match=r"may not read what operators and admins have done: that takes the"):
                list(lab.audit())
        denied = [e for e in near.audit(after=since) if e.what == "read_audit" and e.outcome == "refused"]
        assert [(e.user, e.role) for e in denied] == [("anna", "learner"), ("otto", "operator")]


def test_two_at_once_each_leave_what_they_did(circle: Circle) -> None:
    n = 150
    with circle.connect("otto") as otto, circle.connect("ruth") as ruth, connect(circle.near) as near:
        since = end_of(near)

        def switch(lab: Lab, master: str) -> None:
            for _ in range(n):
                lab[master].pause()
                lab[master].resume()

        threads = [threading.Thread(target=switch, args=each) for each in ((otto, "echo"), (ruth, "other"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = list(near.audit(after=since))
        for user, master in (("otto", "echo"), ("ruth", "other")):
            theirs = [(e.what, e.master) for e in found if e.user == user]
            assert theirs == [("pause", master), ("resume", master)] * n
        assert [e.entry for e in found] == list(range(since + 1, since + 1 + len(found)))


def test_keys_that_come_change_and_go_are_on_record(circle: Circle) -> None:
    with connect(circle.near) as near:
        since = end_of(near)
        circle.admit("dora", "learner", masters=frozenset(["echo"]))
        circle.admit("dora", "operator")
        with circle.connect("dora", patience=1.0) as dora:
            dora["echo"].pause()
            circle.revoke("dora")
            for _ in range(50):
                with pytest.raises(NotAllowed):
                    dora["echo"].resume()
        for seconds in (4.0, 8.0, 16.0):  # until it was in force for a moment, however slow the machine
            circle.admit("gina", "learner", expires=time.time() + seconds)
            if any(e.about["name"] == "gina" for e in near.audit(after=since) if e.what == "key_added"):
                break
        eventually(lambda: any(e.what == "key_expired" for e in near.audit(after=since)), "the key to expire")
        found = list(near.audit(after=since))
        key = fingerprint(circle.pairs["dora"].public)
        [added, changed, revoked, *_] = [e for e in found if e.what.startswith("key_") and e.about["name"] == "dora"]
        assert (added.what, added.about["masters"], added.about["role"]) == ("key_added", "echo", "learner")
        assert (changed.what, changed.about["masters"], changed.about["masters_before"]) == (
            "key_changed",
            "all",
            "echo",
        )
        assert (changed.about["role"], changed.about["role_before"]) == ("operator", "learner")
        assert (revoked.what, revoked.about["key"]) == ("key_revoked", key)
        for entry in (added, changed, revoked):
            assert (entry.user, entry.role) == ("", "daemon")
            assert entry.origin == f"{circle.keys} (of uid {os.getuid()})"
        assert [e.about["name"] for e in found if e.what == "key_expired"] == ["gina"]

        def strange() -> list[AuditEntry]:
            return [e for e in near.audit(after=since, user="dora") if e.outcome == "refused"]

        eventually(lambda: sum(e.times for e in strange()) == 50, "all that she has tried to be on record")
        assert len(strange()) < 10
        assert {(e.role, e.about["key"], e.origin) for e in strange()} == {("", key, "127.0.0.1")}


def test_keys_that_changed_while_the_daemon_was_stopped_are_on_record(circle: Circle) -> None:
    circle.admit("hugo", "learner")
    with connect(circle.near) as near:
        since = end_of(near)
    assert circle.daemon.stop() == 0
    text = circle.keys.read_text()
    circle.keys.write_text(text[: text.index("[hugo]")])
    circle.daemon.start()
    with connect(circle.near) as near:
        found = eventually(lambda: [e for e in near.audit(after=since) if e.what == "key_removed"], "the entry")
        assert [e.about["name"] for e in found] == ["hugo"]
        assert [e.what for e in near.audit(after=since)][:2] == ["end", "start"]
        assert not [e for e in near.audit(after=since) if e.what == "key_added"], "the others are as they were"
    text = circle.daemon.log
    circle.address = text.rpartition("is ready at ")[2].split()[0]


@pytest.mark.parametrize("keys", [True, False])
def test_what_was_answered_is_on_record_though_the_daemon_is_killed(
    start_daemon: StartDaemon, place: Path, keys: bool
) -> None:
    daemon = (
        Circle(place, start_daemon, {"echo": function("echo")}).daemon
        if keys
        else start_daemon({"echo": function("echo")}, durability="power")
    )
    for count in range(5):
        with connect(f"ipc://{daemon.state}/control") as lab:
            lab["echo"].set_workers(count)  # of which nothing else is in the journal
            daemon.kill()
        last = stored(daemon)[-1]
        assert (last.what, last.master, last.about, last.origin) == ("set_workers", "echo", {"count": count}, HERE)
        daemon.start()
    assert [e.what for e in stored(daemon)].count("start") == 6
    assert "end" not in [e.what for e in stored(daemon)]


def test_an_answer_that_comes_again_is_on_record_with_what_became_of_it(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"scale": {"driver": "human", "people": 2, "question": "Weigh it.", "outputs": {"mass": {}}}})
    with daemon.connect() as lab:
        run = lab["scale"].open("weights")
        run.tasks.put(1.0)
        request = lab["scale"].claim()
        assert request is not None
        for _ in range(2):
            lab["scale"].answer(request, 5.0)
        with pytest.raises(Conflict):
            lab["scale"].answer(request, 6.0)
        answers = [e for e in lab.audit("scale") if e.what == "answer"]
    assert [e.outcome for e in answers] == ["done", "done", "refused"]
    assert "has been answered" in answers[-1].why
    assert {(e.about["run"], e.about["index"]) for e in answers} == {(run.number, 0)}


def test_learners_leave_nothing_but_what_they_destroy(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"echo": function("echo")})
    with daemon.connect() as lab:
        since = end_of(lab)
        assert lab["echo"].map(range(20)) == list(range(20))
        run = lab["echo"].open("mine")
        run.tasks.put_many(range(3))
        assert len(list(run.results)) == 3
        run.close()
        assert [e.what for e in lab.audit(after=since)] == []
        lab.delete_run(run.number)
        [entry] = lab.audit(after=since)
        assert (entry.what, entry.master, entry.about) == ("delete", "echo", {"run": run.number, "name": "mine"})

        async def read() -> list[AuditEntry]:
            async with aio.connect(daemon.address) as there:
                return [entry async for entry in there.audit("echo", after=since)]

        assert asyncio.run(read()) == [entry]


def test_commands_beside_the_daemon_leave_entries(start_daemon: StartDaemon, place: Path) -> None:
    daemon = start_daemon({"echo": function("echo")})
    config = daemon.folder / "daemon.toml"
    prune = ("journal", "prune", config, "--closed", "0 s", "--no-archive")
    with daemon.connect() as lab:
        for name in ("one", "two"):
            run = lab["echo"].open(name)
            run.tasks.put_many(range(3))
            assert len(list(run.results)) == 3
            run.close()
            if name == "one":  # by the daemon, which is at work
                eventually(lambda: "(echo/one) is deleted" in taskmaster(*prune).out, "the run to go")
    assert daemon.stop() == 0
    for arguments in (
        prune,
        ("journal", "vacuum", config),
        ("backup", config, place / "backup"),
        ("restore", place / "backup", place / "restored"),
        ("check", "--journal", daemon.state, "--copy", place / "copy"),
        ("check", "--journal", daemon.state, "--salvage", place / "salvaged"),
    ):
        done = taskmaster(*arguments)
        assert done.status == 0, done.err
    found = stored(daemon)
    own = [e for e in found if e.user == "local"]
    assert [(e.what, e.about.get("name", "")) for e in own] == [("prune", "one"), ("prune", "two"), ("vacuum", "")]
    assert all(e.origin.startswith(f"uid {os.getuid()} ") and e.role == "admin" for e in own)
    there = set(os.listdir(place / "backup"))
    in_backup = taskmaster("audit", place / "backup", "--json").out.splitlines()
    assert [AuditEntry(**json.loads(line)) for line in in_backup] == found
    assert set(os.listdir(place / "backup")) == there, "nothing is left beside it"
    for folder, what in (("restored", "restore"), ("copy", "copy"), ("salvaged", "salvage")):
        copied = taskmaster("audit", place / folder, "--json")
        *before, last = [AuditEntry(**json.loads(line)) for line in copied.out.splitlines()]
        assert before == found, "it goes with the journal"
        assert (last.what, last.user) == (what, "local")
        assert last.about["of"] == str(place / "backup" if what == "restore" else daemon.state)


def test_retention_is_on_record(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"echo": function("echo")})
    with daemon.connect() as lab:
        run = lab["echo"].open("old")
        run.tasks.put(1)
        assert len(list(run.results)) == 1
        run.close()
    daemon.stop()
    config = daemon.folder / "daemon.toml"
    retention = '[retention]\nclosed = "1 s"\nevery = "1 s"\narchive = "none"\naudit = "30 d"\n'
    config.write_text(retention + config.read_text())
    daemon.start()
    with daemon.connect() as lab:
        [entry] = eventually(lambda: [e for e in lab.audit() if e.what == "prune"], "the run to go")
    assert (entry.user, entry.role, entry.about["name"], entry.about["archived"]) == ("", "daemon", "old", False)


# -- the command ------------------------------------------------------------------------------------------------------


def test_what_the_command_shows(circle: Circle) -> None:
    with circle.connect("otto") as otto, connect(circle.near) as near:
        since = max(entry.time for entry in near.audit())
        otto.ask(m.Pause(0, "echo"))
        with pytest.raises(UnknownMaster):
            otto.ask(m.Pause(0, "nowhere\n\x1b[2J"))
    said = taskmaster("audit", "--address", circle.near, "--user", "otto")
    assert said.status == 0, said.err
    *_, done, refused = said.out.splitlines()
    assert done.split()[3:] == ["otto", "operator", "127.0.0.1", "pause", "echo", "done"]
    assert refused.split()[3:7] == ["otto", "operator", "127.0.0.1", "pause"]
    assert "refused: " in refused
    assert refused.isprintable()
    assert done.index("otto") == refused.index("otto")
    assert done.index("pause") == refused.index("pause")
    exact = taskmaster("audit", "--address", circle.near, "--user", "otto", "--json")
    entries = [AuditEntry(**json.loads(line)) for line in exact.out.splitlines()]
    assert entries[-1].master == "nowhere\n\x1b[2J"
    assert entries[-2].time > since
    assert entries == stored(circle.daemon, "--user", "otto")
    assert stored(circle.daemon, "--until", "2000-01-01") == []
    assert taskmaster("audit", circle.daemon.state, "--since", "2199-01-01").out == "nothing is on record\n"
    wrong = taskmaster("audit", circle.daemon.state, "--address", circle.near)
    assert (wrong.status, "name one of them" in wrong.err) == (2, True)


def test_the_command_follows_what_comes(circle: Circle) -> None:
    with (
        circle.connect("otto") as otto,
        Terminal(
            "audit", "--address", circle.near, "--user", "otto", "--follow", "--no-color", columns=200
        ) as terminal,
    ):
        otto["other"].set_workers(0)
        terminal.await_text(r"otto +operator +127\.0\.0\.1 +set_workers +other +count=0 +done")
        otto["echo"].resume()
        terminal.await_text(r"otto +operator +127\.0\.0\.1 +resume +echo +done")
        terminal.press("\x03")
        assert terminal.wait() == 130
