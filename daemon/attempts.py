"""How many evaluations each task has used up without an outcome. Pure state, see `run`."""

from __future__ import annotations

from taskmaster.daemon.labels import Labels

__all__ = ["Attempts"]


class Attempts(Labels[int]):
    """Counts by task: a lost chunk costs as much as a lost task."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0)
