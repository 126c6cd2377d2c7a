"""Whether the tables of an instrument's Master agree: its commands with its parameters and outputs, its heads with each
other.

These look at the Master's table as the file has it, whatever else is wrong with it: what cannot be read by itself is
somebody else's complaint, and passed over. All of them yield (path of the key to blame within the table, message).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from taskmaster.bus.text import did_you_mean, did_you_mean_or, nearest
from taskmaster.config.commands import CommandSettings, Parse, ReadSettings
from taskmaster.config.heads import VISA_CLASSES, normal_resource
from taskmaster.config.lines import KeyPath
from taskmaster.config.members import parameters_of
from taskmaster.config.parameters import OutputSettings, ParameterSettings
from taskmaster.config.templates import ARRAY, SEPARATORS, Template, unsendable
from taskmaster.config.values import show

__all__ = [
    "completed_reading",
    "of_commands",
    "of_heads",
    "of_lines",
    "of_members",
    "of_resources",
    "of_safety",
    "places",
]

Found = Iterator[tuple[KeyPath, str]]

_KINDS = {bool: "bool", int: "int", float: "float", str: "str"}
#: Resources that carry bytes, not messages.
_STREAM = re.compile(r"ASRL|/|.*::SOCKET$", re.IGNORECASE)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def places(table: Mapping[str, Any]) -> list[tuple[KeyPath, Mapping[str, Any]]]:
    """Where the keys of heads may stand: the Master's own table, and those of its heads."""
    return [((), table), *((("heads", i), _dict(head)) for i, head in enumerate(_list(table.get("heads"))))]


# -- heads -------------------------------------------------------------------------------------------------------------


def of_heads(table: Mapping[str, Any], *, needs_resource: bool) -> Found:
    """Names, resources, and whom interlocks speak of; ``needs_resource``: each head must have one."""
    heads = [_dict(head) for head in _list(table.get("heads"))]
    shared = table.get("shared") is True
    if shared and not heads:
        yield ("shared",), "there is one head only; declare heads, or remove it"
    yield from _twice(heads)
    yield from _resources(table, heads, shared)
    if needs_resource:
        yield from _without_resource(table, heads)
    names = [head["name"] for head in heads if isinstance(head.get("name"), str)]
    for name, interlock in _dict(table.get("interlocks")).items():
        for key in ("head", "below", "above"):
            other = _dict(interlock).get(key)
            if isinstance(other, str) and other not in names:
                yield ("interlocks", name, key), f"there is no head {other!r}{did_you_mean_or(other, names)}"


def _twice(heads: list[dict[str, Any]]) -> Found:
    first: dict[object, int] = {}
    for i, head in enumerate(heads):
        name = head.get("name")
        if isinstance(name, str) and first.setdefault(name, i) != i:
            yield ("heads", i, "name"), f"{name!r} is the name of heads[{first[name]}], too; each needs its own"


def _resources(table: Mapping[str, Any], heads: list[dict[str, Any]], shared: bool) -> Found:
    """Two heads at one resource have to say that they share it."""
    if heads and not shared and "resource" in table:
        yield ("resource",), "has no effect beside heads: each has its own; or they share this one, with shared = true"
    first: dict[str, int] = {}
    for i, head in enumerate(heads):
        resource = head.get("resource")
        if shared or not isinstance(resource, str):
            continue
        other = first.setdefault(normal_resource(resource), i)
        if other != i:
            yield (
                ("heads", i, "resource"),
                f"{show(resource)} is that of heads[{other}], too; with shared = true they take turns at it",
            )


def _without_resource(table: Mapping[str, Any], heads: list[dict[str, Any]]) -> Found:
    missing = "is missing; for example resource = 'TCPIP0::127.0.0.1::5025::SOCKET'"
    if table.get("driver") == "serial":
        missing = "is missing; for example resource = '/dev/serial/by-id/usb-…'"
    if not heads and "heads" not in table and "resource" not in table:
        yield ("resource",), f"{missing}, or declare heads"
    if "resource" not in table:
        yield from ((("heads", i, "resource"), missing) for i, head in enumerate(heads) if "resource" not in head)


