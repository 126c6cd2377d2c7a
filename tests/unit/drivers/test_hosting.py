"""Hosting worker processes: how they end, what is said of it, what hangs, what is broken off, when one is replaced."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from helpers.waiting import all_ended, eventually

from taskmaster.bus.messages import Interrupt, LeaseId
from taskmaster.drivers.host import CANCELLED, INTERRUPT_SECONDS, HostedWorker, Interrupts, spawn
from taskmaster.drivers.progress import STARTED, ProgressReader, ProgressWriter
from taskmaster.drivers.restarts import RestartPolicy
from taskmaster.drivers.worker import EXIT_GOODBYE, EXIT_REFUSED, EXIT_UNUSABLE

A, B = (7, 1), (7, 2)

Host: TypeAlias = Callable[..., HostedWorker]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Hosts a process that runs a line of shell instead of a worker; none outlives the test."""
    hosted: list[HostedWorker] = []

    def start(line: str = "exec sleep 600", token: str = "token") -> HostedWorker:
        process = subprocess.Popen(["sh", "-c", line])
        hosted.append(HostedWorker(process, token, ProgressReader(tmp_path / token), 0.0))
        return hosted[-1]

    yield start
    for worker in hosted:
        worker.process.kill()
        worker.bury()


def ended(worker: HostedWorker) -> HostedWorker:
    """The worker, when it is dead."""
    assert all_ended([worker.pidfd])
    return worker


def progress(tmp_path: Path, lease: LeaseId, started: int, token: str = "token") -> ProgressWriter:
    """What a worker notes that is in a lease, and in which task."""
    writer = ProgressWriter(tmp_path / token, 2)
    writer.begin(1, lease, 1, 0, 1)
    writer.cells[1][STARTED] = started
    return writer


# -- a real worker ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedWorker]:
    """A worker process whose daemon is not there."""
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.setenv("TMPDIR", "/from/the/daemon")
    worker = spawn(
        f"ipc://{tmp_path}/nobody", "svm", tmp_path, time.monotonic(), [("TMPDIR", "/for/this/Master")], tmp_path
    )
    yield worker
    worker.process.kill()
    worker.bury()


def _heeds(worker: HostedWorker, number: signal.Signals) -> bool:
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_a_worker_waits_for_its_daemon_and_goes_when_it_is_told(lonely: HostedWorker, tmp_path: Path) -> None:
    eventually(lambda: _heeds(lonely, signal.SIGTERM), "the worker to heed its host")
    assert lonely.token.startswith("svm-")
    assert lonely.exit_status is None
    assert lonely.progress.positions() == []
    assert Path(f"/proc/{lonely.pid}/cwd").resolve() == tmp_path
    assert os.getpgid(lonely.pid) == lonely.pid  # a Ctrl-C at the terminal is not for it
    environment = Path(f"/proc/{lonely.pid}/environ").read_bytes().split(b"\0")
    assert {b"TMPDIR=/for/this/Master", b"MKL_NUM_THREADS=3", b"OMP_NUM_THREADS=1"} <= set(environment)
    os.kill(lonely.pid, signal.SIGINT)
    lonely.terminate()
    assert ended(lonely).exit_status == EXIT_GOODBYE
    assert lonely.left_as_agreed


def test_a_worker_that_is_told_to_go_before_it_can_listen_leaves_as_agreed(lonely: HostedWorker) -> None:
    lonely.terminate()
    assert ended(lonely).exit_status in (-signal.SIGTERM, EXIT_GOODBYE)
    assert lonely.left_as_agreed


# -- how it ended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kill -KILL $$", "was killed by SIGKILL; out of memory?"),
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("kill -TERM $$", "was killed by SIGTERM"),
        ("kill -35 $$", "was killed by signal 35"),
        ("exit 7", "ended with status 7"),
        ("exit 0", "ended with status 0"),
    ],
)
def test_an_epitaph_says_by_what_a_worker_died(host: Host, line: str, words: str) -> None:
    worker = ended(host(line))
    assert worker.epitaph() == ("WorkerLost", f"worker process {worker.pid} {words}")


def test_the_first_sentence_stands_in_the_epitaph(host: Host) -> None:
    worker = host()
    worker.kill("TaskTimeout", "it took more than 3 s")
    worker.kill(CANCELLED, "nobody wanted it")
    assert ended(worker).epitaph() == ("TaskTimeout", "it took more than 3 s")
    assert not worker.left_as_agreed
    assert not worker.is_hopeless


@pytest.mark.parametrize(
    ("line", "told", "agreed", "hopeless"),
    [
        (f"exit {EXIT_GOODBYE}", False, True, False),
        (f"exit {EXIT_UNUSABLE}", False, False, True),
        (f"exit {EXIT_REFUSED}", False, False, True),
        ("exit 1", False, False, False),
        ("kill -TERM $$", False, False, False),  # somebody else has told it
        ("kill -KILL $$", True, False, False),
        ("trap 'exit 0' TERM; while :; do sleep 0.01; done", True, True, False),
        ("exec sleep 600", True, True, False),  # dies of being told
    ],
)
def test_who_left_as_agreed_and_who_is_hopeless(
    host: Host, line: str, told: bool, agreed: bool, hopeless: bool
) -> None:
    worker = host(line)
    if told and "KILL" in line:
        worker.was_told_to_go = True
    elif told:
        worker.terminate()
    ended(worker)
    assert (worker.left_as_agreed, worker.is_hopeless) == (agreed, hopeless)


