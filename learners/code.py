"""Code that travels: to the workers of a program's own daemon, or where a configuration grants it.

Nothing comes back pickled, except to an executor that trusts its daemon, see :mod:`taskmaster.bus.calls`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

from taskmaster.bus.errors import CallerError, InvalidTask

__all__ = ["call_of", "dumps"]


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


def call_of(task: Any, master: str, *, by_name: bool) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function of a task that brings its own, or its name where ``by_name``, with all of its arguments.

    Raises InvalidTask, naming the ``master``, for what is no ``(function, args, kwargs)``.
    """
    parts = task if isinstance(task, tuple) else (task,)
    function, args, kwargs = (*parts, *(None, (), {})[len(parts) :]) if len(parts) <= 3 else (None, (), {})
    is_function = callable(function) or (by_name and isinstance(function, str))
    if not is_function or not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
        raise InvalidTask(
            f"Master {master!r} takes (function, args, kwargs) as tasks, not {task!r}; leave out what is empty"
        )
    return function, tuple(args), dict(kwargs)
