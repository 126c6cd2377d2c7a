"""An oven that tells how the cake comes along, and can be told to stop at any time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from taskmaster.drivers.instruments import Head

__all__ = ["Oven"]

_MINUTES = 12
#: What will come to nothing takes longer, so that there is time to see that.
_HOPELESS, _LONG = 0.4, 100
_MINUTE = 0.05


class Oven(Head):
    """The nearer to 180 degrees, the better from the first minute on."""

    def evaluate(self, x: dict[str, float]) -> Any:
        self.begin_acting()
        return self._bake(x["temperature"])

    def _bake(self, temperature: float) -> Generator[Any, None, Any]:
        off = abs(temperature - 180) / 100
        for minute in range(_MINUTES if off < _HOPELESS else _LONG):
            self.sleep(_MINUTE)
            yield {"minute": minute, "loss": off + 1 / (1 + minute), "note": "rising"}
        return {"loss": off}

    def safe(self) -> None:
        pass
