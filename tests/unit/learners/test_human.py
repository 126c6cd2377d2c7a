"""A person as the learner."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from helpers.rambling import Killed, Play, live
from helpers.rehearsal import Rehearsal, Stage
from hypothesis import given, settings, strategies as st

from taskmaster.bus.fields import Field
from taskmaster.learners.human import Human
from taskmaster.learners.loop import Loop
from taskmaster.learners.protocol import Point
from taskmaster.learners.replay import replay

FIELDS = (
    Field("C", min=0, max=10, unit="V"),
    Field("n", kind="int", min=1, max=5),
    Field("kernel", kind="str", choices=("rbf", "poly")),
    Field("fast", kind="bool"),
)


class Person:
    """Types the lines it was given, and remembers what it was shown; then the terminal is closed."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)
        self.shown: list[str] = []

    def __call__(self, question: str) -> str:
        self.shown.append(question)
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)


def human(*lines: str) -> tuple[Human, Person]:
    person = Person(*lines)
    learner = Human(person)
    learner.bind(FIELDS)
    return learner, person


def test_points_are_typed_in_order_or_by_name() -> None:
    learner, person = human("0.5 3 rbf yes", "kernel=poly, n=2 C=1e0 fast=false", "")
    assert learner.ask(5) == [
        {"C": 0.5, "n": 3, "kernel": "rbf", "fast": True},
        {"C": 1.0, "n": 2, "kernel": "poly", "fast": False},
    ]
    assert "C (a number in [0, 10] V)" in person.shown[0]
    assert "wait for 2 in flight" in person.shown[2]


def test_values_with_blanks_go_in_quotes() -> None:
    person = Person("0.5 'dark red'", 'shade="light, blue" x=1', "1 'dark", "1 dark red", "0 blue")
    learner = Human(person)
    learner.bind([Field("x", min=0, max=1), Field("shade", kind="str", choices=("dark red", "light, blue", "blue"))])
    assert [point["shade"] for point in learner.ask(3)] == ["dark red", "light, blue", "blue"]
    assert "a quotation has no end" in person.shown[3]
    assert "3 values for the 2 parameters" in person.shown[4]


def test_what_does_not_fit_is_asked_again_with_the_reason() -> None:
    learner, person = human("20 3 rbf yes", "1 3", "1 2.5 rbf yes", "1 3 sigmoid yes", "C=1 m=3", "1 3 rbf no")
    assert learner.ask(1) == [{"C": 1.0, "n": 3, "kernel": "rbf", "fast": False}]
    reasons = [
        "[0, 10] V, got 20.0",
        "2 values for the 4 parameters",
        "got 2.5",
        "one of 'rbf', 'poly'",
        "'m' is unknown",
    ]
    for reason, shown in zip(reasons, person.shown[1:], strict=True):
        assert reason in shown


def test_the_person_is_shown_what_came_of_it() -> None:
    learner, person = human("1 1 rbf no", "2 1 rbf no", "", "", "end")
    one, other = learner.ask(2)
    learner.tell(one, 0.25)
    assert learner.ask(1) == []
    assert "→ 0.25" in person.shown[2]
    learner.fail(other, RuntimeError("the beam was lost"))
    assert learner.ask(1) == [], "and that was the end"
    assert "failed: the beam was lost" in person.shown[3]
    assert "→ 0.25" not in person.shown[3], "news are shown once"
    assert "nothing is in flight" in person.shown[4]
    assert learner.done()
    assert learner.ask(3) == []


def test_a_closed_terminal_is_an_end() -> None:
    learner, _ = human("1 1 rbf no")
    (point,) = learner.ask(5)
    assert not learner.done()
    learner.tell(point, 1.0)
    assert learner.done()


