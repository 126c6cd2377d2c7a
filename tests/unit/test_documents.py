"""What the documents say of messages, errors and states is what the code says."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from helpers.documents import ROOT, code_blocks, document, section, tables

from taskmaster.bus import (
    codec,
    errors,
    fields,
    instrument_messages,
    messages,
    operation_messages,
    people_messages,
    record_messages,
    series_messages,
    sockets,
    status,
    wire,
    worker_messages,
)
from taskmaster.bus.table import Layout
from taskmaster.bus.topics import ALARMS
from taskmaster.daemon.roles import as_markdown
from taskmaster.daemon.run import TASK_STATES
from taskmaster.drivers.base import Driver, DriverContext
from taskmaster.learners.protocol import Endable, Learner

PROTOCOL = document("docs/protocol.md")
ARCHITECTURE = document("docs/architecture.md")

#: Types with a section of their own → what they are called in tables.
CALLED: dict[Any, str] = {
    Layout: "layout",
    fields.Field: "field",
    messages.EventHead: "event",
    messages.Ask: "ask",
    messages.Order: "order",
    messages.BlockHead: "block",
    messages.Piece: "piece",
    messages.HeadName: "head name",
    messages.MasterInfo: "master",
    messages.TaskError: "task error",
    status.AlarmInfo: "alarm info",
    status.AuditEntry: "audit entry",
    status.DaemonStatus: "daemon status",
    status.DeviceStatus: "device status",
    status.HeldTask: "held task",
    status.HeadInfo: "head info",
    status.HeadTask: "head task",
    status.HeadValue: "head value",
    status.JournalStatus: "journal status",
    status.MasterStatus: "master status",
    status.ProposedTask: "proposed task",
    status.RequestInfo: "request info",
    status.RunInfo: "run info",
    status.WorkerStatus: "worker status",
    status.WriterInfo: "writer",
    wire.Segment: "segment",
    wire.Where: "where",
    instrument_messages.Checkpoint: "checkpoint",
    type(None): "null",
    Any: "value",
    **{kind: kind.__name__ for kind in (bool, bytes, int, float, str)},
}


def records() -> Iterator[type[msgspec.Struct]]:
    """Every type that travels as a map or an array of its own."""
    for module in (
        messages,
        wire,
        worker_messages,
        instrument_messages,
        operation_messages,
        people_messages,
        record_messages,
        series_messages,
        status,
        fields,
    ):
        for kind in vars(module).values():
            is_record = inspect.isclass(kind) and issubclass(kind, msgspec.Struct)
            if is_record and kind.__module__ == module.__name__ and kind.__name__ not in ("Message", "_Record"):
                yield kind


def in_words(kind: Any) -> str:
    """A type as the document writes it."""
    if kind in CALLED:
        return CALLED[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return in_words(type(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(in_words, arguments))
    if origin is dict:
        return f"{{{in_words(arguments[0])}: {in_words(arguments[1])}}}"
    assert origin is tuple, kind
    if arguments[-1] is Ellipsis:
        return f"[{in_words(arguments[0])}, …]"
    return f"[{', '.join(map(in_words, arguments))}]"


def rows(kind: type[msgspec.Struct]) -> list[list[str]]:
    """The first three columns of a record's table: name, type, default in JSON."""
    hints = typing.get_type_hints(kind)
    table = []
    for field in msgspec.structs.fields(kind):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        text = "–" if default is msgspec.NODEFAULT else msgspec.json.encode(default).decode()
        table.append([field.name, in_words(hints[field.name]), text])
    return table


@pytest.mark.parametrize("kind", [kind for kind in records() if msgspec.structs.fields(kind)])
def test_every_record_has_a_table_of_its_fields(kind: type[msgspec.Struct]) -> None:
    in_document = [[row[:3] for row in table] for table in tables(PROTOCOL)]
    assert rows(kind) in in_document, f"docs/protocol.md lacks this table for {kind.__name__}: {rows(kind)}"


