"""`taskmaster serve`, hindered as ``HINDRANCE`` says: ``python -m helpers.hindered CONFIG``.

``busy FILE``: before it looks at the journal it computes until there is that file; ``idle FILE``: it waits for it.
``stuck``: SIGUSR1 has its loop stand still for ever, in the midst of a turn; ``commit``: the next commit after it does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from taskmaster.cli.app import run
from taskmaster.daemon import service, systemd
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import check_log

__all__ = ["stand_still"]


def stand_still(number: int, frame: object) -> None:
    """Never come back."""
    threading.Event().wait()


class _Commits:
    """Those of a disk that does not answer any more, from SIGUSR1 on."""

    def __init__(self) -> None:
        self._commit = Journal.commit
        self._hangs = False

    def hang(self, number: int, frame: object) -> None:
        """From now on."""
        self._hangs = True

    def commit(self, journal: Journal, *arguments: Any) -> Any:
        """In place of the journal's."""
        if self._hangs:
            stand_still(0, None)
        return self._commit(journal, *arguments)


def _after(hindrance: Callable[[], None], check: Callable[..., Any]) -> Callable[..., Any]:
    def hindered(*arguments: Any) -> Any:
        hindrance()
        return check(*arguments)

    return hindered


def _compute_until(file: Path) -> None:
    while not file.exists():
        sum(range(10_000))


def _wait_for(file: Path) -> None:
    nothing = threading.Event()
    while not file.exists():
        nothing.wait(1.0)


def main() -> int:
    """Serve, as far as it can."""
    kind, _, file = os.environ["HINDRANCE"].partition(" ")
    commits = _Commits()
    signal.signal(signal.SIGUSR1, commits.hang if kind == "commit" else stand_still)
    hindrances: dict[str, Callable[[], None]] = {
        "busy": lambda: _compute_until(Path(file)),
        "idle": lambda: _wait_for(Path(file)),
        "stuck": lambda: None,
        "commit": lambda: None,
    }
    # As often as suits a time-out of a second or two.
    with (
        patch.object(systemd, "_LOOK_SECONDS", 0.3),
        patch.object(systemd, "_MORE_SECONDS", 5.0),
        patch.object(Journal, "commit", lambda journal, *arguments: commits.commit(journal, *arguments)),
        patch.object(service, "check_log", _after(hindrances[kind], check_log)),
    ):
        return run(["serve", sys.argv[1]])


if __name__ == "__main__":
    sys.exit(main())
