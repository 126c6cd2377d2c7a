"""Being somebody who may not write everywhere, even where the tests are run by root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["nobody_special"]

_NOBODY = 65534


@contextmanager
def nobody_special() -> Iterator[None]:
    """Be an ordinary user for a moment: root may write where the modes of files say that nobody may."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
