"""Answers that a description allows: whatever a query's answer is read as, within the limits that are declared.

One query may be read in several ways at once: as two outputs with a pattern each, as an output and an interlock. So
candidates are made, and the first is given that every reader takes. The readers are those of the drivers: what they
take here, they take there.
"""

from __future__ import annotations

import math
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import InvalidOutput
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments.errors import Garbled
from taskmaster.drivers.instruments.replies import Block, Choice, Listed, Number, Reply, Text
from taskmaster.drivers.simulated.matching import matching
from taskmaster.drivers.simulated.scpi import block

__all__ = ["Matched", "Reading", "Unanswerable", "Want", "answer", "resting", "surface"]

#: The length of an axis that may have any.
_ANY_LENGTH = 16
#: Range of a number without limits.
_WIDTH = 1.0
#: Numbers in one answer.
_MOST_NUMBERS = 1 << 24
#: Texts for one value that are tried.
_TRIES = 200
_TEXT = Text()
#: What instruments usually say, before anything is made up.
_USUAL = ("1", "0", '0,"No error"', '+0,"No error"', "OK")


class Unanswerable(Exception):
    """No answer is known that all who read it would take; why is the message."""


class Want(ABC):
    """What one reader makes of the answer to a query."""

    @abstractmethod
    def accepts(self, data: bytes, values: Mapping[str, Any]) -> bool:
        """Whether an answer to the query with these values is taken."""

    @abstractmethod
    def offers(self, value: Any, level: float, values: Mapping[str, Any]) -> Iterator[bytes]:
        """Answers with this value; of an array, around this ``level`` of 0 … 1 within its limits."""

    def choices(self) -> tuple[Any, ...]:
        """The only values there are, if they are few."""
        return ()

    def limits(self) -> tuple[float, float] | None:
        """Within which a number has to be; None where it is none."""
        return None


@dataclass(frozen=True)
class Matched(Want):
    """Text that a regular expression has to match as a whole: an identity, what is waited for, no error."""

    until: re.Pattern[str]

    def accepts(self, data: bytes, values: Mapping[str, Any]) -> bool:
        try:
            return self.until.fullmatch(_TEXT.parse(data)) is not None
        except Garbled:
            return False

    def offers(self, value: Any, level: float, values: Mapping[str, Any]) -> Iterator[bytes]:
        # One that would do for anything says most by what is made up for it.
        if self.until.fullmatch("simulated") is None:
            yield from (text.encode() for text in _USUAL if self.until.fullmatch(text))
        yield from (text.encode() for text in matching(self.until.pattern))


