"""What is on record of those who run the daemon: every command, who gave it, from where, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from helpers.heart import Heart, spec
from helpers.tips import TIPS

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.keys import fingerprint, new_pair
from taskmaster.bus.layout import Layout
from taskmaster.bus.table import Table, pack_columns, pack_values
from taskmaster.config.authorised import Grant
from taskmaster.daemon.auditing import FAILURES, LEFT_OUT, LONGEST, ON_RECORD, READING_SECONDS, SAID, in_words
from taskmaster.daemon.effects import Audited, Effects, KeysNoted, Sender
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.audit import AuditRetention, read_audit
from taskmaster.daemon.keychanges import KeyWatch
from taskmaster.daemon.roles import LOCAL, RIGHTS, RULES, Peer, Right

SCALE = spec("scale", outputs=[Field("mass")], people=2, question="Weigh it.", claim_expires=60.0)
COMMANDS = [kind for kind, rule in RULES.items() if rule.right in (Right.OPERATE, Right.ADMINISTER)]
LAYOUT: Layout = pack_values([1.0]).layout
OTTO, ANNA, EVE = Peer("otto", "operator"), Peer("anna", "learner"), Peer("eve", "observer")
ROOT = Peer("root", "admin")


@pytest.fixture
def heart(tmp_path: Path) -> Iterator[Heart]:
    """A daemon with a Master of each kind, on each of which anna has a run: numbers 1 to 4."""
    (tmp_path / "state").mkdir()
    journal = Journal(tmp_path / "state")
    specs = (spec("svm", "hold"), spec("stm", "hold", heads=TIPS), spec("laser", approval=True), SCALE)
    heart = Heart(*specs, journal=journal)
    for each in specs:
        say(heart, ANNA, m.Open(1, each.name, f"of {each.name}"))
    yield heart
    journal.close()


def say(heart: Heart, peer: Peer, message: Any, table: Table | None = None, origin: str = "10.0.0.7") -> Effects:
    """Somebody's message, in a turn of its own."""
    with heart.turn() as out:
        heart.core.on_client(Sender(peer.name.encode(), peer.name, peer, origin), message, table, out)
    return out


def put(heart: Heart, run: int, *values: float) -> None:
    table = pack_values(values)
    say(heart, ANNA, m.Submit(run, 1, heart.core.runs[run].next_index, table.n, table.layout), table)


def entries(out: Effects) -> list[Audited]:
    return [record for record in out.records if isinstance(record, Audited)]


def recorded(heart: Heart, **question: Any) -> m.AuditPage:
    assert heart.journal is not None
    return read_audit(heart.journal, m.ReadAudit(1, **question))


def made(kind: type[Any], **given: Any) -> Any:
    """Any message of this kind."""
    rest = {"layout": LAYOUT, "intervals": (), "asks": ()}
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in given:
            plain = {str: "svm", m.Name: "svm", m.Metadata: {}, bool: True}.get(field.type, 1)
            given[field.name] = rest.get(field.name, plain)
    return kind(**given)


# -- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_every_command_of_operators_and_admins_leaves_an_entry(heart: Heart, kind: type[Any]) -> None:
    """Done or refused; before it is answered, in the transaction of what it does."""
    before = len(recorded(heart).entries)
    out = say(heart, ROOT, made(kind))
    [entry] = entries(out)
    tag = str(kind.__struct_config__.tag)
    assert (entry.user, entry.role, entry.origin, entry.what) == ("root", "admin", "10.0.0.7", tag)
    assert (entry.outcome == "refused") == any(isinstance(reply.message, m.Refused) for reply in out.replies)
    assert entry.time == out.wall
    if kind is not m.Claim or entry.outcome == "refused":
        [kept] = recorded(heart).entries[before:]
        assert (kept.what, kept.user, kept.outcome, kept.why) == (tag, "root", entry.outcome, entry.why)


