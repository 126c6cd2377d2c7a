"""What follows when an interlock trips, and how one head's value is compared with another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Heart, spec
from helpers.tips import Tip

from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo
from taskmaster.daemon.effects import Effects, Sender
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.spec import InterlockSpec

TIPS = (m.HeadName("tip-1"), m.HeadName("tip-2"))
INTERLOCKS = (
    InterlockSpec("hot", "safe"),
    InterlockSpec("door", "pause"),
    InterlockSpec("smoke", "stop"),
    InterlockSpec("balance", "safe", 1.0, "tip-1", below="tip-2"),
)
MASTER = spec("stm", "hold", heads=TIPS, interlocks=INTERLOCKS)


class Bench:
    """A daemon with two heads at work, the alarms that it has raised, and what it has written down."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.heart = Heart(MASTER, journal=journal)
        self.alarms: list[m.Alarm] = []
        self.one, self.two = Tip(self.heart, "tip-1"), Tip(self.heart, "tip-2")
        for tip in (self.one, self.two):
            tip.obey()

    def hear(self, tip: Tip, message: Any, *, torn: bool = False) -> Effects:
        with self.heart.turn(torn=torn) as out:
            worker = tip.address
            self.heart.core.workforce.on_worker(Sender(worker), message, None, None, self.heart.now, out)
        self.alarms += out.alarms
        return out

    def trip(self, tip: Tip, interlock: str, reason: str = "95 is above max = 60", *, lost: bool = False) -> Effects:
        return self.hear(tip, m.Tripped(self.heart.now, interlock, reason, lost))

    def holds(self, tip: Tip, interlock: str) -> None:
        self.hear(tip, m.Tripped(self.heart.now, interlock, ""))

    def polled(self, tip: Tip, value: m.Scalar, error: str = "") -> None:
        self.hear(tip, m.Polled(self.heart.now, "balance", value, error))

    def tick(self, seconds: float) -> None:
        for tip in (self.one, self.two):
            self.hear(tip, m.Heartbeat())
        self.alarms += self.heart.tick(seconds).alarms

    def head(self, name: str = "tip-1") -> HeadInfo:
        return next(info for info in self.heart.ask(m.ListHeads(9), m.HeadList).heads if info.head == name)

    def refused(self, message: Any) -> str:
        return self.heart.ask(message, m.Refused).message


def told(tip: Tip) -> str:
    """What a head is to do."""
    return tip.order.what


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_tripped_head_stays_safe_until_it_is_put_back_in(bench: Bench) -> None:
    out = bench.trip(bench.one, "hot")
    assert [note.message.what for note in out.urgent if isinstance(note.message, m.HeadOrder)] == ["stop"]
    assert (bench.head().state, bench.head().reason) == ("tripped", "interlock hot: 95 is above max = 60")
    (alarm,) = bench.alarms
    assert alarm.level == "error"
    assert "the head is brought to its safe state" in alarm.message
    assert alarm.message.endswith("taskmaster heads stm --in tip-1")
    bench.one.obey()
    bench.heart.open("stm").put(*range(5))
    assert (len(bench.one.assignments), len(bench.two.assignments)) == (0, 1)

    assert "cannot be put back" in bench.refused(m.SetHead(1, "stm", "tip-1", True))
    bench.holds(bench.one, "hot")
    assert (bench.head().state, bench.one.order.what) == ("tripped", "stop"), "it is latched"
    bench.heart.ask(m.SetHead(1, "stm", "tip-1", True), m.Done)
    assert bench.one.order.what == "work"
    bench.one.obey()
    assert bench.one.assignments


def test_every_trip_is_answered_by_an_order_and_on_record_once(bench: Bench) -> None:
    """A worker takes it for unknown until then; and an interlock that flaps for weeks does not fill the journal."""
    before = bench.one.order.number
    records = 0
    for _ in range(10):
        records += len([each for each in bench.trip(bench.one, "hot").records if type(each).__name__ == "HeadChanged"])
        assert bench.one.order.number > before
        before = bench.one.order.number
        bench.holds(bench.one, "hot")
    assert (records, len(bench.alarms)) == (1, 1)


