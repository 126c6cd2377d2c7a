"""What happened, in words, for whoever has to understand a failure. Costs nothing unless somebody reads it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from simulation.agenda import Agenda
from taskmaster.daemon.effects import Record

__all__ = ["Chronicle"]

_LONGEST = 200
#: Said so often, and so seldom of interest.
_DULL = frozenset({"beacon"})


class Chronicle:
    """The last ``length`` lines."""

    def __init__(self, agenda: Agenda, length: int) -> None:
        self._agenda = agenda
        self.lines: deque[str] = deque(maxlen=length)
        self._on = length > 0
        self._digest = hashlib.blake2b(digest_size=16)
        #: who is at the other end of each connection
        self.names: dict[bytes, str] = {}

    def note(self, text: str, *details: object) -> None:
        """Something happened."""
        if self._on:
            line = f"{self._agenda.monotonic() - 1000:9.4f}  {text.format(*details)}"
            self._digest.update(line.encode())
            self.lines.append(line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…")

    @property
    def digest(self) -> str:
        """Of everything that has happened, said or not any more; empty unless somebody reads it."""
        return self._digest.hexdigest() if self._on else ""

    def message(self, text: str, address: bytes, header: Any) -> None:
        """A message was read or sent."""
        if self._on:
            fields = msgspec.msgpack.decode(header)
            kind = fields.pop("t")
            if kind not in _DULL:
                said = ", ".join(f"{key}={_brief(value)}" for key, value in fields.items() if key not in _UNTOLD)
                self.note("{} {}: {} {}", text, self.names.get(address, address), kind, said)

    def records(self, records: Sequence[Record]) -> None:
        """A transaction was committed."""
        if self._on:
            self.note("committed {}", "; ".join(_brief(record) for record in records))


#: Fields that say nothing about what went wrong.
_UNTOLD = frozenset(
    {
        "layout",
        "host",
        "version",
        "parameters",
        "outputs",
        "options",
        "driver",
        "started",
        "finished",
        "masters",
        "metadata",
        "seed",
        "status",
    }
)


def _brief(value: Any) -> str:
    text = (
        type(value).__name__ + repr(tuple(getattr(value, name) for name in value.__struct_fields__ if name != "block"))
        if isinstance(value, msgspec.Struct)
        else repr(value)
    )
    return text if len(text) <= 120 else text[:119] + "…"
