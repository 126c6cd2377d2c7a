"""Reads a configuration file into settings, or says everything that is wrong with it at once.

What is right by itself is read although something else is not: so the functions that a file names can be looked for
(`taskmaster check`) before its other mistakes are mended.
"""

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
from taskmaster.bus.text import did_you_mean_or, nearest
from taskmaster.config.base import declared
from taskmaster.config.heads import normal_resource
from taskmaster.config.lines import KeyPath, Lines, locate
from taskmaster.config.mistakes import Mistake, Placed, in_words, placed, quoted, table_with, unknown_key
from taskmaster.config.operations import OPERATIONS, AlarmSettings, MetricsSettings, RetentionSettings
from taskmaster.config.settings import (
    BUILTIN_DRIVERS,
    MASTER_NAME,
    DaemonSettings,
    DriverOptions,
    FunctionOptions,
    MasterKeys,
    MasterSettings,
    Settings,
)
from taskmaster.config.values import MAX_INTEGER, show

__all__ = ["Config", "Evaluator", "Reading", "load", "loads", "read"]

Drivers = Mapping[str, type[DriverOptions]]
SomeSettings = TypeVar("SomeSettings", bound=Settings)

_SECTIONS = ("daemon", *OPERATIONS, "masters")

#: What people call it → the driver.
_MEANT_DRIVERS = {
    **dict.fromkeys(("gpib", "hislip", "pyvisa", "scpi", "socket", "tcp", "tcpip", "usb", "usbtmc", "vxi11"), "visa"),
    **dict.fromkeys(("pyserial", "rs232", "rs485", "tty", "uart"), "serial"),
    **dict.fromkeys(("class", "ophyd", "ophyd-async", "pymeasure", "python", "qcodes"), "instrument"),
    **dict.fromkeys(("hand", "manual", "person"), "human"),
}


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. ``path`` is the file it came from, absolute; None if it came as text."""

    path: Path | None
    daemon: DaemonSettings
    masters: Mapping[str, MasterSettings]
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)


@dataclass(frozen=True, slots=True)
class Evaluator:
    """What a Master's workers evaluate, as far as its table says."""

    driver: str
    options: DriverOptions
    #: as the file has it, where that is a slip for `driver`, too
    written: str
    #: names, in the order of the file
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says, and what is wrong with it: ``config`` is None if anything is."""

    config: Config | None
    mistakes: tuple[Placed, ...]
    #: of the Masters whose driver's keys are right, whatever else is wrong
    evaluators: Mapping[str, Evaluator]
    lines: Lines


class _Unreadable(Exception):
    """Nothing in the file can be read; why is the only argument, a :class:`Placed`."""


def load(path: str | Path, drivers: Drivers = BUILTIN_DRIVERS) -> Config:
    """Read the file at ``path``; ``drivers`` are those a Master may name, with the models of their keys.

    Raises ConfigError with a line ``file:line: key: what is wrong`` for each mistake.
    """
    return _or_raise(read(path, drivers))


def loads(
    text: str, name: str = "<text>", folder: str | Path | None = None, drivers: Drivers = BUILTIN_DRIVERS
) -> Config:
    """Read a configuration from ``text``.

    ``name`` stands for the file in messages; relative paths are relative to ``folder``, by default the current one.
    Raises ConfigError as :func:`load` does.
    """
    try:
        return _or_raise(_reading(text, name, None, Path(folder or ".").absolute(), drivers))
    except _Unreadable as error:
        raise ConfigError(str(error)) from None


def read(path: str | Path, drivers: Drivers = BUILTIN_DRIVERS) -> Reading:
    """Read what can be read of the file at ``path``; raises nothing for what is wrong with it."""
    absolute = Path(path).absolute()
    try:
        return _reading(_read(Path(path)), str(path), absolute, absolute.parent, drivers)
    except _Unreadable as error:
        return Reading(None, error.args, {}, Lines({}))


def _or_raise(reading: Reading) -> Config:
    if reading.config is None:
        raise ConfigError("\n".join(map(str, reading.mistakes)))
    return reading.config


def _reading(text: str, name: str, path: Path | None, folder: Path, drivers: Drivers) -> Reading:
    reader = _Reader(folder, drivers)
    daemon, masters = reader.read(_parse(text, name))
    config = None if reader.mistakes or daemon is None else Config(path, daemon, masters, **reader.tables)
    lines = locate(text)
    return Reading(config, placed(reader.mistakes, lines, name), reader.evaluators, lines)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _Unreadable(_syntax_error(str(error), text, name)) from None
    except RecursionError:
        raise _Unreadable(Placed(name, None, "", "lists or tables are nested too deeply")) from None
    except ValueError:  # int() refuses thousands of digits, and tomllib lets that through
        raise _Unreadable(Placed(name, None, "", "not valid TOML: a number has too many digits")) from None


# -- the file -------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        reason = "there is no such file; `taskmaster init` writes one to start from"
    except IsADirectoryError:
        reason = "is a folder; name the TOML file in it"
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    else:
        return _decoded(content, str(path))
    raise _Unreadable(Placed(str(path), None, "", reason))


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Unreadable(Placed(name, line, "", "not UTF-8 text; save the file in that encoding")) from None


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


def _syntax_error(message: str, text: str, name: str) -> Placed:
    """tomllib's message, with its line."""
    place = _PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.count("\n") + (not text.endswith("\n"))
    column = f" (column {place[2]})" if place and place[2] else " (at the end of the file)" if place else ""
    what = _PLACE.sub("", message)
    what = _KEYS.sub(lambda match: match[1] + ".".join(ast.literal_eval(match[2])), what)
    what = _MEANINGS.get(what, f"{what[:1].lower()}{what[1:]}")
    return Placed(name, line, "", f"not valid TOML: {what}{column}")


