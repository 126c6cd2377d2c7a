"""Points that simulated heads are tried with: within the limits, and never far along a slow ramp."""

from __future__ import annotations

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.simulated.described import DescribedHead
from taskmaster.drivers.simulated.points import random_point

FIELDS = (
    Field("free"),
    Field("low", min=5),
    Field("high", max=-5),
    Field("both", min=1, max=2),
    Field("n", "int", min=3, max=3),
    Field("mode", "str", choices=("A", "B")),
    Field("on", "bool"),
    Field("text", "str"),
    Field("fast", min=-10, max=10),
    Field("slow", min=20, max=80),
)
RAMPS = {"fast": {"step": 0.5, "every": 0.01, "query": "F?"}, "slow": {"step": 1, "every": 10.0, "start": 25.0}}
HEAD = DescribedHead("lab", "", "visa", {"commands": {"ramps": RAMPS}}, FIELDS)


def test_points_fit_and_ramps_are_short() -> None:
    schema = Schema(FIELDS, "lab")
    points = [random_point(HEAD, seed) for seed in range(200)]
    for point in points:
        schema.row(point)
        assert abs(point["fast"]) <= 1
        assert point["slow"] == 25
    assert len({point["both"] for point in points}) == 200
    assert {point["mode"] for point in points} == {"A", "B"}
    assert random_point(HEAD, 7) == points[7]
