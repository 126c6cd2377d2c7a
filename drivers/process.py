"""Drivers ``process`` and ``thread``: a Python function, in as many processes or threads as the machine has use for."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

from taskmaster.bus.calls import find_allowed
from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import shown
from taskmaster.drivers.base import Driver
from taskmaster.drivers.functions import add_to_path, find_function, load_code

__all__ = ["BatchFunctionDriver", "FunctionDriver", "ThreadDriver", "function_driver"]


class FunctionDriver(Driver):
    """Calls a function with one point at a time."""

    def open(self) -> None:
        """Limit memory, find the function, run its set-up. What the user's modules raise comes through."""
        options = self.context.options
        limit = options.get("memory_limit")
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        path = options.get("path", ())
        add_to_path(path)
        self._teardown: Callable[[], Any] | None = None
        if options.get("setup"):
            find_function(options["setup"], path)()
        if options.get("teardown"):
            self._teardown = find_function(options["teardown"], path)
        function: Callable[..., Any]
        self.may_yield = options.get("call") not in ("task", "named")  # whose results are to be what was called gives
        if options.get("call") == "task":
            function = _call_task
        elif options.get("call") == "named":
            function = _Named(self.context.master, tuple(options["calls"]))
        else:
            function = load_code(options) if options.get("code") else find_function(options["function"], path)
        self._function = function
        # Bound here, once, so that nothing stands between the loop and the function.
        if options.get("call") == "keywords":
            self.evaluate = lambda point: function(**point)  # type: ignore[method-assign]
        else:
            self.evaluate = function  # type: ignore[method-assign, assignment]

    def close(self) -> None:
        """Run the teardown, if there is one."""
        teardown, self._teardown = getattr(self, "_teardown", None), None
        if teardown is not None:
            teardown()


class BatchFunctionDriver(FunctionDriver):
    """Calls a vectorised function with the columns of many points at once."""

    batch = True

    def evaluate_batch(self, columns: Any, n: int) -> Any:
        """The function's result for all rows."""
        return self._function(columns)


class ThreadDriver(FunctionDriver):
    """Calls a function from several threads of one process: for one that waits, or releases the interpreter lock."""

    def open(self) -> None:
        """As for processes."""
        super().open()
        self.slots = int(self.context.options.get("threads") or 1)


class ThreadBatchDriver(BatchFunctionDriver, ThreadDriver):
    """Threads that each take the columns of many points."""


def function_driver(driver: str, options: Any) -> type[Driver]:
    """The class for one of the function drivers with these options."""
    if driver == "thread":
        return ThreadBatchDriver if options.get("batch") else ThreadDriver
    return BatchFunctionDriver if options.get("batch") else FunctionDriver


class _Named:
    """Calls the functions that tasks name, as far as the configuration allows them."""

    def __init__(self, master: str, allowed: tuple[str, ...]) -> None:
        self._master = master
        self._allowed = allowed
        self._found: dict[str, Callable[..., Any]] = {}

    def __call__(self, task: Any) -> Any:
        if not isinstance(task, tuple) or len(task) != 3 or not isinstance(task[0], str):
            raise InvalidTask(
                f"Master {self._master!r} takes ('module:name', args, kwargs) as tasks, not {shown(task)}"
            )
        name, args, kwargs = task
        function = self._found.get(name)
        if function is None:  # there are as many to be found as the configuration allows
            function = self._found[name] = find_allowed(self._master, self._allowed, name)
        return function(*args, **kwargs)


def _call_task(task: Any) -> Any:
    """A task that brings its own code, of a Master without a function: pickled ``(function, args, kwargs)``."""
    import cloudpickle

    function, args, kwargs = cloudpickle.loads(task)
    return function(*args, **kwargs)