@pytest.mark.parametrize("kind", get_args(m.ClientMessage), ids=lambda k: k.__name__)
def test_every_message_that_somebody_may_not_send_leaves_an_entry(heart: Heart, kind: type[Any]) -> None:
    if RULES[kind].right is Right.GREET:
        return
    out = say(heart, Peer("rig", "worker"), made(kind), origin="10.0.0.9")
    [entry] = entries(out)
    tag = str(kind.__struct_config__.tag)
    assert (entry.user, entry.role, entry.origin, entry.what) == ("rig", "worker", "10.0.0.9", tag)
    assert (entry.outcome, entry.times) == ("refused", 1)
    assert entry.why.startswith("key 'rig' (worker) may not ")
    assert isinstance(out.replies[0].message, m.Refused)


@pytest.mark.parametrize("kind", [k for k, rule in RULES.items() if rule.right is Right.SEE], ids=lambda k: k.__name__)
def test_who_only_looks_leaves_none(heart: Heart, kind: type[Any]) -> None:
    assert not entries(say(heart, EVE, made(kind)))


def test_of_every_field_it_is_said_whether_it_is_on_record() -> None:
    """A field that a message gets is on record, or there is a reason why not, such as that it is a secret."""
    for kind in ON_RECORD:
        assert set(kind.__struct_fields__) <= set(SAID) | LEFT_OUT, kind
    assert not set(SAID) & LEFT_OUT
    assert "claim" in LEFT_OUT, "who knows it can give back what another has taken"


def test_who_may_not_evaluate_and_tries_leaves_an_entry(heart: Heart) -> None:
    with heart.turn() as out:
        hello = m.WorkerHello(m.PROTOCOL_VERSION, "svm", "token", 1, 1, 7, "far")
        heart.core.workforce.on_worker(Sender(b"w", "anna", ANNA, "10.0.0.3"), hello, None, None, heart.now, out)
    [entry] = entries(out)
    assert (entry.user, entry.role, entry.origin, entry.what, entry.master) == (
        "anna", "learner", "10.0.0.3", "hello", "svm",
    )  # fmt: skip
    assert entry.why.startswith("key 'anna' (learner) may not evaluate tasks")


# -- what is said -----------------------------------------------------------------------------------------------------


def held(heart: Heart) -> None:
    hand = heart.hand("svm")
    put(heart, 1, 2.0)
    hand.die(hand.begun(hand.assignments[0], 1))


def closed(heart: Heart) -> None:
    say(heart, ANNA, m.Close(1, 1, 1))


def taken(heart: Heart) -> None:
    put(heart, 4, 1.0, 2.0)
    say(heart, OTTO, m.Claim(1, "scale", "secret", who="Otto"))


