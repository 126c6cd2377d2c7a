"""The drivers' own keys, which stand in a Master's table beside the common ones."""

from __future__ import annotations

import keyword
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field as PydanticField, ValidationInfo, field_validator

from taskmaster.config.base import Settings, setting
from taskmaster.config.values import CallName, Environment, ExistingFolder, FunctionName, duration, size

if TYPE_CHECKING:
    from taskmaster.config.lines import KeyPath
    from taskmaster.config.settings import DaemonSettings, MasterKeys

__all__ = ["DriverOptions", "FunctionOptions", "ProcessOptions", "ThreadOptions"]


def _cpus() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DriverOptions(Settings):
    """Keys of one driver.

    A third party's driver derives from this and declares its own keys, with names that the common ones do not have and
    types that TOML has (a list, not a tuple).
    """

    #: Defaults of common keys that are others with this driver.
    common_defaults: ClassVar[Mapping[str, Any]] = {}
    #: Whether a parameter without limits may be infinite.
    takes_infinity: ClassVar[bool] = True

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        """What this driver cannot do with the common keys of a Master's ``table``, which is as the file has it.

        Yields (path of the key to blame within the table, message).
        """
        yield from ()

    def misfits(self, daemon: DaemonSettings) -> Iterator[tuple[KeyPath, str]]:
        """What does not go together with the daemon's keys, as :meth:`conflicts`."""
        yield from ()

    def resources(self) -> Iterator[tuple[KeyPath, str]]:
        """What one process alone can have, and with that one Master: (path of the key that names it, resource)."""
        yield from ()

    def completed(self, keys: MasterKeys) -> DriverOptions:
        """With what is left out here and follows from the Master's common keys."""
        return self

    @property
    def evaluates(self) -> bool:
        """Whether this says what evaluates; that it does not is among the :meth:`conflicts`."""
        return True

    def importables(self) -> dict[str, str]:
        """What a worker imports, by the key that names it: `taskmaster check` looks for it."""
        return {}


