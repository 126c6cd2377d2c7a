"""Disks that fail and fill up, and a daemon that may open no more files."""

from __future__ import annotations

import contextlib
import errno
import random
import resource
import shutil
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.disks import SmallDisk, small_disk
from helpers.waiting import PATIENCE, eventually

from faults.evidence import on_record
from faults.learner import BULK
from faults.nursery import Nursery
from faults.preload import KINDS, NoCompiler, Preload
from faults.site import OFTEN, ONCE, Site, pass_time
from faults.tally import Tally

__all__ = ["descriptors", "errors", "full"]

#: So many calls of a kind a large commit makes; half of all commits make at most five writes.
_OF_A_COMMIT = {"write": 44, "sync": 4, "open": 3, "truncate": 1, "rename": 1}
#: So many a start makes, about.
_OF_A_START = {"write": 8, "sync": 4, "open": 8, "truncate": 2, "unlink": 1}
#: Of so many failures one is at a start.
_STARTS = 8
#: Kinds whose failure (but for lack of room) no daemon may live through: what is on disk is not known any more.
_FATAL = ("write", "sync")
#: Seconds between two large blocks, which make for the largest commits.
_BULK_PACE = 0.8
#: Seconds for which a call is awaited; one that was not made meanwhile has its turn again later.
_WAIT = 2.0


@dataclass(frozen=True)
class _Failure:
    """The ``nth`` call of a kind in a commit fails: it alone, or all from there on."""

    kind: str
    error: int
    nth: int
    sticky: bool

    @property
    def is_fatal(self) -> bool:
        return self.kind in _FATAL and self.error == errno.EIO


def _failures(seed: int) -> Iterator[_Failure]:
    """Each call of a commit once with EIO, and every other with ENOSPC: the others in the next round."""
    for kind, most in _OF_A_COMMIT.items():
        for nth in range(1, most + 1):
            yield _Failure(kind, errno.EIO, nth, sticky=(nth + seed) % 2 == 0)
            if most == 1 or (nth + seed) % 2:
                yield _Failure(kind, errno.ENOSPC, nth, sticky=(nth + seed) % 4 < 2)


