"""Points as people type them, and as files hold them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from taskmaster.bus.errors import InvalidOutput, InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.cli.output import count

__all__ = ["FORMATS", "PointReader"]

FORMATS = ("csv", "jsonl")

_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class PointReader:
    """Reads points for a Master with these parameters. Each that is read has been checked against them.

    Every method raises InvalidTask that says where what was wrong stands. With the ``role`` "output" all this is about
    outputs, and what is raised is InvalidOutput.
    """

    def __init__(self, master: str, fields: Sequence[Field], role: str = "parameter") -> None:
        self._master = master
        self._fields = {field.name: field for field in fields}
        self._schema = Schema(fields, master, role)
        is_point = role == "parameter"
        self._what = "a point" if is_point else "an output"
        self._separators = "commas part values, spaces part points" if is_point else "commas part values"
        self._mistake = InvalidTask if is_point else InvalidOutput

    def typed(self, text: str) -> Any:
        """A point from the command line.

        ``x=1,y=2``, or ``1,2`` in the parameters' order, or a JSON object. For a Master that declares no parameters:
        any JSON value, else the text itself.
        """
        if not self._fields:
            return _json_or_text(text)
        if text.lstrip().startswith("{"):
            return self._checked(self._json(text, repr(text)), repr(text))
        return self._checked(self._named(text), repr(text))

    def value(self, name: str, text: str) -> Any:
        """The value of one parameter (or output) as typed, checked."""
        field = self._fields.get(name)
        if field is None:
            self._schema.check_names([name])  # raises, and says which there are
        value = self._value(name, text, repr(text))
        Schema([self._fields[name]], self._master, self._schema.role).row({name: value})
        return value

    def typed_parts(self, parts: Sequence[str], known: Mapping[str, Any] | None = None) -> Any:
        """What stands in several words: ``x=1 y=2``, over what is ``known``; or, in one, all that :meth:`typed` reads.

        In words of their own, texts may have commas in them.
        """
        if len(parts) == 1 and ("=" not in parts[0] or parts[0].lstrip().startswith("{") or not self._fields):
            return self.typed(parts[0])
        point = dict(known or {})
        for part in parts:
            name, equals, text = part.partition("=")
            if not equals:
                raise self._error(f"{part!r} has no name; write {next(iter(self._fields), 'x')}=VALUE")
            point[name.strip()] = self.value(name.strip(), text)
        return self._checked(point, repr(" ".join(parts)))

    def read(self, file: IO[str], name: str, form: str) -> list[Any]:
        """All points of a file: JSON lines, or CSV whose first line names the parameters."""
        lines = self._csv(file, name) if form == "csv" else self._jsonl(file, name)
        try:
            return [self._checked(point, place) for point, place in lines]
        except UnicodeDecodeError:
            raise self._error(f"{name}: not UTF-8 text; save the file in that encoding") from None

    # -- the command line ---------------------------------------------------------------------------------------------

    def _named(self, text: str) -> dict[str, Any]:
        parts = [part.strip() for part in _split(text)]
        names = list(self._fields)
        if not any("=" in part for part in parts):
            if len(parts) != len(names):
                raise self._error(
                    f"{text!r} has {count(len(parts), 'value')}, {self._what} {len(names)}: {', '.join(names)}; "
                    + self._separators
                )
            return {name: self._value(name, part, repr(text)) for name, part in zip(names, parts)}
        point: dict[str, Any] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if not equals:
                raise self._error(f"{text!r}: {part!r} has no name; write {names[0]}=VALUE")
            point[name.strip()] = self._value(name.strip(), value, repr(text))
        return point

    def _value(self, name: str, text: str, place: str) -> Any:
        """The value of one parameter, read as what that is declared to be."""
        field, text = self._fields.get(name), text.strip()
        if field is None:
            return text  # refused by name when the whole point is checked
        try:
            if field.shape or field.kind == "any":
                return json.loads(text)
            if field.kind == "str":
                return text
            if field.kind == "bool":
                return _TRUTHS[text.lower()]
            return int(text) if field.kind == "int" else float(text)
        except (ValueError, KeyError, RecursionError):
            raise self._error(
                f"{place}: {self._schema.role} {name!r} must be {field.describe()}, got {text!r}"
            ) from None

    # -- files --------------------------------------------------------------------------------------------------------

    def _csv(self, file: IO[str], name: str) -> Iterator[tuple[Any, str]]:
        rows = csv.reader(file, strict=True)
        try:
            names = [heading.strip() for heading in next(rows, [])]
            if not names:
                raise self._error(f"{name} is empty; its first line must name the parameters")
            self._check_headings(names, f"{name}:{rows.line_num}")
            for row in rows:
                place = f"{name}:{rows.line_num}"
                if not row:
                    continue
                if len(row) != len(names):
                    raise self._error(f"{place}: {count(len(row), 'value')}, but the first line names {len(names)}")
                pairs = zip(names, row)
                if self._fields:
                    yield {key: self._value(key, text, place) for key, text in pairs}, place
                else:
                    yield {key: _json_or_text(text) for key, text in pairs}, place
        except csv.Error as error:
            raise self._error(f"{name}:{rows.line_num}: not CSV: {error}") from None

    def _check_headings(self, names: list[str], place: str) -> None:
        twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
        if twice is not None:
            raise self._error(f"two columns are named {twice!r} (in {place})")
        if self._fields:
            try:
                self._schema.check_names(names)
            except InvalidTask as error:
                raise InvalidTask(f"{error} (in {place})") from None

    def _jsonl(self, file: IO[str], name: str) -> Iterator[tuple[Any, str]]:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield self._json(line, f"{name}:{number}"), f"{name}:{number}"

    def _json(self, text: str, place: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._error(f"{place}: not JSON: {error}") from None

    # -- mistakes -----------------------------------------------------------------------------------------------------

    def _checked(self, point: Any, place: str) -> Any:
        if self._fields:
            try:
                self._schema.row(point)
            except self._mistake as error:
                raise self._mistake(f"{error} (in {place})") from None
        return point

    def _error(self, text: str) -> InvalidTask | InvalidOutput:
        return self._mistake(f"Master {self._master!r}: {text}")


def _split(text: str) -> list[str]:
    """Parts between commas, but for those within brackets or quotes."""
    parts, depth, quoted = [""], 0, False
    for k, character in enumerate(text):
        quoted ^= depth > 0 and character == '"' and text[k - 1 : k] != "\\"
        depth += not quoted and (character in "[{") - (character in "]}")
        if character == "," and not (quoted or depth > 0):
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _json_or_text(text: str) -> Any:
    """What ``text`` is in JSON; itself if that is nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
