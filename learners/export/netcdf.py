"""Runs as NetCDF 4, through xarray: one dimension ``task``, further ones for arrays, units by the CF conventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import lacking
from taskmaster.learners.export.columns import Columns, Kind, Values
from taskmaster.learners.export.plain import dumps

__all__ = ["write_netcdf"]

_FIXED = {
    "index": Kind("int"),
    "seq": Kind("int"),
    "outcome": Kind("str"),
    "error": Kind("str"),
    "worker": Kind("str"),
    "attempt": Kind("int"),
    "started": Kind("float"),
    "finished": Kind("float"),
}
#: Readers that know the CF conventions turn these into times.
_TIME = {"units": "seconds since 1970-01-01T00:00:00", "calendar": "proleptic_gregorian"}


def write_netcdf(
    file: Path,
    columns: Columns,
    batches: Iterable[list[Values]],
    about: Mapping[str, Any],
    attributes: Mapping[str, Mapping[str, Any]],
) -> None:
    """A data set of one variable a column. It is made up in memory, unlike the other formats.

    Where a task has no value there is NaN, or empty text: so whole numbers and truth values with gaps are stored as
    floats. Arrays that differ in length are filled up with NaN. ``about`` becomes the attributes of the set,
    ``attributes`` those of its variables by name. Raises CallerError without xarray and h5netcdf.
    """
    try:
        import h5netcdf  # noqa: F401
        import xarray as xr
    except ImportError as error:
        raise CallerError(lacking("NetCDF needs", "xarray h5netcdf", "netcdf", error)) from None

    gathered: list[list[Any]] = [[] for _ in columns.names]
    for values in batches:
        for column, more in zip(gathered, values):
            column.extend(more)
    kinds = {column.name: column.kind for column in columns.named}
    variables = {}
    for name, column in zip(columns.names, gathered):
        array = _array(column, kinds.get(name) or _FIXED[name])
        notes = _TIME if name in ("started", "finished") else attributes.get(name, {})
        dimensions = ("task", *(f"{name}_{axis}" for axis in range(array.ndim - 1)))
        variables[name] = (dimensions, array, dict(notes))
    dataset = xr.Dataset(variables, attrs={"Conventions": "CF-1.11", **about}).set_coords("index")
    dataset.to_netcdf(file, engine="h5netcdf")


def _array(values: list[Any], kind: Kind) -> NDArray[Any]:
    if kind.name == "json":
        return np.array(["" if value is None else dumps(value) for value in values], dtype=object)
    if kind.name == "str":
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    if -1 in kind.shape:
        return _filled(values, len(kind.shape))
    if any(value is None for value in values):
        nothing = np.full(kind.shape, np.nan)
        return np.array([nothing if value is None else value for value in values], dtype=float)
    dtype = {"bool": np.int8, "int": np.int64}.get(kind.name, np.float64)
    return np.array(values, dtype=dtype).reshape(len(values), *kind.shape)


def _filled(values: list[Any], ndim: int) -> NDArray[Any]:
    """Arrays of different shapes as one, with NaN where one does not reach."""
    arrays = [np.full((0,) * ndim, np.nan) if value is None else np.asarray(value, float) for value in values]
    shape = tuple(max(sides) for sides in zip(*(array.shape for array in arrays))) if arrays else (0,) * ndim
    filled = np.full((len(arrays), *shape), np.nan)
    for row, array in zip(filled, arrays):
        row[tuple(map(slice, array.shape))] = array
    return filled
