"""Results as they come: a line each, for people or for programs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import click

from taskmaster.bus.errors import TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.bus.text import format_duration
from taskmaster.cli.output import line_width, print_line, shown_json, value_text
from taskmaster.learners.client import Master
from taskmaster.learners.export.columns import column_names
from taskmaster.learners.export.plain import dumps
from taskmaster.learners.results import Result
from taskmaster.learners.series import ProgressPoint

__all__ = ["ResultLines", "print_progress"]

#: Columns of an input at most, so that the rest of the line has room.
_INPUT_WIDTH = 46


def print_progress(point: ProgressPoint, units: Mapping[str, str], *, as_json: bool) -> None:
    """Print what an evaluation has told, at once: a line, or an object with the columns of an export."""
    if as_json:
        row = {"index": point.index, "attempt": point.attempt, "time": point.time}
        values = {f"progress.{k}" if k in row else k: value for k, value in point.values.items()}
        click.echo(shown_json(dumps({**row, **values})))
        return
    moment = datetime.datetime.fromtimestamp(point.time).isoformat(" ", "seconds")
    said = [f"{name}={value_text(value)} {units.get(name, '')}".rstrip() for name, value in point.values.items()]
    print_line(f"{point.index}  {moment}  {' '.join(said)}")


class ResultLines:
    """Prints results of one Master; ``as_json`` as objects with the columns of an export."""

    def __init__(self, master: Master, *, as_json: bool) -> None:
        self._as_json = as_json
        self._inputs, self._outputs = master.parameters, master.outputs
        self._names = column_names(_names(self._inputs), _names(self._outputs))
        self._units = {field.name: field.unit for field in self._outputs}
        self._width = 0
        self._index_width = 1

    def print(self, result: Result) -> None:
        """Print one, at once."""
        if self._as_json:
            click.echo(shown_json(dumps(self.row(result))))
        else:
            print_line(*self.line(result))

    def row(self, result: Result) -> dict[str, Any]:
        """The result as an export would have it."""
        done, cancelled = result.outcome == "done", result.outcome == "cancelled"
        inputs, outputs = self._names
        started = None if cancelled or not result.started else result.started
        return {
            "index": result.index,
            "seq": result.seq,
            **_spread(inputs, self._inputs, result.input),
            **_spread(outputs, self._outputs, result.output if done else None),
            "outcome": result.outcome,
            "error": _error_text(result) if result.outcome == "failed" else None,
            "worker": result.worker or None,
            "attempt": None if cancelled else result.attempt,
            "started": started,
            "finished": started and result.finished,
        }

    def line(self, result: Result) -> tuple[str, str]:
        """The result for people: a line, and what is to be in red at its end."""
        point = value_text(result.input, _INPUT_WIDTH)
        self._width = max(self._width, len(point))
        self._index_width = max(self._index_width, len(str(result.index)))
        head = f"{result.index:>{self._index_width}}  {point:<{self._width}}  "
        if result.outcome == "done":
            took = format_duration(max(0.0, result.finished - result.started))
            line = f"{head}→ {self._output_text(result.output)}"
            details = (f"  ({took}, {result.worker})", f"  ({took})", "")
            return line + next((text for text in details if len(line) + len(text) <= line_width()), ""), ""
        return head, f"failed: {_error_text(result)}" if result.outcome == "failed" else "cancelled"

    def _output_text(self, output: Any) -> str:
        if len(self._outputs) == 1:
            return f"{value_text(output)} {self._outputs[0].unit}".rstrip()
        if not self._outputs or not isinstance(output, dict):
            return value_text(output)
        return " ".join(f"{name}={value_text(value)}{self._units.get(name, '')}" for name, value in output.items())


def _names(fields: Sequence[Field]) -> list[str]:
    return [field.name for field in fields] or [""]


def _spread(names: dict[str, str], fields: Sequence[Field], value: Any) -> dict[str, Any]:
    """A value by the names of its columns; nothing where a task has none."""
    if not fields:
        return {names[""]: value}
    if len(fields) == 1 and not isinstance(value, dict):
        return {names[fields[0].name]: value}
    return {column: None if value is None else value.get(name) for name, column in names.items()}


def _error_text(result: Result) -> str:
    error = result.error
    if not isinstance(error, TaskFailed):
        return str(error)
    return f"{error.kind}: {error.args[0]}" if error.kind else str(error.args[0])
