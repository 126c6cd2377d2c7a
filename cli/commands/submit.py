"""``taskmaster submit``: put points to be evaluated."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import click

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, DaemonUnreachable, EvaluationError, WorkerError
from taskmaster.bus.text import did_you_mean
from taskmaster.bus.wanted import require_head
from taskmaster.cli.base import Command, address_option, end_of_line, json_option
from taskmaster.cli.connecting import connected, in_master, require_workers, warn_if_idle
from taskmaster.cli.exits import INTERRUPTED
from taskmaster.cli.lines import ResultLines
from taskmaster.cli.output import count, print_json, say
from taskmaster.cli.points import FORMATS, PointReader
from taskmaster.learners.client import Run
from taskmaster.learners.results import Result

__all__ = ["command"]

#: What a number that begins with a minus looks like; anything else is an option that there is not.
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
#: Between two looks whether there is still somebody who may evaluate.
_LOOK_SECONDS = 1.0
#: What the daemon may take to hear that nobody waits any more.
_GOODBYE_SECONDS = 1.0
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@click.command("submit", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("master")
@click.argument("points", nargs=-1, type=click.UNPROCESSED)
@click.option("--file", "file", metavar="FILE|-", help="Read points from a .csv or .jsonl file, or standard input.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Of the file, if its name does not say.")
@click.option("--run", "run_name", metavar="NAME", help="The run to put them in: a new one, or one to go on with.")
@click.option("--priority", metavar="N", type=int, help="Of the run; the highest goes first. By default 0.")
@click.option("--head", metavar="NAME", help="Only this head of the instrument may evaluate them.")
@click.option("--capability", metavar="NAME", help="Only heads that have this capability may.")
@click.option("--wait", is_flag=True, help="Wait for the results and print them as they come.")
@address_option
@json_option
def command(
    master: str,
    points: tuple[str, ...],
    file: str | None,
    form: str | None,
    run_name: str | None,
    priority: int | None,
    head: str | None,
    capability: str | None,
    wait: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Put points to be evaluated by MASTER.

    A point is x=1,y=2, or 1,2 in the order of the Master's parameters, or a JSON object. For a Master that declares no
    parameters it is any JSON value. A CSV file names the parameters in its first line; a JSON-lines file has a point in
    each. All points are checked before the first is put.

    Without --run they make a run of their own. A run that is gone on with is taken over from whoever wrote to it.
    """
    _refuse_options(points)
    where = {key: name for key, name in (("head", head), ("capability", capability)) if name}
    if bool(points) == (file is not None):
        raise click.UsageError("name either points, or a file with --file")
    with connected(address) as lab:
        chosen = lab[master]
        reader = PointReader(master, chosen.parameters)
        given = _read(reader, file, form) if file is not None else [reader.typed(text) for text in points]
        if not given:
            raise CallerError(f"{file} has no points")
        if where:  # before there is a run, which would stay empty
            heads = [m.HeadName(info.head, info.capabilities) for info in lab.heads(master)]
            require_head(master, heads, m.Where(**where))
        run = chosen.open(run_name, since="now", priority=priority)
        indices = run.tasks.put_many(given, where=where or None)
        warn_if_idle(chosen)
        if wait:
            _wait(run, indices, ResultLines(chosen, as_json=as_json))
            return
        run.close()
        number = in_master(lab, master, run.name).run
        if as_json:
            print_json({"run": number, "master": master, "name": run.name, "first": indices[0], "count": len(indices)})
        else:
            say(f"run {number} ({master}/{run.name}): {count(len(indices), 'task')} put, from number {indices[0]} on")


def _refuse_options(points: tuple[str, ...]) -> None:
    """Options that there are not, which could not be told from negative numbers before."""
    for text in points:
        if text.startswith("-") and not _NEGATIVE.match(text):
            known = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
            raise click.UsageError(f"no such option {text!r}{did_you_mean(text, known)}")


def _read(reader: PointReader, name: str, form: str | None) -> list[Any]:
    form = form or _SUFFIXES.get(Path(name).suffix.lower())
    if name == "-":
        text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
        return reader.read(text, "<standard input>", form or "jsonl")
    if form is None:
        raise click.UsageError(f"the name of {name!r} does not say what it holds; add --format csv or --format jsonl")
    with open(name, encoding="utf-8-sig", newline="") as file:
        return reader.read(file, name, form)


def _wait(run: Run, indices: range, lines: ResultLines) -> None:
    """Print the results of these tasks. Raises EvaluationError if one has none, or none can come."""
    left, without = len(indices), 0
    try:
        while left:
            result = _next(run)
            if result.index in indices:
                left -= 1  # before it is printed: whoever sees it and presses Ctrl-C is told of the others
                without += result.outcome != "done"
                lines.print(result)
    except KeyboardInterrupt:
        end_of_line()
        click.echo(_leave(run, left), err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except WorkerError as error:
        run.close()
        raise WorkerError(f"{count(left, 'task')} must wait: {error}") from None
    run.close()
    if without:
        raise EvaluationError(f"{without} of {count(len(indices), 'task')} without an output")


def _leave(run: Run, left: int) -> str:
    """Close the run if the daemon hears of it at once; what becomes of the tasks that are left."""
    run.master.lab.patience = _GOODBYE_SECONDS
    follow = f"follow: taskmaster watch {run.master.name}"
    try:
        run.flush(_GOODBYE_SECONDS)
    except DaemonUnreachable:  # which are lost, the connection says when it is left
        return "the daemon does not answer, and has not acknowledged all tasks"
    try:
        run.close()
    except DaemonUnreachable:
        return f"the daemon does not answer; {count(left, 'task')} will be evaluated when it is back; {follow}"
    return f"{count(left, 'task')} will be evaluated all the same; {follow}"


def _next(run: Run) -> Result:
    """The next result, as long as there is somebody who may evaluate it, or a daemon that may come back."""
    while True:
        try:
            return run.results.get(_LOOK_SECONDS)
        except TimeoutError:
            with contextlib.suppress(DaemonUnreachable):
                require_workers(run.master)
