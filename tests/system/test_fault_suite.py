"""The fault suite itself: it finds out a daemon that does not keep what it promised, and injects what it says."""

from __future__ import annotations

import itertools
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import power, suite
from faults.evidence import Verdict, judge, read
from faults.nursery import Nursery
from faults.site import ONCE, Site
from faults.tally import Tally
from helpers.places import short_folder


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


# -- the judge ---------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """What is left of a run in which nothing went wrong."""

    state: Path
    notes: Path
    evaluated: Path

    def verdict(self) -> Verdict:
        return judge(self.state, ONCE, "run-0", self.notes, self.evaluated, once=True)

    def change(self, what: str, how: Callable[[list[Any]], list[list[Any]]]) -> None:
        """Put others in the place of the last note of a kind."""
        entries = list(read(self.notes))
        last = max(k for k, entry in enumerate(entries) if entry[0] == what)
        entries[last : last + 1] = how(entries[last])
        self.notes.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture(scope="module")
def finished(nursery: Nursery) -> Iterator[Case]:
    with short_folder() as folder, Site(folder, nursery) as site:
        site.start(ONCE)
        site.await_progress(20)
        tally = Tally("none")
        site.finish(tally)
        assert tally.is_good, tally.complaints
        yield Case(site.daemon.state, site.learners[0].notes, folder / f"{ONCE}.evaluated")


@pytest.fixture
def case(finished: Case, tmp_path: Path) -> Case:
    for path in (finished.notes, finished.evaluated):
        shutil.copy(path, tmp_path)
    return Case(finished.state, tmp_path / finished.notes.name, tmp_path / finished.evaluated.name)


def test_a_run_in_which_nothing_went_wrong_is_found_good(case: Case) -> None:
    verdict = case.verdict()
    assert verdict.acknowledged > 20
    assert verdict.complaints == []
    assert (verdict.lost, verdict.repeated, verdict.twice) == (0, 0, 0)


def test_an_acknowledged_task_that_is_not_on_record_is_lost(case: Case) -> None:
    n = case.verdict().acknowledged
    case.change("ack", lambda entry: [[*entry[:2], n + 3]])
    assert case.verdict().lost == 3


def test_a_task_that_is_on_record_as_another_is_lost(case: Case) -> None:
    case.change("put", lambda entry: [[*entry[:3], [*entry[3][:-1], entry[3][-1] + 5_000_000]]])
    verdict = case.verdict()
    assert verdict.lost == 1
    assert "nobody has put what is on record" in str(verdict.complaints)


def test_a_result_that_is_on_record_as_another_is_lost(case: Case) -> None:
    def changed(entry: list[Any]) -> list[list[Any]]:
        seq, index, kind, point, output = entry[2][-1]
        return [[*entry[:2], [*entry[2][:-1], [seq, index, kind, point, output + 1]]]]

    case.change("told", changed)
    assert case.verdict().lost == 1


def test_a_result_that_is_told_twice_is_a_repetition(case: Case) -> None:
    case.change("told", lambda entry: [entry, [*entry[:2], entry[2][-1:]]])
    assert case.verdict().repeated == 1


def test_what_acts_twice_is_found_out(case: Case) -> None:
    points = case.evaluated.read_text().splitlines()
    case.evaluated.write_text("\n".join([*points, points[-1]]))
    assert case.verdict().twice == 1


def test_what_is_said_to_be_done_and_never_was_is_found_out(case: Case) -> None:
    points = case.evaluated.read_text().splitlines()
    case.evaluated.write_text("\n".join(points[:-1]))
    assert "is said to be done, and is not" in str(case.verdict().complaints)


def test_a_pause_is_measured_while_something_is_open(case: Case) -> None:
    case.change("ack", lambda entry: [[entry[0], entry[1] + 40.0, *entry[2:]]])
    assert case.verdict().pause > 39


@pytest.mark.parametrize("is_hasty", [False, True], ids=["as it is", "hasty"])
def test_a_daemon_that_acknowledges_before_it_commits_is_found_out(
    place: Path, nursery: Nursery, is_hasty: bool
) -> None:
    """What it had in hand when it was killed was acknowledged, and is gone."""
    with Site(place, nursery) as site:
        site.start()
        site.daemon.kill()
        for _ in range(25 if is_hasty else 5):
            site.daemon.launch(program=f"faults.programs:{'hasty_daemon' if is_hasty else 'daemon'}")
            site.daemon.await_note("READY=1")
            try:
                site.await_progress()
            except AssertionError:  # a learner may find it out by itself, and end
                assert is_hasty, site.said()
                break
            site.daemon.kill()
            if any(site.verdict(learner, ended=False).lost for learner in site.learners):
                break
        if site.daemon.is_running:
            site.daemon.kill()
        for learner in site.learners:
            learner.kill()
        verdicts = [site.verdict(learner, ended=False) for learner in site.learners]
    assert sum(verdict.acknowledged for verdict in verdicts) > 50
    assert (sum(verdict.lost for verdict in verdicts) > 0) == is_hasty


def test_commits_that_are_not_synced_are_missed_after_a_power_cut(place: Path, nursery: Nursery) -> None:
    """What `durability = "crash"` does not promise, either."""
    tally = Tally("power cut")
    power.cuts(place, nursery, 40, 1, tally, "crash")
    assert tally.skipped or tally.lost > 10


def test_a_fault_that_is_brought_about_less_often_than_it_says_is_a_failure() -> None:
    """What would look in the table as if nothing could go wrong."""

    def brought_about(how_often: int, skipped: str = "") -> Tally:
        def inject(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
            tally.injected, tally.skipped = how_often, skipped

        return suite.inject(suite.Fault("idle", inject, 3), 3, 0)

    try:
        assert brought_about(3).is_good
        assert brought_about(0, "there is no compiler").is_good
        idle = brought_about(2)
    finally:
        logging.disable(logging.NOTSET)
    assert not idle.is_good
    assert idle.complaints == ["seed 0: injected 2 times, not 3"]


def test_power_is_cut_as_often_as_is_said_however_short_the_workload() -> None:
    chance = random.Random(1)
    assert len(power._moments(100, 250, chance)) == 250
    assert set(power._moments(100, 250, chance)) == set(range(1, 100))
    assert len(set(power._moments(1000, 500, chance))) == 500, "no moment twice, where there are enough"


def test_rounds_with_other_seeds_go_on_until_the_minutes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 20)  # three looks at it in a round: when a fault begins, when it ends, and at the end
    monkeypatch.setattr(suite, "time", SimpleNamespace(monotonic=clock.__next__))
    breaks = suite.Fault("breaks", int, 1)  # type: ignore[arg-type]
    complaints = [tally.complaints[0] for _, tally, _ in suite._rounds([breaks], 1.0, 7, 2.0, 1)]
    assert [complaint.partition(":")[0] for complaint in complaints] == ["seed 7", "seed 8"]
