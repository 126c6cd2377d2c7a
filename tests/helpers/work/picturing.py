"""An instrument whose results are large."""

from __future__ import annotations

from typing import Any

from taskmaster.drivers.instruments import Head


class Camera(Head):
    """Doubles an array, and says whether it had that in memory which it shares with the daemon."""

    def evaluate(self, x: dict[str, Any]) -> Any:
        from evaluations import doubled_array  # type: ignore[import-not-found]

        return doubled_array(x)
