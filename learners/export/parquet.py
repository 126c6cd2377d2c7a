"""Runs as Parquet, through pyarrow: batch by batch, with units and what is known of the run as metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import lacking
from taskmaster.learners.export.columns import Columns, Kind, Values
from taskmaster.learners.export.plain import dumps

__all__ = ["write_parquet"]

#: Rows of a row group: what readers skip and decompress at a time.
GROUP_ROWS = 65_536


def write_parquet(
    out: IO[bytes],
    columns: Columns,
    batches: Iterable[list[Values]],
    about: Mapping[str, Any],
    attributes: Mapping[str, Mapping[str, Any]],
) -> None:
    """A table in row groups. Arrays are lists, ``started`` and ``finished`` timestamps, what has no type JSON text.

    ``about`` becomes the file's metadata, ``attributes`` those of its columns by name. Raises CallerError without
    pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise CallerError(lacking("Parquet needs", "pyarrow", "parquet", error)) from None

    kinds = {column.name: column.kind for column in columns.named}
    types = {name: _FIXED[name](pa) if name in _FIXED else _type(pa, kinds[name]) for name in columns.names}
    schema = pa.schema(
        [pa.field(name, types[name], metadata=_metadata(attributes.get(name, {}))) for name in columns.names],
        metadata=_metadata(about),
    )
    with pq.ParquetWriter(out, schema) as writer:
        waiting: list[Any] = []
        for values in batches:
            arrays = [_array(pa, column, types[name], kinds.get(name)) for name, column in zip(columns.names, values)]
            waiting.append(pa.record_batch(arrays, schema=schema))
            if sum(batch.num_rows for batch in waiting) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting), GROUP_ROWS)
                waiting.clear()
        writer.write_table(pa.Table.from_batches(waiting, schema), GROUP_ROWS)


#: The types of the columns that every run has.
_FIXED: Mapping[str, Any] = {
    "index": lambda pa: pa.int64(),
    "seq": lambda pa: pa.int64(),
    "outcome": lambda pa: pa.dictionary(pa.int8(), pa.string()),
    "error": lambda pa: pa.string(),
    "worker": lambda pa: pa.dictionary(pa.int32(), pa.string()),
    "attempt": lambda pa: pa.int32(),
    "started": lambda pa: pa.timestamp("us", tz="UTC"),
    "finished": lambda pa: pa.timestamp("us", tz="UTC"),
}


def _type(pa: Any, kind: Kind) -> Any:
    scalar = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}.get(kind.name, pa.string())
    for side in reversed(kind.shape):
        scalar = pa.list_(scalar, side) if side >= 0 else pa.list_(scalar)
    return scalar


def _array(pa: Any, values: Values, wanted: Any, kind: Kind | None) -> Any:
    if pa.types.is_timestamp(wanted):
        return pa.array([None if value is None else round(value * 1e6) for value in values], wanted)
    if kind is not None and kind.name == "json":
        return pa.array([None if value is None else dumps(value) for value in values], wanted)
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return pa.array(np.ascontiguousarray(values), wanted)
    items = (value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value for value in values)
    return pa.array(items, wanted, size=len(values))


def _metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """Text as it is, everything else as JSON: Parquet knows text only."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
