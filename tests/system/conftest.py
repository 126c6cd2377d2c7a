"""Fixtures of the system tests: daemons that do not outlive their test, evaluations that call it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.places import StartDaemon, short_folder, starter
from helpers.visits import Visits


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path."""
    with short_folder() as folder:
        yield folder


@pytest.fixture
def start_daemon(place: Path) -> Iterator[StartDaemon]:
    """Starts daemons that end with the test: ``start_daemon({"name": {its keys}}, key=value of [daemon])``."""
    with starter(place) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_daemon() -> Iterator[StartDaemon]:
    """The same, for a daemon that all tests of a module use."""
    with short_folder() as folder, starter(folder) as start:
        yield start


@pytest.fixture
def visits(place: Path) -> Iterator[Visits]:
    """Takes the calls of evaluations of `evaluations:visit`."""
    with Visits(place) as visits:
        yield visits
