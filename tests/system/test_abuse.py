"""Somebody with a key gone mad, at a real daemon: others do not notice, and whoever meant no harm loses nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket as net
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from helpers.circle import Circle, bound_at
from helpers.daemon import function
from helpers.places import short_folder, starter
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus import codec, messages as m, sockets, topics
from taskmaster.bus.keys import Credentials
from taskmaster.daemon.bounds import MOST_TOPICS
from taskmaster.daemon.broker import MOST_FORKS
from taskmaster.daemon.following import TOPICS
from taskmaster.daemon.gatehouse import LAST_WORDS
from taskmaster.daemon.inquiries import MOST_LISTED
from taskmaster.learners import connect
from taskmaster.learners.client import Lab

MASTERS = {"square": function("square_or_raise", parameters={"x": {}}, outputs={"y": {}})}
PATIENCE_MS = round(1e3 * PATIENCE)
#: Connections of one key.
CROWD = 1500
#: of the daemon's process beyond what it has at rest
MOST_GROWTH = 400 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@contextlib.contextmanager
def mad(
    circle: Circle, address: str = "", kind: int = zmq.DEALER, name: str = "mad", routing_id: bytes = b""
) -> Iterator[zmq.Socket[bytes]]:
    """A socket of the mad key's owner, which does not mind anything."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    socket.sndhwm, socket.linger = 100, 0
    if routing_id:
        socket.routing_id = routing_id
    Credentials(circle.pairs[name], circle.own.public).apply(socket)
    socket.connect(address or circle.address)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def resident(circle: Circle) -> int:
    statm = Path(f"/proc/{circle.daemon.pid}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def works(lab: Lab, n: int = 200) -> None:
    """Somebody else's run, from beginning to end."""
    with lab["square"].open() as run:
        run.tasks.put_many([{"x": float(x)} for x in range(n)])
        assert sorted(result.index for result in run.results) == list(range(n))


def flood_until_out(circle: Circle, socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
    """Send without end, until the daemon says that it has had enough."""
    said, deadline = circle.daemon.log.count("ended connection"), time.monotonic() + PATIENCE
    while circle.daemon.log.count("ended connection") == said:
        assert time.monotonic() < deadline, "the daemon bears everything"
        for _ in range(100):
            with contextlib.suppress(zmq.Again):
                socket.send_multipart(frames, zmq.NOBLOCK)


def test_who_sends_without_waiting_is_kept_out_and_others_go_on(folder: Path) -> None:
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS, max_rate=2000)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, mad(circle) as socket:
            flood_until_out(circle, socket, [codec.encode(m.Ping(1))])
            works(anna)
            assert "key 'mad', from 127.0.0.1, sends more than is borne; it is kept out for 1 s" in circle.daemon.log
            eventually(
                lambda: "key 'mad' sent more than is borne, and is kept out for a while" in circle.daemon.log,
                "an alarm",
            )


@pytest.mark.parametrize(
    "message",
    [m.Open(1, "square", "ab" * (3 << 20), write=False), m.Cancel(1, 1, ((0, 1),) * (5 << 19))],
    ids=lambda message: type(message).__name__,
)
def test_vast_headers_of_somebody_without_any_right_keep_nobody_waiting(folder: Path, message: m.ClientMessage) -> None:
    """They are read before it is looked whether that may be asked: so they are dear, and refused while they are."""
    frame = codec.encode(message)
    assert len(frame) > 6 << 20
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "observer")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, mad(circle) as socket:
            for _ in range(20):
                socket.send(frame)
            eventually(lambda: "sends more than is borne" in circle.daemon.log, "it to be kept out")
            works(anna)
        assert "dropped message 8" not in circle.daemon.log


