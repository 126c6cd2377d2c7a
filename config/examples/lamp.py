"""A lamp that exists in this file only: the class of the example `instruments.toml`, in the place of a real one's."""

from __future__ import annotations


class Burnt(Exception):
    """There is no lamp any more that could be talked to."""


class Lamp:
    """A lamp with a dimmer and a photodiode. ``port`` is where it is, ``gain`` that of the photodiode."""

    def __init__(self, port: str, gain: float = 1.0) -> None:
        self.port = port
        self.gain = gain
        self.is_on = False
        #: share of full power, from 0 to 1
        self.power = 0.0

    def switch_on(self) -> None:
        """Light."""
        self.is_on = True

    def shutdown(self) -> None:
        """Dark."""
        self.is_on = False

    def flash(self, times: int) -> None:
        """Tell whoever watches that it begins."""

    def hold(self) -> None:
        """Tell the lamp's watchdog that somebody is there."""

    @property
    def photocurrent(self) -> float:
        """Of the photodiode, in µA."""
        return 120.0 * self.gain * self.power if self.is_on else 0.0

    @property
    def temperature(self) -> float:
        """Of the lamp, in °C."""
        return 20.0 + 50.0 * self.power * self.is_on
