"""QCoDeS instruments: ``Class(name, address, **kwargs)`` with parameters, which are called to be read and set.

QCoDeS keeps a registry of instruments by name and refuses a second one of the same name, so at the end an instrument is
taken out of it even where closing its connection fails. Limits, steps and delays (``limits``, ``step``,
``inter_delay``) are the instrument's own parameters' and hold here as well.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from taskmaster.drivers.instruments import attributes
from taskmaster.drivers.instruments.adapters.base import Adapter, derives
from taskmaster.drivers.instruments.attributes import Missing, class_name

__all__ = ["QCoDeSAdapter"]


class QCoDeSAdapter(Adapter):
    """``qcodes.instrument.Instrument`` and everything that derives from it."""

    base = ("qcodes", "Instrument")

    @classmethod
    def named(cls, name: str) -> str:
        # QCoDeS wants an identifier, and a hyphen is what people write between words.
        return re.sub(r"\W", "_", name)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        recipe = self.recipe
        kwargs = dict(recipe.kwargs)
        if recipe.backend:
            kwargs["visalib"] = recipe.backend
        if recipe.args is not None:
            return recipe.args, kwargs
        name = kwargs.pop("name", recipe.name)
        if recipe.resource and "address" in _parameters(recipe.kind):
            kwargs.setdefault("address", recipe.resource)
            return (name,), kwargs
        return (name, *self.resource_first()), kwargs

    def identify(self, instrument: Any) -> str:
        """The answer to ``*IDN?`` as it is; ``vendor,model,serial,firmware`` where a class asks otherwise."""
        if type(instrument).get_idn.__module__ == "qcodes.instrument.instrument":
            # QCoDeS' own makes None of an answer that did not come.
            return str(instrument.ask("*IDN?")).strip()
        parts = [str(part) for part in instrument.get_idn().values() if part is not None]
        return ",".join(parts)

    def setter(self, instrument: Any, name: str) -> Callable[[Any], Any]:
        _require(instrument, name, "settable", "set")
        return super().setter(instrument, name)

    def getter(self, instrument: Any, name: str) -> Callable[[], Any]:
        _require(instrument, name, "gettable", "read")
        return super().getter(instrument, name)

    def close(self, instrument: Any, *, silent: bool) -> None:
        try:
            instrument.close()
        finally:
            type(instrument).remove_instance(instrument)


def _parameters(kind: type) -> set[str]:
    """The keyword arguments of a class and of those it may hand them on to."""
    return {
        name
        for base in kind.__mro__
        if "__init__" in vars(base) and base is not object
        for name in inspect.signature(vars(base)["__init__"]).parameters
    }


def _require(instrument: Any, name: str, quality: str, verb: str) -> None:
    where, last = attributes.owner(instrument, name)
    parameter = getattr(where, "parameters", {}).get(last)
    if (
        parameter is not None
        and derives(type(parameter), "qcodes", "ParameterBase")
        and not getattr(parameter, quality)
    ):
        raise Missing(f"{class_name(where)}.{last} cannot be {verb}: the parameter is not {quality}")
