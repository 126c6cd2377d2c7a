"""An instrument as its commands describe it: the tables of the configuration, made ready to be carried out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from taskmaster.bus.fields import Schema
from taskmaster.config.templates import Template
from taskmaster.drivers.instruments.replies import Number, Reply, Text, reply_for

__all__ = ["Commands", "ErrorQueue", "Line", "Query", "Ramp", "Wait", "Watchdog"]


#: How instruments say that there is no error: SCPI's number 0, or words.
_NONE = re.compile(r"[+-]?0+\b.*|\W*(no[ _]?errors?|none|ok)\W*", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One message to the instrument, and how long to wait after it, in seconds."""

    template: Template
    delay: float = 0.0
    #: what the instrument answers to it when all is well; None: it does not answer
    answer: re.Pattern[str] | None = None
    #: the parameters in it
    fields: tuple[str, ...] = field(init=False, repr=False, compare=False)
    #: the message itself, if there are none
    fixed: bytes | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", self.template.fields)
        object.__setattr__(self, "fixed", None if self.fields else self.template.format({}).encode("ascii"))

    def format(self, values: Mapping[str, Any]) -> bytes:
        """The message with values in it. Raises ValueError, naming the parameter, for what cannot be sent."""
        return self.template.format(values).encode("ascii") if self.fixed is None else self.fixed


@dataclass(frozen=True)
class Query:
    """A question, and how its answer is read."""

    line: Line
    reply: Reply


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

    def mistaken(self, said: str) -> str:
        """Why ``ok`` cannot be what is meant, where it takes for an error what means that there is none; else empty."""
        if self.ok.fullmatch(said) or _NONE.fullmatch(said) is None:
            return ""
        return f"`errors.ok` = {self.ok.pattern!r} does not match {said!r}; correct it if that means that there is none"


@dataclass(frozen=True)
class Ramp:
    """How fast a parameter may be set: by at most `step`, in its unit, every so many seconds."""

    parameter: str
    step: float
    every: float
    #: asks for the present value, where the last one that was set is not known
    query: Query | None = None
    #: the value after `open`, where it cannot be asked for
    start: float | None = None


@dataclass(frozen=True)
class Watchdog:
    """The instrument's own: what switches it on, what keeps it quiet for some seconds, what switches it off."""

    arm: tuple[Line, ...]
    every: float
    keep: tuple[Line | Query, ...]
    disarm: tuple[Line, ...] = ()
    #: anything that is said to it keeps it quiet
    any_command: bool = False


@dataclass(frozen=True)
class Commands:
    """All that a head of commands does, and how it is reached."""

    resource: str
    driver: str = "visa"
    #: matches what the instrument says it is; None: anything does
    identity: re.Pattern[str] | None = None
    #: None where the instrument cannot say
    identify: Query | None = None
    open: tuple[Line, ...] = ()
    set: tuple[Line, ...] = ()
    wait: Wait | None = None
    read: Mapping[str, Query] = field(default_factory=dict)
    safe: tuple[Line, ...] = ()
    errors: ErrorQueue | None = None
    #: what interlocks and monitored values ask
    watched: tuple[Query, ...] = ()
    watchdog: Watchdog | None = None
    ramps: Mapping[str, Ramp] = field(default_factory=dict)
    #: what stands in templates beside parameters, such as the channel of this head
    values: Mapping[str, Any] = field(default_factory=dict)
    #: seconds for an answer
    timeout: float = 2.0
    #: of the transport, by its own names
    connection: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], outputs: Schema | None = None, driver: str = "visa") -> Commands:
        """From a head's table laid over its Master's, validated: the keys of the ``driver`` `visa` or `serial`.

        Durations are in seconds. A `resource` that is a path is a serial line with either.
        """
        return _Reader(options, outputs, driver).commands()

    @cached_property
    def questions(self) -> tuple[Query, ...]:
        """What is asked for a task and has parameters in it."""
        waiting = () if self.wait is None else (self.wait.query,)
        return tuple(query for query in (*waiting, *self.read.values()) if query.line.fields)

    @cached_property
    def confirmation(self) -> Query | None:
        """A question that is the same for every task: its answer, whatever it is, shows that what was sent before it
        has arrived. None where no such question is known.

        One that is not meant to start a measurement is preferred.
        """
        waiting = () if self.wait is None else (self.wait.query,)
        reading = (query for query in self.read.values() if not query.reply.is_block)
        for query in (self.identify, *waiting, *self.watched, *reading):
            if query is not None and self.values.keys() >= set(query.line.fields):
                return Query(query.line, Text())
        return None

    @property
    def shows_safe(self) -> bool:
        """Whether it can be seen that the `safe` commands have arrived."""
        answered = not self.safe or self.safe[-1].answer is not None
        return answered or self.errors is not None or self.confirmation is not None

    def query(self, table: Mapping[str, Any]) -> Query:
        """Of an interlock or a monitored value: `query`, with `parse` (`number` or `text`) and `pattern`."""
        terminator = self.connection.get("write_terminator", b"\n").decode()
        reading = {key: table[key] for key in ("parse", "pattern") if key in table}
        return Query(Line(Template(table["query"], terminator)), reply_for(reading, None))


