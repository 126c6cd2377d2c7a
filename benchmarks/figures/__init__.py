"""The figures by their names on the command line, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from benchmarks.bench import Bench
from benchmarks.contest import Row
from benchmarks.figures import (
    blocks,
    footprint,
    gpu,
    heads,
    learning,
    libraries,
    mapping,
    one_by_one,
    queued,
    regret,
    replay,
    round_trip,
    trust,
    uneven,
)

__all__ = ["FIGURES", "ON_REQUEST", "Figure"]

#: Measures, and gives the rows of the table.
Figure: TypeAlias = Callable[[Bench], list[Row]]

FIGURES: dict[str, Figure] = {
    "put": one_by_one.put,
    "dask": one_by_one.dask,
    "ray": one_by_one.ray,
    "round-trip": round_trip.round_trip,
    "rows": blocks.rows,
    "scalars": blocks.scalars,
    "queued": queued.queued,
    "uneven": uneven.uneven,
    "replay": replay.replayed,
    "loop": learning.loop,
    "simulated": learning.simulated,
    "efficiency": learning.efficiency,
    "mappers": mapping.mappers,
    "joblib": libraries.joblib_backend,
    "heads": heads.rate,
    "turn-around": heads.turn_around,
    "heads-busy": heads.busy,
    "images": heads.images,
    "stop": heads.stop,
    "idle": footprint.idle,
    "start": footprint.start,
    "import": footprint.imports,
    "curve": trust.curve,
    "roles": trust.roles,
    "reload": trust.reload,
    "restart": queued.restart,
    "crowd": trust.crowd,
    "attack": trust.attack,
    "gpu": gpu.batches,
    "segments": gpu.segments,
    "regret": regret.regret,
    "gp": regret.ask_time,
}

#: Those that take hours, or are of the processor in a card's place (see `benchmarks.gpu`), and are no part of a run
#: that names none.
ON_REQUEST = frozenset({"regret", "gpu"})