def test_what_could_not_be_had_keeps_a_head_safe_for_as_long_as_that_is_so(bench: Bench) -> None:
    bench.trip(bench.one, "hot", "its value cannot be had: no route", lost=True)
    assert bench.head().state == "tripped"
    assert "until it can be had again" in bench.alarms[0].message
    bench.holds(bench.one, "hot")
    assert told(bench.one) == "work"
    bench.trip(bench.one, "hot", "its value cannot be had: no route", lost=True)
    bench.trip(bench.one, "hot")
    bench.holds(bench.one, "hot")
    assert told(bench.one) == "stop", "when it could be had, it was out of bounds"


def test_reset_lets_those_go_on_whose_interlocks_hold(bench: Bench) -> None:
    bench.trip(bench.one, "hot")
    bench.trip(bench.two, "hot")
    bench.holds(bench.one, "hot")
    bench.heart.ask(m.Reset(1, "stm"), m.Done)
    assert (bench.one.order.what, bench.two.order.what) == ("work", "stop")
    assert bench.head("tip-2").state == "tripped"


def test_a_stop_by_an_interlock_lasts_until_it_holds_and_is_reset(bench: Bench) -> None:
    out = bench.trip(bench.two, "smoke", "it is not 'NONE'")
    assert len([note for note in out.urgent if isinstance(note.message, m.HeadOrder)]) == 2
    assert bench.head("tip-1").reason == "by interlock smoke: head 'tip-2': it is not 'NONE'"
    assert "all heads of the Master are stopped" in bench.alarms[0].message
    assert "cannot be reset" in bench.refused(m.Reset(1))
    bench.holds(bench.two, "smoke")
    assert bench.one.order.what == "stop"
    bench.heart.ask(m.Reset(2), m.Done)
    assert (bench.one.order.what, bench.two.order.what) == ("work", "work")


def test_a_stop_can_be_reset_when_the_head_whose_interlock_tripped_is_gone(bench: Bench) -> None:
    bench.trip(bench.two, "smoke", "it is not 'NONE'")
    bench.heart.ask(m.SetHead(1, "stm", "tip-2", False, "on fire"), m.Done)
    bench.heart.ask(m.Reset(2), m.Done)
    assert (bench.one.order.what, bench.two.order.what, bench.two.order.watch) == ("work", "park", False)


def test_a_paused_master_is_resumed_when_the_interlock_holds(bench: Bench) -> None:
    bench.trip(bench.one, "door", "'OPEN' is not 'CLOSED'")
    bench.heart.open("stm").put(1, 2)
    assert not bench.one.assignments + bench.two.assignments
    assert bench.one.order.what == "work", "what is being evaluated goes on"
    assert "cannot be resumed" in bench.refused(m.Resume(1, "stm"))
    bench.holds(bench.one, "door")
    assert not bench.one.assignments + bench.two.assignments
    bench.heart.ask(m.Resume(2, "stm"), m.Done)
    assert bench.one.assignments + bench.two.assignments


def test_a_worker_that_is_lost_takes_what_it_has_seen_with_it_but_not_what_is_latched(bench: Bench) -> None:
    bench.trip(bench.one, "hot", "its value cannot be had", lost=True)
    bench.trip(bench.two, "hot")
    for tip in (bench.one, bench.two):
        bench.hear(tip, m.WorkerLost(tip.token, "WorkerLost", "it is gone"))
    one, two = Tip(bench.heart, "tip-1"), Tip(bench.heart, "tip-2")
    assert (one.order.what, two.order.what) == ("work", "stop")


def test_what_is_latched_is_so_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    bench = Bench(journal)
    bench.trip(bench.one, "hot")
    bench.holds(bench.one, "hot")
    bench.heart.restart({})
    bench.one.hello()
    assert (bench.one.order.what, bench.head().reason) == ("stop", "interlock hot: 95 is above max = 60")
    bench.heart.ask(m.SetHead(1, "stm", "tip-1", True), m.Done)
    bench.heart.restart({})
    bench.one.hello()
    assert bench.one.order.what == "work"
    log = journal.query("SELECT what, head, reason, user FROM head_log ORDER BY entry")
    tripped = ("tripped", "tip-1", "interlock hot: 95 is above max = 60", "interlock hot")
    assert list(log) == [tripped, ("in", "tip-1", "", "ada")]
    journal.close()


# -- while the daemon was away, or a trip was lost on the way ----------------------------------------------------------


