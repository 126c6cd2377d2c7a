"""The names and tables of a configuration, found in Python: classes, their arguments, and what an object has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import lacking
from taskmaster.config.arguments import filled
from taskmaster.drivers.functions import find_object
from taskmaster.drivers.instruments.adapters import Adapter
from taskmaster.drivers.instruments.attributes import method_names
from taskmaster.drivers.instruments.plan import Assign, Call, Parameter, Plan

__all__ = ["Bound", "arguments_of", "bind", "find_class"]

#: libraries, the packages that have them, and our extras with these
_PACKAGES = {
    "pymeasure": ("pymeasure", "pymeasure"),
    "qcodes": ("qcodes", "qcodes"),
    "ophyd_async": ("ophyd-async", "ophyd"),
}


@dataclass(frozen=True)
class Bound:
    """The plan with its names found in an object; each step beside what it is called in messages."""

    instrument: Any
    init: tuple[tuple[str, Callable[[], Any]], ...]
    set: tuple[tuple[str, str, Callable[[Any], Any]], ...]
    call: tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...]
    read: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Any]], ...]
    safe: tuple[tuple[str, Callable[[], Any]], ...]


# -- classes and their arguments --------------------------------------------------------------------------------------


def find_class(name: str, path: Any = (), base: type = object) -> type:
    """The class ``module:Class``, which has to derive from ``base``. Raises ConfigError, naming what is missing."""
    library = name.partition(":")[0].partition(".")[0]
    try:
        kind = find_object(name, tuple(map(str, path)), "class")
    except ConfigError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name == library and library in _PACKAGES:
            raise ConfigError(lacking(f"class {name!r} needs", *_PACKAGES[library])) from error
        raise
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ConfigError(
            f"class {name!r} is {kind!r}, not a class" + (f" of {base.__name__}" if base is not object else "")
        )
    return kind


def arguments_of(options: Mapping[str, Any], name: str) -> tuple[tuple[Any, ...] | None, dict[str, Any]]:
    """What the file says that the class is called with: ``args``, None where it leaves them to the library; kwargs."""
    words = {"resource": str(options.get("resource") or ""), "name": name}
    args = options.get("args")
    return None if args is None else tuple(_built(list(args), words)), _built(dict(options.get("kwargs") or {}), words)


def _built(value: Any, words: Mapping[str, str]) -> Any:
    """A value for a class's arguments: tables that name a class or an object become that, and ``words`` are filled in.

    Raises ConfigError, and whatever the class raises.
    """
    if isinstance(value, str):
        return filled(value, words) if words else value
    if isinstance(value, list | tuple):
        return [_built(item, words) for item in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"object"}:
        return find_object(value["object"])
    if "class" in value and set(value) <= {"class", "args", "kwargs"}:
        kind = find_class(value["class"])
        return kind(*_built(value.get("args", ()), words), **_built(value.get("kwargs", {}), words))
    return {name: _built(item, words) for name, item in value.items()}


# -- binding names to an object ---------------------------------------------------------------------------------------


def bind(plan: Plan, adapter: Adapter, instrument: Any) -> Bound:
    """Every name of the plan in the object. Raises Missing."""
    kind = type(instrument).__name__
    safe = plan.safe
    if safe is None:
        safe = tuple(Call(name) for name in adapter.safe if name in method_names(instrument))
    return Bound(
        instrument,
        init=tuple(_step(adapter, instrument, step) for step in plan.init),
        set=tuple(
            (name, f"setting {kind}.{_named(entry)}", _putting(adapter, instrument, entry))
            for name, entry in plan.set.items()
        ),
        call=tuple(_of_task(adapter, instrument, step) for step in plan.call),
        read=tuple(
            (name, f"reading {kind}.{_named(entry)}", _getting(adapter, instrument, entry))
            for name, entry in plan.read.items()
        ),
        safe=tuple(_step(adapter, instrument, step) for step in safe),
    )


def _named(entry: str | Call) -> str:
    return entry if isinstance(entry, str) else entry.name


def _step(adapter: Adapter, instrument: Any, step: Call | Assign) -> tuple[str, Callable[[], Any]]:
    kind = type(instrument).__name__
    if isinstance(step, Assign):
        put, value = adapter.setter(instrument, step.name), _built(step.value, {})
        return f"setting {kind}.{step.name}", lambda: put(value)
    call = _calling(adapter, instrument, step)
    return f"calling {kind}.{step.name}", lambda: call({})


def _of_task(adapter: Adapter, instrument: Any, step: Call | Assign) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    if isinstance(step, Call):
        return f"calling {type(instrument).__name__}.{step.name}", _calling(adapter, instrument, step)
    what, put = _step(adapter, instrument, step)
    return what, lambda x: put()


def _putting(adapter: Adapter, instrument: Any, entry: str | Call) -> Callable[[Any], Any]:
    if isinstance(entry, str):
        return adapter.setter(instrument, entry)
    args, kwargs = entry.args, entry.kwargs or {}
    bound = adapter.method(instrument, entry.name, (None, *args), kwargs)
    return lambda value: bound(value, *args, **kwargs)


def _getting(adapter: Adapter, instrument: Any, entry: str | Call) -> Callable[[Mapping[str, Any]], Any]:
    if isinstance(entry, Call):
        return _calling(adapter, instrument, entry)
    get = adapter.getter(instrument, entry)
    return lambda x: get()


def _calling(adapter: Adapter, instrument: Any, call: Call) -> Callable[[Mapping[str, Any]], Any]:
    args, kwargs = call.args, call.kwargs or {}
    bound = adapter.method(instrument, call.name, args, kwargs)
    return lambda x: bound(
        *(_filled(value, x) for value in args), **{name: _filled(value, x) for name, value in kwargs.items()}
    )


def _filled(value: Any, x: Mapping[str, Any]) -> Any:
    return x[value.name] if isinstance(value, Parameter) else value
