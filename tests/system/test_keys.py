"""Who comes over the network: by CurveZMQ's own handshakes, to a real daemon, while keys come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers.circle import Circle, bound_at
from helpers.daemon import EVALUATIONS, function
from helpers.places import StartDaemon, short_folder, starter
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import codec, messages as m, sockets, topics
from taskmaster.bus.errors import DaemonUnreachable, NotAllowed
from taskmaster.bus.keys import Credentials, new_pair, write_pair
from taskmaster.learners import connect
from taskmaster.learners.aio import connect as aconnect
from taskmaster.learners.client import Lab

#: Soon enough to be sure that nobody answers: who is let in is answered within milliseconds.
SHORT = 1.0


#: An instrument of which others say whether it can be used.
LAMP: dict[str, Any] = {
    "driver": "instrument",
    "class": "lamp:Lamp",
    "resource": "dimmer-1",
    "args": ["{resource}"],
    "set": {"power": "power"},
    "read": {"photocurrent": "photocurrent"},
    "safe": {"power": 0.0},
    "parameters": {"power": {"min": 0, "max": 1}},
    "outputs": {"photocurrent": {}},
    "processes": "elsewhere",
}


@pytest.fixture(scope="module")
def circle() -> Iterator[Circle]:
    masters = {
        "square": function("square_or_raise", parameters={"x": {}}, outputs={"y": {}}),
        "echo": function("echo"),
        "any": {"driver": "process", "code": True, "workers": 1},
        "far": function("square_or_raise", workers=0, parameters={"x": {}}, outputs={"y": {}}),
        "lamp": LAMP,
    }
    with short_folder() as folder, starter(folder) as start:
        circle = Circle(folder, start, masters)
        circle.admit("anna", "learner")
        circle.admit("otto", "operator")
        circle.admit("eve", "observer", masters=frozenset(["echo"]))
        yield circle


def test_whoever_is_let_in_works_as_on_the_daemons_machine(circle: Circle) -> None:
    with circle.connect("anna") as lab, lab["square"].open("hers") as run:
        run.tasks.put_many([{"x": float(x)} for x in range(500)])
        assert sum(result.output for result in run.results) == sum(x * x for x in range(500))
    with connect(circle.near) as near:
        [mine] = [run for run in near.runs("square") if run.name == "hers"]
        assert (mine.user, mine.done) == ("anna", 500)
        assert near.status().name == "tested"


LEARNING = """
import os, signal, sys
from helpers.thoughtful import Thoughtful
from taskmaster.learners import Loop, connect

address, key, daemon_key, last = sys.argv[1:]

def hook(loop, result):
    if result.seq == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