@pytest.mark.parametrize(("interlock", "lost"), [("hot", False), ("hot", True), ("smoke", False), ("door", False)])
def test_a_trip_that_has_passed_before_the_daemon_was_back_has_its_consequences(interlock: str, *, lost: bool) -> None:
    bench = Bench()
    tip = bench.one
    before = tip.order.number
    bench.hear(tip, m.Tripped(1.0, interlock, "its value was wrong", lost, 1))
    assert [alarm.level for alarm in bench.alarms] == ["error"]
    orders = [note for note in tip.heard if isinstance(note, m.HeadOrder)]
    assert orders[-1].heard == 1
    bench.hear(tip, m.Tripped(2.0, interlock, "", lost=False, number=2))
    assert len(bench.alarms) == 1
    master = bench.heart.statistics("stm").state
    if lost:
        assert (tip.order.what, tip.order.heard) == ("work", 1)
        assert tip.order.number > before
    elif interlock == "hot":
        assert (tip.order.what, bench.head().state) == ("stop", "tripped")
        bench.heart.ask(m.SetHead(1, "stm", "tip-1", True), m.Done)
        assert (tip.order.what, tip.order.heard) == ("work", 2)
    else:
        assert master == {"smoke": "stopped", "door": "paused"}[interlock]


def test_a_trip_is_answered_when_it_is_on_disk_and_not_before(bench: Bench) -> None:
    out = bench.hear(bench.one, m.Tripped(1.0, "hot", "95 is above max = 60", number=1))
    urgent = [note.message for note in out.urgent if isinstance(note.message, m.HeadOrder)]
    (answer,) = [note.message for note in out.to_workers if isinstance(note.message, m.HeadOrder)]
    assert [(order.what, order.heard) for order in urgent] == [("stop", 0)]
    assert (answer.number, answer.what, answer.heard) == (urgent[0].number, "stop", 1)


def test_an_interlock_that_the_configuration_has_no_more_is_answered(bench: Bench) -> None:
    out = bench.hear(bench.one, m.Tripped(1.0, "former", "95 is above max = 60", number=1))
    (answer,) = [note.message for note in out.to_workers if isinstance(note.message, m.HeadOrder)]
    assert (answer.what, answer.heard) == ("work", 1)
    assert not bench.alarms


def test_what_was_heard_is_not_heeded_again(bench: Bench) -> None:
    """Its worker says it again where it does not know whether it was heard; meanwhile somebody may have resumed."""
    door = m.Tripped(1.0, "door", "'OPEN' is not 'CLOSED'", number=1)
    bench.hear(bench.one, door)
    bench.hear(bench.one, m.Tripped(2.0, "door", "", number=2))
    bench.heart.ask(m.Resume(1, "stm"), m.Done)
    bench.one.hello()
    bench.hear(bench.one, door)
    assert bench.heart.statistics("stm").state != "paused"


# -- what all heads depend on ------------------------------------------------------------------------------------------


class Plant:
    """Two heads, both of which depend on the water that the first is asked for."""

    def __init__(self, action: Any) -> None:
        interlocks = (InterlockSpec("water", action, head="tip-1"),)
        self.heart = Heart(spec("stm", "hold", heads=TIPS, interlocks=interlocks))
        self.run = self.heart.open("stm")

    def state(self) -> str:
        return str(self.heart.statistics("stm").state)

    def seconds(self, seconds: int, *tips: Tip) -> list[m.Alarm]:
        alarms = []
        for _ in range(seconds):
            for tip in tips:
                tip.say(m.Heartbeat())
            alarms += self.heart.tick(1.0).alarms
        return [alarm for alarm in alarms if "has tripped" in alarm.message]


def working(heart: Heart, head: str) -> Tip:
    tip = Tip(heart, head)
    tip.obey()
    return tip


