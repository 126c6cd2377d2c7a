"""Series in time in the daemon and its journal: no point is lost or doubled, whatever is put together when."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.documents import code_blocks, document
from helpers.heart import Assignment, Hand, Heart, spec
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.daemon import series as tuning
from taskmaster.daemon.effects import Effects, Sender
from taskmaster.daemon.forking import fork
from taskmaster.daemon.journal import Journal, seriespages
from taskmaster.daemon.journal.check import salvage
from taskmaster.daemon.journal.series import PRUNED_ROWS, Pruning
from taskmaster.daemon.journal.seriespages import read_series
from taskmaster.daemon.space import Space
from taskmaster.daemon.spec import MasterSpec, MonitorSpec
from taskmaster.learners.series import Following, ProgressFollowing, SamplesFollowing, gathered

MONITORS = {"temperature": MonitorSpec("K", 3600.0), "pressure": MonitorSpec("Pa", 3600.0)}
TIPS = (m.HeadName("tip-1"), m.HeadName("tip-2"))
STM = spec("stm", "hold", heads=TIPS, monitors={"tip-1": MONITORS, "tip-2": MONITORS})


class Lab:
    """A daemon's decisions and its journal, with hands at both heads, and followers that hear some of the news."""

    def __init__(self, folder: Path, *specs: MasterSpec) -> None:
        self.folder = folder
        self.heart = Heart(*(specs or (STM,)), journal=self._open())
        self.heart.restart({})  # as every start does: the configuration is noted
        self.followers: list[Following[Any]] = []
        self.tips = [self.tip(head.name) for head in self.heart.specs[0].heads]

    def _open(self) -> Journal:
        self.folder.mkdir(exist_ok=True)
        journal = Journal(self.folder, "crash")
        journal.begin_epoch(0.0)
        return journal

    @property
    def journal(self) -> Journal:
        assert self.heart.journal is not None
        return self.heart.journal

    def tip(self, name: str) -> Hand:
        """A head's worker, ready for tasks; if it is refused, for the former one may be in a task still, a stranger."""
        hand = Hand(self.heart, "stm", local=False)
        hand.session = 1
        hand.address = hand.token.encode()
        self.heart.hands[hand.address] = hand
        hand.say(m.WorkerHello(m.PROTOCOL_VERSION, "stm", hand.token, 1, 1, 1, "far", head=name))
        hand.say(m.Ready())
        orders = [note.number for note in hand.heard if isinstance(note, m.HeadOrder)]
        if orders:
            hand.say(m.HeadReport("ready", "ACME", "", max(orders)))
        return hand

    def sample(self, tip: int = 0, /, **values: m.Scalar) -> Effects:
        return self.tips[tip].say(m.Samples(self.heart.now, values))

    def tell(self, at: Assignment, tip: int = 0, **values: m.Scalar) -> Effects:
        return self.tips[tip].say(m.Progress(at.lease, 0, 1, self.heart.now, values))

    def settle(self) -> list[m.SeriesNews]:
        """Let the time pass that points wait for others."""
        news = self.heart.wait(tuning.GATHER_SECONDS).news
        for follower in self.followers:
            for one in news:
                follower.on_news(travelled(one))
        return news

    def restart(self, *specs: MasterSpec) -> None:
        """Be killed and started again, perhaps with another configuration."""
        self.journal.close(in_order=False)
        self.heart.specs = specs or self.heart.specs
        self.heart.journal = self._open()
        self.heart.restart({})
        self.tips = [self.tip(head.name) for head in self.heart.specs[0].heads]

    def pages(self, question: Any) -> Iterator[m.SeriesPage]:
        """The answers, one after the other."""
        after = question.after
        while after is not None:
            page = read_series(self.journal, self.heart.core.series, replace(question, after=after), {})
            yield travelled(page)
            after = page.after

    def pieces(self, question: Any) -> list[m.Piece]:
        return [piece for page in self.pages(question) for piece in page.pieces]

    def values(self, head: str = "tip-1", name: str = "temperature") -> list[Any]:
        series = gathered(self.pieces(m.ReadSamples(1, "stm", head, name)))
        return series.values[name].tolist() if len(series) else []

    def rows(self, table: str) -> int:
        return int(self.journal.query(f"SELECT count(*) FROM {table}").get)


