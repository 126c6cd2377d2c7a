"""Drivers by name: those that ship with TaskMaster, and third parties' by entry point ``taskmaster.drivers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.base import Driver

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = ["BUILTIN", "ENTRY_POINTS", "INSTRUMENTS", "driver_class", "driver_names"]

ENTRY_POINTS = "taskmaster.drivers"
BUILTIN = ("process", "thread", "gpu")
#: Those of heads, see `instruments.worker`.
INSTRUMENTS = ("visa", "serial", "instrument")


def _third_parties() -> EntryPoints:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    return entry_points(group=ENTRY_POINTS)


def driver_names() -> list[str]:
    """Every driver that can be named in a configuration here."""
    return [*BUILTIN, *INSTRUMENTS, *sorted(point.name for point in _third_parties())]


def driver_class(name: str, options: Mapping[str, Any]) -> type[Driver]:
    """The class of a driver. Raises ConfigError for an unknown name."""
    if name == "gpu":
        from taskmaster.drivers.gpu.driver import GpuDriver

        return GpuDriver
    if name in BUILTIN:
        from taskmaster.drivers.process import function_driver

        return function_driver(name, options)
    for point in _third_parties().select(name=name):
        found = point.load()
        if not (isinstance(found, type) and issubclass(found, Driver)):
            raise ConfigError(f"driver {name!r} ({point.value}) is not a subclass of taskmaster.drivers.Driver")
        return found
    raise ConfigError(f"driver {name!r} is unknown{did_you_mean_or(name, driver_names())}")
