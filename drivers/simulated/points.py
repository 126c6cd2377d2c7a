"""A point to try a simulated head with."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from taskmaster.bus.fields import Field
from taskmaster.drivers.simulated.answers import resting
from taskmaster.drivers.simulated.described import DescribedHead

__all__ = ["random_point"]

#: A ramp goes at most so many steps away, and nowhere where a step takes longer than a second.
_STEPS, _STEP_SECONDS = 2, 1.0


def random_point(head: DescribedHead, seed: int) -> dict[str, Any]:
    """A point within the limits; near to where ramps begin, so that none takes long."""
    chance = random.Random(seed)
    ramps = (head.options.get("commands") or {}).get("ramps") or {}
    return {field.name: _chosen(field, ramps.get(field.name), chance) for field in head.parameters}


def _chosen(field: Field, ramp: Mapping[str, Any] | None, chance: random.Random) -> Any:
    if field.choices:
        chosen = chance.choice(field.choices)
        return int(chosen) if field.kind == "int" else chosen  # choices that are numbers are kept as real ones
    if field.kind == "bool":
        return chance.random() < 0.5
    if field.kind == "str":
        return "a"
    low, high = field.limits
    if ramp is not None:
        start = resting(field, ramp.get("start"))
        reach = ramp["step"] * _STEPS if ramp.get("every", 0.0) <= _STEP_SECONDS else 0.0
        low, high = max(low, start - reach), min(high, start + reach)
    elif not (math.isfinite(low) and math.isfinite(high)):
        low = low if math.isfinite(low) else min(0.0, high - 1.0)
        high = high if math.isfinite(high) else max(1.0, low + 1.0)
    if field.kind == "int":
        return chance.randint(math.ceil(low), math.floor(high)) if math.ceil(low) <= high else round(low)
    return chance.uniform(low, high)
