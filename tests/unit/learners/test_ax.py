"""Ax's learners: against Ax's own loop, and where Ax leaves something open. What holds for all is in test_adapters."""

from __future__ import annotations

import importlib.util
import logging
import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.learner_kinds import ax

from taskmaster.bus.errors import CallerError, EvaluationError, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Field

X, Y = Field("x", min=-2, max=4), Field("y", min=0, max=1)
REFUSED = TaskFailed("no contact", "LabError", "Traceback …")


def bowl(point: dict[str, Any]) -> float:
    return float((point["x"] - 1) ** 2 + 3 * (point["y"] - 0.3) ** 2)


def drive(
    learner: Any, n: int, f: Callable[[Any], Any] = bowl, in_flight: int = 4, chance: random.Random | None = None
) -> list[Any]:
    """Answer ``n`` points, so many in flight, in the order of asking or by chance. Returns all that were asked."""
    waiting = list(learner.ask(in_flight))
    asked = list(waiting)
    for _ in range(n):
        point = waiting.pop(chance.randrange(len(waiting)) if chance else 0)
        learner.tell(point, f(point))
        new = learner.ask(in_flight - len(waiting))
        waiting += new
        asked += new
    return asked


def states(learner: Any) -> list[str]:
    """Of the client's trials, in the order in which they were made."""
    return [str(state) for state in summary(learner)["trial_status"]]


