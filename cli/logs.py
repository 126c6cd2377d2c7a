"""What a daemon or a host of workers logs, on standard error: for people, for systemd's journal, or for programs."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskmaster.bus.text import entry, printable_lines
from taskmaster.cli.journald import JournalHandler, priority

__all__ = ["goes_to_journal", "log_options", "log_to_stderr"]

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "journal", "json")


def log_options(function: F) -> F:
    """Adds ``--log-level`` and ``--log-format``."""
    level = click.option(
        "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="What is worth a line."
    )
    form = click.option(
        "--log-format", type=click.Choice(FORMATS), default="auto", show_default=True,
        help="Lines for people, for systemd's journal, or JSON; auto: whom they go to.",
    )  # fmt: skip
    return level(form(function))


def log_to_stderr(level: str, form: str, identifier: str = "taskmaster") -> None:
    """Have everything be logged on standard error from now on.

    Where that leads to systemd's journal and nothing else is asked for, it goes there directly, with fields; by
    ``identifier`` the journal tells programs apart.
    """
    if form == "auto":
        form = "journal" if goes_to_journal() else "text"
        if form == "journal":
            with contextlib.suppress(OSError):  # no journal after all, or none that can be reached from here
                logging.basicConfig(level=level.upper(), handlers=[JournalHandler(identifier)], force=True)
                return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter({"text": _ForPeople, "journal": _ForJournal, "json": _ForPrograms}[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def goes_to_journal() -> bool:
    """Whether systemd connected standard error to its journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _ForPeople(logging.Formatter):
    """``2026-03-01 14:02:31.120 warning supervision: …``"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        return f"{moment} {record.levelname.lower():7} {_where(record)}: {entry(_text(self, record))}"


class _ForJournal(logging.Formatter):
    """The priority as systemd reads it at the head of a line (sd-daemon(3)); it notes the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        lines = f"{_where(record)}: {entry(_text(self, record))}".splitlines()
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in lines)


class _ForPrograms(logging.Formatter):
    """An object a line: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, ``pid``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {
                "time": moment,
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": printable_lines(_text(self, record)),
                "pid": record.process,
            },
            ensure_ascii=False,
        )


def _where(record: logging.LogRecord) -> str:
    return record.name.removeprefix("taskmaster.")


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    return f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text
