"""What tests of the workers' side share."""

from __future__ import annotations

import pytest
from helpers.lines import Line

from taskmaster.bus import messages as m


@pytest.fixture
def line() -> Line:
    """A worker that has been welcomed, and is ready."""
    line = Line()
    line.welcome(line.greet().session)
    line.worker.ready()
    line.heard(m.Ready)
    return line
