"""Requests that people answer: who has taken which, until when, whose answer counts, and what a restart leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Conversation, Heart, spec

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.status import RequestInfo
from taskmaster.bus.table import pack_columns
from taskmaster.daemon.effects import Effects, Recheck, Sender
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.pages import recheck

SCALE = spec("scale", outputs=[Field("mass", unit="mg", min=0)], people=2, question="Weigh it.", claim_expires=60.0)


class Person:
    """Somebody at a client. Each wish for a request has a number of its own."""

    def __init__(self, heart: Heart, name: str) -> None:
        self.heart = heart
        self.name = name
        self.wishes = 0

    def claim(self, run: int | None = None, index: int | None = None, *, again: bool = False, **rest: Any) -> Any:
        self.wishes += not again
        wish = m.Claim(1, "scale", f"{self.name}/{self.wishes}", run, index, who=self.name, **rest)
        answer = codec.daemon_decoder().decode(codec.encode(self.heart.say(wish).replies[0].message))
        return answer.request if isinstance(answer, m.Claimed) else answer

    def takes(self, run: int | None = None, index: int | None = None, **rest: Any) -> RequestInfo:
        request = self.claim(run, index, **rest)
        assert isinstance(request, RequestInfo), request
        assert request.claimed == self.name
        return request

    def says(self, request: RequestInfo | tuple[int, int], mass: float | None, why: str = "") -> Effects:
        run, index = (request.run, request.index) if isinstance(request, RequestInfo) else request
        claim = request.claim if isinstance(request, RequestInfo) else ""
        table = None if mass is None else pack_columns({"mass": [mass]}, 1)
        layout = None if table is None else table.layout
        return self.heart.say(m.Answer(2, run, index, layout, why, claim, self.name), table)

    def answer(self, request: RequestInfo | tuple[int, int], mass: float | None = 1.0, why: str = "") -> Any:
        return self.says(request, mass, why).replies[0].message

    def release(self, request: RequestInfo) -> int:
        return self.heart.ask(m.Release(3, request.run, request.index, request.claim), m.Done).count


@pytest.fixture
def heart() -> Heart:
    return Heart(SCALE, spec("svm"))


@pytest.fixture
def run(heart: Heart) -> Conversation:
    return heart.open("scale")


@pytest.fixture
def ada(heart: Heart) -> Person:
    return Person(heart, "ada")


@pytest.fixture
def bob(heart: Heart) -> Person:
    return Person(heart, "bob")


def listed(heart: Heart, **question: Any) -> m.RequestList:
    """The answer to a client's question for requests, as the client reads it."""
    (query,) = heart.say(m.ListRequests(9, **question)).queries
    assert isinstance(query.message, m.ListRequests)
    answer = heart.core.people.request_list(query.message, lambda run, index: 7.0)
    read = codec.daemon_decoder().decode(codec.encode(answer))
    assert isinstance(read, m.RequestList)
    return read


def taken(heart: Heart) -> list[tuple[int, str]]:
    return [(request.index, request.claimed) for request in listed(heart).requests]


def refused(answer: Any, code: str, *words: str) -> None:
    assert isinstance(answer, m.Refused), answer
    assert answer.code == code
    for word in words:
        assert word in answer.message


# -- taking -----------------------------------------------------------------------------------------------------------


def test_several_people_take_different_requests_and_answer_them(
    heart: Heart, run: Conversation, ada: Person, bob: Person
) -> None:
    assert ada.claim() is None
    run.put(10, 20, 30)
    first, second = ada.takes(), bob.takes()
    assert [(one.index, one.input) for one in (first, second)] == [(0, 10), (1, 20)]
    assert taken(heart) == [(0, "ada"), (1, "bob"), (2, "")]
    status = heart.statistics("scale")
    assert (status.state, status.slots, status.queued, status.leased) == ("waiting for people", 2, 1, 2)

    heart.now += 5.0
    assert ada.answer(first, 1.5) == m.Done(2, 1)
    assert bob.answer(second, None, "it is gone") == m.Done(2, 1)
    assert run.kinds == [("done", 0), ("failed", 1)]
    done, failed = run.book.events
    assert (done.worker, done.output, failed.worker, failed.error) == (
        "human:ada",
        1.5,
        "human:bob",
        "CannotBeDone",
    ) or (done.output == {"mass": 1.5})
    assert heart.statistics("scale").task_seconds == pytest.approx(5.0)
    assert taken(heart) == [(2, "")]


