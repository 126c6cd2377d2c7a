"""Fuzzing guided by coverage: the daemon's loop in this process, and messages that have led it where none had before.

Broker, journal and sockets are the real ones. Each turn is given a few damaged messages; where that has reached a line
of the daemon that no message had reached, they are kept, and damaged further. Whatever the loop raises is a fault.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import zmq
from helpers.daemon import function, toml
from helpers.garbage import SAID, mutated
from helpers.sayings import CLIENT, WORKER, saying

import taskmaster
from faults.nursery import Nursery
from faults.power import start_on
from faults.tally import Tally
from taskmaster.bus import codec, messages as m
from taskmaster.config.load import load
from taskmaster.daemon import service
from taskmaster.daemon.broker import Broker
from taskmaster.daemon.core import Identity
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.plan import plan
from taskmaster.daemon.space import Space
from taskmaster.daemon.systemd import KeptSockets, ServiceManager

__all__ = ["guided"]

#: Messages that a turn is given.
_BATCH = 8
#: Turns of which one is looked at line by line, which takes several times as long.
_LOOKED_AT = 4
#: Messages kept beside those to begin with.
_KEPT = 4000

_HOUSE = os.path.realpath(os.path.dirname(taskmaster.__file__))
_FOLDERS = tuple(os.path.realpath(os.path.join(_HOUSE, folder)) + os.sep for folder in ("bus", "daemon"))


class _Lines:
    """The lines of the daemon that have been reached."""

    def __init__(self) -> None:
        self.reached: set[tuple[str, int]] = set()
        self._ours: dict[str, bool] = {}

    def _is_ours(self, name: str) -> bool:
        found = self._ours.get(name)
        if found is None:
            found = self._ours[name] = os.path.realpath(name).startswith(_FOLDERS)
        return found

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._on_line if self._is_ours(frame.f_code.co_filename) else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._on_line

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Note what is reached meanwhile."""
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(before)


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[Broker]:
    """A daemon's loop that turns when it is told to."""
    masters = {"none": function("echo", workers=0), "held": function("echo", workers=0, on_lost="hold")}
    (folder / "daemon.toml").write_text(toml({"state": "state", "durability": "crash", "keep_free": 0}, masters))
    wanted = plan(load(folder / "daemon.toml"))
    wanted.state.mkdir()
    with contextlib.ExitStack() as stack:
        journal = Journal(wanted.state, wanted.durability)
        stack.callback(journal.close)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, 0)
        endpoints, addresses = service._bind(context, wanted, stack, KeptSockets(ServiceManager({})), None, None)
        identity = Identity("fuzzed", journal.begin_epoch(1e9), addresses.results, addresses.workers)
        broker = service._assemble(
            wanted, journal, Space(wanted.state, 0), endpoints, identity, addresses.near_workers, 0o077, None
        )
        broker.supervisor.scale = lambda name, count: None  # type: ignore[method-assign]
        yield broker


def guided(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """So many messages, of a client and of a worker who may do everything."""
    chance = random.Random(seed)
    lines = _Lines()
    with _broker(folder) as broker:
        corpus: list[Sequence[bytes]] = list(SAID)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        peers = [_peer(context, folder / "state" / name) for name in ("control", "workers")]
        peers[0].send(codec.encode(m.Open(1, "none", "first")))
        peers[1].send(codec.encode(m.WorkerHello(m.PROTOCOL_VERSION, "none", "mad")))
        _turn(broker)
        leases: deque[m.LeaseId] = deque(maxlen=5)
        while tally.injected < times:
            batch = [_something(chance, corpus, leases) for _ in range(_BATCH)]
            for to, frames in batch:
                with contextlib.suppress(zmq.Again):
                    peers[to].send_multipart(frames)
                    tally.injected += 1
            known = len(lines.reached)
            try:
                if chance.randrange(_LOOKED_AT):
                    _turn(broker)
                else:
                    with lines.looking():
                        _turn(broker)
            except Exception:  # noqa: BLE001 - which is what is looked for
                tally.complaints.append(
                    f"after {tally.injected} messages, by one of {batch}:\n{traceback.format_exc()}"
                )
                break
            if len(lines.reached) > known and len(corpus) < _KEPT:
                corpus += [frames for _, frames in batch]
            for peer in peers:
                while peer.poll(0):
                    leases += _granted(peer.recv_multipart()[0])
        context.destroy(linger=0)
    start_on(folder / "state", "none", "held")
    if len(corpus) == len(SAID):
        tally.complaints.append("no message has led anywhere new")


def _granted(said: bytes) -> list[m.LeaseId]:
    """The lease that the daemon grants with a message."""
    with contextlib.suppress(msgspec.DecodeError):
        return [msgspec.msgpack.decode(said, type=m.Dispatch).lease]
    return []


def _something(
    chance: random.Random, corpus: Sequence[Sequence[bytes]], leases: Sequence[m.LeaseId]
) -> tuple[int, list[bytes]]:
    """To which of the two sockets, and what: as it is, or damaged."""
    to = chance.randrange(2)
    if chance.random() < 0.6:
        said = saying(chance, chance.choice((CLIENT, WORKER)[to]), leases)
        return to, said if chance.random() < 0.8 else mutated(chance, [said])
    return to, mutated(chance, corpus)


def _peer(context: zmq.Context[zmq.Socket[bytes]], path: Path) -> zmq.Socket[bytes]:
    peer = context.socket(zmq.DEALER)
    peer.sndtimeo = 100
    peer.connect(f"ipc://{path}")
    return peer


def _turn(broker: Broker) -> None:
    broker.turn(dict(broker._poller.poll(20)))
