"""What `taskmaster check` says of the keys that a configuration names: what a daemon would not start with."""

from __future__ import annotations

import os
from collections.abc import Iterator

from taskmaster.bus.errors import ConfigError, KeyFileError
from taskmaster.bus.keys import DAEMON_KEY, handed_over, read_pair
from taskmaster.config.authorised import read_grants, require_trusted
from taskmaster.config.mistakes import Mistake
from taskmaster.config.settings import DaemonSettings

__all__ = ["mistaken_keys"]


def mistaken_keys(daemon: DaemonSettings) -> Iterator[Mistake]:
    """What is wrong with the file of keys, and with the daemon's own.

    Of a service both may be another user's: root, who checks it, may read them, and anybody else is not told that they
    cannot.
    """
    if daemon.keys is None or daemon.own_key is None:
        return
    user = os.geteuid()
    try:
        require_trusted(daemon.keys, {0, user} if user else None)
        read_grants(daemon.keys)
    except ConfigError as error:
        if not isinstance(error.__cause__, PermissionError):
            yield Mistake(("daemon", "keys"), str(error))
    try:
        read_pair(handed_over(DAEMON_KEY) or daemon.own_key, "taskmaster keys new --daemon")
    except KeyFileError as error:
        if not isinstance(error.__cause__, PermissionError):
            yield Mistake(("daemon", "key" if daemon.key is not None else "keys"), str(error))
