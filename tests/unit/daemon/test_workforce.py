"""Workers as the daemon knows them: who they are, whether they are there, and how they go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.heart import Hand, Heart, spec

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Effects, EventAppended, Sender
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.roles import LOCAL, Peer
from taskmaster.daemon.workforce import MOST_WORKERS

WES, EVE = Peer("wes", "worker"), Peer("eve", "worker")


def hello(heart: Heart, hand: Hand, **other: object) -> m.Refused:
    """What a worker hears that says hello otherwise than it should."""
    good = {"version": m.PROTOCOL_VERSION, "master": "svm", "token": hand.token}
    hand.say(m.WorkerHello(**{**good, **other}))  # type: ignore[arg-type]
    (answer,) = hand.heard
    assert isinstance(answer, m.Refused)
    return answer


def test_a_worker_is_told_what_it_works_for() -> None:
    heart = Heart(spec(timeout=60.0, heartbeat=0.5, options={"function": "digits:accuracy"}))
    hand = heart.hand(slots=3)
    (welcome,) = hand.heard
    assert welcome == m.Welcome(
        heart.epoch,
        1,
        "svm",
        "process",
        {"function": "digits:accuracy"},
        (),
        (),
        0.5,
        10.0,
        60.0,
        64 << 20,
        several=True,
    )
    assert heart.statistics().slots == 3
    assert heart.statistics().state == "ready"


def test_a_hello_to_nobody_or_of_another_version_is_refused() -> None:
    heart = Heart(spec())
    hand = heart.stranger(b"here")
    assert hello(heart, hand, master="svn").code == "unknown_master"
    hand.heard.clear()
    answer = hello(heart, hand, version=m.PROTOCOL_VERSION + 1)
    assert "install the same release" in answer.message
    assert heart.statistics().state == "no workers"


@pytest.mark.parametrize("message", [m.Ready(), m.Heartbeat(), m.Outcome((1, 1), 0, 0)])
def test_who_has_not_said_hello_is_asked_to(message: m.WorkerMessage) -> None:
    heart = Heart(spec())
    stranger = heart.stranger(b"stranger")
    stranger.say(message)
    assert [note.code for note in stranger.heard] == [m.HELLO]


def test_a_worker_that_speaks_by_a_former_connection_is_not_heeded() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand(local=False)
    run.put(1)
    old = hand.address
    (at,) = hand.assignments
    hand.hello(at.lease)
    out = Effects()
    message, table = hand.outcome(at)
    heart.core.workforce.on_worker(Sender(old), message, table, None, heart.now, out)
    assert [note.address for note in out.to_workers] == [old]
    assert not out.records
    hand.report(at)
    assert run.kinds == [("done", 0)]


def test_former_connections_are_forgotten_sooner_or_later() -> None:
    heart = Heart(spec(lost_after=3.0))
    near, restless, silent = heart.hand(), heart.hand(local=False), heart.hand(local=False)
    for _ in range(50):
        restless.hello()
    assert len(heart.core.workforce._worker_at) > 50
    heart.now += 2
    restless.say(m.Heartbeat())
    heart.tick(2)
    assert set(heart.core.workforce._worker_at) == {near.address, restless.address}
    restless.heard.clear()
    restless.say(m.Ready())
    assert not restless.heard
    silent.say(m.Ready())
    assert isinstance(silent.heard[-1], m.Refused)


def test_a_worker_from_elsewhere_is_given_up_when_it_is_silent() -> None:
    heart = Heart(spec(lost_after=3.0))
    far, near = heart.hand(local=False), heart.hand()
    heart.tick(2)
    far.say(m.Heartbeat())
    heart.tick(2)
    assert heart.statistics().slots == 2
    heart.tick(2)
    assert heart.statistics().slots == 1  # its own it watches otherwise
    assert list(heart.core.masters["svm"].workers) == [near.token]
    assert heart.statistics().lost == 1
    far.heard.clear()
    far.say(m.Heartbeat())
    assert [note.code for note in far.heard] == [m.HELLO]


def test_a_host_vouches_for_its_workers() -> None:
    heart = Heart(spec(lost_after=3.0))
    far = heart.hand(local=False)
    host = heart.stranger(b"host")
    for _ in range(4):
        heart.tick(2)
        host.say(m.Heartbeat((far.token, "nobody")))
    assert heart.statistics().slots == 1
    assert host.heard == []


def test_who_leaves_ends_what_it_has_and_gets_nothing_more() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(1, 2)
    (at,) = hand.assignments
    hand.heard.clear()
    hand.say(m.Leave(hand.token))
    assert hand.heard == []
    hand.report(at)
    assert [type(note) for note in hand.heard] == [m.Settled, m.Goodbye]
    assert hand.heard[0].leases == (at.lease,)
    assert len(hand.assignments) == 1
    assert heart.statistics().workers == ()
    assert heart.statistics().lost == 0
    assert run.kinds == [("done", 0)]
    idle = heart.hand()
    idle.report(idle.assignments.pop())
    idle.say(m.Leave(idle.token))
    assert [type(note) for note in idle.heard][-1] is m.Goodbye


def test_a_worker_that_was_buried_does_not_come_back() -> None:
    """Its hello may still be on the way when the daemon learns that its process has ended."""
    heart = Heart(spec())
    hand = heart.hand()
    hand.die(None)
    hand.hello()
    hand.say(m.Ready())
    assert heart.statistics().workers == ()


def test_a_driver_that_cannot_be_set_up_is_shown_until_one_can() -> None:
    heart = Heart(spec())
    hand = Hand(heart, "svm")
    hand.hello()
    assert heart.statistics().state == "starting"
    hand.say(m.WorkerFailed(hand.token, "ImportError", "no module named digits"))
    assert heart.statistics().state == "crash loop"
    assert heart.statistics().reason == "ImportError: no module named digits"
    heart.hand()
    assert heart.statistics().state == "ready"


def test_a_worker_that_got_fewer_dispatches_than_were_sent_can_tell() -> None:
    heart = Heart(spec())
    hand = heart.hand(slots=2)
    heart.open().put(1, 2)
    hand.heard.clear()
    heart.tick()
    assert hand.heard == [m.Settled((), 2)]
    hand.hello(*(at.lease for at in hand.assignments))
    hand.heard.clear()
    heart.tick()
    assert hand.heard == [m.Settled((), 0)]  # of this session


def test_an_early_dispatch_settles_nothing_that_is_not_on_disk() -> None:
    """It leaves before its turn is committed: the outcome that came in the same turn may yet be lost."""
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(1)
    at = hand.assignments.pop()
    outcome, values = hand.outcome(at)
    message, table = run.submission([2])
    with heart.turn() as out:
        heart.core.workforce.on_worker(Sender(hand.address), outcome, values, None, heart.now, out)
        heart.core.on_client(Sender(b"client"), message, table, out)
    (early,) = out.early
    assert not out.dispatches
    assert early.message.settled == ()
    heart.tick()
    assert hand.heard[-1].leases == (at.lease,)


def test_nothing_overtakes_what_has_to_wait_for_the_commit() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand(slots=2)
    run.put(1)
    hand.report(hand.assignments.pop())
    heart.ask(m.Pause(9, "svm"), m.Done)
    run.put(2)
    message, table = run.submission([3.0, 4.0])  # of another layout, so a block of its own
    with heart.turn() as out:
        heart.core.on_client(Sender(b"client"), m.Resume(9, "svm"), None, out)
        heart.core.on_client(Sender(b"client"), message, table, out)
    assert not out.early  # though tasks 3 and 4 came in this turn: task 2 was there before
    assert [each.message.first for each in out.dispatches] == sorted(each.message.first for each in out.dispatches)
    assert len(out.dispatches) > 1


def test_a_draining_daemon_grants_nothing() -> None:
    heart = Heart(spec())
    heart.core.draining = True
    hand = heart.hand()
    heart.open().put(1)
    assert not hand.assignments
    assert not heart.core.busy


def test_no_dispatch_overtakes_the_welcome() -> None:
    """Until it is welcome a worker drops what it is given."""
    heart = Heart(spec())
    run, hand = heart.open(), Hand(heart, "svm")
    hand.hello()
    hand.say(m.Ready())
    message, table = run.submission([1])
    again = m.WorkerHello(m.PROTOCOL_VERSION, "svm", hand.token, 2)
    with heart.turn() as out:
        heart.core.workforce.on_worker(Sender(hand.address), again, None, None, heart.now, out)
        heart.core.workforce.on_worker(Sender(hand.address), m.Ready(), None, None, heart.now, out)
        heart.core.on_client(Sender(b"client"), message, table, out)
    assert not out.early
    assert len(out.dispatches) == 1


@pytest.mark.parametrize("owner", [WES, LOCAL])
def test_whoever_comes_by_the_routing_id_of_anothers_worker_is_not_heard(owner: Peer) -> None:
    """ZeroMQ lets whoever connects choose it, once the other's connection is gone."""
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand(local=False, peer=owner)
    run.put(1)
    (at,) = hand.assignments
    eve = heart.stranger(hand.address, EVE)
    since = hand.known.last_seen
    heart.now += 1.0
    outcome, table = hand.outcome(at)
    said: list[m.WorkerMessage] = [outcome, m.Ready(), m.Heartbeat(), m.Leave(hand.token)]
    for message in said:
        eve.say(message, table if message is outcome else None)
        assert eve.heard.pop() == m.Refused("not_allowed", f"key 'eve' is not that of worker '{hand.token}'")
    assert hand.known.last_seen == since
    assert run.kinds == []
    heart.hands[hand.address] = hand
    hand.report(at)
    assert run.kinds == [("done", 0)]


