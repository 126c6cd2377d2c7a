"""The service manager: what systemd gives a daemon when it starts it, and the daemon's word back (sd_notify(3)).

Where nobody has started it as a service, all of this does nothing.

**The watchdog** is fed at the end of a turn, when what the turn has changed is on disk: so neither a loop that hangs
nor one that cannot commit is fed. A full disk is the exception, since the daemon waits for room on purpose and another
start of it would find no more: there it is fed, for as long as the disk is seen to be full.

**A start takes as long as it takes**: every page of the journal is looked at. systemd is asked for more time while the
process gets on, which shows in processor time and in reads of the disk; one that hangs is not waited for.

**Listening sockets outlive the process.** Each one, once bound, is handed to systemd to keep (its file descriptor
store), which gives it back to the next start. Clients that connect in between wait in its queue instead of being
refused, nobody else can take the address meanwhile, and when the service is stopped for good systemd closes them.
Rejected: a socket unit of systemd's in their place. It starts the service whenever somebody connects: a daemon that was
stopped, so that its instruments are left alone, would be started again by the next client that tries. And it names the
addresses a second time. Sockets that a unit of somebody's own passes are taken, all the same.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import logging
import os
import resource
import socket as unix
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.errors import ConfigError

__all__ = ["Inherited", "KeptSockets", "ServiceManager", "make_runtime_directory"]

log = logging.getLogger("taskmaster.daemon")

#: The first descriptor that is passed (sd_listen_fds(3)).
_FIRST_DESCRIPTOR = 3
#: How often it is looked whether a start gets on, and for how much longer it may then go on. The unit's own limit must
#: not be shorter than the former.
_LOOK_SECONDS = 5.0
_MORE_SECONDS = 60.0
#: Processor time in seconds that is no sign of getting on: a process that only waits has that much, too.
_IDLE_SECONDS = 0.02
#: What the end may take beyond what evaluations are granted: heads are made safe, workers go, the journal is closed.
_END_SECONDS = 60.0
#: A wait for room is excused for so long where the disk is not seen to be full.
_EXCUSED_SECONDS = 60.0
#: Who does not take a word within so many seconds does without. The loop waits meanwhile, but not to say it lives.
_PATIENCE_SECONDS = 2.0
#: Between two words on how the daemon is.
_STATUS_SECONDS = 10.0
#: What the sockets that systemd keeps for the next start are called there begins with this.
_KEPT = "kept."
_DIGEST_CHARACTERS = 16


class ServiceManager:
    """systemd, if it has started this process. The variables that tell of it are taken from the ``environment``.

    So no child takes them for its own: a worker's word must not pass for the daemon's.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        #: whether it keeps listening sockets for the next start; before version 254 the unit has to say so
        self.keeps_sockets = bool(self._address) and environment.pop("FDSTORE", "0") != "0"
        self._interval = _watchdog(environment)
        self.inherited = _inherited(environment)
        self._told = True
        self._next_feed = 0.0
        self._next_status = 0.0
        self._status = ""
        self._waiting_since: float | None = None
        self._started = threading.Event()
        if self._interval:
            # What the watchdog ends a loop with is SIGABRT: have it say where the loop was.
            faulthandler.enable()

    def tell(self, *lines: str, descriptor: int = -1, patience: float = _PATIENCE_SECONDS) -> None:
        """Tell it, if it is there, and takes it within so many seconds."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        message = "\n".join(lines).encode()
        try:
            with unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC) as channel:
                channel.connect(address)
                channel.settimeout(patience)
                unix.send_fds(channel, [message], [descriptor] if descriptor >= 0 else [])
            self._told = True
        except OSError as error:  # whoever started it does not listen any more, which is no reason to end
            if self._told:
                log.warning("cannot tell %s %r: %s", self._address, lines[0], error.strerror or error)
            self._told = False

    # -- starting and stopping ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Until it is ready (or this ends), ask for more time as long as the start gets on."""
        if not self._address:
            yield
            return
        asking = threading.Thread(target=self._ask_for_time, name="starting", daemon=True)
        asking.start()
        try:
            yield
        finally:
            self._started.set()
            asking.join()

    def _ask_for_time(self) -> None:
        before = _efforts()
        while not self._started.wait(_LOOK_SECONDS):
            now = _efforts()
            if now[0] - before[0] > _IDLE_SECONDS or now[1:] != before[1:]:
                self.tell(f"EXTEND_TIMEOUT_USEC={_MORE_SECONDS * 1e6:.0f}")
            before = now

    def says(self, status: str) -> None:
        """A line on what the daemon is at, which ``systemctl status`` shows."""
        if status != self._status:
            self._status = status
            self.tell(f"STATUS={status}", patience=0.0)

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._started.set()
        self._status = status
        self.tell("READY=1", f"STATUS={status}")

    def stopping(self, status: str, grace: float | None = None) -> None:
        """This process ends: within ``grace`` seconds, if that is known, and what the end itself takes."""
        more = [] if grace is None else [f"EXTEND_TIMEOUT_USEC={(grace + _END_SECONDS) * 1e6:.0f}"]
        self._status = status
        self.tell("STOPPING=1", f"STATUS={status}", *more)

    # -- while it runs ------------------------------------------------------------------------------------------------

    def turned(self, status: Callable[[], str]) -> None:
        """A turn of the loop has ended, and what it changed is on disk; ``status`` says how the daemon is."""
        if not self._address:
            return
        now = time.monotonic()
        self._waiting_since = None
        self._feed(now)
        if now >= self._next_status:
            self._next_status = now + _STATUS_SECONDS
            self.says(status())

    def waits(self, *, excused: bool, status: str) -> None:
        """The loop stands still on purpose, ``excused`` as long as the reason for it is seen to last."""
        now = time.monotonic()
        if excused or self._waiting_since is None:
            self._waiting_since = now
        self.says(status)
        if now - self._waiting_since < _EXCUSED_SECONDS:
            self._feed(now)

    def _feed(self, now: float) -> None:
        if self._interval and now >= self._next_feed:
            self._next_feed = now + self._interval
            self.tell("WATCHDOG=1", patience=0.0)


