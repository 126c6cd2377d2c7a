"""Metrics and health of a real daemon at work, in trouble, and beset by clients that mean no good."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.circle import Circle, bound_at
from helpers.daemon import Daemon, function
from helpers.disks import small_disk
from helpers.load import Load, master
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.bus.keys import new_pair, write_pair
from taskmaster.learners import connect


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Observed:
    """A daemon that serves metrics."""

    def __init__(self, place: Path, masters: dict[str, Any], **settings: Any) -> None:
        self.port = free_port()
        self.daemon = Daemon(place / "d", masters, **settings)
        with (self.daemon.folder / "daemon.toml").open("a") as file:
            file.write(f"[metrics]\nlisten = {self.port}\n")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def health(self) -> tuple[int, list[str]]:
        status, body = self.get("/health")
        said = json.loads(body)
        assert said["status"] == ("ok" if status == 200 else "failing")
        return status, said["reasons"]

    def metric(self, line: str) -> float:
        """The value of a metric with its labels, as the text has it; 0 where there is none."""
        found = re.search(rf"^{re.escape(line)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def observed(place: Path, masters: dict[str, Any], **settings: Any) -> Iterator[Observed]:
    found = Observed(place, masters, **settings)
    try:
        found.daemon.start()
        yield found
    finally:
        found.daemon.close()
        print(found.daemon.log)


def test_what_is_done_is_counted(place: Path) -> None:
    with observed(place, {"echo": function("echo", workers=2), "bad": function("no_such_thing", restarts=1)}) as seen:
        assert f"metrics are at http://127.0.0.1:{seen.port}/metrics" in seen.daemon.log
        with seen.daemon.connect() as lab:
            assert lab["echo"].map(list(range(500))) == list(range(500))
            done = 'taskmaster_master_tasks_ended_total{master="echo",outcome="done"}'
            eventually(lambda: seen.metric(done) == 500, "the count")
            for info in lab.runs("echo"):
                lab.delete_run(info.run)
            assert lab["echo"].map([1]) == [1]
            eventually(lambda: seen.metric(done) == 501, "that of deleted runs, too")
            eventually(lambda: seen.metric('taskmaster_alarms{kind="crash_loop",level="error"}') == 1, "the alarm")
            assert seen.metric('taskmaster_master_state{master="bad",state="crash loop"}') == 1
            assert seen.metric("taskmaster_journal_commit_duration_seconds_count") > 0
            assert seen.metric('taskmaster_master_workers{master="echo",state="idle"}') == 2
        status, reasons = seen.health()
        assert status == 503
        assert re.match(r"Master 'bad' cannot start its workers \(.*no_such_thing", reasons[0])
        assert seen.get("/")[0] == 200
        assert seen.get("/etc/passwd")[0] == 404


def test_a_daemon_is_well_when_its_workers_are_there_again(place: Path) -> None:
    (place / "broken").write_text("raise")
    keys = {"setup": "evaluations:set_up", "env": {"BROKEN": str(place / "broken")}, "restarts": 2}
    with observed(place, {"pump": function("echo", **keys)}) as seen, seen.daemon.connect() as lab:
        eventually(lambda: seen.health()[0] == 503, "it is not well")
        (place / "broken").unlink()
        lab["pump"].resume()
        eventually(lambda: seen.health() == (200, []), "it is")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_a_commit_that_waits_for_room_is_told_though_the_loop_stands(place: Path) -> None:
    (place / "d").mkdir()
    (place / "growing.py").write_text("def grow(point):\n    return 'y' * point\n")
    grow = {"driver": "process", "function": "growing:grow", "path": [str(place)], "workers": 1}
    with (
        small_disk(place / "d" / "state", 24 << 20) as disk,
        observed(place, {"grow": grow}, keep_free=1 << 20) as seen,
        seen.daemon.connect() as lab,
    ):
        run = lab["grow"].open("run")
        eventually(lambda: lab["grow"].slots, "its worker is there")
        lab["grow"].pause()
        run.tasks.put_many([60_000] * 100)
        run.flush()
        disk.leave(0)
        eventually(lambda: seen.health()[0] == 503, "it has noticed")
        lab["grow"].resume()
        eventually(lambda: any("the daemon waits for room" in reason for reason in seen.health()[1]), "it waits")
        assert seen.get("/metrics")[0] == 200, "of the moment before"
        disk.leave(20 << 20)
        assert len(list(run.results)) == 100
        eventually(lambda: seen.health() == (200, []), "all is well")
    assert "CRITICAL" in seen.daemon.log


def test_clients_that_mean_no_good_cost_the_daemon_nothing(place: Path) -> None:
    """Hundreds of connections that say nothing, say it slowly, or ask without an end; a load goes on meanwhile."""
    with observed(place, {"square": master()}) as seen, seen.daemon.connect() as lab:
        load = Load(lab["square"].open("run"), seed=5).start()
        load.await_results(500)
        stopping = threading.Event()

        def ask_on() -> None:
            while not stopping.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", seen.port), 1) as connection:
                        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                        connection.recv(100)
                except OSError:
                    continue

        askers = [threading.Thread(target=ask_on) for _ in range(4)]
        before = seen.daemon.descriptors
        silent = [socket.create_connection(("127.0.0.1", seen.port), 5) for _ in range(60)]
        for asker in askers:
            asker.start()
        load.await_results(3000)
        assert seen.daemon.descriptors <= before + 40
        stopping.set()
        for asker in askers:
            asker.join()
        for connection in silent:
            connection.close()
        load.finish()
        load.check(lab, seen.daemon.state)
        eventually(lambda: seen.health() == (200, []), "it is well")


def test_a_port_that_is_taken_is_said(place: Path) -> None:
    found = Observed(place, {"echo": function("echo")})
    with socket.socket() as other:
        other.bind(("127.0.0.1", found.port))
        other.listen()
        found.daemon.launch()
        assert found.daemon.wait() != 0
        assert f"another program listens on 127.0.0.1:{found.port}, where metrics were to be served" in found.daemon.log
    found.daemon.close()


def test_beside_keys_http_asks_for_none_and_is_for_this_machine_alone(start_daemon: StartDaemon, place: Path) -> None:
    circle = Circle(place, start_daemon, {"echo": function("echo")})
    circle.admit("anna", "learner")
    circle.daemon.stop()
    seen = Observed(place, {"echo": function("echo")}, name="again", keys=str(circle.keys), listen="tcp://127.0.0.1:*")
    try:
        seen.daemon.start()
        eventually(lambda: seen.health()[0] == 200, "it to be well")
        assert seen.metric("taskmaster_keys") == 1
        stranger = new_pair()
        write_pair(circle.file("stranger"), stranger, "stranger")
        with pytest.raises(DaemonUnreachable):
            connect(bound_at(seen.daemon), 1.0, key=circle.file("stranger"), daemon_key=circle.own.text)
        eventually(lambda: seen.metric("taskmaster_connections_refused_total") > 0, "the refusal to be counted")
        good = circle.keys.read_text()
        circle.keys.write_text(good + "rank = 1\n")
        alarm = 'taskmaster_alarms{kind="authenticator",level="error"}'
        eventually(lambda: seen.metric(alarm) == 1, "the alarm")
        assert seen.health() == (200, []), "those whose keys are in force are served"
        with pytest.raises(ConnectionRefusedError), socket.socket() as other:
            other.connect(("127.0.0.2", seen.port))
    finally:
        seen.daemon.close()
        print(seen.daemon.log)


DROWSY = """
import pathlib, runpy
from taskmaster.daemon import doorkeeper

