"""A channel of a controller that does not bear two channels at once: who calls, and for how long, is on record."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Channel"]


class Channel:
    """Doubles, slowly enough for another to come in between."""

    def __init__(self, resource: str, folder: str, number: str) -> None:
        self._path = Path(folder) / "calls"
        self._number = number

    def _note(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{self._number} ".encode())
        os.close(descriptor)

    def evaluate(self, x: dict[str, Any]) -> float:
        self._note()
        time.sleep(0.002)
        self._note()
        return 2.0 * float(x["x"])