def test_how_far_it_had_come_stays_noted_until_it_is_accounted_for(host: Host, tmp_path: Path) -> None:
    progress(tmp_path, A, 3)
    worker = host("exit 1")
    worker.process.wait()
    assert [at.started for at in worker.progress.positions() or ()] == [3]
    worker.forget()
    assert list(tmp_path.iterdir()) == []


# -- what hangs -------------------------------------------------------------------------------------------------------


def test_a_worker_hangs_that_has_been_in_one_evaluation_for_too_long(host: Host, tmp_path: Path) -> None:
    writer, worker = progress(tmp_path, A, 1), host()
    assert not worker.hangs(100.0, timeout=5.0)
    assert not worker.hangs(105.0, timeout=5.0)
    assert worker.hangs(105.1, timeout=5.0)
    writer.cells[1][STARTED] = 2  # it goes on after all
    assert not worker.hangs(105.2, timeout=5.0)
    assert worker.stands_since(106.0) == 105.2
    assert worker.hangs(110.3, timeout=5.0)


def test_a_worker_without_anything_to_evaluate_does_not_hang(host: Host, tmp_path: Path) -> None:
    writer, worker = progress(tmp_path, A, 4), host()
    writer.end(1)
    assert not worker.hangs(100.0, timeout=5.0)
    assert not worker.hangs(1e6, timeout=5.0)
    assert not host(token="not begun").hangs(1e6, timeout=5.0)


# -- what is broken off -----------------------------------------------------------------------------------------------


def test_a_worker_that_is_still_in_a_cancelled_task_after_a_moment_is_killed(host: Host, tmp_path: Path) -> None:
    progress(tmp_path, A, 3)  # it is in position 2
    worker, interrupts = host(), Interrupts()
    interrupts.add(Interrupt("token", A, 2, 3), now=100.0)
    assert interrupts.due == 100.0 + INTERRUPT_SECONDS
    interrupts.enforce(interrupts.due - 0.01, {"token": worker}.get)
    assert worker.sentence is None
    interrupts.enforce(interrupts.due, {"token": worker}.get)
    kind, reason = ended(worker).epitaph()
    assert (kind, f"worker process {worker.pid} was killed" in reason) == (CANCELLED, True)
    assert interrupts.due == math.inf


@pytest.mark.parametrize(
    ("lease", "low", "high", "dies"),
    [(A, 2, 3, True), (A, 0, 9, True), (A, 0, 2, False), (A, 3, 9, False), (B, 2, 3, False)],
)
def test_a_worker_is_broken_off_only_in_just_that_task(
    host: Host, tmp_path: Path, lease: LeaseId, low: int, high: int, dies: bool
) -> None:
    progress(tmp_path, A, 3)
    worker, interrupts = host(), Interrupts()
    interrupts.add(Interrupt("token", lease, low, high), now=0.0)
    interrupts.enforce(1.0, {"token": worker}.get)
    assert (worker.sentence is not None) == dies


def test_interrupts_are_enforced_in_their_order_each_in_its_time(host: Host, tmp_path: Path) -> None:
    workers = {token: host(token=token) for token in ("one", "two", "three")}
    for token in workers:
        progress(tmp_path, A, 1, token)
    interrupts = Interrupts()
    for k, token in enumerate(["one", "gone", "two", "three"]):
        interrupts.add(Interrupt(token, A, 0, 1), now=float(k))
    interrupts.enforce(2.0 + INTERRUPT_SECONDS, workers.get)
    assert [token for token, worker in workers.items() if worker.sentence] == ["one", "two"]
    assert interrupts.due == 3.0 + INTERRUPT_SECONDS


def test_a_worker_that_has_ended_its_lease_is_left_alone(host: Host, tmp_path: Path) -> None:
    """To kill it would cost the next task an attempt."""
    writer, worker = progress(tmp_path, A, 3), host()
    writer.end(1)
    interrupts = Interrupts()
    interrupts.add(Interrupt("token", A, 2, 3), now=0.0)
    interrupts.enforce(1.0, {"token": worker}.get)
    assert worker.sentence is None


# -- when it is started again -----------------------------------------------------------------------------------------


def test_one_that_dies_before_it_is_ready_is_started_again_after_growing_pauses_then_given_up_and_forgiven() -> None:
    """(In all its cases: `daemon/test_restarts.py`, which shares this policy.)"""
    policy = RestartPolicy(limit=4, window=60.0)
    assert [policy.after_death(t, was_ready=False) for t in (0.0, 1.0, 2.0, 3.0)] == [0.1, 0.2, 0.4, None]
    assert policy.after_death(3.5, was_ready=True) == 0.0
    assert policy.after_death(62.5, was_ready=False) == 0.2  # of the four in the window, only the one at 3 is left
    policy.forgive()
    assert policy.after_death(62.6, was_ready=False) == 0.1
