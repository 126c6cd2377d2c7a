"""Where things lie by default: the state directory and the address of the local daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["ENVIRONMENT", "as_reached", "control_address", "default_address", "default_state"]

#: The environment variable that names the daemon's control address for clients.
ENVIRONMENT = "TASKMASTER"


def default_state() -> Path:
    """The daemon's state directory where the configuration names none.

    systemd's ``$STATE_DIRECTORY``; else ``/var/lib/taskmaster`` for root, ``$XDG_STATE_HOME/taskmaster`` (by default
    ``~/.local/state/taskmaster``) for everybody else.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/taskmaster")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "taskmaster"


def control_address(state: Path) -> str:
    """The control socket of a daemon that was given no address to listen on."""
    return f"ipc://{state}/control"


def default_address() -> str:
    """What a client connects to when told nothing: ``$TASKMASTER``, else the local daemon's default."""
    return os.environ.get(ENVIRONMENT) or control_address(default_state())


def as_reached(address: str, control: str) -> str:
    """One of a daemon's addresses as a peer reaches it: one bound to all interfaces is where the control socket is."""
    if address.startswith(("tcp://0.0.0.0:", "tcp://*:")) and control.startswith("tcp://"):
        return control.rpartition(":")[0] + ":" + address.rpartition(":")[2]
    return address
