"""What a configuration says of a class as a head: which names take the parameters, give the outputs, and are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.fields import Schema
from taskmaster.bus.text import did_you_mean_or

__all__ = ["Assign", "Call", "Parameter", "Plan", "read_plan"]

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Parameter:
    """Stands among the arguments of a call for the task's value of this parameter."""

    name: str


@dataclass(frozen=True)
class Call:
    """A method and what it is called with; where it sets a parameter, the value stands before these."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None

    def parameters(self) -> Iterator[str]:
        """The parameters that are among the arguments."""
        for value in (*self.args, *(self.kwargs or {}).values()):
            if isinstance(value, Parameter):
                yield value.name


@dataclass(frozen=True)
class Assign:
    """A property, parameter or attribute (or a method of one argument) and what it is set to."""

    name: str
    value: Any


@dataclass(frozen=True)
class Plan:
    """The tables of one head."""

    #: after each connection, in this order
    init: tuple[Call | Assign, ...]
    #: parameter → the name that takes it; in the order of the file
    set: Mapping[str, str | Call]
    #: between set and read
    call: tuple[Call | Assign, ...]
    #: output → the name that gives it
    read: Mapping[str, str | Call]
    #: None: as the library has it
    safe: tuple[Call | Assign, ...] | None
    identity: re.Pattern[str] | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing says how a task is evaluated: then the class does it itself."""
        return not (self.set or self.call or self.read)


def read_plan(options: Mapping[str, Any], parameters: Schema | None, outputs: Schema | None) -> Plan:
    """The plan in a head's options. Raises ConfigError naming the key."""
    identity = options.get("identity")
    plan = Plan(
        init=tuple(_untimely(options.get("init"), "init")),
        set={name: _target(entry, f"set.{name}") for name, entry in _table(options.get("set"), "set").items()},
        call=tuple(_steps(options.get("call"), "call")),
        read={name: _target(entry, f"read.{name}") for name, entry in _table(options.get("read"), "read").items()},
        safe=None if options.get("safe") is None else tuple(_untimely(options["safe"], "safe")),
        identity=None if identity is None else _pattern(identity),
    )
    if not plan.is_empty:
        _check_parameters(plan, parameters)
        _check_outputs(plan, outputs)
    return plan


def _check_parameters(plan: Plan, parameters: Schema | None) -> None:
    if any(any(entry.parameters()) for entry in plan.set.values() if isinstance(entry, Call)):
        raise ConfigError("set: {parameter = …} stands in `call`; in `set` the value comes first by itself")
    used = {name: f"set.{name}" for name in plan.set}
    for k, step in enumerate(plan.call):
        if isinstance(step, Call):
            used |= dict.fromkeys(step.parameters(), f"call[{k}]")
    for name in (name for call in plan.read.values() if isinstance(call, Call) for name in call.parameters()):
        used[name] = "read"
    if not parameters:
        if used:
            raise ConfigError(
                f"{next(iter(used.values()))}: the Master declares no parameters; declare them in a table"
            )
        return
    _check_names(used, parameters.names, "parameter")
    for name in parameters.names:
        if name not in used:
            raise ConfigError(
                f"set: nothing takes the parameter {name!r}; add it to `set`, or to the arguments of a call"
            )


def _check_outputs(plan: Plan, outputs: Schema | None) -> None:
    if not outputs:
        return
    _check_names({name: f"read.{name}" for name in plan.read}, outputs.names, "output")
    for name in outputs.names:
        if name not in plan.read:
            raise ConfigError(f"read: nothing gives the output {name!r}; add it to `read`")


def _check_names(used: Mapping[str, str], known: Sequence[str], what: str) -> None:
    for name, place in used.items():
        if name not in known:
            raise ConfigError(f"{place}: the Master has no {what} {name!r}{did_you_mean_or(name, known)}")


def _steps(entries: Any, key: str) -> Iterator[Call | Assign]:
    """``"method"``, ``{method = …}``, or ``{name = value, …}``."""
    for k, entry in enumerate(_list(entries, key)):
        if isinstance(entry, str) or (isinstance(entry, Mapping) and "method" in entry):
            yield _call(entry, f"{key}[{k}]")
        elif isinstance(entry, Mapping) and entry:
            for name, value in entry.items():
                yield Assign(_name(name, f"{key}[{k}]"), value)
        else:
            raise ConfigError(f"{key}[{k}]: expected the name of a method or a table {{name = value}}, got {entry!r}")


def _untimely(entries: Any, key: str) -> Iterator[Call | Assign]:
    """The steps, which are taken when there is no task."""
    for k, step in enumerate(_steps(entries, key)):
        if isinstance(step, Call) and any(step.parameters()):
            raise ConfigError(f"{key}[{k}]: {{parameter = …}} belongs to a task, and there is none at this moment")
        yield step


def _target(entry: Any, key: str) -> str | Call:
    return _name(entry, key) if isinstance(entry, str) else _call(entry, key)


def _call(entry: Any, key: str) -> Call:
    if isinstance(entry, str):
        return Call(_name(entry, key))
    if not isinstance(entry, Mapping) or "method" not in entry:
        raise ConfigError(
            f"{key}: expected a name or a table {{method = …, args = […], kwargs = {{…}}}}, got {entry!r}"
        )
    for name in entry:
        if name not in ("method", "args", "kwargs"):
            raise ConfigError(f"{key}: unknown key {name!r}{did_you_mean_or(name, ('method', 'args', 'kwargs'))}")
    return Call(
        _name(entry["method"], f"{key}.method"),
        tuple(_argument(value) for value in _list(entry.get("args"), f"{key}.args")),
        {name: _argument(value) for name, value in _table(entry.get("kwargs"), f"{key}.kwargs").items()},
    )


def _argument(value: Any) -> Any:
    return Parameter(value["parameter"]) if isinstance(value, Mapping) and set(value) == {"parameter"} else value


def _name(name: Any, key: str) -> str:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConfigError(f"{key}: {name!r} is not the name of an attribute, such as 'voltage' or 'ch_1.voltage'")
    return name


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: expected a table, got {value!r}")
    return value


def _list(value: Any, key: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{key}: expected a list, got {value!r}")
    return value


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"identity: {text!r} is no regular expression: {error}") from None
