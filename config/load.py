"""Reads a configuration file into settings, or says everything that is wrong with it at once."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean_or
from taskmaster.config.lines import KeyPath, locate
from taskmaster.config.mistakes import Mistake, as_error, in_words, quoted, unknown_key
from taskmaster.config.settings import (
    BUILTIN_DRIVERS,
    MASTER_NAME,
    DaemonSettings,
    DriverOptions,
    MasterKeys,
    MasterSettings,
    Settings,
)
from taskmaster.config.values import MAX_INTEGER, show

__all__ = ["Config", "load", "loads"]

Drivers = Mapping[str, type[DriverOptions]]
SomeSettings = TypeVar("SomeSettings", bound=Settings)

_SECTIONS = ("daemon", "masters")


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. ``path`` is the file it came from, absolute; None if it came as text."""

    path: Path | None
    daemon: DaemonSettings
    masters: Mapping[str, MasterSettings]


def load(path: str | Path, drivers: Drivers = BUILTIN_DRIVERS) -> Config:
    """Read the file at ``path``; ``drivers`` are those a Master may name, with the models of their keys.

    Raises ConfigError with a line ``file:line: key: what is wrong`` for each mistake.
    """
    text = _read(Path(path))
    absolute = Path(path).absolute()
    return _load(text, str(path), absolute, absolute.parent, drivers)


def loads(
    text: str, name: str = "<text>", folder: str | Path | None = None, drivers: Drivers = BUILTIN_DRIVERS
) -> Config:
    """Read a configuration from ``text``.

    ``name`` stands for the file in messages; relative paths are relative to ``folder``, by default the current one.
    Raises ConfigError as :func:`load` does.
    """
    return _load(text, name, None, Path(folder or ".").absolute(), drivers)


def _load(text: str, name: str, path: Path | None, folder: Path, drivers: Drivers) -> Config:
    reader = _Reader(folder, drivers)
    daemon, masters = reader.read(_parse(text, name))
    if reader.mistakes or daemon is None:
        raise as_error(reader.mistakes, locate(text), name)
    return Config(path, daemon, masters)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(str(error), text, name)) from None
    except RecursionError:
        raise ConfigError(f"{name}: lists or tables are nested too deeply") from None
    except ValueError:  # int() refuses thousands of digits, and tomllib lets that through
        raise ConfigError(f"{name}: not valid TOML: a number has too many digits") from None


# -- the file -------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `taskmaster init` writes one to start from") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the TOML file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file in that encoding") from None


_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_KEYS = re.compile(r"((?:declare|namespace) )(\(.*\))")

#: What tomllib says → what it mostly means.
_MEANINGS = {
    "Invalid value": "expected a value; text needs quotes",
    "Cannot overwrite a value": "the key is there already",
    "Illegal character '\\n'": "the text is not closed on its line",
    "Expected newline or end of document after a statement": "expected the end of the line; text needs quotes",
    "Unescaped '\\' in a string": "a \\ in \"…\" must be doubled, or use '…'",
}


def _syntax_error(message: str, text: str, name: str) -> str:
    """tomllib's message as ``file:line: …``."""
    place = _PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.count("\n") + (not text.endswith("\n"))
    column = f" (column {place[2]})" if place and place[2] else " (at the end of the file)" if place else ""
    what = _PLACE.sub("", message)
    what = _KEYS.sub(lambda match: match[1] + ".".join(ast.literal_eval(match[2])), what)
    what = _MEANINGS.get(what, f"{what[:1].lower()}{what[1:]}")
    return f"{name}:{line}: not valid TOML: {what}{column}"


# -- what it says ---------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Validates a document part by part and gathers the mistakes."""

    folder: Path
    drivers: Drivers
    mistakes: list[Mistake] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, options in self.drivers.items():
            taken = MasterKeys.model_fields.keys() & options.model_fields.keys()
            if taken:
                raise TypeError(f"driver {name!r} declares {quoted(sorted(taken))}, which every Master has")

    def read(self, document: dict[str, Any]) -> tuple[DaemonSettings | None, dict[str, MasterSettings]]:
        self.mistakes += (Mistake((key,), unknown_key(key, _SECTIONS)) for key in document if key not in _SECTIONS)
        self.mistakes += _oversized(document, ())
        daemon = self._table(document.get("daemon", {}), ("daemon",))
        settings = None if daemon is None else self._validate(DaemonSettings, daemon, ("daemon",))
        masters = self._table(document.get("masters", {}), ("masters",))
        if masters == {}:
            self._blame(("masters",), "no Master is declared; add a table [masters.NAME]")
        read = {name: self._master(name, table) for name, table in (masters or {}).items()}
        if settings is None:
            return None, {}
        complete = {name: parts for name, parts in read.items() if parts is not None}
        return settings, {name: MasterSettings.assemble(name, *parts, settings) for name, parts in complete.items()}

    def _master(self, name: str, table: object) -> tuple[MasterKeys, DriverOptions] | None:
        path = ("masters", name)
        if not MASTER_NAME.fullmatch(name):
            self._blame(path, "a Master's name is a letter, then letters, digits, '_' or '-', at most 64 in all")
        keys = self._table(table, path)
        if keys is None:
            return None
        driver = self._driver(keys.get("driver"), path)
        common = {key: value for key, value in keys.items() if key in MasterKeys.model_fields}
        own = {key: value for key, value in keys.items() if key not in common}
        settings = self._validate(MasterKeys, common, path)
        if driver is None:
            return None
        for key in [key for key in own if key not in driver.model_fields]:
            self._blame((*path, key), self._unknown(key, driver, str(keys["driver"])))
            del own[key]
        options = self._validate(driver, own, path)
        for key_path, text in driver.conflicts(keys):
            self._blame((*path, *key_path), text)
        return None if settings is None or options is None else (settings, options)

    def _driver(self, name: object, path: KeyPath) -> type[DriverOptions] | None:
        if not isinstance(name, str):
            return None  # said when the common keys are validated
        if name not in self.drivers:
            self._blame((*path, "driver"), f"unknown driver {name!r}{did_you_mean_or(name, self.drivers, 'known are')}")
        return self.drivers.get(name)

    def _unknown(self, key: str, driver: type[DriverOptions], name: str) -> str:
        others = [other for other, options in self.drivers.items() if key in options.model_fields]
        if others:
            return f"driver {name!r} has no such key; {quoted(others)} has"
        return unknown_key(key, [*MasterKeys.model_fields, *driver.model_fields])

    def _table(self, value: object, path: KeyPath) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return value
        self._blame(path, f"expected a table, got {show(value)}")
        return None

    def _validate(self, model: type[SomeSettings], table: dict[str, Any], path: KeyPath) -> SomeSettings | None:
        try:
            return model.model_validate(table, context={"folder": self.folder})
        except ValidationError as error:
            self.mistakes += (Mistake((*path, *at), text) for at, text in in_words(error, model, table))
            return None

    def _blame(self, path: KeyPath, text: str) -> None:
        self.mistakes.append(Mistake(path, text))


def _oversized(value: object, path: KeyPath) -> Iterator[Mistake]:
    """Whole numbers that TOML does not have, though Python reads them."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _oversized(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _oversized(item, (*path, i))
    elif isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        yield Mistake(path, f"{show(value)} does not fit 64 bits")
