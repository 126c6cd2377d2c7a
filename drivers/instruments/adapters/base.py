"""A plain Python object as an instrument; what the adapters of libraries change something about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, ClassVar

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.instruments import attributes
from taskmaster.drivers.instruments.attributes import class_name, fits

__all__ = ["Adapter", "Recipe", "derives"]


@dataclass(frozen=True)
class Recipe:
    """What a head's object is made of."""

    kind: type
    #: the head's name; the Master's where the head has none
    name: str
    #: where the instrument is; empty where the class does not want to be told
    resource: str
    #: None: as its library has it
    args: tuple[Any, ...] | None
    kwargs: Mapping[str, Any]
    #: PyVISA's backend for the libraries that go through it; empty for their default
    backend: str = ""


def derives(kind: type, library: str, name: str) -> bool:
    """Whether a class has an ancestor ``name`` from a library. Nothing is imported to find out."""
    return any(base.__name__ == name and base.__module__.partition(".")[0] == library for base in kind.__mro__)


class Adapter:
    """An object of a class that knows nothing of TaskMaster.

    Constructed as ``kind(*args, **kwargs)``; where no arguments are declared, as ``kind(resource, **kwargs)``.
    """

    #: the library and the class in it whose descendants this is for
    base: ClassVar[tuple[str, str]] = ("", "")
    #: methods that bring the instrument to a safe state where the configuration declares none
    safe: ClassVar[tuple[str, ...]] = ()

    def __init__(self, recipe: Recipe, stopping: Event) -> None:
        self.recipe = recipe
        self.stopping = stopping

    @classmethod
    def named(cls, name: str) -> str:
        """The head's name as the library would have it."""
        return name

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the class is called with."""
        recipe = self.recipe
        if recipe.backend:
            raise ConfigError(
                f"{class_name(recipe.kind)} is neither a PyMeasure nor a QCoDeS instrument: backend is not for it; "
                "pass what it wants in kwargs"
            )
        return self.resource_first(), dict(recipe.kwargs)

    def resource_first(self) -> tuple[Any, ...]:
        """The declared arguments; where there are none, the resource, if there is one."""
        recipe = self.recipe
        if recipe.args is not None:
            return recipe.args
        return (recipe.resource,) if recipe.resource else ()

    def make(self) -> Any:
        """The object. Raises ConfigError where the class does not take the arguments, and whatever the class raises."""
        args, kwargs = self.arguments()
        if reason := fits(self.recipe.kind, args, kwargs):
            raise ConfigError(f"{class_name(self.recipe.kind)} cannot be made so: {reason}{self.hint()}")
        return self.recipe.kind(*args, **kwargs)

    def hint(self) -> str:
        """What to say beside the reason why the class does not take its arguments."""
        return "" if self.recipe.resource else "; the head has no resource: where it is needed, declare one"

    def identify(self, instrument: Any) -> str:
        """What the instrument says it is; empty if it cannot say."""
        return ""

    def setter(self, instrument: Any, name: str) -> Callable[[Any], Any]:
        """What sets ``name``. Raises Missing."""
        return attributes.setter(instrument, name)

    def getter(self, instrument: Any, name: str) -> Callable[[], Any]:
        """What gives ``name``. Raises Missing."""
        return attributes.getter(instrument, name)

    def method(
        self, instrument: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """The method ``name``, which must take the arguments. Raises Missing."""
        return attributes.method(instrument, name, args, kwargs)

    def close(self, instrument: Any, *, silent: bool) -> None:
        """Let go of the object; ``silent``: nothing is to be said to the instrument any more."""
        close = getattr(instrument, "close", None)
        if callable(close):
            close()
