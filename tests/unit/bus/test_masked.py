"""What numpy can hold and a message cannot, or not as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from taskmaster.bus import values
from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.layout import MAX_NDIM
from taskmaster.bus.table import Table, pack_columns, pack_values

MASKED: Any = np.ma.array([1.0, 2.0], mask=[False, True])
SCHEMA = Schema((Field("x", "float"),), "svm")
PAIR = Schema((Field("pair", "float", shape=(2,)),), "svm")

#: What is done with it → the call
HIDING: dict[str, Callable[[], object]] = {
    "a value": lambda: values.encode({"inside": [MASKED]}),
    "a value that is kept": lambda: values.keep(MASKED),
    "values": lambda: pack_values([MASKED, MASKED]),
    "a column": lambda: pack_columns({"x": MASKED}, 2),
    "the masked constant": lambda: values.encode(np.ma.masked),
}
HIDING_FROM_A_SCHEMA: dict[str, Callable[[], object]] = {
    "points": lambda: SCHEMA.pack_points(MASKED),
    "columns": lambda: SCHEMA.pack_points({"x": MASKED}),
    "a point": lambda: PAIR.row({"pair": MASKED}),
    "a value of a point": lambda: SCHEMA.row({"x": np.ma.masked}),
}


@pytest.mark.parametrize("what", HIDING)
def test_masked_arrays_are_refused(what: str) -> None:
    with pytest.raises(TypeError, match=r"a masked array cannot travel; fill it"):
        HIDING[what]()


@pytest.mark.parametrize("what", HIDING_FROM_A_SCHEMA)
def test_masked_arrays_are_no_points(what: str) -> None:
    with pytest.raises(InvalidTask, match=r"Master 'svm': .*a masked array cannot travel; fill it"):
        HIDING_FROM_A_SCHEMA[what]()


@pytest.mark.parametrize("axes", [MAX_NDIM, MAX_NDIM + 1, 32])
@pytest.mark.parametrize("pack", [np.stack, list])
def test_arrays_of_many_axes_travel(axes: int, pack: Callable[[list[Any]], Any]) -> None:
    if pack is np.stack and axes == 32:
        pytest.skip("numpy has no more axes itself, before its second version")
    arrays = [np.full((1,) * axes, float(k)) for k in range(3)]
    table = pack_values(pack(arrays))
    arrived = Table.checked(table.layout, table.n, [bytes(frame) for frame in table.frames]).rows()
    for array, other in zip(arrays, arrived, strict=True):
        np.testing.assert_array_equal(array, other)
        assert other.shape == array.shape


def test_numbers_are_no_texts() -> None:
    with pytest.raises(InvalidTask, match="parameter 'name' must be a string, got 1"):
        Schema((Field("name", "str"),), "svm").pack_points({"name": np.array([1.0, 2.0])})
