"""Runs as text: CSV and JSON lines. Each batch is written when it has been read, so a run of any length fits."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Protocol

import numpy as np

from taskmaster.learners.export.columns import Values
from taskmaster.learners.export.plain import dumps, plain

__all__ = ["write_csv", "write_jsonl"]


class Named(Protocol):
    """A table's columns."""

    @property
    def names(self) -> Sequence[str]: ...


def write_csv(out: IO[bytes], columns: Named, batches: Iterable[list[Values]]) -> None:
    """A heading, then a line for each row (RFC 4180, UTF-8).

    Nothing is an empty cell, true and false are ``true`` and ``false``, floats have all their digits; what is no scalar
    stands as JSON in its cell.
    """
    with _text(out) as text:
        writer = csv.writer(text)
        writer.writerow(columns.names)
        for values in batches:
            writer.writerows(zip(*map(_cells, values)))


def write_jsonl(out: IO[bytes], columns: Named, batches: Iterable[list[Values]]) -> None:
    """An object for each row, one a line; nothing is null."""
    names = columns.names
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    with _text(out) as text:
        for values in batches:
            rows = zip(*(_plain_list(column) for column in values))
            text.writelines(f"{encode(dict(zip(names, row)))}\n" for row in rows)


@contextlib.contextmanager
def _text(out: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """UTF-8 on top of a binary file, which stays open."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        yield text
    finally:
        text.detach()


def _plain_list(values: Values) -> list[Any]:
    if isinstance(values, np.ndarray) and (values.dtype.kind in "biu" or np.isfinite(values).all()):
        return list(values.tolist())
    return [plain(value) for value in values]


def _cells(values: Values) -> list[Any]:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "if":
        return list(values.tolist())
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (int, float)) else dumps(value)
