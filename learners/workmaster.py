"""WorkMaster: a Master for one program, in one line, gone without trace afterwards.

A daemon of its own runs as a child of the program, with its state in a temporary folder (or in ``state``, where it
stays and is taken up again) and sockets that only this user can reach. Functions travel to its workers by cloudpickle,
so lambdas and what was typed into a notebook work.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from taskmaster.bus.errors import CallerError, DaemonError, DaemonUnreachable, from_code
from taskmaster.bus.fields import Field
from taskmaster.bus.status import MasterStatus
from taskmaster.learners.arguments import duration, whole
from taskmaster.learners.channel import Channel
from taskmaster.learners.client import SLOTS_SECONDS, Lab, Master, Results, Run, Tasks
from taskmaster.learners.code import dumps
from taskmaster.learners.declared import Fields, as_fields
from taskmaster.learners.results import Result
from taskmaster.learners.views import MOST_WORKERS

__all__ = ["WorkMaster"]

_NAME = "work"
#: What the daemon may take to end by itself before it is killed.
_END_SECONDS = 10.0


class WorkMaster:
    """A Master whose evaluator is a function of this program.

    ``f`` gets one point and returns its output (``batch``: a column, or dict of columns, and returns as many outputs).
    ``f=None``: each task is a ``(function, args, kwargs)`` of its own. ``workers`` processes evaluate; or one process
    with ``threads`` threads. ``parameters`` and ``outputs`` may be declared as in the configuration file; ``timeout``
    is in seconds a task.

    Raises CallerError for what is no function or cannot travel, numbers of workers that cannot be, and parameters or
    outputs that are declared wrongly; StateLocked, JournalError and others where its daemon cannot start with
    ``state``, DaemonError where it ends before it is ready.
    """

    def __init__(
        self,
        f: Callable[..., Any] | None = None,
        workers: int = 2,
        *,
        threads: int | None = None,
        batch: bool = False,
        parameters: Fields = (),
        outputs: Fields = (),
        timeout: float | None = None,
        state: str | os.PathLike[str] | None = None,
        durability: str = "crash",
        max_attempts: int = 3,
    ) -> None:
        if f is None and batch:
            raise CallerError("batch = True needs a function; without one each task brings its own")
        self._scaling = threading.Lock()
        self._count = 1 if threads is not None else whole(workers, "the number of workers", 1, MOST_WORKERS)
        options = _options(f, batch=batch)
        plan = {
            "name": _NAME,
            "temporary": state is None,
            "durability": durability,
            "driver": "process" if threads is None else "thread",
            "workers": self._count,
            "options": options if threads is None else {**options, "threads": whole(threads, "threads", 1, 4096)},
            "timeout": None if timeout is None else duration(timeout, "timeout"),
            "parameters": as_fields(parameters),
            "outputs": as_fields(outputs, nan=True),
            "max_attempts": whole(max_attempts, "max_attempts", 1, 1_000_000),
            "parent": os.getpid(),
        }
        folder = tempfile.mkdtemp(prefix="taskmaster-") if state is None else os.path.abspath(state)
        self._process, address = _start({**plan, "state": folder}, Path(folder), temporary=state is None)
        daemon = _Embedded(self._process, folder if state is None else None)
        self._finalizer = daemon.finalizer
        try:
            self.lab = daemon.connect(address)
            self._master = self.lab[_NAME]
        except BaseException:
            self._finalizer()
            raise

    # -- a Master -----------------------------------------------------------------------------------------------------

    @property
    def master(self) -> Master:
        """The Master as any client sees it; a Loop takes it."""
        return self._master

    @property
    def name(self) -> str:
        """Its name, which all of them have."""
        return _NAME

    def watch(self, name: str, since: str = "start") -> Run:
        """An existing run for reading: see :meth:`Master.watch <taskmaster.learners.client.Master.watch>`."""
        return self._master.watch(name, since)

    @property
    def run(self) -> Run:
        """This program's own run, opened when it is first used."""
        return self._master.run

    @property
    def tasks(self) -> Tasks:
        """Where points are put."""
        return self._master.tasks

    @property
    def results(self) -> Results:
        """Where results arrive, in the order in which they ended."""
        return self._master.results

    @property
    def parameters(self) -> tuple[Field, ...]:
        """As declared."""
        return self._master.parameters

    @property
    def outputs(self) -> tuple[Field, ...]:
        """As declared."""
        return self._master.outputs

    @property
    def slots(self) -> int:
        """Evaluations at a time, now. It follows what was asked for as workers start, and as they finish to go.

        Starting one takes a moment, so it may be 0 at first; tasks that are put meanwhile wait for them.
        """
        return self._master.slots

    def wait_for_slots(self, timeout: float = SLOTS_SECONDS) -> int:
        """:attr:`slots` as soon as all its workers have started, or when ``timeout`` seconds have passed."""
        return self._master.wait_for_slots(timeout)

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        metadata: Mapping[str, str] | None = None,
    ) -> Run:
        """Open a run, see :meth:`taskmaster.learners.client.Master.open`."""
        return self._master.open(name, seed=seed, since=since, metadata=metadata)

    def map(self, points: Any) -> list[Any]:
        """The outputs for ``points``, in their order. Raises TaskFailed for the first that failed."""
        return self._master.map(points)

    def imap_unordered(self, points: Any) -> Iterator[Result]:
        """Results for ``points`` as they come."""
        return self._master.imap_unordered(points)

    def statistics(self) -> MasterStatus:
        """State, queue, workers and counts."""
        return self._master.statistics()

    def capture(self, n: int = 1) -> int:
        """Take ``n`` further worker processes into service; returns how many there are to be. :attr:`slots` follows."""
        return self._scale(whole(n, "the number of workers to capture", 0, MOST_WORKERS))

    def release(self, n: int = 1) -> int:
        """Let ``n`` worker processes go when they have finished; returns how many are to be left.

        :attr:`slots` follows. All of them may go: then tasks wait until one is captured. Raises CallerError for more.
        """
        return self._scale(-whole(n, "the number of workers to release", 0, MOST_WORKERS))

    def _scale(self, more: int) -> int:
        with self._scaling:
            count = self._count + more
            if count < 0:
                raise CallerError(f"{-more} workers cannot be released: there are {self._count}")
            self._master.set_workers(count)
            self._count = count
            return count

    # -- its end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End workers and daemon. What was not evaluated is dropped, unless a ``state`` folder was given."""
        self.__exit__(None, None, None)

    def __enter__(self) -> WorkMaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finalizer.alive:
            try:
                self.lab.__exit__(kind, error, trace)
            finally:
                self._finalizer()

    def __repr__(self) -> str:
        return f"<WorkMaster of {self._count} workers{'' if self._finalizer.alive else ', closed'}>"


