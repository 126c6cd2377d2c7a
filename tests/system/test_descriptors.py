"""What waits in a queue, or is read back, costs no open files: a daemon gets along with few."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers.daemon import Daemon, function
from helpers.waiting import PATIENCE

#: Open files that the daemon may have.
FEW = 256
#: Blocks that are waiting, each too large for a row of the journal and to be joined with others; and their numbers.
BLOCKS, NUMBERS = 300, 33_000

_LIMITED = (
    "import resource, runpy; "
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {FEW})); "
    "runpy.run_module('taskmaster.daemon', run_name='__main__', alter_sys=True)"
)


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    with ExitStack() as stack:
        daemon = Daemon(place / "d", {"echo": function("echo")})
        stack.callback(daemon.close)
        stack.callback(lambda: print(daemon.log))
        yield daemon


def start_with_few_files(daemon: Daemon) -> None:
    daemon.launch(program=("-c", _LIMITED))
    daemon.await_note("READY=1")


def test_more_large_blocks_may_wait_than_files_may_be_open(daemon: Daemon) -> None:
    blocks = [np.full(NUMBERS, float(k)) for k in range(BLOCKS)]
    start_with_few_files(daemon)
    with daemon.connect() as lab:
        run = lab["echo"].open("large")
        run.pause()
        for block in blocks:
            run.tasks.put_many([block])
        run.flush(PATIENCE)
        assert daemon.descriptors < FEW / 2
    daemon.kill()
    start_with_few_files(daemon)
    with daemon.connect() as lab:
        run = lab["echo"].open("large")
        run.resume()
        firsts = {result.index: (result.input[0], result.output[-1]) for result in run.results}
        assert firsts == {k: (float(k), float(k)) for k in range(BLOCKS)}
        assert daemon.descriptors < FEW / 2


def test_a_daemon_takes_as_many_files_as_the_system_grants(daemon: Daemon) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] == resource.RLIM_INFINITY or before[1] > FEW
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, before[1]))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (before[1], before[1])