def test_who_is_kept_out_for_a_while_loses_nothing(folder: Path) -> None:
    """A program that asks more than is borne, but means no harm: it is only slower."""
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS, max_rate=100)
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, anna["square"].open("hers") as run:
            for k in range(400):
                run.tasks.put({"x": float(k)})
                run.flush()
            assert [result.output for result in sorted(run.results, key=lambda r: r.index)] == [
                float(k * k) for k in range(400)
            ]
        assert "key 'anna', from 127.0.0.1, sends more than is borne" in circle.daemon.log


@pytest.mark.parametrize(
    "question",
    [m.ListRuns(1), m.Describe(1, m.PROTOCOL_VERSION), m.Open(1, "square", "run 0", write=False)],
    ids=lambda message: type(message).__name__,
)
def test_answers_that_nobody_reads_do_not_pile_up(folder: Path, question: m.ListRuns | m.Describe | m.Open) -> None:
    """A question of a few bytes is answered with half a megabyte: two are on their way, the others wait unanswered."""
    wide = {f"p{k}": {"kind": "str", "choices": ["x" * 1000, "y"]} for k in range(400)}
    with starter(folder) as start:
        circle = Circle(
            folder, start, {"square": MASTERS["square"], "wide": function("echo", parameters=wide, outputs={"y": {}})}
        )
        circle.admit("mad", "observer")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, mad(circle) as socket:
            for k in range(20):
                anna["square"].open(f"run {k}", metadata={"about": "x" * 50_000}).close()
            socket.sndhwm, socket.rcvhwm = 0, 1
            before = resident(circle)
            for k in range(1500):
                question.id = k + 1
                socket.send(codec.encode(question))
            works(anna)
            assert resident(circle) < before + MOST_GROWTH
            assert "sends more than is borne" not in circle.daemon.log


def test_so_many_connections_come_from_one_address(folder: Path) -> None:
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS, max_connections=20)
        circle.admit("anna", "learner")
        host, _, port = circle.address.removeprefix("tcp://").rpartition(":")
        with contextlib.ExitStack() as stack:
            strangers = [
                stack.enter_context(net.create_connection((host, int(port)), source_address=("127.0.0.2", 0)))
                for _ in range(40)
            ]

            def ended() -> int:
                return sum(_is_ended(stranger) for stranger in strangers)

            eventually(lambda: ended() >= 20, "those that are too many to be ended")
            with circle.connect("anna") as anna:  # from another address
                works(anna)
        assert "from 127.0.0.2: there are 20 connections from there, which is the most" in circle.daemon.log


#: What a ZeroMQ peer that encrypts says first.
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + bytes(47)


def test_who_does_not_complete_the_handshake_is_hung_up_on(folder: Path) -> None:
    """By ZeroMQ itself that would be after half a minute; whoever has a key is let in and goes on."""
    brief = "from taskmaster.bus import sockets; sockets.HANDSHAKE_SECONDS = 1.0"
    run = "import runpy; runpy.run_module('taskmaster.daemon', None, '__main__')"
    with starter(folder) as start, contextlib.ExitStack() as stack:
        circle = Circle(folder, start, MASTERS)
        circle.daemon.stop()
        circle.daemon.launch(program=("-c", f"{brief}; {run}"))
        eventually(lambda: circle.daemon.log.count("is ready at") == 2, "it to be there")
        circle.address = bound_at(circle.daemon)
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna:
            places = [anna.address, anna._described.results, anna._described.workers]
            addresses = [place.removeprefix("tcp://").rpartition(":") for place in places]
            strangers: list[net.socket] = []
            began = time.monotonic()
            for (host, _, port), said in itertools.product(addresses, (b"", GREETING[:11], GREETING)):
                stranger = stack.enter_context(net.create_connection((host, int(port))))
                stranger.sendall(said)
                strangers.append(stranger)
            eventually(lambda: all(map(_is_ended, strangers)), "all of them to be ended")
            assert time.monotonic() - began < 25, "not sooner than ZeroMQ does by itself"
            works(anna)


