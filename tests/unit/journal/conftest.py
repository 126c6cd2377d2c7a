"""The suite of the journal runs over both durabilities; what does not depend on them does not ask for `durability`."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskmaster.daemon.journal import journal


@pytest.fixture(params=["power", "crash"])
def durability(request: pytest.FixtureRequest) -> str:
    """What the journal of a test promises."""
    return str(request.param)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty state directory."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is laid out small, and moved into the database whenever it may be: copies are quick, and few commits
    see many generations of it."""
    monkeypatch.setattr(journal, "LOG_BYTES", 64 << 10)
    monkeypatch.setattr(journal, "CHECKPOINT_IDLE", 0)
