"""Pages of a run's events: however a row is made up, each page fits a message, and together they say all of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.ledger import block, created, done, event, open_journal
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Schema
from taskmaster.daemon import effects as e
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.pages import PAGE_BYTES, read_page
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.run import Run
from taskmaster.daemon.spec import MasterSpec


class Recorded:
    """A journal of one run, as a client that asks for its pages gets to see it."""

    def __init__(self, journal: Journal, records: Sequence[e.Record]) -> None:
        self.journal = journal
        journal.commit([created(1), *records])
        spec = MasterSpec("svm", "process", Schema((), "svm"), Schema((), "svm"))
        core = Core(Identity("here", 1), [Master(spec, 1)], lambda: 7)
        restore(core, journal, {}, 0.0, Effects())
        self.run: Run = core.runs[1]

    def page(self, since: int, *, inputs: bool = False, limit: int = 4096) -> tuple[m.Page, list[Any]]:
        """One page, through the limits of the wire."""
        page, frames = read_page(self.journal, self.run, m.Replay(1, 1, since, limit, inputs))
        header = codec.encode(page)
        assert len(header) + sum(map(len, frames)) < 3 * PAGE_BYTES
        assert len(frames) < codec.MAX_FRAMES
        return page, frames

    def told(self, since: int = 0, *, inputs: bool = False) -> Iterator[tuple[int, Any, Any, float | None]]:
        """Of each task: its number, its output (or its error's message), its input, and when it finished."""
        while True:
            page, frames = self.page(since, inputs=inputs)
            if not page.events:
                return
            assert page.events[0].seq <= since
            for head in page.events:
                own, frames = frames[: head.frames], frames[head.frames :]
                yield from _tasks(head, own)
                assert head.seq + head.n > since
                since = head.seq + head.n


def _tasks(head: m.EventHead, frames: Sequence[Any]) -> Iterator[tuple[int, Any, Any, float | None]]:
    outputs, times, inputs = codec.event_tables(head, frames)
    rows = iter(outputs.rows() if outputs is not None else [])
    errors = {error.position: error.message for error in head.errors}
    for k in range(head.n):
        finished = struct.unpack_from("<d", times, 8 * k)[0] if times is not None else None
        output = errors[k] if k in errors else next(rows) if head.kind == "done" else head.kind
        yield head.first + k, output, inputs.rows()[k] if inputs is not None else None, finished


@pytest.fixture
def journal(state: Path) -> Iterator[Journal]:
    journal = open_journal(state, "crash")
    yield journal
    journal.close()


def failing(row: e.EventAppended, text: str) -> e.EventAppended:
    """The same row, its errors so wordy."""
    errors = tuple(replace(error, message=f"{error.position} {text}") for error in row.head.errors)
    return e.EventAppended(row.run, replace(row.head, errors=errors), row.frames)


def test_wordy_failures_fill_pages_as_outputs_do(journal: Journal) -> None:
    """A traceback for each task lies in the header, where 8 MiB are the end of it."""
    n, rows, text = 500, 40, "e" * 2000
    records = [failing(done(1, k * n, k * n, [], range(n)), text) for k in range(rows)]
    recorded = Recorded(journal, [block(1, 0, [float(k) for k in range(n * rows)]), *records])
    assert len(codec.encode(recorded.page(0)[0])) < 2 * PAGE_BYTES
    assert [(task, output) for task, output, _, _ in recorded.told()] == [
        (task, f"{task % n} {text}") for task in range(n * rows)
    ]


def test_a_row_larger_than_a_page_is_cut_wherever_its_size_lies(journal: Journal) -> None:
    n = 3000
    failed = range(1, n, 3)
    outputs = [f"{k}" * 300 for k in range(n - len(failed))]
    row = failing(done(1, 0, 0, outputs, failed, struct.pack(f"<{n}d", *map(float, range(n)))), "e" * 3000)
    recorded = Recorded(journal, [block(1, 0, [float(k) for k in range(n)]), row])
    rest = iter(outputs)
    expected = [(k, f"{k} " + "e" * 3000 if k in failed else next(rest), float(k), float(k)) for k in range(n)]
    assert list(recorded.told(inputs=True)) == expected
    assert list(recorded.told(1777)) == [(k, output, None, t) for k, output, _, t in expected[1777:]]


def test_large_inputs_of_many_tasks_in_one_row_come_in_several_pages(journal: Journal) -> None:
    inputs = [bytes([k]) * (1000 if k % 10 else 300_000) for k in range(200)]
    blocks = [block(1, at, inputs[at : at + 7]) for at in range(0, 200, 7)]
    recorded = Recorded(journal, [*blocks, event(1, 0, "cancelled", 0, 200)])
    assert [(task, given) for task, _, given, _ in recorded.told(inputs=True)] == list(enumerate(inputs))


def test_a_task_larger_than_a_page_has_one_for_itself(journal: Journal) -> None:
    large = "x" * (2 * PAGE_BYTES)
    recorded = Recorded(journal, [block(1, 0, [1.0] * 3), done(1, 0, 0, ["a", large, "b"])])
    assert [output for _, output, _, _ in recorded.told()] == ["a", large, "b"]


def test_an_error_that_no_header_could_hold_is_cut(journal: Journal) -> None:
    row = failing(done(1, 0, 0, [], range(2)), "é" * codec.MAX_HEADER)
    recorded = Recorded(journal, [block(1, 0, [1.0] * 2), row])
    texts = [output for _, output, _, _ in recorded.told()]
    assert [text[:3] for text in texts] == ["0 é", "1 é"]
    assert all(text.endswith(f"… ({codec.MAX_HEADER + 2} characters)") for text in texts)


def test_behind_the_end_there_is_nothing_yet(journal: Journal) -> None:
    recorded = Recorded(journal, [block(1, 0, [1.0] * 3), done(1, 0, 0, [1.0, 2.0])])
    page, frames = recorded.page(2)
    assert (page.events, frames, page.next_seq) == ((), [], 2)
