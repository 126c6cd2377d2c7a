"""What is shown of a learner at each step of a replay."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest

from taskmaster.cli import stepping
from taskmaster.cli.stepping import Left, Stepper
from taskmaster.learners import Loop, SimulatedMaster
from taskmaster.learners.evolution import Evolution
from taskmaster.learners.guards import Dedup
from taskmaster.learners.points import Sequence
from taskmaster.learners.replay import replay


class Own:
    """Has attributes of many kinds."""

    def __init__(self) -> None:
        self.count, self.name, self._hidden = 0, "own", 0
        self.image, self.small = np.zeros((40, 50)), np.zeros(2)
        self.long = list(range(5000))
        self.table: dict[str, Any] = {f"key {k}": k for k in range(100)}
        self.odd = Odd()

    def ask(self, n: int) -> list[Any]:
        self._hidden += n
        return [{"x": self._hidden - n + k + 0.5} for k in range(n)]

    def tell(self, point: Any, output: Any) -> None:
        self.count += 1
        if self.count == 1:
            self.image[3, 4] = 1.0
        elif self.count == 2:
            self.long[-1] = 7


class Odd:
    def __repr__(self) -> str:
        raise ValueError("of somebody's class")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said; Enter is pressed each time."""
    said: list[str] = []
    monkeypatch.setattr(stepping, "say", said.append)
    monkeypatch.setattr(stepping, "typed_line", lambda prompt: "")
    return said


def run(learner: Any, goal: int = 3) -> Any:
    master = SimulatedMaster(lambda point: 2 * point["x"], workers=1, parameters={"x": (0, 9)})
    return Loop(master, learner, goal=goal, in_flight=2, seed=1).run()


def test_the_attributes_of_ones_own_learner_with_those_that_have_changed(lines: list[str]) -> None:
    learner = Own()
    replay(learner, run(Own()), hook=Stepper(learner, 0))
    first = lines.index("     0  asked for 2: x=0.5; x=1.5")
    text = "\n".join(lines)
    assert lines[first + 2 : first + 11] == [
        "  2 in flight: x=0.5; x=1.5",
        "    count = 0",
        "    name = 'own'",
        "    image = float64 array of shape (40, 50)",
        "    small = array([0., 0.])",
        "    long = list of 5000: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,…",
        "    table = dict of 100: {'key 0': 0, 'key 1': 1, 'key 2': 2, 'key 3': 3, '…",
        "    odd = Odd, whose repr raises ValueError",
        "  (Enter: one step; a number: so many; c: to the end; p: the next point; d: Python's debugger; q: leave)",
    ]
    assert "_hidden" not in text
    told = [k for k, line in enumerate(lines) if "  told task" in line]
    starred = [[line.split()[1] for line in lines[k : k + 11] if line.startswith("  * ")] for k in told]
    assert starred == [["count", "image"], ["count", "long"], ["count"]]
    assert "  output 1 at x=0.5" in lines[told[0] : told[1]]
    assert "  outputs from 1 at x=0.5 to 3 at x=1.5" in lines[told[1] : told[2]]


def test_what_is_in_flight_and_the_best_of_an_optimiser(lines: list[str]) -> None:
    learner = Evolution({"x": (0, 9)}, maximize=True)
    recorded = run(Evolution({"x": (0, 9)}, maximize=True))
    replay(learner, recorded, hook=Stepper(learner, 0))
    point, output = learner.incumbent()
    assert f"  best {output:.4g} at x={point['x']:.6g}" in lines
    assert not [line for line in lines if " = " in line], "it is not one's own"


def test_within_a_wrapper_and_from_an_event_on(lines: list[str]) -> None:
    learner = Dedup(Own())
    replay(learner, run(Dedup(Own())), hook=Stepper(learner, 2))
    assert lines[0].startswith("     2  told task 1")
    assert "    name = 'own'" in lines


def test_arrays_as_points_end_in_flight(lines: list[str]) -> None:
    points = [np.arange(3.0), np.arange(4.0)]
    recorded = Loop(SimulatedMaster(lambda point: 1.0), Sequence(points), in_flight=1).run()
    learner = Sequence(points)
    replay(learner, recorded, hook=Stepper(learner, 0))
    assert [line for line in lines if "in flight" in line] == [
        "  1 in flight: [0, 1, 2]",
        "  1 in flight: [0, 1, 2, 3]",
    ]


def test_the_debugger_has_the_learner_and_the_step(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: seen.append(sys._getframe(1).f_locals))
    words = iter("dq")
    monkeypatch.setattr(stepping, "typed_line", lambda prompt: next(words))
    learner = Own()
    with pytest.raises(Left):
        replay(learner, run(Own()), hook=Stepper(learner, 0))
    [(frame)] = seen
    assert frame["learner"] is learner
    assert frame["step"].points == [{"x": 0.5}, {"x": 1.5}]


class Walking(Own):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self._walk = (k / 8 for k in range(72))

    def ask(self, n: int) -> list[Any]:
        return [{"x": next(self._walk)} for _ in range(n)]


def test_the_next_point_of_a_learner_that_cannot_be_copied(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is brought to the very same step, and this one is left alone."""
    recorded = run(Walking(), goal=5)

    def again(hook: Any) -> Any:
        other = Walking()
        with contextlib.suppress(Left):
            replay(other, recorded, hook=hook)
        return other

    words = itertools.cycle(["p", ""])
    monkeypatch.setattr(stepping, "typed_line", lambda prompt: next(words))
    learner = Walking()
    assert replay(learner, recorded, hook=Stepper(learner, 0, again))
    steps = [line[8:] for line in lines if line.startswith("     ")]
    asked = "asked for 2: x=0; x=0.125"
    assert steps[0] == asked
    expected = [f"  it would ask x={0.125 * 2:g}"]
    seen = 2
    for step in steps[1:]:
        seen += step.startswith("asked for 1")
        expected.append(f"  it would ask x={0.125 * seen:g}")
    assert [line for line in lines if "would ask" in line] == expected
    assert "cannot be copied" in "\n".join(lines)
