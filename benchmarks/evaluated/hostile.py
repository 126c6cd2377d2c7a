"""A hundred peers that mean harm, each in its way, without a pause, until the input ends.

``python hostile.py CONTROL WORKERS RESULTS PUBLIC_KEY_OF_THE_DAEMON KEY_FILE [SECONDS_BETWEEN]``: three
addresses, and the file of a key that the daemon lets in. Prints a line when all have begun.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket as net
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.keys import Credentials, KeyPair, new_pair, read_pair

#: How many of each kind.
EACH = 20
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def half_open(address: str, chance: random.Random) -> None:
    """Greets, and says nothing more."""
    with net.create_connection(_place(address), timeout=5) as raw:
        raw.sendall(_GREETING)
        with contextlib.suppress(TimeoutError):
            raw.recv(4096)
            raw.settimeout(20)
            while raw.recv(4096):
                pass


def garbage(address: str, chance: random.Random) -> None:
    """Sends what is no protocol at all, or only begins as one."""
    with net.create_connection(_place(address), timeout=5) as raw:
        raw.sendall(_GREETING[: chance.randrange(64)] + chance.randbytes(chance.randrange(1, 4096)))
        raw.recv(4096)


def knock(address: str, chance: random.Random) -> None:
    """Connects and goes."""
    net.create_connection(_place(address), timeout=5).close()


class Mad:
    """A socket that floods: with a key that is in force, or with none that anybody knows."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], pair: KeyPair, daemon: bytes) -> None:
        self._context, self._credentials = context, Credentials(pair, daemon)

    def flood(self, address: str, chance: random.Random) -> None:
        """Asks without waiting for an answer, for a second."""
        socket = sockets.dealer(self._context, self._credentials)
        socket.sndhwm = 64  # what waits to be sent does the daemon no harm, and takes its processors
        socket.connect(address)
        end = time.monotonic() + 1
        frames = [codec.encode(m.Status(1)), codec.encode(m.Ping(1)), chance.randbytes(64)]
        while time.monotonic() < end:
            if not sockets.send(socket, [chance.choice(frames)]):
                socket.poll(max(0, int(1e3 * (end - time.monotonic()))), zmq.POLLOUT)
        socket.close(0)


def _for_ever(act: Callable[[str, random.Random], None], address: str, pause: float, seed: int) -> None:
    chance = random.Random(seed)
    while True:
        with contextlib.suppress(OSError):
            act(address, chance)
        time.sleep(pause * chance.uniform(0.5, 1.5))


def main(control: str, workers: str, results: str, daemon: str, key: str, pause: str = "0.05") -> None:
    """Entry point."""
    # Whoever attacks has processors of their own: what they do is to cost the others none here.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = bytes.fromhex(daemon)
    strangers, known = Mad(context, new_pair(), server), Mad(context, read_pair(Path(key)), server)
    kinds: list[Callable[[str, random.Random], None]] = [half_open, garbage, knock, strangers.flood, known.flood]
    for k in range(EACH * len(kinds)):
        address = (control, workers, results)[k % 3]
        arguments = (kinds[k % len(kinds)], address, float(pause), k)
        threading.Thread(target=_for_ever, args=arguments, daemon=True).start()
    print("all have begun", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
