"""The drivers that come with TaskMaster, with the models of their keys."""

from __future__ import annotations

from collections.abc import Mapping

from taskmaster.config.gpu import GpuOptions
from taskmaster.config.instruments import HumanOptions, InstrumentClassOptions, SerialOptions, VisaOptions
from taskmaster.config.options import DriverOptions, ProcessOptions, ThreadOptions

__all__ = ["BUILTIN_DRIVERS"]

BUILTIN_DRIVERS: Mapping[str, type[DriverOptions]] = {
    "process": ProcessOptions,
    "thread": ThreadOptions,
    "gpu": GpuOptions,
    "visa": VisaOptions,
    "serial": SerialOptions,
    "instrument": InstrumentClassOptions,
    "human": HumanOptions,
}
