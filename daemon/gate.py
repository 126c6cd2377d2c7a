"""The keys that are in force.

The :class:`Gate` knows them. They are in a file that is read anew when it changes (:class:`KeyFile`), in a thread of
its own: to read a thousand takes longer than a turn should. With a mistake in it, it is refused whole, and what was in
force stays so.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.keys import public_text
from taskmaster.bus.text import format_duration
from taskmaster.config.authorised import Grant, read_grants, require_trusted
from taskmaster.daemon.roles import LOCAL, Peer

__all__ = ["LOCAL_USER", "Gate", "KeyFile", "read_keys"]

#: Seconds after which it is trouble that a file of keys is still being read.
_READING_SECONDS = 15.0
#: Seconds for which a file that has changed is to stay as it is before it is read: who writes it in place empties it
#: first; …
_SETTLED_SECONDS = 0.1
#: … and for which that is waited for.
_SETTLING_SECONDS = 3.0
#: Who comes by a Unix socket, for ZeroMQ.
LOCAL_USER = "local"


class Gate:
    """The keys that are in force."""

    def __init__(self, grants: Sequence[Grant], now: float) -> None:
        self._grants: tuple[Grant, ...] = ()
        #: by what ZeroMQ calls whoever has shown the key
        self._peers: dict[str, Peer] = {LOCAL_USER: LOCAL}
        self._in_force: frozenset[Peer] = frozenset()
        self._users: dict[bytes, str] = {}
        #: when the next of them expires, and when the last of the others has, in seconds since 1970
        self.next_expiry, self._last_expiry = math.inf, -math.inf
        self.update(grants, now)

    @property
    def grants(self) -> Sequence[Grant]:
        """All that is in the file, whether it holds or not: another object where it was read anew."""
        return self._grants

    def __len__(self) -> int:
        """How many keys are in force."""
        return len(self._users)

    def peer(self, user: str) -> Peer | None:
        """Who that is, by ZeroMQ's name for them; None where their key is not in force (any more)."""
        return self._peers.get(user)

    def user(self, key: bytes) -> str | None:
        """ZeroMQ's name for the owner of a public key; None where it is not in force."""
        return self._users.get(key)

    def is_in_force(self, peer: Peer) -> bool:
        """Whether somebody may just what they could when a message of theirs was taken."""
        return peer in self._in_force

    def update(self, grants: Sequence[Grant], now: float) -> bool:
        """Have these in force from now on (seconds since 1970); whether there is anybody who may less than before."""
        holding = [grant for grant in grants if grant.holds(now)]
        users = {grant.key: f"{grant.name} {public_text(grant.key)}" for grant in holding}
        peers = {LOCAL_USER: LOCAL, **{users[grant.key]: _peer(grant) for grant in holding}}
        narrowed = any(peers.get(user) != peer for user, peer in self._peers.items())
        self._grants, self._users, self._peers = tuple(grants), users, peers
        self._in_force = frozenset(peers.values())
        ends = [grant.expires for grant in grants if grant.expires is not None and not grant.revoked]
        self.next_expiry = min((end for end in ends if end > now), default=math.inf)
        self._last_expiry = max((end for end in ends if end <= now), default=-math.inf)
        return narrowed

    def expire(self, now: float) -> bool:
        """Let go of what has expired, and take back what has not, as the clock was put back; whether any may less."""
        is_due = now >= self.next_expiry or now < self._last_expiry
        return is_due and self.update(self._grants, now)


def _peer(grant: Grant) -> Peer:
    return Peer(grant.name, grant.role, grant.masters, grant.code)


def read_keys(path: Path) -> tuple[Grant, ...]:
    """The keys of a file that nobody but root and the daemon's own user can write. Raises ConfigError."""
    require_trusted(path, {0, os.geteuid()})
    return read_grants(path)


class KeyFile:
    """Looks whether the file of keys has changed, and reads it then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()
        self._reading: threading.Thread | None = None
        self._began = 0.0
        self._read: tuple[Grant, ...] | str | None = None
        self._pause: Callable[[float], object] = time.sleep
        #: what is wrong with the file as it is now; empty if nothing is
        self.trouble = ""

    def _look(self) -> tuple[int, ...]:
        try:
            there = os.stat(self._path)
        except OSError as error:
            return (error.errno or 0,)
        return there.st_mtime_ns, there.st_size, there.st_ino, there.st_uid, there.st_mode

    @property
    def origin(self) -> str:
        """Where it is, and whose, for the record."""
        owner = f" (of uid {self._seen[3]})" if len(self._seen) > 3 else ""
        return f"{self._path}{owner}"

    def look(self) -> None:
        """Once in a while: begin to read the file, if it is another one than before."""
        if self._reading is not None:
            return
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._began = time.monotonic()
            self._reading = threading.Thread(target=self._load, name="taskmaster-keys", daemon=True)
            self._reading.start()

    @property
    def is_read(self) -> bool:
        """Whether there is something to :meth:`take`, or to say of it."""
        return self._reading is not None and not self._reading.is_alive()

    def _load(self) -> None:
        """Read it when nobody writes it: half a file may have no mistake in it, and half of the keys."""
        until = time.monotonic() + _SETTLING_SECONDS
        read: tuple[Grant, ...] | str | None = None
        while read is None:
            self._await_settled(until)
            read = self._content()
            if self._look() != self._seen and time.monotonic() < until:
                read = None
        self._read = read

    def _await_settled(self, until: float) -> None:
        before: tuple[int, ...] = ()
        while before != self._seen and time.monotonic() < until:
            before = self._seen
            self._pause(_SETTLED_SECONDS)
            self._seen = self._look()

    def _content(self) -> tuple[Grant, ...] | str:
        try:
            return read_keys(self._path)
        except ConfigError as error:
            return str(error)

    def take(self) -> tuple[Grant, ...] | None:
        """What was read since the last time; None if nothing was, or nothing that could be taken."""
        if self._reading is None:
            return None
        if self._reading.is_alive():
            took = time.monotonic() - self._began
            if took > _READING_SECONDS:
                self.trouble = f"{self._path}: has not been read for {format_duration(took)}; is its disk there?"
            return None
        self._reading.join()
        self._reading, read, self._read = None, self._read, None
        if read is None:  # whatever ended the thread, it has been printed; it begins anew
            self._seen = ()
            read = f"{self._path}: could not be read, see above"
        self.trouble = read if isinstance(read, str) else ""
        return None if isinstance(read, str) else read
