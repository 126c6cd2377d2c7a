"""Runs and who may write to them: numbering, fencing, and messages that come twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Conversation, Heart, spec
from simulation.tasks import point

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.table import pack_values
from taskmaster.daemon import opening as opening_module
from taskmaster.daemon.effects import BlockAppended, Effects, Sender, Verify, WriterChanged
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.roles import Peer
from taskmaster.daemon.run import CLAIMS

_client = Sender(b"client", "ada")


def refused(heart: Heart, message: Any, table: Any = None) -> m.Refused:
    return heart.ask(message, m.Refused, table)


def test_the_same_wish_to_write_gets_the_same_number() -> None:
    heart = Heart(spec())
    first = heart.ask(m.Open(1, "svm", "a", claim="x"), m.Opened)
    out = heart.say(m.Open(2, "svm", "a", claim="x"))
    assert out.records == []
    assert out.replies[0].message == m.Opened(2, 1, "svm", "a", first.writer, 0, 0, 7)
    assert heart.ask(m.Open(3, "svm", "a", claim="y"), m.Opened).writer == first.writer + 1
    assert heart.ask(m.Open(4, "svm", "a", claim="x"), m.Opened).writer == first.writer  # which is fenced now
    assert heart.ledger.books[1].writer == first.writer + 1


def test_of_many_claims_the_latest_are_remembered(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    heart = Heart(spec(), journal=journal)
    for number in range(3 * CLAIMS):
        heart.open(claim=str(number))
    for _ in range(2):
        for number in range(2 * CLAIMS, 3 * CLAIMS):
            assert heart.open(claim=str(number)).writer == number + 1
        assert len(heart.open(claim=str(3 * CLAIMS - 1)).state.claims) == CLAIMS
        heart.restart({})
    journal.close()


def test_without_a_claim_each_opening_is_another_writer() -> None:
    heart = Heart(spec())
    assert [heart.open().writer for _ in range(3)] == [1, 2, 3]


def test_who_asks_for_unknown_runs_by_the_hundred_is_told_of_few_that_are_near() -> None:
    """To look for a near name takes milliseconds, and others wait for the turn."""
    heart = Heart(spec())
    heart.open(name="first")
    for _ in range(2):
        with heart.turn() as out:
            for k in range(100):
                heart.core.on_client(_client, m.Open(k, "svm", "frist", write=False), None, out)
        told = [reply.message.message for reply in out.replies if isinstance(reply.message, m.Refused)]
        assert len(told) == 100
        assert sum("did you mean 'first'?" in text for text in told) == 2
        assert "did you mean" in told[0]


def test_who_only_reads_fences_nobody() -> None:
    heart = Heart(spec())
    run = heart.open()
    out = heart.say(m.Open(2, "svm", "a", write=False))
    assert out.records == []
    assert out.replies[0].message == m.Opened(2, 1, "svm", "a", 0, 0, 0, 7)
    run.put(1)
    assert run.book.tasks == [1]


def test_a_run_that_is_not_there_is_not_made_by_reading() -> None:
    heart = Heart(spec())
    heart.open(name="first-try")
    answer = refused(heart, m.Open(2, "svm", "first-tri", write=False))
    assert (answer.code, answer.id) == ("unknown_run", 2)
    assert "first-try" in answer.message
    assert refused(heart, m.Open(2, "svm", "b", create=False)).code == "unknown_run"
    assert refused(heart, m.Open(2, "svn", "b")).code == "unknown_master"
    assert len(heart.ledger.books) == 1


@pytest.mark.parametrize(
    "wish",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\nb"},
        {"seed": -1},
        {"seed": 2**63},
        {"priority": 2**31},
    ],
)
def test_a_run_with_odd_switches_is_not_created(wish: dict[str, Any]) -> None:
    heart = Heart(spec())
    assert refused(heart, m.Open(**{"id": 2, "master": "svm", "name": "a", **wish})).id == 2
    assert heart.ledger.books == {}


def test_a_seed_stays_what_it_was() -> None:
    heart = Heart(spec())
    heart.open(seed=5)
    assert refused(heart, m.Open(2, "svm", "a", seed=6)).code == "conflict"
    assert heart.ask(m.Open(2, "svm", "a", seed=5), m.Opened).seed == 5
    assert heart.ask(m.Open(2, "svm", "a"), m.Opened).seed == 5


def test_an_older_writer_is_fenced_off() -> None:
    heart = Heart(spec())
    old = heart.open()
    old.put(0)
    new = heart.open()
    message, table = old.submission([1])
    answer = refused(heart, message, table)
    assert (answer.code, answer.run, answer.first, answer.next_index, answer.writer) == ("fenced", 1, 1, 1, old.writer)
    assert refused(heart, m.Close(5, old.run, old.writer)).code == "fenced"
    assert not old.book.closed
    new.put(1)
    assert new.book.tasks == [0, 1]


def test_a_submission_that_comes_again_is_compared_not_taken() -> None:
    heart = Heart(spec())
    run = heart.open()
    message, table = run.submission([0, 1])
    run.put(0, 1)
    out = heart.say(message, table)
    assert out.verifications == [Verify(b"client", message, table)]
    assert not out.replies
    assert not out.records
    assert run.book.tasks == [0, 1]


def test_submissions_leave_no_gap() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0)
    message, table = run.submission([2], first=2)
    answer = refused(heart, message, table)
    assert (answer.code, answer.next_index) == ("gap", 1)
    assert "tasks 1 to 1 are missing" in answer.message


def test_pipelined_submissions_of_a_turn_are_acknowledged_together() -> None:
    heart = Heart(spec())
    run = heart.open()
    with heart.turn() as out:
        for first in range(3):
            message, table = run.submission([first], first=first)
            heart.core.on_client(_client, message, table, out)
    assert [reply.message for reply in out.replies] == [m.Ack(run.run, 3, run.writer)]
    assert len([record for record in out.records if isinstance(record, BlockAppended)]) == 3


def test_short_tasks_are_acknowledged_by_their_outcomes_or_a_little_later() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    assert run.put(0).replies  # nothing is known of them
    hand.report(hand.assignments.pop(), seconds=1e-5)
    assert not run.put(1).replies
    assert not heart.wait(0.004).replies
    assert heart.core.acknowledging.due == pytest.approx(heart.now + 0.001)
    assert [reply.message for reply in heart.wait(0.002).replies] == [m.Ack(run.run, 2, run.writer)]
    assert not heart.wait(1).replies


def test_what_the_learner_had_been_told_is_kept_with_its_tasks() -> None:
    heart = Heart(spec())
    run = heart.open()
    table = pack_values([1, 2, 3])
    out = heart.say(m.Submit(run.run, run.writer, 0, 3, table.layout, (m.Ask(0, -1, 2), m.Ask(2, 17, 1))), table)
    (block,) = [record for record in out.records if isinstance(record, BlockAppended)]
    assert block.asks == (m.Ask(0, -1, 2), m.Ask(2, 17, 1))


def test_a_block_with_one_bad_point_is_refused_whole() -> None:
    heart = Heart(spec(parameters=[Field("x", min=0, max=1e12), Field("y")]))
    run = heart.open()
    schema = heart.core.masters["svm"].spec.parameters
    table = schema.pack_points([point(1, declared=True), point(2, declared=True)])
    heart.say(m.Submit(run.run, run.writer, 0, 2, table.layout), table)
    bad = pack_values([1.0])
    answer = refused(heart, m.Submit(run.run, run.writer, 2, 1, bad.layout), bad)
    assert answer.code == "invalid_task"
    assert "svm" in answer.message
    assert run.book.tasks == [1, 2]


def test_an_empty_submission_is_refused() -> None:
    heart = Heart(spec())
    run = heart.open()
    table = pack_values([])
    assert refused(heart, m.Submit(run.run, run.writer, 0, 0, table.layout), table).id == 0


def test_a_full_master_takes_more_when_there_is_room_again() -> None:
    heart = Heart(spec(max_queued_tasks=3))
    run = heart.open()
    run.put(0, 1)
    message, table = run.submission([2, 3])
    assert refused(heart, message, table).code == "full"
    hand = heart.hand()
    hand.report(hand.assignments.pop(0))
    heart.say(message, table)
    assert run.book.tasks == [0, 1, 2, 3]


def test_even_a_full_master_takes_one_block_when_it_has_nothing() -> None:
    heart = Heart(spec(max_queued_tasks=3, max_queued_bytes=10))
    heart.open().put(*range(100))
    assert heart.statistics().queued == 100


def test_a_closed_run_takes_nothing_until_it_is_opened() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0)
    for _ in range(2):  # twice, for the answer may have been lost
        heart.ask(m.Close(5, run.run, run.writer), m.Done)
    message, table = run.submission([1])
    assert refused(heart, message, table).code == "run_closed"
    again = heart.open()
    again.put(1)
    assert run.kinds == [("closed", -1), ("reopened", -1)]
    assert run.book.tasks == [0, 1]


def test_a_run_is_deleted_when_none_of_its_tasks_is_open() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0)
    assert refused(heart, m.Delete(5, run.run)).code == "not_allowed"
    run.cancel()
    heart.ask(m.Delete(6, run.run), m.Done)
    assert refused(heart, m.Delete(7, run.run)).code == "unknown_run"
    assert heart.open().run == run.run + 1
    assert heart.statistics().runs == 1


def test_a_run_submitted_to_and_deleted_in_one_turn_is_not_acknowledged() -> None:
    heart = Heart(spec())
    run = heart.open()
    message, table = run.submission([1])
    with heart.turn() as out:
        heart.core.on_client(_client, message, table, out)
        heart.core.on_client(_client, m.Cancel(2, run.run), None, out)
        heart.core.on_client(_client, m.Delete(3, run.run), None, out)
    assert [type(reply.message) for reply in out.replies] == [m.Done, m.Done]
    assert heart.ledger.books == {}


def test_a_client_that_knows_more_than_the_journal_raises_an_alarm() -> None:
    heart = Heart(spec())
    run = heart.open()
    run.put(0)
    assert not heart.say(m.Ping(1, run.run, 1, 0)).alarms
    (alarm,) = heart.say(m.Ping(1, run.run, 2, 0)).alarms
    assert alarm.level == "error"
    assert "check --journal" in alarm.message
    assert (alarm.subject, alarm.about) == ("journal", "ada"), "one for each who says so, whatever runs they name"
    assert heart.ask(m.Ping(1), m.Pong) == m.Pong(1, 1)
    assert refused(heart, m.Ping(1, 99)).code == "unknown_run"


def test_what_somebody_says_that_a_journal_lacks_counts_where_they_may_read_the_run() -> None:
    """Everybody may ask whether the daemon is there; that is not to raise alarms, nor to count the runs of others."""
    heart = Heart(spec("stm"), spec("svm"))
    theirs, own = heart.open("stm"), heart.open("svm")
    pong = m.Pong(1, 1)

    def ping(peer: Peer, run: int) -> tuple[Any, bool]:
        with heart.turn() as out:
            heart.core.on_client(Sender(b"eve", "eve", peer), m.Ping(1, run, 9, 9), None, out)
        return out.replies[0].message, bool(out.alarms)

    for role in ("observer", "learner", "operator", "admin"):
        eve = Peer("eve", role, frozenset(["svm"]))
        answer, alarms = ping(eve, own.run)
        assert isinstance(answer, m.Pong)
        assert answer.writer == 1
        assert alarms
        (hidden, _), (unknown, _) = ping(eve, theirs.run), ping(eve, 99)
        assert hidden.message == unknown.message.replace("99", str(theirs.run))
        assert (hidden.code, hidden.next_index) == (unknown.code, unknown.next_index) == ("unknown_run", 0)
    for masters in (None, frozenset(["svm"])):
        wes = Peer("wes", "worker", masters)
        assert [ping(wes, run) for run in (own.run, theirs.run, 99)] == 3 * [(pong, False)]


def test_a_claim_is_kept_with_its_writer() -> None:
    heart = Heart(spec())
    out = heart.say(m.Open(1, "svm", "a", claim="x", priority=3))
    (changed,) = [record for record in out.records if isinstance(record, WriterChanged)]
    assert (changed.writer, changed.claim, changed.user) == (1, "x", "ada")
    assert Conversation(heart, 1, 1).book.priority == 3


def test_the_runs_of_one_key_do_not_take_all_the_room() -> None:
    heart = Heart(spec(max_queued_tasks=8))
    run = heart.open()
    run.put(*range(6))
    message, table = run.submission([7])
    answer = refused(heart, message, table)
    assert answer.code == "full"
    assert re.fullmatch(
        "Master 'svm' has 6 tasks of [0-9]+ bytes of key 'ada' waiting; one may have "
        "up to 6 tasks and [0-9]+ bytes, so that others have room; submit again later",
        answer.message,
    )
    others = heart.open(name="b")
    heart.core.runs[others.run].user = "bob"
    others.put(0, 1)
    assert others.book.tasks == [0, 1], "there is room for others"
    message, table = others.submission([2])
    assert refused(heart, message, table).code == "full"


def test_one_key_may_have_so_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "MOST_RUNS", 2)
    heart = Heart(spec())
    far = Peer("ada", "learner")

    def opened(name: str, sender: Sender) -> m.DaemonMessage:
        out = Effects(wall=heart.now)
        heart.core.on_client(sender, m.Open(1, "svm", name), None, out)
        return out.replies[0].message

    ada = Sender(b"a", "ada", far)
    assert isinstance(opened("one", ada), m.Opened)
    assert isinstance(opened("two", ada), m.Opened)
    assert isinstance(opened("one", ada), m.Opened), "it is there already"
    answer = opened("three", ada)
    assert isinstance(answer, m.Refused)
    assert answer.message.startswith("the daemon has 2 runs of key 'ada', which is the most that one may have; delete")
    assert isinstance(opened("three", Sender(b"b", "bob", Peer("bob", "learner"))), m.Opened)
    assert isinstance(opened("four", Sender(b"c", "ada")), m.Opened), "whose machine it is may have more"


def test_what_is_recorded_of_a_run_is_no_place_for_data() -> None:
    heart = Heart(spec())
    most = {"about": "x" * (opening_module.MOST_METADATA - 5)}
    more = {"about": "é" * (opening_module.MOST_METADATA // 2)}
    run = heart.open(name="one", metadata=most)
    assert refused(heart, m.Open(1, "svm", "two", metadata=more)).message == (
        "run 'two' of Master 'svm': its metadata takes 65541 bytes, at most 65536 are kept; name a file that has the "
        "rest, or make it an input"
    )
    assert heart.ask(m.NoteWriter(1, run.run, run.writer, most), m.Done)
    assert refused(heart, m.NoteWriter(1, run.run, run.writer, more)).message.startswith(
        "run 'one' of Master 'svm': what its writer says of itself takes 65541 bytes"
    )
    assert list(heart.ledger.books) == [run.run]


def test_so_much_is_recorded_of_all_runs_of_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is in memory as long as the runs are there, laid aside or not, and after a start."""
    monkeypatch.setattr(opening_module, "MOST_METADATA_IN_ALL", 2500)
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    heart = Heart(spec(), journal=journal)
    ada = Sender(b"a", "ada", Peer("ada", "learner"))

    def opened(name: str, sender: Sender = ada) -> m.DaemonMessage:
        with heart.turn() as out:
            heart.core.on_client(sender, m.Open(1, "svm", name, metadata={"about": "x" * 1000}), None, out)
        return out.replies[0].message

    runs = [opened(name) for name in ("one", "two", "three")]
    for restarts in range(2):
        if restarts:
            heart.restart({})
        else:
            heart.tick()
        answer = opened("four")
        assert isinstance(answer, m.Refused)
        assert answer.message.startswith("the runs of key 'ada' have 3036 bytes of metadata, and one key's may")
    assert isinstance(opened("four", Sender(b"b", "bob", Peer("bob", "learner"))), m.Opened)
    for run in runs:
        assert isinstance(run, m.Opened)
        heart.ask(m.Delete(1, run.run), m.Done)
    assert heart.core.runs.metadata_bytes["ada"] == 0
    assert isinstance(opened("four"), m.Refused), "bob's"
    assert isinstance(opened("five"), m.Opened)
    journal.close()
