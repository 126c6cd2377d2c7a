"""Names for runs that were given none."""

from __future__ import annotations

import datetime
import secrets

__all__ = ["fresh_name"]


def fresh_name() -> str:
    """A name that says when it was made: ``2026-03-01 14:02:31 k3f9``."""
    moment = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    return f"{moment} {secrets.token_hex(3)}"
