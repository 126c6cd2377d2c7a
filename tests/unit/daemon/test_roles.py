"""Every cell of role × message × Master: what each role may, as the documents promise it, and nothing else."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from helpers.heart import Heart, spec
from helpers.permissions import MAY, OWN, made

from taskmaster.bus import messages as m, topics
from taskmaster.bus.errors import NotAllowed, UnknownRun
from taskmaster.bus.table import pack_values
from taskmaster.daemon.alarms import AlarmBook, Condition
from taskmaster.daemon.effects import Effects, Sender
from taskmaster.daemon.looking import look_up
from taskmaster.daemon.roles import LOCAL, RIGHTS, RULES, Peer, may_follow

TABLE = pack_values([1.0])


@pytest.fixture
def heart() -> Heart:
    """A daemon with two Masters, where ada has a run of either: numbers 1 and 2."""
    heart = Heart(spec("stm"), spec("svm"))
    heart.open("stm", "his")
    heart.open("svm", "his")
    return heart


def allows(heart: Heart, peer: Peer, message: Any) -> bool:
    try:
        heart.core._permitting.check(peer, message)
    except (NotAllowed, UnknownRun):
        return False
    return True


def test_every_message_of_a_client_has_its_rule() -> None:
    kinds = set(get_args(m.ClientMessage))
    assert kinds == set(RULES) == set(MAY)


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("kind", MAY, ids=lambda kind: kind.__name__)
def test_a_role_may_what_is_promised(heart: Heart, kind: type[Any], role: str) -> None:
    for granted in (None, frozenset(["stm"])):
        ada, eve = Peer("ada", role, granted), Peer("eve", role, granted)
        may = role in MAY[kind].split()
        theirs, other = made(kind, "stm", 1), made(kind, "svm", 2)
        assert allows(heart, ada, theirs) == may
        assert allows(heart, eve, theirs) == (may and not (kind in OWN and role == "learner"))
        about = {field.name for field in msgspec.structs.fields(kind)} & {"master", "run"}
        if (kind, role) == (m.Ping, "worker"):
            about = set()  # it is told that the daemon is there, and of no run anything
        assert allows(heart, ada, other) == (may and (granted is None or not about))
        if about == {"master", "run"} and granted is not None:
            mixed = [made(kind, "stm", 2), made(kind, "svm", 1)]
            assert not any(allows(heart, ada, message) for message in mixed), "a run of another Master than is named"


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("kind", [kind for kind in MAY if "run" in kind.__struct_fields__], ids=lambda k: k.__name__)
def test_a_run_of_another_master_is_like_one_that_there_is_not(heart: Heart, kind: type[Any], role: str) -> None:
    """Else whoever asks for one number after the other counts what others do, and learns what their Masters are called.

    Masters that are named are compared, too: the one that is granted, one that is not, and one that there is not.
    """
    eve = Sender(b"eve", "eve", Peer("eve", role, frozenset(["stm"])))

    def told(master: str, run: int) -> Any:
        message = made(kind, master, run)
        with heart.turn() as out:
            heart.core.on_client(eve, message, TABLE if "layout" in kind.__struct_fields__ else None, out)
        assert not [*out.queries, *out.forks, *out.verifications], "it would be looked up"
        [reply] = out.replies
        said = msgspec.structs.asdict(reply.message)
        said["message"] = said.get("message", "").replace(f"run {run} ", "run X ").replace(master, "M")
        said["run"] = said.get("run") == run
        return said

    for master in ("stm", "svm", "xyz"):
        assert told(master, 2) == told(master, 99)
    assert told("svm", 2) == told("xyz", 2)


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("kind", [kind for kind in MAY if "master" in kind.__struct_fields__], ids=lambda k: k.__name__)
def test_a_master_that_is_not_granted_is_like_one_that_there_is_not(heart: Heart, kind: type[Any], role: str) -> None:
    def told(peer: Peer, master: str) -> list[tuple[Any, ...]]:
        with heart.turn() as out:
            heart.core.on_client(Sender(b"eve", "eve", peer), made(kind, master, 0), None, out)
        return [(type(r.message), getattr(r.message, "message", "").replace(master, "M")) for r in out.replies]

    eve = Peer("eve", role, frozenset(["stm", "sem"]))
    assert told(eve, "svm") == told(eve, "xyz") != []
    # She is granted one that there is not, either (any more): of others she learns nothing by that.
    assert "svm" not in str(told(eve, "sem"))
    free = str(told(Peer("eve", role), "sem"))
    assert ("svm" in free) == ("no Master" in free)


def test_who_works_hears_of_no_master_but_their_own(heart: Heart) -> None:
    wes = Sender(b"wes", "wes", Peer("wes", "worker", frozenset(["sem"])))
    told = []
    for hello in (
        m.WorkerHello(m.PROTOCOL_VERSION, "sem", "w"),
        m.GuardianHello(m.PROTOCOL_VERSION, "sem", "g"),
    ):
        with heart.turn() as out:
            heart.core.workforce.on_worker(wes, hello, None, None, 0.0, out)
        told += [note.message for note in out.to_workers]
    assert [(refused.code, refused.message) for refused in told if isinstance(refused, m.Refused)] == 2 * [
        ("unknown_master", "this daemon has no Master 'sem'; it has none")
    ]


def test_what_is_about_the_whole_daemon_takes_all_masters(heart: Heart) -> None:
    bounded, free = Peer("ada", "operator", frozenset(["stm"])), Peer("ada", "operator")
    for message in (m.Stop(1), m.Reset(1)):
        assert not allows(heart, bounded, message)
        assert allows(heart, free, message)
    assert allows(heart, bounded, m.Stop(1, "stm"))


def test_whoever_may_see_may_open_a_run_to_read_it(heart: Heart) -> None:
    reading = m.Open(1, "stm", "his", write=False)
    assert allows(heart, Peer("eve", "observer"), reading)
    assert allows(heart, Peer("eve", "learner"), reading)
    assert not allows(heart, Peer("eve", "worker"), reading)
    assert not allows(heart, Peer("eve", "observer", frozenset(["svm"])), reading)


def test_a_learner_goes_before_nobody(heart: Heart) -> None:
    wish = m.Open(1, "stm", "hers", priority=1)
    assert not allows(heart, Peer("eve", "learner"), wish)
    assert allows(heart, Peer("eve", "learner"), m.Open(1, "stm", "hers", priority=-1))
    assert allows(heart, Peer("eve", "operator"), wish)


@pytest.mark.parametrize(
    ("kind", "roles"),
    [(m.Submit, "learner operator admin"), (m.Fork, "learner operator admin"), (m.Edit, "operator admin")],
)
def test_code_takes_a_grant_of_its_own(kind: type[Any], roles: str) -> None:
    """Also to put it in the place of what is to be approved, or to have another's run evaluated once more."""
    heart = Heart(spec("any", code=True))
    run = heart.open("any", "his")
    message = made(kind, "any", run.run)
    for role in roles.split():
        assert not allows(heart, Peer("ada", role), message)
        assert allows(heart, Peer("ada", role, code=frozenset(["any"])), message)
        assert not allows(heart, Peer("ada", role, code=frozenset(["other"])), message)


