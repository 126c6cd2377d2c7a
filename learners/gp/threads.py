"""One thread for the products of matrices, as long as somebody counts on their last bits.

With several, OpenBLAS may sum in another order on a machine with another number of processors, or while another
program's thread has taken its helpers; and at these sizes one is as fast.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

__all__ = ["one_thread"]

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, BLAS uses one thread, in the whole process: the last to leave gives it back what it had before."""
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()
                _limit = None


@cache
def _controller() -> Any:
    """Knows the libraries that are loaded; looking for them takes milliseconds, and happens once."""
    import scipy.linalg  # noqa: F401 - so that its own BLAS is among them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
