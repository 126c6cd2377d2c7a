"""``taskmaster audit``: who has done what."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError
from taskmaster.bus.status import AuditEntry
from taskmaster.bus.text import printable
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.moments import moment_option
from taskmaster.cli.output import json_text, print_line, record, say
from taskmaster.cli.states import state_of

__all__ = ["command"]

#: Seconds between two looks for what is new.
_FOLLOW_SECONDS = 1.0
#: Characters that a column grows to; what is longer moves what follows it.
_WIDEST = 24

#: A page of the record behind an entry.
Reader = Callable[[m.ReadAudit], m.AuditPage]


@click.command("audit", cls=Command)
@click.argument("place", metavar="[CONFIG|STATE|BACKUP]", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--since", metavar="TIME", help="From then on: 2026-11-21, 2026-11-21T12:00, or how long ago: '2 h', '7 d'."
)
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option("--user", metavar="NAME", help="Of this key's owner only; local: on the daemon's own machine.")
@click.option("--master", metavar="MASTER", help="About this Master only.")
@click.option("--follow", is_flag=True, help="Go on with what comes.")
@address_option
@json_option
def command(
    place: Path | None,
    since: str | None,
    until: str | None,
    user: str | None,
    master: str | None,
    follow: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Show what operators and admins have done, and what somebody was refused: a line for each, oldest first.

    When (local time), who in which role, from where, what, about what, and what became of it. Over the network it takes
    the role admin. With CONFIG, STATE or BACKUP it is read from the journal there, with its daemon stopped, too, by who
    may read that.
    """
    if place is not None and address is not None:
        raise click.UsageError("--address leads to a daemon, CONFIG and STATE to a journal: name one of them")
    question = m.ReadAudit(0, 0, moment_option("--since", since), moment_option("--until", until), user, master)
    lines = _Lines()
    with contextlib.ExitStack() as stack:
        read = stack.enter_context(_from_journal(place) if place is not None else _from_daemon(address))
        none = True
        for page in _pages(read, question, follow=follow):
            none = none and not page
            for entry in page:
                if as_json:
                    click.echo(json_text(record(entry)))
                else:
                    lines.print(entry, page)
    if none and not as_json:
        say("nothing is on record")


def _pages(read: Reader, question: m.ReadAudit, *, follow: bool) -> Iterator[Sequence[AuditEntry]]:
    while True:
        page = read(question)
        yield page.entries
        question.after = page.after
        if page.more:
            continue
        if not follow:
            return
        time.sleep(_FOLLOW_SECONDS)


@contextlib.contextmanager
def _from_daemon(address: str | None) -> Iterator[Reader]:
    with connected(address) as lab:
        yield lab.ask


@contextlib.contextmanager
def _from_journal(place: Path) -> Iterator[Reader]:
    from taskmaster.daemon.journal.audit import read_audit
    from taskmaster.daemon.journal.backup import MANIFEST
    from taskmaster.daemon.journal.reading import RecordedRuns

    state = state_of(place)
    if not (state / "journal.db").exists():
        raise CallerError(f"there is no journal in {state}; name the state directory of a daemon, or its configuration")
    with contextlib.closing(RecordedRuns(state, immutable=(state / MANIFEST).exists())) as journal:
        yield lambda question: read_audit(journal, question)


class _Lines:
    """Prints entries below each other: columns are as wide as what has come so far."""

    def __init__(self) -> None:
        self._widths = [0] * 5

    def print(self, entry: AuditEntry, page: Sequence[AuditEntry]) -> None:
        """Print one of a page."""
        if entry is page[0]:
            columns = zip(*(_cells(one) for one in page))
            self._widths = [
                max(width, *(len(cell) for cell in column if len(cell) <= _WIDEST), 0)
                for width, column in zip(self._widths, columns)
            ]
        head = "  ".join(cell.ljust(width) for cell, width in zip(_cells(entry), self._widths))
        moment = datetime.datetime.fromtimestamp(entry.time).isoformat(" ", "milliseconds")
        about = printable(" ".join(f"{key}={_text(value)}" for key, value in entry.about.items()))
        times = f" ({entry.times} times)" if entry.times > 1 else ""
        is_refused = entry.outcome != "done"
        end = printable(f"{entry.outcome}{f': {entry.why}' if entry.why else ''}")
        line = f"{entry.entry:>6}  {moment}  {head}  {about}{'  ' if about else ''}"
        if is_refused:
            print_line(line, end + times)
        else:
            print_line(f"{line}{end}{times}")


def _cells(entry: AuditEntry) -> Sequence[str]:
    who = entry.user or ("(the daemon)" if entry.role == "daemon" else "(unknown)")
    return [printable(cell) for cell in (who, entry.role, entry.origin or "–", entry.what, entry.master or "–")]


def _text(value: Any) -> str:
    """What was said, so that it can be told from what follows."""
    if isinstance(value, str) and (" " in value or not value):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
