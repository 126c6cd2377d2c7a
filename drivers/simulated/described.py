"""An instrument made from the description of its heads: what a configuration says is sent to it and asked of it.

It answers every query that is described, knows the values that were last set, and nothing else: it neither settles nor
refuses. Where a learner looks for something, there is something to find: outputs depend smoothly on the parameters.
Everything else is as of any simulated instrument: real sockets and terminals, faults on command, a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from taskmaster.bus.fields import Field, Schema
from taskmaster.config.templates import Template
from taskmaster.drivers.instruments.commands import Commands, Line, Query
from taskmaster.drivers.instruments.course import setpoint_fields
from taskmaster.drivers.instruments.replies import Text
from taskmaster.drivers.simulated.actions import ActionLog, Kind
from taskmaster.drivers.simulated.answers import Matched, Reading, Unanswerable, Want, answer, resting, surface
from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.scpi import Answer, Instrument

__all__ = ["DescribedHead", "DescribedInstrument", "Description"]

#: Level of what is polled, between its bounds: nothing trips.
_MIDDLE = 0.5


class DescribedHead(msgspec.Struct, frozen=True):
    """One head, as its Master's table describes it."""

    master: str
    name: str
    driver: str
    #: the head's table over its Master's
    options: dict[str, Any]
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    #: interlock → where within its limits this head's value is, 0 … 1
    levels: dict[str, float] = {}

    @property
    def settable(self) -> tuple[Field, ...]:
        """What commands set: the parameters, or the setpoints of a programme."""
        return setpoint_fields(self.options) if self.options.get("programme") else self.parameters

    @property
    def commands(self) -> Commands:
        """What is sent and asked."""
        return Commands.from_options(self.options, Schema(self.outputs, self.master, "output"), self.driver)


class Description(msgspec.Struct, frozen=True):
    """One instrument: everything that is at one resource."""

    name: str
    heads: tuple[DescribedHead, ...]


@dataclass(frozen=True)
class _Entry:
    """One line that a head may send."""

    text: str
    read: Callable[[str], dict[str, Any] | None]
    head: int
    kind: Kind
    #: how the answer is read; None if there is none
    want: Want | None = None
    safe: bool = False
    #: the parameter whose present value is asked for
    of: str = ""
    #: between 0 and 1, where in its limits the answer is; None: as the parameters have it
    level: float | None = None
    #: it is only looked at: what it asks for is as it is
    watches: bool = False


class DescribedInstrument(Instrument):
    """Answers as its description says."""

    def __init__(self, description: Description, clock: Clock, log: ActionLog) -> None:
        self._heads = description.heads
        commands = [head.commands for head in self._heads]
        self._settable = [head.settable for head in self._heads]
        self._parameters = [{field.name: field for field in fields} for fields in self._settable]
        self._rest = [_at_rest(fields, told) for fields, told in zip(self._settable, commands)]
        self._constants = [dict(told.values) for told in commands]
        self._entries = [entry for i, told in enumerate(commands) for entry in _entries(i, self._heads, told)]
        identity = _identity(description, commands[0])
        super().__init__(description.name, identity, clock, log)
        connection = commands[0].connection
        self.hears = connection["write_terminator"] or b"\n"
        self.says = connection["read_terminator"] or b"\n"

    # -- state --------------------------------------------------------------------------------------------------------

    def power_on(self, now: float) -> None:
        self._set = [dict(rest) for rest in self._rest]

    def settings(self) -> dict[str, float]:
        return {name: value for head in range(len(self._heads)) for name, value in self._numbers(head).items()}

    def _numbers(self, head: int) -> dict[str, float]:
        """How a head is set, as far as that is numbers."""
        values = self._set[head].items()
        return {name: float(value) for name, value in values if isinstance(value, (int, float))}

    # -- being told ---------------------------------------------------------------------------------------------------

    def execute(self, line: bytes) -> Answer:
        text = line.decode("utf-8", "replace")
        found = [(entry, values) for entry in self._entries if (values := entry.read(text)) is not None]
        if not found:
            self.log.counts["(undefined)"] += 1
            return None
        first = found[0][0]
        self.log.counts[first.text] += 1
        for entry, values in found:
            known = self._parameters[entry.head]
            self._set[entry.head] |= {name: value for name, value in values.items() if name in known}
        if first.kind != "query":
            arguments = tuple(float(v) for v in found[0][1].values() if isinstance(v, (int, float)))
            now = self.clock.now()
            self.log.add(
                self.clock.real(), now, first.kind, first.text, arguments,
                self._numbers(first.head) if first.kind == "measure" else None, safe=first.safe,
            )  # fmt: skip
        asked = [(entry, values) for entry, values in found if entry.want is not None]
        return self._answer(text, asked) if asked else None

    def _answer(self, text: str, asked: Sequence[tuple[_Entry, dict[str, Any]]]) -> bytes:
        values: dict[str, Any] = {}
        for entry, given in asked:
            values |= {**self._constants[entry.head], **self._set[entry.head], **given}
        entries = [entry for entry, _ in asked]
        present = next((self._set[entry.head][entry.of] for entry in entries if entry.of), None)
        if present is not None:
            entries = [entry for entry in entries if not entry.watches]
        wants = [entry.want for entry in entries if entry.want is not None]
        try:
            return answer(wants, values, self._level(text, entries), present)
        except Unanswerable as error:
            # Whoever reads it says what was received instead: so this is heard.
            return f"SIMULATOR: {error}".encode()

    def _level(self, text: str, entries: Sequence[_Entry]) -> float:
        """Outputs follow the parameters; what is watched only is where it does not trip."""
        if all(entry.level is not None or entry.watches for entry in entries):
            return next((entry.level for entry in entries if entry.level is not None), _MIDDLE)
        head = next(entry.head for entry in entries if entry.level is None)
        return surface(text.partition(" ")[0], self._settable[head], self._set[head])


