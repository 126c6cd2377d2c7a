"""The keys of the instruments' drivers: `visa`, `serial`, `instrument` and `human`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field as PydanticField,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from taskmaster.bus.text import format_duration
from taskmaster.config import agreement
from taskmaster.config.arguments import unknown_places
from taskmaster.config.base import Settings, setting
from taskmaster.config.commands import CommandSettings
from taskmaster.config.heads import heads_of, is_simulated
from taskmaster.config.members import Arguments, Keywords, Steps, Target
from taskmaster.config.options import DriverOptions
from taskmaster.config.programme import ProgrammeSettings, SetpointSettings
from taskmaster.config.programme_agreement import of_programme, with_setpoints
from taskmaster.config.safety import (
    MethodInterlock,
    MethodMonitor,
    MethodWatchdog,
    QueryInterlock,
    QueryMonitor,
    ReconnectSettings,
)
from taskmaster.config.values import (
    Backend,
    Constant,
    Environment,
    ExistingFolder,
    FieldName,
    FunctionName,
    Label,
    Name,
    Regex,
    duration,
    show,
    size,
)

if TYPE_CHECKING:
    from taskmaster.config.lines import KeyPath
    from taskmaster.config.settings import DaemonSettings, MasterKeys

__all__ = [
    "HeadSettings",
    "HumanOptions",
    "InstrumentClassOptions",
    "InstrumentOptions",
    "SerialOptions",
    "VisaOptions",
]

Values = Mapping[FieldName, Constant]


class HeadSettings(Settings):
    """One head: what evaluates one task at a time. Its keys stand over those of its Master."""

    name: Name = setting("What it is called: `where = {head = …}`, `taskmaster heads`.", example="tip-1")
    resource: Annotated[str, PydanticField(min_length=1)] | None = setting(
        "Where it is reached. By default the Master's, with `shared`.", default=None
    )
    identity: Regex | None = setting("As the Master's, for this head.", default=None)
    capabilities: Annotated[tuple[Label, ...], PydanticField(strict=False)] = setting(
        "What it can do that others cannot, for tasks that ask for it.", default=()
    )
    values: Values = setting("Constants of this head, over those of the Master.", default={})


class InstrumentOptions(DriverOptions):
    """Keys that all drivers of instruments have."""

    #: Nothing is done twice to an instrument unless that is asked for.
    common_defaults: ClassVar[Mapping[str, Any]] = {"on_lost": "hold"}
    #: Nothing can be set to that, and few libraries look.
    takes_infinity: ClassVar[bool] = False
    #: Whether a head has to be told where its instrument is.
    needs_resource: ClassVar[bool] = False

    resource: Annotated[str, PydanticField(min_length=1)] | None = setting(
        "Where the instrument is reached, if it has a single head or `shared` ones; else each of `heads` has its own.",
        default=None,
    )
    identity: Regex | None = setting(
        "What the instrument has to say that it is, as a regular expression for the whole of it; asked at every "
        "connection, and another instrument is refused. By default anything.",
        default=None,
    )
    shared: bool = setting(
        "Whether all heads are parts of one instrument: one process serves them, and they take turns.", default=False
    )
    values: Values = setting(
        "Constants that commands may name as they name parameters, say the number of a channel; each of `heads` may "
        "have its own.",
        default={},
    )
    reconnect: ReconnectSettings = setting(
        "Pauses between attempts to reach an instrument that has gone.", default_factory=ReconnectSettings
    )
    quarantine_after: Annotated[int, PydanticField(ge=1)] = setting(
        "Failures of the connection in a row after which a head gets no more tasks until it is put back "
        "(`taskmaster heads`).",
        default=5,
    )
    deadman: Annotated[float, duration("1 s")] = setting(
        "Having heard nothing from the daemon for so long, a head goes to its safe state by itself. Longer than "
        "a restart of the daemon takes.",
        default=60.0,
        shown="60 s",
    )
    processes: Literal["here", "elsewhere"] = setting(
        "Where the heads' processes run: on the daemon's machine (`here`), or on the one that has the instruments, "
        "where `taskmaster worker` starts them (`elsewhere`).",
        default="here",
    )
    on_shutdown: Literal["safe", "continue"] = setting(
        "What becomes of a task under way when the daemon is stopped and its `grace` has passed: it is broken off and "
        "the head goes to its safe state (`safe`), or it goes on for as long as `deadman`, and the daemon takes it up "
        "when it is back (`continue`).",
        default="safe",
    )
    resume_within: Annotated[float, duration()] = setting(
        "A task that left a checkpoint goes on after an interruption that was no longer than this.",
        default=900.0,
        shown="15 min",
    )
    resume_policy: Literal["resume", "restart", "fail", "ask"] = setting(
        "What becomes of it after a longer one: it goes on all the same (`resume`), begins anew (`restart`), fails "
        "(`fail`), or is held for an operator (`ask`).",
        default="ask",
    )
    env: Environment = setting("Environment variables for the heads' processes, beside the daemon's own.", default={})
    programme: ProgrammeSettings | None = setting(
        "A task is a programme: `setpoints` over time. By default it is one setting of the parameters.", default=None
    )
    setpoints: Mapping[FieldName, SetpointSettings] = setting(
        "With `programme`: what the instrument is told, by name. What sets and reads speaks of these then, and not of "
        "parameters.",
        default={},
    )

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from agreement.of_heads(table, needs_resource=cls.needs_resource)
        yield from of_programme(table)
        if "max_attempts" in table and table.get("on_lost") != "retry":
            yield ("max_attempts",), "has no effect without on_lost = 'retry': a task of an instrument is started once"

    def misfits(self, daemon: DaemonSettings) -> Iterator[tuple[KeyPath, str]]:
        if self.deadman < daemon.lost_after:
            least, got = format_duration(daemon.lost_after), format_duration(self.deadman)
            yield ("deadman",), f"expected at least the daemon's lost_after = {least}, got {got}"

    def resources(self) -> Iterator[tuple[KeyPath, str]]:
        if self.processes == "elsewhere":
            return  # of other machines each may have its own of that name
        for i, head in enumerate(heads_of(self.model_dump(by_alias=True))):
            own = head["name"] and not self.shared
            if head["resource"] is not None and not self._is_simulated(head):
                yield (("heads", i, "resource") if own else ("resource",)), head["resource"]

    @staticmethod
    def _is_simulated(head: Mapping[str, Any]) -> bool:
        return False


# -- described by commands ---------------------------------------------------------------------------------------------


def _read_terminator(value: object) -> object:
    if isinstance(value, str) and len(value) <= 4 and value.isascii():
        return value
    raise ValueError(f'expected at most 4 ASCII characters, such as "\\r\\n", got {show(value)}')


Terminator = Annotated[str, BeforeValidator(_read_terminator)]
_SAME = "As the Master's, for this head."


class CommandHead(HeadSettings):
    """One head: what evaluates one task at a time. Its keys stand over those of its Master."""

    read_terminator: Terminator | None = setting(_SAME, default=None)
    write_terminator: Terminator | None = setting(_SAME, default=None)
    query_timeout: Annotated[float, duration("1 ms")] | None = setting(_SAME, default=None)
    write_timeout: Annotated[float, duration("1 ms")] | None = setting(_SAME, default=None)


class CommandOptions(InstrumentOptions):
    """Keys of drivers that speak to an instrument by commands."""

    needs_resource: ClassVar[bool] = True

    commands: CommandSettings = setting("What is sent and what is asked.", default_factory=CommandSettings)
    read_terminator: Terminator = setting("What ends an answer.", default="\n")
    write_terminator: Terminator = setting("What is added to each command.", default="\n")
    identify: str = setting("The query for the identity; empty where there is none.", default="*IDN?")
    query_timeout: Annotated[float, duration("1 ms")] = setting(
        "How long the answer to one query may take.", default=2.0, shown="2 s"
    )
    write_timeout: Annotated[float, duration("1 ms")] = setting(
        "How long the instrument may take to accept a command.", default=5.0, shown="5 s"
    )
    largest_answer: Annotated[int, size("1 kB")] = setting(
        "A longer answer counts as garbage.", default=128 * 2**20, shown="128 MiB"
    )
    interlocks: Mapping[Name, QueryInterlock] = setting("Values that must stay within bounds, by name.", default={})
    monitor: Mapping[FieldName, QueryMonitor] = setting("Values that are recorded, by name.", default={})

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from super().conflicts(table)
        yield from agreement.of_resources(table)
        yield from agreement.of_lines(table)
        yield from agreement.of_safety(table)
        yield from with_setpoints(agreement.of_commands, table)

    def completed(self, keys: MasterKeys) -> DriverOptions:
        read = {
            name: agreement.completed_reading(reading, keys.outputs[name])
            for name, reading in self.commands.read.items()
        }
        return self.model_copy(update={"commands": self.commands.model_copy(update={"read": read})})


Baud = Annotated[int, PydanticField(ge=50, le=4_000_000)]
DataBits = Literal[5, 6, 7, 8]
Parity = Literal["none", "even", "odd", "mark", "space"]


def _read_stop_bits(value: object) -> object:
    if isinstance(value, bool) or value not in (1, 1.5, 2):
        raise ValueError(f"expected 1, 1.5 or 2, got {show(value)}")
    return value


StopBits = Annotated[float, BeforeValidator(_read_stop_bits)]


class VisaHead(CommandHead):
    """One head: what evaluates one task at a time. Its keys stand over those of its Master."""

    backend: Backend | None = setting(_SAME, default=None)
    connect_timeout: Annotated[float, duration("1 ms")] | None = setting(_SAME, default=None)
    baud_rate: Baud | None = setting(_SAME, default=None)
    data_bits: DataBits | None = setting(_SAME, default=None)
    parity: Parity | None = setting(_SAME, default=None)
    stop_bits: StopBits | None = setting(_SAME, default=None)
    xonxoff: bool | None = setting(_SAME, default=None)
    rtscts: bool | None = setting(_SAME, default=None)
    dsrdtr: bool | None = setting(_SAME, default=None)


class VisaOptions(CommandOptions):
    """Keys of the driver `visa`: instruments on GPIB, USB, TCP/IP or a serial line, by PyVISA."""

    backend: Backend = setting(
        "Which VISA library: `@py` is PyVISA-py, `@ivi` the vendor's, a path that very file; `FILE.yaml@sim` is "
        "PyVISA-sim with the instruments that the file describes. Paths are relative to this file.",
        default="@py",
    )
    connect_timeout: Annotated[float, duration("1 ms")] = setting(
        "How long it may take to connect.", default=5.0, shown="5 s"
    )
    baud_rate: Baud | None = setting(
        "Of a serial line, a resource `ASRL…`: bits per second. By default this and the following are the VISA "
        "library's: 9600, 8 data bits, no parity, 1 stop bit, no flow control.",
        default=None,
    )
    data_bits: DataBits | None = setting("Of a serial line: data bits of a character.", default=None)
    parity: Parity | None = setting("Of a serial line: parity bit.", default=None)
    stop_bits: StopBits | None = setting("Of a serial line: stop bits, 1, 1.5 or 2.", default=None)
    xonxoff: bool | None = setting("Of a serial line: software flow control.", default=None)
    rtscts: bool | None = setting("Of a serial line: hardware flow control by RTS and CTS.", default=None)
    dsrdtr: bool | None = setting("Of a serial line: hardware flow control by DSR and DTR.", default=None)
    heads: Annotated[tuple[VisaHead, ...], PydanticField(strict=False)] = setting(
        "The heads, an array of tables. None: a single one, which has no name.", default=()
    )


class SerialHead(CommandHead):
    """One head: what evaluates one task at a time. Its keys stand over those of its Master."""

    baud_rate: Baud | None = setting(_SAME, default=None)
    data_bits: DataBits | None = setting(_SAME, default=None)
    parity: Parity | None = setting(_SAME, default=None)
    stop_bits: StopBits | None = setting(_SAME, default=None)
    xonxoff: bool | None = setting(_SAME, default=None)
    rtscts: bool | None = setting(_SAME, default=None)
    dsrdtr: bool | None = setting(_SAME, default=None)


class SerialOptions(CommandOptions):
    """Keys of the driver `serial`: instruments on a serial line; `resource` is the device, `/dev/serial/by-id/…`."""

    baud_rate: Baud = setting("Bits per second.", default=9600)
    data_bits: DataBits = setting("Data bits of a character.", default=8)
    parity: Parity = setting("Parity bit.", default="none")
    stop_bits: StopBits = setting("Stop bits: 1, 1.5 or 2.", default=1.0)
    xonxoff: bool = setting("Software flow control.", default=False)
    rtscts: bool = setting("Hardware flow control by RTS and CTS.", default=False)
    dsrdtr: bool = setting("Hardware flow control by DSR and DTR.", default=False)
    heads: Annotated[tuple[SerialHead, ...], PydanticField(strict=False)] = setting(
        "The heads, an array of tables. None: a single one, which has no name.", default=()
    )


# -- by a class --------------------------------------------------------------------------------------------------------


class ClassHead(HeadSettings):
    """One head: what evaluates one task at a time. Its keys stand over those of its Master."""

    args: Arguments | None = setting(_SAME, default=None)
    kwargs: Keywords | None = setting(_SAME, default=None)


class InstrumentClassOptions(InstrumentOptions):
    """Keys of the driver `instrument`: any Python class that controls one, of PyMeasure, QCoDeS, ophyd or your own."""

    # "class" is a keyword of Python's. The file, and whatever is made from it, have it as the user wrote it.
    class_: FunctionName = setting(
        "The class, as `module:Class`; its module is searched in `path` first.", alias="class", example="lab:Probe"
    )
    path: Annotated[tuple[ExistingFolder, ...], PydanticField(strict=False)] = setting(
        "Folders to import from, relative to this file.", default=(".",), validate_default=True
    )
    args: Arguments | None = setting(
        'What the class is called with; `"{resource}"` and `"{name}"` are those of the head; in two braces, that text. '
        "By default as its library has it: PyMeasure's instruments get the resource, QCoDeS' name and resource.",
        default=None,
    )
    kwargs: Keywords = setting(
        'What it is called with by keyword. Here and in `args`, `{ class = "module:Class", args = …, kwargs = … }` is '
        'an object of a class, and `{ object = "module:NAME" }` whatever has that name.',
        default={},
    )
    backend: Backend | None = setting(
        "The VISA library for an instrument of PyMeasure or QCoDeS, as of driver `visa`. By default PyVISA's choice.",
        default=None,
    )
    lost: Annotated[tuple[FunctionName, ...], PydanticField(strict=False)] = setting(
        "Exceptions that mean that the connection is lost, as `module:Class`, where a library has its own for that. "
        "Those of Python, PyVISA and pyserial are known.",
        default=(),
    )
    init: Steps = setting(
        "What is done at every connection: a table of properties and their values, the name of a method to call, a "
        "table `{ method = …, args = […], kwargs = {…} }`, or a list of such steps.",
        default=(),
    )
    set: Mapping[FieldName, Target] = setting(
        "Parameter → the property, parameter or method that sets it, in this order. A method with further arguments is "
        "a table as in `init`; the value comes before them.",
        default={},
    )
    call: Steps = setting(
        'Steps between `set` and `read`, as in `init`; among arguments, `{ parameter = "x" }` is the value of x.',
        default=(),
    )
    read: Mapping[FieldName, Target] = setting(
        "Output → the property, parameter or method that gives it; with arguments, a table as in `call`.", default={}
    )
    safe: Steps | None = setting(
        "Steps that bring the head to its safe state, as in `init`. By default as its library or class has it: "
        "`shutdown` of PyMeasure, `safe` of a class of one's own; `[]`: nothing.",
        default=None,
    )
    watchdog: MethodWatchdog | None = setting("The instrument's own watchdog, where it has one.", default=None)
    interlocks: Mapping[Name, MethodInterlock] = setting("Values that must stay within bounds, by name.", default={})
    monitor: Mapping[FieldName, MethodMonitor] = setting("Values that are recorded, by name.", default={})
    heads: Annotated[tuple[ClassHead, ...], PydanticField(strict=False)] = setting(
        "The heads, an array of tables. None: a single one, which has no name.", default=()
    )

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from super().conflicts(table)
        yield from with_setpoints(agreement.of_members, table)
        for path, keys in agreement.places(table):
            for key in ("args", "kwargs"):
                yield from unknown_places(keys.get(key), (*path, key))

    def importables(self) -> dict[str, str]:
        return {"class": self.class_}

    @staticmethod
    def _is_simulated(head: Mapping[str, Any]) -> bool:
        return is_simulated(head)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        if "class_" in dumped:
            dumped["class"] = dumped.pop("class_")
        return dumped


# -- by a person -------------------------------------------------------------------------------------------------------


class HumanOptions(DriverOptions):
    """Keys of the driver `human`: tasks are requests to people, who answer by `taskmaster answer`."""

    question: Annotated[str, PydanticField(min_length=1)] = setting(
        "What is to be done, for the person who does it; the values of the parameters are shown with it.",
        example="Weigh the sample and enter its mass.",
    )
    claim_expires: Annotated[float, duration("1 s")] = setting(
        "Who has taken a task and not answered it for so long leaves it to others.", default=1800.0, shown="30 min"
    )
    people: Annotated[int, PydanticField(ge=1)] = setting(
        "How many tasks can be taken at a time, by as many people.", default=1
    )

    @classmethod
    def conflicts(cls, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        if "timeout" in table:
            yield ("timeout",), "nobody stops a person, so driver 'human' has no timeout; claim_expires is its like"
        if not table.get("outputs"):
            yield ("outputs",), "are missing; an answer is checked against them, so declare what is to be entered"
