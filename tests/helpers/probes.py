"""Masters of the simulated probe, which counts what it is told, and what tests look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from helpers.waiting import eventually
from taskmaster.bus.status import HeadInfo
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run

__all__ = ["await_states", "heads", "outcomes", "points", "states", "stm", "visits"]


def stm(probe: Laboratory, names: Iterable[str], **keys: Any) -> dict[str, Any]:
    """Keys of a Master whose heads are these of the probe's."""
    heads = [{"name": name, "resource": probe[name].resource, "identity": probe[name].identity} for name in names]
    known = {
        "driver": "visa",
        "query_timeout": "1 s",
        "heads": heads,
        "reconnect": {"first": "20 ms", "longest": "100 ms"},
        "parameters": {"x": {"min": 0, "max": 500}, "y": {"min": 0, "max": 500}},
        "outputs": {"current": {"unit": "A"}},
        "commands": {
            "open": ["*CLS", "TIP:APPROACH"],
            "set": ["POS {x:.3f},{y:.3f}"],
            "wait": {"query": "*OPC?", "until": "1", "timeout": "60 s"},
            "read": {"current": "MEAS:CURR?"},
            "safe": ["BIAS 0", "TIP:WITHDRAW"],
        },
    }
    return {**known, **keys}


def heads(lab: Lab) -> dict[str, HeadInfo]:
    """Every head by its name."""
    return {info.head: info for info in lab.heads()}


def states(lab: Lab) -> list[str]:
    """What each head is doing, in the order of the file."""
    return [info.state for info in heads(lab).values()]


def await_states(lab: Lab, *wanted: str) -> None:
    """Wait until the heads are so."""
    eventually(lambda: states(lab) == list(wanted), f"the heads to be {wanted}, not {states(lab)}")


def points(n: int) -> Any:
    """Points that are told apart to the digits that an instrument is told."""
    return np.round(np.random.default_rng(n).random((n, 2)) * 500, 3)


def visits(probe: Laboratory, names: Iterable[str]) -> Counter[tuple[float, ...]]:
    """How often each place was gone to, by whichever head, says the instrument."""
    actions = (action for name in names for action in probe.control.actions(name).actions)
    return Counter(action.arguments for action in actions if action.command == "POS" and not action.error)


def outcomes(run: Run, n: int) -> Mapping[str, int]:
    """What became of the tasks of a run, of which some may be in doubt, once nothing moves any more."""
    lab = run.master.lab

    def through() -> Counter[str] | None:
        (info,) = (info for info in lab.runs() if info.run == run.number)
        seen = Counter({"done": info.done, "failed": info.failed, "held": info.held})
        return seen if seen.total() == n else None

    return eventually(through, "every task to end or to be in doubt")
