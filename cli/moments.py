"""Times on a command line."""

from __future__ import annotations

import time
from datetime import datetime

import click

from taskmaster.bus.text import parse_duration
from taskmaster.learners.arguments import moment

__all__ = ["moment_option"]


def moment_option(option: str, text: str | None) -> float | None:
    """A time that was given as such, or as how long ago it is: seconds since 1970. Raises UsageError."""
    if text is None:
        return None
    try:
        return moment(datetime.fromisoformat(text), option)
    except ValueError:
        try:
            return time.time() - parse_duration(text)
        except ValueError:
            raise click.UsageError(
                f"{option} must be a time (2026-11-21, 2026-11-21T12:00) or how long ago that is ('2 h'), not {text!r}"
            ) from None