# -- what it says ---------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Validates a document part by part and gathers the mistakes."""

    folder: Path
    drivers: Drivers
    mistakes: list[Mistake] = field(default_factory=list)
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    #: the sections of `OPERATIONS`
    tables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, options in self.drivers.items():
            taken = declared(MasterKeys).keys() & declared(options).keys()
            if taken:
                raise TypeError(f"driver {name!r} declares {quoted(sorted(taken))}, which every Master has")

    def read(self, document: dict[str, Any]) -> tuple[DaemonSettings | None, dict[str, MasterSettings]]:
        self.mistakes += (Mistake((key,), unknown_key(key, _SECTIONS)) for key in document if key not in _SECTIONS)
        self.mistakes += _oversized(document, ())
        daemon = self._table(document.get("daemon", {}), ("daemon",))
        settings = None if daemon is None else self._validate(DaemonSettings, daemon, ("daemon",))
        for name, model in OPERATIONS.items():
            table = self._table(document.get(name, {}), (name,))
            self.tables[name] = None if table is None else self._validate(model, table, (name,))
        masters = self._table(document.get("masters", {}), ("masters",))
        if masters == {}:
            self._blame(("masters",), "no Master is declared; add a table [masters.NAME]")
        read = {name: self._master(name, table) for name, table in (masters or {}).items()}
        if settings is None:
            return None, {}
        complete = {name: parts for name, parts in read.items() if parts is not None}
        for name, (_, options) in complete.items():
            for key_path, text in options.misfits(settings):
                self._blame(("masters", name, *key_path), text)
        self._one_master_each({name: options for name, (_, options) in complete.items()})
        if self.mistakes:
            return None, {}
        return settings, {name: MasterSettings.assemble(name, *parts, settings) for name, parts in complete.items()}

    def _one_master_each(self, masters: Mapping[str, DriverOptions]) -> None:
        first: dict[str, str] = {}
        for name, options in masters.items():
            for key_path, resource in options.resources():
                other = first.setdefault(normal_resource(resource), name)
                if other != name:
                    text = f"{show(resource)} is that of Master {other!r}, too, and an instrument is one Master's alone"
                    self._blame(("masters", name, *key_path), f"{text}; declare it in one of them")

    def _master(self, name: str, table: object) -> tuple[MasterKeys, DriverOptions] | None:
        path = ("masters", name)
        if not MASTER_NAME.fullmatch(name):
            self._blame(path, "a Master's name is a letter, then letters, digits, '_' or '-', at most 64 in all")
        keys = self._table(table, path)
        if keys is None:
            return None
        common = {key: value for key, value in keys.items() if key in declared(MasterKeys)}
        own = {key: value for key, value in keys.items() if key not in common}
        given = keys.get("driver")
        driver = self._driver(given, path)
        defaults = self.drivers[driver].common_defaults if driver else {}
        settings = self._validate(MasterKeys, {**defaults, **common}, path)
        if driver is None:
            self._function_keys(own, path)
            return None
        options = self._options(driver, own, path)
        for key_path, text in self.drivers[driver].conflicts(keys):
            self._blame((*path, *key_path), text)
        if options is not None and options.evaluates:
            parameters = keys.get("parameters")
            names = tuple(parameters) if isinstance(parameters, dict) else ()
            self.evaluators[name] = Evaluator(driver, options, str(given), names)
        return None if settings is None or options is None or driver != given else (settings, options)

    def _driver(self, name: object, path: KeyPath) -> str | None:
        """The driver of this name; of one that is misspelt, the one that is meant, as its keys are to be read, too."""
        if not isinstance(name, str):
            return None  # said when the common keys are validated
        if name in self.drivers:
            return name
        meant = _MEANT_DRIVERS.get(name.lower(), name.lower())
        self._blame((*path, "driver"), f"unknown driver {name!r}{did_you_mean_or(meant, self.drivers, 'known are')}")
        return nearest(meant, self.drivers)

    def _options(self, name: str, table: dict[str, Any], path: KeyPath) -> DriverOptions | None:
        driver = self.drivers[name]
        known = {key: value for key, value in table.items() if key in declared(driver)}
        for key in table:
            if key not in known:
                self._blame((*path, key), self._unknown(key, driver, name))
        return self._validate(driver, known, path)

    def _function_keys(self, table: dict[str, Any], path: KeyPath) -> None:
        """Of a Master whose driver nobody knows: the keys that most have are right, or not, all the same."""
        given = {key: value for key, value in table.items() if key in declared(FunctionOptions)}
        self._validate(FunctionOptions, given, path, missing=False)

    def _unknown(self, key: str, driver: type[DriverOptions], name: str) -> str:
        if table := table_with(driver, key):
            return f"stands in the table {table!r}: write {table}.{key}"
        others = [other for other, options in self.drivers.items() if key in declared(options)]
        if others:
            return f"driver {name!r} has no such key; {quoted(others)} {'has' if len(others) == 1 else 'have'}"
        return unknown_key(key, [*declared(MasterKeys), *declared(driver)])

    def _table(self, value: object, path: KeyPath) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return value
        self._blame(path, f"expected a table, got {show(value)}")
        return None

    def _validate(
        self, model: type[SomeSettings], table: dict[str, Any], path: KeyPath, *, missing: bool = True
    ) -> SomeSettings | None:
        """The table as ``model`` has it, or None and its mistakes; ``missing``: what it lacks is one."""
        try:
            return model.model_validate(table, context={"folder": self.folder})
        except ValidationError as error:
            found = (Mistake((*path, *at), text) for at, text in in_words(error, model, table, missing=missing))
            self.mistakes += found
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