lab = connect(address, key=key, daemon_key=daemon_key)
loop = Loop(lab["square"], Thoughtful(), goal=60, in_flight=3, retries=1, name="moved", hook=hook)
loop.run().close()
print(loop.told, loop.divergence)
"""


def test_a_loop_that_is_killed_goes_on_from_another_machine(circle: Circle, tmp_path: Path) -> None:
    """They have nothing in common but the learner and the key: no home, no folder, no time zone, no seed of hashes."""
    said = []
    for machine, last in (("one", 9), ("two", 30), ("three", -1)):
        home = tmp_path / machine
        home.mkdir()
        key = home / "own.key"
        key.write_bytes(circle.file("anna").read_bytes())
        key.chmod(0o600)
        around = {"HOME": str(home), "TZ": {"one": "UTC", "two": "Asia/Tokyo", "three": "America/New_York"}[machine],
                  "PYTHONHASHSEED": str(last + 2),
                  "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-c", LEARNING, circle.address, str(key), circle.own.text, str(last)],
            cwd=home, env=around, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        said.append((ran.returncode, ran.stdout.strip()))
    assert said == [(-9, ""), (-9, ""), (0, "60 None")], ran.stderr


def test_nobody_else_is_let_in(circle: Circle) -> None:
    stranger, other = new_pair(), new_pair()
    write_pair(circle.file("stranger"), stranger, "stranger")
    for refused in (
        {"key": circle.file("stranger"), "daemon_key": circle.own.text},  # whom nobody knows
        {"key": circle.file("anna"), "daemon_key": other.text},  # who takes it for another daemon
        {},  # who does not encrypt
    ):
        with pytest.raises(DaemonUnreachable):
            connect(circle.address, SHORT, **refused)  # type: ignore[arg-type]
    assert f"shows {stranger.text}, which is not in force" in circle.daemon.log
    with connect(circle.near) as near:
        assert near.status().refused > 0


def test_each_may_what_their_role_says(circle: Circle) -> None:
    with circle.connect("anna") as anna, circle.connect("otto") as otto, circle.connect("eve") as eve:
        assert (list(anna), list(eve)) == (["square", "echo", "any", "far", "lamp"], ["echo"])
        assert [master.name for master in eve.status().masters] == ["echo"]
        with pytest.raises(NotAllowed, match=r"key 'anna' \(learner\) may not pause: that takes the role operator or"):
            anna["square"].pause()
        with pytest.raises(NotAllowed, match=r"key 'eve' \(observer\) may not open runs for writing"):
            eve["echo"].open("hers")
        with pytest.raises(NotAllowed, match=r"key 'eve' .* is not granted Master 'square'"):
            eve.runs("square")
        otto["square"].pause()
        otto["square"].resume()
        anna["echo"].open("annas").close()
        circle.admit("carl", "learner")
        with (
            circle.connect("carl") as carl,
            pytest.raises(NotAllowed, match="of runs of its own only, and this one is anna's"),
        ):
            carl["echo"].open("annas")
        with anna["any"].open("code") as run:
            run.tasks.put((abs, (-3,), {}))
            with pytest.raises(NotAllowed, match=r"may not send code to Master 'any'; .* allow anna --code any"):
                run.results.get(PATIENCE)
        circle.admit("carl", "learner", code=frozenset(["any"]))
        with circle.connect("carl") as carl, carl["any"].open("carls") as run:
            run.tasks.put((abs, (-3,), {}))
            assert run.results.get(PATIENCE).output == 3


class Telltale:
    """Writes down in which process it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; open({str(self.path)!r}, 'a').write(f'{{os.getpid()}} ')",)


def test_code_is_unpickled_in_workers_alone_and_for_nobody_who_was_not_granted_it(circle: Circle) -> None:
    circle.admit("cora", "learner", code=frozenset(["any"]))
    circle.admit("dirk", "learner", code=frozenset(["any"]))
    granted, refused = circle.folder / "granted", circle.folder / "refused"
    with connect(circle.near) as near, circle.connect("cora") as cora, circle.connect("dirk") as dirk:
        with cora["any"].open("coras") as run, dirk["any"].open("dirks") as other:
            circle.admit("dirk", "learner")
            other.tasks.put((bool, (Telltale(refused),), {}))
            with pytest.raises(NotAllowed, match="may not send code to Master 'any'"):
                other.results.get(PATIENCE)
            run.tasks.put((bool, (Telltale(granted),), {}))
            assert run.results.get(PATIENCE).output is False
            with near["any"].watch("coras") as followed:
                assert followed.results.get(PATIENCE).output is False
            run.close()
        workers = {worker.pid for worker in near["any"].statistics().workers}
    assert {int(pid) for pid in granted.read_text().split()} == workers
    assert not refused.exists()


def test_a_key_that_is_revoked_is_worth_nothing_on_open_connections(circle: Circle) -> None:
    circle.admit("dora", "learner")
    dora, anna = circle.connect("dora", patience=SHORT), circle.connect("anna")
    run = dora["echo"].open("doras")
    run.tasks.put(1)
    assert run.results.get(PATIENCE).output == 1
    followed = anna["echo"].watch("doras")
    assert followed.results.get(PATIENCE).output == 1
    circle.revoke("dora")
    with pytest.raises(NotAllowed, match="your key is not in force here any more; ask the daemon's operator"):
        dora.status()
    with pytest.raises(DaemonUnreachable):
        circle.connect("dora", SHORT)
    with connect(circle.near) as near, near["echo"].open("doras") as again:  # others go on
        again.tasks.put(2)
        assert again.results.get(PATIENCE).output == 1, "from its beginning"
    # Not by iterating: that ends where it has not heard yet that there is a further task.
    assert followed.results.get(PATIENCE).output == 2, "who follows has been let in anew"
    anna.close()
    circle.admit("dora", "learner")
    assert dora.status().name == "tested", "the same connection, when the key is in force again"
    dora.close()