asleep, serve = pathlib.Path({asleep!r}), doorkeeper.Doorkeeper.serve
doorkeeper.Doorkeeper.serve = lambda self, now: asleep.exists() or serve(self, now)
doorkeeper._PROBE_SECONDS, doorkeeper._PATIENCE_SECONDS = 0.1, 1.0
runpy.run_module("taskmaster.daemon", None, "__main__")
"""


def test_a_daemon_that_has_shut_the_network_out_is_not_well_until_it_is_started_again(place: Path) -> None:
    """Also when its authenticator answers again: nobody is asked for any more."""
    write_pair(place / "daemon.key", new_pair(), "the daemon")
    (place / "keys.toml").touch(0o644)
    seen = Observed(place, {"echo": function("echo")}, keys=str(place / "keys.toml"), listen="tcp://127.0.0.1:*")
    asleep = place / "asleep"
    try:
        seen.daemon.launch(program=("-c", DROWSY.format(asleep=str(asleep))))
        seen.daemon.await_note("READY=1")
        eventually(lambda: seen.health() == (200, []), "it to be well")
        asleep.touch()
        [reason] = eventually(lambda: seen.health()[1], "it to be noticed")
        assert re.match(r"the authenticator has not answered for .*: the daemon listens to the network no more", reason)
        asleep.unlink()
        for _ in range(4):  # it is looked once a second, and that is when this changes
            turns = seen.metric("taskmaster_loop_turns_total")
            eventually(lambda turns=turns: seen.metric("taskmaster_loop_turns_total") > turns, "a look")  # type: ignore[misc]
        assert seen.health() == (503, [reason])
    finally:
        seen.daemon.close()
