"""``taskmaster journal``: check it, prune old runs, give room back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, JournalDamaged
from taskmaster.bus.places import noted_address
from taskmaster.bus.text import format_size, parse_duration, parse_size
from taskmaster.cli.base import Command, Group, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.output import Table, count, print_json, print_table, say
from taskmaster.cli.states import print_report, state_of

if TYPE_CHECKING:
    from taskmaster.config.load import Config
    from taskmaster.daemon.retention import ClosedRun, Retention

__all__ = ["command"]

_PLACE = click.argument("place", metavar="CONFIG|STATE", type=click.Path(exists=True, path_type=Path))


@click.group("journal", cls=Group)
def command() -> None:
    """Check the journal, prune old runs, give room back.

    CONFIG is a configuration file, STATE the state folder of a daemon.
    """


@command.command("check", cls=Command)
@click.argument("place", metavar="CONFIG|STATE|BACKUP", type=click.Path(exists=True, path_type=Path))
@json_option
def check(place: Path, as_json: bool) -> None:
    """Look at everything in a journal, or in a backup.

    Says what is wrong, and what of each run can be kept. Changes nothing, and may be used beside a daemon at work. Of a
    backup it is also compared whether it is what was backed up.
    """
    from taskmaster.daemon.journal.backup import MANIFEST, verify
    from taskmaster.daemon.journal.check import report

    state = state_of(place)
    if (state / MANIFEST).exists():
        verify(state)
    found = report(state)
    print_report(found, as_json=as_json)
    if not found.ok:
        raise JournalDamaged(f"the journal in {found.folder} is damaged, see above")


@command.command("vacuum", cls=Command)
@_PLACE
@json_option
def vacuum(place: Path, as_json: bool) -> None:
    """Give the room that deleted runs have left back to the disk.

    Only with the daemon stopped, since nobody could be served meanwhile. It is seldom needed: the daemon uses that room
    again for what is recorded next, and payload files go with their run. Takes a second for some 100 MB, and as much
    room again.
    """
    from taskmaster.daemon.journal.vacuum import vacuum

    state = state_of(place)
    before, after = vacuum(state)
    if as_json:
        print_json({"state": str(state), "before": before, "after": after})
    else:
        say(f"{state}: the database takes {format_size(after)}, before it took {format_size(before)}")


@command.command("prune", cls=Command)
@_PLACE
@click.option("--closed", metavar="AGE", help="Delete closed runs whose last event is so old, such as '180 d'.")
@click.option("--size", metavar="SIZE", help="Delete closed runs, the oldest first, until the journal takes no more.")
@click.option(
    "--archive", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path),
    help="Where they are written to as Parquet before. By default as CONFIG says, else 'archive' in STATE.",
)  # fmt: skip
@click.option("--no-archive", is_flag=True, help="Delete them without: what was measured in them is gone.")
@click.option("--dry-run", is_flag=True, help="Only list the runs that would be deleted.")
@address_option
@json_option
def prune(
    place: Path,
    closed: str | None,
    size: str | None,
    archive: Path | None,
    no_archive: bool,
    dry_run: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Archive and delete closed runs that are old, or that the journal has no room for.

    What is not said is as in [retention] of CONFIG. Runs that are open, and those with tasks that have no outcome or
    are in doubt, are never deleted. Where a daemon is at work, it is asked to delete each run when that is archived and
    was read again: it is the journal's only writer. Archived runs can be read by whatever reads Parquet, and not be
    resumed or replayed any more.
    """
    from taskmaster.daemon.archiving import prune as prune_runs, require_parquet
    from taskmaster.daemon.journal.reading import RecordedRuns
    from taskmaster.daemon.retention import due

    if archive is not None and no_archive:
        raise click.UsageError("--archive and --no-archive contradict each other")
    if archive is not None and str(archive) == "none":
        raise click.UsageError("--archive names a folder; to delete without any there is --no-archive")
    config = _config(place)
    state = state_of(place)
    rules = _rules(config, state, closed, size, archive, no_archive=no_archive)
    if rules.archive is not None and not dry_run:
        require_parquet()
    fields = {} if config is None else {
        name: (master.parameter_fields, master.output_fields) for name, master in config.masters.items()
    }  # fmt: skip
    now = time.time()
    with contextlib.closing(RecordedRuns(state, fields)) as runs:
        if dry_run:
            used = runs.used() if rules.size is not None else 0
            _list([(run, runs.size_of(run.run)) for run in due(runs.closed(), rules, used, now, runs.size_of)], as_json)
            return
        with _deleter(state, address) as delete:
            pruned = 0
            for run, files in prune_runs(runs, rules, now, delete):
                pruned += 1
                names = [str(file) for file in files]
                if as_json:
                    print_json({"run": run.run, "master": run.master, "name": run.name, "files": names})
                else:
                    say(f"run {run.run} ({run.master}/{run.name}) is deleted{f', see {names[0]}' if names else ''}")
    if not as_json:
        say(f"{count(pruned, 'run')} deleted" if pruned else "no run is to be deleted")