MASS = pack_columns({"mass": [1.0]}, 1)
#: What is done, after what, with which frames: → Master, and what is said of it.
DONE: dict[str, tuple[Any, Callable[[Heart], object] | None, Table | None, str, dict[str, Any]]] = {
    "prioritise": (m.Prioritise(1, 1, 5), None, None, "svm", {"run": 1, "name": "of svm", "priority": 5}),
    "pause": (m.Pause(1, "svm"), None, None, "svm", {}),
    "pause a run": (m.Pause(1, "svm", 1), None, None, "svm", {"run": 1, "name": "of svm"}),
    "resume": (m.Resume(1, "svm"), None, None, "svm", {}),
    "stop": (m.Stop(1, "stm", "smoke", "Otto"), None, None, "stm", {"reason": "smoke", "who": "Otto", "concerned": 1}),
    "stop all": (m.Stop(1, None, "smoke"), None, None, "", {"reason": "smoke", "masters": "stm", "concerned": 1}),
    "reset": (m.Reset(1, "stm", "out"), None, None, "stm", {"reason": "out", "concerned": 1}),
    "set_head": (
        m.SetHead(1, "stm", "tip-1", inside=False, reason="bent"), None, None, "stm",
        {"head": "tip-1", "inside": False, "reason": "bent"},
    ),
    "set_workers": (m.SetWorkers(1, "svm", 3), None, None, "svm", {"count": 3}),
    "resolve": (
        m.Resolve(1, 1, 0, "fail", None, "broken", 1), held, None, "svm",
        {"run": 1, "name": "of svm", "index": 0, "action": "fail", "reason": "broken", "attempt": 1},
    ),
    "approve": (
        m.Approve(1, 3, ((0, 2), (3, 4)), "fine"), lambda h: put(h, 3, *range(4)), None, "laser",
        {"run": 3, "name": "of laser", "intervals": "0-1, 3", "reason": "fine", "concerned": 3},
    ),
    "reject": (
        m.Reject(1, 3, ((0, 1),)), lambda h: put(h, 3, 1.0), None, "laser",
        {"run": 3, "name": "of laser", "intervals": "0", "concerned": 1},
    ),
    "edit": (
        m.Edit(1, 3, 0, LAYOUT, 0, "a typo"), lambda h: put(h, 3, 1.0), pack_values([2.0]), "laser",
        {"run": 3, "name": "of laser", "index": 0, "edits": 0, "reason": "a typo"},
    ),
    "claim": (
        m.Claim(1, "scale", "secret"), lambda h: put(h, 4, 1.0), None, "scale",
        {"run": 4, "name": "of scale", "index": 0},
    ),
    "release": (
        m.Release(1, 4, 0, "secret"), taken, None, "scale",
        {"run": 4, "name": "of scale", "index": 0, "concerned": 1},
    ),
    "answer": (
        m.Answer(1, 4, 0, MASS.layout, claim="secret"), taken, MASS, "scale",
        {"run": 4, "name": "of scale", "index": 0},
    ),
    "prune": (m.Prune(1, 1, 1), closed, None, "svm", {"run": 1, "name": "of svm", "events": 1}),
    "read_audit": (m.ReadAudit(1, user="anna"), None, None, "", {"user": "anna"}),
    "delete": (m.Delete(1, 1), None, None, "svm", {"run": 1, "name": "of svm"}),
    "cancel": (
        m.Cancel(1, 1, ((1, 3),)), lambda h: put(h, 1, *range(4)), None, "svm",
        {"run": 1, "name": "of svm", "intervals": "1-2", "concerned": 2},
    ),
    "open": (m.Open(1, "svm", "of svm", claim="secret"), None, None, "svm", {"name": "of svm"}),
    "close": (m.Close(1, 1, 1), None, None, "svm", {"run": 1, "name": "of svm"}),
}  # fmt: skip


def test_what_is_said_is_known_of_each() -> None:
    assert {type(message) for message, *_ in DONE.values()} == ON_RECORD


@pytest.mark.parametrize("name", DONE)
def test_what_was_done_is_said_with_what_it_was_about(heart: Heart, name: str) -> None:
    message, prepare, table, master, about = DONE[name]
    if prepare is not None:
        prepare(heart)
    out = say(heart, ROOT if isinstance(message, (m.Prune, m.ReadAudit)) else OTTO, message, table)
    assert not any(isinstance(reply.message, m.Refused) for reply in out.replies), out.replies
    [entry] = entries(out)
    assert (entry.master, entry.about, entry.outcome, entry.why) == (master, about, "done", "")
    kept = recorded(heart).entries[-1]
    assert (kept.what, kept.master, kept.about) == (entry.what, master, about)
    assert "secret" not in str(kept)
    assert entry.what in in_words(entry)


def test_what_was_refused_is_said_with_why(heart: Heart) -> None:
    [entry] = entries(say(heart, OTTO, m.Pause(1, "swm")))
    assert (entry.what, entry.master, entry.outcome) == ("pause", "swm", "refused")
    assert "swm" in entry.why
    [entry] = entries(say(heart, OTTO, m.Delete(1, 99)))
    assert (entry.what, entry.about["run"], entry.outcome) == ("delete", 99, "refused")


def test_what_somebody_says_has_its_bounds(heart: Heart) -> None:
    long = "x" * 5000
    [entry] = entries(say(heart, OTTO, m.Stop(1, "stm", long)))
    assert len(entry.about["reason"]) == LONGEST
    [entry] = entries(say(heart, OTTO, m.Pause(1, long)))
    assert len(entry.master) == len(entry.why) == LONGEST
    many = tuple((2 * k, 2 * k + 1) for k in range(100_000))
    [entry] = entries(say(heart, OTTO, m.Approve(1, 3, many)))
    assert len(entry.about["intervals"]) <= LONGEST
    assert entry.about["intervals"].endswith("(100000 in all)")