def errors(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Each call that a daemon makes to its files in a commit, and some at its start: once, or until somebody helps.

    A daemon whose disk fails ends without having promised anything more; one whose disk is full waits for room.
    """
    try:
        preload = Preload(folder / "preload")
    except NoCompiler as lacking:
        tally.skipped = str(lacking)
        return
    chance = random.Random(seed)
    due: deque[_Failure] = deque()
    with preload, Site(folder / "site", preload.nursery, bulk=True) as site:
        site.program = "faults.programs:tidy_daemon"
        preload.watch(site.daemon.state)
        site.start(OFTEN, ONCE)
        site.host(BULK)
        site.learn(BULK, pace=_BULK_PACE).await_told()
        for k in range(10 * times):
            if not due:
                due.extend(chance.sample(every := list(_failures(seed)), len(every)))
            if k % _STARTS == 0:
                kind, most = chance.choice(list(_OF_A_START.items()))
                error = chance.choice((errno.EIO, errno.ENOSPC))
                tally.injected += _fail_at_start(site, preload, KINDS[kind], error, chance.randint(1, most))
                continue
            failure = due.popleft()
            if _fail_at_work(site, preload, failure):
                tally.injected += 1
            else:
                due.append(failure)
            if tally.injected >= times:
                break
        site.finish(tally)


def _fail_at_work(site: Site, preload: Preload, failure: _Failure) -> bool:
    state, pid, said = site.daemon.state, site.daemon.pid, len(site.daemon.log)
    preload.fail(state, KINDS[failure.kind], failure.error, failure.nth, pid=pid, sticky=failure.sticky, of_commit=True)
    _await_failure(site, preload, large=failure.kind == "write" and failure.nth > 12)
    has_failed = preload.failed > 0
    if has_failed and failure.is_fatal:
        _demand_end(site, failure, said)
    preload.relent()
    _go_on(site)
    return has_failed


def _await_failure(site: Site, preload: Preload, *, large: bool) -> None:
    """Wait until the call has failed, if it is made at all; what is ``large`` is what has gathered for a while."""

    def there() -> bool:
        if large and not preload.failed and site.daemon.is_running:
            site.daemon.signal(signal.SIGSTOP)
            pass_time(0.1)
            site.daemon.signal(signal.SIGCONT)
            pass_time(0.05)
        return preload.failed > 0 or not site.daemon.is_running

    with contextlib.suppress(AssertionError):  # some calls are made by few commits
        eventually(there, "the call to fail", _WAIT)
    pass_time(0.02)


def _demand_end(site: Site, failure: _Failure, said: int) -> None:
    """A daemon whose disk has failed ends, with an error that names the file; what it had promised is on disk.

    ``said``: how long its log was before. Raises AssertionError.
    """
    what = f"after {errno.errorcode[failure.error]} at {failure.kind} {failure.nth} of a commit"
    try:
        status = site.daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{what} the daemon lives on\n{site.said()}") from None
    assert status > 0, f"{what} the daemon ended with status {status}\n{site.said()}"
    last = site.daemon.log[said:]
    journal = f"the journal {site.daemon.state / 'journal.db'} could not be "
    assert journal in last, f"{what} the daemon ended without naming its journal:\n{last}"
    _demand_promises_on_disk(site, what)


def _demand_promises_on_disk(site: Site, what: str) -> None:
    """Whatever was acknowledged is in the journal as the daemon has left it, before anybody sends it again."""
    copy = site.folder / "left"
    copy.mkdir(exist_ok=True)
    acknowledged = [learner.acknowledged for learner in site.learners]
    for name in ("journal.db", "journal.db-wal"):  # whoever reads a journal may tidy it up
        shutil.copy(site.daemon.state / name, copy)
    for learner, promised in zip(site.learners, acknowledged):
        there = on_record(copy, learner.master, learner.run)
        assert promised <= there, (
            f"{what} {learner.run} of {learner.master} had been promised {promised} tasks, of which {there} are on disk"
        )
    shutil.rmtree(copy)


def _fail_at_start(site: Site, preload: Preload, kinds: int, error: int, nth: int) -> bool:
    site.daemon.kill()
    preload.fail(site.daemon.state, kinds, error, nth, pid=0)
    site.daemon.launch(program=site.program)
    with contextlib.suppress(AssertionError):
        site.daemon.await_note("READY=1", PATIENCE)
    has_failed = preload.failed > 0
    preload.relent()
    _go_on(site)
    return has_failed


def _go_on(site: Site, learner: int = 0) -> None:
    """Start the daemon again if it has ended, or ends now; wait until a learner is told something more."""
    told = site.learners[learner].told

    def goes_on() -> bool:
        if not site.daemon.is_running:
            site.daemon.launch(program=site.program)
            site.daemon.await_note("READY=1")
        return site.learners[learner].told > told + 1

    eventually(goes_on, "it to go on")


def full(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Another program fills the disk, to the last byte or nearly; now and then the daemon is killed meanwhile."""
    chance = random.Random(seed)
    with Site(folder / "site", nursery, bulk=True, keep_free="2 MB") as site:
        try:
            with small_disk(site.daemon.state, 256 << 20) as disk:
                site.start(OFTEN, ONCE, BULK)
                for _ in range(times):
                    _fill(site, disk, chance)
                    tally.injected += 1
                site.finish(tally)
        except OSError as error:
            tally.skipped = str(error)


def _fill(site: Site, disk: SmallDisk, chance: random.Random) -> None:
    with contextlib.suppress(OSError):  # the daemon was quicker to take what was left
        disk.leave(chance.choice((0, 0, 8192, 100_000)))
    pass_time(chance.uniform(0.05, 0.4))
    if chance.random() < 0.3:
        site.daemon.kill()
        disk.leave(16 << 20)
        site.daemon.start()
    disk.leave(128 << 20)
    site.learners[0].await_told(2)


def descriptors(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Connections that say nothing take all files that a daemon may have open, and go again."""
    chance = random.Random(seed)
    with Site(folder / "site", nursery, bulk=True) as site:
        site.start(OFTEN, ONCE, BULK)
        for _ in range(times):
            pid = site.daemon.pid
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (site.daemon.descriptors + chance.randint(0, 8), hard))
            with contextlib.ExitStack() as stack:
                for _ in range(40):
                    connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError, OSError):
                        connection.connect(str(site.daemon.state / "control"))
                pass_time(chance.uniform(0.1, 0.4))
            if site.daemon.is_running:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
            _go_on(site)
            tally.injected += 1
        site.finish(tally)