def test_a_wish_that_is_repeated_is_granted_once(heart: Heart, run: Conversation, ada: Person) -> None:
    run.put(1, 2)
    assert ada.takes() == ada.takes(again=True)
    assert taken(heart) == [(0, "ada"), (1, "")]


def test_no_more_are_taken_than_the_configuration_lets(run: Conversation, ada: Person, bob: Person) -> None:
    run.put(1, 2, 3)
    ada.takes()
    bob.takes()
    refused(ada.claim(), "full", "lets 2 requests be taken", "task 0 of run 1 by ada")


def test_runs_take_turns_and_the_higher_priority_goes_first(heart: Heart, ada: Person, bob: Person) -> None:
    for name, priority in (("late", 0), ("urgent", 3)):
        heart.open("scale", name, priority=priority).put(1, 2)
    assert heart.core.runs[ada.takes().run].name == "urgent"
    heart.say(m.Pause(9, "scale", bob.takes().run))
    other = Person(heart, "eve")
    refused(other.claim(), "full")


def test_a_certain_request_is_taken_by_who_asks_for_it(
    heart: Heart, run: Conversation, ada: Person, bob: Person
) -> None:
    run.put(1, 2)
    mine = ada.takes(run.run, 1)
    refused(bob.claim(run.run, 1), "conflict", "task 1 has been taken by ada")
    again = ada.takes(run.run, 1)
    assert again.claim != mine.claim, "her program was killed, and she has started it anew"
    assert ada.release(mine) == 0, "that claim is no more"
    assert (ada.release(again), taken(heart)) == (1, [(0, ""), (1, "")])
    refused(bob.claim(run.run, 5), "unknown_task", "task 5 waits for nobody")
    refused(bob.claim(77, 0), "unknown_run")
    refused(bob.claim(run.run, None), "caller", "name both")
    refused(bob.claim(seconds=0.0), "caller", "not for 0 s")


def test_while_it_is_paused_nothing_is_taken_but_answers_are(heart: Heart, run: Conversation, ada: Person) -> None:
    run.put(1, 2)
    mine = ada.takes()
    heart.say(m.Pause(9, "scale"))
    refused(ada.claim(), "not_allowed", "Master 'scale' is paused")
    assert ada.answer(mine) == m.Done(2, 1)
    heart.say(m.Resume(9, "scale"))
    heart.say(m.Pause(9, "scale", run.run))
    assert ada.claim() is None
    refused(ada.claim(run.run, 1), "not_allowed", "run 'a' of Master 'scale' is paused")


def test_others_have_nothing_to_do_here(heart: Heart, ada: Person) -> None:
    refused(heart.say(m.Claim(1, "svm", "x")).replies[0].message, "not_allowed", "by its driver 'process'")
    refused(heart.say(m.SetWorkers(1, "scale", 2)).replies[0].message, "not_allowed", "answered by people")
    stranger = heart.stranger(b"stranger")
    stranger.say(m.WorkerHello(m.PROTOCOL_VERSION, "scale", "token", 1, 1, 1, "far", ()))
    refused(stranger.heard[-1], "not_allowed", "answered by people")


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_claim_expires_and_the_late_answer_is_taken_while_nobody_else_has_it(
    heart: Heart, run: Conversation, ada: Person, bob: Person
) -> None:
    run.put(1, 2)
    mine = ada.takes(seconds=10.0)
    heart.wait(9.0)
    assert taken(heart)[0] == (0, "ada")
    assert heart.core.look_again == pytest.approx(heart.now + 1.0), "the loop is to wake up for it"
    heart.wait(1.5)
    assert taken(heart)[0] == (0, "")
    assert ada.answer(mine) == m.Done(2, 1), "the work has been done"
    assert run.kinds == [("done", 0)]

    mine = ada.takes()
    heart.wait(61.0)
    his = bob.takes()
    assert his.index == mine.index == 1
    refused(ada.answer(mine), "conflict", "taken by bob")
    assert bob.answer(his) == m.Done(2, 1)
    assert run.book.events[-1].worker == "human:bob"


def test_an_answer_needs_no_claim_where_nobody_else_has_one(run: Conversation, ada: Person, bob: Person) -> None:
    run.put(1, 2)
    assert bob.answer((run.run, 0)) == m.Done(2, 1)
    ada.takes()
    refused(bob.answer((run.run, 1)), "conflict", "taken by ada")
    assert ada.answer((run.run, 1)) == m.Done(2, 1), "she types it elsewhere"


