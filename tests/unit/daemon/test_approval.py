"""Approval: nothing is evaluated that nobody has approved, and what was edited is told as it was edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Conversation, Heart, spec

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.table import Table, pack_columns, pack_values
from taskmaster.daemon.approval import Proposals
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import salvage
from taskmaster.daemon.journal.pages import read_page
from taskmaster.daemon.run import Run

LASER = spec("laser", "hold", approval=True)


@pytest.fixture
def heart() -> Heart:
    return Heart(LASER)


@pytest.fixture
def run(heart: Heart) -> Conversation:
    return heart.open("laser")


def decide(run: Conversation, kind: Any, *intervals: tuple[int, int], who: str = "ada", reason: str = "") -> int:
    return run.heart.ask(kind(5, run.run, intervals, reason, who), m.Done).count


def edit(run: Conversation, index: int, value: Any, edits: int = 0, who: str = "ada") -> Any:
    table = value if isinstance(value, Table) else pack_values([value])
    message = m.Edit(6, run.run, index, table.layout, edits, "a typo", who)
    return run.heart.say(message, table).replies[0].message


def proposed(heart: Heart, **question: Any) -> m.ProposedList:
    (query,) = heart.say(m.ListProposed(9, **question)).queries
    assert isinstance(query.message, m.ListProposed)
    read = codec.daemon_decoder().decode(codec.encode(heart.core.people.proposed_list(query.message, lambda *_: 7.0)))
    assert isinstance(read, m.ProposedList)
    return read


def indices(heart: Heart) -> list[int]:
    return [task.index for task in proposed(heart).tasks]


def test_nothing_is_granted_before_it_is_approved(heart: Heart, run: Conversation) -> None:
    hand = heart.hand("laser", slots=4)
    assert run.put(1, 2, 3, 4).replies[0].message == m.Ack(run.run, 4, run.writer), "it is durable, and acknowledged"
    assert not hand.assignments
    assert indices(heart) == [0, 1, 2, 3]
    assert heart.statistics("laser").proposed == 4
    assert decide(run, m.Approve, (1, 3)) == 2
    assert sorted(row for at in hand.assignments for row in at.rows) == [2, 3]
    assert decide(run, m.Approve, (0, 3)) == 1, "those that are approved already are passed over"
    assert indices(heart) == [3]
    assert (proposed(heart, run=run.run).end, proposed(heart, run=run.run, after=(run.run, 3)).tasks) == (4, ())


def test_what_is_rejected_has_failed(heart: Heart, run: Conversation) -> None:
    heart.hand("laser")
    run.put(*range(2500))
    assert decide(run, m.Reject, (0, 2400), reason="too hot", who="bob") == 2400
    assert decide(run, m.Reject, (0, 2400), reason="too hot", who="bob") == 0
    first, *_ = run.book.events
    assert (first.kind, first.error, first.worker) == ("failed", "Rejected", "human:bob")
    assert len(run.book.events) == 2400
    assert run.cancel((2400, 2500)) == 100, "who proposes may think better of it"
    assert not indices(heart)
    heart.ask(m.Delete(9, run.run), m.Done)
    assert heart.statistics("laser").proposed == 0


def test_the_errors_of_those_who_decide_change_nothing(heart: Heart, run: Conversation) -> None:
    run.put(1)
    for message, code in (
        (m.Approve(5, 77, ((0, 1),)), "unknown_run"),
        (m.Approve(5, run.run, ((3, 1),)), "caller"),
        (m.Reject(5, run.run, ((0, 1),), "x" * 10_001), "caller"),
        (m.Approve(5, run.run, ((0, 1),), "", "x\n"), "caller"),
        (m.ListProposed(5, "lasre"), "unknown_master"),
        (m.ListProposed(5, None, 77), "unknown_run"),
    ):
        answer = heart.say(message).replies[0].message
        assert isinstance(answer, m.Refused)
        assert answer.code == code, answer
    assert indices(heart) == [0]


def test_what_waits_for_approval_is_bounded(run: Conversation) -> None:
    heart = Heart(spec("laser", approval=True, max_queued_tasks=5))
    run = heart.open("laser")
    run.put(1, 2, 3)
    (reply,) = run.put(4, 5, 6).replies
    assert isinstance(reply.message, m.Refused)
    assert (reply.message.code, "3 tasks" in reply.message.message) == ("full", True)


def test_the_totals_are_those_of_the_runs() -> None:
    proposals = Proposals()
    runs = [Run(k, "laser", f"run {k}", 0, 0.0) for k in range(3)]
    for k, run in enumerate(runs):
        run.proposed.add(0, 3 * k)
        run.blocks.nbytes = 10 * k
        proposals.note(run)
    assert (proposals.tasks, proposals.bytes, [run.id for run in proposals.runs]) == (9, 30, [1, 2])
    runs[2].proposed.remove(0, 5)
    proposals.note(runs[2])
    runs[1].proposed.remove(0, 3)
    proposals.note(runs[1])
    proposals.note(runs[1])
    assert (proposals.tasks, proposals.bytes, [run.id for run in proposals.runs]) == (1, 20, [2])


# -- edits ------------------------------------------------------------------------------------------------------------


def test_what_is_edited_is_evaluated_as_it_was_edited(heart: Heart, run: Conversation) -> None:
    hand = heart.hand("laser", slots=8)
    run.put(*map(float, range(5)))
    assert edit(run, 2, 9.5) == m.Done(6, 1)
    assert edit(run, 2, 9.5) == m.Done(6, 1), "said again: it is so already"
    answer = edit(run, 2, 1.5)
    assert isinstance(answer, m.Refused)
    assert (answer.code, "edited by ada meanwhile" in answer.message) == ("conflict", True)
    assert edit(run, 2, 8.5, edits=1, who="bob") == m.Done(6, 2)
    assert [(t.index, t.input, t.edits, t.edited_by) for t in proposed(heart).tasks][1:3] == [
        (1, 1.0, 0, ""),
        (2, 8.5, 2, "bob"),
    ]
    decide(run, m.Approve, (0, 5))
    at = {i: (at, row) for at in hand.assignments for i, row in zip(at.indices, at.rows)}
    assert [at[i][1] for i in range(5)] == [0.0, 1.0, 8.5, 3.0, 4.0]
    out = hand.report(at[2][0])
    (publication,) = out.publications
    assert publication.head.edited == (2 - at[2][0].indices[0],)
    assert [row for table in publication.inputs for row in table.rows()] == at[2][0].rows
    assert not run.state.edited, "it is forgotten when it has ended"
    late = edit(run, 2, 1.0, edits=2)
    assert isinstance(late, m.Refused)
    assert late.code == "unknown_task"


def test_an_edit_has_to_fit_the_parameters() -> None:
    heart = Heart(spec("laser", approval=True, parameters=[Field("x", unit="V", max=5)]))
    run = heart.open("laser")
    table = pack_columns({"x": [1.0, 2.0]}, 2)
    heart.say(m.Submit(run.run, run.writer, 0, 2, table.layout, ()), table)
    answer = edit(run, 1, pack_columns({"x": [6.0]}, 1))
    assert isinstance(answer, m.Refused)
    assert (answer.code, "parameter 'x' must be a number ≤ 5 V, got 6" in answer.message) == ("invalid_task", True)
    assert edit(run, 1, pack_columns({"x": [4.0]}, 1)) == m.Done(6, 1)
    assert [task.input for task in proposed(heart).tasks] == [{"x": 1.0}, {"x": 4.0}]
    assert run.state.input_bytes == sum(block.table.nbytes for block in run.state.blocks) == 16


def no(n: int) -> tuple[m.TaskError, ...]:
    """That is how all of so many tasks end."""
    return tuple(m.TaskError(k, "ValueError", "no") for k in range(n))


# -- the journal ------------------------------------------------------------------------------------------------------


def test_a_restart_lets_nothing_through_and_forgets_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    heart = Heart(LASER, journal=journal)
    run = heart.open("laser")
    run.put(*map(float, range(6)))
    edit(run, 1, 9.0)
    edit(run, 3, "t33")
    decide(run, m.Approve, (0, 2), who="ada", reason="checked")
    decide(run, m.Reject, (4, 5), who="bob", reason="too hot")

    for specs in ((LASER,), (spec("laser", "hold"),), (LASER,)):
        heart.specs = specs
        heart.restart({})
        assert indices(heart) == [2, 3, 5], "whatever the configuration says now"
        assert heart.statistics("laser").queued == 2, "what was approved stays approved"
    hand = heart.hand("laser", slots=2)
    assert [row for at in hand.assignments for row in at.rows] == [0.0, 9.0]
    for at in list(hand.assignments):
        hand.report(at)
    decide(run, m.Approve, (2, 6))
    done = 2
    while done < len(hand.assignments):
        at = hand.assignments[done]
        hand.say(m.Outcome(at.lease, 0, at.message.n, None, no(at.message.n), final=True))
        done += 1

    page, frames = read_page(journal, run.state, m.Replay(1, run.run, 0))
    inputs: dict[int, Any] = {}
    used = 0
    for head in page.events:
        own = frames[used : used + head.frames]
        used += head.frames
        _, _, table = codec.event_tables(head, own)
        edited = [head.first + position for position in head.edited]
        assert (table is not None) == bool(edited), "nobody who did not ask is sent what he has"
        if table is not None:
            inputs.update((i, table.rows()[i - head.first]) for i in edited)
    assert inputs == {1: 9.0, 3: "t33"}
    page, frames = read_page(journal, run.state, m.Replay(1, run.run, 0, inputs=True))
    assert sum(head.n for head in page.events) == 6

    log = list(journal.query("SELECT first, n, what, user, reason FROM approvals ORDER BY entry"))
    assert log[:5] == [
        (0, 6, "proposed", "ada", ""),
        (1, 1, "edited", "ada", "a typo"),
        (3, 1, "edited", "ada", "a typo"),
        (0, 2, "approved", "ada", "checked"),
        (4, 1, "rejected", "bob", "too hot"),
    ]
    (block,) = journal.query("SELECT n, data FROM blocks").fetchall()
    assert block[0] == 6, "what was put stays as it was put"
    heart.ask(m.Delete(9, run.run), m.Done)
    assert journal.query("SELECT count(*) FROM approvals").get == 0
    journal.close()


def test_a_salvaged_journal_still_knows_what_nobody_has_approved(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    heart = Heart(LASER, spec("scale", people=1), journal=journal)
    run = heart.open("laser")
    run.put(1.0, 2.0, 3.0)
    edit(run, 1, 9.0, who="bob")
    decide(run, m.Approve, (0, 1))
    weighing = heart.open("scale", "b")
    weighing.put(4.0)
    heart.ask(m.Claim(1, "scale", "token", who="ada"), m.Claimed)
    journal.close()

    salvage(tmp_path, into := tmp_path / "salvaged")
    journal = heart.journal = Journal(into)
    heart.restart({})
    assert [(task.index, task.input, task.edited_by) for task in proposed(heart).tasks] == [
        (1, 9.0, "bob"),
        (2, 3.0, ""),
    ]
    assert [claim.who for claim in heart.core.masters["scale"].requests.claims] == ["ada"]
    journal.close()