def test_a_line_of_the_log_is_one_line(heart: Heart) -> None:
    out = say(heart, OTTO, m.Stop(1, "stm", "smoke\n\x1b[2Jall is well", "Otto"))
    [line] = [text for _, text in out.remarks if text.startswith("audit: ")]
    assert line.isprintable()
    assert line.startswith("audit: otto (operator) from 10.0.0.7 stop stm [reason smoke ")


# -- learners ---------------------------------------------------------------------------------------------------------


def test_what_learners_do_every_day_leaves_no_entry(heart: Heart) -> None:
    for name in ("of svm", "another"):
        assert not entries(say(heart, ANNA, m.Open(1, "svm", name)))
    put(heart, 1, *range(5))
    for message in (
        m.Cancel(1, 1, ((1, 3),)),
        m.Cancel(1, 1, ((0, 99),), queued=True),
        m.NoteWriter(1, 1, 2, {"learner": "grid"}),
        m.Close(1, 1, 2),
        m.Fork(1, 1, "forked"),
    ):
        assert not entries(say(heart, ANNA, message)), message


def test_what_a_learner_destroys_does(heart: Heart) -> None:
    put(heart, 1, *range(5))
    [entry] = entries(say(heart, ANNA, m.Cancel(1, 1, ((0, 5),))))
    assert (entry.user, entry.what, entry.about["concerned"]) == ("anna", "cancel", 5)
    assert not entries(say(heart, ANNA, m.Cancel(1, 1))), "there was nothing left to cancel"
    [entry] = entries(say(heart, ANNA, m.Delete(1, 1)))
    assert (entry.user, entry.role, entry.what, entry.about["name"]) == ("anna", "learner", "delete", "of svm")
    assert recorded(heart).entries[-1].about["name"] == "of svm", "though the run is gone"


def test_who_goes_before_others_is_on_record(heart: Heart) -> None:
    [entry] = entries(say(heart, OTTO, m.Open(1, "svm", "urgent", priority=3)))
    assert (entry.what, entry.about) == ("open", {"name": "urgent", "priority": 3})
    assert not entries(say(heart, OTTO, m.Open(1, "svm", "his own")))
    again = m.Open(1, "svm", "of svm", claim="one wish")
    assert len(entries(say(heart, OTTO, again))) == 1
    assert not entries(say(heart, OTTO, again)), "the same wish again, which has been granted"


def test_who_comes_by_a_unix_socket_is_known_by_that(heart: Heart) -> None:
    [entry] = entries(say(heart, LOCAL, m.Pause(1, "svm"), origin="uid 1000 pid 7"))
    assert (entry.user, entry.role, entry.origin) == ("local", "admin", "uid 1000 pid 7")


def test_two_at_once_are_told_apart_in_one_transaction(heart: Heart) -> None:
    assert heart.journal is not None
    commits = heart.journal.commits
    with heart.turn() as out:
        for k in range(10):
            for peer, origin in ((OTTO, "10.0.0.1"), (ROOT, "10.0.0.2")):
                sender = Sender(peer.name.encode(), peer.name, peer, origin)
                heart.core.on_client(sender, m.SetWorkers(1, "svm", k), None, out)
    assert heart.journal.commits == commits + 1
    kept = recorded(heart).entries[-20:]
    assert [(e.user, e.origin, e.about["count"]) for e in kept] == [
        (user, origin, k) for k in range(10) for user, origin in (("otto", "10.0.0.1"), ("root", "10.0.0.2"))
    ]
    assert [e.entry for e in kept] == list(range(kept[0].entry, kept[0].entry + 20))


# -- floods -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_refused_commands_is_counted(heart: Heart) -> None:
    made = entries(say(heart, EVE, m.Pause(1, "svm")))
    for second in range(600):
        for _ in range(20):
            made += entries(say(heart, EVE, m.Pause(1, "svm")))
        made += entries(say(heart, ANNA, m.Pause(1, "svm"))) if second == 300 else []
        made += entries(heart.tick())
    made += [e for _ in range(200) for e in entries(heart.tick())]
    eves = [e for e in made if e.user == "eve"]
    assert sum(e.times for e in eves) == 1 + 600 * 20, "each is counted"
    assert eves[0].times == 1
    assert len(eves) < 25, "one a second at first, one a minute when it goes on"
    assert [e.times for e in made if e.user == "anna"] == [1], "of others each is on record"
    [again] = entries(say(heart, EVE, m.Pause(1, "svm")))
    assert again.times == 1, "when it was quiet, the next one is on record at once"


