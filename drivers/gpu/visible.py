"""How a worker process is shown the one device that it has."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

__all__ = ["NUMBER", "count_devices", "environment_of"]

log = logging.getLogger("taskmaster.devices")

#: Where a worker finds which of the devices it has.
NUMBER = "TASKMASTER_DEVICE"
#: What it may take to ask: a driver that has just been loaded takes some seconds.
ASK_SECONDS = 30.0


def environment_of(number: int) -> dict[str, str]:
    """Has a process see just this CUDA device: as `nvidia-smi` counts, among those that this process sees itself."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {NUMBER: str(number), "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(number)}
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    return {NUMBER: str(number), "CUDA_VISIBLE_DEVICES": entries[number] if number < len(entries) else "-1"}


def count_devices() -> int:
    """How many CUDA devices this process would see: asked in another one, for a driver can hang, or crash."""
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "taskmaster.drivers.gpu.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_SECONDS,
            check=True,
        )
        return len(json.loads(asked.stdout)["devices"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        log.warning("which CUDA devices there are cannot be found out: %s", error)
        return 0
