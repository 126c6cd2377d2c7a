"""Learners of one's own by name: ``module:Class``, found on the Python path, without an entry point."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.options import literal
from taskmaster.learners.protocol import Learner, require

if TYPE_CHECKING:
    from taskmaster.learners.registry import Factory

__all__ = ["find", "is_defined_there", "own_factory"]


def own_factory(name: str, hint: str = "") -> Factory:
    """What makes the learner ``module:qualified.name``, which is one of

    - a class: it is made of the options, as keyword arguments; what the Master declares it hears by ``bind``;
    - a function, taken for a :class:`~taskmaster.learners.registry.Factory`.

    Raises CallerError where there is none; ``hint`` is said where there is no such module. What the module raises while
    it is imported, and the class or function when it is called, comes through with a note.
    """
    found = find(name, f"no learner is called {name.partition(':')[0]!r}, and there is no such module", hint)
    if isinstance(found, type):
        return _of_class(name, found)
    if callable(found):
        return _of_function(name, found)
    raise CallerError(f"learner {name!r} is an object of {type(found).__name__}; name the class, or what makes one")


def find(name: str, missing: str, hint: str = "", *, called: str | None = None) -> Any:
    """What ``module:qualified.name`` stands for; the folder at hand is searched as the rest of the path is.

    Raises CallerError where there is none; where there is no such module with ``missing`` in front and ``hint`` behind.
    What the module raises while it is imported comes through with a note. ``called`` is the learner's name, if it has
    another.
    """
    module_name, _, qualified = name.partition(":")
    called = name if called is None else called
    module = _imported(called, module_name, missing, hint)
    try:
        return reduce(getattr, qualified.split("."), module)
    except AttributeError:
        known = [one for one, value in vars(module).items() if isinstance(value, type) and not one.startswith("_")]
        where = getattr(module, "__file__", None) or "built in"
        nearest = did_you_mean_or(qualified, known, "its classes are")
        raise CallerError(
            f"learner {called!r}: module {module_name!r} ({where}) has no {qualified!r}{nearest}"
        ) from None


def is_defined_there(name: str) -> bool:
    """Whether ``module:qualified.name`` stands for what that module defines itself, and does not only import."""
    module_name, _, qualified = name.partition(":")
    found = reduce(getattr, qualified.split("."), _imported(name, module_name, f"there is no module {module_name!r}"))
    return getattr(found, "__module__", None) == module_name


def _imported(name: str, module: str, missing: str, hint: str = "") -> Any:
    note = f"That is from the module of learner {name!r}, when it was imported."
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            error.add_note(note)  # the module is there; something that it imports is not
            raise
        where = sys.path[0] or "."
        raise CallerError(f"{missing} in {where} or elsewhere on the path{hint}") from None
    except Exception as error:
        error.add_note(note)
        raise


def _of_class(name: str, kind: type) -> Factory:
    def make(
        parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str], /
    ) -> Learner:
        given = {key: literal(text) for key, text in options.items()}
        _require_arguments(name, kind, given)
        return _made(name, kind, **given)

    make.__doc__ = kind.__doc__
    return make


def _of_function(name: str, function: Callable[..., Any]) -> Factory:
    def make(
        parameters: Sequence[Field], outputs: Sequence[Field], seed: int | None, options: Mapping[str, str], /
    ) -> Learner:
        if (signature := _signature(function)) is not None:
            try:
                signature.bind(parameters, outputs, seed, options)
            except TypeError as error:
                raise CallerError(
                    f"learner {name!r} is a function, and called as one that makes learners: {function.__name__}"
                    f"(parameters, outputs, seed, options); it does not take that: {error}"
                ) from None
        return _made(name, function, parameters, outputs, seed, options)

    make.__doc__ = function.__doc__
    return make


def _made(name: str, make: Callable[..., Any], *arguments: Any, **options: Any) -> Learner:
    try:
        learner = make(*arguments, **options)
    except CallerError:
        raise
    except Exception as error:
        error.add_note(f"The learner {name!r} raised that when it was made.")
        raise
    if isinstance(learner, Learner):
        require(learner)
        return learner
    lacking = [method for method in ("ask", "tell") if not hasattr(learner, method)]
    raise CallerError(
        f"learner {name!r}: {type(learner).__name__} is no learner, it has no {'() and no '.join(lacking)}()"
    )


def _require_arguments(name: str, kind: type, given: Mapping[str, Any]) -> None:
    """Raise CallerError where a class cannot be made of these options alone."""
    signature = _signature(kind)
    if signature is None:
        return
    taken = signature.parameters.values()
    named = [one.name for one in taken if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if not any(one.kind is one.VAR_KEYWORD for one in taken):
        for key in given:
            if key not in named:
                raise CallerError(f"learner {name!r} has no option {key!r}{did_you_mean_or(key, named, 'it takes')}")
    for one in taken:
        if one.default is one.empty and one.name not in given and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            raise CallerError(
                f"learner {name!r} cannot be made without its argument {one.name!r}: give it as an option, "
                f"{one.name}=VALUE, or have it a default. What the Master declares comes by bind(parameters, outputs); "
                "and a function of (parameters, outputs, seed, options) may make what needs more"
            )


def _signature(made: Callable[..., Any]) -> inspect.Signature | None:
    """None where it cannot be known, as of what is written in C."""
    try:
        return inspect.signature(made)
    except (TypeError, ValueError):
        return None
