"""What instruments answer, as values: numbers, lists, texts, blocks of numbers.

An answer that is not what was declared is Garbled, with what was received: it is never made to fit.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.fields import Field
from taskmaster.drivers.instruments.errors import Garbled
from taskmaster.drivers.instruments.transport import shortened

__all__ = ["NO_VALUES", "Block", "Choice", "Listed", "Number", "Reply", "Text", "reply_for"]

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf(?:inity)?|nan)"
_NUMERIC = re.compile(rf"\s*({_NUMBER})\s*(\S*)\s*", re.IGNORECASE)
#: A number and nothing else, which is what most answers are.
_ALONE = re.compile(rb"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
#: What Python takes in a number and no instrument sends.
_PLAIN = frozenset(b"_")
_TRUE, _FALSE = frozenset({"1", "on", "true"}), frozenset({"0", "off", "false"})
#: What SCPI instruments say instead of infinities and of no number (SCPI-1999, 7.2.1.4 and 7.2.1.5).
_INFINITY, _NOT_A_NUMBER = 9.9e37, 9.91e37


#: Lengths along the axes of an array: -1 is any, a name is the parameter that has it.
Shape = tuple[int | str, ...]
NO_VALUES: Mapping[str, Any] = MappingProxyType({})


class Reply(ABC):
    """How an answer is read."""

    #: IEEE 488.2 blocks are taken by their length, not by a terminator
    is_block: bool = False

    @abstractmethod
    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> Any:
        """The value of an answer without its terminator, to a query that was asked with ``values``. Raises Garbled."""


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = "\0"
    if not text.replace("\t", " ").isprintable():
        raise Garbled(f"received {shortened(data)}, which is no text")
    return text


@dataclass(frozen=True)
class Text(Reply):
    """Text without spaces around it, or what a ``pattern`` finds in it: its group, or all that matches."""

    pattern: re.Pattern[str] | None = None

    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> str:
        text = _text(data)
        if self.pattern is None:
            return text
        match = self.pattern.search(text)
        found = match and (match[1] if self.pattern.groups else match[0])
        if found is None:
            raise Garbled(f"received {shortened(data)}, in which {self.pattern.pattern!r} is not found")
        return found


def _number(text: str, unit: str, data: bytes) -> float:
    match = _NUMERIC.fullmatch(text)
    if match is None or (match[2] and not match[2][0].isalpha() and match[2][0] not in "%°"):
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

    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> float | int:
        if self.pattern is None and not self.unit and _ALONE.fullmatch(data):
            value = _scpi(float(data))
        else:
            value = _number(_text(data) if self.pattern is None else Text(self.pattern).parse(data), self.unit, data)
        if not self.whole:
            return value
        if not value.is_integer():
            raise Garbled(f"received {shortened(data)}, which is no whole number")
        return int(value)


@dataclass(frozen=True)
class Choice(Reply):
    """``1`` or ``ON``, ``0`` or ``OFF``."""

    pattern: re.Pattern[str] | None = None

    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> bool:
        text = Text(self.pattern).parse(data).lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise Garbled(f"received {shortened(data)}, which is neither 1 or ON nor 0 or OFF")


@dataclass(frozen=True)
class Listed(Reply):
    """Numbers with a ``separator`` between them, white space for any: an array of ``shape``."""

    shape: Shape = (-1,)
    separator: str = ","
    pattern: re.Pattern[str] | None = None
    unit: str = ""
    whole: bool = False

    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> NDArray[Any]:
        text = Text(self.pattern).parse(data)
        parts = text.split(self.separator) if self.separator.strip() else text.split()
        numbers = np.array(self._numbers(parts if text else [], data), "<f8")
        if self.whole:
            if not np.array_equal(numbers, np.rint(numbers)):
                raise Garbled(f"received {shortened(data)}, where whole numbers are expected")
            numbers = numbers.astype("<i8")
        return _shaped(numbers, self.shape, values, data)

    def _numbers(self, parts: list[str], data: bytes) -> list[float]:
        if not self.unit and _PLAIN.isdisjoint(data):
            # The usual case at C's speed: a waveform has many numbers.
            try:
                return [_scpi(number) for number in map(float, parts)]
            except ValueError:
                pass  # told below, with the reason
        return [_number(part, self.unit, data) for part in parts]


@dataclass(frozen=True)
class Block(Reply):
    """An IEEE 488.2 block of numbers of ``dtype``, byte order included, as in ``<f4``: an array of ``shape``."""

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("<f4"))
    shape: Shape = (-1,)
    is_block: bool = True

    def parse(self, data: bytes, values: Mapping[str, Any] = NO_VALUES) -> NDArray[Any]:
        if len(data) % self.dtype.itemsize:
            raise Garbled(f"received a block of {len(data)} bytes, which is no whole number of {self.dtype.str}")
        numbers = np.frombuffer(data, self.dtype)
        return _shaped(numbers.astype(self.dtype.newbyteorder("<"), copy=False), self.shape, values, data)


def _shaped(numbers: NDArray[Any], declared: Shape, values: Mapping[str, Any], data: bytes) -> NDArray[Any]:
    shape = tuple(int(values[extent]) if isinstance(extent, str) else extent for extent in declared)
    known, free = math.prod(n for n in shape if n >= 0), shape.count(-1)
    fits = numbers.size == known if not free else free == 1 and known > 0 and numbers.size % known == 0
    if not fits:
        raise Garbled(f"received {numbers.size} numbers, which do not fill the shape {list(shape)}: {shortened(data)}")
    return numbers.reshape(shape)


def reply_for(options: Mapping[str, Any], declared: Field | None) -> Reply:
    """How the answer to a query with these options is read, for an output as it is declared.

    ``options`` has some of `parse` (`number`, `list`, `text` or `block`; by default by the output), `pattern`, `unit`,
    `separator`, `shape` and `dtype`. What is not declared is a number, unless `parse` says otherwise.
    """
    kind = declared.kind if declared is not None else "float"
    shape: Shape = tuple(options.get("shape") or (declared.shape if declared is not None else ()))
    pattern = re.compile(options["pattern"]) if options.get("pattern") else None
    unit, whole = options.get("unit") or "", kind == "int"
    by_output = "block" if options.get("dtype") else "text" if kind == "str" else "list" if shape else "number"
    match options.get("parse") or by_output:
        case "block":
            return Block(np.dtype(options.get("dtype") or "<f4"), shape or (-1,))
        case "list":
            return Listed(shape or (-1,), options.get("separator") or ",", pattern, unit, whole)
        case "text":
            return Text(pattern)
    return Choice(pattern) if kind == "bool" else Number(pattern, unit, whole)
