"""Replay: whatever became of a run, its learner can be led through it again, to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.rambling import Killed, Play, Rambler, live
from helpers.rehearsal import Rehearsal, Stage
from hypothesis import given, settings, strategies as st

from taskmaster.bus import values
from taskmaster.bus.fields import Field
from taskmaster.learners.history import History
from taskmaster.learners.loop import Loop
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.parting import part
from taskmaster.learners.replay import replay

PLANE = (Field("x"), Field("y"))


#: a choice for each event, and how many events pass between two restarts of the loop, with what it is restarted
choices = st.lists(st.integers(0, 4095), max_size=60)
lives = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 7), st.integers(0, 2)), min_size=1, max_size=5)


@pytest.mark.parametrize("fields", [True, False], ids=["fields", "values"])
@given(choices=choices, lives=lives, goal=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_run_of_many_lives_replays_to_the_bit(
    fields: bool, choices: list[int], lives: list[tuple[int, int, int]], goal: int
) -> None:
    """Random orders, failures, cancelled and edited tasks, retries; loops that are killed and go on otherwise set."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), PLANE if fields else ())
        play = Play(iter(choices))
        events = 0
        for more, in_flight, retries in [*lives, (10**6, 3, 1)]:
            events += more
            learner = Rambler(fields)
            run, loop = live(
                stage, learner, play, events=events, in_flight=in_flight, retries=retries, goal=min(goal, 5 + events)
            )
            assert loop.divergence is None

        again = Rambler(fields)
        history = Rehearsal(stage, play).history(run.number)
        replayed = replay(again, history)
        assert replayed.divergence is None
        assert again.seen == learner.seen, "what it was asked in vain, and what was never put, is on record, too"
        assert (again.state, replayed.told) == (learner.state, loop.told)
        stage.journal.close()


# -- killed at any step -----------------------------------------------------------------------------------------------


class Steps(Hooks):
    """Counts what a loop goes through: each call of its learner, before and behind, and of its hooks, each message.

    At the number ``last`` the process ends.
    """

    def __init__(self, last: int) -> None:
        self.n = 0
        self._last = last

    def step(self, *arguments: Any, **named: Any) -> None:
        self.n += 1
        if self.n == self._last:
            raise Killed

    asked = put = told = failed = retried = result = step


class Mortal(Rambler):
    """A learner in a process that may be killed while it thinks; it often gives one point fewer than it might."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(fields=True)
        self._steps = steps

    def ask(self, n: int) -> list[Any]:
        self._steps.step()
        points = super().ask(n if self.state % 2 else max(1, n - 1))
        self._steps.step()
        return points

    def tell(self, point: Any, output: Any) -> None:
        self._steps.step()
        super().tell(point, output)
        self._steps.step()


def lived(
    stage: Stage, kills: Sequence[int], choices: Sequence[int], goal: int, in_flight: int, retries: int
) -> tuple[History, Mortal, int]:
    """A run whose loop is killed at these steps, each of a life of its own, and then comes to its end."""
    play = Play(iter(choices))
    for last in (*kills, 0):
        lab, steps = Rehearsal(stage, play), Steps(last)
        learner = Mortal(steps)
        lab.before = steps.step
        loop = Loop(
            lab, learner, goal=goal, in_flight=in_flight, retries=retries, max_failures=None, name="run", hook=steps
        )
        try:
            loop.run()
        except Killed:
            assert loop.divergence is None
            continue
        loop.run_.close()
        break
    return lab.history(1), learner, steps.n


@given(
    choices=choices,
    goal=st.integers(1, 14),
    in_flight=st.integers(1, 5),
    retries=st.integers(0, 2),
    when=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_a_loop_that_is_killed_at_any_step_comes_to_what_an_undisturbed_one_comes_to(
    choices: list[int], goal: int, in_flight: int, retries: int, when: list[float]
) -> None:
    """Also what the learner was asked in vain is the same, and what it has seen, to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("one", "other")]
        for place in places:
            place.mkdir()
        one, other = (Stage(place, PLANE) for place in places)
        undisturbed, learner, n = lived(one, (), choices, goal, in_flight, retries)
        kills = [1 + round(share * (n - 1)) for share in when]
        killed, again, _ = lived(other, kills, choices, goal, in_flight, retries)
        assert part(undisturbed, killed) is None
        assert again.seen == learner.seen
        one.journal.close()
        other.journal.close()