def test_who_is_revoked_hears_nothing_further(circle: Circle) -> None:
    """Publications are sent to whoever has subscribed: so those who may not hear them have to go."""
    circle.admit("finn", "observer")
    with connect(circle.near) as near:
        run = near["echo"].open("secret")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        ear = sockets.subscriber(context, Credentials(circle.pairs["finn"], circle.own.public))
        with circle.connect("finn") as finn:
            ear.connect(finn._described.results)
        ear.subscribe(topics.events_topic("echo", run.number))
        ear.subscribe(b"")
        assert ear.poll(round(PATIENCE * 1e3)), "the beacon that answers it"
        topic, _ = ear.recv_multipart()
        assert topic == topics.events_topic("echo", run.number), "and nothing of what everything was asked for"
        circle.revoke("finn")
        while ear.poll(0):
            ear.recv_multipart()
        run.tasks.put("for our ears only")
        assert run.results.get(PATIENCE).output == "for our ears only"
        deadline = time.monotonic() + 2 * SHORT  # in which a beacon comes to those who are there
        while (left := deadline - time.monotonic()) > 0 and ear.poll(round(left * 1e3)):
            assert b"for our ears only" not in b"".join(ear.recv_multipart())
        run.close()
        context.destroy(linger=0)


def test_a_key_expires(circle: Circle) -> None:
    circle.admit("gina", "learner")
    gina = circle.connect("gina", patience=SHORT)
    assert gina.status().name == "tested"
    circle.admit("gina", "learner", expires=time.time() + 2.0)

    def refused() -> bool:
        try:
            gina.status()
        except NotAllowed:
            return True
        return False

    eventually(refused, "the key to expire")
    with pytest.raises(DaemonUnreachable):
        circle.connect("gina", SHORT)
    circle.admit("gina", "learner")
    assert gina.status().name == "tested"
    gina.close()


def test_a_file_with_a_mistake_changes_nothing_and_the_daemon_says_so(circle: Circle) -> None:
    before = circle.keys.read_text()
    circle.keys.write_text(before.replace('role = "observer"', 'role = "admin" \nrank = 1'))
    eventually(lambda: "the changed keys are refused, those from before stay in force" in circle.daemon.log, "a word")
    assert "rank: unknown key" in circle.daemon.log
    with circle.connect("eve") as eve, pytest.raises(NotAllowed):
        eve["echo"].pause()
    circle.keys.write_text(before)
    circle.admit("hugo", "learner")
    circle.connect("hugo").close()


