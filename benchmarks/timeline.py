"""One round trip piece by piece: where a task is, and for how long, between its put and its result."""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from benchmarks.evaluated import tracing
from benchmarks.rig import MasterTable, Rig

__all__ = ["timeline"]

#: When, and whose mark of what.
Mark: TypeAlias = tuple[int, str]

SQUARE = MasterTable("square", "square_point", ("x",))
#: Round trips before the ones that count, and of these.
WARM_UP, TRIPS = 300, 2000

#: The way of a task: from one mark to the next, whose time this is. The first commit of a trip is not on the way: the
#: worker evaluates meanwhile.
_WAY = (
    ("client put", "client send", "client: put"),
    ("client send", "daemon arrived", "ZeroMQ: client → daemon"),
    ("daemon arrived", "daemon send", "daemon: check, queue, lease, dispatch"),
    ("daemon send", "worker arrived", "ZeroMQ: daemon → worker"),
    ("worker arrived", "worker send", "worker: unpack, evaluate, pack"),
    ("worker send", "daemon arrived again", "ZeroMQ: worker → daemon"),
    ("daemon arrived again", "daemon commit again", "daemon: take the outcome"),
    ("daemon commit again", "daemon committed again", "journal: commit the event"),
    ("daemon committed again", "daemon send again", "daemon: publish"),
    ("daemon send again", "client arrived", "ZeroMQ: daemon → client"),
    ("client arrived", "client got", "client: unpack, hand over"),
)


def timeline(folder: Path, durability: str, *, trips: int = TRIPS) -> str:
    """The table, as text; medians over the trips in which nothing else happened."""
    with Rig(folder, (SQUARE,), durability, "trace") as rig:
        bounds = _make_trips(rig, trips)
    marks = sorted(
        [(at, f"client {what}") for at, what in tracing.marks]
        + [(at, f"{name.partition('-')[0]} {what}") for name, noted in rig.marks().items() for at, what in noted]
        + [(at, what) for began, ended in bounds for at, what in ((began, "client put"), (ended, "client got"))]
    )
    found = [trip for bound in bounds if (trip := _trip(marks, *bound)) is not None]
    if not found:
        raise RuntimeError("no round trip went its usual way: nothing was measured")
    return _table(found, len(bounds), durability)


def _make_trips(rig: Rig, trips: int) -> list[tuple[int, int]]:
    """Round trips with one task in flight; when each began and ended."""
    tracing.install()
    bounds = []
    with rig.connect() as lab, rig.master(lab).open() as run:
        for k in range(WARM_UP + trips):
            began = time.monotonic_ns()
            run.tasks.put({"x": 3.0})
            result = run.results.get()
            ended = time.monotonic_ns()
            if result.output != 9.0:
                raise RuntimeError("3 · 3 is 9: nothing was measured")
            if k >= WARM_UP:
                bounds.append((began, ended))
    return bounds


def _trip(marks: Sequence[Mark], began: int, ended: int) -> dict[str, int] | None:
    """When one task came by each mark; None if there was something else under way."""
    at: dict[str, int] = {}
    for when, what in marks[bisect_left(marks, (began, "")) : bisect_left(marks, (ended + 1, ""))]:
        if what in at:
            what = f"{what} again"
        if what in at:
            return None
        at[what] = when
    times = [at.get(start) for start, _, _ in _WAY]
    if None in times or "worker arrived again" in at or "client arrived again" in at:
        return None
    in_order = [time for time in times if time is not None]
    return at if in_order == sorted(in_order) else None


def _table(trips: Sequence[Mapping[str, int]], of: int, durability: str) -> str:
    lines = []
    shares: dict[str, float] = {}
    for start, end, whose in _WAY:
        median = statistics.median(trip[end] - trip[start] for trip in trips) / 1e3
        party = whose.partition(":")[0]
        shares[party] = shares.get(party, 0.0) + median
        lines.append(f"{median:8.1f} µs  {whose}")
    total = statistics.median(trip["client got"] - trip["client put"] for trip in trips) / 1e3
    beside = statistics.median(trip["daemon committed"] - trip["daemon commit"] for trip in trips) / 1e3
    shared = ", ".join(f"{party} {share / sum(shares.values()):.0%}" for party, share in shares.items())
    return "\n".join(
        (
            f"{total:8.1f} µs  put to get, {durability!r}: median of {len(trips)} of {of} round trips",
            *lines,
            f"          {shared}",
            f"          ({beside:.1f} µs: the commit of the submission, while the worker evaluates)",
        )
    )
