"""What tests of the daemon's decisions share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.losses import Disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Where daemons take up where the one before has ended."""
    disk = Disk(tmp_path)
    yield disk
    disk.journal.close()