@pytest.mark.parametrize(
    ("action", "state", "undo"), [("stop", "stopped", m.Reset(1, "stm")), ("pause", "paused", m.Resume(1, "stm"))]
)
def test_what_nobody_can_ask_any_more_has_tripped_for_all(action: str, state: str, undo: m.ClientMessage) -> None:
    plant = Plant(action)
    one, two = working(plant.heart, "tip-1"), working(plant.heart, "tip-2")
    one.say(m.WorkerLost(one.token, "WorkerLost", "it crashed"))
    plant.run.put(1, 2, 3)
    assert not two.assignments, "not before that is asked again"
    assert plant.heart.statistics("stm").reason == "interlock 'water' cannot be asked: head 'tip-1' is away"
    assert not plant.seconds(11, two), "it may be back in a moment"
    (alarm,) = plant.seconds(30, two)
    assert "'water' has tripped: its value cannot be had: head 'tip-1' is away" in alarm.message
    assert plant.state() == state
    assert "does not hold" in plant.heart.ask(undo, m.Refused).message

    again = working(plant.heart, "tip-1")
    plant.seconds(1, again, two)
    plant.heart.ask(undo, m.Done)
    for tip in (again, two):
        tip.obey()
    assert again.assignments
    assert two.assignments


def test_a_head_that_is_soon_back_stops_nobody() -> None:
    plant = Plant("stop")
    one, two = working(plant.heart, "tip-1"), working(plant.heart, "tip-2")
    plant.seconds(2, one, two)
    one.say(m.WorkerLost(one.token, "WorkerLost", "it crashed"))
    plant.seconds(9, two)
    plant.run.put(1, 2)
    again = working(plant.heart, "tip-1")
    assert not plant.seconds(20, again, two)
    assert again.assignments
    assert two.assignments


def test_before_it_was_ever_asked_nobody_works_and_nothing_is_broken_off() -> None:
    plant = Plant("stop")
    two = working(plant.heart, "tip-2")
    plant.run.put(1, 2)
    assert not plant.seconds(100, two)
    assert not two.assignments
    working(plant.heart, "tip-1")
    assert two.assignments


def test_what_goes_on_over_a_restart_is_broken_off_where_it_cannot_be_asked(tmp_path: Path) -> None:
    plant = Plant("stop")
    plant.heart.journal = Journal(tmp_path, "crash")
    plant.heart.journal.begin_epoch(0.0)
    plant.run = plant.heart.open("stm", "b")
    working(plant.heart, "tip-1")
    two = working(plant.heart, "tip-2")
    plant.run.put(1, 2)
    plant.heart.restart({})
    two.hello(two.assignments[0].lease)
    two.say(m.Ready())
    (alarm,) = plant.seconds(20, two)
    assert "all heads of the Master are stopped" in alarm.message
    assert told(two) == "stop"
    plant.heart.journal.close()


def test_who_takes_the_head_that_is_asked_out_of_service_does_without() -> None:
    plant = Plant("stop")
    one, two = working(plant.heart, "tip-1"), working(plant.heart, "tip-2")
    plant.seconds(2, one, two)
    one.say(m.WorkerLost(one.token, "WorkerLost", "it crashed"))
    assert plant.seconds(20, two)
    plant.heart.ask(m.SetHead(1, "stm", "tip-1", False, "broken"), m.Done)
    plant.heart.ask(m.Reset(2, "stm"), m.Done)
    two.obey()
    plant.run.put(1)
    plant.seconds(20, two)
    assert two.assignments


def test_worse_that_was_seen_meanwhile_is_not_forgotten() -> None:
    plant = Plant("stop")
    one, two = working(plant.heart, "tip-1"), working(plant.heart, "tip-2")
    plant.seconds(2, one, two)
    one.say(m.WorkerLost(one.token, "WorkerLost", "it crashed"))
    plant.seconds(20, two)
    again = Tip(plant.heart, "tip-1")
    again.say(m.Tripped(1.0, "water", "0.1 is below min = 0.5", number=1))
    again.obey()
    plant.seconds(2, again, two)
    assert "0.1 is below min" in plant.heart.ask(m.Reset(1, "stm"), m.Refused).message


# -- one head's value bounding another's -------------------------------------------------------------------------------


def test_values_of_two_heads_are_compared_as_they_come(bench: Bench) -> None:
    bench.polled(bench.one, 0.5)
    bench.polled(bench.two, 1.0)
    assert bench.head().state == "ready"
    bench.polled(bench.two, 0.5)
    assert bench.head().reason == "interlock balance: 0.5 is not below 0.5, the value of head 'tip-2'"
    assert bench.head("tip-2").state == "ready", "it acts where it was declared"
    bench.polled(bench.two, 1.0)
    assert "does not hold" in bench.refused(m.SetHead(1, "stm", "tip-1", True)), "once is no proof"
    bench.polled(bench.two, 1.0)
    bench.heart.ask(m.SetHead(1, "stm", "tip-1", True), m.Done)
    assert bench.one.order.what == "work"


