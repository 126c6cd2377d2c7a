"""Where things lie by default: the state directory and the address of the local daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = [
    "ENVIRONMENT",
    "SERVICE_SOCKETS",
    "as_reached",
    "control_address",
    "default_address",
    "default_sockets",
    "default_state",
    "note_address",
    "noted_address",
]

#: The environment variable that names the daemon's control address for clients.
ENVIRONMENT = "TASKMASTER"
#: Where the sockets of the system's service are (`systemd/tmpfiles.d`).
SERVICE_SOCKETS = Path("/run/taskmaster")
#: The file in a state directory that says where the daemon which works there is reached.
_NOTED = "address"
#: The state of root's daemon, which the system's service has, too.
_SYSTEM_STATE = Path("/var/lib/taskmaster")


def default_state() -> Path:
    """The daemon's state directory where the configuration names none.

    systemd's ``$STATE_DIRECTORY``; else ``/var/lib/taskmaster`` for root, ``$XDG_STATE_HOME/taskmaster`` (by default
    ``~/.local/state/taskmaster``) for everybody else.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if sys.platform != "win32" and os.geteuid() == 0:
        return _SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "taskmaster"


def default_sockets(state: Path) -> Path:
    """Where a daemon's Unix sockets are by default: a service manager's ``$RUNTIME_DIRECTORY``, else its ``state``."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else state


def control_address(state: Path) -> str:
    """The control socket of a daemon that was given no address to listen on."""
    return f"ipc://{state}/control"


def note_address(state: Path, address: str) -> None:
    """Leave word in a state directory where its daemon is reached on this machine, for who has the directory alone."""
    (state / _NOTED).write_text(f"{address}\n", encoding="utf-8")


def noted_address(state: Path) -> str:
    """Where the daemon that is at work in a state directory is reached."""
    try:
        noted = (state / _NOTED).read_text(encoding="utf-8").strip()
    except OSError:
        noted = ""
    return noted or control_address(state)


def default_address() -> str:
    """What a client connects to when told nothing: ``$TASKMASTER``, else the local daemon's default.

    That is the user's own daemon's, or the system's service where the user has none.
    """
    if given := os.environ.get(ENVIRONMENT):
        return given
    state = default_state()
    has_own = (state / "control").exists() or (state != _SYSTEM_STATE and state.exists())
    return control_address(SERVICE_SOCKETS if SERVICE_SOCKETS.is_dir() and not has_own else state)


def as_reached(address: str, control: str) -> str:
    """One of a daemon's addresses as a peer reaches it: one bound to all interfaces is where the control socket is."""
    if address.startswith(("tcp://0.0.0.0:", "tcp://*:")) and control.startswith("tcp://"):
        return control.rpartition(":")[0] + ":" + address.rpartition(":")[2]
    return address
