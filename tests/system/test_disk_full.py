"""A full disk: submissions wait, results go on into the room kept back, and all goes on by itself when there is room.

The disk is a file system in memory, small enough to be filled in a moment; only root may mount one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.daemon.journal.check import report
from taskmaster.learners.client import Lab, Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")

DISK = 24 << 20
KEEP = 4 << 20

WORK = """
def grow(point):
    return "y" * point["size"]
"""


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A small disk, for the state directory of :func:`daemon`."""
    folder = place / "d" / "state"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "taskmaster-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def daemon(place: Path, disk: Path) -> Iterator[Daemon]:
    """A daemon whose Master ``grow`` returns strings as long as the point says."""
    (place / "growing.py").write_text(WORK)
    master = {"driver": "process", "function": "growing:grow", "path": [str(place)], "workers": 1}
    daemon = Daemon(place / "d", {"grow": master}, keep_free=KEEP)
    try:
        yield daemon.start()
    finally:
        daemon.close()
        print(daemon.log)


class Filler:
    """Another program that takes all the room there is."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "another program's"
        self._disk = disk

    def fill(self, leaving: int = 0) -> None:
        free = os.statvfs(self._disk).f_bavail * os.statvfs(self._disk).f_frsize
        with self._path.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free - leaving)

    def give_back(self) -> None:
        self._path.unlink()


def points(n: int, size: int, text: str = "") -> list[dict[str, Any]]:
    return [{"i": i, "size": size, "text": text} for i in range(n)]


def is_full(lab: Lab) -> bool:
    return lab.status().journal.state == "full"


def take(run: Run, n: int) -> list[int]:
    """The indices of the next ``n`` results, each of which is what it should be."""
    indices = []
    for _ in range(n):
        result = run.results.get(timeout=PATIENCE)
        assert result.output == "y" * result.input["size"]
        indices.append(result.index)
    return indices


def test_results_are_taken_while_submissions_wait(daemon: Daemon, disk: Path) -> None:
    """Another program fills the disk; what was acknowledged ends, what is put waits, and goes on by itself."""
    filler = Filler(disk)
    with daemon.connect() as lab:
        grow = lab["grow"]
        run = grow.open("run")
        eventually(lambda: grow.slots, "its worker is there")
        grow.pause()
        run.tasks.put_many(points(100, size=30_000))
        run.flush()

        filler.fill()
        eventually(lambda: is_full(lab), "the daemon notices")
        assert run.tasks.put({"i": 100, "size": 1}) == 100
        with pytest.raises(DaemonUnreachable, match="no acknowledgement of"):
            run.flush(1.0)

        grow.resume()
        assert sorted(take(run, 100)) == list(range(100)), "three megabytes of results, though there is no room"

        filler.give_back()
        run.flush(PATIENCE)
        assert take(run, 1) == [100], "without anybody having put it again"
        eventually(lambda: not is_full(lab), "the room for results is kept back again")
    daemon.stop()
    assert report(disk).ok


def test_submissions_leave_the_room_for_results_alone(daemon: Daemon, disk: Path) -> None:
    """A learner that puts more than there is room for waits until a run that nobody needs is deleted."""
    with daemon.connect() as lab:
        old = lab["grow"].open("old")
        old.tasks.put_many(points(20, size=1, text="x" * 250_000))
        assert len(list(old.results)) == 20
        number = next(info.run for info in lab.runs() if info.name == "old")
        old.close()

        run = lab["grow"].open("new")
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        count = free // 250_000 + 5  # more than fit, and fewer than will when the other twenty are gone
        for i in range(count):
            run.tasks.put_many([{"i": i, "size": 100, "text": "x" * 250_000}])
        with pytest.raises(DaemonUnreachable, match="no acknowledgement of"):
            run.flush(2.0)
        assert (disk / "reserve").stat().st_blocks * 512 >= KEEP, "it is still there"
        eventually(lambda: run.next_index - run.open_tasks >= run._core.acknowledged, "what was taken has ended")

        lab.delete_run(number)
        run.flush(PATIENCE)
        assert sorted(result.index for result in run.results) == list(range(count))
    daemon.stop()
    assert report(disk).ok


def test_a_daemon_that_is_started_on_a_full_disk_takes_results(daemon: Daemon, disk: Path) -> None:
    """It was killed while the disk was full: what was kept back lets it come up, and end what was acknowledged."""
    filler = Filler(disk)
    with daemon.connect() as lab:
        grow = lab["grow"]
        run = grow.open("run")
        eventually(lambda: grow.slots, "its worker is there")
        grow.pause()
        run.tasks.put_many(points(50, size=30_000))
        run.flush()
        filler.fill()
        eventually(lambda: is_full(lab), "the daemon notices")
        daemon.restart()
        assert is_full(lab)
        assert run.tasks.put({"i": 50, "size": 1}) == 50
        grow.resume()
        assert sorted(take(run, 50)) == list(range(50))
        filler.give_back()
        assert take(run, 1) == [50]
    daemon.stop()
    assert report(disk).ok


def test_nothing_is_lost_when_even_the_reserve_is_used_up(daemon: Daemon, disk: Path) -> None:
    """More results than there is room for: the daemon waits, is killed meanwhile, and has all of them in the end."""
    filler = Filler(disk)
    with daemon.connect() as lab:
        grow = lab["grow"]
        run = grow.open("run")
        eventually(lambda: grow.slots, "its worker is there")
        grow.pause()
        run.tasks.put_many(points(300, size=40_000))
        run.flush()
        filler.fill()
        eventually(lambda: is_full(lab), "the daemon notices")
        grow.resume()
        eventually(lambda: "waits for room" in daemon.log, "twelve megabytes are too much")
        daemon.kill()
        filler.give_back()
        daemon.start()
        assert sorted(take(run, 300)) == list(range(300)), "each of them, once"
    daemon.stop()
    assert report(disk).ok


def test_a_daemon_that_waits_for_room_is_not_taken_for_one_that_hangs(daemon: Daemon, disk: Path) -> None:
    """Another start of it would find no more room, so the watchdog is fed; and it says what it waits for."""
    daemon.stop()
    daemon.start(WATCHDOG_USEC="400000")
    filler = Filler(disk)
    with daemon.connect() as lab:
        grow = lab["grow"]
        run = grow.open("run")
        eventually(lambda: grow.slots, "its worker is there")
        grow.pause()
        run.tasks.put_many(points(300, size=40_000))
        run.flush()
        filler.fill()
        grow.resume()
        eventually(lambda: "waits for room" in daemon.log, "twelve megabytes are too much")
        daemon.await_note(f"STATUS=waiting for room on the disk of {disk}")
        for _ in range(3):
            daemon.notes.clear()
            daemon.await_note("WATCHDOG=1")
        filler.give_back()
        assert sorted(take(run, 300)) == list(range(300)), "it went on by itself"