def test_a_worker_from_before_the_start_is_whose_token_it_has(tmp_path: Path) -> None:
    """Whose it was is not on disk; its token nobody else knows."""
    heart = Heart(spec(on_lost="hold"), journal=Journal(tmp_path))
    run, hand = heart.open(), heart.hand(local=False, peer=WES)
    run.put(1)
    (at,) = hand.assignments
    heart.restart({})
    eve = heart.stranger(b"eve", EVE)
    hand.hello(at.lease)
    eve.say(m.Leave(hand.token))
    assert eve.heard[-1].code == "not_allowed"
    hand.report(at)
    assert run.kinds == [("done", 0)]


# -- how many workers one key may have --------------------------------------------------------------------------------


def crowd(heart: Heart, tokens: Iterable[str]) -> Hand:
    """Workers of one key that say hello by one connection."""
    hand = heart.stranger(b"crowd", EVE)
    with heart.turn() as out:
        for token in tokens:
            hello = m.WorkerHello(m.PROTOCOL_VERSION, "svm", token)
            heart.core.workforce.on_worker(Sender(hand.address, "eve", EVE), hello, None, None, heart.now, out)
    return hand


def named(n: int) -> list[str]:
    return [f"eve-{k}" for k in range(n)]


def test_who_says_hello_again_and_again_is_one_worker() -> None:
    heart = Heart(spec())
    eve = crowd(heart, ["again"] * MOST_WORKERS)
    eve.say(m.WorkerHello(m.PROTOCOL_VERSION, "svm", "another"))
    assert [note for note in eve.heard if not isinstance(note, m.Welcome)] == []


