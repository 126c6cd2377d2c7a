"""What a head's worker leaves for its guardian, whatever happens to the disk and the power."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.disks import no_file_larger_than

from taskmaster.bus import messages as m
from taskmaster.drivers.hosting import Place
from taskmaster.drivers.instruments import guardian, notes
from taskmaster.drivers.instruments.guardian import Guardian
from taskmaster.drivers.instruments.notes import (
    NOTES,
    HeadNotes,
    HeadState,
    TokenWriter,
    are_missing,
    forget,
    read_notes,
    read_token,
)
from taskmaster.drivers.instruments.seats import HeadSeat


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    return tmp_path / "stm-1"


def at(number: int, token: bytes = b"") -> m.Checkpoint:
    return m.Checkpoint((1, 1), number, 7.0, token or f"day {number}".encode())


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_the_last_checkpoint_is_read_and_nothing_where_none_was_kept(progress: Path) -> None:
    assert read_token(progress) is None
    writer = TokenWriter(progress)
    assert read_token(progress) is None
    for number in range(1, 6):
        writer.keep(at(number))
        assert read_token(progress) == at(number)
    forget(progress)
    assert list(progress.parent.iterdir()) == []


@pytest.mark.parametrize("harm", ["cut", "torn"])
def test_one_that_was_not_written_to_its_end_leaves_the_one_before(progress: Path, harm: str) -> None:
    writer = TokenWriter(progress)
    writer.keep(at(1))
    writer.keep(at(2))
    before = token_file(progress).read_bytes()
    writer.keep(at(3))
    after = bytearray(token_file(progress).read_bytes())
    [*changed] = (i for i, (old, new) in enumerate(zip(before, after)) if old != new)
    if harm == "torn":  # the last byte that differs was not written
        after[changed[-1]] = before[changed[-1]]
    else:
        after[changed[-1] :] = b"\0" * len(after[changed[-1] :])
    token_file(progress).write_bytes(after)
    assert read_token(progress) == at(2)


def test_any_other_file_is_none(progress: Path) -> None:
    for content in (b"", b"1", b"nonsense" * 100):
        token_file(progress).write_bytes(content)
        assert read_token(progress) is None


def test_on_a_full_disk_small_ones_are_kept_and_of_a_large_one_it_is_said_that_it_is_not(progress: Path) -> None:
    writer = TokenWriter(progress)
    large = at(3, os.urandom(100_000))
    with no_file_larger_than(token_file(progress).stat().st_size):
        writer.keep(at(1))
        writer.keep(at(2))
        with pytest.raises(OSError, match="File too large"):
            writer.keep(large)
        assert read_token(progress) == at(2)
        assert sorted(progress.parent.iterdir()) == [token_file(progress)]
    writer.keep(large)
    assert read_token(progress) == large
    writer.keep(at(4))
    assert read_token(progress) == at(4)


def test_a_disk_that_was_full_at_first_may_have_room_later(progress: Path) -> None:
    with no_file_larger_than(16):
        writer = TokenWriter(progress)
        with pytest.raises(OSError, match="File too large"):
            writer.keep(at(1))
    writer.keep(at(2))
    assert read_token(progress) == at(2)


def token_file(progress: Path) -> Path:
    return progress.with_name(progress.name + ".token")


def test_one_from_before_the_machine_was_started_is_told_until_the_daemon_has_answered(
    progress: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HeadNotes(progress.with_name(progress.name + NOTES), "tip-1")
    TokenWriter(progress).keep(at(5))
    HeadNotes(progress.with_name("stm-2" + NOTES), "tip-2")
    TokenWriter(progress.with_name("stm-2"))  # had no task
    monkeypatch.setattr(notes, "machine_start", lambda: 12345)

    said: list[m.Message] = []
    keeper = Guardian(Place("vm", "ipc:///nowhere", "stm"))
    monkeypatch.setattr(keeper, "send", said.append)
    keeper.adopt(progress.parent)
    assert {path.name for path in progress.parent.iterdir()} == {"stm-1.head", "stm-1.token"}
    for _ in range(2):  # the first is lost on its way
        said.clear()
        keeper.hello()
        (lost, hello) = said
        assert isinstance(lost, m.WorkerLost)
        assert (lost.token, lost.checkpoint, lost.since, lost.known) == ("stm-1", at(5), 7.0, False)
        assert isinstance(hello, m.GuardianHello), "its answer says that what came before was heard"
        assert token_file(progress).exists()
    keeper.on_message(m.GuardianPlan("stm", "1", "visa", {}, {}))
    assert not list(progress.parent.iterdir())
    said.clear()
    keeper.hello()
    assert len(said) == 1


# -- how safe the head is ----------------------------------------------------------------------------------------------


def test_a_worker_without_room_works_and_its_head_is_made_safe_when_it_dies(progress: Path) -> None:
    path = progress.with_name(progress.name + NOTES)
    with no_file_larger_than(16):
        worker = HeadNotes(path, "tip-1")
    worker.state = HeadState.WORKING  # would be the end of a process that has mapped a file without room
    assert read_notes(path) is None
    assert are_missing(path)
    assert HeadSeat("tip-1", "stm-1", progress, 0.0).may_be_unsafe


@pytest.mark.parametrize(
    ("state", "unsafe"),
    [
        (None, False),
        (HeadState.UNTOUCHED, False),
        (HeadState.WORKING, True),
        (HeadState.SECURING, True),
        (HeadState.SAFE, False),
    ],
)
def test_what_a_worker_leaves_is_made_safe_where_it_may_not_be(
    progress: Path, state: HeadState | None, unsafe: bool
) -> None:
    if state is not None:
        HeadNotes(progress.with_name(progress.name + NOTES), "tip-1").state = state
    assert HeadSeat("tip-1", "stm-1", progress, 0.0).may_be_unsafe == unsafe


def test_a_log_that_cannot_be_put_aside_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "_LOG_BYTES", 100)
    log = tmp_path / "log"
    log.write_bytes(b"x" * 101)
    with no_file_larger_than(16):
        guardian._tidy(log)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert log.stat().st_size == 101
    guardian._tidy(log)
    assert log.stat().st_size == 0


# -- what a guardian makes of it ---------------------------------------------------------------------------------------


def test_a_head_that_has_stopped_and_works_again_is_not_late(progress: Path) -> None:
    """The order to work comes from the daemon to its worker; to the guardian perhaps later."""
    noting = HeadNotes(progress.with_name(progress.name + NOTES), "tip-1")
    noting.turn()
    noted = read_notes(progress.with_name(progress.name + NOTES))
    assert noted is not None
    now = noted.alive
    seat = HeadSeat("tip-1", progress.name, progress, now)
    seat.stopped_since = now - 10.0
    noting.state = HeadState.WORKING
    assert "is not safe after 10.0 s" in seat.fault(now, 60.0, now + 60.0)
    noting.state = HeadState.SAFE
    assert seat.fault(now, 60.0, now + 60.0) == ""
    noting.state = HeadState.WORKING
    assert seat.fault(now, 60.0, now + 60.0) == ""