def _is_ended(stranger: net.socket) -> bool:
    stranger.setblocking(False)
    try:
        while data := stranger.recv(4096):
            assert data
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def test_who_follows_too_much_is_kept_out(folder: Path) -> None:
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS, max_rate=1_000_000)
        circle.admit("mad", "observer")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna:
            results = anna._channel.core.results_address
            before = resident(circle)
            with mad(circle, results, zmq.XSUB) as socket:
                socket.sndhwm = 0
                said, k, deadline = "follows more than", 0, time.monotonic() + PATIENCE
                while said not in circle.daemon.log:
                    assert time.monotonic() < deadline, "the daemon bears everything"
                    for _ in range(1000):
                        k += 1
                        with contextlib.suppress(zmq.Again):
                            socket.send(b"\1" + topics.events_topic("square", k), zmq.NOBLOCK)
            assert k >= MOST_TOPICS
            assert resident(circle) < before + MOST_GROWTH
            works(anna)


def follows(circle: Circle, name: str, results: str, *topics: bytes) -> bool:
    """Whether somebody who subscribes anew is answered."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ear = sockets.subscriber(context, Credentials(circle.pairs[name], circle.own.public))
    ear.connect(results)
    for topic in topics:
        ear.subscribe(topic)
    heard = bool(ear.poll(PATIENCE_MS))
    context.destroy(linger=0)
    return heard


def log_has(circle: Circle, text: str, what: str) -> None:
    eventually(lambda: text in circle.daemon.log, what)


def test_who_is_kept_out_silences_nobody_who_follows_the_same(folder: Path) -> None:
    """A worker's key, for another Master, of which each subscription is refused: its end is nobody else's."""
    with starter(folder) as start:
        circle = Circle(folder, start, {**MASTERS, "echo": function("echo")}, max_rate=1_000_000)
        circle.admit("mad", "worker", masters=frozenset(["echo"]))
        circle.admit("anna", "observer")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        ear = sockets.subscriber(context, Credentials(circle.pairs["anna"], circle.own.public))
        with connect(circle.near) as near, near["square"].open("hers") as run, circle.connect("anna") as anna:
            results = anna._described.results
            topic = topics.with_inputs_topic("square", run.number)
            ear.connect(results)
            ear.subscribe(topic)
            assert ear.poll(PATIENCE_MS)
            with mad(circle, results, zmq.XSUB) as socket:
                socket.sndhwm = 0
                for k in range(MOST_TOPICS + 2):
                    socket.send(b"\1echo/%d/io" % k)
                socket.send(b"\1" + topic)  # when it is kept out already
                log_has(circle, f"follows more than {MOST_TOPICS} topics", "it to be kept out")
            for _ in range(3):  # beacons, one a second: what the end of its subscriptions does has been done
                while ear.poll(0):
                    ear.recv_multipart()
                assert ear.poll(PATIENCE_MS), "she does not hear anything any more"
            run.tasks.put({"x": 3.0})
            run.results.get(PATIENCE)
        context.destroy(linger=0)


def test_who_comes_again_and_again_takes_no_room_from_others(folder: Path) -> None:
    """Topics asked for twice by a connection, and many connections: more than there is room for, if they were kept."""
    rounds, each = 2, 9_900
    names = [f"mad{k}" for k in range(6)]
    assert rounds * each * len(names) > TOPICS
    with starter(folder) as start:
        circle = Circle(folder, start, {**MASTERS, "echo": function("echo")}, max_rate=1_000_000)
        for name in names:
            circle.admit(name, "observer", masters=frozenset(["echo"]))
        circle.admit("anna", "observer")
        with circle.connect("anna") as anna:
            results = anna._described.results
        numbers = itertools.count()
        for _ in range(rounds):
            with contextlib.ExitStack() as stack:
                crowd = [stack.enter_context(mad(circle, results, zmq.XSUB, name)) for name in names]
                for socket in crowd:
                    socket.sndhwm = 0
                    for number in itertools.islice(numbers, each):
                        for _ in range(2):
                            socket.send(b"\1square/%d/io" % number)
                    socket.send(b"\1echo/1/o")
                for socket in crowd:
                    assert socket.poll(PATIENCE_MS), "its last word is not answered"
        with connect(circle.near) as near, near["square"].open("hers") as run:
            assert follows(circle, "anna", results, topics.with_inputs_topic("square", run.number))
            works(near)


def test_a_revoked_key_that_goes_on_is_hung_up_on(folder: Path) -> None:
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        with mad(circle) as socket, mad(circle) as silent, connect(circle.near) as near:
            for one in (socket, silent):
                one.send(codec.encode(m.Ping(1)))
                assert one.poll(PATIENCE_MS)
                one.recv_multipart()
            circle.revoke("mad")
            flood_until_out(circle, socket, [codec.encode(m.Ping(1))])
            answers = 0
            while socket.poll(200):
                socket.recv_multipart()
                answers += 1
            assert answers <= LAST_WORDS
            eventually(lambda: circle.daemon.log.count("its key is not in force any more") >= 2, "the other to end")
            works(near)


def test_of_very_many_workers_a_status_lists_some(folder: Path) -> None:
    """A question of a few bytes is not to be answered with megabytes."""
    n = MOST_LISTED + 30
    with starter(folder) as start:
        daemon = start({"far": {**MASTERS["square"], "workers": 0}}, name="d")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, n + 10)
        with connect(daemon.address) as lab:
            peers = [sockets.dealer(context) for _ in range(n)]
            for k, peer in enumerate(peers):
                peer.connect(f"ipc://{daemon.state}/workers")
                peer.send(codec.encode(m.WorkerHello(m.PROTOCOL_VERSION, "far", f"w{k}", 1, 1, 1, "crowd")))
                peer.send(codec.encode(m.Ready()))
            eventually(lambda: lab["far"].slots == n, "all of them to be there")
            [master] = lab.status().masters
            assert (len(master.workers), master.unlisted) == (MOST_LISTED, 30)
            shown = subprocess.run(
                [sys.executable, "-m", "taskmaster", "status", "--workers", "--address", daemon.address],
                capture_output=True, text=True, check=True, timeout=PATIENCE,
            )  # fmt: skip
            assert "… and 30 more" in shown.stdout
        context.destroy(linger=0)


def test_forks_take_turns_with_what_others_ask(folder: Path) -> None:
    """Nobody is served while one is made: so there is one in a turn."""
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, circle.connect("mad") as near, mad(circle) as socket:
            with near["square"].open("long") as run:
                for k in range(3000):
                    run.tasks.put({"x": float(k)})
                    run.flush()
                number = run.number
            for k in range(30):
                socket.send(codec.encode(m.Fork(k + 1, number, f"fork {k}")))
            assert socket.poll(int(1e3 * PATIENCE))
            anna.status()
            heard = []
            while socket.poll(0):
                heard.append(codec.daemon_decoder().decode(socket.recv_multipart()[0]))
            forked = sum(isinstance(answer, m.Forked) for answer in heard)
            refused = {answer.code for answer in heard if isinstance(answer, m.Refused)}
            assert refused == {"full"}, "nor do more than a few wait"
            assert forked < MOST_FORKS


def test_a_peer_that_chooses_its_routing_id_is_shown_the_door(folder: Path) -> None:
    """It may be another's, who is gone, and still sent what is for them; or the next that ZeroMQ would give."""
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna:
            for name in (b"anna", b"\0anna"):
                with mad(circle, routing_id=name) as socket:
                    socket.send(codec.encode(m.Ping(1)))
                    assert not socket.poll(500)
            works(anna)
        assert "key 'mad', from 127.0.0.1, chooses a routing id for itself" in circle.daemon.log