def worker(circle: Circle, name: str, master: str) -> subprocess.Popen[str]:
    """A program that evaluates, on another machine as far as the daemon can tell, with somebody's key."""
    return subprocess.Popen(
        [sys.executable, "-m", "taskmaster", "worker", circle.address, master, "-n", "1", "--path", str(EVALUATIONS),
         "--key", str(circle.file(name))],
        env={**os.environ, "TASKMASTER_DAEMON_KEY": circle.own.text}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_worker_comes_with_a_key_of_its_own(circle: Circle) -> None:
    circle.admit("rig", "worker", masters=frozenset(["far"]))
    for name, master, refusal in (
        ("anna", "far", "may not evaluate tasks: that takes the role worker"),
        ("rig", "square", "has no Master 'square'; it has 'far'"),
    ):
        with worker(circle, name, master) as host:
            _, said = host.communicate(timeout=PATIENCE)
        assert host.returncode != 0
        assert refusal in said
    with connect(circle.near) as near, near["far"].open("remote") as run, worker(circle, "rig", "far") as host:
        run.tasks.put_many([{"x": float(x)} for x in range(50)])
        assert sum(result.output for result in run.results) == sum(x * x for x in range(50))
        circle.revoke("rig")
        eventually(lambda: not near["far"].statistics().workers, "its workers to be gone")
        host.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may keep an outcome that was not taken
            host.communicate(timeout=SHORT)
        host.terminate()
        host.communicate(timeout=PATIENCE)


def test_a_program_is_told_why_its_key_is_of_no_use(circle: Circle) -> None:
    circle.admit("finn", "learner")
    stranger = circle.folder / "nobody.key"
    write_pair(stranger, new_pair(), "a stranger")

    async def story(key: Path, daemon_key: str) -> None:
        await aconnect(circle.address, SHORT, key=key, daemon_key=daemon_key)

    for key, daemon_key, why in (
        (stranger, circle.own.text, "does not let in your key: .*taskmaster keys allow NAME tm-public-"),
        (circle.file("finn"), new_pair().text, "is not the daemon that you know by tm-public-.*--replace"),
    ):
        with pytest.raises(DaemonUnreachable, match=why):
            connect(circle.address, SHORT, key=key, daemon_key=daemon_key)
        with pytest.raises(DaemonUnreachable, match=why):
            asyncio.run(story(key, daemon_key))


FORGED = "\n2026-11-22 14:00:00.000 info    daemon: audit: otto (operator) from 10.0.0.7 stop far: done\n\x1b[31mred"


def test_what_a_worker_says_is_neither_an_entry_of_the_log_nor_an_order_to_a_terminal(circle: Circle) -> None:
    circle.admit("rig-2", "worker", masters=frozenset(["far", "lamp"]))
    with connect(circle.address, key=circle.file("rig-2"), daemon_key=circle.own.text) as lab:
        workers = lab._described.workers
    with zmq.Context() as context, context.socket(zmq.DEALER) as rig, context.socket(zmq.DEALER) as other:
        for socket, master, host in ((rig, "far", f"h{FORGED}"), (other, "lamp", "h")):
            socket.linger = 0
            Credentials(circle.pairs["rig-2"], circle.own.public).apply(socket)
            socket.connect(workers)
            socket.send(codec.encode(m.WorkerHello(m.PROTOCOL_VERSION, master, f"t-{master}", pid=1, host=host)))
        rig.send(codec.encode(m.Ready()))
        with connect(circle.near) as near:
            eventually(lambda: near["far"].statistics().workers, "it to be there")
        said = subprocess.run(
            [sys.executable, "-m", "taskmaster", "status", "--workers", "--address", circle.near],
            capture_output=True, text=True, timeout=PATIENCE, check=True,
        ).stdout  # fmt: skip
        assert "otto (operator)" in said
        assert said.replace("\n", "").isprintable()
        assert not [line for line in said.splitlines() if line.startswith("2026")]
        other.send(codec.encode(m.WorkerFailed("t-lamp", "Boom", f"x{FORGED}")))
        eventually(lambda: "otto (operator) from 10.0.0.7" in circle.daemon.log, "it to be in the log")
    log = circle.daemon.log
    assert not [line for line in log.splitlines() if line.startswith("2026")], "an entry of its own"
    assert "\x1b" not in log


def test_keys_are_read_anew_without_waiting_for_the_next_tick(place: Path) -> None:
    """Whose key is revoked is not served for a second or two more: so it is with a loop that hardly ever ticks, too."""
    run = "import runpy; runpy.run_module('taskmaster.daemon', None, '__main__')"
    with starter(place) as start:
        circle = Circle(place, start, {"square": function("square_or_raise", workers=0)})
        circle.daemon.stop()
        circle.daemon.launch(
            program=("-c", f"from taskmaster.daemon import broker; broker.TICK_SECONDS = 600.0; {run}")
        )
        circle.daemon.await_note("READY=1")
        circle.admit("anna", "learner")
        circle.address = bound_at(circle.daemon)
        with circle.connect("anna", patience=SHORT) as anna:
            circle.revoke("anna")
            with pytest.raises(NotAllowed, match="your key is not in force here any more"):
                anna.status()


def impatient(place: Path, start: StartDaemon) -> Circle:
    """With a daemon that hangs up at once on those whose keys are not in force any more; anna is a learner."""
    brief = "from taskmaster.daemon import gatehouse; gatehouse.LAST_WORDS_SECONDS = 0.1"
    run = "import runpy; runpy.run_module('taskmaster.daemon', None, '__main__')"
    circle = Circle(place, start, {"far": function("square_or_raise", workers=0, parameters={"x": {}})})
    circle.daemon.stop()
    circle.daemon.launch(program=("-c", f"{brief}; {run}"))
    circle.daemon.await_note("READY=1")
    circle.admit("anna", "learner")
    circle.address = bound_at(circle.daemon)
    return circle


@pytest.mark.slow
def test_who_is_let_in_again_comes_back_without_being_started_again(place: Path) -> None:
    """ZeroMQ gives up for good where a key is refused; where one is extended a day late learners and workers go on."""
    with starter(place) as start:
        circle = impatient(place, start)
        circle.admit("rig", "worker")
        with (
            connect(circle.near) as near,
            circle.connect("anna") as anna,
            anna["far"].open("hers") as hers,
            worker(circle, "rig", "far") as host,
        ):
            hers.tasks.put({"x": 3.0})
            assert hers.results.get(PATIENCE).output == 9.0
            circle.revoke("rig")
            circle.revoke("anna")
            eventually(lambda: near.status().refused >= 4, "each of their connections to be refused")
            circle.admit("rig", "worker")
            circle.admit("anna", "learner")
            hers.tasks.put({"x": 4.0})
            assert hers.results.get(PATIENCE).output == 16.0
            host.terminate()
            _, said = host.communicate(timeout=PATIENCE)
            assert f"does not let in the key of its workers, {circle.pairs['rig'].text}" in said


def test_so_does_an_asyncio_client(place: Path) -> None:
    async def story(circle: Circle, near: Lab) -> None:
        keys: dict[str, Any] = {"key": circle.file("anna"), "daemon_key": circle.own.text}
        async with aconnect(circle.address, PATIENCE, SHORT, **keys) as anna:
            assert (await anna.status()).name == "tested"
            refused = near.status().refused
            await asyncio.to_thread(circle.revoke, "anna")
            await asyncio.to_thread(eventually, lambda: near.status().refused > refused, "her to be refused")
            await asyncio.to_thread(circle.admit, "anna", "learner")
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    assert (await anna.status()).name == "tested"
                    return
                except (DaemonUnreachable, NotAllowed):
                    assert time.monotonic() < deadline, "she does not come back"

    with starter(place) as start:
        circle = impatient(place, start)
        with connect(circle.near) as near:
            asyncio.run(story(circle, near))


def listening(pid: int) -> list[str]:
    """The inodes of TCP sockets at which a process listens."""
    theirs = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    lines = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return [fields[9] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in theirs]


def test_a_daemon_whose_authenticator_is_dead_listens_to_the_network_no_more(place: Path) -> None:
    mute = "doorkeeper._PATIENCE_SECONDS = 1.0; doorkeeper.Doorkeeper.serve = lambda self, now: None"
    run = "import runpy; runpy.run_module('taskmaster.daemon', None, '__main__')"
    program = f"from taskmaster.daemon import doorkeeper; {mute}; {run}"
    with starter(place) as start:
        circle = Circle(place, start, {"square": function("square_or_raise")})
        assert len(listening(circle.daemon.pid)) == 3
        circle.daemon.stop()
        circle.daemon.launch(program=("-c", program))
        circle.daemon.await_note("READY=1")
        eventually(lambda: "listens to the network no more; restart it" in circle.daemon.log, "it to be told")
        eventually(lambda: not listening(circle.daemon.pid), "its sockets to be closed")
        assert circle.daemon.is_running
