"""Runs without open tasks are laid aside, and nobody can tell."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from helpers.heart import Heart, spec
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.status import MasterStatus
from taskmaster.daemon import opening as opening_module
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects, RunChanged, RunCreated, WriterChanged
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Resting, Runs


def contents(run: Run) -> dict[str, Any]:
    estimate, attempts = run.estimate, dict(run.attempts.items())
    estimated = (estimate.seconds, estimate.largest)
    return {**vars(run), "estimate": estimated, "attempts": attempts, "blocks": list(run.blocks)}


def statistics(heart: Heart) -> MasterStatus:
    status: MasterStatus = heart.statistics()
    return replace(status, workers=())


def awake(heart: Heart) -> set[str]:
    return {run.name for run in heart.core.masters["svm"].runs.values()}


def test_a_list_of_many_runs_comes_in_parts() -> None:
    heart = Heart(spec(), spec("other"))
    for k in range(3_000):
        heart.open("svm" if k % 3 else "other", f"{k}", metadata={"what": "x" * 400})
    for master in (None, "svm"):
        names: list[str] = []
        after, parts, more = 0, 0, True
        while more:
            reply = heart.ask(m.ListRuns(9, master, after), m.RunList)
            assert len(codec.encode(reply)) < 600_000
            names += [info.name for info in reply.runs]
            after, parts, more = reply.runs[-1].run, parts + 1, reply.more
        assert parts > 1
        assert names == [f"{k}" for k in range(3_000) if master is None or k % 3]
    assert heart.ask(m.ListRuns(9, None, after), m.RunList).runs == ()


class CountingRuns(Runs):
    """Counts how many runs are looked at."""

    looks = 0

    def look(self, number: int) -> Run | Resting | None:
        self.looks += 1
        return super().look(number)


def resting(number: int, master: str) -> Resting:
    return Resting(number, master, f"{number}", 0, 0.0, "ada", "{}", 0, True, False, 1, 0, 0, 0, 0, 0)


def listed(runs: Runs, master: str | None, after: int, *seen: str) -> list[int]:
    """All in parts of some kilobytes."""
    numbers: list[int] = []
    more = True
    while more:
        infos, more = runs.infos(master, numbers[-1] if numbers else after, 3_000, seen.__contains__)
        numbers += [info.run for info in infos]
    return numbers


def test_runs_of_masters_that_one_does_not_see_cost_a_list_nothing() -> None:
    runs = CountingRuns({})
    for number in range(1, 3_001):
        runs.add_resting(resting(number, "mine" if number % 100 == 0 else "hidden"))
    for master in (None, "mine"):
        assert listed(runs, master, 0, "mine") == list(range(100, 3_001, 100))
        assert listed(runs, master, 2_800, "mine") == [2_900, 3_000]
    for master in (None, "hidden", "other"):
        assert listed(runs, master, 0, "other") == []
    assert runs.looks < 4 * 30, "each that is listed once, and one more where a part ends"


def test_of_several_masters_runs_are_listed_in_order_whatever_came_when() -> None:
    """Numbers in order, but for what an older journal has: those in which something goes on are taken up first."""
    runs = Runs({})
    masters = {number: "abc"[number * number % 3 if number % 5 else 2] for number in range(1, 301)}
    awake = [number for number in masters if number % 7 == 3]
    for number in awake:
        runs.add(resting(number, masters[number]).waken())
    for number in masters:
        if number not in awake:
            runs.add_resting(resting(number, masters[number]))
    for number in (1, 3, 150, 299, 300):
        runs.remove(runs.require(number))
        del masters[number]
    for after in (0, 2, 150, 298, 1000):
        for seen in ("a", "c", "ac", "abc"):
            expected = [number for number in masters if masters[number] in seen and number > after]
            assert listed(runs, None, after, *seen) == expected
            if len(seen) == 1:
                assert listed(runs, seen, after, *"abc") == expected
    runs.lay_aside(frozenset())
    assert listed(runs, None, 0, *"abc") == sorted(masters)


def test_a_run_of_which_there_is_much_to_say_is_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "MOST_METADATA", 1 << 20)  # as it was in older journals
    heart = Heart(spec())
    for name in "abc":
        heart.open(name=name, metadata={"what": "x" * 600_000})
    reply = heart.ask(m.ListRuns(9), m.RunList)
    assert ([info.name for info in reply.runs], reply.more) == (["a"], True)


def test_a_run_that_was_laid_aside_is_what_it_was() -> None:
    heart = Heart(spec())
    hand = heart.hand()
    heart.open(name="other")
    run = heart.open(claim="x", seed=2**62, priority=3, metadata={"sample": "Ω 7", "by": ""})
    run.put(1, 2, 3)
    hand.report(hand.assignments.pop(), errors=[0])
    for at in hand.assignments:
        hand.report(at)
    run.put(4)
    run.cancel()
    hand.report(hand.assignments.pop(), 1, 1)
    heart.ask(m.Pause(9, "svm", run.run), m.Done)
    heart.ask(m.Close(9, run.run, run.writer), m.Done)
    before, known, status = run.state, heart.ask(m.ListRuns(9), m.RunList), statistics(heart)
    assert all(value or name == "held" for name, value in contents(before).items() if name not in EMPTY)
    heart.tick()
    heart.tick()
    assert awake(heart) == set()
    assert statistics(heart) == status
    assert heart.ask(m.ListRuns(9), m.RunList) == known == heart.ask(m.ListRuns(9, "svm"), m.RunList)
    assert heart.core.runs.look(run.run).next_seq == before.next_seq  # type: ignore[union-attr]
    assert awake(heart) == set(), "to look at it does not wake it"
    assert contents(run.state) == contents(before)
    assert run.state is not before
    assert statistics(heart) == status


#: what a run without open tasks has none of
EMPTY = {
    "queued",
    "held",
    "open",
    "blocks",
    "attempts",
    "places",
    "asked",
    "checkpoints",
    "proposed",
    "edited",
}


def test_it_goes_on_as_if_nothing_had_been() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    for value in range(3):
        run.put(value)
        hand.report(hand.assignments.pop())
        heart.tick()
        heart.tick()
        assert awake(heart) == set()
    assert run.kinds == [("done", index) for index in range(3)]
    assert heart.open().writer == run.writer + 1
    heart.tick()
    heart.ask(m.Delete(9, run.run), m.Done)
    assert heart.ask(m.Ping(9, run.run), m.Refused).code == "unknown_run"
    assert heart.open(create=True).run == run.run + 1
    assert heart.statistics().done == 0


def test_what_has_anything_going_on_stays_awake() -> None:
    heart = Heart(spec("svm", "hold"), spec("other"))
    hand = heart.hand()
    runs = {name: heart.open(name=name) for name in ("idle", "waits", "held")}
    runs["held"].put(1)
    hand.die(hand.begun(hand.assignments.pop(), 1))
    runs["waits"].put(1)
    heart.tick()
    heart.tick()
    assert awake(heart) == {"waits", "held"}
    runs["held"].resolve(0, "fail")
    heart.tick()
    heart.tick()
    assert awake(heart) == {"waits"}


def test_a_run_whose_lease_has_not_ended_stays_awake() -> None:
    heart = Heart(spec())
    run, hand = heart.open(), heart.hand()
    run.put(1)
    (at,) = hand.assignments
    run.cancel()
    heart.tick()
    heart.tick()
    assert awake(heart) == {"a"}
    hand.report(at)
    heart.tick()
    assert awake(heart) == set()


def test_a_mistyped_name_is_compared_with_the_newest_runs_only() -> None:
    heart = Heart(spec(), spec("other"))
    heart.open(name="scan-of-old")
    for number in range(600):
        heart.open(name=f"measured {number}")
        heart.open("other", name=f"measurement {number}")
    ask = m.Open(1, "svm", "measured 59", create=False)
    assert "did you mean 'measured 5" in heart.ask(m.Open(1, "svm", "measred 599", create=False), m.Refused).message
    assert len(heart.core.runs.latest_names("svm")) == 500
    assert heart.ask(ask, m.Opened).run
    assert "mean" not in heart.ask(m.Open(1, "svm", "scan-of-oid", create=False), m.Refused).message


class CountingJournal(Journal):
    queries = 0

    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        self.queries += 1
        return super().query(statement, values)


def test_runs_that_are_over_cost_a_start_no_queries_and_little_memory(tmp_path: Path) -> None:
    count = 3000
    journal = CountingJournal(tmp_path, "crash")
    metadata = {"sample": "tile 7, left half", "operator": "somebody"}
    for run in range(1, count + 1):
        records = RunCreated(run, "svm", f"map-{run:032d}", run << 40, float(run), "ada", metadata, 0)
        journal.commit([records, WriterChanged(run, 1, "ada", 0.0, f"{run:032x}"), RunChanged(run, True, False, 0)])
    core = Core(Identity("here", 1), [Master(spec(), 1)], lambda: 1)
    journal.queries = 0
    tracemalloc.start()
    restore(core, journal, {}, 0.0, Effects())
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert journal.queries < 20, "however many runs there are"
    assert size < 800 * count
    assert len(core.runs) == count
    last = core.runs[count]
    assert (last.name, last.closed, last.metadata) == (f"map-{count:032d}", True, metadata)
    assert last.claims == {f"{count:032x}": 1}
    journal.close()


@pytest.mark.parametrize("counted", [True, False])
def test_a_run_whose_counts_lag_behind_is_counted_on(tmp_path: Path, counted: bool) -> None:
    journal = Journal(tmp_path, "crash")
    journal.begin_epoch(0.0)
    heart = Heart(spec(), journal=journal)
    run, hand = heart.open(), heart.hand()
    run.put(1)
    hand.report(hand.assignments.pop())
    if counted:
        heart.tick()
    before = heart.ask(m.ListRuns(9), m.RunList)
    heart.restart({})
    assert bool(awake(heart)) is not counted
    assert heart.ask(m.ListRuns(9), m.RunList) == before
    journal.close()
