"""Evaluate tasks: the driver interface, the worker that hosts a driver, and the drivers that ship with TaskMaster."""

from taskmaster.drivers.base import Driver, DriverContext

__all__ = ["Driver", "DriverContext"]
