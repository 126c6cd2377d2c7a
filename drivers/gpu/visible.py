"""Which CUDA devices there are, and how a worker process is shown the one that it has."""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["NUMBER", "Unanswered", "ask_devices", "count_devices", "counting", "environment_of"]

log = logging.getLogger("taskmaster.devices")

#: Where a worker finds which of the devices it has.
NUMBER = "TASKMASTER_DEVICE"
#: What it may take to ask: a driver that has just been loaded takes some seconds.
ASK_SECONDS = 30.0


class Unanswered(Exception):
    """Which devices there are cannot be found out."""


def counting() -> dict[str, str]:
    """Has CUDA count devices as `nvidia-smi` does, and not the fastest first.

    Unless whoever has chosen some for this process has counted them otherwise, or may have.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ or "CUDA_DEVICE_ORDER" in os.environ:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def environment_of(number: int) -> dict[str, str]:
    """Has a process see just this CUDA device: by its number among those that this process sees itself."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {NUMBER: str(number), **counting(), "CUDA_VISIBLE_DEVICES": str(number)}
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    return {NUMBER: str(number), "CUDA_VISIBLE_DEVICES": entries[number] if number < len(entries) else "-1"}


def ask_devices(environment: Mapping[str, str], seconds: float = ASK_SECONDS) -> dict[str, Any]:
    """What :mod:`~taskmaster.drivers.gpu.probe` says, in a process of its own, for a driver can hang, or crash.

    With these variables beside this process's. Raises Unanswered.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "taskmaster.drivers.gpu.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=True,
            env={**os.environ, **environment},
        )
        found: dict[str, Any] = json.loads(asked.stdout)
    except subprocess.TimeoutExpired:
        raise Unanswered(f"the driver has not answered within {seconds:g} s") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by signal {-error.returncode}" if error.returncode < 0 else f"ended: {said}"
        raise Unanswered(f"the process that has asked the driver {how}") from error
    except (OSError, ValueError) as error:
        raise Unanswered(str(error)) from error
    return found


@functools.cache
def count_devices() -> int:
    """How many CUDA devices this process would see."""
    try:
        return len(ask_devices({})["devices"])
    except Unanswered as error:
        log.warning("which CUDA devices there are cannot be found out: %s", error)
        return 0
