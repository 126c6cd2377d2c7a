"""What a fork brings along waits like what is put, and is paid for like it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.heart import Conversation, Heart, spec

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Forking, Sender
from taskmaster.daemon.forking import fork
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.audit import read_audit
from taskmaster.daemon.roles import Peer
from taskmaster.daemon.space import Space

ADA = Sender(b"ada", "ada", Peer("ada", "learner"))
BOB = Sender(b"bob", "bob", Peer("bob", "learner"))


class Lab:
    """A daemon with a journal, in which a hundred tasks may wait: 75 of one key's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder, "crash")
        self.journal.begin_epoch(0.0)
        self.heart = Heart(spec(max_queued_tasks=100), journal=self.journal)
        self.charged: list[tuple[str, float]] = []

    def fork(self, run: Conversation, name: str, at: int | None = None, sender: Sender = ADA) -> m.Forked | m.Refused:
        forking = Forking(sender, m.Fork(9, run.run, name, at))
        space = Space(self.folder, 0)
        return fork(self.heart.core, self.journal, space, forking, 0.0, lambda *charged: self.charged.append(charged))

    @property
    def waiting(self) -> int:
        """Tasks that wait for the Master."""
        return self.heart.core.masters["svm"].backlog.tasks


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.journal.close()


def refused(answer: m.Forked | m.Refused) -> str:
    assert isinstance(answer, m.Refused)
    assert answer.code == "full"
    return answer.message


def test_forks_are_no_way_around_what_may_wait(lab: Lab) -> None:
    run = lab.heart.open()
    run.put(*range(30))
    assert isinstance(lab.fork(run, "second"), m.Forked)
    assert isinstance(lab.fork(run, "third", sender=BOB), m.Forked)
    assert lab.waiting == 90
    assert "'svm' has 90 tasks of" in refused(lab.fork(run, "fourth", sender=BOB))
    assert lab.waiting == 90
    assert lab.heart.core.runs.named("svm", "fourth") is None
    assert isinstance(lab.fork(run, "third", sender=BOB), m.Forked), "it is there already"


def test_of_one_key_so_much_may_wait_in_forks(lab: Lab) -> None:
    run = lab.heart.open()
    run.put(*range(20))
    second = lab.fork(run, "second")
    assert isinstance(second, m.Forked)
    assert isinstance(lab.fork(run, "third"), m.Forked)
    assert lab.waiting == 60
    assert "has 60 tasks of 480 bytes of key 'ada' waiting" in refused(lab.fork(run, "fourth"))
    run.cancel()
    assert lab.waiting == 40
    assert isinstance(lab.fork(run, "over"), m.Forked), "of what is over nothing waits"
    assert lab.waiting == 40
    assert isinstance(lab.fork(Conversation(lab.heart, second.run.run, 1), "fourth"), m.Forked)
    assert lab.waiting == 60


def test_a_learners_fork_goes_before_nobody(lab: Lab) -> None:
    run = lab.heart.open(priority=7)
    low = lab.heart.open(name="low", priority=-7)
    otto = Sender(b"otto", "otto", Peer("otto", "operator"))
    forks = [lab.fork(of, f"{of.run} {who.user}", sender=who) for of in (run, low) for who in (ADA, otto)]
    priorities = [fork.run.priority for fork in forks if isinstance(fork, m.Forked)]
    assert priorities == [0, 7, -7, -7]


def test_who_forks_anothers_run_is_on_record(lab: Lab) -> None:
    run = lab.heart.open()
    entries = len(read_audit(lab.journal, m.ReadAudit(1)).entries)
    assert isinstance(lab.fork(run, "hers"), m.Forked)
    assert len(read_audit(lab.journal, m.ReadAudit(1)).entries) == entries
    assert isinstance(lab.fork(run, "his", sender=BOB), m.Forked)
    entry = read_audit(lab.journal, m.ReadAudit(1)).entries[-1]
    assert (entry.user, entry.what, entry.master, entry.outcome) == ("bob", "fork", "svm", "done")
    assert entry.about == {"run": run.run, "name": "a", "fork": "his"}
    assert isinstance(lab.fork(run, "hers", sender=BOB, at=7), m.Refused)
    assert len(read_audit(lab.journal, m.ReadAudit(1)).entries) == entries + 1


def test_a_fork_is_paid_by_what_is_copied(lab: Lab) -> None:
    run = lab.heart.open()
    for k in range(50):
        run.put(k)
    assert isinstance(lab.fork(run, "second", sender=BOB), m.Forked)
    [(user, tokens)] = lab.charged
    assert user == "bob"
    assert tokens == pytest.approx(1.0, abs=0.2)
    assert isinstance(lab.fork(run, "second", sender=BOB), m.Forked)
    assert len(lab.charged) == 1, "it was there already"
