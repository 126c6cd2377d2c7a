"""Processes that are killed: the daemon, its workers, learners."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

from helpers.mortal_daemon import POINTS
from helpers.waiting import eventually

from faults.nursery import Nursery
from faults.site import OFTEN, ONCE, Site, pass_time
from faults.tally import Tally
from taskmaster.learners.client import Master

__all__ = ["clients", "daemon_at_points", "daemon_at_random", "workers"]

#: Points of a daemon's life that only special tasks bring about, see `system/test_kill_daemon.py`.
_RARE = ("in a payload file", "after a payload file", "before a checkpoint", "after a checkpoint", "after a page")


def daemon_at_random(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """At work, on its way down, on its way up; with workers that outlive it, and now and then with its own."""
    chance = random.Random(seed)
    own = max(1, times // 8)
    for dialled, kills in ((True, times - own), (False, own)):
        with Site(folder / f"dialled-{dialled}", nursery, dialled=dialled) as site:
            site.start()
            for _ in range(kills):
                _kill_at_random(site, chance)
                tally.injected += 1
            site.finish(tally)


def _kill_at_random(site: Site, chance: random.Random) -> None:
    moment, daemon = chance.random(), site.daemon
    if moment < 0.75:  # at work
        chance.choice(site.learners).await_told(chance.randint(1, 4))
        pass_time(chance.uniform(0, 0.03))
    elif moment < 0.9:  # on its way down
        site.learners[0].await_told()
        daemon.signal(signal.SIGTERM)
        pass_time(chance.uniform(0, 0.03))
    daemon.kill()
    if moment >= 0.9:  # on its way up
        daemon.launch()
        pass_time(chance.uniform(0, 0.15))
        daemon.kill()
    daemon.start()


def daemon_at_points(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Before, in and after a commit, and after what is sent then: it kills itself there."""
    chance = random.Random(seed)
    points = [point for point in POINTS if point not in _RARE]
    with Site(folder, nursery) as site:
        site.start()
        site.daemon.kill()
        for k in range(times):
            point = points[k % len(points)]
            often = chance.randint(1, 12) if point not in ("while it restores", "after a run was opened") else 1
            site.daemon.launch(program="helpers.mortal_daemon:main", MORTAL=f"{point}:{often}")
            if point == "after a run was opened":
                _open_one(site, k)
            assert site.daemon.wait() == -signal.SIGKILL, f"it never came to {point}: {site.said()}"
            tally.injected += 1
        site.daemon.start()
        site.finish(tally)


def _open_one(site: Site, number: int) -> None:
    learner = site.learners[0]
    learner.kill()  # the next incarnation opens the run again
    learner.start()


def workers(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """The daemon's own; and a few of a host elsewhere, which does not hear of outcomes and replaces them ever later."""
    chance = random.Random(seed)
    dialled_in = max(1, times // 40)
    for dialled, kills in ((True, dialled_in), (False, times - dialled_in)):
        with Site(folder / f"dialled-{dialled}", nursery, dialled=dialled) as site:
            site.start()
            with site.connect() as lab:
                dead: set[int] = set()
                for _ in range(kills):
                    _kill_worker(lab[chance.choice((OFTEN, ONCE))], chance, dead)
                    tally.injected += 1
            site.await_progress()
            site.finish(tally)


def _kill_worker(master: Master, chance: random.Random, dead: set[int]) -> None:
    victim = chance.choice(
        eventually(lambda: [w.pid for w in master.statistics().workers if w.pid not in dead], "a worker")
    )
    pass_time(chance.uniform(0, 0.02))
    dead.add(victim)
    with contextlib.suppress(ProcessLookupError):  # it may have been held for lost, and ended
        os.kill(victim, signal.SIGKILL)


def clients(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Each goes on with its run under its name, and is told everything from the beginning."""
    chance = random.Random(seed)
    with Site(folder, nursery) as site:
        site.start()
        for _ in range(times):
            learner = chance.choice(site.learners)
            learner.await_told(chance.randint(1, 3))
            pass_time(chance.uniform(0, 0.02))
            learner.kill()
            learner.start()
            tally.injected += 1
        site.await_progress()
        site.finish(tally)
