"""People with keys, and the daemon that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.daemon import Daemon
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually
from taskmaster.bus.keys import KeyPair, new_pair, write_pair
from taskmaster.config.authorised import Grant, RoleName, edit
from taskmaster.learners import connect
from taskmaster.learners.client import Lab

__all__ = ["Circle", "bound_at"]


def bound_at(daemon: Daemon) -> str:
    """The control address of a daemon that has been left the choice of a port."""
    said = "is ready at "
    eventually(lambda: said in daemon.log, "the daemon to say where it is")
    return daemon.log.rpartition(said)[2].split()[0]


class Circle:
    """The owners of keys by their names, and a daemon that listens on tcp."""

    def __init__(
        self, folder: Path, start: StartDaemon, masters: Mapping[str, Mapping[str, Any]], **settings: Any
    ) -> None:
        self.folder = folder
        self.keys = folder / "keys.toml"
        self.own = new_pair()
        self.pairs: dict[str, KeyPair] = {}
        self._grants: dict[str, Grant] = {}
        write_pair(folder / "daemon.key", self.own, "the daemon")
        self.keys.touch(0o644)
        anywhere = "tcp://127.0.0.1:*"
        self.daemon: Daemon = start(
            masters, keys=str(self.keys), listen=anywhere, results=anywhere, workers=anywhere, name="d", **settings
        )
        self.address = bound_at(self.daemon)

    @property
    def near(self) -> str:
        """Where the daemon's own user comes by."""
        return f"ipc://{self.daemon.state}/control"

    def admit(self, name: str, role: RoleName, **rest: Any) -> None:
        """Give somebody a key, and have it in force."""
        if name not in self.pairs:
            self.pairs[name] = new_pair()
            write_pair(self.file(name), self.pairs[name], name)
        self.put(Grant(name, self.pairs[name].public, role, **rest))

    def put(self, grant: Grant) -> None:
        """Write a key into the file, and wait until the daemon has read that."""
        reads = self._reads()
        self._grants[grant.name] = grant
        edit(self.keys, {grant.name: grant})
        eventually(lambda: self._reads() > reads, "the daemon to read the keys anew")

    def revoke(self, name: str) -> None:
        """Have somebody's key in force no more."""
        self.put(replace(self._grants[name], revoked=True))

    def _reads(self) -> int:
        return self.daemon.log.count("the keys were read anew")

    def file(self, name: str) -> Path:
        """Where somebody's pair is."""
        return self.folder / f"{name}.key"

    def connect(self, name: str, timeout: float = PATIENCE, patience: float = PATIENCE) -> Lab:
        """A connection of somebody's."""
        return connect(self.address, timeout, patience, key=self.file(name), daemon_key=self.own.text)
