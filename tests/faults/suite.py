"""The fault suite's command line: inject every fault so many times, judge, and print one table."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from faults import damage, disk, guided, hostile, keys, kills, network, power, roles, stops, versions
from faults.nursery import Nursery
from faults.tally import Tally, table

__all__ = ["FAULTS", "Fault", "inject", "main"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and who brings it about."""

    name: str
    #: injects it so many times below a folder, with a nursery and a seed, and counts
    inject: Callable[[Path, Nursery, int, int, Tally], None]
    #: how often in CI
    times: int
    #: about so many seconds that takes
    seconds: float = 8.0
    #: no learner may hear nothing for so long, in seconds
    patience: float = 30.0


#: In the order of the table; those that take longest are begun first, see :func:`_rounds`.
FAULTS = (
    Fault("daemon SIGKILL at random", kills.daemon_at_random, 120, 30.0),
    Fault("daemon SIGKILL at named points", kills.daemon_at_points, 80, 30.0),
    Fault("worker SIGKILL", kills.workers, 200, 75.0),
    Fault("client SIGKILL and resume", kills.clients, 50),
    Fault("power cut", power.cuts, 500, 60.0),
    Fault("journal damaged", damage.places, 660, 41.0),
    Fault("I/O error of a write, sync, open, …", disk.errors, 96, 75.0),
    Fault("disk full", disk.full, 15, 20.0),
    Fault("no file descriptors left", disk.descriptors, 10),
    Fault("learner SIGSTOPped", stops.learners, 20),
    Fault("worker SIGSTOPped", stops.workers, 12, 15.0),
    Fault("daemon SIGSTOPped, watchdog", stops.daemons, 8, 15.0),
    Fault("network cut, one way, slow, silent, lossy", network.storms, 100, 32.0),
    Fault("keys wrong, revoked, expired, swapped", keys.strangers, 40, 20.0),
    Fault("ciphertext played again", keys.replayed, 50),
    Fault("authenticator dead", keys.dead_authenticator, 2),
    Fault("role × verb × Master", roles.cells, 1),
    Fault("handshakes half-open", hostile.half_open, 300),
    Fault("endless multipart, giants, floods", hostile.floods, 16),
    Fault("10,000 idle peers and 100 hostile", hostile.crowded, 1, 60.0),
    Fault("protocol fuzzing", hostile.fuzz, 500_000, 60.0),
    Fault("protocol fuzzing, guided by coverage", guided.guided, 500_000, 90.0),
    Fault("upgrade, downgrade", versions.upgrades, 12),
    Fault("clock jumps ±1 h, ±10 years", stops.clocks, 20, 12.0),
    Fault("machine suspended", stops.asleep, 10),
)


def inject(fault: Fault, times: int, seed: int) -> Tally:
    """Inject it in this process; what does not come to an end is a complaint."""
    logging.disable(logging.WARNING)  # what the suite's own clients notice
    tally = Tally(fault.name, patience=fault.patience)
    with _short_folder() as folder:
        try:
            with Nursery() as nursery:
                fault.inject(folder, nursery, times, seed, tally)
        except Exception:  # noqa: BLE001 - a fault that breaks the suite is no reason to keep silent about the others
            tally.complaints.append(f"seed {seed}: {traceback.format_exc()}")
    if tally.injected < times and not tally.skipped:
        tally.complaints.append(f"seed {seed}: injected {tally.injected} times, not {times}")
    return tally


@contextmanager
def _short_folder() -> Iterator[Path]:
    """Where nothing is a disk's business but what is synced, and paths are short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="tm-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _chosen(names: Sequence[str]) -> list[Fault]:
    found = [fault for fault in FAULTS if not names or any(name in fault.name for name in names)]
    if not found:
        raise SystemExit(f"no fault is called {' or '.join(names)}; there are: {', '.join(f.name for f in FAULTS)}")
    return found


def _rounds(
    faults: Sequence[Fault], times: float, seed: int, minutes: float | None, jobs: int
) -> Iterator[tuple[Fault, Tally, float]]:
    """Every fault once, and over and over until the time is up."""
    until = time.monotonic() + 60 * (minutes or 0)
    while True:
        # Fresh processes: whoever is forked from one that has threads is not to be trusted.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            began = {}
            futures: dict[Future[Tally], Fault] = {}
            for fault in sorted(faults, key=lambda fault: -fault.seconds):
                future = pool.submit(inject, fault, max(1, round(fault.times * times)), seed)
                futures[future] = fault
                began[future] = time.monotonic()
            for future in as_completed(futures):
                yield futures[future], future.result(), time.monotonic() - began[future]
        seed += 1
        if time.monotonic() >= until:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, help="begin further rounds until so many have passed (default: one)")
    parser.add_argument("--times", type=float, default=1.0, help="multiplies how often each is injected (default: 1)")
    parser.add_argument("--only", action="append", default=[], help="faults with this in their name")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default: 0)")
    parser.add_argument("--jobs", type=int, default=3, help="faults at a time (default: 3)")
    options = parser.parse_args(arguments)
    faults = _chosen(options.only)
    sums = {fault.name: Tally(fault.name, patience=fault.patience) for fault in faults}
    began = time.monotonic()
    for fault, tally, _ in _rounds(faults, options.times, options.seed, options.minutes, options.jobs):
        sums[fault.name].merge(tally)
        print(f"{time.monotonic() - began:6.0f} s  {' | '.join(tally.cells)}", file=sys.stderr, flush=True)
        for complaint in tally.complaints[:10]:
            print(f"          {complaint}", file=sys.stderr, flush=True)
    print(table(list(sums.values())))
    return 0 if all(tally.is_good for tally in sums.values()) else 1