_HOST_PORT = re.compile(r"(?P<host>[\w.-]+):(?P<port>\d+)")
_SOCKET = re.compile(r"TCPIP\d*::.+::(?P<port>\d+)::SOCKET", re.IGNORECASE)
_NUMBERED_LINE = re.compile(r"ASRL\d+(::INSTR)?", re.IGNORECASE)
_HALF_A_SOCKET = re.compile(r"TCPIP\d*::(?P<host>[^:]+)::(?P<port>\d+)", re.IGNORECASE)


def of_resources(table: Mapping[str, Any]) -> Found:
    """Resources that cannot be what is meant, by the driver that is to open them."""
    for path, keys in places(table):
        resource, backend = keys.get("resource"), keys.get("backend", table.get("backend", "@py"))
        serial = table.get("driver") == "serial"
        if isinstance(resource, str) and (text := _misplaced(resource, backend, serial=serial)):
            yield (*path, "resource"), text


def _misplaced(resource: str, backend: object, *, serial: bool) -> str:
    if serial:
        if resource.startswith("/") or resource.upper().startswith("ASRL/"):
            return ""
        if "::" not in resource:
            return f"{show(resource)} is not the whole path of a serial port, as '/dev/ttyUSB0' is"
        return f"{show(resource)} is no serial line, as '/dev/ttyUSB0' is; for this one, driver = 'visa'"
    if match := _HOST_PORT.fullmatch(resource) or _HALF_A_SOCKET.fullmatch(resource):
        return f"{show(resource)} is no VISA resource; did you mean 'TCPIP0::{match['host']}::{match['port']}::SOCKET'?"
    if (match := _SOCKET.fullmatch(resource)) and not 1 <= int(match["port"]) <= 65535:
        return f"{show(resource)}: a port is a number from 1 to 65535, and {match['port']} is not"
    if backend == "@py" and _NUMBERED_LINE.fullmatch(resource):
        path = "PyVISA-py knows a serial port by its path, as 'ASRL/dev/ttyS0::INSTR'"
        return f"{show(resource)} is no VISA resource here: {path}; `taskmaster scan` lists what is there"
    last = resource.upper().rpartition("::")[2]
    is_word = resource.count("::") > 1 and last.isalpha() and last not in VISA_CLASSES
    if is_word and (meant := nearest(last, VISA_CLASSES)):
        return f"{show(resource)} is no VISA resource; did you mean {show(resource[: -len(last)] + meant)}?"
    # Other libraries have names that were given to resources elsewhere.
    if (
        backend == "@py"
        and "::" not in resource
        and not resource.startswith("/")
        and not resource.upper().startswith("ASRL")
    ):
        return f"{show(resource)} is no VISA resource, as 'GPIB0::5::INSTR' is; `taskmaster scan` lists what is there"
    return ""


#: Keys of the driver `visa` that only a serial line has a use for.
_OF_A_LINE = ("baud_rate", "data_bits", "parity", "stop_bits", "xonxoff", "rtscts", "dsrdtr")
_NOT_A_LINE = re.compile(r"(?!ASRL|/)\w+\d*::", re.IGNORECASE)


def of_lines(table: Mapping[str, Any]) -> Found:
    """Settings of a serial line where there is none; no terminator where answers cannot do without."""
    heads = [_dict(head) for head in _list(table.get("heads"))]
    resources = [head.get("resource", table.get("resource")) for head in heads] or [table.get("resource")]
    places: list[tuple[KeyPath, Mapping[str, Any], list[Any]]] = [((), table, resources)]
    places += [(("heads", i), head, [resource]) for i, (head, resource) in enumerate(zip(heads, resources))]
    for path, keys, at in places:
        known = [resource for resource in at if isinstance(resource, str)]
        if known and all(map(_NOT_A_LINE.match, known)):
            for key in _OF_A_LINE:
                if key in keys:
                    yield (
                        (*path, key),
                        f"has no effect: {show(known[0])} is no serial line, as 'ASRL/dev/ttyUSB0::INSTR' is",
                    )
        if keys.get("read_terminator") == "" and (stream := next(filter(_STREAM.match, known), None)):
            yield (
                (*path, "read_terminator"),
                f"an answer from {show(stream)} ends by nothing else; give the characters that end it",
            )


# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Command:
    """One command and where it stands; ``of_task``: it is sent for a task, so that parameters have values."""

    path: KeyPath
    text: str
    of_task: bool


def _commands(table: Mapping[str, Any]) -> Iterator[_Command]:
    """All commands in the table that are text."""
    commands = _dict(table.get("commands"))
    places: list[tuple[KeyPath, object, bool]] = []
    for key in ("open", "set", "safe"):
        places += [((key, i), text, key == "set") for i, text in enumerate(_list(commands.get(key)))]
    for key in ("wait", "errors"):
        places.append(((key, "query"), _dict(commands.get(key)).get("query"), key == "wait"))
    for name, reading in _dict(commands.get("read")).items():
        is_table = isinstance(reading, dict)
        path: KeyPath = ("read", name, "query") if is_table else ("read", name)
        places.append((path, reading.get("query") if is_table else reading, True))
    for name, ramp in _dict(commands.get("ramps")).items():
        places.append((("ramps", name, "query"), _dict(ramp).get("query"), False))
    watchdog = _dict(commands.get("watchdog"))
    places.append((("watchdog", "keep"), watchdog.get("keep"), False))
    for key in ("arm", "disarm"):
        places += [(("watchdog", key, i), text, False) for i, text in enumerate(_list(watchdog.get(key)))]
    for path, entry, of_task in places:
        path, text = ((*path, "command"), entry.get("command")) if isinstance(entry, dict) else (path, entry)
        if isinstance(text, str):
            yield _Command(("commands", *path), text, of_task)
    for section in ("interlocks", "monitor"):
        for name, entry in _dict(table.get(section)).items():
            if isinstance(text := _dict(entry).get("query"), str):
                yield _Command((section, name, "query"), text, of_task=False)


def of_commands(table: Mapping[str, Any]) -> Found:
    """Commands, parameters and outputs: every place has its parameter, every parameter and output its command."""
    parameters = _valid(ParameterSettings, table.get("parameters"))
    yield from _places(table, parameters)
    yield from _ramps(table, parameters)
    yield from _readings(table, parameters)


def of_safety(table: Mapping[str, Any]) -> Found:
    """What makes a head safe is not left out by an oversight: that there is nothing to do has to be written."""
    commands = _dict(table.get("commands"))
    if "safe" not in commands and not nearest("safe", commands.keys() - CommandSettings.model_fields.keys()):
        problem = "is missing: nothing would be done to a head that is stopped or lost"
        yield ("commands", "safe"), f"{problem}; for example safe = ['OUTP 0'], or safe = [] for what only looks on"


def _places(table: Mapping[str, Any], parameters: Mapping[str, ParameterSettings]) -> Found:
    """Each command by itself; parameters that are in none, or cannot be."""
    names = set(_dict(table.get("parameters")))
    kinds = {name: ARRAY if settings.shape else settings.kind for name, settings in parameters.items()}
    constants = _constants(table)
    yield from (
        (("values", name), "is the name of a parameter, too; rename one") for name in constants if name in names
    )
    unsure = (names - parameters.keys()) | {name for name, kind in constants.items() if not kind}
    terminator = table.get("write_terminator", "\n")
    terminator = terminator if isinstance(terminator, str) else ""
    used: set[str] = set()
    sent: set[str] = set()
    for command in _commands(table):
        try:
            template = Template(command.text, terminator)
        except ValueError as error:
            sent |= names  # it may be this one that would send them
            if not _is_wrong_anyway(command.text):
                yield command.path, str(error)
            continue
        used.update(template.fields)
        if command.of_task:
            sent.update(template.fields if names.union(constants).issuperset(template.fields) else names)
        if unsure.isdisjoint(template.fields):
            yield from ((command.path, problem) for problem in _misfits(template, kinds, constants, command.of_task))
    for name in _dict(table.get("parameters")):
        if name not in sent:
            yield ("parameters", name), f"no command sends it; put {{{name}}} into one of commands.set, or remove it"
        if name in parameters and name in used:
            yield from _unsendable(name, parameters[name], terminator)


