"""Bad input is refused where it is made, and again where it arrives: by name, value and limit, and as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.raw import RawPeer
from helpers.waiting import PATIENCE

from taskmaster.bus import messages as m
from taskmaster.bus.errors import InvalidTask, UnknownMaster
from taskmaster.bus.table import Table, pack_columns, pack_values
from taskmaster.learners.client import Lab

PARAMETERS: dict[str, dict[str, Any]] = {
    "voltage": {"min": -2, "max": 4, "unit": "V"},
    "count": {"kind": "int", "min": 0, "max": 10},
    "mode": {"choices": ["fast", "slow"]},
    "on": {"kind": "bool"},
    "picture": {"shape": [2, 2], "max": 1},
}
GOOD: dict[str, Any] = {"voltage": 1.0, "count": 3, "mode": "fast", "on": True, "picture": [[0.0, 0.5], [1.0, 0.0]]}


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    numbers: dict[str, Any] = {"x": {"min": 0, "max": 1}, "drift": {"nan": True}}
    return start_shared_daemon(
        {"probe": function("echo", parameters=PARAMETERS), "plane": function("echo", parameters=numbers)}
    )


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture
def peer(daemon: Daemon) -> Iterator[RawPeer]:
    with RawPeer(daemon.address) as peer:
        yield peer


#: What a value must be → values that are not.
BAD_VALUES = {
    "'voltage' must be a number in [-2, 4] V, got ": (4.5, -2.1, math.inf, math.nan, "1", None, True, [1.0], 1j),
    "'count' must be a whole number in [0, 10], got ": (11, -1, 2.5, math.nan, "3", True),
    "'mode' must be one of 'fast', 'slow', got ": ("quick", "", 1, None, ["fast"]),
    "'on' must be true or false, got ": (1, 0.0, "yes", None),
    "'picture' must be an array of shape (2, 2) ≤ 1, got ": ([[0.0, 1.0]], [[0.0], [0.0, 1.0]], 0.5, [["a"] * 2] * 2),
}
CASES = [(words, value) for words, values in BAD_VALUES.items() for value in values]


@pytest.mark.parametrize(("words", "value"), CASES)
def test_a_value_that_does_not_fit_is_refused_with_its_block_naming_parameter_value_and_limit(
    lab: Lab, words: str, value: Any
) -> None:
    bad = {**GOOD, words.split("'")[1]: value}
    with lab["probe"].open() as run:
        with pytest.raises(InvalidTask) as alone:
            run.tasks.put(bad)
        with pytest.raises(InvalidTask) as among_others:
            run.tasks.put_many([GOOD, bad, GOOD])
        for refusal in (alone, among_others):
            assert str(refusal.value).startswith(f"Master 'probe': parameter {words}{value!r}")
        assert "point 1 of the block; none of it was queued" in str(among_others.value)
        assert (run.next_index, run.open_tasks) == (0, 0)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({**GOOD, "volage": 1.0}, "parameter 'volage' is unknown; did you mean 'voltage'?"),
        ({"voltage": 1.0, "count": 1}, "parameter 'mode', 'on', 'picture' is missing"),
        ([1.0, 2], "a point must be a dict of its parameters (voltage, count, mode, on, picture), not [1.0, 2]"),
    ],
)
def test_a_point_with_the_wrong_parameters_is_refused(lab: Lab, point: Any, words: str) -> None:
    with lab["probe"].open() as run:
        for put in (run.tasks.put, run.tasks.put_nowait):
            with pytest.raises(InvalidTask) as refusal:
                put(point)
            assert f"Master 'probe': {words}" in str(refusal.value)
        assert run.next_index == 0


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (np.array([[0.5, 0.0], [0.5, 1.0], [1.5, 2.0]]), "'x' must be a number in [0, 1], got 1.5 (task 2)"),
        (np.array([[0.5, 0.0], [math.nan, 0.0]]), "'x' must be a number in [0, 1], got nan: NaN is not allowed"),
        (np.zeros((5, 3)), "an array of points needs shape (n, 2), one column for each of x, drift; got (5, 3)"),
        (np.zeros(4), "an array of points needs shape (n, 2)"),
        (np.array([["0.5", "1"]]), "an array of points needs a dtype of numbers, not <U3"),
        ({"x": [0.5, 0.5], "drift": [1.0]}, "the columns differ in length: {'x': 2, 'drift': 1}"),
        ({"x": [0.5, 2.0], "drift": [1.0, 1.0]}, "'x' must be a number in [0, 1], got 2.0"),
    ],
)
def test_a_block_with_one_bad_row_is_refused_whole_and_the_next_takes_its_place(
    lab: Lab, block: Any, words: str
) -> None:
    with lab["plane"].open() as run:
        with pytest.raises(InvalidTask) as refusal:
            run.tasks.put_many(block)
        assert words in str(refusal.value)
        assert run.tasks.put_many([{"x": 0.5, "drift": math.nan}]) == range(1), "NaN is fine where it is declared"
        assert math.isnan(run.results.get(PATIENCE).input["drift"])


def test_an_unknown_master_is_named_with_the_one_that_may_be_meant(lab: Lab, peer: RawPeer) -> None:
    with pytest.raises(UnknownMaster, match=r"no Master 'prob'; did you mean 'probe'\?"):
        lab["prob"]
    refused = peer.ask(m.Open(1, "prob", "run"), m.Refused)
    assert refused.code == "unknown_master"
    assert "did you mean 'probe'?" in refused.message


# -- the daemon trusts no client --------------------------------------------------------------------------------------


def columns(**changes: Any) -> dict[str, Any]:
    """Three good points in columns, some of them changed; None takes one away."""
    good: dict[str, Any] = {name: [value] * 3 for name, value in GOOD.items()}
    good["picture"] = np.array(good["picture"])
    return {name: column for name, column in {**good, **changes}.items() if column is not None}


#: What the daemon says → the columns of three points of which one at least is bad.
SENT = {
    "'voltage' must be a number in [-2, 4] V, got 5.0 (task 2)": columns(voltage=np.array([1.0, 2.0, 5.0])),
    "'voltage' must be a number in [-2, 4] V, got nan: NaN is not allowed (task 1)": columns(
        voltage=np.array([1.0, math.nan, 1.0])
    ),
    "'voltage' must be a number in [-2, 4] V, got shape (1,) of float64": columns(voltage=np.ones((3, 1))),
    "'voltage' must be a number in [-2, 4] V, got 'high' (task 1)": columns(voltage=[1.0, "high", 1.0]),
    "'count' must be a whole number in [0, 10], got shape () of float64": columns(count=np.array([1.0, 2.0, 2.5])),
    "'mode' must be one of 'fast', 'slow', got 'quick' (task 1)": columns(mode=["fast", "quick", "slow"]),
    "'on' must be true or false, got shape () of int64": columns(on=np.array([1, 0, 1])),
    "'picture' must be an array of shape (2, 2) ≤ 1, got 7.0 (task 0)": columns(picture=np.full((3, 2, 2), 7.0)),
    "'volage' is unknown; did you mean 'voltage'?": columns(volage=np.ones(3)),
    "'voltage' is missing": columns(voltage=None),
}


@pytest.mark.parametrize("words", SENT)
def test_the_daemon_refuses_what_a_client_should_have(peer: RawPeer, lab: Lab, words: str) -> None:
    check_refused(peer, lab, pack_columns(SENT[words], 3), words)


def test_the_daemon_refuses_bare_values_where_parameters_are_declared(peer: RawPeer, lab: Lab) -> None:
    check_refused(peer, lab, pack_values([1.0, 2.0, 3.0]), "it takes its parameters by name (voltage, count")


def check_refused(peer: RawPeer, lab: Lab, block: Table, words: str) -> None:
    opened = peer.ask(m.Open(1, "probe", f"raw {words}"[:200]), m.Opened)
    refused = submit(peer, opened, block)
    assert isinstance(refused, m.Refused)
    assert (refused.code, refused.first, refused.next_index) == ("invalid_task", 0, 0)
    assert refused.message.startswith("Master 'probe': ")
    assert words in refused.message
    assert next(run.tasks for run in lab.runs("probe") if run.run == opened.run) == 0, "nothing of it was queued"
    assert submit(peer, opened, pack_columns(columns(), 3)) == m.Ack(opened.run, 3, opened.writer)


def submit(peer: RawPeer, opened: m.Opened, block: Table) -> m.Ack | m.Refused:
    peer.say(m.Submit(opened.run, opened.writer, 0, block.n, block.layout), block.frames)
    while True:
        message, _ = peer.hear()
        if isinstance(message, m.Ack | m.Refused):
            return message