def test_every_field_has_a_meaning() -> None:
    for table in tables(PROTOCOL):
        for row in table:
            assert all(row), f"an empty cell in {row}"


@pytest.mark.parametrize("kind", [kind for kind in records() if issubclass(kind, messages.Message)])
def test_every_message_has_a_section(kind: type[messages.Message]) -> None:
    tag = kind.__struct_config__.tag
    headings = [line for line in PROTOCOL.splitlines() if line.startswith("####") and f"`{tag}`" in line]
    assert len(headings) == 1, f"docs/protocol.md has {len(headings)} sections for {tag!r}"


def test_every_error_code_is_listed_as_it_is() -> None:
    def known(kind: type[errors.TaskMasterError]) -> Iterator[type[errors.TaskMasterError]]:
        yield kind
        for sub in kind.__subclasses__():
            yield from known(sub)

    [listed] = tables(section(PROTOCOL, "Errors"))
    assert [(row[0], row[2] == "yes") for row in listed] == [
        (kind.code, kind.retryable) for kind in known(errors.TaskMasterError) if kind.__module__ == errors.__name__
    ]


def test_limits_and_constants_are_those_of_the_code() -> None:
    limits = section(PROTOCOL, "Limits")
    assert f"{sockets.MAX_MESSAGE >> 20} MiB by default" in limits
    assert f"| {codec.MAX_HEADER >> 20} MiB |" in limits
    assert f"| {codec.MAX_FRAMES} |" in limits
    assert f"| {sockets.RESULTS_HWM}, further ones" in limits
    assert f"# The protocol, version {messages.PROTOCOL_VERSION}\n" in PROTOCOL
    assert f"`{ALARMS.decode()}`" in PROTOCOL


def test_the_architecture_prints_the_table_of_states() -> None:
    [table] = tables(section(ARCHITECTURE, "States of a task"))
    printed: dict[str, dict[str, str]] = {state: {} for state in TASK_STATES}
    for state, what, then in table:
        if what != "–":
            printed[state][what] = then
    assert printed == TASK_STATES


def defined(code: str) -> dict[str, Any]:
    """What a document's code defines."""
    names: dict[str, Any] = {"__name__": "documented"}
    exec(compile(code, "<document>", "exec"), names)
    return names


def test_the_driver_of_the_architecture_is_one() -> None:
    [code] = code_blocks(section(ARCHITECTURE, "Adding a driver"), "python")
    driver_class = defined(code)["CountingDriver"]
    assert issubclass(driver_class, Driver)

    schema = fields.Schema((), "counter")
    driver = driver_class(DriverContext("counter", {"start": 7}, schema, schema))
    driver.open()
    assert [driver.evaluate({}), driver.evaluate({})] == [7, 8]
    driver.close()


def test_the_learner_of_the_architecture_is_one() -> None:
    [code] = code_blocks(section(ARCHITECTURE, "Adding a learner"), "python")
    learner = defined(code)["Bisection"](0.0, 2.0)
    for protocol in (Learner, Endable):
        assert isinstance(learner, protocol)

    while not learner.done():
        [point] = learner.ask(4)
        assert learner.ask(4) == [], "it waits to be told"
        learner.tell(point, point["x"] ** 2 - 2.0)
    assert learner.low == pytest.approx(2**0.5, abs=1e-6)


def test_the_roles_are_those_of_the_code() -> None:
    _, table, _ = re.split(r"<!-- .* -->\n", document("docs/security.md"))
    assert table == as_markdown(), "put what taskmaster.daemon.roles.as_markdown() gives between the two comments"


@pytest.mark.parametrize("path", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(path: str) -> None:
    """One that has strayed into another table is shown without its last cells, or with empty ones."""
    text = re.sub(r"^```.*?^```", "", document(path), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        cells = [len(re.split(r"(?<!\\)\|", row)) for row in rows]
        assert set(cells) == {cells[0]}, [row for row, n in zip(rows, cells) if n != cells[0]]
