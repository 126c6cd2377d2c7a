"""Entries of systemd's journal: a socket of the test's own stands in for it."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskmaster.cli import journald
from taskmaster.cli.journald import FIELDS, JournalHandler


class Journal:
    """Reads what arrives as journald would."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def entry(self) -> dict[str, str]:
        data, found = self.socket.recv(1 << 20), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                [length] = struct.unpack_from("<Q", data)
                value, data = data[8 : 8 + length], data[8 + length + 1 :]
            found[name.decode()] = value.decode()
        return found


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "socket")
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.socket.close()


@pytest.fixture
def log(journal: Journal) -> Iterator[logging.Logger]:
    handler = JournalHandler("taskmaster")
    log = logging.Logger("taskmaster.supervision")
    log.addHandler(handler)
    yield log
    handler.close()


def test_a_record_is_one_entry_with_all_fields(journal: Journal, log: logging.Logger) -> None:
    log.warning("Master %r: worker process 7 was killed", "svm")
    entry = journal.entry()
    assert list(entry) == list(FIELDS)
    assert entry["MESSAGE"] == "Master 'svm': worker process 7 was killed"
    assert (entry["PRIORITY"], entry["TASKMASTER_MASTER"], entry["TASKMASTER_LOGGER"]) == ("4", "svm", "supervision")
    assert entry["CODE_FUNC"] == "test_a_record_is_one_entry_with_all_fields"

    log.info("the guardian of Master %r has ended", "stm")
    assert journal.entry()["TASKMASTER_MASTER"] == "stm", "wherever it is named"
    log.info("nothing of any")
    assert "TASKMASTER_MASTER" not in journal.entry()


def test_lines_of_a_traceback_stay_together(journal: Journal, log: logging.Logger) -> None:
    try:
        raise ValueError("odd\n= sign")
    except ValueError:
        log.exception("broken")
    message = journal.entry()["MESSAGE"]
    assert message.startswith("broken\nTraceback (most recent call last):\n")
    assert message.endswith("ValueError: odd\n= sign")


def test_what_is_too_long_for_an_entry_is_cut(journal: Journal, log: logging.Logger) -> None:
    log.info("x" * 1_000_000)
    assert 10_000 < len(journal.entry()["MESSAGE"]) < 1_000_000


def test_a_journal_that_takes_nothing_holds_nobody_up(journal: Journal, log: logging.Logger) -> None:
    for _ in range(10_000):
        log.info("x" * 1000)
    while True:
        try:
            assert set(journal.entry()["MESSAGE"]) == {"x"}
        except BlockingIOError:
            break
    log.info("again")
    said = journal.entry()["MESSAGE"]
    assert said.startswith("again (")
    assert said.endswith(" entries before this one were lost: the journal did not take them)")


def test_without_a_journal_there_is_no_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        JournalHandler("taskmaster")