def test_one_key_has_so_many_workers_and_no_more() -> None:
    heart = Heart(spec())
    eve = crowd(heart, named(MOST_WORKERS + 100))
    workers = heart.core.masters["svm"].workers
    assert len(workers) == MOST_WORKERS
    refused = [note for note in eve.heard if isinstance(note, m.Refused)]
    assert len(refused) == 100
    said = (
        f"key 'eve' has {MOST_WORKERS} workers here, and one may have no more; give those of another machine a key of "
        "their own"
    )
    assert {(note.code, note.message) for note in refused} == {("full", said)}
    eve.heard.clear()
    eve.say(m.WorkerHello(m.PROTOCOL_VERSION, "svm", "eve-7", 2))
    assert isinstance(eve.heard.pop(), m.Welcome), "it is there already"
    heart.hand(local=False, peer=WES)
    heart.hand(local=False)
    assert len(workers) == MOST_WORKERS + 2, "others have room, and who comes by a Unix socket"


@pytest.mark.parametrize("how", ["lost", "left", "failed", "silent", "in the midst"])
def test_whoever_has_gone_makes_room_for_another(how: str) -> None:
    heart = Heart(spec(lost_after=3.0))
    eve = crowd(heart, named(MOST_WORKERS - 1))
    run, last = heart.open(), heart.hand(local=False, peer=EVE)
    new = m.WorkerHello(m.PROTOCOL_VERSION, "svm", "new")
    eve.say(new)
    assert isinstance(eve.heard[-1], m.Refused)
    if how == "lost":
        last.say(m.WorkerLost(last.token, "WorkerLost", "it died"))
    elif how == "left":
        last.say(m.Leave(last.token))
    elif how == "failed":
        last.say(m.WorkerFailed(last.token, "ImportError", "no module"))
    elif how == "silent":
        heart.now += 2.0
        eve.say(m.Heartbeat(tuple(named(MOST_WORKERS - 1))))
        heart.tick(2.0)
    else:
        run.put(1)
        (at,) = last.assignments
        last.say(m.Leave(last.token))
        eve.say(new)
        assert isinstance(eve.heard[-1], m.Refused)
        last.report(at)
    for _ in range(2):
        eve.say(new)
        assert isinstance(eve.heard[-1], m.Welcome)
    eve.say(m.WorkerHello(m.PROTOCOL_VERSION, "svm", "newer"))
    assert isinstance(eve.heard[-1], m.Refused)


def test_who_was_refused_is_not_remembered() -> None:
    heart = Heart(spec())
    eve = heart.stranger(b"eve", EVE)
    for k in range(10):
        eve.say(m.WorkerHello(m.PROTOCOL_VERSION + 1, "svm", f"eve-{k}"))
    assert not heart.core.workforce._peers


def test_each_task_of_a_worker_that_was_lost_bears_a_short_reason() -> None:
    heart = Heart(spec(on_lost="fail"))
    run, eve = heart.open(), heart.hand(local=False, peer=EVE)
    run.put(1)
    out = eve.say(m.WorkerLost(eve.token, "K" * 1000, "R" * 20_000, known=False))
    (event,) = [record.head for record in out.records if isinstance(record, EventAppended)]
    (error,) = event.errors
    assert (len(error.kind), error.message[-3:]) == (200, "RR…")
    assert len(error.message) <= 500