def test_what_was_typed_before_is_in_flight_and_not_asked_for_again() -> None:
    put: list[Point] = [{"C": float(k), "n": 1, "kernel": "rbf", "fast": False} for k in range(30)]
    learner, person = human("2 2 poly yes", "")
    learner.recall(put)
    for point in put[1:]:
        learner.tell(point, 0.5)
    assert learner.ask(2) == [{"C": 2.0, "n": 2, "kernel": "poly", "fast": True}]
    assert person.shown[0].splitlines()[:2] == [
        "… 9 before",
        "{'C': 10.0, 'n': 1, 'kernel': 'rbf', 'fast': False} → 0.5",
    ]
    assert "wait for 2 in flight" in person.shown[1]


def test_a_point_that_somebody_has_edited_has_ended_once() -> None:
    learner, person = human("1 1 rbf no", "", "end")
    (point,) = learner.ask(1)
    learner.fail(point, RuntimeError("it was edited"))
    learner.tell({**point, "n": 2}, 1.0)
    assert learner.ask(1) == []
    assert "wait for 0 in flight" in person.shown[1]
    assert learner.done()


# -- in a loop --------------------------------------------------------------------------------------------------------

#: what becomes of each task, as helpers/rambling.py reads it
choices = st.lists(st.integers(0, 4095), max_size=30)


@given(choices=choices, lives=st.lists(st.integers(0, 8), min_size=1, max_size=3), retries=st.integers(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_run_that_is_gone_on_with_asks_for_nothing_that_is_on_record(
    choices: list[int], lives: list[int], retries: int
) -> None:
    """Killed at any step: what was put is not typed again, however few points were typed at a time."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        play = Play(iter(choices))
        events = typed = 0
        for more in [*lives, 10**6]:
            events += more
            before = stage.run(1).next_index if 1 in stage.core.runs else 0
            fresh = (str(1000 + typed + k) if k % 3 else "" for k in range(99))
            person = Person(*fresh)
            learner = Human(person)
            run, loop = live(stage, learner, play, events=events, in_flight=3, retries=retries, goal=15)
            assert loop.divergence is None
            put = stage.run(run.number).next_index
            typed += len(person.shown)
            assert len(learner.data) + learner.nfailed >= (15 if events > 10**5 else 0)
            assert put - before <= len(person.shown) + loop.retried

        history = Rehearsal(stage, play).history(run.number)
        nobody = Human(Person())
        replayed = replay(nobody, history)
        assert replayed.divergence is None
        assert nobody.data == learner.data
        stage.journal.close()


def test_without_parameters_a_point_is_a_number() -> None:
    learner = Human(Person("1e-3", "x", "2"))
    assert learner.ask(2) == [0.001, 2.0]


class Looker(Person):
    """Looks at how many tasks are with the Master before they type a line; behind the last the process ends."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.run: Any = None
        self.put: list[int] = []

    def __call__(self, question: str) -> str:
        self.run.pump()
        self.put.append(self.run.master.stage.run(self.run.number).next_index)
        if len(self.shown) == len(self.put) - 1 and not self._lines:
            raise Killed
        return super().__call__(question)


def asked_in_a_life(lab: Rehearsal, person: Looker) -> Human:
    """A learner that was asked until the goal was reached or the process ended."""
    learner = Human(person)
    loop = Loop(lab, learner, goal=3, in_flight=4, name="run")
    person.run = loop.run_
    with contextlib.suppress(Killed):
        loop.run()
    assert loop.divergence is None
    return learner


def test_each_point_is_on_its_way_when_the_next_is_asked_for(tmp_path: Path) -> None:
    """And is not asked for again, however the loop ends; nor is one asked for that the goal has no use for."""
    stage = Stage(tmp_path)
    lab = Rehearsal(stage, Play(iter(())))
    person = Looker("1", "2")
    asked_in_a_life(lab, person)
    assert person.put == [0, 1, 2], "the third question was not answered any more"

    other = Looker("3", "4")
    learner = asked_in_a_life(Rehearsal(stage, Play(iter(()))), other)
    assert sorted(point for point, _ in learner.data) == [1.0, 2.0, 3.0]
    assert other.put == [2], "three are enough"

    nobody = Human(Person())
    history = lab.history(other.run.number)
    assert not replay(nobody, history).divergence
    assert nobody.data == learner.data
    assert {ask.asked for block in history.asks() for ask in block.asks} == {1}
