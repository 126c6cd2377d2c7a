"""What the commands share that write series in time."""

from __future__ import annotations

import sys

import click

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.export import BINARY, format_of
from taskmaster.learners.export.series import SERIES_FORMATS, SeriesTable, export_series

__all__ = ["series_format", "write_series"]


def series_format(form: str | None, output: str) -> str:
    """The format that was asked for, or that a file's name stands for. Raises UsageError."""
    if form is None and output != "-":
        try:
            form = format_of(output)
        except CallerError as error:
            raise click.UsageError(str(error)) from None
    form = form or "csv"
    if form not in SERIES_FORMATS:
        raise click.UsageError(f"cannot write a series in format {form}{did_you_mean_or(form, SERIES_FORMATS)}")
    if output == "-" and form in BINARY:
        raise click.UsageError(f"{form} goes to a file: name one with -o")
    return form


def write_series(table: SeriesTable, output: str, form: str) -> int:
    """Write to a file, or to standard output; returns the number of rows."""
    return export_series(table, sys.stdout.buffer if output == "-" else output, form)
