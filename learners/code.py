"""Code that travels: to the workers of a program's own daemon, or where a configuration grants it. Never back."""

from __future__ import annotations

import pickle
from typing import Any

from taskmaster.bus.errors import CallerError

__all__ = ["dumps"]


def dumps(value: Any) -> bytes:
    """``value`` by cloudpickle. Raises CallerError naming what cannot travel."""
    import cloudpickle  # takes a while, and few need it

    try:
        return bytes(cloudpickle.dumps(value))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        name = getattr(value, "__qualname__", repr(value))
        raise CallerError(
            f"{name} cannot travel to a worker process: {error}; have it use nothing that is open, locked or running"
        ) from error