def _is_wrong_anyway(text: str) -> bool:
    """Whether the text is no command by itself, which its own table says already."""
    try:
        Template(text)
    except ValueError:
        return True
    return False


def _misfits(
    template: Template, kinds: Mapping[str, str], constants: Mapping[str, str], of_task: bool
) -> Iterator[str]:
    if of_task:
        yield from template.check({**constants, **kinds})
        return
    of_tasks = [name for name in template.fields if name in kinds]
    for name in of_tasks:
        yield f"{{{name}}}: this is sent without a task, so parameter {name!r} has no value; write the value itself"
    if not of_tasks:
        yield from template.check(constants)


def _constants(table: Mapping[str, Any]) -> dict[str, str]:
    """The kinds of the constants that every head has; empty for one that is none of a constant's."""
    common = _dict(table.get("values"))
    heads = [{**common, **_dict(_dict(head).get("values"))} for head in _list(table.get("heads"))] or [common]
    kinds = {}
    for name in heads[0]:
        if all(name in values for values in heads):
            given = {_KINDS.get(type(values[name]), "") for values in heads}
            mixed = "" if "" in given else "float" if given == {"int", "float"} else "any"
            kinds[name] = given.pop() if len(given) == 1 else mixed
    return kinds


def _valid(model: type[Any], tables: object) -> dict[str, Any]:
    """Those of the declared parameters or outputs that are right by themselves."""
    found = {}
    for name, table in _dict(tables).items():
        try:
            found[name] = model.model_validate(table)
        except ValidationError:
            continue
    return found


def _unsendable(name: str, settings: ParameterSettings, terminator: str) -> Found:
    """Values that a parameter may take and no command can."""
    if settings.nan:
        yield ("parameters", name, "nan"), "NaN cannot be sent in a command; remove it"
    for choice in settings.choices:
        problem = unsendable(choice, terminator, separators=SEPARATORS) if isinstance(choice, str) else ""
        if problem:
            yield ("parameters", name, "choices"), f"{show(choice)} cannot be sent in a command: it {problem}"


def _ramps(table: Mapping[str, Any], parameters: Mapping[str, ParameterSettings]) -> Found:
    names = list(_dict(table.get("parameters")))
    for name, ramp in _dict(_dict(table.get("commands")).get("ramps")).items():
        path = ("commands", "ramps", name)
        if name not in names:
            yield path, f"there is no parameter {name!r}{did_you_mean_or(name, names)}"
        elif name in parameters:
            settings = parameters[name]
            step = _dict(ramp).get("step")
            if settings.kind not in ("float", "int") or settings.shape or settings.choices:
                yield path, f"only a number can be ramped, and parameter {name!r} is {_what(settings)}"
            elif settings.kind == "int" and isinstance(step, float) and not step.is_integer():
                yield (*path, "step"), f"expected a whole number, as the parameter's kind is 'int', got {show(step)}"


def _what(settings: ParameterSettings | OutputSettings) -> str:
    return "an array" if settings.shape else "one of choices" if settings.choices else f"of kind {settings.kind!r}"


# -- readings ----------------------------------------------------------------------------------------------------------


def _readings(table: Mapping[str, Any], parameters: Mapping[str, ParameterSettings]) -> Found:
    outputs = _dict(table.get("outputs"))
    valid = _valid(OutputSettings, outputs)
    read = _dict(_dict(table.get("commands")).get("read"))
    yield from _one_to_one(read, outputs, ("commands", "read"), "output")
    for name in outputs:
        if name not in read:
            yield ("outputs", name), f"nothing reads it; add commands.read.{name}, or remove it"
    for name, reading in read.items():
        if name in valid and isinstance(reading, (str, dict)):
            path = ("commands", "read", name)
            for key, text in _misread(reading if isinstance(reading, dict) else {}, valid[name], parameters):
                yield ((*path, *key) if isinstance(reading, dict) else path), text


