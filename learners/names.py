"""Names for runs that were given none."""

from __future__ import annotations

import datetime
import secrets

__all__ = ["fresh_name"]


def fresh_name() -> str:
    """A name that says when it was made, and can be typed without quotes: ``20260301-140231-1e93f9``."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
