"""How the objects of other people's libraries are made, looked into and let go of: one adapter for each library."""

from __future__ import annotations

from taskmaster.drivers.instruments.adapters.base import Adapter, Recipe, derives
from taskmaster.drivers.instruments.adapters.ophyd import OphydAdapter
from taskmaster.drivers.instruments.adapters.pymeasure import PyMeasureAdapter
from taskmaster.drivers.instruments.adapters.qcodes import QCoDeSAdapter

__all__ = ["Adapter", "Recipe", "adapter_class"]

_ADAPTERS = (PyMeasureAdapter, QCoDeSAdapter, OphydAdapter)


def adapter_class(kind: type) -> type[Adapter]:
    """The adapter for a class: by the library that it derives from; plain Python for all others."""
    for adapter in _ADAPTERS:
        if derives(kind, *adapter.base):
            return adapter
    return Adapter
