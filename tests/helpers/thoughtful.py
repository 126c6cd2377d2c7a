"""A learner that minds everything it hears."""

from __future__ import annotations

from typing import Any

__all__ = ["Thoughtful"]


class Thoughtful:
    """Asks what depends on all it was told, in which order, and when it was asked; now and then for what fails.

    When it has been told so often (``turns``) it goes on another way, which is its own for each number ``then``.
    """

    def __init__(self, turns: int = 10**9, then: int = 0) -> None:
        self.thought = 1
        self.seen: list[tuple[Any, ...]] = []
        self._turns = turns
        self._then = then

    def ask(self, n: int) -> list[dict[str, float]]:
        self._see("ask", n)
        return [{"x": self._think(k) * (1e6 if self._think(k) % 4 == 1 else 1)} for k in range(n)]

    def tell(self, point: dict[str, float], output: float) -> None:
        self._see("tell", round(output), point["x"])

    def fail(self, point: dict[str, float], error: BaseException) -> None:
        self._see("fail", -1, point["x"])

    def _see(self, what: str, of: int, *more: Any) -> None:
        self.seen.append((what, of, *more))
        if what != "ask" and sum(one[0] != "ask" for one in self.seen) == self._turns:
            of += self._then
        self._think(of)

    def _think(self, of: int) -> int:
        self.thought = (self.thought * 31 + of + 7) % 100_003
        return self.thought
