"""Alarms that stand: raised once, told again when they become worse, cleared when what they are about is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.heart import Heart, spec
from helpers.tips import TIPS, Tip

from taskmaster.bus import messages as m
from taskmaster.daemon.alarms import KINDS, AlarmBook, Condition
from taskmaster.daemon.conditions import ClockWatch, disk_condition, master_conditions
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.space import Space
from taskmaster.daemon.spec import InterlockSpec


class Desk:
    """Somebody who hears what an alarm book has to tell, second by second."""

    def __init__(self) -> None:
        self.book = AlarmBook()
        self.holds: list[Condition] = []
        self.book.sources.append(lambda now, wall: list(self.holds))
        self.now = 100.0

    def look(self, seconds: float = 1.0) -> list[tuple[str, str]]:
        self.now += seconds
        return [(alarm.state, alarm.message) for alarm in self.book.look(self.now, 1e9 + self.now)]

    def say(self, *alarms: m.Alarm) -> list[tuple[str, str]]:
        return [(alarm.state, alarm.message) for alarm in self.book.note(alarms, self.now)]

    @property
    def standing(self) -> list[str]:
        return [info.message for info in self.book.infos()]


DOUBT = Condition("held_tasks", "warning", "stm", "one is in doubt")
MORE = Condition("held_tasks", "warning", "stm", "two are in doubt")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_what_holds_is_raised_once_and_cleared_when_it_does_not(desk: Desk) -> None:
    assert desk.look() == []
    desk.holds = [DOUBT]
    assert desk.look() == [("raised", "one is in doubt")]
    assert [desk.look() for _ in range(5)] == [[]] * 5, "not each second"
    [info] = desk.book.infos()
    assert (info.kind, info.level, info.subject, info.since) == ("held_tasks", "warning", "stm", 1e9 + 102.0)
    desk.holds = [MORE]
    assert desk.look() == [], "it goes on"
    assert desk.standing == ["two are in doubt"], "and whoever asks is told how it is now"
    desk.holds = []
    assert desk.look() == [("cleared", "two are in doubt")]
    assert (desk.standing, len(desk.book)) == ([], 0)
    desk.holds = [DOUBT]
    assert desk.look() == [("raised", "one is in doubt")], "once more"


def test_what_becomes_worse_is_told_again(desk: Desk) -> None:
    low = Condition("disk_low", "warning", "disk", "low")
    full = Condition("disk_low", "error", "disk", "full")
    desk.holds = [low]
    assert desk.look() == [("raised", "low")]
    desk.holds = [full]
    assert desk.look() == [("raised", "full")]
    desk.holds = [low]
    assert desk.look() == []
    assert desk.standing == ["low"]
    desk.holds = [full]
    assert desk.look() == [("raised", "full")]


def test_one_that_was_said_is_not_said_again_by_what_holds_it_up(desk: Desk) -> None:
    said = m.Alarm("error", "stm", "interlock 'water' has tripped", 5.0, "interlock", "tip-1")
    assert desk.say(said, said) == [("raised", "interlock 'water' has tripped")]
    desk.holds = [Condition("interlock", "error", "stm", "it is kept safe", "tip-1")]
    assert desk.look() == []
    louder = m.Alarm("critical", "stm", "for an hour", 5.0, "interlock", "tip-1")
    assert desk.say(louder) == [("raised", "for an hour")]
    assert desk.look() == []
    assert desk.standing == ["for an hour"], "as it was said"
    desk.holds = []
    assert desk.look() == [("cleared", "for an hour")]


def test_parts_of_a_subject_stand_by_themselves(desk: Desk) -> None:
    desk.holds = [Condition("interlock", "error", "stm", tip, tip) for tip in ("tip-1", "tip-2")]
    assert desk.look() == [("raised", "tip-1"), ("raised", "tip-2")]
    del desk.holds[0]
    assert desk.look() == [("cleared", "tip-1")]
    assert desk.standing == ["tip-2"]


def test_an_event_is_told_as_it_is_and_does_not_stand(desk: Desk) -> None:
    event = m.Alarm("warning", "stm", "its guardian has ended", 5.0)
    assert desk.book.note([event, event], desk.now) == [event, event]
    assert desk.standing == []


def test_one_that_nothing_holds_up_stands_for_a_while(desk: Desk) -> None:
    short = m.Alarm("error", "run", "the journal holds less", 5.0, "journal_short")
    assert desk.say(short) == [("raised", "the journal holds less")]
    desk.look(3000)
    assert desk.say(short) == [], "it is said again, and stands longer for that"
    assert desk.look(3000) == []
    more = m.Alarm("error", "run", "the journal holds less still", 5.0, "journal_short")
    assert desk.say(more) == [], "it is a client's word, and there may be very many such words"
    assert desk.look(3000) == []
    assert desk.look(700) == [("cleared", "the journal holds less")]


# -- what holds -------------------------------------------------------------------------------------------------------


def conditions(heart: Heart) -> list[tuple[str, str, str]]:
    return [(found.kind, found.level, found.message) for found in master_conditions(heart.core)]


def test_workers_that_end_again_and_again() -> None:
    heart = Heart(spec())
    master = heart.core.masters["svm"]
    assert conditions(heart) == []
    master.remark = (master.ended, "3 workers in a row died before a task ended")
    assert conditions(heart) == [("crash_loop", "warning", "Master 'svm': 3 workers in a row died before a task ended")]
    master.ended += 1
    assert conditions(heart) == [], "since then one has ended a task"
    master.given_up = "Master 'svm': its workers cannot start; taskmaster resume svm"
    assert conditions(heart) == [("crash_loop", "error", master.given_up)]


INTERLOCKS = (InterlockSpec("hot", "safe"), InterlockSpec("door", "pause"), InterlockSpec("smoke", "stop"))


class Probe:
    """Two heads at work, and the book of their alarms as the broker keeps it."""

    def __init__(self) -> None:
        self.heart = Heart(spec("stm", "hold", heads=TIPS, interlocks=INTERLOCKS))
        self.one, self.two = Tip(self.heart, "tip-1"), Tip(self.heart, "tip-2")
        self.book = AlarmBook()
        self.book.sources.append(lambda now, wall: master_conditions(self.heart.core))
        for tip in (self.one, self.two):
            tip.obey()
        assert self.second() == []

    def trip(self, interlock: str, reason: str) -> list[tuple[str, str, str]]:
        return self._told(self.one.say(m.Tripped(self.heart.now, interlock, reason)))

    def say(self, message: m.ClientMessage) -> list[tuple[str, str, str]]:
        return self._told(self.heart.say(message))

    def second(self) -> list[tuple[str, str, str]]:
        for tip in (self.one, self.two):
            tip.say(m.Heartbeat())
        return self._told(self.heart.tick())

    def _told(self, out: Effects) -> list[tuple[str, str, str]]:
        told = self.book.note(out.alarms, self.heart.now) + self.book.look(self.heart.now, self.heart.now)
        return [(alarm.state, alarm.kind, alarm.about) for alarm in told]


def test_an_interlock_stands_from_when_it_trips_until_the_head_is_put_back_in() -> None:
    probe = Probe()
    assert probe.trip("hot", "95 is above max = 60") == [("raised", "interlock", "tip-1")]
    assert probe.second() == []
    assert probe.trip("hot", "") == [], "it holds again, and the head stays safe"
    assert probe.say(m.SetHead(1, "stm", "tip-1", True)) == [("cleared", "interlock", "tip-1")]


@pytest.mark.parametrize(
    ("interlock", "way_on"), [("door", m.Resume(1, "stm")), ("smoke", m.Reset(1, "stm"))], ids=["pause", "stop"]
)
def test_what_stops_all_heads_stands_until_they_go_on(interlock: str, way_on: m.ClientMessage) -> None:
    probe = Probe()
    assert probe.trip(interlock, "open") == [("raised", "interlock", "")]
    assert probe.second() == []
    assert probe.trip(interlock, "") == []
    for tip in (probe.one, probe.two):
        tip.obey()
    assert probe.say(way_on) == [("cleared", "interlock", "")]


def test_what_people_stop_is_no_alarm() -> None:
    probe = Probe()
    assert probe.say(m.Pause(1, "stm")) == []
    assert probe.say(m.Stop(1, "stm")) == []
    for tip in (probe.one, probe.two):
        tip.obey()
    assert probe.second() == []


def test_a_head_that_is_not_known_to_be_safe_is_told_of_ever_louder_until_it_is() -> None:
    probe = Probe()
    probe.say(m.Stop(1, "stm"))
    probe.two.obey()
    told = [each for _ in range(100) for each in probe.second()]
    assert set(told) == {("raised", "unsafe_head", "tip-1")}
    assert 3 <= len(told) <= 5
    [info] = probe.book.infos()
    assert (info.level, info.about) == ("critical", "tip-1")
    probe.one.obey()
    assert probe.second() == [("cleared", "unsafe_head", "tip-1")]


def test_tasks_in_doubt_stand_until_the_last_is_resolved() -> None:
    probe = Probe()
    run = probe.heart.open("stm")
    run.put(7)
    run.put(8)
    for tip in (probe.one, probe.two):
        tip.give_back(m.TaskError(0, "TimedOut", "no answer"), doubt=True)
    assert probe.second() == [("raised", "held_tasks", "")]
    [info] = probe.book.infos()
    assert info.message == (
        f"Master 'stm': 2 tasks are in doubt, first task 0 of run {run.book.name!r}: no answer; "
        f"taskmaster resolve {run.run} 0 done|retry|fail"
    )
    run.resolve(0, "fail")
    assert probe.second() == []
    run.resolve(1, "fail")
    assert probe.second() == [("cleared", "held_tasks", "")]


def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 << 30
    monkeypatch.setattr(Space, "_free", lambda space: free)
    space = Space(tmp_path, 0)

    def found() -> list[tuple[str, str]]:
        space.look()
        return [(each.level, each.message) for each in disk_condition(space, 2_000_000_000)]

    assert found() == []
    free = 1_500_000_000
    assert found() == [
        (
            "warning",
            (
                f"the disk of {tmp_path} has 1.5 GB free beside what is kept back, less than 2 GB; with too little, no "
                "further tasks are taken"
            ),
        )
    ]
    free = 100
    [(level, text)] = found()
    assert (level, "no further tasks are taken until more is free" in text) == ("error", True)


class Clocks:
    """Three clocks: one that people set, one that runs while the machine sleeps, and one that does not."""

    def __init__(self, epoch: float = 0.0) -> None:
        self.wall, self.boot, self.now = 1e9, 500.0, 400.0
        self.watch = ClockWatch(lambda: self.boot, int(epoch * 1e3))

    def look(self) -> Iterator[str]:
        return (found.message for found in self.watch.look(self.now, self.wall))

    def second(self) -> list[str]:
        self.wall, self.boot, self.now = self.wall + 1, self.boot + 1, self.now + 1
        return list(self.look())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (3600, "the clock was set on by 1 h"),
        (-3600, "the clock was set back by 1 h"),
        (10 * 365.25 * 86400, "the clock was set on by 3652 d 12 h"),
        (-10 * 365.25 * 86400, "the clock was set back by 3652 d 12 h"),
    ],
)
def test_a_clock_that_is_set_is_noticed_once(change: float, text: str) -> None:
    clocks = Clocks()
    assert [clocks.second() for _ in range(3)] == [[]] * 3
    clocks.wall += change
    assert clocks.second() == [text]
    assert clocks.second() == []


def test_a_clock_that_is_drawn_near_is_not_set() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.wall += 0.5
        assert clocks.second() == []


def test_a_machine_that_slept() -> None:
    clocks = Clocks()
    clocks.second()
    clocks.wall, clocks.boot = clocks.wall + 7200, clocks.boot + 7200
    assert clocks.second() == ["the machine slept for 2 h; nothing was evaluated"]
    assert clocks.second() == []


def test_a_daemon_that_stood_still_is_no_clock_that_jumped() -> None:
    clocks = Clocks()
    clocks.second()
    clocks.wall, clocks.boot, clocks.now = clocks.wall + 60, clocks.boot + 60, clocks.now + 60
    assert clocks.second() == []


def test_a_clock_behind_that_of_an_earlier_start() -> None:
    assert list(Clocks(1e9 + 86400).look()) == ["the clock is 1 d behind what it was at an earlier start"]
    assert list(Clocks(1e9 + 5).look()) == []


def test_every_kind_says_what_to_do() -> None:
    for name, kind in KINDS.items():
        assert kind.meaning, name
        assert kind.remedy, name
