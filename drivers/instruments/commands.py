"""An instrument as its commands describe it: the tables of the configuration, made ready to be carried out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskmaster.bus.fields import Schema
from taskmaster.config.templates import Template
from taskmaster.drivers.instruments.replies import Reply, Text, reply_for

__all__ = ["Commands", "ErrorQueue", "Line", "Query", "Ramp", "Wait", "Watchdog"]

_NO_VALUES: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Line:
    """One message to the instrument, and how long to wait after it, in seconds."""

    template: Template
    delay: float = 0.0

    @property
    def fields(self) -> tuple[str, ...]:
        """The parameters in it."""
        return self.template.fields

    def format(self, values: Mapping[str, Any]) -> bytes:
        """The message with values in it. Raises ValueError, naming the parameter, for what cannot be sent."""
        return self.template.format(values).encode("ascii")


@dataclass(frozen=True)
class Query:
    """A question, and how its answer is read."""

    line: Line
    reply: Reply
    #: seconds for the answer; None: the head's own
    timeout: float | None = None
    #: asking changes something: it must not be asked twice for a task
    acts: bool = False


@dataclass(frozen=True)
class Wait:
    """A query that is repeated every so many seconds until its answer matches, or its time is up."""

    query: Query
    until: re.Pattern[str]
    timeout: float
    every: float


@dataclass(frozen=True)
class ErrorQueue:
    """The query for the instrument's oldest error, and what it answers where there is none."""

    query: Query
    ok: re.Pattern[str]


@dataclass(frozen=True)
class Ramp:
    """How fast a parameter may be set: by at most `step`, in its unit, every so many seconds."""

    parameter: str
    step: float
    every: float
    #: asks for the present value, where the last one that was set is not known
    query: Query | None = None
    #: the value after `open`, where it cannot be asked for
    initial: float | None = None


@dataclass(frozen=True)
class Watchdog:
    """The instrument's own: what switches it on, and what is sent at least every so many seconds to keep it quiet."""

    arm: tuple[Line, ...]
    every: float
    keep: Line | None = None


@dataclass(frozen=True)
class Commands:
    """All that a head of commands does, and how it is reached."""

    resource: str
    driver: str = "visa"
    #: matches what the instrument says it is, None: anything does
    identity: re.Pattern[str] | None = None
    #: None where the instrument cannot say
    identify: Query | None = None
    open: tuple[Line, ...] = ()
    set: tuple[Line, ...] = ()
    wait: tuple[Wait, ...] = ()
    read: Mapping[str, Query] = field(default_factory=dict)
    safe: tuple[Line, ...] = ()
    errors: ErrorQueue | None = None
    watchdog: Watchdog | None = None
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    #: what stands in templates beside parameters, such as the channel of this head
    values: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0
    #: of the transport, by its own names
    connection: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], outputs: Schema | None = None) -> Commands:
        """From a head's table laid over its Master's, validated.

        Its keys: `resource`, `driver`, `identity`, `timeout`, `connect_timeout`, `backend`, `read_terminator`,
        `write_terminator`, those of a serial line, `values`, `commands` and `ramps`; durations are in seconds.
        """
        return _Reader(options, outputs).commands()


#: Options that the transports take as they are; the last ones are a serial line's.
_CONNECTION = ("backend", "connect_timeout", "write_timeout")
_LINE = ("baud_rate", "data_bits", "parity", "stop_bits", "xonxoff", "rtscts", "dsrdtr")


class _Reader:
    """Reads one head's options."""

    def __init__(self, options: Mapping[str, Any], outputs: Schema | None) -> None:
        self._options = options
        self._commands: Mapping[str, Any] = options.get("commands") or {}
        self._outputs = {declared.name: declared for declared in outputs.fields} if outputs else {}
        self._write_terminator: str = options.get("write_terminator", "\n")
        self._delay: float = self._commands.get("delay") or options.get("delay") or 0.0

    def commands(self) -> Commands:
        options, commands = self._options, self._commands
        identity = options.get("identity")
        question = options.get("identify", "*IDN?")
        return Commands(
            resource=options["resource"],
            driver=options.get("driver", "visa"),
            identity=re.compile(identity) if identity else None,
            identify=self._query(question, Text()) if question else None,
            open=self._lines(commands.get("open")),
            set=self._lines(commands.get("set")),
            wait=tuple(map(self._wait, _several(commands.get("wait")))),
            read={name: self._reading(name, spec) for name, spec in (commands.get("read") or {}).items()},
            safe=self._lines(commands.get("safe")),
            errors=self._errors(commands.get("errors")),
            watchdog=self._watchdog(options.get("watchdog") or commands.get("watchdog")),
            ramps={name: self._ramp(name, spec) for name, spec in self._ramps()},
            values=dict(options.get("values") or {}),
            timeout=options.get("timeout", 5.0),
            connection=self._connection(),
        )

    def _connection(self) -> dict[str, Any]:
        options = self._options
        connection = {name: options[name] for name in _CONNECTION if options.get(name) is not None}
        connection["line"] = {name: options[name] for name in _LINE if options.get(name) is not None}
        connection["read_terminator"] = options.get("read_terminator", "\n").encode()
        connection["write_terminator"] = self._write_terminator.encode()
        return connection

    def _line(self, spec: Any) -> Line:
        if isinstance(spec, str):
            return Line(self._template(spec), self._delay)
        return Line(self._template(spec["send"]), spec.get("delay", self._delay))

    def _template(self, text: str) -> Template:
        return Template(text, self._write_terminator)

    def _lines(self, specs: Any) -> tuple[Line, ...]:
        return tuple(map(self._line, _several(specs)))

    def _query(self, spec: Any, reply: Reply | None = None) -> Query:
        table: Mapping[str, Any] = {"query": spec} if isinstance(spec, str) else spec
        return Query(
            Line(self._template(table["query"])),
            reply or reply_for(table, None),
            table.get("timeout"),
            bool(table.get("acts", False)),
        )

    def _reading(self, name: str, spec: Any) -> Query:
        table: Mapping[str, Any] = {"query": spec} if isinstance(spec, str) else spec
        return self._query(spec, reply_for(table, self._outputs.get(name)))

    def _wait(self, spec: Mapping[str, Any]) -> Wait:
        query = Query(Line(self._template(spec["query"])), Text())
        return Wait(query, re.compile(spec["until"]), spec.get("timeout", 10.0), spec.get("every", 0.05))

    def _errors(self, spec: Mapping[str, Any] | None) -> ErrorQueue | None:
        return ErrorQueue(self._query(spec["query"], Text()), re.compile(spec["ok"])) if spec else None

    def _watchdog(self, spec: Any) -> Watchdog | None:
        if not spec:
            return None
        if not isinstance(spec, Mapping):
            return Watchdog(self._lines(spec), 1.0)
        keep = spec.get("keep")
        return Watchdog(self._lines(spec["arm"]), spec.get("every", 1.0), self._line(keep) if keep else None)

    def _ramps(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        ramps = self._options.get("ramps") or {}
        if isinstance(ramps, Mapping):
            return list(ramps.items())
        return [(spec["parameter"], spec) for spec in ramps]

    def _ramp(self, parameter: str, spec: Mapping[str, Any]) -> Ramp:
        query = spec.get("read")
        return Ramp(parameter, spec["step"], spec["every"], self._query(query) if query else None, spec.get("initial"))


def _several(specs: Any) -> Sequence[Any]:
    """None, one or several, as a sequence."""
    if specs is None:
        return ()
    return [specs] if isinstance(specs, (str, Mapping)) else list(specs)