def travelled(message: Any) -> Any:
    """As it arrives."""
    decoder = codec.publication_decoder() if isinstance(message, m.SeriesNews) else codec.daemon_decoder()
    return decoder.decode(codec.encode(message))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "state")
    yield lab
    lab.journal.close()


def test_a_point_waits_for_others_and_leaves_when_it_is_on_disk(lab: Lab) -> None:
    out = lab.sample(temperature=4.2)
    assert not out.news
    assert not lab.rows("new_samples")
    assert lab.values() == [], "what is not on disk is not told"
    lab.sample(1, temperature=77, pressure=1e5)
    (news,) = lab.settle()
    assert (news.master, news.run, len(news.pieces)) == ("stm", 0, 3)
    assert lab.rows("new_samples") == 3
    assert lab.values("tip-2", "pressure") == [1e5]
    assert lab.heart.core.series.due == float("inf"), "nothing keeps the loop awake"


def test_progress_is_on_disk_with_the_outcome_at_the_latest(lab: Lab) -> None:
    run = lab.heart.open("stm")
    run.put(1)
    (at,) = lab.tips[0].assignments or lab.tips[1].assignments
    tip = 0 if lab.tips[0].assignments else 1
    lab.tell(at, tip, height=1)
    out = lab.tips[tip].report(at)
    assert [news.run for news in out.news] == [run.run]
    assert [piece.points for piece in out.news[0].pieces] == ["[[0,1]]"]
    assert lab.tell(at, tip, height=2).news == lab.settle() == [], "the task has ended"
    assert lab.heart.core.series.dropped == 1


def test_nobody_tells_of_another_workers_task_or_of_what_is_not_declared(lab: Lab) -> None:
    run = lab.heart.open("stm")
    run.put(1)
    tip = 0 if lab.tips[0].assignments else 1
    (at,) = lab.tips[tip].assignments
    lab.tell(at, 1 - tip, height=1)
    lab.tips[tip].say(m.Progress(at.lease, 1, 1, 0.0, {"height": 1}))
    lab.sample(colour="red")
    assert lab.settle() == []
    assert lab.heart.core.series.dropped == 3