class FunctionOptions(DriverOptions):
    """Keys of drivers that evaluate a Python function."""

    function: FunctionName | None = setting(
        "The function that evaluates a point, as `module:name`; its module is searched in `path` first. It may be a "
        "generator: what it yields is the task's progress, what it returns is the output. Each Master "
        "has this, or `calls`, or `code`.",
        default=None,
        shown="must be given, or `calls`, or `code`",
        example="digits:accuracy",
    )
    calls: Annotated[tuple[CallName, ...], PydanticField(strict=False, min_length=1)] | None = setting(
        "In place of `function`: tasks are calls, each of a function by its name, of these. `module:name`; `module:*`, "
        "all that the module defines; `package.*`, all that it and what is below it define (but for names that begin "
        "with `_`).",
        default=None,
        example='["numpy.linalg:*", "mypackage.work:fit"]',
    )
    code: bool = setting(
        "In place of `function`: tasks bring their own code. Whoever can put tasks can then run any program as the "
        "daemon's user; so `listen` must be an ipc address, which is that user's alone.",
        default=False,
    )
    path: Annotated[tuple[ExistingFolder, ...], PydanticField(strict=False)] = setting(
        "Folders to import from, relative to this file.", default=(".",), validate_default=True
    )
    batch: bool = setting(
        "Whether the function takes many points at once, as a table of columns, and returns as many outputs.",
        default=False,
    )
    call: Literal["point", "keywords"] = setting(
        "How the function gets a point: as one argument, or `keywords`, a keyword argument for each parameter.",
        default="point",
    )
    setup: FunctionName | None = setting(
        "Called once in each process before the first evaluation, as `module:name`.", default=None
    )
    teardown: FunctionName | None = setting(
        "Called once in each process before it leaves, as `module:name`.", default=None
    )
    recycle_after: Annotated[int, PydanticField(ge=1)] | None = setting(
        "Evaluations after which a process is replaced by a fresh one, against leaks; it ends those it has been given "
        "first, at most twice as many more for each slot. By default never.",
        default=None,
    )
    env: Environment = setting(
        "Environment variables for the processes, beside the daemon's own. Unless they or the daemon's say otherwise, "
        "the linear algebra of numpy and its like runs in one thread in each (OMP_NUM_THREADS and its kin are 1).",
        default={},
    )
    restarts: Annotated[int, PydanticField(ge=0)] = setting(
        "How often within `restart_window` a process that died before it had begun any task is replaced; after that "
        "the Master stops as broken. (One that dies in a task uses up an attempt of that; where no task ends any more, "
        "others are started ever later, up to 10 s.)",
        default=5,
    )
    restart_window: Annotated[float, duration("1 s")] = setting(
        "The span of time within which `restarts` are counted.", default=60.0, shown="60 s"
    )

    @field_validator("call")
    @classmethod
    def _one_way_to_call(cls, call: str, info: ValidationInfo) -> str:
        if call == "keywords" and info.data.get("batch"):
            raise ValueError("expected 'point', as batch = true passes a table of columns; remove one of the two")
        return call

    def misfits(self, daemon: DaemonSettings) -> Iterator[tuple[KeyPath, str]]:
        if self.code and daemon.keys is None and not daemon.addresses.control.startswith("ipc://"):
            why = "a tcp port is open to every user of this machine, who could run programs as this one"
            yield (
                ("code",),
                f"true needs [daemon] listen = 'ipc:///PATH', or keys: {why}; or use calls = ['module:name', …]",
            )

    @property
    def evaluates(self) -> bool:
        return self.function is not None or self.calls is not None or self.code

    def importables(self) -> dict[str, str]:
        named = {"function": self.function, "setup": self.setup, "teardown": self.teardown}
        called = {f"calls.{k}": name for k, name in enumerate(self.calls or ())}
        return {**{key: name for key, name in named.items() if name is not None}, **called}

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from _ways_to_evaluate(table)
        if table.get("call") != "keywords":
            return
        parameters = table.get("parameters")
        if not parameters:
            yield ("call",), "'keywords' needs declared parameters; add them, or use 'point'"
        for name in parameters if isinstance(parameters, dict) else ():
            if not name.isidentifier() or keyword.iskeyword(name):
                yield ("parameters", name), "cannot be a keyword argument; rename it, or use call = 'point'"


def _ways_to_evaluate(table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """A Master has a function, or takes calls by name, or as code."""
    ways = [key for key in ("function", "calls", "code") if table.get(key)]
    if not ways and "function" not in table and "calls" not in table:
        yield ("function",), "is missing; for example function = 'digits:accuracy'"
    for key in ways[1:]:
        yield (key,), f"a Master has one of function, calls and code; this one has {ways[0]!r}, too: remove one"
    if ways and ways[0] != "function":
        for key in ("parameters", "batch", "call"):
            if table.get(key):
                yield (key,), f"with {ways[0]!r} tasks are calls with arguments of their own; remove {key!r}"


class ProcessOptions(FunctionOptions):
    """Keys of the driver `process`: worker processes, each evaluating one task (or batch) at a time."""

    workers: Annotated[int, PydanticField(ge=0)] = setting(
        "Processes to keep; 0 where workers dial in from elsewhere only.",
        default_factory=_cpus,
        shown="one for each processor",
    )
    memory_limit: Annotated[int, size("64 MB")] | None = setting(
        "Memory (address space) one process may take; an evaluation that wants more fails. By default no limit.",
        default=None,
    )


class ThreadOptions(FunctionOptions):
    """Keys of the driver `thread`: one process with several threads, for functions that wait or release the GIL."""

    threads: Annotated[int, PydanticField(ge=1)] = setting(
        "Evaluations at a time.", default_factory=_cpus, shown="one for each processor"
    )

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from super().conflicts(table)
        if "timeout" in table:
            yield ("timeout",), "a thread cannot be stopped, so driver 'thread' has no timeout; driver 'process' has"
