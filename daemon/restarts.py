"""The restart policy of worker processes, which hosts elsewhere share: see `drivers/restarts.py`."""

from __future__ import annotations

from taskmaster.drivers.restarts import RestartPolicy

__all__ = ["RestartPolicy"]
