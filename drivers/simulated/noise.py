"""Noise that is a function of time: whoever asks again for the same moment is told the same."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["PinkNoise", "white"]

_MASK = (1 << 64) - 1


class PinkNoise:
    """Gaussian-like noise with a 1/f spectrum between two frequencies.

    The spectral representation method (Shinozuka & Deodatis, Appl. Mech. Rev. 44, 191, 1991): a sum of cosines of
    random phase. Of equal amplitude and evenly spread over the logarithm of frequency, they have equal power in each
    octave, which is what 1/f means.
    """

    def __init__(
        self, seed: tuple[int, ...], rms: float, low: float = 1e-3, high: float = 1e3, *, lines: int = 32
    ) -> None:
        """``rms`` in the unit of the noisy quantity, ``low`` and ``high`` in Hz."""
        rng = np.random.default_rng(seed)
        # Each somewhere in its own share of the band: even spacing would have the noise repeat itself.
        shares = (np.arange(lines) + rng.random(lines)) / lines
        self._pulsations = 2 * np.pi * low * (high / low) ** shares
        self._phases = rng.uniform(0, 2 * np.pi, lines)
        self._amplitude = rms * math.sqrt(2 / lines)

    def at(self, time: float) -> float:
        """The noise at one moment, in s."""
        if not self._amplitude:
            return 0.0
        return self._amplitude * float(np.cos(self._pulsations * time + self._phases).sum())

    def over(self, times: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The noise at ``times`` (n,), in s."""
        if not self._amplitude:
            return np.zeros(len(times))
        waves = np.cos(np.multiply.outer(times, self._pulsations) + self._phases)
        return np.asarray(self._amplitude * waves.sum(axis=1))


def _scramble(value: int) -> int:
    """64 bits of which each depends on all of the argument (splitmix64; Steele, Lea & Flood, OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def white(seed: int, time: float) -> float:
    """A standard normal deviate that belongs to this moment, in ns; independent of any other moment's."""
    first = _scramble(seed ^ _scramble(int(time * 1e9)))
    # Box and Muller's transform of two uniform deviates; the first is never 0.
    radius = math.sqrt(-2 * math.log(((first >> 11) + 1) / (1 << 53)))
    return radius * math.cos(2 * math.pi * _scramble(first) / (1 << 64))