def _misread(reading: Mapping[str, Any], output: OutputSettings, parameters: Mapping[str, ParameterSettings]) -> Found:
    """What does not fit between how an output is read and what it is."""
    parse = reading.get("parse") or _parse_of(output)
    if parse in ("number", "text") and output.shape:
        yield ("parse",), f"{parse!r} gives a single value, and the output has a shape; use 'list' or 'block'"
    elif parse in ("list", "block") and not output.shape and output.kind != "any":
        yield ("parse",), f"{parse!r} gives an array; declare the output's shape, such as shape = [-1]"
    elif parse == "text" and output.kind not in ("str", "any"):
        yield ("parse",), f"'text' gives text, and the output's kind is {output.kind!r}"
    elif parse in ("number", "list", "block") and output.kind == "str":
        yield ("parse",), f"{parse!r} gives numbers, and the output's kind is 'str'"
    if parse == "block" and reading.get("dtype") is None:
        yield ("dtype",), "is missing; for example dtype = '<f4'"
    yield from _misshapen(_list(reading.get("shape")), output, parameters)


def _misshapen(shape: list[Any], output: OutputSettings, parameters: Mapping[str, ParameterSettings]) -> Found:
    for i, extent in enumerate(shape):
        if not isinstance(extent, str):
            continue
        if extent not in parameters:
            yield ("shape", i), f"there is no parameter {extent!r}{did_you_mean_or(extent, parameters)}"
        elif parameters[extent].kind != "int" or parameters[extent].shape:
            yield ("shape", i), f"expected a parameter of kind 'int', and {extent!r} is {_what(parameters[extent])}"
    lengths = [extent if isinstance(extent, int) else None for extent in shape]
    known = [(mine, declared) for mine, declared in zip(lengths, output.shape) if mine not in (None, -1)]
    if shape and output.shape and len(shape) != len(output.shape):
        yield ("shape",), f"expected {len(output.shape)} axes, as the output has, got {len(shape)}"
    elif any(declared not in (-1, mine) for mine, declared in known):
        yield ("shape",), f"expected the output's, {show(output.shape)}, got {show(shape)}"
    if (lengths or list(output.shape)).count(-1) > 1:
        yield ("shape",), "only one axis can be of any length; give the others' or the parameters that have them"


def _parse_of(output: OutputSettings) -> Parse:
    return "text" if output.kind == "str" else "list" if output.shape else "number"


def completed_reading(reading: ReadSettings, output: OutputSettings) -> ReadSettings:
    """With what is left out and follows from the output."""
    parse = reading.parse or _parse_of(output)
    array = parse in ("list", "block")
    return reading.model_copy(update={"parse": parse, "shape": reading.shape or (output.shape if array else ())})


# -- properties and methods --------------------------------------------------------------------------------------------


def of_members(table: Mapping[str, Any]) -> Found:
    """Parameters and outputs with what sets and reads them, where that is declared: a class may do it by itself."""
    if not any(key in table for key in ("set", "call", "read")):
        return
    parameters, outputs = _dict(table.get("parameters")), _dict(table.get("outputs"))
    put, read = _dict(table.get("set")), _dict(table.get("read"))
    given = [use for key in ("call", "read") for use in parameters_of(key, table.get(key))]
    yield from _one_to_one(put, parameters, ("set",), "parameter")
    for path, name in given:
        yield from ((path, problem) for _, problem in _one_to_one([name], parameters, path, "parameter"))
    yield from _one_to_one(read, outputs, ("read",), "output")
    for name in parameters:
        if name not in put and name not in (used for _, used in given):
            yield ("parameters", name), f"nothing sets it; add set.{name}, or remove it"
    for name in outputs:
        if name not in read:
            yield ("outputs", name), f"nothing reads it; add read.{name}, or remove it"


def _one_to_one(given: Iterable[str], declared: Iterable[str], path: KeyPath, role: str) -> Found:
    names = list(declared)
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) or f"; declare it in {role}s"
            yield (*path, name), f"there is no {role} {name!r}{hint}"
