"""What a host makes of its workers: how one ended, whether it hangs, what it is in. The workers are real processes."""

from __future__ import annotations

import itertools
import math
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.waiting import all_ended

from taskmaster.bus import messages as m
from taskmaster.bus.messages import Interrupt
from taskmaster.bus.wire import MOST_TOKENS
from taskmaster.drivers.host import CANCELLED, INTERRUPT_SECONDS, HostedWorker, Interrupts
from taskmaster.drivers.hosting import in_lots
from taskmaster.drivers.progress import STARTED, ProgressReader, ProgressWriter
from taskmaster.drivers.worker import EXIT_GOODBYE, EXIT_REFUSED, EXIT_UNUSABLE

Start = Callable[..., HostedWorker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(program)``: a process in place of a worker; it waits unless told otherwise."""
    numbers, workers = itertools.count(), []

    def start(*program: str) -> HostedWorker:
        process = subprocess.Popen(program or ("sleep", "1000"), start_new_session=True)
        token = f"worker-{next(numbers)}"
        workers.append(HostedWorker(process, token, ProgressReader(tmp_path / token), 0.0))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.bury()


def ended(worker: HostedWorker) -> HostedWorker:
    assert all_ended([worker.pidfd])
    return worker


def exits(status: int) -> tuple[str, ...]:
    return (sys.executable, "-SIc", f"import os; os._exit({status})")


@pytest.mark.parametrize(
    ("status", "as_agreed"), [(EXIT_GOODBYE, True), (EXIT_UNUSABLE, False), (EXIT_REFUSED, False), (1, False)]
)
def test_a_worker_that_ends_by_itself(start: Start, status: int, as_agreed: bool) -> None:
    worker = ended(start(*exits(status)))
    assert worker.exit_status == status
    assert worker.epitaph() == ("WorkerLost", f"worker process {worker.pid} ended with status {status}")
    assert worker.left_as_agreed == as_agreed


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "SIGKILL; out of memory?"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 3, "signal 37")],
)
def test_a_worker_that_is_killed_by_somebody_else(start: Start, number: int, said: str) -> None:
    worker = start()
    assert worker.exit_status is None
    assert not select.select([worker.pidfd], [], [], 0)[0]
    worker.process.send_signal(number)
    ended(worker)
    assert worker.epitaph() == ("WorkerLost", f"worker process {worker.pid} was killed by {said}")
    assert not worker.left_as_agreed


def test_a_worker_that_is_killed_by_its_host(start: Start) -> None:
    worker = start()
    worker.kill("TaskTimeout", "no outcome after 3 s")
    worker.kill("WorkerLost", "an afterthought")
    ended(worker)
    assert worker.epitaph() == ("TaskTimeout", "no outcome after 3 s")
    assert not worker.left_as_agreed
    late = ended(start(*exits(EXIT_GOODBYE)))
    late.kill("TaskTimeout", "it was too late for that")
    assert not late.left_as_agreed, "it has no say any more"


def test_a_worker_that_is_told_to_go_before_it_listens_has_gone_as_agreed(start: Start) -> None:
    worker = start()
    worker.terminate()
    assert ended(worker).exit_status == -signal.SIGTERM
    assert worker.left_as_agreed
    other = start()
    other.process.terminate()
    assert not ended(other).left_as_agreed, "by whom?"


def noted(worker: HostedWorker, tmp_path: Path) -> ProgressWriter:
    return ProgressWriter(tmp_path / worker.token, 2)


def test_a_worker_hangs_when_its_progress_stands_still_in_a_task(start: Start, tmp_path: Path) -> None:
    worker = start()
    assert not worker.hangs(100.0, 10.0), "it has begun nothing"
    progress = noted(worker, tmp_path)
    progress.begin(0, (1, 1), 1, 0, 1)
    assert [worker.worked] == [False], "it is about to"
    progress.cells[0][STARTED] = 1
    assert worker.worked
    assert not worker.hangs(101.0, 10.0), "this is news"
    assert not worker.hangs(111.0, 10.0)
    assert worker.hangs(111.1, 10.0)
    assert worker.stands_since(111.1) == 101.0
    progress.cells[0][STARTED] = 2
    assert not worker.hangs(112.0, 10.0), "on to the next"
    progress.end(0)
    assert not worker.hangs(200.0, 10.0)
    assert not worker.hangs(300.0, 10.0), "it has nothing to do"


def test_a_worker_is_in_the_task_that_it_started_last(start: Start, tmp_path: Path) -> None:
    worker = start()
    assert not worker.is_in((1, 1), 0, 100)
    progress = noted(worker, tmp_path)
    progress.begin(1, (1, 1), 1, 50, 1)
    progress.cells[1][STARTED] = 3  # positions 0 and 1 have ended, 2 goes on
    assert [worker.is_in((1, 1), position, position + 1) for position in range(4)] == [False, False, True, False]
    assert worker.is_in((1, 1), 0, 10)
    assert not worker.is_in((1, 2), 0, 10)
    progress.end(1)
    assert not worker.is_in((1, 1), 0, 10), "to kill it would cost another task an attempt"


def test_a_task_that_was_cancelled_has_a_moment_to_end(start: Start, tmp_path: Path) -> None:
    slow, quick, gone = (start() for _ in range(3))
    for worker in (slow, quick):
        progress = noted(worker, tmp_path)
        progress.begin(0, (1, 1), 1, 0, 1)
        progress.cells[0][STARTED] = 1
    interrupts = Interrupts()
    assert interrupts.due == math.inf
    for worker in (slow, quick, gone):
        interrupts.add(Interrupt(worker.token, (1, 1), 0, 1), 5.0)
    assert interrupts.due == 5.0 + INTERRUPT_SECONDS
    known = {worker.token: (worker, worker) for worker in (slow, quick)}
    interrupts.enforce(5.0, known.get)
    assert slow.sentence is None, "not yet"
    progress.cells[0][STARTED] = 2  # quick is in the next one
    interrupts.enforce(5.0 + INTERRUPT_SECONDS, known.get)
    assert interrupts.due == math.inf
    ended(slow)
    assert slow.epitaph() == (CANCELLED, f"its task was cancelled, worker process {slow.pid} was killed")
    assert (quick.sentence, quick.exit_status) == (None, None)


def test_what_a_worker_had_noted_is_kept_until_it_is_accounted_for(tmp_path: Path) -> None:
    process = subprocess.Popen(exits(1))
    worker = HostedWorker(process, "w", ProgressReader(tmp_path / "w"), 0.0)
    ProgressWriter(tmp_path / "w", 1)
    worker.bury()
    assert (tmp_path / "w").exists()
    worker.forget()
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("n", "lots"), [(0, [0]), (1, [1]), (MOST_TOKENS, [MOST_TOKENS]), (MOST_TOKENS + 1, [MOST_TOKENS, 1])]
)
def test_a_host_of_very_many_workers_vouches_for_them_in_several_messages(n: int, lots: list[int]) -> None:
    tokens = [f"w-{k}" for k in range(n)]
    said = [m.Heartbeat(lot) for lot in in_lots(tokens)]
    assert [len(heartbeat.tokens) for heartbeat in said] == lots
    assert [token for heartbeat in said for token in heartbeat.tokens] == tokens