def test_a_value_that_bounds_another_is_waited_for_at_first_and_must_be_fresh(bench: Bench) -> None:
    for _ in range(9):
        bench.polled(bench.one, 0.5)
        bench.tick(1.0)
    assert bench.head().state == "ready"
    bench.polled(bench.two, 1.0)
    for _ in range(3):
        bench.polled(bench.one, 0.5)
        bench.tick(1.0)
    assert bench.head().state == "ready"
    bench.polled(bench.one, 0.5)
    bench.tick(1.0)
    assert bench.head().reason == "interlock balance: the value of head 'tip-2' is 4.0 s old"
    bench.polled(bench.one, 0.5)
    for _ in range(2):
        bench.polled(bench.two, 1.0)
    assert bench.one.order.what == "work", "it can be had again"


def test_a_head_that_is_never_connected_has_no_value(bench: Bench) -> None:
    for _ in range(12):
        bench.polled(bench.one, 0.5)
        bench.tick(1.0)
    assert "head 'tip-2' cannot be had: it is not connected" in bench.head().reason


@pytest.mark.parametrize("value", [None, "high", True, float("nan")])
def test_what_is_no_number_cannot_be_compared(bench: Bench, value: m.Scalar) -> None:
    bench.polled(bench.one, 0.5)
    bench.polled(bench.two, value, "no answer")
    assert bench.head().reason == "interlock balance: head 'tip-2': no answer"


def test_what_no_interlock_is_called_is_not_heeded(bench: Bench) -> None:
    bench.trip(bench.one, "cold")
    bench.hear(bench.one, m.Polled(0.0, "hot", 1.0))
    assert bench.head().state == "ready"


# -- a safe state that cannot be reached -------------------------------------------------------------------------------


def test_a_head_that_cannot_be_made_safe_is_told_of_once_and_then_ever_louder(bench: Bench) -> None:
    bench.heart.ask(m.Stop(1, "stm"), m.Done)
    bench.two.obey()
    for error in ("no route", "no answer", "no route"):
        bench.hear(bench.one, m.HeadReport("unsafe", "", error, bench.one.order.number))
        bench.tick(1.0)
    (alarm,) = bench.alarms
    assert (alarm.level, "'tip-1'" in alarm.message, "no route" in alarm.message) == ("error", True, True)
    assert bench.head().reason == "by ada (not known to be safe: no route)"
    assert not bench.head().safe
    for _ in range(300):
        bench.tick(1.0)
    louder = [alarm.message for alarm in bench.alarms[1:]]
    assert {alarm.level for alarm in bench.alarms[1:]} == {"critical"}
    assert ["for 30 s" in louder[0], "for 60 s" in louder[1], len(louder)] == [True, True, 4]
    bench.hear(bench.one, m.HeadReport("safe", "", "", bench.one.order.number))
    before = len(bench.alarms)
    bench.tick(1000.0)
    assert len(bench.alarms) == before
    assert bench.head().safe


def test_what_is_broken_off_by_an_interlock_is_no_failure_of_the_connection(bench: Bench) -> None:
    run = bench.heart.open("stm")
    run.put(*range(9))
    for _ in range(4):
        bench.two.give_back(m.TaskError(0, "InterlockTripped", "too hot"))
    assert bench.head("tip-2").state == "busy"


def test_the_status_says_which_interlock_has_paused_a_master(bench: Bench) -> None:
    bench.trip(bench.two, "door", "'OPEN' is not 'CLOSED'")
    bench.holds(bench.two, "door")
    why = "by interlock door of head 'tip-2': 'OPEN' is not 'CLOSED'"
    status = bench.heart.statistics("stm")
    assert (status.state, status.reason) == ("paused", why)
    bench.heart.ask(m.Resume(1, "stm"), m.Done)
    bench.heart.ask(m.Pause(2, "stm"), m.Done)
    status = bench.heart.statistics("stm")
    assert (status.state, status.reason) == ("paused", "")
