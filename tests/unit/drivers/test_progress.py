"""How far a worker had come, read from outside: also when it was killed, and when the file says anything."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.disks import small_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmaster.drivers.progress import STARTED, Position, ProgressReader, ProgressWriter, Terms, machine_start

A, B = (7, 1), (7, 2)
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of a worker lies."""
    return tmp_path / "svm-token"


# -- writer and reader ------------------------------------------------------------------------------------------------


def test_a_worker_that_has_not_made_its_file_has_begun_nothing(path: Path) -> None:
    assert ProgressReader(path).positions() == []
    assert ProgressReader(path).terms() is None


def test_each_slot_says_where_it_is(path: Path) -> None:
    writer, reader = ProgressWriter(path, 3), ProgressReader(path)
    assert reader.positions() == []
    writer.begin(0, A, run=4, first=100, attempt=2)
    writer.begin(2, B, run=5, first=0, attempt=1)
    writer.cells[2][STARTED] = 7
    assert reader.positions() == [Position(A, 4, 100, 0, 2), Position(B, 5, 0, 7, 1)]


def test_a_slot_that_has_come_to_the_end_says_so_until_it_begins_the_next(path: Path) -> None:
    writer, reader = ProgressWriter(path, 1), ProgressReader(path)
    writer.begin(0, A, 4, 100, 1)
    writer.cells[0][STARTED] = 3
    writer.end(0)
    assert reader.positions() == [Position(A, 4, 100, 3, 1, busy=False)]
    writer.begin(0, B, 4, 103, 1)
    assert reader.positions() == [Position(B, 4, 103, 0, 1, busy=True)]


def test_a_new_lease_is_never_seen_with_the_count_of_the_one_before(path: Path) -> None:
    """Whatever it is killed in the midst of: stores are seen in their order, so each state between two is tried."""
    writer = ProgressWriter(path, 1)
    writer.begin(0, A, 4, 100, 1)
    writer.cells[0][STARTED] = 99
    seen: list[Position] = []

    class Watched:
        """A cell that is looked at before each store."""

        def __setitem__(self, k: int, value: int) -> None:
            seen.extend(ProgressReader(path).positions() or [])
            cell[k] = value

    cell = writer.cells[0]
    writer.cells[0] = Watched()  # type: ignore[call-overload]
    writer.begin(0, B, 5, 0, 2)
    seen.extend(ProgressReader(path).positions() or [])
    assert seen[0] == Position(A, 4, 100, 99, 1)
    assert not [at for at in seen if at.lease != A and at.started]
    assert not [at for at in seen if at.lease == B and (at.run, at.first, at.attempt) != (5, 0, 2)]
    assert seen[-1] == Position(B, 5, 0, 0, 2)


@pytest.mark.parametrize("terms", [Terms(None, 1.0), Terms(0.25, 0.5)])
def test_the_daemons_terms_are_passed_on(path: Path, terms: Terms) -> None:
    writer, reader = ProgressWriter(path, 2), ProgressReader(path)
    assert reader.terms() is None
    writer.agree(terms)
    assert reader.terms() == terms
    assert reader.positions() == []


def test_a_worker_that_is_forgotten_has_begun_nothing(path: Path) -> None:
    ProgressWriter(path, 1).begin(0, A, 4, 100, 1)
    reader = ProgressReader(path)
    reader.remove()
    reader.remove()
    assert reader.positions() == []


# -- death ------------------------------------------------------------------------------------------------------------

VICTIM = """
    import os, signal, sys
    from pathlib import Path
    from taskmaster.drivers.progress import STARTED, ProgressWriter

    writer = ProgressWriter(Path(sys.argv[1]), 2)
    writer.begin(1, (7, 1), 4, 100, 3)
    for position in range(6):
        writer.cells[1][STARTED] = position + 1
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_worker_had_noted_outlives_a_kill(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(VICTIM), path], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ProgressReader(path).positions() == [Position(A, 4, 100, 6, 3)]


# -- a file that says anything ----------------------------------------------------------------------------------------


def test_what_was_noted_before_the_machine_started_anew_counts_for_nothing(path: Path) -> None:
    ProgressWriter(path, 1).begin(0, A, 4, 100, 1)
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", machine_start() ^ 1))
    assert ProgressReader(path).positions() is None


@pytest.mark.parametrize("change", [-8, -1, 1, 56])
def test_a_file_of_the_wrong_length_counts_for_nothing(path: Path, change: int) -> None:
    ProgressWriter(path, 2).begin(0, A, 4, 100, 1)
    os.truncate(path, path.stat().st_size + change)
    assert ProgressReader(path).positions() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), ours=st.booleans())
def test_garbage_says_nothing_and_raises_nothing(path: Path, content: bytes, ours: bool) -> None:
    if ours and len(content) >= 8:
        content = struct.pack("<Q", machine_start()) + content[8:]
    path.write_bytes(content)
    assert not ProgressReader(path).positions()
    terms = ProgressReader(path).terms()
    assert terms is None or terms.heartbeat > 0


def test_a_file_just_made_says_that_nothing_has_begun(path: Path) -> None:
    for size in (0, (4 + 7) * 8):
        path.write_bytes(bytes(size))
        assert ProgressReader(path).positions() == []


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder where there is room for another name, and for no more."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", 16 * PAGE))
        except OSError as error:
            pytest.skip(str(error))
        disk.leave(0)
        yield disk.folder


def test_where_the_disk_is_full_the_worker_lives_and_nobody_knows_how_far_it_is(full: Path) -> None:
    path = full / "svm-token"
    writer, reader = ProgressWriter(path, 2), ProgressReader(path)
    writer.agree(Terms(None, 1.0))
    writer.begin(1, A, 4, 100, 1)
    writer.cells[1][STARTED] = 5
    assert reader.positions() is None
    assert reader.terms() is None


def test_the_same_with_a_limit_that_anybody_may_set(path: Path) -> None:
    """In a process of its own: the limit holds for all of it."""
    code = """
        import sys
        from pathlib import Path
        from helpers.disks import no_file_larger_than
        from taskmaster.drivers.progress import STARTED, ProgressWriter

        with no_file_larger_than(64):
            writer = ProgressWriter(Path(sys.argv[1]), 2)
        writer.begin(1, (7, 1), 4, 100, 1)
        writer.cells[1][STARTED] = 5
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=True, env=environment)
    assert ProgressReader(path).positions() is None
    assert ProgressReader(path).terms() is None
