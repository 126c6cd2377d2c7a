"""A simulated probe for the tests that need one with nothing wrong; others have their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskmaster.drivers.simulated import Laboratory


@pytest.fixture(scope="module")
def shared_probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0, noise=0, drift=0, pty=tmp_path_factory.mktemp("tty")) as laboratory:
        yield laboratory


@pytest.fixture
def probe(shared_probe: Laboratory) -> Iterator[Laboratory]:
    """A probe with nothing wrong, shared by the tests of this module."""
    yield shared_probe
    shared_probe.control.clear()
    shared_probe.control.power_cycle()
