"""``taskmaster held`` and ``taskmaster resolve``: tasks in doubt."""

from __future__ import annotations

import datetime
from typing import Any

import click

from taskmaster.bus.errors import CallerError, InvalidOutput
from taskmaster.bus.status import HeldTask
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.output import Table, print_json, print_table, record, say, value_text
from taskmaster.cli.points import PointReader
from taskmaster.learners.client import Lab
from taskmaster.learners.export.plain import plain
from taskmaster.learners.resolving import ACTIONS

__all__ = ["held", "resolve"]

_BECOMES = {"done": "is done", "retry": "is evaluated again", "resume": "goes on", "fail": "has failed"}


@click.command("held", cls=Command)
@click.argument("master", required=False)
@address_option
@json_option
def held(master: str | None, address: str | None, as_json: bool) -> None:
    """List the tasks in doubt, of MASTER or of all.

    They lost their worker, and their Master says on_lost = "hold": whatever they do may have been done, or not, or in
    part. Look, then say what is to become of each with 'taskmaster resolve'.
    """
    with connected(address) as lab:
        tasks = lab.held(master)
    if as_json:
        print_json([{**record(task), "input": plain(task.input)} for task in tasks])
    elif not tasks:
        say("no task is in doubt")
    else:
        print_table(_table(tasks))
        click.echo("say what became of one: taskmaster resolve RUN TASK done|retry|resume|fail", err=True)


@click.command("resolve", cls=Command)
@click.argument("run")
@click.argument("index", type=click.IntRange(0))
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--output", metavar="OUTPUT", help="With done: 3.2, or y=3.2,z=1, or a JSON object.")
@click.option("--reason", metavar="TEXT", default="", help="With fail: why; it becomes the task's error.")
@click.option(
    "--attempt", metavar="N", type=click.IntRange(1),
    help="Only if this attempt is the one in doubt, as 'taskmaster held' lists it.",
)  # fmt: skip
@click.option("--as", "who", metavar="NAME", help="Who says so; by default your login name.")
@address_option
@json_option
def resolve(
    run: str,
    index: int,
    action: str,
    output: str | None,
    reason: str,
    attempt: int | None,
    who: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Say what becomes of the task INDEX of RUN, which is in doubt.

    done: it was, with this --output, of which its learner is told. retry: it is evaluated again. resume: it goes on
    from the checkpoint that it has left. fail: it ends without an output. 'taskmaster held' lists the tasks in doubt.
    """
    if (output is not None) != (action == "done"):
        wrong = "done needs the --output of the task" if output is None else f"{action} takes no --output, done does"
        raise click.UsageError(wrong)
    if reason and action != "fail":
        raise click.UsageError(f"{action} takes no --reason, fail does")
    with connected(address) as lab:
        found = find_run(lab, run)
        try:
            value = None if output is None else _read_output(lab, found.master, output)
            lab.resolve(found.run, index, action, value, reason=reason, attempt=attempt or 0, who=who)
        except InvalidOutput as error:  # not an evaluation has gone wrong, but who types
            raise CallerError(str(error)) from None
    if as_json:
        run_ = {"run": found.run, "master": found.master, "name": found.name}
        print_json({**run_, "index": index, "action": action})
    else:
        say(f"run {found.run} ({found.master}/{found.name}): task {index} {_BECOMES[action]}")


def _read_output(lab: Lab, master: str, text: str) -> Any:
    return PointReader(master, lab[master].outputs, "output").typed(text)


def _table(tasks: tuple[HeldTask, ...]) -> Table:
    headings = [">run", "master", ">task", "since", ">attempt", "worker", "input", "reason"]
    table = Table(headings, [], ("reason", "input", "worker", "master"), ("attempt", "worker"))
    for task in tasks:
        since = datetime.datetime.fromtimestamp(task.since).isoformat(" ", "seconds")
        point = "(too large to be shown)" if task.input_omitted else value_text(task.input)
        figures = [str(task.run), task.master, str(task.index), since, str(task.attempt)]
        table.rows.append([*figures, task.worker, point, " ".join(task.reason.split())])
    return table
