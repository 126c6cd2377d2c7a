"""Functions of rows that tests' Masters of driver `gpu` evaluate, on the processor: what rows ask for, they get."""

from __future__ import annotations

import os
import time
from typing import Any

from taskmaster.drivers.base import DeviceBroken
from taskmaster.drivers.gpu import namespace

#: What ``do`` may be: else the product is returned.
RAISES, BREAKS, HANGS, IS_NAN = 1, 2, 3, 4


def product(rows: Any) -> Any:
    """Of all numbers of a row."""
    return rows.prod(axis=1)


def asked(rows: Any) -> Any:
    """Of ``x`` the double, unless ``do`` asks for something else."""
    x, do = rows[:, 0], rows[:, 1]
    if (do == BREAKS).any():
        raise DeviceBroken("scripted: an illegal memory access was encountered")
    if (do == RAISES).any():
        raise ValueError("a bad row")
    if (do == HANGS).any():
        time.sleep(1000)
    y = 2 * x
    y[do == IS_NAN] = float("nan")
    return y


def slowly_asked(rows: Any) -> Any:
    """The same, and it takes a while."""
    time.sleep(0.2)
    return asked(rows)


def small(rows: Any) -> Any:
    """As if there were little memory."""
    if len(rows) > 100:
        raise MemoryError(f"no room for {len(rows)} rows")
    return {"y": 2 * rows[:, 0], "rows": rows[:, 0] * 0 + len(rows)}


def where(rows: Any) -> Any:
    """In which process, and how many rows with it."""
    time.sleep(0.01)
    n = len(rows)
    return {"pid": [os.getpid()] * n, "rows": [n] * n, "device": [int(os.environ["TASKMASTER_DEVICE"])] * n}


def slow(rows: Any) -> Any:
    """In which process; longer than one that evaluates a cancelled task is left to live."""
    time.sleep(0.6)
    return [os.getpid()] * len(rows)


def dtype(rows: Any) -> Any:
    """What rows are made of."""
    return [str(rows.dtype)] * len(rows)


def many(rows: Any) -> Any:
    """An array for each row, and a whole number."""
    import numpy as np

    return {"picture": np.ones((len(rows), 2, 3)) * rows[:, :1, None], "count": rows[:, 1].astype("int64")}


def fail_at_one() -> None:
    """A set-up that fails on one of several devices."""
    if os.environ["TASKMASTER_DEVICE"] == "1":
        raise RuntimeError("device 1 has fallen off the bus")


def jax_double(rows: Any) -> Any:
    """By JAX."""
    import jax.numpy as jnp

    return jnp.sin(rows[:, 0]) * 2


def torch_double(rows: Any) -> Any:
    """By PyTorch."""
    import torch

    return torch.sin(rows[:, 0]) * 2


def columns(rows: Any) -> Any:
    """Columns of several kinds, whatever library the rows are of; ``do`` as above."""
    xp = namespace(rows)
    x, do = rows[:, 0], rows[:, 1]
    if (do == RAISES).any():
        raise ValueError("a bad row")
    return {
        "y": xp.where(do == IS_NAN, float("nan"), 3 * x),
        "sine": xp.sin(x),
        "pair": xp.stack([x, do], 1),
        "above": x > 0.5,
        "library": [xp.__name__] * len(rows),
    }


def greedy(rows: Any) -> Any:
    """Takes 64 MiB of the device for each row."""
    import cupy

    room = cupy.empty((len(rows), 8 << 20), "float64")
    room[:, 0] = rows[:, 0]
    return 2 * room[:, 0]
