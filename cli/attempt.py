"""``python -m taskmaster.cli.attempt``: heads of one resource, tried in a process of its own, as a worker has one.

What to try comes on standard input in msgpack; a line of JSON goes back on standard output whenever more is known, so
that of a process that hangs in somebody's library it is known where. What libraries print goes to standard error.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal

import msgspec

from taskmaster.bus.errors import ConfigError, InvalidOutput, TaskMasterError
from taskmaster.bus.fields import Schema
from taskmaster.cli.dialogue import Exchange, recorded
from taskmaster.cli.output import value_text
from taskmaster.drivers.functions import find_object
from taskmaster.drivers.generators import drive
from taskmaster.drivers.instruments.commandhead import CommandHead
from taskmaster.drivers.instruments.commands import Query
from taskmaster.drivers.instruments.course import setpoint_fields
from taskmaster.drivers.instruments.errors import InstrumentError
from taskmaster.drivers.instruments.head import Head, HeadContext
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.instruments.members import doubts
from taskmaster.drivers.instruments.programme import rehearsal
from taskmaster.drivers.instruments.watching import Interlock, scalar, watched
from taskmaster.drivers.outputs import OutputPacker
from taskmaster.drivers.simulated.described import DescribedHead
from taskmaster.drivers.simulated.points import random_point

__all__ = ["Attempt", "Report", "Value", "main"]

#: Characters of a message or a traceback.
_LONGEST = 4000
#: Seconds that the rehearsal of a programme may take, weeks though it may be long.
_REHEARSAL_SECONDS = 1.0
#: Numbers of an array that are reported.
_MOST_NUMBERS = 10_000

Kind = Literal["connect", "simulate", "import"]


class Attempt(msgspec.Struct, frozen=True):
    """What to try: `connect` to each head and read it, evaluate a task (`simulate`), or only make it (`import`)."""

    what: Kind
    heads: tuple[DescribedHead, ...]
    seed: int = 0


class Value(msgspec.Struct, frozen=True):
    """What one query was answered, or why there is nothing."""

    role: Literal["output", "monitor", "interlock"]
    name: str
    text: str = ""
    unit: str = ""
    #: for programs; None where it is not finite, or too much
    value: Any = None
    problem: str = ""
    #: what is worth to be known of it, and no mistake
    note: str = ""


class Report(msgspec.Struct):
    """All that is known of one head so far."""

    head: int
    #: what is being done; empty at the end
    doing: str = ""
    identity: str = ""
    values: list[Value] = []
    notes: list[str] = []
    #: what went wrong, and the class of the error
    problem: str = ""
    error: str = ""
    traceback: str = ""
    point: str = ""
    dialogue: list[Exchange] = []
    seconds: float = 0.0


def main() -> int:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever is asked to stop does not wait for a vendor's library
    attempt = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Attempt)
    with open(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        for i, head in enumerate(attempt.heads):
            _Trial(attempt, head, Report(i), answers.write).run()
    return 0


class _Trial:
    """One head's trial, told as it goes."""

    def __init__(self, attempt: Attempt, head: DescribedHead, report: Report, tell: Callable[[bytes], object]) -> None:
        self._attempt = attempt
        self._head = head
        self._report = report
        self._tell = tell
        self._outputs = Schema(head.outputs, head.master, "output")

    def run(self) -> None:
        began = time.monotonic()
        try:
            {"connect": self._look, "simulate": self._simulate, "import": self._import}[self._attempt.what]()
        except (TaskMasterError, NotImplementedError) as error:
            self._fail(error, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a user's class or a library raises is told
            self._fail(error, f"{type(error).__qualname__}: {error}")
            self._report.traceback = "".join(traceback.format_exception(error))[-_LONGEST:]
        self._report.seconds = time.monotonic() - began
        self._doing("")

    def _fail(self, error: Exception, text: str) -> None:
        self._report.problem = self._without_name(text)
        self._report.error = type(error).__name__

    def _without_name(self, text: str) -> str:
        """Which head it is, whoever reads this knows."""
        head = self._head
        return text.removeprefix(f"{head.master}/{head.name}: " if head.name else f"{head.master}: ")[:_LONGEST]

    def _doing(self, what: str) -> None:
        self._report.doing = what
        self._tell(msgspec.json.encode(self._report) + b"\n")

    def _context(self) -> HeadContext:
        head = self._head
        return HeadContext(
            head.name,
            head.master,
            {"driver": head.driver, **head.options},
            Schema(head.parameters, head.master),
            self._outputs,
            threading.Event(),
        )

    # -- looking at an instrument -------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Connect, identify and read, setting nothing."""
        self._doing("making its object")
        with closing(_made(_without_programme(self._context()), self._head.driver)) as head:
            self._doing("connecting")
            try:
                head.connect()
            except NotImplementedError as error:
                self._report.notes.append(f"{error}; it was not connected to")
                return
            self._doing("asking who it is")
            self._report.identity = head.identify()
            self._doing("reading")
            if isinstance(head, CommandHead):
                self._read_each(head)
            else:
                self._read_all(head)
            self._look_at_interlocks(head)
            if isinstance(head, CommandHead):
                self._ask_for_errors(head)

    def _read_each(self, head: CommandHead) -> None:
        for role, name, unit, query in _queries(head, self._head):
            if query.line.fields and not set(query.line.fields) <= head.commands.values.keys():
                needed = ", ".join(name for name in query.line.fields if name not in head.commands.values)
                self._report.values.append(Value(role, name, note=f"is asked with {needed}, which a task gives"))
                continue
            self._doing(f"asking {query.line.template.text!r}")
            try:
                found = head.ask(query)
            except (InstrumentError, TaskMasterError) as error:
                self._report.values.append(Value(role, name, problem=self._without_name(str(error))))
            else:
                own = self._output(head, name, unit, found) if role == "output" else _value(role, name, unit, found)
                self._report.values.append(own)

    def _ask_for_errors(self, head: CommandHead) -> None:
        """Why something was not answered may stand there; and each task will ask the same."""
        queue = head.commands.errors
        if queue is None:
            return
        question = queue.query.line.template.text
        if "?" not in question:
            self._report.notes.append(f"errors.query = {question!r} was not tried: without a '?' it may do something")
            return
        self._doing("asking for its errors")
        try:
            said = str(head.ask(queue.query))
        except InstrumentError as error:
            self._report.problem = f"errors: {self._without_name(str(error))}"
            return
        if mistaken := queue.mistaken(said):
            self._report.problem = f"errors: {mistaken}"
        elif not queue.ok.fullmatch(said):
            self._report.notes.append(f"the instrument says {said}")

    def _look_at_interlocks(self, head: Head) -> None:
        """As a daemon does before the first task: what would trip then is wrong now."""
        for item in watched(head.options, head.name):
            if not isinstance(item, Interlock):
                continue
            self._doing(f"looking at interlock {item.name!r}")
            note = "is compared between heads, which the daemon does" if item.compared else ""
            try:
                if isinstance(head, CommandHead) and not head.link.in_step:
                    head.connect()
                found = scalar(head.look(item.table))
            except Exception as error:  # noqa: BLE001 - whatever a user's property raises, the value cannot be had
                problem = f"would trip: {self._without_name(str(error))}"
                self._report.values.append(Value("interlock", item.name, problem=problem))
                continue
            wrong = item.wrong(found) if item.judged else ""
            problem = f"would trip: {wrong}" if wrong else ""
            self._report.values.append(_value("interlock", item.name, "", found, note, problem))

    def _read_all(self, head: Head) -> None:
        try:
            found = head.read()
        except (NotImplementedError, ConfigError) as error:
            self._report.notes.append(str(error))
            return
        units = {field.name: field.unit for field in self._head.outputs}
        values = found if isinstance(found, Mapping) else {"output": found}
        self._report.values = [self._output(head, name, units.get(name, ""), value) for name, value in values.items()]

    def _output(self, head: Head, name: str, unit: str, found: Any) -> Value:
        """What was read, and whether a task could return it; of an instrument not initialised, that is not known."""
        declared = Schema([field for field in self._head.outputs if field.name == name], self._head.master, "output")
        _, wrong = OutputPacker(declared).pack((0,), ({name: found},)) if declared else (None, [])
        if not wrong:
            return _value("output", name, unit, found)
        problem = " ".join(wrong[0].message.split()).partition(f"output {name!r} ")[2] or wrong[0].message
        key = "open" if isinstance(head, CommandHead) else "init"
        if (head.options.get("commands") or head.options).get(key):
            return _value("output", name, unit, found, f"{problem}; but `{key}` was not carried out")
        return _value("output", name, unit, found, problem=problem)

    # -- evaluating a task --------------------------------------------------------------------------------------------

    def _simulate(self) -> None:
        """Open, one task at a random point, read, safe."""
        context = self._context()
        point = random_point(self._head, self._attempt.seed)
        self._report.point = value_text(point, 200)
        if context.options.get("programme"):
            context = replace(
                context, options=rehearsal(context.options, context.parameters, point, _REHEARSAL_SECONDS)
            )
            self._report.notes.append(f"its programme was rehearsed in {_REHEARSAL_SECONDS:g} s")
        with recorded(context, self._head.driver, self._report.dialogue) as (head, during):
            during("open")
            self._doing("opening")
            head.open()
            self._report.identity = head.identify()
            during("task")
            self._doing(f"evaluating {self._report.point}")
            head.begin_task()
            found = drive(head.evaluate(point), lambda _: None, context.stopping)
            self._report.values = list(self._checked(found))
            during("read")
            self._doing("reading")
            try:
                head.read()
            except (NotImplementedError, ConfigError, TaskMasterError) as error:
                self._report.notes.append(f"it cannot be read without a task: {self._without_name(str(error))}")
            during("safe")
            self._doing("making it safe")
            head.safe()

    def _checked(self, found: Any) -> Iterator[Value]:
        """The outputs, which have to be as they are declared. Raises InvalidOutput."""
        table, wrong = OutputPacker(self._outputs).pack((0,), (found,))
        if wrong or table is None:
            raise InvalidOutput(wrong[0].message if wrong else "there is no output")
        values = table.rows()[0]
        units = {field.name: field.unit for field in self._head.outputs}
        for name, value in (values if isinstance(values, Mapping) else {"output": values}).items():
            yield _value("output", name, units.get(name, ""), value)

    # -- only making it -----------------------------------------------------------------------------------------------

    def _import(self) -> None:
        """The class, its arguments and tables; what they name is looked for in the class."""
        self._doing("importing")
        _made(self._context(), self._head.driver)
        context = _without_programme(self._context())
        head, options = _made(context, self._head.driver), context.options
        kind = find_object(options["class"], tuple(map(str, options.get("path", ()))), "class")
        if isinstance(head, kind):  # one of ours, which needs no tables
            return
        self._report.notes += [str(doubt) for doubt in doubts(kind, options)]


def _without_programme(context: HeadContext) -> HeadContext:
    """The head that a programme would work: it is looked at as any other."""
    if not context.options.get("programme"):
        return context
    setpoints = Schema(setpoint_fields(context.options), context.label, "setpoint")
    return replace(context, options={**context.options, "programme": None}, parameters=setpoints)


def _made(context: HeadContext, driver: str) -> Head:
    """As its worker makes it. Raises ConfigError."""
    return HeadMaker(context.master, driver, {}).make(context)


# -- the parts of it ---------------------------------------------------------------------------------------------------


def _queries(
    head: CommandHead, described: DescribedHead
) -> Iterator[tuple[Literal["output", "monitor"], str, str, Query]]:
    """Everything that is read: role, name, unit and query."""
    units = {field.name: field.unit for field in described.outputs}
    for name, query in head.commands.read.items():
        yield "output", name, units.get(name, ""), query
    for name, table in (head.options.get("monitor") or {}).items():
        yield "monitor", name, table.get("unit", ""), head.commands.query(table)


def _value(
    role: Literal["output", "monitor", "interlock"], name: str, unit: str, found: Any, note: str = "", problem: str = ""
) -> Value:
    plain = found.tolist() if hasattr(found, "tolist") and getattr(found, "size", 0) <= _MOST_NUMBERS else found
    return Value(role, name, value_text(found), unit, _for_json(plain), problem, note)


def _for_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (int, str, bool)) else None


if __name__ == "__main__":
    sys.exit(main())
