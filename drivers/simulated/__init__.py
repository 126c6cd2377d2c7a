"""A simulated laboratory: a scanning probe and a room of growth chambers, in processes that speak real protocols.

``python -m taskmaster.drivers.simulated probe`` or ``chambers`` starts one. It speaks SCPI over TCP and
pseudo-terminals, goes wrong on command, and keeps a record of everything that it was told. See docs/simulated.md.
"""

from taskmaster.drivers.simulated.actions import Action, Actions
from taskmaster.drivers.simulated.client import HeadAddress, Laboratory, SimulatorControl

__all__ = ["Action", "Actions", "HeadAddress", "Laboratory", "SimulatorControl"]