def test_a_message_without_end_takes_no_memory(folder: Path) -> None:
    """ZeroMQ gathers its frames before it gives any: the daemon sees only that bytes have come."""
    frame = bytes(1 << 20)
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, mad(circle) as socket:
            works(anna)
            before = most = resident(circle)
            for _ in range(100_000):  # frames of the same memory: 100 GB, of which its sender has one
                socket.send(frame, zmq.SNDMORE, copy=False)
            socket.send(b"")

            def is_out() -> bool:
                nonlocal most
                most = max(most, resident(circle))
                return "of what its owner has sent are no messages yet" in circle.daemon.log

            eventually(is_out, "it to be ended")
            works(anna)
            assert most - before < MOST_GROWTH + (256 << 20), "four messages of the greatest size are borne"
        assert circle.daemon.is_running


def test_a_message_of_very_many_frames_is_paid_for(folder: Path) -> None:
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        with circle.connect("anna") as anna, mad(circle) as socket:
            socket.send_multipart([b""] * 1_000_000)
            said = "key 'mad', from 127.0.0.1, sends a message of 1,000,000 frames, of which 8,192 are borne; it is"
            eventually(lambda: f"{said} kept out for 1" in circle.daemon.log, "it to be kept out")
            works(anna)


def test_a_peer_that_holds_the_next_routing_id_in_silence_does_not_end_the_daemon(folder: Path) -> None:
    told = folder / "first"
    tells = f"""
import runpy
from taskmaster.bus import origins, sockets

def find_first(router, find_first=origins.find_first):
    find_first(router)
    with open({str(told)!r}, "a") as file:
        print(origins._first_ids[router], file=file)

sockets.find_first = find_first
runpy.run_module("taskmaster.daemon", None, "__main__")
"""
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("mad", "learner")
        circle.admit("anna", "learner")
        circle.daemon.stop()
        circle.daemon.launch(program=("-c", tells))
        eventually(lambda: circle.daemon.log.count("is ready at") == 2, "it to be there")
        circle.address = bound_at(circle.daemon)
        first = int(told.read_text().split()[0])  # of the clients' socket, which is made first
        soon = [b"\0" + ((first + k) & 0xFFFFFFFF).to_bytes(4, "big") for k in range(45, 65)]
        with contextlib.ExitStack() as held:
            for name in soon:
                held.enter_context(mad(circle, routing_id=name))
            eventually(lambda: "of many that are silent: 'mad'" in circle.daemon.log, "it to be seen")
            for _ in range(70):
                with circle.connect("anna") as anna:
                    works(anna, 1)
        assert circle.daemon.is_running


