"""``taskmaster proposed``, ``approve``, ``reject`` and ``edit``: tasks that somebody has to approve."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, starmap
from typing import Any, TypeVar

import click

from taskmaster.bus import messages as m
from taskmaster.bus.errors import UnknownTask
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.status import ProposedTask
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.indices import read_interval, require_tasks
from taskmaster.cli.output import Table, count, print_json, print_table, record, say, value_text
from taskmaster.cli.points import PointReader
from taskmaster.learners.client import Lab
from taskmaster.learners.export.plain import plain

__all__ = ["approve", "edit", "proposed", "reject"]

#: Rows of a table that somebody looks at.
_SHOWN = 200

F = TypeVar("F", bound=Callable[..., Any])


def _about_tasks(function: F) -> F:
    """RUN, and which of its tasks."""
    for decorate in (
        json_option,
        address_option,
        click.option("--as", "who", metavar="NAME", help="Who decides; by default your login name."),
        click.option("--reason", metavar="TEXT", default="", help="Why; it is put on record."),
        click.option("--all", "all_tasks", is_flag=True, help="All that are proposed."),
        click.argument("indices", nargs=-1, metavar="[INDEX|FIRST-LAST]..."),
        click.argument("run"),
    ):
        function = decorate(function)
    return function


@click.command("proposed", cls=Command)
@click.argument("master", required=False)
@address_option
@json_option
def proposed(master: str | None, address: str | None, as_json: bool) -> None:
    """List the tasks that wait for approval, of MASTER or of all.

    Their Master has approval = true: nothing is evaluated before 'taskmaster approve' says so.
    """
    with connected(address) as lab:
        tasks = lab.proposed(master, limit=None if as_json else _SHOWN + 1)
    if as_json:
        print_json([{**record(task), "input": plain(task.input)} for task in tasks])
    elif not tasks:
        say("no task waits for approval")
    else:
        print_table(_table(tasks[:_SHOWN]))
        if len(tasks) > _SHOWN:
            say("… and more: --json lists all")
        click.echo("decide: taskmaster approve|reject RUN [TASK|FIRST-LAST]...|--all", err=True)


@click.command("approve", cls=Command)
@_about_tasks
def approve(
    run: str,
    indices: tuple[str, ...],
    all_tasks: bool,
    reason: str,
    who: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Have proposed tasks of RUN evaluated.

    Who has approved them, when and why is on record. Those that are not proposed are passed over.
    """
    _decide(Lab.approve, "approved", run, indices, all_tasks, reason, who, address, as_json)


@click.command("reject", cls=Command)
@_about_tasks
def reject(
    run: str,
    indices: tuple[str, ...],
    all_tasks: bool,
    reason: str,
    who: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Have proposed tasks of RUN fail, unevaluated.

    Their learner is told so, of an error Rejected with the reason. Those that are not proposed are passed over.
    """
    _decide(Lab.reject, "rejected", run, indices, all_tasks, reason, who, address, as_json)


@click.command("edit", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("index", type=click.IntRange(0))
@click.argument("point", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", default="", help="Why; it is put on record.")
@click.option("--as", "who", metavar="NAME", help="Who edits; by default your login name.")
@address_option
@json_option
def edit(
    run: str, index: int, point: tuple[str, ...], reason: str, who: str | None, address: str | None, as_json: bool
) -> None:
    """Have the proposed task INDEX of RUN evaluated at another POINT.

    x=1 y=2 changes these parameters and leaves the others; a JSON object is the whole point. It still has to be
    approved. Its learner is told the point that was evaluated; the one it asked for stays on record.
    """
    with connected(address) as lab:
        found = find_run(lab, run)
        task = next(iter(lab.ask(m.ListProposed(0, None, found.run, (found.run, index - 1))).tasks), None)
        if task is None or task.index != index:
            raise UnknownTask(f"run {found.run} ({found.master}/{found.name}): task {index} does not wait for approval")
        known = task.input if isinstance(task.input, dict) else None
        value = PointReader(found.master, lab[found.master].parameters).typed_parts(point, known)
        lab.edit(found.run, index, value, reason=reason, who=who)
    if as_json:
        print_json(
            {"run": found.run, "master": found.master, "name": found.name, "index": index, "input": plain(value)}
        )
    else:
        say(f"run {found.run} ({found.master}/{found.name}): task {index} is to be {value_text(value)}, once approved")


def _decide(
    decision: Callable[..., int],
    done: str,
    run: str,
    indices: Sequence[str],
    all_tasks: bool,
    reason: str,
    who: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    if bool(indices) == all_tasks:
        raise click.UsageError("name the numbers of tasks (3 7 10-19), or all that are proposed with --all")
    intervals = tuple(map(read_interval, indices))
    with connected(address) as lab:
        found = find_run(lab, run)
        require_tasks(found, intervals)
        clipped = [(low, min(high, found.tasks)) for low, high in intervals]
        wanted: Iterable[int] | None = None if all_tasks else chain.from_iterable(starmap(range, clipped))
        number = decision(lab, found.run, wanted, reason=reason, who=who)
    if as_json:
        print_json({"run": found.run, "master": found.master, "name": found.name, done: number})
    else:
        named = found.proposed if all_tasks else len(IntervalSet(sorted(clipped)))
        say(f"run {found.run} ({found.master}/{found.name}): {_decided(number, named, done)}")


def _decided(number: int, named: int, done: str) -> str:
    """How many tasks were, of those that were named, and why the others were not."""
    passed_over = "not proposed: decided on before, or cancelled, or never in need of it"
    if not named:
        return f"no task waits for approval, none was {done}"
    if not number:
        return f"nothing was {done}: {'it is' if named == 1 else f'all {named} are'} {passed_over}"
    others = f"; the other {named - number} {'is' if named - number == 1 else 'are'} {passed_over}" * (number < named)
    return f"{count(number, 'task')} {done}{others}"


def _table(tasks: Sequence[ProposedTask]) -> Table:
    headings = [">run", "master", ">task", "since", "edited by", "input"]
    table = Table(headings, [], ("input", "edited by", "master"), ("since",))
    for task in tasks:
        since = datetime.datetime.fromtimestamp(task.since).isoformat(" ", "seconds")
        point = "(too large to be shown)" if task.input_omitted else value_text(task.input)
        table.rows.append([str(task.run), task.master, str(task.index), since, task.edited_by, point])
    return table