#: Options that the transports take as they are, and those of a serial line.
_CONNECTION = ("backend", "connect_timeout", "write_timeout")
_LINE = ("baud_rate", "data_bits", "parity", "stop_bits", "xonxoff", "rtscts", "dsrdtr")


class _Reader:
    """Reads one head's options."""

    def __init__(self, options: Mapping[str, Any], outputs: Schema | None, driver: str) -> None:
        self._options = options
        self._driver = driver
        self._commands: Mapping[str, Any] = options.get("commands") or {}
        self._outputs = {declared.name: declared for declared in outputs.fields} if outputs else {}
        self._write_terminator: str = options.get("write_terminator", "\n")
        self._delay: float = self._commands.get("delay") or 0.0

    def commands(self) -> Commands:
        options, commands = self._options, self._commands
        identity, question = options.get("identity"), options.get("identify", "*IDN?")
        return Commands(
            resource=options["resource"],
            driver="serial" if options["resource"].startswith("/") else self._driver,
            identity=re.compile(identity) if identity else None,
            identify=self._query(question, Text()) if question else None,
            open=self._lines(commands.get("open")),
            set=self._lines(commands.get("set")),
            wait=self._wait(commands.get("wait")),
            read={name: self._reading(name, spec) for name, spec in (commands.get("read") or {}).items()},
            safe=self._lines(commands.get("safe")),
            errors=self._errors(commands.get("errors")),
            watched=self._watched(),
            watchdog=self._watchdog(commands.get("watchdog")),
            ramps={name: self._ramp(name, spec) for name, spec in (commands.get("ramps") or {}).items()},
            values=dict(options.get("values") or {}),
            timeout=options.get("query_timeout", 2.0),
            connection=self._connection(),
        )

    def _connection(self) -> dict[str, Any]:
        options = self._options
        connection = {name: options[name] for name in _CONNECTION if options.get(name) is not None}
        if options.get("largest_answer") is not None:
            connection["largest"] = options["largest_answer"]
        connection["line"] = {name: options[name] for name in _LINE if options.get(name) is not None}
        connection["read_terminator"] = options.get("read_terminator", "\n").encode()
        connection["write_terminator"] = self._write_terminator.encode()
        return connection

    def _line(self, spec: str | Mapping[str, Any]) -> Line:
        table: Mapping[str, Any] = {"command": spec} if isinstance(spec, str) else spec
        answer = table.get("answer")
        template = Template(table["command"], self._write_terminator)
        return Line(template, self._delay, None if answer is None else re.compile(answer))

    def _lines(self, specs: Sequence[str | Mapping[str, Any]] | None) -> tuple[Line, ...]:
        return tuple(map(self._line, specs or ()))

    def _query(self, text: str, reply: Reply) -> Query:
        return Query(Line(Template(text, self._write_terminator)), reply)

    def _reading(self, name: str, spec: str | Mapping[str, Any]) -> Query:
        table: Mapping[str, Any] = {"query": spec} if isinstance(spec, str) else spec
        return self._query(table["query"], reply_for(table, self._outputs.get(name)))

    def _wait(self, spec: Mapping[str, Any] | None) -> Wait | None:
        if spec is None:
            return None
        until = re.compile(spec.get("until", "1"))
        return Wait(self._query(spec["query"], Text()), until, spec.get("timeout", 10.0), spec.get("every", 0.05))

    def _errors(self, spec: Mapping[str, Any] | None) -> ErrorQueue | None:
        if spec is None:
            return None
        return ErrorQueue(self._query(spec["query"], Text()), re.compile(spec.get("ok", "[+-]?0(,.*)?")))

    def _watched(self) -> tuple[Query, ...]:
        tables = [*(self._options.get("interlocks") or {}).values(), *(self._options.get("monitor") or {}).values()]
        # What is asked of one head alone, the others may not know.
        return tuple(self._query(table["query"], Text()) for table in tables if not table.get("head"))

    def _watchdog(self, spec: Mapping[str, Any] | None) -> Watchdog | None:
        if spec is None:
            return None
        keep = [spec["keep"]] if spec.get("keep") else spec["arm"]
        return Watchdog(
            self._lines(spec["arm"]),
            spec.get("every", 1.0),
            tuple(map(self._kept, keep)),
            self._lines(spec.get("disarm")),
            bool(spec.get("any_command")),
        )

    def _kept(self, spec: str | Mapping[str, Any]) -> Line | Query:
        """What keeps a watchdog quiet; a query is known by its question mark."""
        return self._query(spec, Text()) if isinstance(spec, str) and "?" in spec else self._line(spec)

    def _ramp(self, parameter: str, spec: Mapping[str, Any]) -> Ramp:
        question = spec.get("query")
        present = self._query(question, Number()) if question else None
        return Ramp(parameter, spec["step"], spec.get("every", 0.1), present, spec.get("start"))
