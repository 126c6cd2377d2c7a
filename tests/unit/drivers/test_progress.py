"""How far a worker had come is read after its death as it was written; what cannot be known is not made up."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from taskmaster.drivers import progress
from taskmaster.drivers.host import Seat
from taskmaster.drivers.progress import STARTED, Position, ProgressReader, ProgressWriter, Terms

words = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("progress") / "worker-1"


@pytest.fixture
def written(place: Path) -> bytes:
    """The file of a worker with two slots, one of them in its second task."""
    writer = ProgressWriter(place, 2)
    writer.agree(Terms(60.0, 0.5))
    writer.begin(1, (7, 3), 4, 100, 2)
    writer.cells[1][STARTED] = 2
    return place.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 2), words, st.integers(1, 2**64 - 1), words, words, words, words)))
def test_each_slot_is_where_it_was_last(place: Path, steps: list[tuple[int, int, int, int, int, int, int]]) -> None:
    writer, reader = ProgressWriter(place, 3), ProgressReader(place)
    expected: dict[int, Position] = {}
    for slot, epoch, number, run, first, started, attempt in steps:
        before = expected.get(slot)
        writer.end(slot)
        if before is not None:
            assert Position(before.lease, before.run, before.first, before.started, before.attempt, busy=False) in (
                reader.positions() or ()
            )
        writer.begin(slot, (epoch, number), run, first, attempt)
        writer.cells[slot][STARTED] = started
        expected[slot] = Position((epoch, number), run, first, started, attempt)
        assert reader.positions() == [expected[slot] for slot in sorted(expected)]


def test_a_slot_that_begins_a_lease_has_started_none_of_it(place: Path) -> None:
    writer = ProgressWriter(place, 1)
    writer.begin(0, (1, 1), 1, 0, 1)
    writer.cells[0][STARTED] = 9
    writer.begin(0, (1, 2), 1, 9, 1)
    assert ProgressReader(place).positions() == [Position((1, 2), 1, 9, 0, 1)]


def test_what_has_ended_of_a_lease_shows_though_no_more_of_it_has_started(place: Path) -> None:
    writer, reader = ProgressWriter(place, 1), ProgressReader(place)
    writer.begin(0, (1, 1), 1, 0, 1)
    writer.cells[0][STARTED] = 9
    before = reader.positions()
    writer.beat(0)
    after = reader.positions()
    assert before is not None
    assert after is not None
    assert before != after
    assert (after[0].started, after[0].busy) == (9, True)
    writer.end(0)
    assert reader.positions() == [Position((1, 1), 1, 0, 9, 1, busy=False)]


@given(st.none() | st.floats(0.01, 1e9), st.floats(0.01, 1e9))
def test_terms_are_read_as_they_were_agreed(place: Path, timeout: float | None, heartbeat: float) -> None:
    writer, reader = ProgressWriter(place, 1), ProgressReader(place)
    assert reader.terms() is None, "nothing is agreed yet"
    writer.agree(Terms(timeout, heartbeat))
    assert reader.terms() == Terms(timeout, heartbeat)


_WORKER = """
import os, signal, sys
from pathlib import Path
from typing import Any
from taskmaster.drivers.progress import STARTED, ProgressWriter
writer = ProgressWriter(Path(sys.argv[1]), 1)
writer.begin(0, (5, 1), 2, 10, 3)
for k in range(1000):
    writer.cells[0][STARTED] = k + 1
    if k == 41:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_noted_outlives_a_killed_worker(place: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _WORKER, str(place)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ProgressReader(place).positions() == [Position((5, 1), 2, 10, 42, 3)]


def test_where_nothing_was_noted_nothing_is_known(place: Path) -> None:
    place.unlink(missing_ok=True)
    reader = ProgressReader(place)
    assert (reader.positions(), reader.terms()) == (None, None)
    reader.remove()
    for content in (b"", bytes(88)):  # as a power cut may leave it
        place.write_bytes(content)
        assert (reader.positions(), reader.terms()) == (None, None)
    reader.remove()
    assert not place.exists()
    ProgressWriter(place, 1)
    assert reader.positions() == [], "it has begun nothing yet"


def test_a_worker_that_is_killed_amid_a_change_may_be_anywhere(place: Path) -> None:
    writer = ProgressWriter(place, 2)
    for slot in range(2):
        writer.begin(slot, (1, slot + 1), 1, 0, 1)
    seen: list[list[Position] | None] = []

    class Cell(list[int]):
        """Looks after each store what a reader would see."""

        def __init__(self, cell: memoryview) -> None:
            self.cell = cell

        def __setitem__(self, at: Any, word: Any) -> None:
            self.cell[at] = word
            seen.append(ProgressReader(place).positions())

    writer.cells[1] = Cell(writer.cells[1])  # type: ignore[call-overload]
    writer.begin(1, (1, 3), 2, 7, 1)
    assert seen[:-1] == [None] * (len(seen) - 1)
    assert seen[-1] == [Position((1, 1), 1, 0, 0, 1), Position((1, 3), 2, 7, 0, 1)]


def test_a_file_that_was_cut_short_says_nothing_false(place: Path, written: bytes) -> None:
    reader = ProgressReader(place)
    assert reader.positions() == [Position((7, 3), 4, 100, 2, 2)]
    for length in range(len(written)):
        place.write_bytes(written[:length])
        assert reader.positions() is None
        assert reader.terms() in (None, Terms(60.0, 0.5))
    place.write_bytes(written + b"\0")
    assert reader.positions() is None


@given(st.binary(max_size=160))
def test_a_file_of_something_else_says_nothing(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    reader = ProgressReader(place)
    assert reader.positions() is None
    assert reader.terms() is None or len(content) >= 32


def test_what_was_written_before_the_machine_started_counts_for_nothing(place: Path, written: bytes) -> None:
    (boot,) = struct.unpack_from("<Q", written)
    assert boot == progress.machine_start() != 0
    place.write_bytes(struct.pack("<Q", boot ^ 1) + written[8:])
    assert ProgressReader(place).positions() is None


def test_a_worker_without_room_for_it_works_and_nobody_knows_where(place: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        writer = ProgressWriter(place, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.agree(Terms(1.0, 1.0))
    writer.begin(0, (1, 1), 1, 0, 1)
    writer.cells[0][STARTED] = 1
    assert os.path.getsize(place) == 1
    assert (ProgressReader(place).positions(), ProgressReader(place).terms()) == (None, None)


def test_who_waits_for_its_turn_does_not_hang(place: Path) -> None:
    writer = ProgressWriter(place, 1)
    seat = Seat("token", ProgressReader(place), 0.0)
    writer.begin(0, (1, 1), 1, 0, 1)
    assert not seat.hangs(0.0, 5.0)
    writer.wait(0, True)
    assert not seat.hangs(100.0, 5.0)
    writer.wait(0, False)
    assert not seat.hangs(101.0, 5.0), "its time begins now"
    assert seat.hangs(107.0, 5.0)
