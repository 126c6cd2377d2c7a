"""Who on this machine may connect to the daemon's Unix sockets: its own user, and a group's members.

The group is the one that the configuration names. Without one it is that of the folder that the sockets are in, if the
folder has the setgid bit, by which what is made there belongs to its group: as a service's has (`systemd/tmpfiles.d`),
which may not change whose files are. All else in the state directory stays the daemon's user's own.
"""

from __future__ import annotations

import grp
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from taskmaster.bus.errors import ConfigError

__all__ = ["Sharing", "sharing"]

log = logging.getLogger("taskmaster.daemon")

#: Modes of a socket that the daemon's user alone may connect to, and one that a group may, too.
_OWN, _SHARED = 0o600, 0o660
#: A state directory with shared sockets in it: the group comes through, and sees nothing else there.
_PASSABLE = 0o710


@dataclass(frozen=True)
class Sharing:
    """With which group sockets are shared, and its number; None for the folder's own."""

    state: Path
    group: str | None = None
    number: int = -1

    def apply(self, endpoint: str) -> None:
        """Share the Unix socket that is bound there, or have it nobody else's. Raises ConfigError where that fails."""
        if not endpoint.startswith("ipc:///"):
            return
        path = Path(endpoint.removeprefix("ipc://"))
        if path.stat().st_uid != os.geteuid():
            return  # a socket unit has made it, and says who may connect
        if self.group is None:
            path.chmod(_SHARED if path.parent.stat().st_mode & stat.S_ISGID else _OWN)
            return
        try:
            if path.parent == self.state:
                self._give(self.state, _PASSABLE)
            self._give(path, _SHARED)
        except PermissionError as error:
            raise ConfigError(
                f"group: {error.filename} cannot be given to the group {self.group!r}: {error.strerror}; the daemon's "
                f"user has to be one of its members, usermod -aG {self.group} USER (for a service: type "
                "`taskmaster install-service` again)"
            ) from error
        self._look_for_a_way(path.parent)

    def _give(self, path: Path, mode: int) -> None:
        there = path.stat()
        if there.st_gid != self.number:
            os.chown(path, -1, self.number)
        if stat.S_IMODE(there.st_mode) != mode:
            path.chmod(mode)

    def _look_for_a_way(self, folder: Path) -> None:
        """Whether members can enter the folders above a socket, as far as modes tell: access lists may let them."""
        for step in (folder, *folder.parents):
            there = step.stat()
            if not there.st_mode & (stat.S_IXGRP if there.st_gid == self.number else stat.S_IXOTH):
                log.warning(
                    "as far as its mode tells, members of the group %r cannot enter %s and reach sockets in %s; "
                    "chmod o+x %s, or choose other addresses ([daemon] listen = …)",
                    self.group, step, folder, step,
                )  # fmt: skip
                return


def sharing(group: str | None, state: Path) -> Sharing:
    """With a group of this name, None for the folder's own. Raises ConfigError where there is none."""
    if group is None:
        return Sharing(state)
    try:
        return Sharing(state, group, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise ConfigError(f"group: this machine has no group {group!r}; make it: groupadd {group}") from None
