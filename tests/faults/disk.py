"""Disks that fail and fill up, and a daemon that may open no more files."""

from __future__ import annotations

import contextlib
import errno
import random
import resource
import socket
from pathlib import Path

from helpers.disks import SmallDisk, small_disk
from helpers.waiting import PATIENCE, eventually

from faults.learner import BULK
from faults.nursery import Nursery
from faults.preload import KINDS, NoCompiler, Preload
from faults.site import OFTEN, ONCE, Site, pass_time
from faults.tally import Tally

__all__ = ["descriptors", "errors", "full"]

#: The calls of a commit that may fail, and how.
_WAYS = [
    (kinds, error, sticky)
    for kinds in ("write", "sync", "open", "truncate", "rename", "unlink")
    for error in (errno.EIO, errno.ENOSPC)
    for sticky in (False, True)
]
#: Calls of a kind among which the failing one is: more than a commit makes of any.
_DEEP = 24


def errors(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Each call that a daemon makes to its files at work and at its start, in turn: once, or until somebody helps.

    A daemon whose disk fails ends without having promised anything more; one whose disk is full waits for room.
    """
    try:
        preload = Preload(folder / "preload")
    except NoCompiler as lacking:
        tally.skipped = str(lacking)
        return
    chance = random.Random(seed)
    with preload, Site(folder / "site", preload.nursery, bulk=True) as site:
        site.program = "faults.programs:tidy_daemon"
        site.start(OFTEN, ONCE, BULK)
        for k in range(3 * times):
            kinds, error, sticky = _WAYS[k % len(_WAYS)]
            nth = 1 + (k // len(_WAYS)) % _DEEP
            if chance.random() < 0.25:
                tally.injected += _fail_at_start(site, preload, KINDS[kinds], error, nth)
            else:
                tally.injected += _fail_at_work(site, preload, KINDS[kinds], error, nth, sticky=sticky)
            if tally.injected >= times:
                break
        site.finish(tally)


def _fail_at_work(site: Site, preload: Preload, kinds: int, error: int, nth: int, *, sticky: bool) -> bool:
    preload.fail(site.daemon.state, kinds, error, nth, pid=site.daemon.pid, sticky=sticky)
    with contextlib.suppress(AssertionError):  # some calls are made by few commits
        eventually(lambda: preload.failed or not site.daemon.is_running, "the call to fail", 0.5)
    pass_time(0.02)
    has_failed = preload.failed > 0
    preload.relent()
    _go_on(site)
    return has_failed


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