def _at_rest(parameters: Sequence[Field], commands: Commands) -> dict[str, Any]:
    starts = {name: ramp.start for name, ramp in commands.ramps.items()}
    return {field.name: resting(field, starts.get(field.name)) for field in parameters}


def _identity(description: Description, commands: Commands) -> str:
    head = description.heads[0]
    if commands.identify is None:
        return ""
    want = _who(head, commands)
    try:
        return answer([want], {}, _MIDDLE).decode()
    except Unanswerable:
        return ""


def _who(head: DescribedHead, commands: Commands) -> Want:
    if commands.identity is not None:
        return Matched(commands.identity)
    name = f"{head.master}.{head.name}" if head.name else head.master
    return Reading(Field("identity", "str", choices=(f"SIMULATED,{name},0,0",)), Text())


def _entries(index: int, heads: Sequence[DescribedHead], commands: Commands) -> Iterator[_Entry]:
    """Everything that this head may send."""
    head = heads[index]
    constants = commands.values

    def told(lines: Sequence[Line], *, safe: bool = False) -> Iterator[_Entry]:
        for line in lines:
            said = Matched(line.answer) if line.answer is not None else None
            yield _Entry(
                line.template.text, line.template.reader(constants), index, "set", said, safe=safe, level=_MIDDLE
            )

    def asked(query: Query, want: Want, kind: Kind = "query", **more: Any) -> _Entry:
        template = query.line.template
        return _Entry(template.text, template.reader(constants), index, kind, want, **more)

    # What makes it safe comes first: the same line may be among those that set.
    yield from told(commands.safe, safe=True)
    yield from told(commands.open)
    yield from told(commands.set)
    if commands.identify is not None:
        yield asked(commands.identify, _who(head, commands), level=_MIDDLE)
    if commands.wait is not None:
        yield asked(commands.wait.query, Matched(commands.wait.until), level=_MIDDLE)
    if commands.errors is not None:
        yield asked(commands.errors.query, Matched(commands.errors.ok), level=_MIDDLE)
    outputs = {field.name: field for field in head.outputs}
    for name, query in commands.read.items():
        yield asked(query, Reading(outputs.get(name, Field(name, "any")), query.reply), "measure")
    for name, ramp in commands.ramps.items():
        if ramp.query is not None:
            yield asked(ramp.query, Reading(Field(name), ramp.query.reply), of=name)
    yield from _watched(index, heads, commands)
    if (watchdog := commands.watchdog) is not None:
        yield from told(watchdog.arm)
        yield from told(watchdog.disarm)
        yield from told([keep for keep in watchdog.keep if isinstance(keep, Line)])
        for keep in watchdog.keep:
            if isinstance(keep, Query):
                yield asked(keep, Reading(Field("watchdog", "str", choices=("1",)), keep.reply))


def _watched(index: int, heads: Sequence[DescribedHead], commands: Commands) -> Iterator[_Entry]:
    """Queries of interlocks and monitored values."""
    options = heads[index].options
    for name, interlock in (options.get("interlocks") or {}).items():
        equals = interlock.get("equals")
        parse = {"parse": "text"} if isinstance(equals, str) else {}
        query = commands.query({**interlock, **parse})
        choices = () if equals is None else (equals,)
        kind = {str: "str", bool: "any"}.get(type(equals), "float")
        field = Field(name, kind, min=interlock.get("min"), max=interlock.get("max"), choices=choices)
        yield _watch(index, query, field, commands, heads[index].levels.get(name, _MIDDLE))
    for name, monitor in (options.get("monitor") or {}).items():
        yield _watch(index, commands.query(monitor), Field(name, nan=True), commands, None)


def _watch(index: int, query: Query, field: Field, commands: Commands, level: float | None) -> _Entry:
    template: Template = query.line.template
    read = template.reader(commands.values)
    return _Entry(template.text, read, index, "query", Reading(field, query.reply), level=level, watches=True)
