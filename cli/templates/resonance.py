"""An example of what a Master evaluates: the amplitude of a driven oscillator, measured slowly."""

import math
import time

#: Resonance frequency in kHz.
RESONANCE = 3.2


def amplitude(point: dict[str, float]) -> float:
    """The amplitude in mV at a point, a dict of the parameters that taskmaster.toml declares."""
    ratio = point["frequency"] / RESONANCE
    time.sleep(0.05)  # as if an instrument had to settle
    return 10.0 / math.hypot(1 - ratio**2, point["damping"] * ratio)
