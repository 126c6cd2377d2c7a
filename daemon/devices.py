"""A Master's devices: which there are, and what the worker process that each has is to see.

The daemon itself never opens a device: to ask how many there are is the business of a process that ends then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskmaster.drivers.gpu.visible import NUMBER, count_devices, environment_of

__all__ = ["Device", "DeviceChoice", "devices_of"]


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
        numbers = tuple(range(max(1, count_devices())))
    return [Device(number, environment_of(number)) for number in numbers]
