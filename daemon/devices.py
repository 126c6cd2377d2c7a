"""A Master's devices: which there are, and the worker process that each has.

The daemon itself never opens a device: to ask how many there are is the business of a process that ends then (a driver
that hangs, or crashes, takes nobody with it).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["NUMBER", "Device", "DeviceChoice", "devices_of"]

log = logging.getLogger("taskmaster.devices")

#: Where a worker finds which of the devices it has.
NUMBER = "TASKMASTER_DEVICE"
#: What it may take to ask: a driver that has just been loaded takes some seconds.
ASK_SECONDS = 30.0


@dataclass(frozen=True)
class DeviceChoice:
    """Which devices a Master is to have, as it is configured."""

    #: as they are counted; None: all that there are
    numbers: tuple[int, ...] | None
    #: those of CUDA; else the processor
    cuda: bool = True


@dataclass(frozen=True)
class Device:
    """One of a Master's devices, by the number it is called."""

    number: int
    environment: Mapping[str, str]


def devices_of(choice: DeviceChoice) -> Sequence[Device]:
    """The devices, each with what its worker is to have in its environment."""
    if not choice.cuda:
        return [Device(number, {NUMBER: str(number)}) for number in choice.numbers or ()]
    numbers = choice.numbers
    if numbers is None:
        # Where there is none, a worker that is started all the same says so, to everybody who asks.
        numbers = tuple(range(max(1, _count())))
    return [Device(number, _environment(number)) for number in numbers]


def _environment(number: int) -> dict[str, str]:
    """Has the process see just this device: as `nvidia-smi` counts, among those that this process sees itself."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {NUMBER: str(number), "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(number)}
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    return {NUMBER: str(number), "CUDA_VISIBLE_DEVICES": entries[number] if number < len(entries) else "-1"}


def _count() -> int:
    """How many there are."""
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
