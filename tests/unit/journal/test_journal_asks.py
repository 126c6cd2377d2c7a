"""What a learner was asked, read back by pages: cut where blocks are large, joined where they are small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rambling import Play
from helpers.rehearsal import Rehearsal, RehearsedRun, Stage

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import (
    CallerError,
    Conflict,
    Fenced,
    Gap,
    JournalDamaged,
    NotAllowed,
    ProtocolError,
    UnknownRun,
)
from taskmaster.bus.table import pack_values
from taskmaster.daemon.journal import forks
from taskmaster.daemon.journal.pages import PAGE_BYTES
from taskmaster.learners.history import History


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.journal.close()


@pytest.fixture
def run(stage: Stage) -> RehearsedRun:
    return Rehearsal(stage, Play(iter(()))).open("run")


def history(run: RehearsedRun) -> History:
    run.pump()
    return run.master.history(run.number)


def read(run: RehearsedRun) -> tuple[list[Any], list[tuple[int, int, int]]]:
    """The points of a run, and its asks by the index of the next task."""
    blocks = list(history(run).asks())
    rows = [row for block in blocks for row in block.points.rows()]
    return rows, [(block.first + ask.offset, ask.after, ask.asked) for block in blocks for ask in block.asks]


def test_large_blocks_are_cut_and_say_where_the_learner_was_asked(stage: Stage, run: RehearsedRun) -> None:
    column = np.random.default_rng(3).random(300_000)
    run.tasks.new_ask(-1, 300_000)
    run.tasks.put_many(column.tolist())
    run.tasks.new_ask(-1, 7)
    run.tasks.put("seven")
    rows, asks = read(run)
    assert rows == [*column.tolist(), "seven"]
    assert asks == [(0, -1, 300_000), (300_000, -1, 7)]
    first = 0
    while first < run.next_index:
        page, frames = stage.page(m.ReadAsks(1, run.number, first))
        assert isinstance(page, m.AsksPage)
        assert len(codec.encode(page)) + sum(map(len, frames)) < 1.1 * PAGE_BYTES
        first = page.blocks[-1].first + page.blocks[-1].n
    assert stage.page(m.ReadAsks(1, run.number, 10**6))[0].blocks == ()  # type: ignore[union-attr]


def test_points_that_were_put_one_by_one_come_together(stage: Stage, run: RehearsedRun) -> None:
    expected = []
    for k in range(3000):
        run.tasks.new_ask(k - 1, 2)
        if k % 3:
            run.tasks.put(float(k))
            run.pump()  # each is acknowledged, and so a block of its own
        expected.append((run.next_index - bool(k % 3), k - 1, 2))
    rows, asks = read(run)
    assert rows == [float(k) for k in range(3000) if k % 3]
    assert asks == expected
    page, _ = stage.page(m.ReadAsks(1, run.number, 0))
    assert isinstance(page, m.AsksPage)
    assert [(block.first, block.n) for block in page.blocks] == [(0, 2000)]


def test_asks_of_which_nothing_was_put_go_with_the_next_block(stage: Stage, run: RehearsedRun) -> None:
    run.tasks.new_ask(-1, 3)
    run.tasks.put_many(["a", "b"])
    run.tasks.new_ask(0, 1)
    run.tasks.new_ask(1, 2)
    assert read(run)[1] == [(0, -1, 3)], "they wait"
    run.tasks.put("by hand, as far as anybody knows")
    assert read(run)[1] == [(0, -1, 3), (2, 0, 1), (2, 1, 2)]


def test_puts_of_which_nobody_says_that_they_were_asked_are_by_hand(stage: Stage, run: RehearsedRun) -> None:
    run.tasks.put(1)
    run.tasks.put_many([2, 3])
    run.core.told = 4
    run.tasks.put(4)
    assert read(run)[1] == [(0, -1, -1), (1, -1, -1), (3, 4, -1)]


def test_a_journal_of_before_says_not_for_how_many_points(stage: Stage, run: RehearsedRun) -> None:
    run.tasks.put_many([1, 2])
    history(run)
    stage.journal.query("UPDATE blocks SET asks = '[[0,-1],[1,7]]'")
    assert read(run)[1] == [(0, -1, -1), (1, 7, -1)]
    stage.journal.query("UPDATE blocks SET asks = '[[0]]'")
    with pytest.raises(JournalDamaged, match="what the learner of a run was asked cannot be understood"):
        read(run)


def test_more_asks_than_a_header_holds_are_refused() -> None:
    asks = tuple(m.Ask(0, k) for k in range(70_000))
    message = m.Submit(1, 1, 0, 1, pack_values([1]).layout, asks)
    with pytest.raises(ProtocolError):
        codec.client_decoder().decode(codec.encode(message))


def test_what_cannot_be_forked(stage: Stage, run: RehearsedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run.tasks.put_many([1, 2, 3])
    history(run)
    with pytest.raises(CallerError, match=r"run 'run' has 0 events, it cannot be forked at 1"):
        stage.fork(run.number, "fork", 1)
    with pytest.raises(CallerError, match="cannot name a run"):
        stage.fork(run.number, "")
    with pytest.raises(UnknownRun):
        stage.fork(99, "fork")
    fork = stage.fork(run.number, "fork", 0)
    with pytest.raises(Conflict, match="has a run 'fork' already; choose another name"):
        stage.fork(fork.run, "fork", 0)
    monkeypatch.setattr(forks, "MOST_ROWS", 0)
    with pytest.raises(NotAllowed, match="takes 1 rows of the journal"):
        stage.fork(run.number, "another")


def test_a_record_that_contradicts_itself_is_forked_so_that_the_journal_does_not(
    stage: Stage, run: RehearsedRun
) -> None:
    """A client says that it was told what it could not know: each task that an event tells of is in the fork."""
    run.tasks.new_ask(10**9, 4)
    run.tasks.put_many([1.0, 2.0, 3.0, 4.0])
    run.pump()
    stage.end(run.number, 2, 2, [9.0, 9.0])
    fork = stage.fork(run.number, "fork", 1)
    assert (fork.tasks, fork.events, fork.done) == (3, 1, 1)
    made = run.master.history(fork.run)
    assert [(r.seq, r.index, r.output) for r in made.results()] == [(0, 2, 9.0)]
    assert sorted(stage.run(fork.run).open) == [(0, 2)]


def test_doubts_of_the_beginning_are_none_in_the_fork(stage: Stage, run: RehearsedRun) -> None:
    run.tasks.put_many([1.0, 2.0])
    run.pump()
    out = stage._effects()
    stage.run(run.number).hold(0, 2, "no idea", "worker", 1, out)
    stage._commit(out)
    fork = stage.fork(run.number, "fork")
    made = stage.run(fork.run)
    assert (fork.held, fork.events, len(made.held)) == (0, 4, 0)
    assert sorted(made.proposed) == [(0, 2)], "what had to be approved has to be approved again"


def test_what_was_asked_behind_the_last_task_is_noted_once(stage: Stage, run: RehearsedRun) -> None:
    """However often it is said, and also where tasks have been put meanwhile; by whoever may write."""

    def note(at: int, *asks: m.Ask, first: int = 2, writer: int = 1) -> None:
        stage.ask(m.NoteAsks(9, run.number, writer, first, at, asks), m.Done)

    with pytest.raises(Gap, match="asks behind task 1, but it has 0 tasks"):
        note(0, m.Ask(0, -1, 1))
    run.tasks.new_ask(-1, 2)
    run.tasks.put_many([1, 2])
    run.pump()
    one, two, three = m.Ask(0, 0, 1), m.Ask(7, 1, 2), m.Ask(0, 2, 3)
    note(0, one, two)
    note(0, one, two)
    note(2, three)
    note(0, one, two)
    noted = [(0, -1, 2), (2, 0, 1), (2, 1, 2), (2, 2, 3)]
    assert read(run) == ([1, 2], noted)

    run.tasks.new_ask(3, 1)
    run.tasks.put(3)
    run.pump()
    note(2, three)
    assert read(run) == ([1, 2, 3], [*noted, (2, 3, 1)])
    note(3, m.Ask(0, 2, 4))
    assert read(run)[1] == [*noted, (2, 2, 4), (2, 3, 1)], "the answer to it came later than what was put next"
    note(0, one, first=1)
    assert len(read(run)[1]) == 6, "no block ends there"
    with pytest.raises(Fenced):
        note(0, one, writer=0)
    with pytest.raises(Gap, match="asks behind task 3, but it has 3 tasks"):
        note(0, one, first=4)

    for at in range(0, 3 * 2**15, 2**15):
        note(at, *[one] * 2**15, first=3)
    assert len(read(run)[1]) == 6 + 2**16, "there is a bound"
