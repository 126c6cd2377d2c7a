"""The journal: the durable record of which the daemon's memory is a projection."""

from taskmaster.daemon.journal.journal import Journal

__all__ = ["Journal"]
