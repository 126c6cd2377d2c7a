"""Keys that are wrong, revoked, expired, swapped; ciphertext that is played again; an authenticator that is dead."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import zmq
from helpers.daemon import function, tcp
from helpers.waiting import PATIENCE, eventually

from faults.nursery import Nursery
from faults.site import OFTEN, Site, pass_time
from faults.tally import Tally
from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.keys import Credentials, KeyPair, new_pair, write_pair
from taskmaster.config.authorised import Grant, RoleName, edit
from taskmaster.learners.client import connect

__all__ = ["Keyring", "dead_authenticator", "keyed_site", "replayed", "strangers"]

#: Who is let in is answered within milliseconds.
_SHORT = 1.0


class Keyring:
    """A daemon's file of keys, and everybody's pairs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "keys.toml"
        self.own = new_pair()
        self.pairs: dict[str, KeyPair] = {}
        self._grants: dict[str, Grant] = {}
        write_pair(folder / "daemon.key", self.own, "the daemon")
        self.path.touch(0o644)

    def admit(self, name: str, role: RoleName = "learner", **rest: Any) -> KeyPair:
        """Write somebody into the file."""
        if name not in self.pairs:
            self.pairs[name] = new_pair()
            write_pair(self.file(name), self.pairs[name], name)
        self._put(Grant(name, self.pairs[name].public, role, **rest))
        return self.pairs[name]

    def revoke(self, name: str) -> None:
        """Have somebody's key in force no more."""
        self._put(replace(self._grants[name], revoked=True))

    def _put(self, grant: Grant) -> None:
        self._grants[grant.name] = grant
        edit(self.path, {grant.name: grant})

    def file(self, name: str) -> Path:
        """Where somebody's pair is."""
        return self.folder / f"{name}.key"

    def shown(self, name: str) -> tuple[str, str]:
        """What a learner is given: its own pair's file, and the daemon's key."""
        return str(self.file(name)), self.own.text


def keyed_site(folder: Path, nursery: Nursery, **more: Any) -> tuple[Site, Keyring]:
    """A site whose daemon listens to the network; its learners come by that, with the key of anna."""
    ring = Keyring(folder / "keys")
    ring.admit("anna")
    ring.admit("crew", "worker")
    masters = {name: function("echo", workers=0) for name in ("none", "idle")}
    settings: dict[str, Any] = {"keys": str(ring.path), **tcp(), **more}
    site = Site(folder / "site", nursery, masters=masters, **settings)
    site.credentials, site.worker_credentials = ring.shown("anna"), ring.shown("crew")
    return site, ring


# -- who is not let in ------------------------------------------------------------------------------------------------


