"""Part of an outcome: what is left of it when some of its tasks are not wanted any more."""

from __future__ import annotations

from msgspec.structs import replace

from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Buffer, Table

__all__ = ["cut_outcome"]


def cut_outcome(
    table: Table | None, times: Buffer | None, errors: tuple[TaskError, ...], low: int, high: int
) -> tuple[Table | None, Buffer | None, tuple[TaskError, ...]]:
    """Outputs, finish times and errors of the tasks at positions ``low ≤ p < high`` of an outcome.

    Rows of ``table`` are the tasks without an error, in order; ``times`` has eight bytes for each of all tasks.
    """
    before = sum(error.position < low for error in errors)
    inside = tuple(replace(error, position=error.position - low) for error in errors if low <= error.position < high)
    if table is not None:
        first = low - before
        table = table.slice(first, first + (high - low) - len(inside)) if high - low > len(inside) else None
    if times is not None:
        times = memoryview(times)[8 * low : 8 * high]
    return table, times, inside
