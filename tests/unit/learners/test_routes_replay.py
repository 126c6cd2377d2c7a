"""A run over several Masters is resumed and replayed from the journals of its legs alone, to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.junction import Junction
from helpers.rambling import Killed, Rambler
from hypothesis import given, settings, strategies as st

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.messages import AGAIN, FOUND
from taskmaster.learners.history import History
from taskmaster.learners.loop import Loop
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.parting import part
from taskmaster.learners.playback import LOST
from taskmaster.learners.replay import replay
from taskmaster.learners.wholes import whole_recording

PLANE = (Field("x"), Field("y"))

choices = st.lists(st.integers(0, 4095), max_size=120)
#: after how many steps each life of the loop ends, how many tasks it keeps in flight, and how often it tries
lives = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 7), st.integers(0, 2)), min_size=1, max_size=5)


class Stumbled(Exception):
    """Of no matter: the loop is run again."""


class Steps(Hooks):
    """The process ends at one of its steps: where a hook is called, or what was sent arrives; it stumbles at others."""

    def __init__(self, last: int, stumbles: Collection[int]) -> None:
        self.n = 0
        self._last = last
        self._stumbles = stumbles

    def step(self, *arguments: Any, **named: Any) -> None:
        self.n += 1
        if self.n == self._last:
            raise Killed
        if self.n in self._stumbles:
            raise Stumbled

    asked = put = told = failed = retried = result = step


def live(
    junction: Junction,
    learner: Any,
    last: int,
    in_flight: int = 3,
    retries: int = 1,
    goal: int = 12,
    stumbles: Collection[int] = (),
) -> Loop:
    """A loop in a process of its own, which is killed at this step, or comes to its end."""
    steps = Steps(last, stumbles)
    loop = Loop(
        junction.routes(steps.step), learner, goal=goal, in_flight=in_flight, retries=retries, max_failures=None,
        name="run", seed=5, hook=steps,
    )  # fmt: skip
    while True:
        try:
            loop.run().close()
        except Stumbled:
            continue
        except Killed:
            pass
        return loop


@pytest.mark.parametrize("fields", [True, False], ids=["fields", "values"])
@pytest.mark.parametrize("n", [1, 2, 3])
@given(choices=choices, lives=lives, goal=st.integers(1, 40), stumbles=st.sets(st.integers(1, 60), max_size=3))
@settings(max_examples=20, deadline=None)
def test_a_routed_run_of_many_lives_replays_to_the_bit(
    n: int, fields: bool, choices: list[int], lives: list[tuple[int, int, int]], goal: int, stumbles: set[int]
) -> None:
    """Killed at any step, with any leg ahead of any other; failures, cancelled and edited tasks, retries."""
    with tempfile.TemporaryDirectory() as folder:
        junction = Junction(Path(folder), PLANE if fields else (), choices, n)
        for last, in_flight, retries in [*lives, (-1, 3, 1)]:
            learner = Rambler(fields)
            loop = live(junction, learner, last, in_flight, retries, goal, stumbles)
            assert loop.divergence is None
            assert loop.statistics().unasked == 0
        assert loop.told == goal
        histories = junction.histories()
        for legs in (histories, histories[::-1]):
            again = Rambler(fields)
            replayed = replay(again, legs)
            assert replayed.divergence is None
            assert again.seen == learner.seen, "what it was asked in vain, and told at last, is on record, too"
            assert (again.state, replayed.told, replayed.again) == (learner.state, loop.told, loop.retried)
        assert part(histories, histories) is None
        junction.close()


class Brief(Rambler):
    """Has nothing more to ask at some time, while much of what it has asked for is in flight."""

    def __init__(self, asks: int) -> None:
        super().__init__(fields=True)
        self._asks = asks

    def ask(self, n: int) -> list[Any]:
        self._asks -= 1
        return super().ask(n)

    def done(self) -> bool:
        return self._asks <= 0


@given(choices=choices, asks=st.integers(1, 6), in_flight=st.integers(4, 9), more=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_the_order_of_what_is_told_behind_the_last_ask_is_on_record(
    choices: list[int], asks: int, in_flight: int, more: int
) -> None:
    """Also where the loop goes on behind that."""
    with tempfile.TemporaryDirectory() as folder:
        junction = Junction(Path(folder), PLANE, choices)
        for n in (asks, asks + more):
            live(junction, learner := Brief(n), -1, in_flight=in_flight, goal=1000)
            again = Brief(n)
            assert replay(again, junction.histories()).divergence is None
            assert again.seen == learner.seen
        junction.close()


@given(choices=choices, goal=st.integers(1, 30), last=st.integers(1, 80), until=st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_what_is_recorded_of_a_loop_that_was_killed_replays(
    choices: list[int], goal: int, last: int, until: int
) -> None:
    """Whether or not anybody goes on with it; and up to any event."""
    with tempfile.TemporaryDirectory() as folder:
        junction = Junction(Path(folder), PLANE, choices)
        live(junction, Rambler(True), last, goal=goal)
        recorded = whole_recording(junction.histories())
        learner = Rambler(True)
        assert replay(learner, recorded).divergence is None
        some = Rambler(True)
        assert replay(some, recorded, until=until).until == min(until, recorded.next_seq)
        assert some.seen == learner.seen[: len(some.seen)]
        junction.close()


# -- what comes to one disk and not to the other ----------------------------------------------------------------------


class Counting:
    """Gives 0, 1, 2, …: as many as it is asked for."""

    def __init__(self) -> None:
        self.given = 0
        self.told: list[int] = []

    def ask(self, n: int) -> list[int]:
        self.given += n
        return list(range(self.given - n, self.given))

    def tell(self, point: int, output: float) -> None:
        self.told.append(point)


@pytest.fixture
def junction(tmp_path: Path) -> Iterator[Junction]:
    junction = Junction(tmp_path, (), [])
    yield junction
    junction.close()


def asks_of(histories: Sequence[History]) -> list[int]:
    return [ask.asked for block in whole_recording(histories).asks() for ask in block.asks]


def points_of(history: History) -> list[Any]:
    return [row for block in history.asks() for row in block.points.rows()]


def test_a_point_that_came_to_no_disk_though_a_later_one_did_is_put_again(junction: Junction) -> None:
    routes = junction.routes()
    run = routes.open("run", seed=5)
    learner = Counting()
    for after, wanted in ((-1, 2), (-1, 2)):  # 0 and 2 go to the one, 1 and 3 to the other
        run.new_ask(after, wanted)
        for point in learner.ask(wanted):
            run.put(point)
    one, other = run.runs
    other.pump()  # type: ignore[attr-defined]
    other.pump()  # type: ignore[attr-defined]
    assert [leg.acknowledged for leg in (one, other)] == [0, 2]  # type: ignore[attr-defined]
    # the process ends here: 0 and 2 are nowhere
    histories = junction.histories()
    assert [points_of(history) for history in histories] == [[], [1, 3]]
    assert asks_of(histories) == [2, LOST, 2, LOST]
    assert replay(Counting(), histories).pending == (1, 3, 0, 2)

    loop = live(junction, again := Counting(), -1, in_flight=4, retries=0, goal=9)
    assert (loop.divergence, loop.statistics().unasked) == (None, 0)
    assert sorted(again.told) == list(range(9)), "each of them is measured, and once"
    histories = junction.histories()
    assert sorted(point for history in histories for point in points_of(history)) == list(range(9))
    assert FOUND in asks_of(histories)
    replayed = replay(once_more := Counting(), histories)
    assert (replayed.divergence, once_more.told) == (None, again.told)


def test_points_that_are_lost_several_times_are_put_again_each_time(junction: Junction) -> None:
    """By loops that are killed as soon as something has arrived at one Master and not at the other."""
    arriving = {"asked": 0}

    def kill() -> None:
        arriving["asked"] += 1
        if arriving["asked"] == 2:
            raise Killed

    for life in range(4):
        arriving["asked"] = 0
        loop = Loop(junction.routes(kill), Counting(), goal=20, in_flight=6, name="run", seed=5)
        with pytest.raises(Killed):
            loop.run()
        assert loop.divergence is None, f"in life {life}"
    loop = live(junction, learner := Counting(), -1, goal=20)
    assert sorted(learner.told) == list(range(20))
    again = Counting()
    assert replay(again, junction.histories())
    assert again.told == learner.told


def test_a_learner_that_gives_less_than_it_gave_parts_where_that_is_lost(junction: Junction) -> None:
    class Meagre(Counting):
        def ask(self, n: int) -> list[int]:
            return super().ask(n)[: n - 2]

    run = junction.routes().open("run", seed=5)
    run.new_ask(-1, 2)
    for point in Counting().ask(2):
        run.put(point)
    run.runs[1].pump()  # type: ignore[attr-defined]
    divergence = replay(Meagre(), junction.histories()).divergence
    assert divergence is not None
    assert (divergence.ask, divergence.why) == (0, "the learner gives fewer points than it gave then")


# -- what the learner and the hooks may do ----------------------------------------------------------------------------


class Moody(Rambler):
    """Raises now and then, and goes on as if nothing had been."""

    def __init__(self, moods: Iterator[int]) -> None:
        super().__init__(fields=True)
        self._moods = moods

    def ask(self, n: int) -> list[Any]:
        if next(self._moods, 1) % 7 == 0:
            raise ZeroDivisionError
        return super().ask(n)

    def fail(self, point: Any, error: BaseException) -> None:
        if next(self._moods, 1) % 5 == 0:
            raise ZeroDivisionError
        super().fail(point, error)


@given(choices=choices, moods=st.lists(st.integers(0, 34), max_size=40), goal=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_a_loop_whose_learner_raises_goes_on_and_all_of_it_replays(
    choices: list[int], moods: list[int], goal: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        junction = Junction(Path(folder), PLANE, choices)
        learner = Moody(iter(moods))
        loop = Loop(
            junction.routes(), learner, goal=goal, in_flight=4, retries=1, max_failures=None, name="run", seed=5
        )
        while True:
            try:
                loop.run().close()
                break
            except ZeroDivisionError as error:
                (note,) = error.__notes__
                assert "up to there: replay(learner, Routes([lab['m'], lab['m']]).history('run'), until=" in note
        again = Rambler(True)
        assert replay(again, junction.histories()).divergence is None
        assert again.seen == learner.seen
        resumed = live(junction, Rambler(True), -1, goal=goal + 5, in_flight=4)
        assert (resumed.divergence, resumed.told) == (None, goal + 5)
        junction.close()


def test_failed_points_that_are_put_again_may_go_elsewhere(tmp_path: Path) -> None:
    junction = Junction(tmp_path, (), [1, 7, 3, 3, 1, 3] * 10)
    loop = live(junction, learner := Rambler(False), -1, retries=2, goal=15)
    assert loop.retried > 2
    assert asks_of(junction.histories()).count(AGAIN) == loop.retried
    again = Rambler(False)
    replayed = replay(again, junction.histories())
    assert (replayed.divergence, replayed.again, again.seen) == (None, loop.retried, learner.seen)
    junction.close()


# -- what does not go together ----------------------------------------------------------------------------------------


def test_a_task_that_somebody_has_put_to_a_leg_by_hand_is_told_as_that(junction: Junction) -> None:
    live(junction, Counting(), -1, goal=6)
    branch = junction.routes().masters[0]
    by_hand: Any = branch.open("run")
    by_hand.tasks.put("by hand")
    by_hand.pump()
    loop = live(junction, learner := Counting(), -1, goal=12)
    assert (loop.divergence, loop.statistics().unasked) == (None, 1)
    assert sorted(map(str, learner.told)) == sorted([*map(str, range(11)), "by hand"])
    again = Counting()
    assert replay(again, junction.histories())
    assert again.told == learner.told


def test_legs_that_are_not_of_one_run_are_refused(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    one, other = (Junction(folder, (), [k] * 40) for k, folder in enumerate(folders))
    live(one, Counting(), -1, goal=9)
    live(other, Counting(), -1, goal=15, in_flight=5)
    (a, b), (c, d) = one.histories(), other.histories()
    for legs in ([a, d], [c, b]):
        with pytest.raises(CallerError, match=r"run m/run does not go together with m/run: .*Begin a new run"):
            replay(Counting(), legs)
    wrong: list[tuple[list[Any], str]] = [
        ([a], r"of the legs of the run over 'm' and 'm', that of 'm' is missing among m/run"),
        ([a, b, a], "there is one twice among m/run, m/run, m/run"),
        ([a, a], "that of 'm' is missing among m/run, m/run"),
    ]
    for legs, message in wrong:
        with pytest.raises(CallerError, match=message):
            replay(Counting(), legs)
    one.close()
    other.close()


def test_a_leg_that_lacks_what_the_learner_was_told_is_refused(tmp_path: Path) -> None:
    """Its run was deleted and made anew, or its journal restored: the learner cannot be led through that again."""
    junction = Junction(tmp_path, (), [3] * 100)
    loop = live(junction, Counting(), -1, goal=9)
    other = loop.run_.runs[1]  # type: ignore[attr-defined]
    (tmp_path / "new").mkdir()
    junction.replace(1, tmp_path / "new")
    with pytest.raises(
        CallerError, match=r"the learner was told how 1 of its tasks ended, and it has 0: it was deleted"
    ):
        live(junction, Counting(), -1, goal=20)
    assert other.metadata["routed_leg"] == "1"
    junction.close()


def test_a_leg_of_an_older_client_is_refused(junction: Junction) -> None:
    run: Any = junction.routes().open("run", seed=5)
    leg = run.runs[0]
    leg.tasks.new_ask(-1, 2)
    leg.tasks.put(1)
    leg.pump()
    with pytest.raises(
        CallerError, match="not recorded where that stands among all legs, by an older client or daemon"
    ):
        live(junction, Counting(), -1)
