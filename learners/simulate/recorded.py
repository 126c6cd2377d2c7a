"""The durations of a real run, to simulate with."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.status import RunInfo
from taskmaster.bus.text import lacking
from taskmaster.learners.client import Lab
from taskmaster.learners.export import FORMATS
from taskmaster.learners.results import Chunk

__all__ = ["durations_in", "durations_of"]

#: Formats that durations are read from.
_READ = ("csv", "jsonl", "parquet")


def durations_of(lab: Lab, run: RunInfo) -> NDArray[np.float64]:
    """How long each evaluation of a run took that has ended in an output or a failure: ``(n,)`` seconds, in order.

    For :class:`~taskmaster.learners.simulate.latency.Recorded`. By the workers' own clocks. Raises CallerError if there
    are none.
    """
    with lab[run.master].watch(run.name) as watched:
        chunks: Iterator[Chunk] = watched.results.chunks(lambda core: core.next_seq >= run.events)
        durations = [_seconds(chunk, k) for chunk in chunks if chunk.head.kind == "done" for k in range(chunk.head.n)]
    return _some(durations, f"run {run.name!r} of Master {run.master!r}")


def _seconds(chunk: Chunk, k: int) -> float:
    started, finished = chunk.times(k)
    return max(0.0, finished - started)


def durations_in(file: str | os.PathLike[str]) -> NDArray[np.float64]:
    """The same of a run that was exported: CSV, JSON lines or Parquet. Raises CallerError, OSError."""
    path = Path(file)
    form = next((form for form in _READ if path.suffix.lower() in FORMATS[form]), None)
    if form is None:
        ends = [suffix for readable in _READ for suffix in FORMATS[readable]]
        raise CallerError(
            f"durations are read from a run that was exported, a file whose name ends in {', '.join(ends)}; "
            f"not from {str(path)!r}"
        )
    try:
        spans = _spans_in(path, form)
    except KeyError as error:
        raise CallerError(f"{str(path)!r} is no export of a run: it has no column {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise CallerError(f"{str(path)!r} is no export of a run: {type(error).__name__}: {error}") from None
    return _some(spans, f"{str(path)!r}")


def _spans_in(path: Path, form: str) -> list[float]:
    if form == "csv":
        with path.open(encoding="utf-8", newline="") as lines:
            return _spans(csv.DictReader(lines))
    if form == "jsonl":
        with path.open(encoding="utf-8") as lines:
            return _spans(map(json.loads, lines))
    return _spans(_parquet(path))


def _parquet(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise CallerError(lacking("reading Parquet needs", "pyarrow", "parquet", error)) from None
    rows: Iterable[Mapping[str, Any]] = parquet.read_table(path, columns=["outcome", "started", "finished"]).to_pylist()
    return rows


def _spans(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    """The durations of tasks that were evaluated, of rows of an export."""
    return [
        max(0.0, _moment(row["finished"]) - _moment(row["started"]))
        for row in rows
        if row["outcome"] in ("done", "failed")
    ]


def _moment(value: Any) -> float:
    """Seconds, of what an export holds for a time."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            from datetime import datetime

            return datetime.fromisoformat(value).timestamp()
    seconds: float = value.timestamp()
    return seconds


def _some(durations: list[float], what: str) -> NDArray[np.float64]:
    if not durations:
        raise CallerError(f"{what} has no task that was evaluated, so there are no durations to simulate with")
    return np.array(durations)
