"""Who has written to a run: from which task on, what they said of themselves, over starts, forks and salvage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.rambling import Play
from helpers.rehearsal import Rehearsal, RehearsedRun, Stage

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import Fenced, UnknownRun
from taskmaster.daemon.journal import Journal, writers as reading
from taskmaster.daemon.journal.check import salvage
from taskmaster.daemon.journal.writers import read_writers


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "state").mkdir()
    stage = Stage(tmp_path / "state")
    yield stage
    stage.journal.close()


def opened(stage: Stage, name: str = "run") -> RehearsedRun:
    return Rehearsal(stage, Play(iter(()))).open(name)


def writers(
    stage: Stage, number: int, journal: Journal | None = None
) -> list[tuple[int, int, str, dict[str, str], bool]]:
    """All of them, page by page, through the wire."""
    found: list[tuple[int, int, str, dict[str, str], bool]] = []
    more, after = True, 0
    while more:
        (query,) = stage.say(m.ReadWriters(1, number, after)).queries
        assert isinstance(query.message, m.ReadWriters)
        page = codec.daemon_decoder().decode(
            codec.encode(read_writers(journal or stage.journal, stage.run(number), query.message))
        )
        assert isinstance(page, m.WriterList)
        found += [(one.writer, one.first, one.user, one.metadata, one.forked) for one in page.writers]
        more, after = page.more, found[-1][0] if found else 0
    return found


def story(stage: Stage) -> RehearsedRun:
    """Two points of one writer, and three of another, who says who that is."""
    run = opened(stage)
    run.tasks.new_ask(-1, 2)
    run.tasks.put_many([0.0, 1.0])
    run.pump()
    stage.end(run.number, 0, 2, [0.5, 0.5])
    with pytest.raises(Fenced):
        stage.ask(m.NoteWriter(2, run.number, 7, {"learner": "nobody"}), m.Done)
    run = opened(stage)
    stage.ask(m.NoteWriter(2, run.number, run.core.writer, {"learner": "someone"}), m.Done)
    stage.ask(m.NoteWriter(2, run.number, run.core.writer, {"learner": "other"}), m.Done)
    run.tasks.new_ask(1, 3)
    run.tasks.put_many([2.0, 3.0, 4.0])
    run.pump()
    return run


BOTH = [(1, 0, "ada", {}, False), (2, 2, "ada", {"learner": "other"}, False)]


def test_writers_are_listed_with_their_first_task_and_their_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = story(stage)
    assert writers(stage, run.number) == BOTH
    monkeypatch.setattr(reading, "PAGE_ROWS", 1)
    assert writers(stage, run.number) == BOTH
    with pytest.raises(UnknownRun):
        stage.ask(m.ReadWriters(1, 99), m.WriterList)


def test_a_fork_has_those_writers_whose_tasks_it_has(stage: Stage) -> None:
    run = story(stage)
    whole, half = stage.fork(run.number, "whole"), stage.fork(run.number, "half", 1)
    copied = [(number, first, user, said, True) for number, first, user, said, _ in BOTH]
    assert (whole.tasks, writers(stage, whole.run)) == (5, copied)
    assert (half.tasks, writers(stage, half.run)) == (2, copied[:1])
    assert opened(stage, "half").core.writer == 2, "and its own come behind them"
    assert opened(stage, "whole").core.writer == 3
    assert writers(stage, half.run) == [*copied[:1], (2, 2, "ada", {}, False)]
    assert writers(stage, stage.fork(half.run, "again").run) == copied[:1]


def test_what_is_salvaged_has_them(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    stage = Stage(tmp_path / "state")
    run = story(stage)
    stage.journal.close()
    assert salvage(tmp_path / "state", tmp_path / "salvaged").ok
    journal = Journal(tmp_path / "salvaged")
    assert writers(stage, run.number, journal) == BOTH
    journal.close()
