"""Code that travels: to the workers of a program's own daemon, or where a configuration grants it.

Nothing comes back pickled, except to an executor that trusts its daemon, see :mod:`taskmaster.bus.calls`.
"""

from __future__ import annotations

import pickle
from typing import Any

from taskmaster.bus.errors import CallerError

__all__ = ["dumps"]


def dumps(value: Any, what: object = None) -> bytes:
    """``value`` by cloudpickle. Raises CallerError naming it, or ``what`` it is for, if it cannot travel."""
    import cloudpickle  # takes a while, and few need it

    try:
        return bytes(cloudpickle.dumps(value))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        named = value if what is None else what
        name = getattr(named, "__qualname__", repr(named))
        raise CallerError(
            f"{name} cannot travel to a worker process: {error}; have it use nothing that is open, locked or running"
        ) from error
