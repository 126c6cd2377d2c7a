"""PyMeasure instruments: ``Class(resource, **kwargs)`` with properties, and channels as attributes (``ch_1.voltage``).

The resource string goes to the constructor, which opens it with PyVISA; instruments that are reached otherwise get an
adapter of PyMeasure's from the configuration: ``args = [{class = "pymeasure.adapters:SerialAdapter", kwargs = {…}}]``.
PyMeasure sends nothing twice by itself.
"""

from __future__ import annotations

from typing import Any

from taskmaster.drivers.instruments.adapters.base import Adapter

__all__ = ["PyMeasureAdapter"]


class PyMeasureAdapter(Adapter):
    """``pymeasure.instruments.Instrument`` and everything that derives from it.

    ``shutdown()``, in PyMeasure's words, "brings the instrument to a safe and stable state": it is the safe state where
    none is declared, and called at the end, as PyMeasure's own programs do.
    """

    base = ("pymeasure", "Instrument")
    safe = ("shutdown",)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(self.recipe.kwargs)
        if self.recipe.backend:
            kwargs["visa_library"] = self.recipe.backend
        return self.resource_first(), kwargs

    def identify(self, instrument: Any) -> str:
        if not hasattr(type(instrument), "id"):
            return ""
        try:
            return str(instrument.id)
        except NotImplementedError:  # not every instrument speaks SCPI
            return ""

    def close(self, instrument: Any, *, silent: bool) -> None:
        try:
            if not silent:
                instrument.shutdown()
        finally:
            instrument.adapter.close()
