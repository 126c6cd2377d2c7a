"""Names for runs that were given none."""

from __future__ import annotations

import datetime
import itertools
import os
import secrets

__all__ = ["fresh_name"]


_made = itertools.count(1)
_here: tuple[int, str] = (0, "")


def fresh_name() -> str:
    """A name that says when it was made, and can be typed without quotes: ``20260301-140231-1e93f99b0c-7``.

    Who opens a run by a name that is there goes on with it, so no two are ever to be alike: a program makes thousands
    in a second, which are counted, and is itself told from others by 40 random bits.
    """
    global _here
    if _here[0] != os.getpid():  # also in a child that was forked
        _here = os.getpid(), secrets.token_hex(5)
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{_here[1]}-{next(_made)}"