def summary(learner: Any) -> Any:
    """Ax's table of its trials, for which it does what pandas is to give up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return learner.client.summarize()


def alone(seed: int, n: int) -> list[Any]:
    """What Ax asks in a loop of its own."""
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    client, asked = Client(random_seed=seed), []
    client.configure_experiment(
        [
            RangeParameterConfig(name="x", bounds=(-2, 4), parameter_type="float"),
            RangeParameterConfig(name="y", bounds=(0, 1), parameter_type="float"),
        ]
    )
    client.configure_optimization("-y0")
    client.configure_generation_strategy(initialization_budget=4, initialization_random_seed=seed)
    for _ in range(n):
        for number, point in client.get_next_trials(1).items():
            asked.append({"x": point["x"], "y": point["y"]})
            client.complete_trial(number, {"y0": bowl(asked[-1])})
    return asked


def test_one_at_a_time_it_asks_what_ax_asks_alone() -> None:
    asked = drive(ax([X, Y], initialization_budget=4, seed=7), 5, in_flight=1)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert asked == alone(int(np.random.default_rng(7).integers(1, 2**31 - 1)), 6)
    finally:
        torch.set_num_threads(threads)


def test_its_model_finds_the_best_of_a_few_points_whatever_the_order_of_results() -> None:
    learner = ax([X, Y], initialization_budget=5, maximize=True, seed=3)
    drive(learner, 12, lambda point: 5 - bowl(point), in_flight=3, chance=random.Random(1))
    point, value = learner.best()
    assert value > 4.95
    assert abs(point["x"] - 1) < 0.2


def test_it_waits_for_its_first_results_and_says_nothing_of_it(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        learner = ax([X, Y], initialization_budget=3, seed=1)
        points = learner.ask(5)
        assert 3 <= len(points) <= 5
        assert learner.ask(2) == []
        assert not learner.done()
        for point in points:
            learner.tell(point, bowl(point))
        assert len(learner.ask(2)) == 2
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


def test_what_becomes_of_a_point_reaches_ax() -> None:
    learner = ax([X, Y], initialization_budget=6, seed=1, minimize="loss")
    one, two, three, four = learner.ask(4)
    learner.tell(three, {"loss": 3.0, "log": "nobody asked"})
    learner.fail(two, REFUSED)
    learner.tell(one, {"loss": math.nan})
    learner.fail(four, TaskCancelled("task 3 was cancelled"))
    assert states(learner) == ["FAILED", "FAILED", "COMPLETED", "ABANDONED"]
    assert (learner.npoints, learner.nfailed) == (2, 3)
    learner.tell({"x": 0, "y": np.float64(0.5)}, {"loss": 1.0})  # of nobody's asking
    learner.tell({"x": 9.0, "y": 0.5}, {"loss": 0.0})  # outside
    learner.tell({"x": 0.0, "y": 0.5}, {"loss": 1.5})  # again
    assert states(learner)[4:] == ["COMPLETED"] * 2
    assert len(learner.ask(3)) == 3
    assert learner.best() == ({"x": 9.0, "y": 0.5}, 0.0)


def test_several_objectives_and_constraints_are_told_and_kept() -> None:
    aims: dict[str, Any] = {"minimize": "loss", "maximize": "speed", "constraints": ["heat <= 0.5", "x >= -1"]}
    learner = ax([X, Y], initialization_budget=4, seed=3, **aims)

    def measured(point: dict[str, Any]) -> dict[str, float]:
        return {"loss": bowl(point), "speed": point["y"], "heat": point["x"], "x": point["x"]}

    with pytest.raises(CallerError, match="the client is made at the first ask"):
        _ = learner.client
    drive(learner, 6, measured, in_flight=2)
    told = summary(learner)
    for k, (point, output) in enumerate(learner.data):
        [row] = told[(told["x"] == point["x"]) & (told["y"] == point["y"])].to_dict("records")
        assert (row["y0"], row["y1"]) == (output["loss"], output["speed"]), k
        assert (row["c0"], row["c1"]) == (output["heat"] - 0.5, -1 - output["x"])
    best, _ = learner.best()
    assert -1 <= best["x"] <= 0.5

    from botorch.acquisition.multi_objective import logei

    assert (logei._C, logei._load_attempted) == (None, False), "nothing is compiled, nor forbidden"
    assert "MBM" in set(told["generation_node"]), "its model has chosen some of them"


def test_choices_come_as_they_were_given_and_what_is_fixed_is_in_each_point() -> None:
    parameters = [
        Field("gain", choices=(1, 2.5, 10)),
        Field("range", kind="int", choices=(3, 1, 100)),
        Field("mode", kind="str", choices=("dc", "ac")),
        Field("filter", kind="bool"),
        Field("rate", min=1e-4, max=1.0),
        Field("steps", kind="int", min=1, max=1000),
        Field("bias", min=2, max=2),
        Field("probe", kind="str", choices=("left",)),
        Field("turns", kind="int", min=4, max=4),
    ]
    learner = ax(parameters, initialization_budget=8, seed=1, log=["rate", "steps"])
    asked = drive(learner, 9, lambda point: abs(math.log10(point["rate"]) + 2) + point["filter"], in_flight=2)
    assert list(asked[0]) == [field.name for field in parameters]
    for point in asked:
        assert (point["bias"], point["probe"], point["turns"]) == (2.0, "left", 4)
        assert type(point["gain"]) is (float if point["gain"] == 2.5 else int)
        assert [type(point[name]) for name in ("range", "mode", "filter", "rate", "steps", "bias", "turns")] == [
            int,
            str,
            bool,
            float,
            int,
            float,
            int,
        ]
    assert {point["mode"] for point in asked} == {"dc", "ac"}
    assert min(point["rate"] for point in asked) < 0.01
    assert min(point["steps"] for point in asked) < 100


def test_where_nearly_all_fails_it_says_why_it_cannot_go_on() -> None:
    learner = ax([X, Y], initialization_budget=3, seed=1)
    for _ in range(4):  # these are made up for
        for point in learner.ask(2):
            learner.fail(point, REFUSED)
    learner = ax([X, Y], initialization_budget=2, min_observed_initialization_trials=3, seed=1)
    for point in learner.ask(2):
        learner.tell(point, 1.0)
    with pytest.raises(EvaluationError, match=r"Ax cannot go on from 2 points .* after 0 that failed: mend"):
        learner.ask(1)


def test_what_it_shares_with_the_rest_of_the_process_is_left_alone() -> None:
    import torch

    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(4)
    expected = torch.rand(3).tolist()
    torch.manual_seed(4)
    drive(ax([X, Y], initialization_budget=3, seed=1), 5, in_flight=2)
    assert torch.rand(3).tolist() == expected
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


def test_how_many_threads_pytorch_has_does_not_matter() -> None:
    import torch

    asked, threads = [], torch.get_num_threads()
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            asked.append(drive(ax([X, Y], initialization_budget=3, seed=1), 5, in_flight=2))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert asked[0] == asked[1]


@pytest.mark.skipif(importlib.util.find_spec("numpyro") is not None, reason="NumPyro is installed")
def test_what_ax_itself_needs_for_a_method_is_named() -> None:
    with pytest.raises(
        CallerError, match=r"Ax's quality needs NumPyro, .*: pip install 'ax-platform\[fully_bayesian\]'"
    ):
        ax([X, Y], "quality")
