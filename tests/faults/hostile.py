"""Peers that mean harm, with a key and without: half-open handshakes, floods, giants, and nonsense in large numbers."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import zmq
from helpers.garbage import SAID, mutated

from faults.keys import Keyring, keyed_site
from faults.nursery import Nursery
from faults.site import Site, pass_time
from faults.tally import Tally
from taskmaster.bus import codec, messages as m, sockets, topics
from taskmaster.bus.keys import Credentials
from taskmaster.learners.client import connect

__all__ = ["crowded", "floods", "fuzz", "half_open"]

#: ZMTP 3's greeting of a client that would encrypt, and of one that would not.
_CURVE = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE" + bytes(47)
_NULL = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)
#: A command HELLO of CURVE, of the right length and with nothing right in it.
_HELLO = b"\4\xc8\5HELLO\1\0" + bytes(72) + bytes(range(120))
_BEGINNINGS = (b"", _CURVE[:11], _CURVE, _CURVE + _HELLO[:50], _CURVE + _HELLO, _NULL, b"GET / HTTP/1.1\r\n\r\n")
#: So many half-open connections at a time: beyond, the oldest goes. (A program may often have 1024 files.)
_HALF_OPEN = 200
#: What one message may have.
MAX_MESSAGE = 1 << 20
#: What all of them together may cost the daemon, in bytes.
_MEMORY = 96 << 20


def _guarded(site: Site, tally: Tally, work: Callable[[], None]) -> None:
    """Do it to a daemon at work; it may not end, raise, or take much memory for it."""
    pid, before = site.daemon.pid, site.daemon.memory
    work()
    site.await_progress(2)
    if not site.daemon.is_running or site.daemon.pid != pid:
        tally.complaints.append(f"the daemon has ended:\n{site.said()}")
    elif (grown := site.daemon.memory - before) > _MEMORY:
        tally.complaints.append(f"the daemon has grown by {grown >> 20} MiB")
    if "Traceback" in site.daemon.log:
        tally.complaints.append(f"the daemon has raised something:\n{site.said()}")
    site.finish(tally)


def half_open(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Connections to all sockets that stop in the middle of their handshake, and stay: the last 200 of them."""
    chance = random.Random(seed)
    site, _ = keyed_site(folder, nursery)
    with site, ExitStack() as stack:
        site.start()

        def knock() -> None:
            there: deque[socket.socket] = deque()
            for _ in range(times):
                if len(there) == _HALF_OPEN:
                    there.popleft().close()
                host, _, port = chance.choice(site.addresses).removeprefix("tcp://").rpartition(":")
                connection = stack.enter_context(socket.create_connection((host, int(port)), 10.0))
                there.append(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(chance.choice(_BEGINNINGS))
                tally.injected += 1
            site.await_progress(50)

        _guarded(site, tally, knock)


def floods(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Messages without an end, giants, topics by the thousand, questions by the thousand, of somebody with a key."""
    chance = random.Random(seed)
    site, ring = keyed_site(folder, nursery, max_message=MAX_MESSAGE)
    ring.admit("eve", masters=frozenset({"none"}))
    with site:
        site.start()
        others = Credentials(ring.pairs["eve"], ring.own.public)

        def flood() -> None:
            for k in range(times):
                _FLOODS[k % len(_FLOODS)](site, others, chance)
                tally.injected += 1
                site.learners[0].await_told()

        _guarded(site, tally, flood)


def _peer(context: zmq.Context[zmq.Socket[bytes]], address: str, credentials: Credentials) -> zmq.Socket[bytes]:
    peer = sockets.dealer(context, credentials)
    peer.sndtimeo = 2000
    peer.connect(address)
    return peer


def _endless(site: Site, credentials: Credentials, chance: random.Random) -> None:
    """Parts of one message, by the ten thousand."""
    with _context() as context, contextlib.suppress(zmq.Again):
        peer = _peer(context, chance.choice((site.addresses[0], site.addresses[2])), credentials)
        for _ in range(20_000):
            peer.send(b"more" * chance.choice((1, 8)), zmq.SNDMORE)
        peer.send(b"")


def _giant(site: Site, credentials: Credentials, chance: random.Random) -> None:
    with _context() as context, contextlib.suppress(zmq.Again):
        peer = _peer(context, chance.choice((site.addresses[0], site.addresses[2])), credentials)
        for size in (MAX_MESSAGE + 1, 64 << 20, MAX_MESSAGE):
            peer.send(bytes(size))
        pass_time(0.2)


def _topics(site: Site, credentials: Credentials, chance: random.Random) -> None:
    """Subscriptions to whatever, and to what one may not hear."""
    with _context() as context, contextlib.suppress(zmq.Again):
        ear = context.socket(zmq.XSUB)
        ear.sndhwm, ear.sndtimeo = 1000, 2000
        credentials.apply(ear)
        ear.connect(site.addresses[1])
        for k in range(20_000):
            topic = chance.randbytes(chance.choice((0, 4, 30, 300))) if k % 3 else topics.events_topic("often", k % 9)
            ear.send(bytes([k % 2]) + topic)


def _questions(site: Site, credentials: Credentials, chance: random.Random) -> None:
    """More than anybody wants answered, by somebody who does not listen."""
    with _context() as context, contextlib.suppress(zmq.Again):
        peer = _peer(context, site.addresses[0], credentials)
        asked = [m.ListRuns(1), m.Status(1), m.Describe(1, m.PROTOCOL_VERSION), m.Open(1, "none", "x"), m.Ping(1)]
        for _ in range(10_000):
            peer.send(codec.encode(chance.choice(asked)))


_FLOODS = (_endless, _giant, _topics, _questions)


@contextlib.contextmanager
def _context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


# -- a crowd -----------------------------------------------------------------------------------------------------------

_EVALUATED = Path(__file__).resolve().parents[2] / "benchmarks" / "evaluated"
#: Idle workers, so many from one process; and how many hostile peers there are beside them.
_IDLE, _OF_ONE, _HOSTILE = 10_000, 2_500, 100


def crowded(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Ten thousand idle connections, and a hundred peers that do what they can, with a key and without.

    What that does to the time of a task, `python -m benchmarks --only attack` says.
    """
    site, ring = keyed_site(folder, nursery, max_connections=30_000, lost_after="10 min")
    ring.admit("idle", "worker", masters=frozenset({"idle"}))
    ring.admit("mad", masters=frozenset({"none"}))
    with site:
        site.start()
        control, results, workers = site.addresses
        daemon = ring.own.public.hex()
        for _ in range(times):
            with ExitStack() as stack:
                for first in range(0, _IDLE, _OF_ONE):
                    named = [workers, str(_OF_ONE), str(first), daemon, str(ring.file("idle"))]
                    stack.enter_context(_beside("crowd.py", *named))
                stack.enter_context(_beside("hostile.py", control, workers, results, daemon, str(ring.file("mad"))))
                tally.injected += _IDLE + _HOSTILE
                site.await_progress(100)
                if (there := _idle_at(site)) < _IDLE:
                    tally.complaints.append(f"of {_IDLE:,} idle workers {there:,} are there")
        site.finish(tally)


def _idle_at(site: Site) -> int:
    with connect(site.near) as near:
        (master,) = (master for master in near.status().masters if master.name == "idle")
    return len(master.workers) + master.unlisted


@contextlib.contextmanager
def _beside(script: str, *arguments: str) -> Iterator[None]:
    """A program that runs until the context ends, once it has said that it is there."""
    command = [sys.executable, str(_EVALUATED / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise AssertionError(f"{script} has ended with status {process.wait()}")
            yield
        finally:
            process.kill()


# -- nonsense ----------------------------------------------------------------------------------------------------------


def fuzz(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Damaged messages to every socket: of a learner, a worker and an observer with keys, and of nobody."""
    chance = random.Random(seed)
    # All of it is to be looked at: nobody is kept out for having sent too much.
    site, ring = keyed_site(folder, nursery, max_message=MAX_MESSAGE, max_rate=1e9)
    with site:
        peers = _admit(ring)
        site.start()

        def talk() -> None:
            while tally.injected < times:
                tally.injected += _talk_nonsense(site, peers, chance, min(2000, times - tally.injected))
            with connect(site.near) as near:
                if near.status().dropped < times / 10:
                    tally.complaints.append(f"of {times:,} damaged messages {near.status().dropped} were found so")

        _guarded(site, tally, talk)


def _admit(ring: Keyring) -> dict[str, Credentials]:
    none = frozenset({"none"})
    ring.admit("eve", masters=none)
    ring.admit("mad", "worker", masters=none)
    ring.admit("ear", "observer", masters=none)
    return {name: Credentials(ring.pairs[name], ring.own.public) for name in ("eve", "mad", "ear")}


def _talk_nonsense(site: Site, peers: dict[str, Credentials], chance: random.Random, messages: int) -> int:
    """So many messages, over connections that begin anew each time; how many were sent."""
    control, results, workers = site.addresses
    sent = 0
    with _context() as context:
        learner, worker = _peer(context, control, peers["eve"]), _peer(context, workers, peers["mad"])
        learner.send(codec.encode(m.Open(1, "none", f"nonsense {chance.random()}")))
        worker.send(codec.encode(m.WorkerHello(m.PROTOCOL_VERSION, "none", f"mad-{chance.random()}")))
        ear = sockets.subscriber(context, peers["ear"])
        ear.connect(results)
        for _ in range(messages):
            frames = mutated(chance, SAID)
            with contextlib.suppress(zmq.Again):
                match chance.randrange(20):
                    case 0:
                        ear.subscribe(frames[0][:300])
                    case 1:
                        _as_nobody(chance.choice(site.addresses), frames[0], chance)
                    case k:
                        (learner if k % 2 else worker).send_multipart(frames)
                sent += 1
            while learner.poll(0):
                learner.recv_multipart()
            while worker.poll(0):
                worker.recv_multipart()
        learner.send(codec.encode(m.Ping(77)))
        with contextlib.suppress(zmq.Again):
            for _ in range(100_000):
                if not learner.poll(5000):
                    raise AssertionError(f"the daemon does not answer any more\n{site.said()}")
                if b"pong" in learner.recv_multipart()[0]:
                    break
    return sent


def _as_nobody(address: str, said: bytes, chance: random.Random) -> None:
    """Bytes to the port, by somebody without a key: of the handshake, or of no protocol."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    beginning = chance.choice(_BEGINNINGS)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5.0) as connection:
        at = chance.randrange(len(beginning) + 1)
        garbage = bytearray(beginning + said[: chance.randrange(400)] + os.urandom(8))
        if at < len(garbage):
            garbage[at] ^= 1 << chance.randrange(8)
        connection.sendall(garbage)
