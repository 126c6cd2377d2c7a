"""Upgrades and downgrades under load: older tables, and a newer journal that an older program must refuse."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path

from helpers.older import make_older

from faults.nursery import Nursery
from faults.site import Site, pass_time
from faults.tally import Tally
from taskmaster.daemon.journal import migrations
from taskmaster.daemon.journal.checksums import connect
from taskmaster.daemon.journal.schema import BEFORE

__all__ = ["upgrades"]


def upgrades(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally) -> None:
    """Under load: the journal becomes one of the release before, and is brought up to date; kills in the middle.

    Every other time it becomes one of a release to come, which this one refuses, unchanged.
    """
    chance = random.Random(seed)
    with Site(folder, nursery) as site:
        site.start()
        for k in range(times):
            site.await_progress()
            site.daemon.stop()
            if k % 2:
                _refuse_newer(site, tally)
            else:
                _upgrade(site, chance)
            site.await_progress()
            tally.injected += 1
        site.finish(tally)


def _upgrade(site: Site, chance: random.Random) -> None:
    make_older(site.daemon.state)
    for _ in range(chance.randrange(4)):
        site.daemon.launch()
        pass_time(chance.uniform(0, 0.15))
        site.daemon.kill()
    site.daemon.start()
    for kept in site.daemon.state.glob(f"{BEFORE}*"):
        shutil.rmtree(kept)


def _refuse_newer(site: Site, tally: Tally) -> None:
    path = site.daemon.state / "journal.db"
    _set_version(path, migrations.SCHEMA_VERSION + 1)
    before = path.read_bytes()
    site.daemon.launch()
    if site.daemon.wait() == 0 or "was written by a newer release" not in site.daemon.log:
        tally.complaints.append(f"a newer journal is not refused: {site.said()}")
    if path.read_bytes() != before:
        tally.complaints.append("a newer journal was changed")
    _set_version(path, migrations.SCHEMA_VERSION)
    site.daemon.start()


def _set_version(path: Path, version: int) -> None:
    with closing(connect(path, write=True)) as db:
        db.execute(f"PRAGMA user_version = {version}")
