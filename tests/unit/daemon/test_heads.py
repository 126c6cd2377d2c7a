"""Heads of an instrument: who may be given a task, who has to be safe, and that no order is ever taken for another."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.heart import Heart, spec
from helpers.tips import TIPS, Tip, heads, states, tips, told

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Sender
from taskmaster.daemon.journal import Journal
from taskmaster.drivers.instruments.errors import InterlockTripped, Stopped
from taskmaster.drivers.outputs import task_error


@pytest.fixture
def heart() -> Heart:
    return Heart(spec("stm", "hold", heads=TIPS, quarantine_after=2), spec("svm"))


def test_a_head_gets_tasks_once_it_says_that_it_is_ready(heart: Heart) -> None:
    run = heart.open("stm")
    run.put(1)
    assert states(heart) == ["away", "away"]
    tip = Tip(heart, "tip-1")
    assert not tip.assignments
    tip.say(m.HeadReport("faulty", "", "no route to host", tip.order.number))
    assert not tip.assignments
    assert heads(heart)["tip-1"].reason == "no route to host"
    tip.obey()
    assert [at.indices for at in tip.assignments] == [[0]]
    assert heads(heart)["tip-1"].state == "busy"
    tip.report(tip.assignments.pop(), seconds=2.0)
    info = heads(heart)["tip-1"]
    assert (info.state, info.identity, info.tasks) == ("ready", "ACME,tip-1", 1)
    assert info.busy == pytest.approx(2.0)


def test_what_is_wrong_with_a_head_that_works_is_an_alarm_once(heart: Heart) -> None:
    tip = Tip(heart, "tip-1")
    tip.obey()
    full = m.HeadReport("ready", "", "its checkpoints cannot be kept", tip.order.number)
    (alarm,) = tip.say(full).alarms
    assert (alarm.level, alarm.message) == ("warning", "Master 'stm', head 'tip-1': its checkpoints cannot be kept")
    assert heads(heart)["tip-1"].state == "ready"
    assert heads(heart)["tip-1"].reason == "its checkpoints cannot be kept"
    assert not tip.say(full).alarms


def test_of_a_head_without_a_safe_state_that_is_told() -> None:
    meter = m.HeadName("meter", has_safe_state=False)
    heart = Heart(spec("lab", "hold", heads=(meter, m.HeadName("source"))))
    assert {name: info.has_safe_state for name, info in heads(heart).items()} == {"meter": False, "source": True}


@pytest.mark.parametrize(("head", "words"), [("tip-3", "has no head 'tip-3'; did you mean"), ("tip-1", "has a worker")])
def test_a_worker_without_a_head_of_its_own_is_refused(heart: Heart, head: str, words: str) -> None:
    tips(heart)
    stranger = Tip(heart, head)
    (refused, *_) = [note for note in stranger.heard if isinstance(note, m.Refused)]
    assert words in refused.message
    assert all(info.pid != stranger.number for info in heads(heart).values())


def test_stop_tells_every_head_before_anything_is_written_and_lasts_until_reset(heart: Heart) -> None:
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(*range(5))
    with heart.turn(torn=True) as out:
        heart.core.on_client(Sender(b"client", "ada"), m.Stop(7, None, "smoke"), None, out)
    assert {note.address for note in out.urgent} == {one.address, two.address}
    heart.is_dead = False  # it is not: the turn is only looked at in the middle
    heart.ask(m.Stop(7, "stm", "smoke"), m.Done)
    assert (told(one), told(two)) == ("stop", "stop")
    assert states(heart) == ["stopped", "stopped"]
    assert heads(heart)["tip-1"].reason == "by ada: smoke"
    one.obey()
    assert [info.safe for info in heads(heart).values()] == [True, False]
    one.give_back(doubt=True)
    assert not one.assignments, "what was broken off is in doubt, and nothing follows"
    heart.ask(m.Reset(8), m.Done)
    assert (told(one), told(two)) == ("park", "work"), "the one has a task in doubt"
    assert not two.assignments[1:]
    two.obey()
    assert heads(heart)["tip-1"].state == "parked"


def test_an_order_that_was_not_confirmed_is_not_taken_for_carried_out(heart: Heart) -> None:
    one, _ = tips(heart)
    before = one.order
    heart.ask(m.SetHead(1, "stm", "tip-1", False, "cleaning"), m.Done)
    heart.ask(m.SetHead(2, "stm", "tip-1", True), m.Done)
    heart.open("stm").put(1, 2, 3)
    assert not one.assignments, "it was told to park and to work since, and has said nothing to either"
    one.say(m.HeadReport("ready", "ACME", "", before.number))
    assert not one.assignments
    one.obey()
    assert one.assignments


def test_a_stop_is_followed_by_an_alarm_for_each_head_that_is_not_known_to_be_safe(heart: Heart) -> None:
    one, two = tips(heart)

    def seconds(n: int) -> list[m.Alarm]:
        alarms: list[m.Alarm] = []
        for _ in range(n):
            for tip in (one, two):
                tip.say(m.Heartbeat())
            alarms += heart.tick(1.0).alarms
        return alarms

    heart.ask(m.Stop(7, "stm"), m.Done)
    one.obey()
    assert [info.safe for info in heads(heart).values()] == [True, False]
    (alarm,) = seconds(5)
    assert (alarm.level, "'tip-2': it is NOT KNOWN TO BE SAFE" in alarm.message) == ("error", True)
    assert f"its worker (process {two.number}) has not said so" in alarm.message
    later = seconds(120)
    assert [alarm.level for alarm in later] == ["error", *["critical"] * 2]
    assert "not known to be safe" in heads(heart)["tip-2"].reason
    two.obey()
    assert heads(heart)["tip-2"].safe
    assert seconds(300) == []


def test_a_head_without_a_worker_is_as_safe_as_the_last_one_has_left_it(heart: Heart) -> None:
    one, two = tips(heart)
    for tip in (one, two):
        tip.say(m.WorkerLost(tip.token, "WorkerLost", "it died"))
    guardian = heart.stranger(b"guardian")
    guardian.say(m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g"))
    guardian.say(m.Guarded(heart.now, "stm", "tip-2", "its worker died"))
    heart.ask(m.Stop(7, "stm"), m.Done)
    assert [info.safe for info in heads(heart).values()] == [False, True]
    alarms = [alarm for _ in range(5) for alarm in heart.tick(1.0).alarms]
    assert ["'tip-1': it is NOT KNOWN TO BE SAFE" in alarm.message for alarm in alarms] == [True]
    assert "no worker has it" in alarms[0].message


def test_a_task_in_doubt_parks_its_head_until_it_is_resolved(heart: Heart) -> None:
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(*range(9))
    index = one.assignments[0].message.first
    one.give_back(m.TaskError(0, "Unreachable", "it was unplugged"), doubt=True)
    assert run.book.states[index] == "held"
    assert told(one) == "park"
    info = heads(heart)["tip-1"]
    assert (info.state, info.doubts) == ("parked", ((run.run, index),))
    assert f"taskmaster resolve {run.run} {index}" in info.reason
    one.obey()
    assert not one.assignments
    two.report(two.assignments.pop(0))
    assert two.assignments, "the other goes on"
    run.resolve(index, "fail")
    assert told(one) == "work"
    one.obey()
    assert one.assignments


def test_a_task_that_has_not_begun_goes_to_another_head_and_has_used_up_nothing(heart: Heart) -> None:
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(1)
    (tip, other) = (one, two) if one.assignments else (two, one)
    tip.say(m.HeadReport("faulty", "", "no answer", tip.order.number))
    tip.give_back(m.TaskError(0, "TimedOut", "no answer"))
    assert [at.indices for at in other.assignments] == [[0]]
    assert other.assignments[0].message.attempt == 1
    assert run.book.states == ["open"]


def test_a_head_that_keeps_losing_its_connection_is_quarantined_until_somebody_puts_it_back(heart: Heart) -> None:
    one, two = tips(heart)
    heart.ask(m.SetHead(1, "stm", "tip-2", False), m.Done)
    two.obey()
    run = heart.open("stm")
    run.put(*range(9))
    one.give_back(m.TaskError(0, "TimedOut", "no answer"))
    one.report(one.assignments.pop(0))
    for _ in range(2):  # one between them that was done, and so there are three before it
        assert heads(heart)["tip-1"].state in ("ready", "busy")
        one.give_back(m.TaskError(0, "TimedOut", "no answer"))
    assert states(heart) == ["quarantined", "out"]
    assert heads(heart)["tip-1"].reason == (
        "2 times in a row: no answer; when that is mended: taskmaster heads stm --in tip-1"
    )
    one.obey()
    heart.ask(m.SetHead(2, "stm", "tip-1", True), m.Done)
    one.obey()
    assert one.assignments


@pytest.mark.parametrize("error", [Stopped("stm/tip-1 was stopped"), InterlockTripped("too hot")])
def test_a_head_is_not_quarantined_for_being_stopped(heart: Heart, error: Exception) -> None:
    one, _ = tips(heart)
    run = heart.open("stm")
    run.put(*range(9))
    for _ in range(3):
        index = one.assignments[0].message.first
        one.give_back(task_error(0, error), doubt=True)
        run.resolve(index, "fail")
        one.obey()
        assert heads(heart)["tip-1"].state == "busy"


def test_a_long_task_that_comes_further_in_between_may_lose_its_connection_as_often_as_it_likes(heart: Heart) -> None:
    one, two = tips(heart)
    heart.ask(m.SetHead(1, "stm", "tip-2", False), m.Done)
    two.obey()
    heart.open("stm").put(1)
    lost = m.TaskError(0, "Unreachable", "it was unplugged")
    for week in range(5):
        one.keep(1, b"week %d" % week)
        one.give_back(lost, doubt=True)
        assert heads(heart)["tip-1"].state == "busy", "it goes on"
    one.give_back(lost, doubt=True)
    assert heads(heart)["tip-1"].state == "quarantined", "twice, and nothing in between"


def test_what_holds_of_heads_holds_after_a_restart(tmp_path: Path) -> None:
    def journal() -> Journal:
        made = Journal(tmp_path, "crash")
        made.begin_epoch(0.0)
        return made

    heart = Heart(spec("stm", "hold", heads=TIPS), journal=journal())
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(1)
    tip = one if one.assignments else two
    tip.give_back(doubt=True)
    heart.ask(m.SetHead(1, "stm", "tip-2", False, "cleaning"), m.Done)
    heart.ask(m.Stop(2, "stm", "smoke"), m.Done)
    before = {name: info.state for name, info in heads(heart).items()}
    latest = one.order.number
    assert heart.journal is not None
    heart.journal.close(in_order=False)
    heart.journal = journal()
    heart.restart({})
    assert (
        {name: info.state for name, info in heads(heart).items()} == before == {"tip-1": "stopped", "tip-2": "stopped"}
    )
    one.hello()
    assert one.order.number > latest, "an order of this daemon's is newer than any of the last one's"
    assert told(one) == "stop"
    heart.ask(m.Reset(3), m.Done)
    assert heads(heart)["tip-2"].state == "out"
    assert heads(heart)[tip.head].doubts == ((run.run, 0),)
    log = heart.journal.query("SELECT what, head, user FROM head_log ORDER BY entry")
    assert list(log) == [("out", "tip-2", "ada"), ("stopped", "", "ada"), ("reset", "", "ada")]
    heart.journal.close()


def test_a_master_without_heads_says_so(heart: Heart) -> None:
    for message in (m.Stop(1, "svm"), m.Reset(1, "svm"), m.SetHead(1, "svm", "tip-1", True)):
        assert "has no heads" in heart.ask(message, m.Refused).message
    assert heart.ask(m.Stop(1), m.Done).count == 1, "of all Masters those that have"


def test_what_keeps_an_instrument_from_work_is_in_its_status(heart: Heart) -> None:
    _, two = tips(heart)
    run = heart.open("stm")
    heart.ask(m.SetHead(1, "stm", "tip-2", False, "cleaning"), m.Done)
    two.obey()
    run.put(*range(3), where=m.Where(capability="cold"))
    run.put(*range(4), where=m.Where(head="tip-1"))
    status = heart.statistics("stm")
    assert (status.state, status.unserved, status.unserved_where) == ("ready", 3, m.Where(capability="cold"))
    heart.ask(m.SetHead(2, "stm", "tip-1", False), m.Done)
    status = heart.statistics("stm")
    assert (status.state, status.reason) == ("no heads", "tip-1 out (by ada); tip-2 out (by ada: cleaning)")
    assert not heart.statistics("svm").unserved


def test_who_has_done_what_to_heads_is_on_record_as_they_say(heart: Heart) -> None:
    one, two = tips(heart)
    heart.ask(m.SetHead(1, "stm", "tip-2", False, "cleaning", "eve"), m.Done)
    assert heads(heart)["tip-2"].reason == "by eve: cleaning"
    run = heart.open("stm")
    run.put(1)
    heart.ask(m.Stop(2, "stm", "smoke", "eve"), m.Done)
    assert heads(heart)["tip-1"].reason == "by eve: smoke"
    one.give_back(doubt=True)
    heart.ask(m.Resolve(3, run.run, 0, "fail", who="eve"), m.Done)
    assert "cannot name a person" in heart.ask(m.Reset(4, "stm", who="\n"), m.Refused).message
    heart.ask(m.Stop(5, "stm", who="\n"), m.Done)
    assert heads(heart)["tip-1"].reason == "by ada", "no stop fails by a name"
    two.obey()


def test_what_heads_have_done_and_what_went_wrong_last_outlives_the_daemon(tmp_path: Path) -> None:
    def journal() -> Journal:
        made = Journal(tmp_path, "crash")
        made.begin_epoch(0.0)
        return made

    heart = Heart(spec("stm", "hold", heads=TIPS), journal=journal())
    one, two = tips(heart)
    run = heart.open("stm")
    run.put(1, 2, where=m.Where(head="tip-1"))
    one.report(one.assignments.pop(0), seconds=2.0)
    one.report(one.assignments.pop(0), seconds=1.0)
    two.say(m.HeadReport("faulty", "", "no route to host", two.order.number))
    said = heads(heart)["tip-2"].last_error_time
    two.obey()
    assert said > 0
    heart.tick()  # once a second it is put on record
    assert heart.journal is not None
    heart.journal.close(in_order=False)
    heart.journal = journal()
    heart.restart({})
    first, second = heads(heart).values()
    assert (first.tasks, first.busy, first.last_error) == (2, 3.0, "")
    assert (second.tasks, second.last_error, second.last_error_time) == (0, "no route to host", said)
    one.hello()
    one.say(m.Ready())
    one.obey()
    heart.open("stm").put(1, where=m.Where(head="tip-1"))
    one.report(one.assignments.pop(0), errors=(0,))
    last = heads(heart)["tip-1"]
    assert (last.tasks, last.last_error) == (3, "ValueError: no")


# -- the daemon's log --------------------------------------------------------------------------------------------------


def test_who_reads_the_log_learns_what_became_of_heads_and_tasks(heart: Heart) -> None:
    tip = Tip(heart, "tip-1")
    order = tip.order.number
    run = heart.open("stm")
    run.put(7)
    assert tip.say(m.HeadReport("faulty", "", "Unreachable: no route", order)).remarks == [
        (True, "Master 'stm', head 'tip-1': Unreachable: no route; tried again and again")
    ]
    tip.say(m.HeadReport("connecting", "", "", order))
    assert not tip.say(m.HeadReport("faulty", "", "Unreachable: no route", order)).remarks, "once is enough"
    assert tip.say(m.HeadReport("ready", "ACME,1", "", order)).remarks == [
        (False, "Master 'stm', head 'tip-1': it is back (ACME,1)")
    ]
    at = tip.assignments.pop()
    error = m.TaskError(0, "TimedOut", "no answer")
    ((is_bad, said),) = tip.say(m.Outcome(at.lease, 0, 1, None, (error,), final=True, doubt=True)).remarks
    assert is_bad
    assert said.startswith("task 0 of run ")
    assert said.endswith("in doubt: no answer; taskmaster resolve 1 0 done|retry|fail")
