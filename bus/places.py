"""Where things lie by default: the state directory and the address of the local daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["ENVIRONMENT", "control_address", "default_address", "default_state"]

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
