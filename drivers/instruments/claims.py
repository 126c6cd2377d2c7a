"""One resource, one process: a locked file per resource, which the kernel unlocks when its holder ends, however.

The file is named by a digest of the normalised resource and says who holds it. It stays when it is unlocked: deleting
it could leave two processes with locks on two files of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from taskmaster.config.heads import normal_resource
from taskmaster.drivers.instruments.errors import Claimed, PermissionDenied

__all__ = ["Claim", "folders", "normalised"]

#: Longest note of a holder that is read.
_NOTE = 4096
#: Seconds that the address of a host may take to be found out. Who cannot be found in that can hardly be connected to.
_LOOKUP_SECONDS = 1.0
_HOST = re.compile(r"(?<=::)(\[[^\]]*\]|[^:\[\]]+)")


def normalised(resource: str) -> str:
    """The same text for the same resource, however it is written: as path of a tty or by a link to it, as VISA resource
    with whatever case, by the name or the address of its host.

    A host whose name nobody knows at present is known by that.
    """
    text = normal_resource(resource)
    if text.startswith("/"):
        return os.path.realpath(text)
    return _HOST.sub(lambda host: _address(host[1]), text, count=1) if text.startswith("TCPIP") else text


def _address(host: str) -> str:
    """The host's address: of several always the same one, an IPv4 where there is one."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.strip("[]")))
    found: list[str] = []

    def look() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.extend(sorted(str(place[0]) for _, _, _, _, place in entries))

    # The system's own limit is much longer where no name server answers.
    lookup = threading.Thread(target=look, name="claim-host", daemon=True)
    lookup.start()
    lookup.join(_LOOKUP_SECONDS)
    return next((address for address in found if ":" not in address), next(iter(found), host))


def folders() -> list[Path]:
    """Where the locks may be, best first: what all users of the machine share comes before what is one user's own."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    return [Path("/run/lock"), *([Path(own)] if own else []), Path("/tmp")]


class Claim:
    """Holds a resource until it is closed or the process ends.

    >>> with Claim("TCPIP0::192.168.0.7::5025::SOCKET", "stm/tip-1"):
    ...     ...
    """

    def __init__(self, resource: str, holder: str, places: Iterable[Path] | None = None) -> None:
        """``holder`` is named to others who want the resource. Raises Claimed, PermissionDenied."""
        self.resource = resource
        self._key = normalised(resource)
        name = f"taskmaster-{hashlib.sha256(self._key.encode()).hexdigest()[:16]}.lock"
        self._fd, self.path = _opened(name, list(folders() if places is None else places), resource)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = os.pread(self._fd, _NOTE, 0).decode(errors="replace").strip()
            self.close()
            raise Claimed(
                f"{holder}: {resource} is in use by {note or 'another process'} ({self.path}); "
                "end that, or declare the resource in one place only"
            ) from None
        self._sign(f"process {os.getpid()}, {holder}\n".encode())

    def _sign(self, note: bytes) -> None:
        # Locked, but another user's file: it cannot say who holds it now. The lock counts.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, note, 0)

    def holds(self, resource: str) -> bool:
        """Whether it is this that is held: a link may lead to another device by now."""
        return self._key == normalised(resource)

    def close(self) -> None:
        """Let go; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _opened(name: str, places: list[Path], resource: str) -> tuple[int, Path]:
    """The lock file, which anybody may lock: in the first place that has or takes it."""
    for place in places:
        path = place / name
        # A file of another user in a shared folder may be locked without being written; the kernel refuses to open
        # it with O_CREAT there (fs.protected_regular).
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with contextlib.suppress(OSError):
                return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), path
    raise PermissionDenied(
        f"{resource} cannot be claimed: no lock file can be made in {', '.join(map(str, places))}; "
        "make one of these writable"
    )
