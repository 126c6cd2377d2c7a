"""Laboratory instruments: heads, the ways to reach them, and heads described by commands in the configuration.

Everything here imports without PyVISA and pyserial; who opens a connection needs them.
"""

from taskmaster.drivers.instruments.commandhead import CommandHead
from taskmaster.drivers.instruments.commands import Commands
from taskmaster.drivers.instruments.head import Head, HeadContext, Reconciled

__all__ = ["CommandHead", "Commands", "Head", "HeadContext", "Reconciled"]
