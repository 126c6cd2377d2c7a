"""Names in a configuration → properties and methods of an object, without touching the instrument to find them.

A property of an instrument's class usually sends a query when it is looked at. So a name is looked up where it is
defined (in the class, or among the object's own attributes), and a property is not evaluated until it is wanted. Only
what is dotted (``ch1.voltage``) evaluates the attributes before the last dot: channels and submodules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean

__all__ = ["Missing", "class_name", "fits", "getter", "is_routine", "method", "method_names", "owner", "setter"]

_ROUTINES = (
    FunctionType,
    MethodType,
    BuiltinFunctionType,
    MethodDescriptorType,
    ClassMethodDescriptorType,
    WrapperDescriptorType,
    classmethod,
    staticmethod,
)


class Missing(ConfigError):
    """A name that the object of a head does not have, or not so."""


def class_name(thing: Any) -> str:
    """``module.Class`` of an object, or of a class itself."""
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def setter(instrument: Any, name: str) -> Callable[[Any], Any]:
    """What sets ``name`` to a value: a property's or attribute's assignment, or a call with the value."""
    where, last = owner(instrument, name)
    found = _found(where, last)
    if isinstance(found, property) and found.fset is None:
        raise Missing(f"{class_name(where)}.{last} cannot be set: it is a property without a setter")
    if _is_computed(found) or not callable(value := getattr(where, last)):
        return lambda value: setattr(where, last, value)
    return _calling(value, where, last, (None,), {})


def getter(instrument: Any, name: str) -> Callable[[], Any]:
    """What gives ``name``: a property's or attribute's value, or what a call without arguments returns."""
    where, last = owner(instrument, name)
    found = _found(where, last)
    if isinstance(found, property) and found.fget is None:
        raise Missing(f"{class_name(where)}.{last} cannot be read: it is a property without a getter")
    if _is_computed(found) or not callable(value := getattr(where, last)):
        return lambda: getattr(where, last)
    return _calling(value, where, last, (), {})


def method(
    instrument: Any, name: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """The method ``name``, which must take the arguments. Returns it bound to its object."""
    where, last = owner(instrument, name)
    found = _found(where, last)
    if _is_computed(found) or not callable(value := getattr(where, last)):
        raise Missing(f"{class_name(where)}.{last} is not a method; a value is set with a table: {{{last} = …}}")
    return _calling(value, where, last, tuple(args), kwargs or {})


def owner(instrument: Any, name: str) -> tuple[Any, str]:
    """The object that the last part of a dotted name belongs to, and that part."""
    *path, last = name.split(".")
    for part in path:
        _found(instrument, part)
        instrument = getattr(instrument, part)
    return instrument, last


def is_routine(where: Any, name: str) -> bool:
    """Whether the attribute is a method or function of its object. Raises :class:`Missing` where there is none."""
    return isinstance(_found(where, name), _ROUTINES)


def fits(function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Why a call with these arguments cannot be: empty where it can, or where that cannot be known."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # a builtin, or a class that hides it
        return ""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"{error} (it takes {signature})"
    return ""


def method_names(thing: Any) -> list[str]:
    """The methods of an object's class."""
    return [name for name, _ in inspect.getmembers_static(type(thing), lambda value: isinstance(value, _ROUTINES))]


_DYNAMIC = object()


def _found(where: Any, name: str) -> Any:
    """What defines the attribute, unevaluated. Raises :class:`Missing`."""
    try:
        return inspect.getattr_static(where, name)
    except AttributeError:
        # Only a class that makes attributes up on demand is asked for them.
        if hasattr(type(where), "__getattr__") and hasattr(where, name):
            return _DYNAMIC
    public = [known for known in dir(where) if not known.startswith("_")]
    raise Missing(f"{class_name(where)} has no attribute {name!r}{did_you_mean(name, public)}")


def _is_computed(found: Any) -> bool:
    """Whether looking at the attribute runs code of the class that defines it."""
    return hasattr(type(found), "__get__") and not isinstance(found, _ROUTINES)


def _calling(
    value: Callable[..., Any], where: Any, last: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Callable[..., Any]:
    if reason := fits(value, args, kwargs):
        raise Missing(f"{class_name(where)}.{last} cannot be called so: {reason}")
    return value
