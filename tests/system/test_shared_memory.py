"""Large blocks between the daemon and its workers are in memory that both have, whoever of them is killed when."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.daemon import EVALUATIONS, function, tcp
from helpers.dialled import Dialled
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE, eventually

from taskmaster.learners.client import Lab, Run

#: Numbers of an array: 4 MB.
SIZE = 1 << 19
PARAMETERS = {"array": {"shape": [SIZE]}, "seconds": {"min": 0}}
OUTPUTS = {"array": {"shape": [SIZE]}, "shared": {"kind": "bool"}}


def arrays(**keys: Any) -> dict[str, Any]:
    return function("doubled_array", parameters=PARAMETERS, outputs=OUTPUTS, max_attempts=20, **keys)


def put(run: Run, tasks: range, seconds: float = 0.0) -> None:
    """Tasks whose arrays are of their numbers."""
    for k in tasks:
        run.tasks.put({"array": np.full(SIZE, float(k)), "seconds": seconds})
    run.tasks.send()


def taken(run: Run, count: int, first: int = 0) -> set[int]:
    """So many results, each right and come once; of how many the input was shared."""
    seen: set[int] = set()
    shared = 0
    while len(seen) < count:
        result = run.results.get(PATIENCE)
        assert result.outcome == "done", result.error
        assert result.index not in seen
        seen.add(result.index)
        assert result.output["array"][0] == result.output["array"][-1] == 2.0 * (first + result.index)
        shared += result.output["shared"]
    return {shared}


def held(pid: int) -> int:
    """Bytes of segments that a process has: by their descriptors, or mapped."""
    sizes: dict[str, int] = {}
    for descriptor in _there(Path(f"/proc/{pid}/fd")):
        try:
            if "memfd:taskmaster" in str(descriptor.readlink()):
                status = descriptor.stat()
                sizes[str(status.st_ino)] = status.st_size
        except FileNotFoundError:
            continue
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "memfd:taskmaster" in line:
            span, *_, inode, _, _ = line.split()
            low, high = span.split("-")
            sizes[inode] = int(high, 16) - int(low, 16)
    return sum(sizes.values())


def _there(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def workers_of(lab: Lab, master: str) -> list[int]:
    return [worker.pid for worker in lab[master].statistics().workers]


def await_nothing_held(pids: list[int]) -> None:
    """But for a page each: what shows that it can be had."""
    eventually(lambda: all(held(pid) <= 4096 for pid in pids), "all segments to be let go of")


def test_arrays_go_both_ways_without_the_socket_and_nothing_is_kept(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"arrays": arrays(workers=2)})
    with daemon.connect() as lab, lab["arrays"].open() as run:
        put(run, range(12))
        assert taken(run, 12) == {12}, "each input was mapped, not copied"
        await_nothing_held([daemon.pid, *workers_of(lab, "arrays")])


@pytest.mark.parametrize("driver", ["thread", "instrument"])
def test_workers_of_other_drivers_share_memory_as_well(start_daemon: StartDaemon, driver: str) -> None:
    own: dict[str, Any] = {"class": "picturing:Camera", "path": [str(EVALUATIONS)], "heads": [{"name": "left"}]}
    if driver == "thread":
        own = {key: arrays()[key] for key in ("function", "path")}
    daemon = start_daemon({"arrays": {"driver": driver, "parameters": PARAMETERS, "outputs": OUTPUTS, **own}})
    with daemon.connect() as lab, lab["arrays"].open() as run:
        put(run, range(1))
        taken(run, 1)  # it may have come before the worker had shown that it can
        put(run, range(1, 4))
        assert taken(run, 3) == {3}
        [pid] = workers_of(lab, "arrays")
        assert held(pid) > SIZE, "an output's segment, to be used again"


def test_by_tcp_they_go_through_the_socket(start_daemon: StartDaemon) -> None:
    """The daemon's own workers come by a Unix socket in any case; those that dial in by tcp may be anywhere."""
    daemon = start_daemon({"arrays": arrays(workers=0)}, **tcp())
    with daemon.connect() as lab, Dialled(daemon.address, "arrays"), lab["arrays"].open() as run:
        put(run, range(4))
        assert taken(run, 4) == {0}


@pytest.mark.parametrize("seed", range(3))
def test_workers_are_killed_with_segments_in_flight(start_daemon: StartDaemon, seed: int) -> None:
    rng = random.Random(seed)
    daemon = start_daemon({"arrays": arrays(workers=2, restarts=100)})
    with daemon.connect() as lab, lab["arrays"].open() as run:
        put(run, range(24), seconds=0.02)
        for _ in range(6):
            pids = eventually(lambda: workers_of(lab, "arrays"), "a worker")
            time.sleep(rng.random() * 0.1)  # at any instant
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
        assert taken(run, 24) == {24}
        await_nothing_held([daemon.pid, *workers_of(lab, "arrays")])
        assert lab.status().dropped == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_daemon_is_killed_with_segments_in_flight(start_daemon: StartDaemon, seed: int) -> None:
    """Its own workers die with it; the kernel has what they had."""
    rng = random.Random(seed)
    daemon = start_daemon({"arrays": arrays(workers=2)}, durability="power")
    with daemon.connect() as lab, lab["arrays"].open("run") as run:
        put(run, range(16), seconds=0.02)
        run.flush()
        for _ in range(2):
            time.sleep(rng.random() * 0.2)  # at any instant
            daemon.kill()
            daemon.start()
        assert taken(run, 16) == {16}
        await_nothing_held([daemon.pid, *workers_of(lab, "arrays")])


def test_who_dialled_in_keeps_an_outcome_for_the_next_daemon(start_daemon: StartDaemon) -> None:
    """On the daemon's machine, by its Unix socket: what the next one cannot have taken goes to it all the same."""
    daemon = start_daemon({"arrays": arrays(workers=0)}, durability="power")
    with Dialled(daemon.address, "arrays"), daemon.connect() as lab, lab["arrays"].open("run") as run:
        put(run, range(3), seconds=0.5)
        run.flush()
        [pid] = eventually(lambda: workers_of(lab, "arrays"), "the worker")
        eventually(lambda: held(pid) > SIZE, "an input of its")
        daemon.kill()
        time.sleep(1.0)  # it ends what it is in
        daemon.start()
        assert taken(run, 3) == {3}
        assert workers_of(lab, "arrays") == [pid], "the same worker is back"
        await_nothing_held([daemon.pid, pid])


def test_what_came_by_shared_memory_is_on_disk_as_anything_else(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"arrays": arrays(workers=1)}, durability="power")
    with daemon.connect() as lab, lab["arrays"].open("run") as run:
        put(run, range(5))
        assert taken(run, 5) == {5}
    daemon.kill()
    daemon.start()
    with daemon.connect() as lab, lab["arrays"].watch("run") as again:
        results: dict[int, Any] = {}
        while len(results) < 5:
            result = again.results.get(PATIENCE)
            results[result.index] = result.output["array"]
    assert all((array == 2.0 * k).all() for k, array in results.items())