# -- forks ------------------------------------------------------------------------------------------------------------


def steps_of(history: History) -> list[bytes]:
    """Everything that a learner would see of a run, without its asks' sizes: puts and results, in order, to the bit."""
    steps = []
    puts = ((block.first + k, row) for block in history.asks() for k, row in enumerate(block.points.rows()))
    for result in history.results():
        output = result.output if result.error is None else f"{type(result.error).__name__}: {result.error}"
        steps.append(values.encode((result.seq, result.index, result.input, output, result.is_edited, result.worker)))
    return [values.encode(put) for put in puts] + steps


@pytest.mark.parametrize("fields", [True, False], ids=["fields", "values"])
@given(choices=choices, in_flight=st.integers(1, 7), at=st.integers(0, 60), events=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_a_fork_has_the_same_past_and_goes_on_by_itself(
    fields: bool, choices: list[int], in_flight: int, at: int, events: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), PLANE if fields else ())
        play = Play(iter(choices))
        run, _ = live(stage, Rambler(fields), play, events=events, in_flight=in_flight, retries=1, goal=40)
        lab = Rehearsal(stage, play)
        source = lab.history(run.number)
        at = min(at, source.next_seq)
        fork = stage.fork(run.number, "fork", at)
        assert (fork.metadata["forked_from"], fork.metadata["forked_at"]) == ("m/run", str(at))
        assert stage.fork(run.number, "fork", at) == fork, "asked again it is the same"
        forked = lab.history(fork.run)

        past = [result for result in source.results() if result.seq < at]
        assert [(r.seq, r.index, r.outcome) for r in forked.results(at)] == [(r.seq, r.index, r.outcome) for r in past]
        one, other = Rambler(fields), Rambler(fields)
        pending = replay(one, source, until=at).pending, replay(other, forked, until=at).pending
        assert values.encode(pending[0]) == values.encode(pending[1])
        assert one.seen == other.seen
        behind = [result.index for result in source.results() if result.seq >= at and result.index < forked.next_index]
        assert [r.index for r in forked.results() if r.seq >= at] == behind, "what has ended later is not done again"
        assert fork.tasks - fork.done - fork.failed - fork.cancelled == len(stage.run(fork.run).open)

        before = steps_of(forked)
        again, loop = live(stage, Rambler(fields), play, events=10**6, in_flight=3, retries=1, goal=60, name="fork")
        assert loop.divergence is None
        assert again.number == fork.run
        after = steps_of(lab.history(fork.run))
        assert set(before) <= set(after), "it goes on, and what it had stays"
        assert replay(Rambler(fields), lab.history(fork.run)).divergence is None
        assert steps_of(lab.history(run.number)) == steps_of(source), "of the other nothing has changed"
        stage.journal.close()


class Patient:
    """Gives as many points as it is asked for, or none as long as any of them is out."""

    def __init__(self) -> None:
        self.out = 0
        self.asked = 0

    def ask(self, n: int) -> list[int]:
        if self.out:
            return []
        self.out = n
        self.asked += n
        return list(range(self.asked - n, self.asked))

    def tell(self, point: int, output: float) -> None:
        self.out -= 1


@pytest.mark.parametrize(("at", "earlier"), [(2, 1), (2, 2), (2, 0), (1, 1), (5, 1), (5, 4), (5, 2)])
def test_a_fork_of_a_fork_has_what_was_asked_in_vain_once(at: int, earlier: int, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    play = Play(iter(()))
    run, _ = live(stage, Patient(), play, events=100, in_flight=3, retries=0, goal=9)
    lab = Rehearsal(stage, play)
    assert [ask.asked for block in lab.history(run.number).asks() for ask in block.asks] == 3 * [3, 1, 2]
    between = stage.fork(run.number, "between", at)
    once, twice = stage.fork(run.number, "once", earlier), stage.fork(between.run, "twice", earlier)
    assert part(lab.history(once.run), lab.history(twice.run)) is None
    assert replay(Patient(), lab.history(twice.run)).asks == 1 + earlier % 3 + 3 * (earlier // 3)
    again, loop = live(stage, Patient(), play, events=100, in_flight=3, retries=0, goal=9, name="twice")
    assert loop.divergence is None
    assert part(lab.history(run.number), lab.history(again.number)) is None
    stage.journal.close()
