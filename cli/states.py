"""The state directory that a command line names, and what is told of the journal in one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from taskmaster.cli.output import print_json, say

if TYPE_CHECKING:
    from taskmaster.daemon.journal.report import JournalReport

__all__ = ["print_report", "state_of"]


def state_of(place: Path) -> Path:
    """A state directory, or that of a configuration file. Raises ConfigError."""
    from taskmaster.config.load import load

    is_file = place.is_file() or (not place.exists() and place.suffix == ".toml")
    return load(place).daemon.state if is_file else place


def print_report(found: JournalReport, *, as_json: bool) -> None:
    """Show what there is in a journal."""
    if as_json:
        runs = [{**asdict(run), "ok": run.ok} for run in found.runs]
        print_json({**asdict(found), "folder": str(found.folder), "runs": runs, "ok": found.ok})
        return
    for line in found.lines():
        say(line)
