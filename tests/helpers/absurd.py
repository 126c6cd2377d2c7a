"""Messages that are well formed, and mean nothing: what a peer with a bug, or with bad intentions, might say."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.table import BARE, Buffer, Layout, Part, pack_values

__all__ = ["TO_CONTROL", "TO_WORKERS", "Said", "values"]

#: A message and its frames.
Said: TypeAlias = tuple[msgspec.Struct, Sequence[Buffer]]

_BIG = 2**64 - 1
_ONE = pack_values([1])
#: Rows of no bytes: any number of them takes no room.
_NOTHING = Layout((Part((BARE,), "<f8", (0,)),))


def values(*encoded: bytes) -> tuple[Layout, list[Buffer]]:
    """A column of values that were encoded by hand."""
    ends = [sum(map(len, encoded[:k])) for k in range(len(encoded) + 1)]
    return Layout((Part((BARE,), "O"),)), [struct.pack(f"<{len(ends)}I", *ends), b"".join(encoded)]


def _submit(first: int = 0, n: int = 1, asks: tuple[m.Ask, ...] = ()) -> Callable[[m.Opened], Said]:
    return lambda o: (m.Submit(o.run, o.writer, first, n, _ONE.layout, asks), _ONE.frames)


def _block(n: int, layout: Layout, *frames: Buffer) -> Callable[[m.Opened], Said]:
    return lambda o: (m.Submit(o.run, o.writer, 0, n, layout), frames)


def _part(dtype: str = "<f8", shape: tuple[int, ...] = (), names: tuple[str, ...] = (BARE,), form: int = 0) -> Layout:
    return Layout((Part(names, dtype, shape, form),))


#: What a client might say of a run that it has opened.
TO_CONTROL: Mapping[str, Callable[[m.Opened], Said]] = {
    "a version that never was": lambda o: (m.Describe(1, _BIG), ()),
    "a priority beyond all bounds": lambda o: (m.Open(1, o.master, o.name, priority=_BIG), ()),
    "another priority beyond all bounds": lambda o: (m.Prioritise(1, o.run, _BIG), ()),
    "a seed beyond all bounds": lambda o: (m.Open(1, o.master, "other", seed=_BIG), ()),
    "a name of nothing": lambda o: (m.Open(1, o.master, ""), ()),
    "a name without end": lambda o: (m.Open(1, o.master, "x" * 100_000), ()),
    "a name that clears the screen": lambda o: (m.Open(1, o.master, "\x1b[2J"), ()),
    "an unknown Master": lambda o: (m.Open(1, "x" * 10_000, "name"), ()),
    "an unknown run": lambda o: (m.Cancel(1, _BIG), ()),
    "a replay from beyond the end of time": lambda o: (m.Replay(1, o.run, _BIG), ()),
    "a replay from before its beginning": lambda o: (m.Replay(1, o.run, -(2**63), -(2**63)), ()),
    "cancelling backwards": lambda o: (m.Cancel(1, o.run, ((5, 2),)), ()),
    "cancelling beyond the end": lambda o: (m.Cancel(1, o.run, ((0, _BIG), (-5, 3))), ()),
    "resolving what is not held": lambda o: (m.Resolve(1, o.run, _BIG, "done"), ()),
    "what is held behind the end of the world": lambda o: (m.ListHeld(1, None, _BIG, (_BIG, -(2**63))), ()),
    "deleting what is not there": lambda o: (m.Delete(1, _BIG), ()),
    "fewer workers than none": lambda o: (m.SetWorkers(1, o.master, -1), ()),
    "more workers than atoms": lambda o: (m.SetWorkers(1, o.master, _BIG), ()),
    "knowing more than the journal": lambda o: (m.Ping(1, o.run, _BIG, _BIG), ()),
    "a request with an absurd number": lambda o: (m.Status(_BIG), ()),
    "tasks far behind the end": _submit(first=_BIG),
    "tasks before the beginning": _submit(first=-4),
    "less than no tasks": _submit(n=-1),
    "no tasks": _submit(n=0),
    "more tasks than rows": _submit(n=2),
    "absurd asks": _submit(asks=(m.Ask(_BIG, _BIG), m.Ask(-3, -9, _BIG))),
    "more rows of nothing than can be counted": _block(2**63, _NOTHING, b""),
    "more rows of nothing than can be evaluated": _block(2**62, _NOTHING, b""),
    "rows larger than all memory": _block(1, _part(shape=(2**40, 2**40)), b""),
    "rows of negative size": _block(1, _part(shape=(-1,)), b""),
    "an array of objects": _block(1, _part("|O8"), b"12345678"),
    "an array of records": _block(1, _part("<f8,<f8"), b"1234567812345678"),
    "no such type": _block(1, _part("<q99"), b"12345678"),
    "no such form": _block(1, _part(form=77), b"12345678"),
    "a column twice": _block(1, _part(names=("a", "a")), b"1234567812345678"),
    "no columns": _block(1, Layout(()), b""),
    "a column with an endless name": _block(1, _part(names=("a" * 100_000,)), b"12345678"),
    "offsets that lead astray": _block(2, values(b"1")[0], struct.pack("<3I", 0, 900, 5), b"1"),
    "a frame too many": _block(1, _ONE.layout, *_ONE.frames, b"more"),
    "a frame too few": _block(1, _ONE.layout),
}


def _outcome(
    position: int = 0,
    n: int = 1,
    outputs: Layout | None = _ONE.layout,
    frames: Sequence[Buffer] = _ONE.frames,
    errors: Sequence[int] = (),
    started: float = 1.0,
    finished: float = 2.0,
    *,
    timed: bool = False,
) -> Callable[[m.Dispatch], Said]:
    failures = tuple(m.TaskError(at, "kind", "message") for at in errors)
    return lambda d: (m.Outcome(d.lease, position, n, outputs, failures, started, finished, timed), frames)


def _failed(*errors: int) -> Callable[[m.Dispatch], Said]:
    return _outcome(outputs=None, frames=(), errors=errors)


#: What a worker might say of a lease that it was granted; its token is ``absurd``.
TO_WORKERS: Mapping[str, Callable[[m.Dispatch], Said]] = {
    "a start that is no number": _outcome(started=math.nan),
    "an end that is no number": _outcome(finished=math.nan),
    "an end that never comes": _outcome(finished=math.inf),
    "times for the wrong number of tasks": _outcome(timed=True),
    "tasks beyond its lease": _outcome(position=_BIG),
    "tasks before its lease": _outcome(position=-(2**63)),
    "fewer tasks than none": _outcome(n=-1, outputs=None, frames=()),
    "more tasks than outputs": _outcome(n=_BIG),
    "neither outputs nor errors": _outcome(outputs=None, frames=()),
    "an error of another task": _failed(5),
    "an error before the first": _failed(-1),
    "two errors of one task": _failed(0, 0),
    "outputs of no bytes": _outcome(n=2**62, outputs=_NOTHING, frames=[b""]),
    "a lease that never was": lambda d: (m.Outcome((_BIG, _BIG), 0, 1, _ONE.layout), _ONE.frames),
    "frames where none belong": lambda d: (m.Ready(), [b"frame"]),
    "its death, having begun what it never got": lambda d: (
        m.WorkerLost("absurd", "kind", "reason", True, (_BIG, _BIG), (((_BIG, _BIG), _BIG),)),
        (),
    ),
    "a second hello with more slots than atoms": lambda d: (m.WorkerHello(1, "none", "absurd", _BIG, _BIG, _BIG), ()),
    "a hello with fewer slots than none": lambda d: (m.WorkerHello(1, "none", "absurd", 2, -5, -5), ()),
    "heartbeats of thousands that are not there": lambda d: (m.Heartbeat(tuple(map(str, range(10_000)))), ()),
    "the end of somebody who is not there": lambda d: (m.WorkerFailed("nobody", "kind", "message", "trace"), ()),
}
