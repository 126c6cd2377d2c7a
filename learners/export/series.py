"""Series in time as tables in a file: CSV, JSON lines, Parquet.

Progress of a run has a row for each point: ``index``, ``attempt``, ``time``, then the values by their names. Samples
have one for each, too: ``head``, ``name``, ``time``, ``value``. Times are in seconds since 1970; timestamps in Parquet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, UnknownMaster
from taskmaster.bus.fields import Field
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import did_you_mean_or, lacking
from taskmaster.learners.client import Lab
from taskmaster.learners.export.columns import Values
from taskmaster.learners.export.complete import complete_or_not_at_all
from taskmaster.learners.export.plain import dumps
from taskmaster.learners.export.text import write_csv, write_jsonl
from taskmaster.learners.series import points_of

__all__ = ["SERIES_FORMATS", "SeriesTable", "export_series", "progress_of", "progress_table", "samples_table"]

#: Those of the formats of results that a series can be written in.
SERIES_FORMATS = ("csv", "jsonl", "parquet")

Row = tuple[Any, ...]


class SeriesTable:
    """What is to be written: the columns' names, and the rows, page by page, as often as they are asked for."""

    def __init__(
        self,
        fixed: tuple[str, ...],
        values: tuple[str, ...],
        units: Mapping[str, str],
        read: Callable[[], Iterator[list[Row]]],
    ) -> None:
        self.names = (*fixed, *values)
        self.fixed = fixed
        self.units = units
        self.read = read
        #: how many were written
        self.rows = 0

    def batches(self) -> Iterator[list[Values]]:
        """Columns of a page each."""
        self.rows = 0
        for rows in self.read():
            self.rows += len(rows)
            if rows:
                yield [list(column) for column in zip(*rows)]


def progress_table(lab: Lab, run: RunInfo) -> SeriesTable:
    """What the evaluations of a run have told."""
    question = m.ReadProgress(0, run.run)
    declared: tuple[Field, ...] = ()
    with contextlib.suppress(UnknownMaster):  # it is gone from the configuration
        declared = (*lab[run.master].parameters, *lab[run.master].outputs)
    return progress_of(lambda: (page.pieces for page in lab.series_pages(question)), declared)


def progress_of(pages: Callable[[], Iterator[Sequence[m.Piece]]], declared: Sequence[Field] = ()) -> SeriesTable:
    """Progress that is read twice, page by page: for the names, and for the values."""
    names = dict.fromkeys(name for pieces in pages() for piece in pieces for name in piece.names)
    fixed = ("index", "attempt", "time")
    columns = {name: f"progress.{name}" if name in fixed else name for name in names}

    def read() -> Iterator[list[Row]]:
        for pieces in pages():
            yield [
                (piece.task, piece.attempt, time, *(dict(zip(piece.names, values)).get(name) for name in names))
                for piece in pieces
                for time, *values in points_of(piece)
            ]

    units = {columns[field.name]: field.unit for field in declared if field.name in names and field.unit}
    return SeriesTable(fixed, tuple(columns.values()), units, read)


def samples_table(lab: Lab, question: m.ReadSamples) -> SeriesTable:
    """Monitored values, head by head and name by name."""
    begin = float("-inf") if question.begin is None else question.begin
    end = float("inf") if question.end is None else question.end

    def read() -> Iterator[list[Row]]:
        for page in lab.series_pages(question):
            yield [
                (piece.head, piece.names[0], time, value)
                for piece in page.pieces
                for time, value in points_of(piece)
                if begin <= time <= end
            ]

    return SeriesTable(("head", "name", "time"), ("value",), {}, read)


def export_series(table: SeriesTable, file: str | os.PathLike[str] | IO[bytes], format: str) -> int:
    """Write it into a file (there once it is complete, and not before) or an open one; returns the number of rows.

    Raises CallerError for an unknown format or a missing package, OSError where the file cannot be written.
    """
    if format not in SERIES_FORMATS:
        raise CallerError(f"cannot write a series in format {format!r}{did_you_mean_or(format, SERIES_FORMATS)}")
    if isinstance(file, (str, os.PathLike)):
        with complete_or_not_at_all(Path(file)) as partial, open(partial, "wb") as out:
            return export_series(table, out, format)
    if format == "csv":
        write_csv(file, table, table.batches())
    elif format == "jsonl":
        write_jsonl(file, table, table.batches())
    else:
        _write_parquet(file, table)
    return table.rows


def _write_parquet(out: IO[bytes], table: SeriesTable) -> None:
    """Numbers are doubles; a column with anything else is JSON text."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise CallerError(lacking("Parquet needs", "pyarrow", "parquet", error)) from None

    kinds = {
        "index": pa.int64(), "attempt": pa.int32(), "head": pa.string(), "name": pa.string(),
        "time": pa.timestamp("ms", tz="UTC"),
    }  # fmt: skip
    others = _not_numbers(table)
    types = [
        kinds[name] if name in table.fixed else pa.string() if name in others else pa.float64() for name in table.names
    ]
    fields = zip(table.names, types)
    schema = pa.schema([pa.field(name, type_, metadata=_unit(table.units.get(name))) for name, type_ in fields])
    with pq.ParquetWriter(out, schema) as writer:
        for columns in table.batches():
            arrays = []
            for name, type_, values in zip(table.names, types, columns):
                if name == "time":
                    values = [round(value * 1e3) for value in values]
                elif name in others and name not in table.fixed:
                    values = [None if value is None else dumps(value) for value in values]
                arrays.append(pa.array(values, type_))
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _not_numbers(table: SeriesTable) -> set[str]:
    """The columns that hold anything else."""
    found: set[str] = set()
    for columns in table.batches():
        for name, values in zip(table.names, columns):
            if name not in found and not _are_numbers(values):
                found.add(name)
    return found


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)


def _unit(unit: str | None) -> dict[str, str]:
    return {"units": unit} if unit else {}