def test_what_was_only_counted_is_on_record_when_the_daemon_stops(heart: Heart) -> None:
    for message in (m.Pause(1, "svm"), m.Pause(1, "svm"), m.Stop(1)):
        say(heart, EVE, message)
    out = Effects(wall=5.0)
    heart.core.auditor.flush(out)
    [entry] = entries(out)
    assert (entry.times, entry.about["of"]) == (2, {"pause": 1, "stop": 1})


def test_commands_that_fail_are_on_record_one_by_one_unless_they_are_a_flood(heart: Heart) -> None:
    alone = [entries(say(heart, OTTO, m.Pause(1, f"no {k}"))) for k in range(FAILURES)]
    assert all(len(each) == 1 for each in alone)
    assert not entries(say(heart, OTTO, m.Pause(1, "one too many")))
    [counted] = entries(heart.tick())
    assert (counted.master, counted.times) == ("one too many", 1)
    assert len(entries(say(heart, OTTO, m.Pause(1, "svm")))) == 1, "what is done is on record always"


def test_to_wait_for_requests_fills_no_journal(heart: Heart) -> None:
    made = [e for k in range(1000) for e in entries(say(heart, OTTO, m.Claim(1, "scale", f"wish {k}")))]
    assert len(made) == FAILURES
    assert {e.why for e in made} == {"nothing waits"}


def test_whose_key_is_not_in_force_any_more_is_known_by_it(heart: Heart) -> None:
    out, key = Effects(wall=5.0), new_pair()
    for _ in range(100):
        heart.core.auditor.stranger(f"dora {key.text}", "10.0.0.5", "your key is not in force", out)
    [entry] = entries(out)
    assert (entry.user, entry.role, entry.about) == ("dora", "", {"key": fingerprint(key.public)})
    assert (entry.origin, entry.outcome) == ("10.0.0.5", "refused")


def test_that_somebody_reads_it_is_on_record_once_in_a_while(heart: Heart) -> None:
    assert len(entries(say(heart, ROOT, m.ReadAudit(1)))) == 1
    for after in range(5):
        assert not entries(say(heart, ROOT, m.ReadAudit(1, after)))
    assert len(entries(say(heart, ROOT, m.ReadAudit(1), origin="10.0.0.8"))) == 1
    heart.tick(READING_SECONDS + 1.0)
    heart.tick(READING_SECONDS + 1.0)
    assert len(entries(say(heart, ROOT, m.ReadAudit(1)))) == 1


# -- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_held_against_what_was_in_force_before() -> None:
    def looked(watch: KeyWatch, *grants: Grant, now: float = 5.0) -> list[tuple[str, dict[str, Any]]]:
        out = Effects(wall=now)
        watch.note(grants, now, "keys.toml", out)
        kept.extend(record.keys for record in out.records if isinstance(record, KeysNoted))
        return [(entry.what, entry.about) for entry in entries(out)]

    kept: list[str] = []
    key = new_pair().public
    ada, bob = Grant("ada", key, "learner", frozenset(["svm", "stm"])), Grant("bob", new_pair().public, "worker")
    short = {"name": "ada", "key": fingerprint(key), "role": "learner", "masters": "stm, svm"}
    watch = KeyWatch(None)
    assert looked(watch, ada) == [("key_added", short)]
    assert looked(watch, ada) == []
    brief = replace(ada, expires=9.0, code=frozenset(["svm"]))
    assert looked(watch, brief) == [("key_changed", {**short, "code": "svm", "expires": 9.0})]
    assert looked(watch, ada) == [("key_changed", {**short, "code_before": "svm", "expires_before": 9.0})]
    looked(watch, brief)
    again = KeyWatch(kept[-1])
    assert looked(again, brief) == [], "after a restart"
    assert [what for what, _ in looked(again, brief, bob, now=10.0)] == ["key_expired", "key_added"]
    assert [what for what, _ in looked(again, brief, replace(bob, revoked=True), now=10.0)] == ["key_revoked"]
    looked(again, ada)
    assert [what for what, _ in looked(again)] == ["key_removed"], "so where the configuration names no file any more"
    assert "tm-public-" not in "".join(kept)