def _watchdog(environment: MutableMapping[str, str]) -> float:
    """Seconds between two words to the watchdog, half of what it asks for; 0 where there is none."""
    microseconds = int(environment.pop("WATCHDOG_USEC", "0"))
    ours = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return microseconds / 2e6 if ours else 0.0


def _efforts() -> tuple[float, int, int, int]:
    """What shows that the process gets on: processor time of all threads but this one, reads and writes of the disk."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime - time.thread_time(), used.ru_inblock, used.ru_oublock, used.ru_majflt


# -- listening sockets ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inherited:
    """A listening socket that systemd has passed on: its ``descriptor``, its ``name`` there, and where it listens."""

    descriptor: int
    name: str
    address: str

    @property
    def is_kept(self) -> bool:
        """Whether it is one of the last start's, and not a socket unit's."""
        return self.name.startswith(_KEPT)


def _inherited(environment: MutableMapping[str, str]) -> list[Inherited]:
    """The descriptors that were passed to this process (sd_listen_fds(3)), from here on for no child of it."""
    count, pid = environment.pop("LISTEN_FDS", "0"), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return []
    found = []
    for k, descriptor in enumerate(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))):
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)  # one that has gone before it was accepted must not hold up the loop
        found.append(Inherited(descriptor, names[k] if k < len(names) else "unknown", _listens_at(descriptor)))
    return found


def _listens_at(descriptor: int) -> str:
    """The address of a listening socket, as ZeroMQ writes it; empty where it is no such thing."""
    try:
        with sockets.borrowed(descriptor) as peek:
            if not peek.getsockopt(unix.SOL_SOCKET, unix.SO_ACCEPTCONN):
                return ""
            name = peek.getsockname()
            if peek.family == unix.AF_UNIX:
                return f"ipc://{name}"
            return f"tcp://{name[0]}:{name[1]}" if peek.family == unix.AF_INET else f"tcp://[{name[0]}]:{name[1]}"
    except OSError:
        return ""


def _listener(address: str) -> int | None:
    """The descriptor of this process's socket that listens at an address."""
    descriptors = map(int, os.listdir("/proc/self/fd"))
    return next((descriptor for descriptor in descriptors if _listens_at(descriptor) == address), None)


def make_runtime_directory() -> None:
    """Make ``$RUNTIME_DIRECTORY``, where Unix sockets lie by default, if it is missing; its group may enter.

    It is in a folder that is a group's by its setgid bit, which is passed on.
    """
    folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if folder and not os.path.isdir(folder):
        umask = os.umask(0o027)
        try:
            os.makedirs(folder)
        except OSError as error:
            raise ConfigError(
                f"the folder of the sockets, {folder}, cannot be made: {error.strerror}; is it that "
                "`systemd-tmpfiles --create` has not been run?"
            ) from error
        finally:
            os.umask(umask)


