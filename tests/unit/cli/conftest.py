"""The command line without a daemon."""

from __future__ import annotations

import pytest
from helpers.cli import Program


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """``typed("status", "--json")``"""
    return Program(capsys, monkeypatch)
