"""The thread of a head of one's own: what is polled between the steps of its tasks, and what these yield."""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import pytest
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import pack_values
from taskmaster.drivers.instruments import Head, HeadContext
from taskmaster.drivers.instruments.attendant import Attendant
from taskmaster.drivers.instruments.errors import TimedOut, Unreachable
from taskmaster.drivers.instruments.news import Ended, Kept, News, Said
from taskmaster.drivers.instruments.watching import watched
from taskmaster.drivers.protocol import Assignment

T = TypeVar("T")
TEMPERATURE = {"method": "temperature", "every": 0.02, "max": 60.0, "action": "safe"}


class Oven(Head):
    """Gets as hot as the test wants."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context)
        self.now: Any = 25.0
        self.threads: set[int] = set()
        self.calls: list[str] = []
        self.looking = False
        #: seconds for which it does not let go of a task
        self.slow_to_stop = 0.0

    def open(self) -> None:
        self.calls.append("open")

    def safe(self) -> None:
        self.calls.append("safe")

    @property
    def temperature(self) -> Any:
        self.threads.add(threading.get_ident())
        assert not self.looking, "one poll at a time"
        if isinstance(self.now, Unreachable):
            raise self.now
        self.looking = True
        try:
            self.sleep(0.001)  # in which nothing else is polled
        finally:
            self.looking = False
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def arm(self) -> None:
        self.calls.append("arm")

    def keep(self) -> None:
        self.calls.append("keep")

    def disarm(self) -> None:
        self.calls.append("disarm")

    def evaluate(self, x: Any) -> Any:
        self.begin_acting()
        if x == "lost":
            raise TimedOut("no answer")
        if isinstance(x, list):
            return self._yielding(x)
        if x < 0:  # a user's code that thinks that it can go on whatever happens
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and self.calls[-1] != "broken":
                try:
                    self.sleep(0.001)
                except Exception:  # noqa: BLE001 - that is what this is about
                    self.calls.append("broken")
            self.sleep(PATIENCE)
        try:
            self.sleep(x)
        finally:
            time.sleep(self.slow_to_stop)
        return 1.0

    def resume(self, x: Any, token: bytes) -> Any:
        """Keeps what it is told to, one after the other."""
        for part in token.split():
            self.checkpoint(part)
        return 1.0

    def _yielding(self, values: list[Any]) -> Generator[Any, None, float]:
        yield from values
        return 1.0


class Seat:
    """A head and its attendant, and what that tells."""

    def __init__(self, options: Mapping[str, Any], kind: type[Oven]) -> None:
        self.waits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.keep: Callable[[Kept], None] = lambda kept: None
        self.told: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.head: Oven
        self.numbers = iter(range(1, 1000))
        nothing = Schema((), "oven", "output")

        def make(attendant: Attendant) -> Head:
            self.head = kind(
                HeadContext(
                    "",
                    "oven",
                    options,
                    stopping=attendant.stopping,
                    on_checkpoint=attendant.on_checkpoint,
                    on_between=attendant.on_between,
                )
            )
            return self.head

        self.attendant = Attendant(
            make,
            nothing,
            tell=self.told.put,
            begin=lambda assignment: None,
            acts=lambda position: None,
            waits=self.waits.put,
            keep=lambda kept: self.keep(kept),
            pauses=(0.01, 0.01),
            watched=watched(options, ""),
        )
        self.attendant.thread.start()

    def order(self, what: Any, **keys: Any) -> None:
        self.attendant.order(m.HeadOrder((1, next(self.numbers)), what, **keys))

    def give(self, x: Any) -> None:
        self.attendant.give(Assignment((1, next(self.numbers)), 1, 0, 1, pack_values([x])))

    def resume(self, token: bytes) -> None:
        self.attendant.give(Assignment((1, next(self.numbers)), 1, 0, 1, pack_values([0.0]), token=token))

    def hear(self, kind: type[T], of: Callable[[T], bool] = lambda news: True) -> T:
        """The next news of this kind; others are skipped."""
        while True:
            news = self.told.get(timeout=PATIENCE)
            if isinstance(news, kind) and of(news):
                return news


@contextmanager
def seated(kind: type[Oven] = Oven, /, **options: Any) -> Iterator[Seat]:
    seat = Seat(options, kind)
    seat.order("work")
    seat.hear(Said, lambda said: said.state == "ready")
    try:
        yield seat
    finally:
        seat.attendant.leave(at_once=True)
        seat.attendant.thread.join(PATIENCE)


def test_a_head_of_ones_own_is_polled_in_its_sleep_and_broken_off() -> None:
    always_due = {"t": {"method": "temperature", "every": 0.0005}}
    with seated(interlocks={"hot": TEMPERATURE}, monitor=always_due) as seat:
        seat.give(PATIENCE)
        while not seat.head.threads:
            time.sleep(0.001)
        seat.head.now = 95.0
        tripped = seat.hear(m.Tripped)
        assert (tripped.interlock, tripped.reason, tripped.lost) == ("hot", "95 is above max = 60", False)
        ended = seat.hear(Ended)
        assert (ended.doubt, ended.errors[0].kind) == (True, "InterlockTripped")
        assert "interlock 'hot' has tripped" in ended.errors[0].message
        assert seat.hear(Said).state == "safe"
        assert seat.head.threads == {seat.attendant.thread.ident}


def test_what_comes_when_it_has_left_is_given_back() -> None:
    with seated() as seat:
        seat.attendant.leave()
        seat.attendant.thread.join(PATIENCE)
        seat.give(1.0)
        assert seat.hear(Ended).given_back


# -- a task in doubt ---------------------------------------------------------------------------------------------------


@contextmanager
def in_doubt() -> Iterator[Seat]:
    with seated() as seat:
        seat.give("lost")
        seat.give(0.0)
        assert seat.hear(Ended).doubt
        assert seat.hear(Ended).given_back, "what waits for it is for others"
        yield seat


def test_a_head_in_doubt_is_parked_without_being_opened_again() -> None:
    with in_doubt() as seat:
        seat.order("park")
        seat.hear(Said, lambda said: said.state == "safe")
        assert seat.head.calls == ["open", "safe"]


def test_a_head_in_doubt_that_is_not_parked_works_on() -> None:
    with in_doubt() as seat:
        assert seat.attendant.doubted is not None
        seat.attendant.on_doubt_heard()
        seat.hear(Said, lambda said: said.state == "ready")
        assert seat.head.calls == ["open", "open"]


def test_a_head_in_doubt_of_which_nobody_hears_is_made_safe() -> None:
    with in_doubt() as seat:
        seat.hear(Said, lambda said: said.state == "safe")
        assert seat.head.calls == ["open", "safe"]
        seat.attendant.on_doubt_heard()
        seat.hear(Said, lambda said: said.state == "ready")


# -- quick tasks -------------------------------------------------------------------------------------------------------


def several(seat: Seat, *rows: Any, hold: float) -> Assignment:
    assignment = Assignment((1, next(seat.numbers)), 1, 0, len(rows), pack_values(list(rows)), hold=hold)
    seat.attendant.give(assignment)
    return assignment


def pieces(seat: Seat) -> list[tuple[int, int, bool]]:
    """Of an assignment: position and number of tasks of each report, and whether it is the last."""
    told: list[tuple[int, int, bool]] = []
    while not told or not told[-1][2]:
        ended = seat.hear(Ended)
        assert len(memoryview(ended.times).cast("d")) == ended.n if ended.times is not None else ended.n <= 1
        told.append((ended.position, ended.n, ended.final))
    return told


def test_quick_tasks_are_reported_together_and_slow_ones_as_they_end() -> None:
    with seated() as seat:
        several(seat, 0.0, 0.0, 0.0, hold=60.0)
        assert pieces(seat) == [(0, 3, True)]
        several(seat, 0.0, 0.02, 0.0, hold=0.01)
        assert pieces(seat) == [(0, 2, False), (2, 1, True)]


def test_a_slow_task_does_not_keep_the_quick_ones_before_it_waiting() -> None:
    with seated() as seat:
        several(seat, 0.0, 0.0, 1.0, hold=60.0)
        while (task := seat.attendant.task) is None or task.position < 2:
            time.sleep(0.001)
        while seat.told.empty():
            seat.attendant.flush()
        assert pieces(seat) == [(0, 2, False), (2, 1, True)]


def test_what_was_reported_meanwhile_is_no_time_of_the_task_that_goes_on() -> None:
    with seated() as seat:
        several(seat, 0.2, 0.3, 0.0, hold=60.0)
        while (task := seat.attendant.task) is None or task.position < 1:
            time.sleep(0.001)
        while seat.told.empty():
            seat.attendant.flush()
        first, rest = seat.hear(Ended), seat.hear(Ended)
        assert (first.n, rest.n) == (1, 2)
        assert rest.finished - rest.started < 0.45, "those 0.2 s were the first one's"
        assert rest.started > first.finished - 0.1


def test_what_is_not_wanted_any_more_is_given_back_with_all_that_follows() -> None:
    with seated() as seat:
        assignment = several(seat, 0.0, 0.2, 0.0, 0.0, hold=60.0)
        while (task := seat.attendant.task) is None or task.position < 1:
            time.sleep(0.001)
        assignment.revoked.add(3, 4)
        assert pieces(seat) == [(0, 2, False), (2, 0, True)]


def test_what_is_behind_a_slow_task_can_be_had_back_while_that_goes_on() -> None:
    with seated() as seat:
        assignment = several(seat, 0.0, 0.3, 0.0, 0.0, hold=60.0)
        behind = several(seat, 0.0, hold=60.0)
        while (task := seat.attendant.task) is None or task.position < 1:
            time.sleep(0.001)
        assignment.revoked.add(0, 4)
        behind.revoked.add(0, 1)
        seat.attendant.flush()
        rest, ahead = seat.hear(Ended), seat.hear(Ended)
        assert (rest.assignment, rest.position, rest.n, rest.final) == (assignment, 2, 0, False)
        assert (ahead.assignment, ahead.position, ahead.n, ahead.final) == (behind, 0, 0, True)
        assert seat.attendant.task is not None, "it goes on"
        assert pieces(seat) == [(0, 2, True)]


def test_a_task_in_doubt_is_one_and_what_ended_before_it_has_ended() -> None:
    with seated() as seat:
        several(seat, [], "lost", 0.0, hold=60.0)
        first, doubted = seat.hear(Ended), seat.hear(Ended)
        assert (first.position, first.n, first.final, first.doubt) == (0, 1, False, False)
        assert (doubted.position, doubted.n, doubted.final, doubted.doubt) == (1, 1, True, True)
        assert doubted.errors[0].kind.endswith("TimedOut")


def test_a_time_out_ends_its_own_task_only() -> None:
    with seated() as seat:
        several(seat, 0.0, PATIENCE, 0.0, hold=60.0)
        while (task := seat.attendant.task) is None or task.position < 1:
            former = task
            time.sleep(0.001)
        seat.attendant.break_off(former or task._replace(position=0), "TaskTimeout", "too late: it has ended")
        seat.attendant.break_off(task, "TaskTimeout", "no outcome")
        assert [(ended.n, ended.doubt) for ended in (seat.hear(Ended), seat.hear(Ended))] == [(1, False), (1, True)]
        assert seat.hear(Said).state == "safe"


def test_it_stays_safe_until_the_interlock_holds_and_there_are_orders_from_after_the_trip() -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.head.now = 95.0
        seat.hear(Said, lambda said: said.state == "safe")
        seat.head.now = 25.0
        assert seat.hear(m.Tripped, lambda news: not news.reason), "it holds again"
        seat.order("work")  # said before the daemon knew
        said = seat.hear(Said)
        assert (said.state, seat.head.calls.count("open")) == ("safe", 1)
        seat.order("stop")
        seat.hear(Said, lambda said: said.state == "safe")
        seat.order("work", heard=1)
        seat.hear(Said, lambda said: said.state == "ready")


def test_an_order_to_work_that_was_given_with_the_trip_in_mind_is_carried_out() -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.head.now = 95.0
        assert seat.hear(m.Tripped).number == 1
        seat.hear(Said, lambda said: said.state == "safe")
        seat.head.now = 25.0
        assert seat.hear(m.Tripped, lambda news: not news.reason), "it holds again"
        seat.order("work", heard=1)
        seat.hear(Said, lambda said: said.state == "ready")
        seat.head.now = 95.0
        seat.hear(Said, lambda said: said.state == "safe")
        seat.head.now = 25.0
        assert seat.hear(m.Tripped, lambda news: not news.reason).number == 4
        seat.order("work", heard=2)
        assert seat.hear(Said).state == "safe", "of the second trip the daemon has not heard"


def test_what_was_seen_before_somebody_used_the_instrument_by_hand_is_looked_at_anew() -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.head.now = 95.0
        seat.hear(m.Tripped)
        seat.order("park", watch=False)
        seat.hear(Said, lambda said: said.state == "safe" and said.order[1] > 1)
        seat.order("work", heard=1)
        assert seat.hear(m.Tripped).reason, "it is still too hot, and that is said again"
        seat.order("park", watch=False)
        seat.hear(Said, lambda said: said.state == "safe" and said.order[1] > 3)
        seat.head.now = 25.0
        seat.order("work", heard=2)
        seat.hear(Said, lambda said: said.state == "ready")


def test_users_who_catch_everything_are_broken_off_all_the_same() -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.give(-1.0)
        seat.head.now = 95.0
        ended = seat.hear(Ended)
        assert (ended.doubt, ended.errors[0].kind) == (True, "InterlockTripped")


@pytest.mark.parametrize("error", [ValueError("no sensor"), Unreachable("no route")])
def test_a_value_that_cannot_be_had_trips_and_no_more_when_it_can(error: Exception) -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.head.now = error
        tripped = seat.hear(m.Tripped)
        assert tripped.lost
        assert str(error) in tripped.reason
        seat.hear(Said, lambda said: said.state == "safe")
        if isinstance(error, ValueError):  # else a head without connect() cannot be looked at before it is opened
            seat.head.now = 25.0
            assert not seat.hear(m.Tripped).reason


def test_what_a_stop_has_broken_off_is_not_asked_any_further() -> None:
    """It is in the middle of something: a value that cannot be had there and then says nothing about the instrument."""
    with seated(interlocks={"hot": {**TEMPERATURE, "action": "pause"}}) as seat:
        seat.give(PATIENCE)
        while not seat.head.acting:
            time.sleep(0.001)
        seat.head.slow_to_stop = 0.05  # so that the next poll is due
        seat.order("stop")
        seat.head.now = Unreachable("a question is open")
        while not isinstance(news := seat.told.get(timeout=PATIENCE), Said) or news.state != "safe":
            assert not isinstance(news, m.Tripped)


def test_monitored_values_are_sampled_whatever_goes_wrong_with_them() -> None:
    with seated(monitor={"t": {"method": "temperature", "every": 0.01}}) as seat:
        assert seat.hear(m.Samples).values == {"t": 25.0}
        seat.head.now = np.zeros(3)
        seat.hear(m.Samples, lambda news: news.values == {"t": None})
        seat.head.now = np.float32(0.5)
        seat.hear(m.Samples, lambda news: news.values == {"t": 0.5})
        seat.order("park")
        seat.hear(Said, lambda said: said.state == "safe")
        seat.hear(m.Samples)
        seat.order("park", watch=False)
        seat.hear(Said, lambda said: said.state == "safe")
        calls = len(seat.head.threads), seat.told.qsize()
        seat.order("work")
        seat.hear(Said, lambda said: said.state == "ready")
        assert calls[1] == 0, "it was left alone"


def test_a_watchdog_is_kept_while_the_head_may_work_and_switched_off_when_it_is_safe() -> None:
    watchdog = {"arm": "arm", "keep": "keep", "disarm": "disarm", "every": 0.01}
    with seated(watchdog=watchdog) as seat:
        seat.give(0.1)
        seat.hear(Ended)
        assert seat.head.calls.index("arm") == seat.head.calls.index("open") + 1
        assert 2 <= seat.head.calls.count("keep") <= 30
        seat.order("stop")
        seat.hear(Said, lambda said: said.state == "safe")
        assert seat.head.calls[-2:] == ["safe", "disarm"]


def test_what_is_yielded_is_progress_at_most_ten_a_second_and_the_last_always(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with seated() as seat:
        seat.give([0.5])
        first = seat.hear(m.Progress)
        assert (first.number, first.values) == (1, {"progress": 0.5})
        seat.hear(Ended)
        seat.give([*range(500), [1, 2], {"step": 7, "mean": 0.25, "name": "ramp"}])
        heard = []
        while not isinstance(news := seat.told.get(timeout=PATIENCE), Ended):
            heard.append(news)
        progress = [news for news in heard if isinstance(news, m.Progress)]
        assert len(progress) < 50
        assert progress[-1].values == {"step": 7, "mean": 0.25, "name": "ramp"}
        assert [news.number for news in progress] == list(range(1, len(progress) + 1))
        assert news.outputs is not None
        seat.give([[1], "half of it", {"x": [2]}])
        assert seat.hear(Ended).errors == ()
    assert capsys.readouterr().err.count("is not shown") == 1


def test_a_checkpoint_that_cannot_be_kept_is_said_and_fails_nothing() -> None:
    def keep(kept: Kept) -> None:
        if kept.token == b"full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with seated() as seat:
        seat.keep = keep
        seat.resume(b"day-1 full full day-4")
        said = seat.hear(Said)
        assert said.state == "ready"
        assert said.error.endswith("cannot be kept on the disk of its worker: [Errno 28] No space left on device")
        assert seat.hear(Said).error == "", "said once, and that it is over"
        ended = seat.hear(Ended)
        assert ended.outputs is not None
        assert not ended.errors


class Taking(Oven):
    """Takes turns with others."""

    takes_turns = True

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context)
        self.has_turn = threading.Event()

    def turn(self) -> AbstractContextManager[None]:
        while not self.has_turn.wait(0.001):
            self.sleep(0.0)  # raises where it is stopped
        return nullcontext()


def test_while_it_waits_for_its_turn_no_task_has_begun() -> None:
    with seated(Taking) as seat:
        assert isinstance(seat.head, Taking)
        seat.give(0.0)
        assert seat.waits.get(timeout=PATIENCE)
        assert seat.attendant.task is None
        seat.order("stop")
        assert seat.hear(Ended).n == 0, "given back"
        seat.order("work")
        seat.hear(Said, lambda said: said.state == "ready")
        seat.give(0.0)
        assert seat.waits.get(timeout=PATIENCE)
        seat.head.has_turn.set()
        assert not seat.waits.get(timeout=PATIENCE)
        assert seat.hear(Ended).n == 1


# -- what fits a message ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("says", "told"), [("x" * 100_000, "x" * 19_999 + "…"), (None, ""), (7, "7")])
def test_whatever_a_head_says_that_it_is_can_be_told(says: Any, told: str) -> None:
    class Named(Oven):
        def identify(self) -> str:
            return says  # type: ignore[no-any-return]

    with seated(Named) as seat:
        seat.order("park")
        assert seat.hear(Said, lambda said: said.state == "safe").identity == told


def test_whatever_a_poll_raises_can_be_told() -> None:
    with seated(interlocks={"hot": TEMPERATURE}) as seat:
        seat.head.now = ValueError("x" * 100_000)
        tripped = seat.hear(m.Tripped)
        assert tripped.reason.startswith("its value cannot be had: ValueError: xxx")
        assert codec.worker_decoder().decode(codec.encode(tripped)) == tripped