TOO_MUCH: dict[str, dict[str, m.Scalar]] = {
    "nothing": {},
    "too many": {f"v{k}": k for k in range(tuning.MOST_VALUES + 1)},
    "a long name": {"x" * (tuning.NAME_CHARACTERS + 1): 1},
    "no name": {"": 1},
    "a long text": {"temperature": "x" * (tuning.TEXT_CHARACTERS + 1)},
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_values_that_do_not_fit_are_dropped(lab: Lab, what: str) -> None:
    lab.sample(**TOO_MUCH[what])
    assert lab.settle() == []
    assert lab.heart.core.series.dropped == len(TOO_MUCH[what])


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_time_that_cannot_be_is_dropped(lab: Lab, time: float) -> None:
    lab.tips[0].say(m.Samples(time, {"temperature": 1.0}))
    assert lab.settle() == []
    assert lab.heart.core.series.dropped == 1


def test_a_flood_is_cut_down(lab: Lab) -> None:
    with lab.heart.turn() as out:
        for k in range(1000):
            note = m.Samples(float(k), {"temperature": k})
            lab.heart.core.workforce.on_worker(Sender(lab.tips[0].address), note, None, None, lab.heart.now, out)
    lab.settle()
    assert lab.values() == list(range(tuning.GATHERED_OF_ONE))
    assert lab.heart.core.series.dropped == 1000 - tuning.GATHERED_OF_ONE


@pytest.mark.parametrize("seed", range(12))
def test_every_point_comes_once_and_in_order_whatever_is_lost_put_together_or_restarted(
    lab: Lab, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followers that hear half of what is published, with pages of a few points, against what was told."""
    monkeypatch.setattr(tuning, "FOLD_VALUES", 25)
    monkeypatch.setattr(seriespages, "PAGE_CHARACTERS", 40)
    monkeypatch.setattr(seriespages, "PAGE_ROWS", 5)
    rng = random.Random(seed)
    following = SamplesFollowing(b"", "stm", None, None, new_only=False)
    told: dict[tuple[str, str], list[int]] = {}
    seen: dict[tuple[str, str], list[Any]] = {}
    page: m.SeriesPage | None = None
    for k in range(400):
        match rng.choices(("sample", "settle", "restart", "page", "take"), (50, 15, 1, 25, 20))[0]:
            case "sample":
                tip, name = rng.randrange(2), rng.choice(list(MONITORS))
                lab.sample(tip, **{name: k})
                told.setdefault((f"tip-{tip + 1}", name), []).append(k)
            case "settle":
                heard = lab.settle()
                for news in heard if rng.random() < 0.5 else ():
                    following.on_news(travelled(news))
            case "restart":
                lab.settle()
                lab.restart()
                following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm"))))
            case "page":
                page = ask(lab, following) or page
            case "take":
                take(following, seen)
    lab.settle()
    following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm"))))
    while following.has_news:
        take(following, seen)
        ask(lab, following)
    assert seen == told
    assert {key: lab.values(*key) for key in told} == told
    assert lab.rows("samples") > 0
    assert lab.rows("new_samples") < 50


def ask(lab: Lab, following: Following[Any]) -> m.SeriesPage | None:
    """Ask what a follower wants to know, if anything."""
    question = following.question()
    if question is None:
        return None
    page: m.SeriesPage = travelled(read_series(lab.journal, lab.heart.core.series, question, {}))
    following.on_page(page)
    return page


def take(following: Following[Any], seen: dict[tuple[str, str], list[Any]]) -> None:
    """Take what has come."""
    while (sample := following.take()) is not None:
        seen.setdefault((sample.head, sample.name), []).append(sample.value)


def test_who_wants_what_is_new_gets_nothing_else_though_it_was_put_together_with_what_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 10)
    for k in range(13):
        lab.sample(temperature=k)
        lab.settle()
    following = SamplesFollowing(b"", "stm", None, None, new_only=True)
    following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm"))))
    ask(lab, following)
    seen: dict[tuple[str, str], list[Any]] = {}
    for k in range(13, 33):
        lab.sample(temperature=k)
        news = lab.settle()
        if k % 7 == 0:
            following.on_news(travelled(news[0]))
            ask(lab, following)
            take(following, seen)
    following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm"))))
    ask(lab, following)
    take(following, seen)
    assert seen == {("tip-1", "temperature"): list(range(13, 33))}


def test_progress_goes_on_where_it_was_after_a_restart_and_goes_with_its_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 3)
    run = lab.heart.open("stm")
    run.put(1)
    tip = 0 if lab.tips[0].assignments else 1
    hand = lab.tips[tip]
    (at,) = hand.assignments
    for k in range(4):
        lab.tell(at, tip, height=k)
        lab.settle()
    lab.restart()
    back = lab.heart.hands[hand.address] = hand  # the worker has outlived the daemon, and comes back with its task
    head = f"tip-{tip + 1}"
    back.say(m.WorkerHello(m.PROTOCOL_VERSION, "stm", hand.token, 2, 1, 1, "far", (at.lease,), head=head))
    lab.tips[tip] = back
    lab.tell(at, tip, height=4, width=1.5)
    lab.settle()
    pieces = lab.pieces(m.ReadProgress(1, run.run, 0))
    assert [(piece.first, piece.n, piece.names) for piece in pieces] == [
        (0, 3, ("height",)),
        (3, 1, ("height",)),
        (4, 1, ("height", "width")),
    ]
    following = ProgressFollowing(b"", run.run, new_only=False)
    following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm", run.run))))
    ask(lab, following)
    assert [point.values["height"] for point in iter(following.take, None)] == list(range(5))
    back.report(at)
    lab.heart.ask(m.Delete(1, run.run), m.Done)
    assert lab.rows("progress") == lab.rows("new_progress") == 0
    lab.settle()
    assert not list(lab.heart.core.series.tails(run.run))


def test_a_fork_has_all_the_progress_of_what_has_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put together, and what is not yet; of an open task nothing, for it will tell of its own."""
    monkeypatch.setattr(tuning, "FOLD_VALUES", 8)
    run = lab.heart.open("stm")
    run.put(1, 2)
    for k in range(5):
        for tip, hand in enumerate(lab.tips):
            lab.tell(hand.assignments[0], tip, height=k, note=f"[{k}, 'a\"]'")
            lab.settle()
    assert lab.rows("progress")
    assert lab.rows("new_progress")
    lab.tips[0].report(lab.tips[0].assignments[0])
    (forking,) = lab.heart.say(m.Fork(9, run.run, "again", None)).forks
    answer = fork(lab.heart.core, lab.journal, Space(lab.folder, 0), forking, lab.heart.now)
    assert isinstance(answer, m.Forked)

    def seen(number: int) -> list[Any]:
        following = ProgressFollowing(b"", number, new_only=False)
        following.on_news(travelled(lab.heart.core.series.news(tuning.Source("stm", number))))
        ask(lab, following)
        return list(iter(following.take, None))

    assert seen(answer.run.run) == [point for point in seen(run.run) if point.index == 0]
    assert [point.values["note"] for point in seen(answer.run.run)] == [f"[{k}, 'a\"]'" for k in range(5)]


def test_samples_are_kept_as_long_as_the_configuration_says_a_piece_at_a_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 2)
    pruning = Pruning(lab.journal)
    began = lab.heart.now
    for k in range(2 * PRUNED_ROWS):
        lab.sample(temperature=k, pressure=k)
        lab.heart.now += 30
        lab.settle()
    assert lab.rows("samples") == 4 * PRUNED_ROWS

    def prune(pruning: Pruning) -> int:
        out = Effects(wall=lab.heart.now)
        pruning.look(lab.heart.now, out)
        if out.records:
            lab.journal.commit(out.records)
        return len(out.records)

    turns = 0
    while prune(pruning):
        turns += 1
        assert turns < 20
    oldest = lab.heart.now - 3600
    kept = [k for k in range(2 * PRUNED_ROWS) if began + 30.2 * k >= oldest]
    assert lab.values() == lab.values(name="pressure") == kept
    assert turns == 2, "one for each value: it is not more than a piece"
    shorter = replace_monitor(STM, "temperature", MonitorSpec("K", 61.0))
    lab.restart(shorter)
    pruning = Pruning(lab.journal)
    while prune(pruning):
        pass
    assert lab.values() == kept[-2:]
    assert lab.values(name="pressure") == kept
    lab.restart(replace_monitor(STM, "temperature", None))
    pruning = Pruning(lab.journal)
    lab.heart.now += 120
    while prune(pruning):
        pass
    assert lab.values() == kept[-1:], "as it said last, but for the row that holds where the series ends"


def replace_monitor(master: MasterSpec, name: str, monitor: MonitorSpec | None) -> MasterSpec:
    monitors = {**MONITORS, name: monitor}
    left = {name: one for name, one in monitors.items() if one is not None}
    return dataclasses.replace(master, monitors=dict.fromkeys(master.monitors, left))


def test_any_tool_reads_them(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 3)
    for k in range(4):
        lab.sample(temperature=k + 0.5)
        lab.heart.now += 1
        lab.settle()
    began = 1000
    (query,) = code_blocks(document("docs/journal.md"), "sql")
    read = [(round(time - began, 1), value) for time, value in lab.journal.query(query)]
    assert read == [(0.0, 0.5), (1.2, 1.5), (2.4, 2.5), (3.6, 3.5)]


def test_what_is_salvaged_of_a_journal_has_its_series(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 4)
    run = lab.heart.open("stm")
    run.put(1)
    tip = 0 if lab.tips[0].assignments else 1
    for k in range(7):
        lab.sample(temperature=k)
        lab.tell(lab.tips[tip].assignments[0], tip, height=k)
        lab.settle()
    assert all(lab.rows(table) for table in ("samples", "progress", "new_samples", "new_progress"))
    lab.journal.close()
    kept = lab.folder.with_name("kept")
    salvage(lab.folder, kept)
    lab.heart.journal = Journal(kept, "crash")
    lab.folder = kept
    lab.restart()
    assert lab.values() == list(range(7))
    assert gathered(lab.pieces(m.ReadProgress(1, run.run, 0)))["height"].tolist() == list(range(7))


def test_what_is_not_declared_any_more_is_put_together_where_it_belongs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "FOLD_VALUES", 2)
    for k in range(3):
        lab.sample(temperature=k)
        lab.settle()
    assert lab.rows("new_samples") == 1
    lab.restart(replace_monitor(STM, "temperature", None))
    lab.sample(temperature=3, pressure=1)
    lab.settle()
    assert lab.rows("new_samples") == 0
    assert lab.values() == [0, 1, 2]