class Reading(Want):
    """A value as it is declared: an output, a monitored value, what an interlock looks at."""

    def __init__(self, field: Field, reply: Reply) -> None:
        self.field = field
        self.reply = reply
        self._schema = Schema([field], "", "output")

    def accepts(self, data: bytes, values: Mapping[str, Any]) -> bool:
        try:
            value = self.reply.parse(_content(data) if self.reply.is_block else data, values)
            self._schema.row({self.field.name: value})
        except (Garbled, InvalidOutput):
            return False
        return True

    def choices(self) -> tuple[Any, ...]:
        if self.field.choices:
            return self.field.choices
        if self.field.kind == "bool" or isinstance(self.reply, Choice):
            return (False, True)
        return ("simulated",) if isinstance(self.reply, Text) else ()

    def limits(self) -> tuple[float, float] | None:
        return self.field.limits if isinstance(self.reply, (Number, Listed, Block)) else None

    def offers(self, value: Any, level: float, values: Mapping[str, Any]) -> Iterator[bytes]:
        reply = self.reply
        if isinstance(reply, Block):
            numbers = self._numbers(_shape(reply.shape, values), level, reply.dtype)
            yield block(numbers.astype(reply.dtype).tobytes())
        elif isinstance(reply, Listed):
            numbers = self._numbers(_shape(reply.shape, values), level, np.dtype("<f8"))
            for form in _FORMS:
                parts = (form(number) + reply.unit for number in numbers.ravel().tolist())
                yield from _within((reply.separator if reply.separator.strip() else " ").join(parts), reply.pattern)
        else:
            if isinstance(reply, Text) and not isinstance(value, str):
                value = self.choices()[0]  # the number is what another reader is to find
            unit = reply.unit if isinstance(reply, Number) else ""
            for text in _spelled(value):
                for shown in (f"{text} {unit}", f"{text}{unit}") if unit else (text,):
                    yield from _within(shown, getattr(reply, "pattern", None))

    def _numbers(self, shape: tuple[int, ...], level: float, dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with a wave around the level."""
        low, high = _span(*self.field.limits)
        if dtype.kind in "iu":
            low, high = max(low, np.iinfo(dtype).min), min(high, np.iinfo(dtype).max)
        count = math.prod(shape)
        wave = 0.08 * np.sin(np.arange(count) * (4 * math.pi / max(1, count)))
        numbers = low + (high - low) * (level + wave)
        if self.field.kind == "bool":
            numbers = (wave > 0).astype("<f8")
        elif self.field.kind == "int" or dtype.kind in "iu" or getattr(self.reply, "whole", False):
            numbers = np.clip(np.rint(numbers), math.ceil(low), math.floor(high))
        return np.asarray(numbers, "<f8").reshape(shape)


def answer(wants: Sequence[Want], values: Mapping[str, Any], level: float, value: float | None = None) -> bytes:
    """An answer that all ``wants`` take, to a query that was asked with ``values``.

    Its value is at this ``level`` (0 … 1) between the limits, or it is ``value``. Raises Unanswerable.
    """
    for given in _candidates(wants, level, value):
        own = [_first(want, given, level, values) for want in wants]
        offers = [data for data in own if data is not None]
        if len(offers) < len(wants):
            continue
        distinct = list(dict.fromkeys(offers))
        joined = [separator.join(distinct) for separator in (b";", b" ", b",")] if len(distinct) > 1 else []
        for data in (*distinct, *joined):
            if all(want.accepts(data, values) for want in wants):
                return data
    raise Unanswerable("no answer fits all that read it" if len(wants) > 1 else "no answer fits what is declared")


def _first(want: Want, value: Any, level: float, values: Mapping[str, Any]) -> bytes | None:
    offers = islice(want.offers(value, level, values), _TRIES)
    return next((data for data in offers if want.accepts(data, values)), None)


def _candidates(wants: Sequence[Want], level: float, value: float | None) -> Iterator[Any]:
    """Values that might suit all."""
    if value is not None:
        yield value
        return
    limits = [both for want in wants if (both := want.limits())]
    low = max((low for low, _ in limits), default=-math.inf)
    high = min((high for _, high in limits), default=math.inf)
    for choices in filter(None, (want.choices() for want in wants)):
        first = int(level * len(choices))
        yield from (*choices[first:], *choices[:first])
    if low <= high:
        low, high = _span(low, high)
        number = low + (high - low) * level
        yield number
        whole = round(number)
        yield from (n for n in (whole, math.ceil(low), math.floor(high)) if low <= n <= high)
        yield from (low, high)


def resting(field: Field, start: float | None = None) -> Any:
    """The value that a parameter has before it was set."""
    if start is not None:
        return start
    if field.choices:
        return int(field.choices[0]) if field.kind == "int" else field.choices[0]
    if field.kind in ("bool", "str"):
        return {"bool": False, "str": ""}[field.kind]
    low, high = field.limits
    value = min(max(0.0, low), high)
    return round(value) if field.kind == "int" else value


def _span(low: float, high: float) -> tuple[float, float]:
    """Limits of a number; where one is not declared, some."""
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    if math.isfinite(low):
        return low, low + max(_WIDTH, abs(low))
    if math.isfinite(high):
        return high - max(_WIDTH, abs(high)), high
    return 0.0, _WIDTH


def surface(query: str, parameters: Iterable[Field], values: Mapping[str, Any]) -> float:
    """A level between 0.1 and 0.9 that depends smoothly on how parameters are set, and on the query.

    A mean of one cosine for each parameter over its range: a learner finds one maximum, and something to map.
    """
    waves = [
        math.cos(2 * math.pi * (_share(field, values.get(field.name)) - _phase(query + field.name)))
        for field in parameters
    ]
    return 0.5 + 0.4 * (sum(waves) / len(waves) if waves else 0.0)


def _phase(text: str) -> float:
    return zlib.crc32(text.encode()) / 2**32


def _share(field: Field, value: Any) -> float:
    """Where a value lies in its range, 0 … 1."""
    if field.choices:
        return field.choices.index(value) / len(field.choices) if value in field.choices else 0.0
    if not isinstance(value, (int, float)):
        return 0.0
    low, high = field.limits
    if math.isfinite(low) and math.isfinite(high):
        return (value - low) / (high - low) if high > low else 0.0
    return 0.5 + math.atan(value) / math.pi


def _shape(declared: Sequence[int | str], values: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(values.get(extent, 0)) if isinstance(extent, str) else extent for extent in declared)
    filled = tuple(_ANY_LENGTH if extent < 0 else extent for extent in shape)
    if math.prod(filled) > _MOST_NUMBERS:
        raise Unanswerable(f"shape {list(filled)} is too large")
    return filled


def _content(data: bytes) -> bytes:
    """Of a block with a definite length."""
    if data[:1] != b"#" or not data[1:2].isdigit():
        raise Garbled("no block")
    return data[2 + int(data[1:2]) :]


def _exactly(number: float) -> str:
    return repr(int(number)) if float(number).is_integer() and abs(number) < 2**53 else repr(float(number))


#: Ways to write a number: exactly, then as patterns may want it.
_FORMS: tuple[Callable[[float], str], ...] = (
    _exactly,
    *("{:.6f}".format, "{:+.6E}".format, "{:.2f}".format, "{:.0f}".format),
)


def _spelled(value: Any) -> Iterator[str]:
    """The ways to write a value."""
    if isinstance(value, bool):
        yield from ("1", "ON", "true") if value else ("0", "OFF", "false")
    elif isinstance(value, (int, float)):
        yield from (form(value) for form in _FORMS)
    else:
        yield str(value)


def _within(text: str, pattern: re.Pattern[str] | None) -> Iterator[bytes]:
    """The text where a pattern finds it, and what the pattern finds by itself."""
    if pattern is None:
        yield text.encode()
        return
    yield from (found.encode() for found in islice(matching(pattern.pattern, text), _TRIES // 4))
    yield from (found.encode() for found in islice(matching(pattern.pattern), _TRIES // 4))
