"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import islice

# Before numpy is: OpenBLAS's threads wait for each other by spinning, which takes ten times as long on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples each time: what fails fails for everybody. TASKMASTER_EXPLORE=1 looks for others.
# How long one takes says how busy the machine is, no more.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", print_blob=True, deadline=None)
settings.load_profile("exploring" if os.environ.get("TASKMASTER_EXPLORE") else "repeatable")

# A shell starts what runs in its background deaf to Ctrl-C, and so would be whatever is tested with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a device where there is none, with the reason."""
    if item.get_closest_marker("gpu") is not None:
        from helpers.devices_there import NO_DEVICE

        if NO_DEVICE:
            pytest.skip(f"no GPU: {NO_DEVICE}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests go first, a share of them at the head of what each process begins with.

    Else one of the processes has several of them left, one after the other, when all else is done.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    items[:] = [item for share in range(processes) for item in _part(share, processes, slow, quick, len(items))]


def _part(
    share: int, processes: int, slow: list[pytest.Item], quick: Iterator[pytest.Item], total: int
) -> list[pytest.Item]:
    """What one of the processes begins with: as many tests as each of the others."""
    first = slow[share::processes]
    size = total // processes if share < processes - 1 else total
    return first + list(islice(quick, size - len(first)))
