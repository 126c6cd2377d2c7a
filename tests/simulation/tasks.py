"""The tasks of the simulation: each input is a number that no other task has, so whatever comes back can be traced."""

from __future__ import annotations

from typing import Any

from taskmaster.bus.fields import Field, Schema

__all__ = ["OPERATORS", "PARAMETERS", "fails", "kills", "number", "output", "point", "schemas", "verdict"]

#: Outputs that operators enter by hand are these plus the task's number.
OPERATORS = 1_000_000_000

PARAMETERS = (Field("x", min=0, max=1e12), Field("y"))


def schemas(name: str, *, declared: bool) -> tuple[Schema, Schema]:
    """Parameters and outputs of a Master; without declared ones it takes values of any form."""
    if not declared:
        return Schema((), name), Schema((), name, "output")
    return Schema(PARAMETERS, name), Schema((Field("z"),), name, "output")


def point(n: int, *, declared: bool) -> Any:
    """Task number ``n`` as it is put."""
    if declared:
        return {"x": float(n), "y": -float(n)}
    forms = (n, float(n), f"t{n}", [n, None], {"n": n}, (float(n), 0.5), complex(n, 1.0))
    return forms[n // 7 % len(forms)]


def number(value: Any) -> int:
    """The number of a task, from its point."""
    if isinstance(value, dict):
        return int(value["x"] if "x" in value else value["n"])
    if isinstance(value, (list, tuple)):
        return int(value[0])
    if isinstance(value, str):
        return int(value[1:])
    return int(value.real)


def output(n: int, *, declared: bool) -> Any:
    """What evaluating task ``n`` gives."""
    z = 2.0 * n + 1.0
    if declared:
        return z
    forms = (z, 2 * n + 1, f"r{n}", [z])
    return forms[n % len(forms)]


def verdict(n: int, *, declared: bool) -> Any:
    """What an operator enters as the output of task ``n``."""
    return float(OPERATORS + n) if declared else ["by hand", n]


def fails(n: int) -> bool:
    """Whether evaluating task ``n`` raises."""
    return n % 13 == 5


def kills(n: int) -> bool:
    """Whether evaluating task ``n`` is likely to take its worker down."""
    return n % 41 == 7
