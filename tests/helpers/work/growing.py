"""A growth chamber of somebody's own: days pass when the test says so, and every action is on record.

The chamber is a folder: ``record`` has a line for each thing that was done to it, and a day passes when a file named
like its number is there.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from taskmaster.drivers.instruments import Head, HeadContext, Reconciled

__all__ = ["Chamber", "Forgetful"]

_DAYS = 4
_LOOK_SECONDS = 0.01


class Chamber(Head):
    """Grows a plant for four days, and can go on where it was interrupted."""

    def __init__(self, context: HeadContext, folder: str) -> None:
        super().__init__(context)
        self._folder = Path(folder)

    def _note(self, text: str) -> None:
        with (self._folder / "record").open("a") as record:
            record.write(f"{self.name} {text}\n")

    def evaluate(self, x: dict[str, float]) -> Any:
        self.begin_acting()
        self._note(f"sow {x['light']:g}")
        return self._grow(x, 0)

    def resume(self, x: dict[str, float], token: bytes) -> Any:
        day = int(token)
        self._note(f"resume {x['light']:g} from {day}")
        return self._grow(x, day)

    def _grow(self, x: dict[str, float], day: int) -> Generator[Any, None, Any]:
        while day < _DAYS:
            while not (self._folder / str(day + 1)).exists():
                self.sleep(_LOOK_SECONDS)
            day += 1
            self.checkpoint(str(day))  # before it is noted: whoever has read that may kill this process
            self._note(f"day {day}")
            yield {"height": day * x["light"]}
        return {"mass": day * x["light"]}

    def safe(self) -> None:
        self._note("safe")


class Forgetful(Chamber):
    """Cannot go on, but can find out what has become of a task: whether the test has left a file ``harvest``."""

    def checkpoint(self, token: bytes | str) -> None:
        pass

    def reconcile(self, x: dict[str, float], token: bytes) -> Reconciled:
        self._note("look")
        harvest = self._folder / "harvest"
        if not harvest.exists():
            return Reconciled.unknown()
        found = harvest.read_text()
        return Reconciled.done({"mass": float(found)}) if found else Reconciled.not_begun()


class Nothing(Head):
    """Evaluates whatever it is, at no instrument."""

    def open(self) -> None:
        """There is nothing to open."""

    def safe(self) -> None:
        """It always is."""

    def evaluate(self, x: Any) -> Any:
        """As it came."""
        return x