class _Embedded:
    """The daemon of a WorkMaster. It ends with the last who has something of it: a Master, a run, a channel."""

    def __init__(self, process: subprocess.Popen[bytes], folder: str | None) -> None:
        self._process = process
        self._channels: list[Channel] = []
        self.finalizer = weakref.finalize(self, _end, self._channels, process, folder, os.getpid())

    def connect(self, address: str) -> Lab:
        """A connection that has this, and gives nobody to wait for it once it has ended."""
        lab = Lab(address)
        lab._owner = self
        lab._core.obituary = partial(_obituary, self._process)
        self._channels.append(lab._channel)
        return lab


def _options(f: Callable[..., Any] | None, *, batch: bool) -> dict[str, Any]:
    """Driver options for a function, or for tasks that bring their own."""
    path = [os.path.abspath(folder) for folder in sys.path if folder] + [os.getcwd()]
    if f is None:
        return {"path": path, "call": "task"}
    if not callable(f):
        raise CallerError(f"a WorkMaster evaluates with a function, not with a {type(f).__name__}")
    return {"path": path, "batch": batch, "code": dumps(f)}


def _start(plan: dict[str, Any], folder: Path, *, temporary: bool) -> tuple[subprocess.Popen[bytes], str]:
    """Start the daemon; its process and control address. Raises what it says if it cannot start."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "taskmaster.daemon.embedded", str(writer)],
        stdin=subprocess.PIPE,
        pass_fds=(writer,),
        process_group=0,  # a Ctrl-C is for this program, which then ends its daemon in order
    )
    os.close(writer)
    assert process.stdin is not None
    data = msgspec.msgpack.encode(plan)
    _send(process.stdin, data)
    with open(reader, encoding="utf-8") as report:
        answer = report.readline().strip()
    if answer.startswith("ready "):
        return process, answer.removeprefix("ready ")
    _end([], process, str(folder) if temporary else None, os.getpid())
    if answer.startswith("failed "):
        _, code, message = answer.split(" ", 2)
        raise from_code(code, message)
    raise DaemonError(
        f"the embedded daemon ended with status {process.returncode} before it was ready; its log says why"
    )


def _send(stream: BinaryIO | Any, data: bytes) -> None:
    try:
        stream.write(struct.pack("<Q", len(data)) + data)
        stream.flush()
    except BrokenPipeError:
        return  # it has ended; what it reported is read next


def _obituary(process: subprocess.Popen[bytes]) -> DaemonUnreachable | None:
    status = process.poll()
    if status is None:
        return None
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return DaemonUnreachable(f"the daemon of this WorkMaster (process {process.pid}) {how}; what was not done is lost")


def _end(channels: list[Channel], process: subprocess.Popen[bytes], folder: str | None, owner: int) -> None:
    """End the daemon by closing its standard input; kill it if that does not help."""
    if os.getpid() != owner:
        return  # a forked child ends, whose parent goes on using it
    if process.poll() is None:
        for channel in channels:  # what was put is to be in its journal
            channel.retire()
            channel.await_end()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
