"""What the nursery forks, beside learners: the daemon as it is, and a host of workers."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from taskmaster.config.load import load
from taskmaster.daemon import doorkeeper, gatehouse, service
from taskmaster.daemon.effects import Record
from taskmaster.daemon.journal import Journal, journal
from taskmaster.daemon.plan import plan
from taskmaster.daemon.service import serve
from taskmaster.drivers.dialin import DialIn, find
from taskmaster.drivers.restarts import RestartPolicy

__all__ = ["daemon", "doorless_daemon", "hasty_daemon", "tidy_daemon", "workers"]


def daemon() -> None:
    """As ``python -m taskmaster.daemon CONFIG``."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    serve(plan(load(sys.argv[1])))


def hasty_daemon() -> None:
    """A daemon that is wrong, to see that the judge finds it out: it acknowledges each turn before it is on disk."""

    class HastyJournal(Journal):
        _owed: tuple[Record, ...] = ()

        def commit(self, records: Sequence[Record]) -> dict[int, str]:
            owed, self._owed = self._owed, tuple(records)
            return super().commit(owed) if owed else {}

        def close(self, **how: Any) -> None:
            super().commit(self._owed)
            super().close(**how)

    with patch.object(service, "Journal", HastyJournal):
        daemon()


def tidy_daemon() -> None:
    """A daemon whose log is small, and is moved into the database often."""
    with patch.multiple(journal, LOG_BYTES=1 << 19, CHECKPOINT_IDLE=1 << 16, CHECKPOINT_BUSY=1 << 18):
        daemon()


def doorless_daemon() -> None:
    """A daemon whose authenticator does not answer as long as there is a file ``asleep`` beside its configuration."""
    asleep = Path(sys.argv[1]).with_name("asleep")

    class Drowsy(doorkeeper.Doorkeeper):
        def serve(self, now: float) -> None:
            if not asleep.exists():
                super().serve(now)

    with (
        patch.object(gatehouse, "Doorkeeper", Drowsy),
        patch.multiple(doorkeeper, _PROBE_SECONDS=0.2, _PATIENCE_SECONDS=1.0),
    ):
        daemon()


def workers() -> None:
    """As ``taskmaster worker ADDRESS MASTER -n COUNT``; its workers may die as often as they like."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place = find(sys.argv[1], sys.argv[2], 60.0)
    DialIn(place, int(sys.argv[3]), (), RestartPolicy(1_000_000, 1.0)).run()