def _config(place: Path) -> Config | None:
    from taskmaster.config.load import load

    return load(place) if place.is_file() else None


def _rules(
    config: Config | None, state: Path, closed: str | None, size: str | None, archive: Path | None, *, no_archive: bool
) -> Retention:
    from taskmaster.daemon.plan import retention
    from taskmaster.daemon.retention import Retention

    known = Retention(archive=str(state / "archive")) if config is None else retention(config)
    age, limit = _read(parse_duration, closed, "--closed"), _read(parse_size, size, "--size")
    if closed is not None or size is not None:  # what is said here is all that is wanted
        known = Retention(age, None if limit is None else int(limit), known.archive)
    if not known:
        raise click.UsageError("say which runs are to go: --closed AGE, --size SIZE, or [retention] in CONFIG")
    folder = None if no_archive else str(archive.absolute()) if archive is not None else known.archive
    return Retention(known.closed, known.size, folder)


def _read(parse: Callable[[str], float], text: str | None, option: str) -> float | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


@contextlib.contextmanager
def _deleter(state: Path, address: str | None) -> Iterator[Callable[[ClosedRun], None]]:
    """Who deletes a run: the daemon that is at work, or we ourselves where none is, and none can start meanwhile."""
    from msgspec.structs import replace

    from taskmaster.daemon.effects import RunDeleted
    from taskmaster.daemon.journal.audit import by_hand
    from taskmaster.daemon.journal.inspection import daemon_kept_away
    from taskmaster.daemon.journal.vacuum import alone_with, clear

    with daemon_kept_away(state) as daemon:
        at_work = bool(daemon)
    if at_work:
        # Who may change the state directory may open the daemon's Unix socket, which one with keys has at any rate.
        with connected(address or noted_address(state)) as lab:
            yield lambda run: lab.ask(m.Prune(0, run.run, run.events))
        return
    if address is not None:
        raise CallerError(f"no daemon is at work in {state}, so --address leads to another one; leave it out")
    with alone_with(state) as journal:

        def delete(run: ClosedRun) -> None:
            about = {"run": run.run, "name": run.name, "events": run.events}
            journal.commit([RunDeleted(run.run), replace(by_hand("prune", about), master=run.master)])

        yield delete
        clear(journal)


def _list(runs: list[tuple[ClosedRun, int]], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"run": run.run, "master": run.master, "name": run.name, "ended": run.ended, "size": size}
                for run, size in runs
            ]
        )
        return
    if not runs:
        say("no run is to be deleted")
        return
    table = Table([">run", "master", "name", "ended", ">tasks", ">size"], [], ("name", "master"))
    for run, size in runs:
        day = time.strftime("%Y-%m-%d", time.localtime(run.ended))
        table.rows.append([str(run.run), run.master, run.name, day, str(run.tasks), format_size(size)])
    print_table(table)
    say(f"{count(len(runs), 'run')}, about {format_size(sum(size for _, size in runs))}")