@pytest.mark.parametrize("role", RIGHTS)
def test_a_topic_is_heard_by_whom_its_master_is_granted(role: str) -> None:
    bounded, free = Peer("ada", role, frozenset(["stm"])), Peer("ada", role)
    sees = role != "worker"
    for topic in (topics.events_topic, topics.with_inputs_topic, topics.progress_topic):
        assert may_follow(bounded, topic("stm", 7)) == may_follow(free, topic("svm", 7)) == sees
        assert not may_follow(bounded, topic("svm", 7))
    for whole in (topics.samples_topic, topics.people_topic):
        assert may_follow(bounded, whole("stm")) == may_follow(free, whole("svm")) == sees
        assert not may_follow(bounded, whole("svm"))
    assert may_follow(free, topics.ALARMS) == sees
    assert not may_follow(bounded, topics.ALARMS), "they may be of any Master"
    for prefix in (b"", b"s", b"stm", b"stm/", b"stm/1", b"@people/", b"@people/s", b"@"):
        assert not may_follow(free, prefix), "a prefix is that of others, too"
        assert may_follow(LOCAL, prefix)


def test_lists_have_what_somebody_may_see_only(heart: Heart) -> None:
    bounded = Peer("eve", "observer", frozenset(["svm"]))

    def asked(message: Any) -> Any:
        out = Effects()
        heart.core.on_client(Sender(b"eve", "eve", bounded), message, None, out)
        for query in out.queries:
            return look_up(heart.core, query.message, query.peer, 0.0)  # type: ignore[arg-type]
        [reply] = out.replies
        return reply.message

    assert [run.master for run in asked(m.ListRuns(1)).runs] == ["svm"]
    assert [master.name for master in asked(m.Describe(1, m.PROTOCOL_VERSION)).masters] == ["svm"]
    refused = asked(m.ListRuns(1, "stm"))
    assert (refused.code, refused.message) == (
        "not_allowed",
        "key 'eve' (observer) is not granted Master 'stm'; ask the daemon's operator",
    )


def test_alarms_are_those_of_what_somebody_may_see() -> None:
    book = AlarmBook()
    book.sources.append(
        lambda now, wall: [
            Condition("crash_loop", "error", "stm", "of stm"),
            Condition("held_tasks", "warning", "svm", "of svm"),
            Condition("disk_low", "warning", "disk", "of the disk"),
            Condition("authenticator", "error", "keys", "of the keys"),
        ]
    )
    book.look(0.0, 1e9)
    for granted, seen in ((None, 4), (frozenset(["svm"]), 1), (frozenset(["disk", "keys"]), 0)):
        assert len(book.infos(Peer("eve", "observer", granted))) == seen
    [info] = book.infos(Peer("eve", "observer", frozenset(["svm"])))
    assert info.message == "of svm"