# -- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_that_is_wrong_changes_nothing(heart: Heart, run: Conversation, ada: Person) -> None:
    run.put(1)
    mine = ada.takes()
    refused(ada.answer(mine, -1.0), "invalid_output", "output 'mass' must be a number ≥ 0 mg, got -1.0")
    refused(ada.answer(mine, None), "caller", "needs an output, or a reason for having none")
    assert taken(heart) == [(0, "ada")]
    assert not run.kinds


def test_the_same_answer_again_is_taken_and_another_one_is_a_conflict(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    heart = Heart(SCALE, journal=journal)
    run, ada, bob = heart.open("scale"), Person(heart, "ada"), Person(heart, "bob")
    run.put(1, 2, 3)
    mine = ada.takes()
    ada.answer(mine, 1.5)
    ada.answer((run.run, 1), None, "gone")
    run.cancel((2, 3))

    def again(person: Person, index: int, mass: float | None, why: str = "") -> Any:
        (said,) = person.says((run.run, index), mass, why).verifications
        assert isinstance(said, Recheck)
        return recheck(journal, run.state, said)

    assert again(ada, 0, 1.5) == again(ada, 1, None, "gone") == m.Done(2, 1)
    for person, index, mass, why, words in (
        (ada, 0, 1.6, "", "task 0 has been answered by ada; this answer was not taken"),
        (bob, 0, 1.5, "", "answered by ada"),
        (ada, 0, None, "gone", "answered by ada"),
        (ada, 1, 1.0, "", "answered by ada"),
        (ada, 2, 1.0, "", "task 2 was cancelled"),
    ):
        with pytest.raises(Exception, match=words):
            again(person, index, mass, why)
    journal.close()


def test_what_is_cancelled_is_nobodys_any_more(heart: Heart, run: Conversation, ada: Person) -> None:
    run.put(1, 2)
    ada.takes()
    assert run.cancel() == 2
    assert taken(heart) == []
    assert heart.statistics("scale").leased == 0
    heart.ask(m.Delete(9, run.run), m.Done)


# -- who is told ------------------------------------------------------------------------------------------------------


def test_whoever_follows_is_told_of_each_change(heart: Heart, run: Conversation, ada: Person) -> None:
    master = heart.core.masters["scale"]

    def told(out: Effects) -> bool:
        return out.waiting == {"scale"}

    assert told(run.put(1, 2))
    before = master.waiting()
    assert (before.requests, before.claimed) == (2, 0)
    ada.takes()
    after = master.waiting()
    assert (after.requests, after.claimed) == (2, 1)
    assert after.change > before.change
    assert not told(heart.wait(1.0))
    assert told(heart.wait(60.0)), "it has expired"
    assert told(ada.says((run.run, 0), 1.0))
    with heart.turn() as out:
        heart.core.on_client(Sender(b"c"), m.Cancel(2, run.run, None), None, out)
    assert told(out)


def test_a_long_list_comes_in_pieces(heart: Heart, run: Conversation) -> None:
    message, table = run.submission([[k, "x" * 1000] for k in range(100)])
    heart.say(message, table)
    seen: list[int] = []
    more = True
    while more:
        page = listed(heart, master="scale", after=(run.run, seen[-1]) if seen else (0, -1))
        seen += [request.index for request in page.requests]
        assert page.requests[0].since == 7.0
        more = page.more
    assert seen == list(range(100))
    assert listed(heart, master="svm").requests == ()


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_claims_outlive_the_daemon(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    heart = Heart(SCALE, journal=journal)
    run, ada, bob = heart.open("scale"), Person(heart, "ada"), Person(heart, "bob")
    run.put(1, 2, 3)
    mine, his = ada.takes(seconds=100.0), bob.takes(seconds=10.0)
    heart.now += 50.0
    heart.restart({})
    assert ada.takes(again=True) == mine, "its answer had been lost"
    heart.wait()
    assert taken(heart) == [(0, "ada"), (1, ""), (2, "")], "one has expired meanwhile"
    assert bob.answer(his) == m.Done(2, 1)
    assert ada.answer(mine) == m.Done(2, 1)
    heart.restart({})
    assert taken(heart) == [(2, "")]
    assert journal.query("SELECT count(*) FROM claims").get == 0
    journal.close()


def test_claims_to_what_people_do_not_evaluate_any_more_are_struck_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    heart = Heart(SCALE, journal=journal)
    heart.open("scale").put(1)
    Person(heart, "ada").takes()
    heart.specs = (spec("scale"),)
    heart.restart({})
    assert journal.query("SELECT count(*) FROM claims").get == 0
    hand = heart.hand("scale")
    assert [at.indices for at in hand.assignments] == [[0]], "workers do now"
    journal.close()