def strangers(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Keys that nobody knows, of another daemon, revoked, expired, for another socket, or none; under load."""
    chance = random.Random(seed)
    site, ring = keyed_site(folder, nursery)
    with site:
        ring.admit("old", expires=time.time() - 1)
        ring.admit("gone")
        ring.admit("rig", "worker", masters=frozenset({"none"}))
        ring.revoke("gone")
        site.start()
        while tally.injected < times:
            tally.complaints += _knock(site, ring, chance)
            tally.injected += len(_KNOCKS)
            tally.complaints += _revoke_at_work(site, ring, tally.injected)
            tally.injected += 1
        site.await_progress()
        site.finish(tally)


_KNOCKS = (
    "unknown key", "another daemon's key", "revoked", "expired", "no key", "public keys swapped",
    "the daemon's own key", "a worker's key at the control socket", "a learner's key at the workers socket",
)  # fmt: skip


def _knock(site: Site, ring: Keyring, chance: random.Random) -> Iterator[str]:
    """Everybody at once; says who was answered what nobody may be."""
    own, anna, rig = ring.own.public, ring.pairs["anna"], ring.pairs["rig"]
    known = {
        "unknown key": Credentials(new_pair(), own),
        "another daemon's key": Credentials(anna, new_pair().public),
        "revoked": Credentials(ring.pairs["gone"], own),
        "expired": Credentials(ring.pairs["old"], own),
        "no key": None,
        "public keys swapped": Credentials(KeyPair(anna.public, rig.secret), own),
        "the daemon's own key": Credentials(ring.own, own),
        "a worker's key at the control socket": Credentials(rig, own),
        "a learner's key at the workers socket": Credentials(anna, own),
    }
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    peers = {}
    for what in chance.sample(_KNOCKS, len(_KNOCKS)):
        peer = peers[what] = sockets.dealer(context, known[what])
        is_worker = what.endswith("workers socket")
        peer.connect(site.addresses[2 if is_worker else 0])
        message = m.WorkerHello(m.PROTOCOL_VERSION, OFTEN, "stranger") if is_worker else m.Open(1, OFTEN, "strange")
        sockets.send(peer, [codec.encode(message)])
    pass_time(_SHORT)
    for what, peer in peers.items():
        frames = sockets.receive(peer) if peer.poll(0) else None
        # Whoever has a key of the wrong kind is told so.
        if frames is not None and (b"refused" not in frames[0] or not what.endswith("socket")):
            yield f"{what} was answered: {frames[0]!r}"
    context.destroy(linger=0)


def _revoke_at_work(site: Site, ring: Keyring, number: int) -> Iterator[str]:
    """A learner's key is revoked while it is at work: from that moment on nothing of it is taken."""
    name = f"brief-{number}"
    ring.admit(name)

    def let_in() -> bool:
        with contextlib.suppress(Exception):
            connect(site.addresses[0], 1.0, 1.0, key=ring.file(name), daemon_key=ring.own.text).close()
            return True
        return False

    eventually(let_in, "the key to be in force")
    with connect(site.addresses[0], key=ring.file(name), daemon_key=ring.own.text) as lab:
        run = lab["none"].open(name)
        run.tasks.put(0)
        run.flush()
        log = site.daemon.log.count("the keys were read anew")
        ring.revoke(name)
        eventually(lambda: site.daemon.log.count("the keys were read anew") > log, "the keys to be read")
        run.tasks.put(1)
        with contextlib.suppress(Exception):
            run.flush(0.3)
        lab._core.forget(run._core)
    with connect(site.near) as near:
        [info] = [info for info in near.runs("none") if info.name == name]
    if info.tasks != 1:
        yield f"{info.tasks} tasks were taken of somebody whose key was revoked after the first"


# -- played again -----------------------------------------------------------------------------------------------------


class _Tap(threading.Thread):
    """Forwards one port and keeps what goes to the daemon, by connection."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard: list[bytearray] = []
        self._ends: list[socket.socket] = []
        self._pumps: list[threading.Thread] = []

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends += (near, far)
                self.heard.append(bytearray())
                for pump in ((near, far, self.heard[-1]), (far, near, None)):
                    self._pumps.append(threading.Thread(target=self._pump, args=pump))
                    self._pumps[-1].start()

    def _pump(self, source: socket.socket, to: socket.socket, keep: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if keep is not None:
                    keep += data
                to.sendall(data)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.join(PATIENCE)
        for pump in self._pumps:
            pump.join(PATIENCE)
        for end in (self._listener, *self._ends):
            end.close()


def replayed(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """All that an honest learner has sent, from its handshake on, is sent again, byte for byte, whole and in parts."""
    chance = random.Random(seed)
    site, ring = keyed_site(folder, nursery)
    with site:
        site.start()
        port = int(site.addresses[0].rpartition(":")[2])
        tap = _Tap(port)
        tap.start()
        try:
            with connect(tap.address, key=ring.file("anna"), daemon_key=ring.own.text) as lab:
                run = lab["none"].open("heard")
                run.tasks.put_many([1, 2, 3])
                run.flush()
        finally:
            tap.close()
        heard = bytes(max(tap.heard, key=len))
        assert len(heard) > 500
        for _ in range(times):
            _play(port, heard, chance)
            tally.injected += 1
        with connect(site.near) as near:
            [info] = [info for info in near.runs("none") if info.name == "heard"]
            writers = len(near["none"].watch("heard").writers())
        if (info.tasks, writers) != (3, 1):
            tally.complaints.append(f"what was played again was taken: {info.tasks} tasks, {writers} writers")
        site.await_progress()
        site.finish(tally)


def _play(port: int, heard: bytes, chance: random.Random) -> None:
    cut = chance.choice((len(heard), chance.randrange(len(heard))))
    with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(OSError):
        connection.settimeout(0.02)
        for at in range(0, cut, chance.choice((64, 300, 4096))):
            connection.sendall(heard[at : at + 4096])
            with contextlib.suppress(TimeoutError):
                connection.recv(4096)


#: What is said of an authenticator that is dead.
_DEAD = "the daemon listens to the network no more"

# -- nobody at the door -----------------------------------------------------------------------------------------------


def dead_authenticator(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Who asks for entry is not answered any more: nobody is let in, and soon the daemon is not on the network."""
    site, ring = keyed_site(folder, nursery)
    with site:
        site.start()
        for _ in range(times):
            site.daemon.kill()
            site.daemon.launch(program="faults.programs:doorless_daemon")
            site.daemon.await_note("READY=1")
            site.await_progress()  # who was there has come in again
            said = site.daemon.log.count(_DEAD)
            (site.daemon.folder / "asleep").touch()
            pass_time(0.1)
            with contextlib.suppress(Exception):
                connect(site.addresses[0], _SHORT, key=ring.file("anna"), daemon_key=ring.own.text).close()
                tally.complaints.append("somebody was let in although nobody has looked at the key")
            eventually(partial(_has_said_more, site, said), "an alarm")
            (site.daemon.folder / "asleep").unlink()
            for address in site.addresses:
                if _is_listened_to(address):
                    tally.complaints.append(f"the daemon still listens at {address}")
            tally.injected += 1
        site.daemon.kill()
        site.daemon.start()
        connect(site.addresses[0], PATIENCE, key=ring.file("anna"), daemon_key=ring.own.text).close()
        site.await_progress()
        site.finish(tally)


def _has_said_more(site: Site, than: int) -> bool:
    return site.daemon.log.count(_DEAD) > than


def _is_listened_to(address: str) -> bool:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return False
    return True
