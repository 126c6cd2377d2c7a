"""Commands to instruments with the places where values go: ``"POS {x:.3f},{y:.3f}"``.

The configuration checks them when it is read and the drivers fill them in, with the same class. A value goes through
its declared format and nothing else, and text that could end a command or begin another is refused: whoever chooses
the values of parameters cannot choose commands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

from taskmaster.bus.text import FIELD_NAME, did_you_mean_or

__all__ = ["ARRAY", "SEPARATORS", "Template", "unsendable"]

#: The kind of a parameter that is an array, for :meth:`Template.check`.
ARRAY = "array"
#: What ends a command, or text within one, whatever the terminator is: no value may have it.
SEPARATORS = ";\"'"

#: Of Python's format specifications what makes sense in a command: neither grouping, which would put commas there, nor
#: formats by locale, nor widths that only fill memory.
_SPECIFICATION = re.compile(
    r"(?:(?P<fill>[^{}])?(?P<align>[<>=^]))?(?P<sign>[-+ ])?#?0?(?P<width>\d{1,3})?(?:\.\d{1,2})?(?P<type>[a-zA-Z%])?"
)
_REAL = "eEfFgG%"
#: Formats of real numbers that give nothing but …
_REAL_FORMAT = re.compile(r"[-+ ]?0?\d{0,3}(?:\.\d{1,2})?[eEfFgG]")
#: … these.
_REAL_CHARACTERS = "0123456789.+-eE "
_WHOLE = "dxXob"
_BASES: Mapping[str, int] = {"d": 10, "x": 16, "X": 16, "o": 8, "b": 2}
#: Kind → the types of format that fit it; an empty one is none at all, as in ``{x}`` or ``{x:.3}``.
_TYPES: Mapping[str, tuple[str, ...]] = {
    "float": ("", *_REAL),
    "int": ("", *_WHOLE, *_REAL),
    "bool": ("d",),
    "str": ("", "s"),
}
_SAMPLES: Mapping[str, float | str] = {"float": 1.5, "int": 1, "bool": True, "str": "a"}
_EXAMPLES: Mapping[str, str] = {"float": ":.4f", "int": ":d", "bool": ":d", "str": ""}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the value of the parameter ``name`` goes; ``literal`` stands before it."""

    literal: str
    name: str
    specification: str
    #: the letter of the format, if it has one
    type: str


