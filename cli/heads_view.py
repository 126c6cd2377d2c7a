"""How ``heads``, ``top`` and ``watch`` show the heads of instruments: what each does, and what is monitored."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo, HeadTask
from taskmaster.cli.output import Cell, Table, number, value_text
from taskmaster.learners.client import Lab

__all__ = ["Units", "heads_table", "units_of", "work_table"]

_STYLES = {
    "ready": "green",
    "busy": "green",
    "connecting": "yellow",
    "away": "yellow",
    "out": "yellow",
    "parked": "bold red",
    "faulty": "bold red",
    "quarantined": "bold red",
    "stopped": "bold red",
}
#: Characters of a value that is a text.
_TEXT = 24

#: The units of a Master's parameters and outputs, by which progress is known, too.
Units = Mapping[str, Mapping[str, str]]


def units_of(lab: Lab, infos: Sequence[HeadInfo]) -> Units:
    """For the Masters of these heads."""
    masters = {info.master: lab[info.master] for info in infos}
    return {
        name: {field.name: field.unit for field in (*master.parameters, *master.outputs) if field.unit}
        for name, master in masters.items()
    }


def heads_table(infos: Sequence[HeadInfo], units: Units) -> Table:
    """All that is known of heads."""
    headings = [
        "master", "head", "state", "safe", "since", ">tasks", ">busy", "task", "progress", "values", "identity",
        "reason", "last error",
    ]  # fmt: skip
    elastic = ("last error", "reason", "identity", "values", "progress", "head", "master")
    table = Table(headings, [], elastic, ("last error", "since", "identity", "busy", "task", "progress", "values"))
    for info in infos:
        since = datetime.datetime.fromtimestamp(info.since).isoformat(" ", "seconds") if info.since else ""
        figures = [_safe(info), since, str(info.tasks), _share(info), _task(info.task)]
        told = [_progress(info.task, units[info.master]), _values(info)]
        reason = " ".join(info.reason.split())
        table.rows.append(
            [info.master, info.head, _state(info), *figures, *told, info.identity, reason, _last_error(info)]
        )
    return table


def _last_error(info: HeadInfo) -> str:
    """When it was, and what, unless that is why the head is as it is."""
    if not info.last_error or info.last_error in info.reason:
        return ""
    return f"{datetime.datetime.fromtimestamp(info.last_error_time).isoformat(' ', 'seconds')}: {info.last_error}"


def work_table(infos: Sequence[HeadInfo], units: Units) -> Table:
    """A row for each head: what it does now, and what it has last told. It fits on a terminal."""
    headings = ["head", "state", ">busy", ">tasks", "task", "tells"]
    table = Table(headings, [], ("task", "tells"), ("tasks", "busy", "task"))
    several = len({info.master for info in infos}) > 1
    for info in infos:
        name = f"{info.master}/{info.head}" if several else info.head or info.master
        reason = " ".join(info.reason.split())
        told = [_progress(info.task, units[info.master]), _values(info)]
        tells = Cell(reason, "red") if reason else "  ".join(filter(None, told))
        table.rows.append([name, _state(info), _share(info), str(info.tasks), _task(info.task), tells])
    return table


def _state(info: HeadInfo) -> Cell:
    return Cell(info.state, _STYLES.get(info.state, ""))


def _safe(info: HeadInfo) -> str:
    """Of a head with nothing to be done for it, that is told, not that it was done."""
    return "" if not info.safe else "yes" if info.has_safe_state else "none"


def _share(info: HeadInfo) -> str:
    return f"{100 * info.utilisation:.0f} %" if info.attended else "–"


def _task(task: HeadTask | None) -> str:
    if task is None:
        return ""
    again = f" ({task.attempt})" if task.attempt > 1 else ""
    return f"{task.name} {task.index}{again}"


def _progress(task: HeadTask | None, units: Mapping[str, str]) -> str:
    if task is None:
        return ""
    return " ".join(f"{name}={_value(value, units.get(name, ''))}" for name, value in task.progress.items())


def _values(info: HeadInfo) -> str:
    return " ".join(f"{name}={_value(one.value, one.unit)}" for name, one in info.values.items())


def _value(value: m.Scalar, unit: str) -> str:
    if value is None:
        return "?"
    if isinstance(value, (bool, str)):
        return value_text(value, _TEXT)
    text = number(value) if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