# -- reading ----------------------------------------------------------------------------------------------------------


def fill(heart: Heart, n: int) -> None:
    assert heart.journal is not None
    users, masters = ("otto", "anna", "root"), ("svm", "stm")
    heart.journal.commit(
        [Audited(1e9 + k, users[k % 3], "operator", "10.0.0.1", "pause", masters[k % 2], {"k": k}) for k in range(n)]
    )


def everything(heart: Heart, **question: Any) -> tuple[list[int], int]:
    """What there is, and the number of pages that it took."""
    found: list[int] = []
    pages, after, more = 0, 0, True
    while more:
        page = recorded(heart, after=after, **question)
        found += [entry.about["k"] for entry in page.entries if "k" in entry.about]
        assert page.after > after or not page.more
        after, more, pages = page.after, page.more, pages + 1
    return found, pages


def test_a_long_record_is_read_in_pages(heart: Heart) -> None:
    fill(heart, 12_000)
    found, pages = everything(heart)
    assert found == list(range(12_000))
    assert pages > 3
    assert everything(heart, user="anna")[0] == list(range(1, 12_000, 3))
    assert everything(heart, master="stm")[0] == list(range(1, 12_000, 2))
    assert everything(heart, since=1e9 + 11_000, until=1e9 + 11_500)[0] == list(range(11_000, 11_500))
    assert everything(heart, user="nobody") == ([], pages and everything(heart, user="nobody")[1])
    page = recorded(heart, after=recorded(heart, user="nobody", since=2e9).after)
    assert len(page.entries) > 100, "behind where there was nothing of interest"
    last = recorded(heart, after=99_999)
    assert (last.entries, last.after, last.more) == ((), 99_999, False)


def test_a_stop_of_all_is_about_each_master(heart: Heart) -> None:
    say(heart, OTTO, m.Stop(1, None, "fire"))
    say(heart, OTTO, m.Pause(1, "svm"))
    assert [entry.what for entry in recorded(heart, master="stm").entries] == ["stop"]


def test_an_admin_of_one_master_reads_what_is_about_that(heart: Heart) -> None:
    bounded = Peer("ruth", "admin", frozenset(["stm"]))
    for question, allowed in ((m.ReadAudit(1), False), (m.ReadAudit(1, master="svm"), False)):
        out = say(heart, bounded, question)
        assert bool(out.queries) == allowed
        assert isinstance(out.replies[0].message, m.Refused)
    assert say(heart, bounded, m.ReadAudit(1, master="stm")).queries
    assert "worker" not in [role for role, rights in RIGHTS.items() if Right.ADMINISTER in rights]


# -- keeping ----------------------------------------------------------------------------------------------------------


def test_what_is_too_old_goes_from_the_beginning_and_that_is_on_record(heart: Heart) -> None:
    fill(heart, 9000)
    assert heart.journal is not None
    trusts = False
    keeper = AuditRetention(heart.journal, 1000.0, 3600.0, lambda: trusts)
    now, wall = 1e6, 1e9 + 8000

    def look() -> list[Any]:
        nonlocal now
        now = max(now, keeper.due())
        out = Effects(wall=wall)
        keeper.look(now, {}, out)
        heart.commit(out)
        return out.records

    before = recorded(heart).entries[0].entry
    assert not look(), "while the clock is not to be trusted"
    trusts = True
    prunings = [entry for _ in range(4) for entry in look() if isinstance(entry, Audited)]
    assert [(e.what, e.user, e.role) for e in prunings] == [("prune_audit", "", "daemon")] * len(prunings)
    assert prunings[0].about["first"] == before
    left = everything(heart)[0]
    assert left == list(range(7000, 9000))
    assert not look()
    wall = 1e9 + 1e6
    for _ in range(4):
        look()
    numbers = [entry.entry for entry in recorded(heart).entries]
    assert numbers, "that all of it has gone is on record"
    assert min(numbers) > 9000, "no number is given again"