def test_a_crowd_that_comes_back_at_once_is_no_attack(folder: Path) -> None:
    """Its connections have the next routing ids, in silence: of those who are busy for as long as that takes."""
    with starter(folder) as start:
        circle = Circle(folder, start, MASTERS)
        circle.admit("rig", "learner")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.max_sockets = CROWD + 10
        rig = Credentials(circle.pairs["rig"], circle.own.public)
        try:
            crowd = [sockets.dealer(context, rig) for _ in range(CROWD)]
            poller = zmq.Poller()
            for k, socket in enumerate(crowd):
                socket.connect(circle.address)
                poller.register(socket, zmq.POLLIN)
                if k % 2:
                    socket.send(codec.encode(m.Ping(k)))
            heard, deadline = 0, time.monotonic() + PATIENCE
            while heard < CROWD // 2:
                assert time.monotonic() < deadline, f"{heard} have an answer"
                for socket, _ in poller.poll(100):
                    heard += sockets.receive(socket) is not None
            for socket in crowd[::2]:
                socket.send(codec.encode(m.Ping(1)))
            while heard < CROWD:
                assert time.monotonic() < deadline, f"{heard} have an answer"
                for socket, _ in poller.poll(100):
                    heard += sockets.receive(socket) is not None
        finally:
            context.destroy(linger=0)
        assert "routing id" not in circle.daemon.log
        assert "kept out" not in circle.daemon.log