@dataclass(frozen=True)
class Template:
    """One command. ``{name:format}`` is the value of a parameter in a format of Python's; ``{{`` and ``}}`` are braces.

    ``terminator`` is what ends a message to this instrument. Raises ValueError, in words for the user, where the text
    cannot be such a command.
    """

    text: str
    terminator: str = "\n"
    _places: tuple[_Place, ...] = field(init=False, repr=False, compare=False)
    _rest: str = field(init=False, repr=False, compare=False)
    #: of a command of numbers in plain formats: their names, and what puts finite ones in
    _plain: tuple[tuple[str, ...], Callable[..., str]] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places, rest = _parse(self.text)
        # The names of parameters may have any letters: they are not sent.
        literal = "".join([*(place.literal for place in places), rest])
        problem = unsendable(literal, self.terminator) if literal or not places else ""
        if problem:
            raise ValueError(f"{self.text!r} cannot be a command: it {problem}")
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_rest", rest)
        object.__setattr__(self, "_plain", _plain_format(places, rest, self.terminator))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the parameters in it, each once, in the order of the text."""
        return tuple(dict.fromkeys(place.name for place in self._places))

    def check(self, kinds: Mapping[str, str]) -> list[str]:
        """What is wrong with it beside parameters of these ``kinds``, by name; nothing, where it fits.

        A kind is ``float``, ``int``, ``bool``, ``str`` or ``any``, or :data:`ARRAY` for what has a shape.
        """
        return [problem for place in self._places if (problem := _misfit(place, kinds))]

    def format(self, values: Mapping[str, Any]) -> str:
        """The command with ``values``, by parameter, in it: characters from ``' '`` to ``'~'``, without terminator.

        Raises ValueError, naming parameter and value, where a value is missing, does not fit its format, is not finite,
        or is text that could end the command.
        """
        if self._plain is not None:  # the usual case, for each task at an instrument
            names, filled = self._plain
            given = [values.get(name) for name in names]
            if all(type(value) is float and math.isfinite(value) for value in given):
                return filled(*given)
        parts = [place.literal + self._filled(place, values) for place in self._places]
        command = "".join(parts) + self._rest
        if problem := unsendable(command, self.terminator):
            shown = ", ".join(f"{name} = {_shown(values[name])}" for name in self.fields)
            raise ValueError(f"{self.text!r} with {shown} cannot be sent: it {problem}")
        return command

    def reader(self, known: Mapping[str, Any]) -> Callable[[str], dict[str, Any] | None]:
        """What finds the values in a command, as who receives it does: by parameter, None if it is another command.

        ``known`` are values that the command must have in their places. Raises ValueError where one does not fit there.
        """
        parts = [
            re.escape(place.literal) + (re.escape(self._filled(place, known)) if place.name in known else "(.*?)")
            for place in self._places
        ]
        pattern = re.compile("".join([*parts, re.escape(self._rest)]))
        free = [place for place in self._places if place.name not in known]

        def read(command: str) -> dict[str, Any] | None:
            match = pattern.fullmatch(command)
            if match is None:
                return None
            try:
                return {place.name: _read(text, place.type) for place, text in zip(free, match.groups())}
            except ValueError:
                return None

        return read

    def _filled(self, place: _Place, values: Mapping[str, Any]) -> str:
        if place.name not in values:
            raise ValueError(f"parameter {place.name!r} has no value, and {self.text!r} needs one")
        given = values[place.name]
        try:
            value = _plain(given, place.type)
            text = format(value, place.specification)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unfit(place, given, f"does not fit the format ({error})") from None
        if isinstance(value, str) and (problem := unsendable(value, self.terminator, separators=SEPARATORS)):
            raise self._unfit(place, given, problem)
        return text

    def _unfit(self, place: _Place, given: Any, problem: str) -> ValueError:
        return ValueError(f"parameter {place.name!r}: {_shown(given)} cannot be sent in {self.text!r}: it {problem}")


def _plain_format(
    places: tuple[_Place, ...], rest: str, terminator: str
) -> tuple[tuple[str, ...], Callable[..., str]] | None:
    """What fills real numbers in, where nothing in their formats can be other than a number; None where it can."""
    if not places or not all(_REAL_FORMAT.fullmatch(place.specification) for place in places):
        return None
    if any(character in _REAL_CHARACTERS for character in terminator):
        return None
    pieces = [_doubled(place.literal) + f"{{:{place.specification}}}" for place in places]
    return tuple(place.name for place in places), ("".join(pieces) + _doubled(rest)).format


def _doubled(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


_STRANGE = re.compile("[^ -~]")


def unsendable(text: str, terminator: str, *, separators: str = "") -> str:
    """Why ``text`` cannot be part of a message (to follow "it"); empty if it can. ``separators`` are refused, too."""
    if not text:
        return "is empty"
    if strange := _STRANGE.search(text):
        return f"has {strange[0]!r}; use the characters from ' ' to '~'"
    if terminator and terminator in text:
        return f"has the terminator {terminator!r}, which is added by itself"
    found = next((character for character in separators if character in text), None)
    return "" if found is None else f"has {found!r}, which could end the command"


def _parse(text: str) -> tuple[tuple[_Place, ...], str]:
    """The places in ``text`` and what stands after the last one."""
    try:
        pieces = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(f"{text!r}: a brace is missing; a {{ or }} that is meant as such is doubled") from None
    places: list[_Place] = []
    literal = ""
    for before, name, specification, conversion in pieces:
        literal += before
        if name is not None:
            places.append(_place(literal, name, specification or "", conversion))
            literal = ""
    return tuple(places), literal


def _place(literal: str, name: str, specification: str, conversion: str | None) -> _Place:
    shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + specification if specification else ''}}}"
    if conversion:
        raise ValueError(f"{shown} has a conversion, '!{conversion}'; write {{{name}}} and a format after ':'")
    if not re.fullmatch(FIELD_NAME, name):
        raise ValueError(f"{shown} does not name a parameter; write {{name}} or {{name:format}}, nothing else")
    if not _SPECIFICATION.fullmatch(specification):
        raise ValueError(f"{shown}: {specification!r} is not a format for a command; for example {{{name}:.4f}}")
    last = specification[-1:]
    return _Place(literal, name, specification, last if last.isalpha() or last == "%" else "")


def _misfit(place: _Place, kinds: Mapping[str, str]) -> str:
    shown = f"{{{place.name}{':' + place.specification if place.specification else ''}}}"
    kind = kinds.get(place.name)
    if kind is None:
        return f"{shown}: there is no parameter {place.name!r}{_hint(place.name, kinds)}"
    if kind not in _TYPES:
        what = "an array" if kind == ARRAY else "of any kind"
        return f"{shown}: parameter {place.name!r} is {what} and cannot stand in a command"
    if place.type in _TYPES[kind]:
        try:
            format(_SAMPLES[kind], place.specification)
        except ValueError:
            pass  # types fit one by one, but not with a precision or an alignment of the other kind
        else:
            return ""
    example = f"{{{place.name}{_EXAMPLES[kind]}}}"
    return f"{shown}: the format does not fit parameter {place.name!r}, whose kind is {kind!r}; for example {example}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _hint(name: str, known: Iterable[str]) -> str:
    """The declared name that is meant; where the name looks like an attribute of one, that there are none."""
    names = list(known)
    owner = name.partition(".")[0]
    if owner != name and owner in names:
        return f"; {owner!r} is one, but a place takes a whole value: write {{{owner}}}"
    return did_you_mean_or(name, names)


_PLAIN = frozenset({bool, int, float, str})


def _plain(value: Any, type_of_format: str) -> Any:
    """The value as one of Python's own, whole where the format is for whole numbers."""
    plain = value if type(value) in _PLAIN else value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise ValueError("not a finite number")
        if type_of_format and type_of_format in _WHOLE and plain.is_integer():
            return int(plain)
    if not isinstance(plain, (bool, int, float, str)):
        raise TypeError("neither a number nor text")
    return plain


def _read(text: str, type_of_format: str) -> Any:
    """What was formatted so. Raises ValueError where nothing can have been."""
    if type_of_format == "s":
        return text
    if type_of_format in _BASES:
        return int(text, _BASES[type_of_format])
    if type_of_format == "%":
        return float(text.strip().removesuffix("%")) / 100
    try:
        return float(text)
    except ValueError:
        if type_of_format:
            raise
        return text
