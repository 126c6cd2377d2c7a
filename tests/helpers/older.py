"""A journal as the release before would have left it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from taskmaster.daemon.journal.checksums import connect

__all__ = ["make_older"]


def make_older(state: Path) -> None:
    """Take back the last step of the schema, as if the release before had written all of it."""
    with contextlib.closing(connect(state / "journal.db", write=True)) as db:
        db.execute("DROP TABLE audit; DROP TABLE going; DROP INDEX files_of_blocks; DROP INDEX files_of_events")
        db.execute("PRAGMA user_version = 2")
    (state / "mark").unlink()
