"""What instruments answer, as values: numbers, lists, texts, blocks of numbers.

An answer that is not what was declared is Garbled, with what was received: it is never made to fit.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.fields import Field
from taskmaster.drivers.instruments.errors import Garbled
from taskmaster.drivers.instruments.transport import shortened

__all__ = ["Block", "Choice", "Listed", "Number", "Reply", "Text", "reply_for"]

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf(?:inity)?|nan)"
_NUMERIC = re.compile(rf"\s*({_NUMBER})\s*(\S*)\s*", re.IGNORECASE)
_TRUE, _FALSE = frozenset({"1", "on", "true"}), frozenset({"0", "off", "false"})
#: What SCPI instruments say instead of infinities and of no number (SCPI-1999, 7.2.1.4 and 7.2.1.5).
_INFINITY, _NOT_A_NUMBER = 9.9e37, 9.91e37


class Reply(ABC):
    """How an answer is read."""

    #: IEEE 488.2 blocks are taken by their length, not by a terminator
    is_block: bool = False

    @abstractmethod
    def parse(self, data: bytes) -> Any:
        """The value of an answer without its terminator. Raises Garbled."""


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise Garbled(f"received {shortened(data)}, which is no text")
    return text


@dataclass(frozen=True)
class Text(Reply):
    """Text, without spaces around it; the group of a ``pattern``, if there is one."""

    pattern: re.Pattern[str] | None = None

    def parse(self, data: bytes) -> str:
        text = _text(data)
        if self.pattern is None:
            return text
        match = self.pattern.fullmatch(text)
        if match is None:
            raise Garbled(f"received {shortened(data)}, which does not match {self.pattern.pattern!r}")
        return str(match[1] if self.pattern.groups else match[0])


def _number(text: str, unit: str, data: bytes) -> float:
    match = _NUMERIC.fullmatch(text)
    if match is None:
        raise Garbled(f"received {shortened(data)}, which is no number")
    if match[2] not in (unit, ""):
        expected = f"the unit {unit!r}" if unit else "a number alone"
        raise Garbled(f"received {shortened(data)}, where {expected} is expected")
    if unit and not match[2]:
        raise Garbled(f"received {shortened(data)}, without the unit {unit!r}")
    return _scpi(float(match[1]))


def _scpi(value: float) -> float:
    if abs(value) == _INFINITY:
        return math.copysign(math.inf, value)
    return math.nan if value == _NOT_A_NUMBER else value


@dataclass(frozen=True)
class Number(Reply):
    """A number; ``unit`` has to follow it, if it is given. 9.9E37 and 9.91E37 are infinity and NaN, as in SCPI."""

    pattern: re.Pattern[str] | None = None
    unit: str = ""
    whole: bool = False

    def parse(self, data: bytes) -> float | int:
        value = _number(Text(self.pattern).parse(data), self.unit, data)
        if not self.whole:
            return value
        if not value.is_integer():
            raise Garbled(f"received {shortened(data)}, which is no whole number")
        return int(value)


@dataclass(frozen=True)
class Choice(Reply):
    """``1`` or ``ON``, ``0`` or ``OFF``."""

    pattern: re.Pattern[str] | None = None

    def parse(self, data: bytes) -> bool:
        text = Text(self.pattern).parse(data).lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise Garbled(f"received {shortened(data)}, which is neither 1 or ON nor 0 or OFF")


@dataclass(frozen=True)
class Listed(Reply):
    """Numbers with ``sep`` between them: an array of ``shape``, in which one -1 is any length."""

    shape: tuple[int, ...] = (-1,)
    sep: str = ","
    pattern: re.Pattern[str] | None = None
    unit: str = ""
    whole: bool = False

    def parse(self, data: bytes) -> NDArray[Any]:
        text = Text(self.pattern).parse(data)
        parts = text.split(self.sep) if self.sep.strip() else text.split()
        values = np.array(self._values(parts if text else [], data), "<i8" if self.whole else "<f8")
        return _shaped(values, self.shape, data)

    def _values(self, parts: list[str], data: bytes) -> list[float]:
        if not self.unit:
            # The usual case at C's speed: a waveform has many numbers.
            try:
                values = [float(part) for part in parts]
            except ValueError:
                values = []
            if values and not any(abs(value) >= _INFINITY for value in values) and "_" not in parts[0]:
                return values
        return [_number(part, self.unit, data) for part in parts]


@dataclass(frozen=True)
class Block(Reply):
    """An IEEE 488.2 block of numbers of ``dtype``, byte order included, as in ``<f4``: an array of ``shape``."""

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("<f4"))
    shape: tuple[int, ...] = (-1,)
    is_block: bool = True

    def parse(self, data: bytes) -> NDArray[Any]:
        if len(data) % self.dtype.itemsize:
            raise Garbled(f"received a block of {len(data)} bytes, which is no whole number of {self.dtype.str}")
        values = np.frombuffer(data, self.dtype)
        return _shaped(values.astype(self.dtype.newbyteorder("<"), copy=False), self.shape, data)


def _shaped(values: NDArray[Any], shape: tuple[int, ...], data: bytes) -> NDArray[Any]:
    known = math.prod(n for n in shape if n >= 0)
    free = shape.count(-1)
    fits = values.size == known if not free else free == 1 and known > 0 and values.size % known == 0
    if not fits:
        raise Garbled(f"received {values.size} numbers, which do not fill the shape {list(shape)}: {shortened(data)}")
    return values.reshape(shape)


def reply_for(options: Mapping[str, Any], declared: Field | None) -> Reply:
    """How the answer to a query with these options is read, for an output as it is declared.

    ``options`` has none or some of `pattern`, `unit`, `sep`, `shape`, `dtype` (which makes it a block), and `kind`,
    which counts where no output is declared: `float`, `int`, `bool` or `str`.
    """
    kind = declared.kind if declared is not None else options.get("kind", "float")
    shape = tuple(options.get("shape") or (declared.shape if declared is not None else ()))
    pattern = re.compile(options["pattern"]) if options.get("pattern") else None
    unit, whole = options.get("unit", ""), kind == "int"
    if options.get("dtype"):
        return Block(np.dtype(options["dtype"]), shape or (-1,))
    if shape or options.get("sep"):
        return Listed(shape or (-1,), options.get("sep") or ",", pattern, unit, whole)
    if kind in ("float", "int"):
        return Number(pattern, unit, whole)
    return Choice(pattern) if kind == "bool" else Text(pattern)
