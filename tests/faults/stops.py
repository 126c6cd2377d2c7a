"""Processes that stand still, clocks that jump, and a machine that was asleep."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from helpers.waiting import PATIENCE, eventually

from faults.nursery import Nursery
from faults.preload import NoCompiler, Preload
from faults.site import OFTEN, ONCE, Site, pass_time
from faults.tally import Tally
from taskmaster.learners.client import connect

__all__ = ["asleep", "clocks", "daemons", "learners", "workers"]

#: Beyond this a worker that says nothing is lost: see `site`.
LOST_SECONDS = 2.0
#: What the service manager waits for a sign of life.
WATCHDOG_SECONDS = 0.5
HOUR, YEAR = 3600.0, 365.25 * 86400.0
JUMPS = (HOUR, -HOUR, 10 * YEAR, -10 * YEAR)


def learners(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """A learner, or somebody who only follows, stands still while others go on; then it is told everything."""
    chance = random.Random(seed)
    with Site(folder, nursery) as site:
        site.start()
        third = site.learn(OFTEN)
        third.await_told()
        follower = site.follow(site.learners[0])
        follower.await_told()
        for _ in range(times):
            stopped = chance.choice([*site.learners[1:], follower])
            stopped.is_excused = True
            assert stopped.child is not None
            stopped.child.send_signal(signal.SIGSTOP)
            goes_on = chance.choice([learner for learner in site.learners if learner is not stopped])
            goes_on.await_told(chance.randint(1, 10))
            stopped.child.send_signal(signal.SIGCONT)
            stopped.await_told()
            tally.injected += 1
        site.finish(tally)


def workers(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """A worker, or the host of one, stands still: shorter than it takes to be given up for lost, and longer."""
    chance = random.Random(seed)
    with Site(folder, nursery) as site:
        site.start()
        with site.connect() as lab:
            for _ in range(times):
                master = lab[chance.choice((OFTEN, ONCE))]
                known = eventually(lambda m=master: [w.pid for w in m.statistics().workers], "a worker")  # type: ignore[misc]
                pid = chance.choice([*known, *(host.pid for host in site.hosts)])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    pass_time(LOST_SECONDS * chance.choice((0.05, 0.2, 1.3)))
                    os.kill(pid, signal.SIGCONT)
                tally.injected += 1
                site.learners[0].await_told()
        site.await_progress()
        site.finish(tally)


def daemons(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """The daemon stands still; who watches over it hears no sign of life and has it end and begin anew."""
    chance = random.Random(seed)
    with Site(folder, nursery) as site:
        site.start()
        site.daemon.kill()
        for _ in range(times):
            site.daemon.start(WATCHDOG_USEC=str(round(WATCHDOG_SECONDS * 1e6)))
            site.await_progress()
            pass_time(chance.uniform(0, 0.1))
            site.daemon.signal(signal.SIGSTOP)
            if chance.random() < 0.3:  # not for long enough
                pass_time(WATCHDOG_SECONDS / 4)
                site.daemon.signal(signal.SIGCONT)
                site.await_progress()
                site.daemon.signal(signal.SIGSTOP)
            _await_silence(site)
            site.daemon.kill()
            tally.injected += 1
        site.daemon.start()
        site.finish(tally)


def _await_silence(site: Site) -> None:
    """As systemd does, wait until the watchdog has not been fed for its time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        site.daemon._drain_notes()
        site.daemon.notes.clear()
        pass_time(WATCHDOG_SECONDS)
        site.daemon._drain_notes()
        if "WATCHDOG=1" not in site.daemon.notes:
            return
    raise AssertionError("a daemon that stands still feeds its watchdog")


# -- the time of day ---------------------------------------------------------------------------------------------------


def _with_clock(folder: Path, tally: Tally, work: Callable[[Site, Preload], None]) -> None:
    try:
        preload = Preload(folder / "preload")
    except NoCompiler as error:
        tally.skipped = str(error)
        return
    with preload, Site(folder / "site", preload.nursery) as site:
        site.start()
        work(site, preload)
        preload.shift(0.0)
        site.finish(tally)


def clocks(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """The time of day jumps by an hour or ten years, forth and back; now and then the daemon starts anew in it."""
    chance = random.Random(seed)

    def jump(site: Site, preload: Preload) -> None:
        for _ in range(times):
            preload.shift(chance.choice(JUMPS))
            if chance.random() < 0.3:
                site.daemon.restart()
            site.await_progress(2)
            preload.shift(chance.choice((0.0, *JUMPS)))
            site.await_progress(2)
            tally.injected += 1
        preload.shift(0.0)
        site.daemon.restart()
        with connect(site.near) as lab:
            for _ in range(3):  # it looks once a second, and the first time it has nothing to compare with
                preload.shift(HOUR)
                pass_time(1.2)
                preload.shift(0.0)
            eventually(lambda: [a for a in lab.standing_alarms() if a.kind == "clock_jump"], "the jumps to be noticed")

    _with_clock(folder, tally, jump)


def asleep(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Everybody stands still, and wakes up when it is another day."""
    chance = random.Random(seed)

    def sleep(site: Site, preload: Preload) -> None:
        for night in range(1, times + 1):
            sessions = [site.daemon.pid, *(host.pid for host in site.hosts)]
            sleepers = [learner.child.pid for learner in site.learners if learner.child is not None]
            with connect(site.near) as lab:
                sleepers += [w.pid for master in (OFTEN, ONCE) for w in lab[master].statistics().workers]
            for pid in (*sessions, *sleepers):
                os.kill(pid, signal.SIGSTOP)
            preload.shift(night * 8 * HOUR)
            pass_time(chance.uniform(0.1, 0.5))
            for pid in chance.sample([*sessions, *sleepers], len(sessions) + len(sleepers)):
                os.kill(pid, signal.SIGCONT)
                pass_time(chance.choice((0.0, 0.02)))
            site.await_progress(2)
            tally.injected += 1

    _with_clock(folder, tally, sleep)
