"""``taskmaster runs``: list, show, export, replay, compare, fork and delete what was measured."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from dataclasses import asdict

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.authors import Authors, replay_line
from taskmaster.cli.base import Command, Group, address_option, json_option
from taskmaster.cli.commands.replaying import diff, fork, replay_run
from taskmaster.cli.connecting import connected, find_run
from taskmaster.cli.output import Cell, Table, count, is_terminal, print_json, print_table, record, say
from taskmaster.learners.looping.authors import BY_NAME, LEARNER, MADE, PATH

__all__ = ["command"]

#: Time for which the year goes without saying.
_RECENT = datetime.timedelta(days=180)


@click.group("runs", cls=Group)
def command() -> None:
    """List, show, export, replay, compare, fork and delete runs.

    RUN is a run's number, or MASTER/NAME, or its name if no other has the same.
    """


@command.command("list", cls=Command)
@click.argument("master", required=False)
@address_option
@json_option
def list_runs(master: str | None, address: str | None, as_json: bool) -> None:
    """List the runs of a Master, or of all."""
    with connected(address) as lab:
        runs = sorted(lab.runs(master), key=lambda run: run.run)
    if as_json:
        print_json([_as_json(run) for run in runs])
        return
    if not runs:
        say("there are no runs yet")
        return
    headings = [">run", "master", "name", "begun", ">tasks", ">open", ">failed", "state"]
    shows_proposed = any(run.proposed for run in runs)
    if shows_proposed:
        headings.insert(6, ">proposed")
    table = Table(headings, [], ("name", "master"), ("begun", "tasks", "failed"))
    for run in runs:
        failed = Cell(str(run.failed), "red" if run.failed else "")
        state = Cell(_state(run), "dim" if run.closed else "")
        proposed = [str(run.proposed)] if shows_proposed else []
        figures: list[str | Cell] = [str(run.tasks), str(_open(run)), *proposed, failed]
        table.rows.append([str(run.run), run.master, run.name, _day(run.created), *figures, state])
    print_table(table)


@command.command("show", cls=Command)
@click.argument("run")
@address_option
@json_option
def show(run: str, address: str | None, as_json: bool) -> None:
    """Show all that is known of RUN."""
    with connected(address) as lab:
        found = find_run(lab, run)
        known = Authors.of(lab, found)
    if as_json:
        print_json({**_as_json(found), "learners": [asdict(author) for author in known.all]})
        return
    outcomes = [f"{found.done} done", f"{found.failed} failed", f"{found.cancelled} cancelled", f"{_open(found)} open"]
    if found.held:
        outcomes.append(f"{found.held} in doubt")
    if found.proposed:
        outcomes.append(f"{found.proposed} waiting for approval")
    facts = {
        "run": str(found.run),
        "Master": found.master,
        "name": found.name,
        "begun": _moment(found.created),
        "state": _state(found),
        "tasks": f"{found.tasks}: {', '.join(outcomes)}",
        "events": str(found.events),
        "priority": str(found.priority),
        "seed": str(found.seed),
        **{key: value for key, value in found.metadata.items() if key not in (BY_NAME, PATH)},
    }
    for author in known.all:
        if author.first:
            facts[f"from task {author.first}"] = str(author)
        else:
            facts |= {LEARNER: author.learner, **({MADE: author.made} if author.made else {})}
    if known.all and known.all[0].by_name:
        facts["replay"] = replay_line(found, known.all[0])
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


@command.command("export", cls=Command)
@click.argument("run")
@click.option("--format", "form", metavar="csv|jsonl|parquet|netcdf", help="By default as FILE's name says, else csv.")
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write; by default, or -, to standard output."
)
@click.option("--progress", is_flag=True, help="What its evaluations have told of their progress, not their results.")
@address_option
def export(run: str, form: str | None, output: str, progress: bool, address: str | None) -> None:
    """Write the results of RUN as a table.

    A row for each task that has an outcome, in the order in which they ended: index, seq, the inputs, the outputs,
    outcome, error, worker, attempt, started, finished. Parquet and NetCDF carry the units, too, and need packages:
    pyarrow, or xarray and h5netcdf (the extras parquet and netcdf).

    With --progress, a row for each point: index, attempt, time, then the values by their names (not as NetCDF).
    """
    if progress:
        _export_progress(run, form, output, address)
        return
    from taskmaster.learners.export import BINARY, FORMATS, export_run, export_to, format_of

    to_stdout = output == "-"
    if form is None:
        form = "csv" if to_stdout else _from_command_line(format_of, output)
    if form not in FORMATS:
        raise click.UsageError(f"cannot write format {form!r}{did_you_mean_or(form, FORMATS)}")
    if to_stdout and form in BINARY:
        raise click.UsageError(f"{form} goes to a file: name one with -o")
    with connected(address) as lab:
        found = find_run(lab, run)
        if to_stdout:
            rows = export_to(lab, found, sys.stdout.buffer, form)
        else:
            rows = export_run(lab, found, output, form)
    if not to_stdout:
        say(f"{output}: {count(rows, 'row')} of run {found.run} ({found.master}/{found.name})")
    if _open(found) + found.held:
        click.echo(f"taskmaster: {count(_open(found) + found.held, 'task')} without an outcome yet left out", err=True)


def _export_progress(run: str, form: str | None, output: str, address: str | None) -> None:
    from taskmaster.cli.exporting import series_format, write_series
    from taskmaster.learners.export.series import progress_table

    form = series_format(form, output)
    with connected(address) as lab:
        found = find_run(lab, run)
        rows = write_series(progress_table(lab, found), output, form)
    if output != "-":
        say(f"{output}: {count(rows, 'row')} of the progress of run {found.run} ({found.master}/{found.name})")


def _from_command_line(read: Callable[[str], str], text: str) -> str:
    """``read(text)``, whose complaint is one about the command line."""
    try:
        return read(text)
    except CallerError as error:
        raise click.UsageError(str(error)) from None


command.add_command(replay_run)
command.add_command(diff)
command.add_command(fork)


@command.command("delete", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@address_option
@json_option
def delete(runs: tuple[str, ...], yes: bool, address: str | None, as_json: bool) -> None:
    """Delete RUNs with everything that was measured in them.

    They cannot be had back. A run with open tasks has to be cancelled first.
    """
    with connected(address) as lab:
        found = {run.run: run for run in (find_run(lab, text) for text in runs)}
        if not yes:
            _confirm(list(found.values()), asks=not as_json)
        for run in found.values():
            lab.delete_run(run.run)
            if as_json:  # each by itself, for those that are deleted are so even if another cannot be
                print_json({"run": run.run, "master": run.master, "name": run.name})
                continue
            say(f"run {run.run} ({run.master}/{run.name}) is deleted")


def _confirm(runs: list[RunInfo], *, asks: bool) -> None:
    if not (asks and sys.stdin.isatty() and is_terminal()):
        raise CallerError("deleting has to be confirmed: add --yes where there is no person or no terminal to ask")
    for run in runs:
        say(f"run {run.run}, {run.master}/{run.name}: {count(run.tasks, 'task')}, begun {_moment(run.created)}")
    click.confirm(f"Delete {'it' if len(runs) == 1 else 'them'} for good?", abort=True)


# -- in words ---------------------------------------------------------------------------------------------------------


def _open(run: RunInfo) -> int:
    """Tasks that wait, or are being evaluated."""
    return run.tasks - run.done - run.failed - run.cancelled - run.held


def _state(run: RunInfo) -> str:
    if run.paused:
        return "paused"
    return "open" if not run.closed else "closing" if _open(run) else "closed"


def _as_json(run: RunInfo) -> dict[str, object]:
    return {**record(run), "open": _open(run), "state": _state(run)}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def _day(seconds: float) -> str:
    """The same in twelve characters, as ``ls`` has it: with the time if it is not long ago, else with the year."""
    moment = datetime.datetime.fromtimestamp(seconds)
    recent = datetime.datetime.now() - moment < _RECENT
    return f"{moment:%b %e %H:%M}" if recent else f"{moment:%b %e  %Y}"
