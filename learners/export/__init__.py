"""A recorded run as a table in a file: CSV, JSON lines, Parquet, NetCDF.

A row for each task that has an outcome, in the order of events. The columns are ``index``, ``seq``, the inputs, the
outputs, ``outcome``, ``error``, ``worker``, ``attempt``, ``started`` and ``finished``; see `docs/cli.md`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from taskmaster.bus.errors import CallerError, UnknownMaster
from taskmaster.bus.fields import Field
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.client import Lab
from taskmaster.learners.export.columns import Columns, Survey, Values
from taskmaster.learners.export.complete import complete_or_not_at_all
from taskmaster.learners.export.netcdf import write_netcdf
from taskmaster.learners.export.pages import PageReader
from taskmaster.learners.export.parquet import write_parquet
from taskmaster.learners.export.text import write_csv, write_jsonl

__all__ = ["BINARY", "FORMATS", "export_run", "export_to", "format_of"]

#: Format → how its files' names end.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
    "netcdf": (".nc", ".nc4", ".netcdf"),
}
#: Formats that are no text, and need a file.
BINARY = ("parquet", "netcdf")


def format_of(file: str | os.PathLike[str]) -> str:
    """The format that a file's name stands for. Raises CallerError if it stands for none."""
    suffix = Path(file).suffix.lower()
    for name, suffixes in FORMATS.items():
        if suffix in suffixes:
            return name
    known = [suffix for suffixes in FORMATS.values() for suffix in suffixes]
    hint = did_you_mean_or(suffix, known, "names of files that do end in one of")
    raise CallerError(f"the name of {str(file)!r} does not say in which format to write{hint}")


def export_run(lab: Lab, run: RunInfo, file: str | os.PathLike[str], format: str | None = None) -> int:
    """Write what has become of a run's tasks so far into ``file``; returns the number of rows.

    ``format`` is one of :data:`FORMATS`, by default the one that the file's name stands for. The file is there under
    its name once it is complete, and not before. Raises CallerError for an unknown format or a missing package, OSError
    where the file cannot be written, UnknownRun, DaemonUnreachable, JournalError.
    """
    chosen = format or format_of(file)
    with complete_or_not_at_all(Path(file)) as partial:
        if chosen == "netcdf":
            return _export(lab, run, lambda *table: write_netcdf(partial, *table))
        with open(partial, "wb") as out:
            return export_to(lab, run, out, chosen)


def export_to(lab: Lab, run: RunInfo, out: IO[bytes], format: str) -> int:
    """The same into an open binary file, for every format but NetCDF."""
    if format == "csv":
        return _export(lab, run, lambda columns, batches, about, notes: write_csv(out, columns, batches))
    if format == "jsonl":
        return _export(lab, run, lambda columns, batches, about, notes: write_jsonl(out, columns, batches))
    if format == "parquet":
        return _export(lab, run, lambda *table: write_parquet(out, *table))
    raise CallerError(f"cannot write format {format!r}{did_you_mean_or(format, FORMATS)}")


#: Writes columns and their values, with what is known of the run, and of each column.
Writer = Callable[[Columns, Iterable[list[Values]], Mapping[str, Any], Mapping[str, Mapping[str, Any]]], None]


def _export(lab: Lab, run: RunInfo, write: Writer) -> int:
    """Read the run twice: for its columns, and for what is in them. Both end where its events end now."""
    survey = Survey()
    with PageReader(lab.address, lab._core.credentials) as reader:
        for batch in reader.batches(run.run, run.events):
            survey.look(batch)
        with contextlib.suppress(UnknownMaster):  # it is gone from the configuration
            master = lab[run.master]
            survey.expect(master.parameters, master.outputs)
        columns = survey.columns()
        batches = (columns.values(batch) for batch in reader.batches(run.run, run.events))
        write(columns, batches, _about(lab, run), _attributes(lab, run, columns))
    return survey.rows


def _about(lab: Lab, run: RunInfo) -> dict[str, Any]:
    """What is known of the run, for formats that have a place for it."""
    created = datetime.datetime.fromtimestamp(run.created, datetime.UTC)
    return {
        "title": f"run {run.name} of Master {run.master}",
        "source": f"TaskMaster daemon {lab.name}",
        "master": run.master,
        "run": run.name,
        "run_number": run.run,
        "seed": str(run.seed),  # up to 63 bits: more than a double holds
        "created": created.isoformat(timespec="seconds"),
        **{f"metadata.{key}": value for key, value in run.metadata.items()},
    }


def _attributes(lab: Lab, run: RunInfo, columns: Columns) -> dict[str, dict[str, Any]]:
    """Units, limits and descriptions of the columns, as far as the Master still declares them."""
    try:
        master = lab[run.master]
    except UnknownMaster:
        return {}
    fields = {"input": master.parameters, "output": master.outputs}
    declared = {(role, field.name): field for role, some in fields.items() for field in some}
    return {
        column.name: _notes(declared[column.role, column.source])
        for column in columns.named
        if (column.role, column.source) in declared
    }


def _notes(field: Field) -> dict[str, Any]:
    notes = {"units": field.unit, "long_name": field.description, "valid_min": field.min, "valid_max": field.max}
    return {key: value for key, value in notes.items() if value not in ("", None)}