class KeptSockets:
    """Binds the daemon's sockets: to what systemd kept of the last start, where that is still the same address."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._left = list(manager.inherited)
        #: descriptors of ours of what systemd keeps, too, by address
        self._held: dict[str, int] = {}

    def bind(self, socket: zmq.Socket[bytes], address: str, what: str, role: str) -> tuple[str, Callable[[], None]]:
        """Bind one, as :func:`taskmaster.bus.sockets.bind` does; returns its address, and what removes its file.

        ``role`` tells the daemon's sockets apart.
        """
        kept = self._take(address, role)
        if kept is not None:
            held = os.dup(kept.descriptor)
            endpoint = sockets.bind(socket, address, what, kept.descriptor)
            self._held[endpoint] = held
            return endpoint, lambda: None
        self._give_up(address, role)
        if not self._manager.keeps_sockets:
            endpoint = sockets.bind(socket, address, what)
            return endpoint, sockets.remover(endpoint)
        endpoint = sockets.bind(socket, address, what)
        # ZeroMQ would say it to a monitor, of which a socket has one, and that is for others.
        descriptor = _listener(endpoint)
        if descriptor is None:
            log.warning("%s at %s cannot be kept over a restart: nothing is seen to listen there", what, endpoint)
            return endpoint, sockets.remover(endpoint)
        self._held[endpoint] = os.dup(descriptor)
        name = _name(role, address, endpoint)
        self._manager.tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=self._held[endpoint])
        # Its file stays: whether systemd starts the daemon again at once, nobody tells it.
        return endpoint, lambda: None

    def held(self, endpoint: str) -> int:
        """A descriptor of the socket that listens at an address, to bind it again with; -1 where systemd keeps none.

        As long as systemd has it, nobody can listen there but through it: not even this process.
        """
        return os.dup(self._held[endpoint]) if endpoint in self._held else -1

    def _take(self, address: str, role: str) -> Inherited | None:
        """The one that listens at this address already, if there is one and its file has not been taken away."""
        for one in self._left:
            is_it = one.name == _name(role, address, one.address) if one.is_kept else one.address == address
            if one.address and is_it:
                self._left.remove(one)
                return one
        return None

    def _give_up(self, address: str, role: str) -> None:
        """What was kept of this role is of another address, file or group."""
        for one in [one for one in self._left if one.name.startswith(f"{_KEPT}{role}.")]:
            self._left.remove(one)
            self._forget(one)
            if one.address == address and address.startswith("ipc://"):
                # systemd has it for a moment yet: whoever comes is to come to the new one.
                Path(address.removeprefix("ipc://")).unlink(missing_ok=True)

    def _forget(self, one: Inherited) -> None:
        os.close(one.descriptor)
        self._manager.tell("FDSTOREREMOVE=1", f"FDNAME={one.name}")

    def settle(self) -> None:
        """All sockets are bound. What systemd kept besides is of addresses that the daemon no longer listens on.

        Raises ConfigError where it is one of a socket unit's, of which somebody expects that the daemon serves it.
        """
        strange = []
        for one in self._left:
            if one.is_kept:
                self._forget(one)
            else:
                os.close(one.descriptor)
                strange.append(f"{one.address or 'no listening socket'} (of {one.name})")
        self._left.clear()
        if strange:
            raise ConfigError(
                f"systemd passes what the daemon does not listen on: {', '.join(strange)}; the socket unit and the "
                "addresses in [daemon] (listen, results, workers) have to name the same"
            )


def _name(role: str, address: str, endpoint: str) -> str:
    """What a socket is called while systemd keeps it: which one it is, by which address, and of which file.

    And of which group the file's folder is: with another one it is to be made anew, and belong to that.
    """
    place = "tcp"
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            status = Path(endpoint.removeprefix("ipc://")).lstat()
            folder = Path(endpoint.removeprefix("ipc://")).parent.stat()
            place = f"{status.st_dev:x}-{status.st_ino:x}-{folder.st_gid:x}"
    digest = hashlib.sha256(address.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{_KEPT}{role}.{digest}.{place}"
