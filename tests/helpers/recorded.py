"""What a journal holds of a run, read as its owner would: with Python's own sqlite3 and numpy, not with our code."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

__all__ = ["Outcome", "asks", "outcomes", "points", "run_number", "table_sizes"]


@dataclass(frozen=True)
class Outcome:
    """How one task ended."""

    seq: int
    index: int
    #: done, failed or cancelled
    kind: str
    point: Any
    #: None where there is none
    output: Any


class _Reader:
    def __init__(self, state: Path) -> None:
        self._payloads = state / "payloads"
        self.db = sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)
        self._layouts = {number: json.loads(text) for number, text in self.db.execute("SELECT * FROM layouts")}

    def rows(self, layout: int | None, n: int, data: bytes | None, file: str | None) -> list[Any]:
        """The rows of a stored table of one part: floats, or values of any form."""
        if layout is None:
            return []
        content = data if file is None else (self._payloads / file[:2] / file).read_bytes()
        assert content is not None
        ((names, dtype, shape, *_),) = self._layouts[layout][0]
        if dtype == "O":
            offsets = np.frombuffer(content, "<u4", n + 1)
            body = content[4 * (n + 1) :]
            base = offsets[0]
            return [msgspec.msgpack.decode(body[a - base : b - base]) for a, b in pairwise(offsets)]
        array = np.frombuffer(content, dtype, n * len(names) * int(np.prod(shape, dtype=int)))
        if names == [""]:
            return list(array.reshape(n, *shape).tolist())
        return [dict(zip(names, row)) for row in array.reshape(n, len(names), *shape).tolist()]


def run_number(state: Path, master: str, name: str) -> int:
    """The number of a run. Raises LookupError where it is not on record."""
    with closing(_Reader(state).db) as db:
        found = db.execute("SELECT run FROM runs WHERE master = ? AND name = ?", (master, name)).fetchone()
    if found is None:
        raise LookupError(f"run {name!r} of Master {master!r} is not on record")
    return int(found[0])


def points(state: Path, run: int) -> dict[int, Any]:
    """The points that were put, by their indices. Raises AssertionError where there is a gap."""
    reader = _Reader(state)
    with closing(reader.db):
        return dict(_points(reader, run))


def outcomes(state: Path, run: int) -> list[Outcome]:
    """How the tasks of a run ended, in the order of its events. Raises AssertionError where that has a gap."""
    reader = _Reader(state)
    with closing(reader.db):
        points = dict(_points(reader, run))
        return list(_outcomes(reader, run, points))


def _points(reader: _Reader, run: int) -> Iterator[tuple[int, Any]]:
    end = 0
    for first, n, *stored in reader.db.execute(
        "SELECT first, n, layout, data, file FROM blocks WHERE run = ? ORDER BY first", (run,)
    ):
        assert first == end, f"run {run}: tasks {end} to {first - 1} are not in the journal"
        end = first + n
        yield from enumerate(reader.rows(stored[0], n, stored[1], stored[2]), first)


def _outcomes(reader: _Reader, run: int, points: dict[int, Any]) -> Iterator[Outcome]:
    end = 0
    for seq, n, kind, first, layout, errors, data, file in reader.db.execute(
        "SELECT seq, n, kind, first, layout, errors, data, file FROM events WHERE run = ? ORDER BY seq", (run,)
    ):
        assert seq == end, f"run {run}: events {end} to {seq - 1} are not in the journal"
        end = seq + n
        if kind not in ("done", "cancelled"):
            continue
        failed = {position for position, *_ in json.loads(errors)} if errors else set()
        outputs = iter(reader.rows(layout, n - len(failed), data, file))
        for k in range(n):
            how = "cancelled" if kind == "cancelled" else "failed" if k in failed else "done"
            yield Outcome(seq + k, first + k, how, points[first + k], _only(next(outputs)) if how == "done" else None)


def _only(output: Any) -> Any:
    """The value of the only output, as a result gives it."""
    return next(iter(output.values())) if isinstance(output, dict) and len(output) == 1 else output


def table_sizes(state: Path) -> dict[str, int]:
    """How many rows each table of the journal has."""
    with closing(sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def asks(state: Path, run: int) -> list[tuple[int, int, int]]:
    """Where the learner was asked: the index of the next task, the last event it had been told of, and for how many."""
    reader = _Reader(state)
    with closing(reader.db) as db:
        blocks = db.execute("SELECT first, asks FROM blocks WHERE run = ? ORDER BY first", (run,))
        return [(first + offset, after, asked) for first, text in blocks for offset, after, asked in json.loads(text)]
