"""Where the daemon listens: three addresses, all of them on this machine."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taskmaster.bus.places import control_address, default_sockets

__all__ = ["ANY_PORT", "LONGEST_IPC", "Addresses", "problems", "read_address", "resolve"]

#: The port of a tcp address that leaves the choice to the system.
ANY_PORT = "*"
#: Bytes in the path of a Unix socket: Linux's ``sun_path`` has 108, one of them the closing NUL.
LONGEST_IPC = 107

_TCP = re.compile(r"(?P<front>tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)):(?P<port>\d{1,5}|\*)")
_EXPECTED = "expected 'tcp://127.0.0.1:PORT' or 'ipc:///PATH'"


class Addresses(NamedTuple):
    """ZeroMQ addresses of the daemon's sockets; a tcp port is ``*`` where any free one will do."""

    control: str
    results: str
    workers: str


def read_address(text: str, folder: Path) -> str:
    """One address in its canonical form; a relative ipc path is relative to ``folder``.

    Raises ValueError, in words for the user, where it is none.
    """
    if text.startswith("ipc://"):
        return _read_ipc(text.removeprefix("ipc://"), folder)
    match = _TCP.fullmatch(text)
    if match is None:
        raise ValueError(f"{_EXPECTED}, got {text!r}")
    port = match["port"]
    if port != ANY_PORT and int(port) > 65535:
        raise ValueError(f"expected a port from 0 (any free one) to 65535, got {port}")
    host = _read_host(match["host"], text)
    return f"tcp://{host}:{ANY_PORT if port == ANY_PORT or int(port) == 0 else int(port)}"


def _read_ipc(path: str, folder: Path) -> str:
    # Abstract sockets (a leading @) have no owner and no permissions: everybody on the machine could connect.
    if not path or path[0] in "@*" or path.endswith("/") or "\0" in path:
        raise ValueError(f"expected 'ipc://' and the path of a socket, got {'ipc://' + path!r}")
    return f"ipc://{os.path.normpath(folder / path)}"


def _read_host(host: str, text: str) -> str:
    if host in ("localhost", "*"):
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(
            f"expected an IP address of this machine, or 0.0.0.0 for all that it has, not the name in {text!r}"
        ) from None
    return host


def _is_far(address: str) -> bool:
    """Whether it can be reached from another machine."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    return address.startswith("tcp://") and not ipaddress.ip_address(host).is_loopback


def resolve(listen: str | None, results: str | None, workers: str | None, state: Path) -> Addresses:
    """The three addresses, from what was given in canonical form.

    Beside a control socket on tcp the others take the next two ports of the same host (any, where it takes any);
    beside one on ipc they are where that would be by default.
    """
    folder = default_sockets(state)
    control = control_address(folder) if listen is None else listen
    return Addresses(control, results or _beside(control, 1, folder), workers or _beside(control, 2, folder))


def _beside(control: str, step: int, folder: Path) -> str:
    if control.startswith("ipc://"):
        return f"ipc://{folder}/{('results', 'workers')[step - 1]}"
    front, _, port = control.rpartition(":")
    return f"{front}:{port if port == ANY_PORT else int(port) + step}"


def problems(addresses: Addresses, given: tuple[str, ...], *, has_keys: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with the three together, as (key to blame, message); ``given`` names the keys that were set.

    Without keys none may be reached from another machine.
    """
    listen = "listen" if "listen" in given else "state"
    seen: dict[str, str] = {}
    for key, address in zip(("listen", "results", "workers"), addresses):
        blamed = key if key in given else listen if address.startswith("tcp") else "state"
        if _is_far(address) and not has_keys:
            why = (
                f"{address!r} can be reached from other machines, and whoever does could do anything: say who may, "
                "with keys = 'keys.toml' (docs/security.md), or listen on 127.0.0.1 or ipc"
            )
            yield blamed, why
        elif address.startswith("ipc://"):
            yield from _too_long(address.removeprefix("ipc://"), blamed)
        elif not address.endswith(ANY_PORT) and int(address.rpartition(":")[2]) > 65535:
            yield blamed, f"leaves no port for {key}; choose a port up to 65533, or set {key}"
        if address in seen and not address.endswith(f":{ANY_PORT}"):
            yield blamed, f"{seen[address]} and {key} would both be {address!r}; they must differ"
        seen.setdefault(address, key)


def _too_long(path: str, blamed: str) -> Iterator[tuple[str, str]]:
    length = len(os.fsencode(path))
    if length > LONGEST_IPC:
        fact = f"the path of the socket {path!r} has {length} bytes and a Unix socket takes {LONGEST_IPC}"
        yield blamed, f"{fact}; choose a shorter {blamed}, or listen = 'tcp://127.0.0.1:5570'"
