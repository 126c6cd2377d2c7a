"""The blocking client: :func:`connect`, Masters, runs, their ``tasks`` and ``results``. Safe to use from any thread."""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import DaemonUnreachable, Full, RunClosed
from taskmaster.bus.fields import Field
from taskmaster.bus.places import default_address
from taskmaster.bus.status import DaemonStatus, MasterStatus, RunInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners.channel import Channel
from taskmaster.learners.core import ClientCore
from taskmaster.learners.names import fresh_name
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.runcore import RunCore

__all__ = ["Lab", "Master", "Results", "Run", "Tasks", "connect"]

#: Seconds that a question to the daemon may take; it answers in milliseconds, but may be on its way up.
ANSWER_SECONDS = 10.0


def connect(address: str | None = None, timeout: float = ANSWER_SECONDS) -> Lab:
    """Connect to a daemon's control socket; by default ``$TASKMASTER``, else the local daemon's.

    Raises DaemonUnreachable if none answers within ``timeout`` seconds.
    """
    return Lab(address or default_address(), timeout)


class Lab:
    """A connection to one daemon: a mapping of names to Masters. Use it as a context manager, or close it."""

    def __init__(self, address: str, timeout: float = ANSWER_SECONDS) -> None:
        self.address = address
        self._core = ClientCore(address)
        self._channel = Channel(self._core)
        self._finalizer = weakref.finalize(self, Channel.close, self._channel)
        try:
            self._describe(timeout)
        except BaseException:
            self._channel.close()
            raise

    def _describe(self, timeout: float) -> None:
        channel, core = self._channel, self._core
        with channel.lock:
            request = core.describe(time.monotonic())
        if not channel.wait(lambda: request.answered, timeout):
            raise DaemonUnreachable(
                f"no daemon answers at {self.address}; is it running ('taskmaster status'), and is the address right "
                "($TASKMASTER, or the address given)?"
            )
        if request.error is not None:
            raise request.error
        assert core.described is not None
        with channel.lock:
            channel.subscribe_at(resolve(core.described.results, self.address))

    # -- the daemon ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The daemon's name."""
        assert self._core.described is not None
        return self._core.described.name

    @property
    def alarms(self) -> tuple[m.Alarm, ...]:
        """The last alarms the daemon has published to this client."""
        return tuple(self._core.alarms)

    def __getitem__(self, name: str) -> Master:
        self._core.master(name)
        return Master(self, name)

    def __iter__(self) -> Iterator[str]:
        assert self._core.described is not None
        return iter([info.name for info in self._core.described.masters])

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __len__(self) -> int:
        return len(list(self))

    def status(self) -> DaemonStatus:
        """Everything the daemon tells about itself."""
        reply = self.ask(m.Status(0))
        assert isinstance(reply, m.StatusReport)
        return reply.status

    def runs(self, master: str | None = None) -> tuple[RunInfo, ...]:
        """The runs of one Master, or of all."""
        reply = self.ask(m.ListRuns(0, master))
        assert isinstance(reply, m.RunList)
        return reply.runs

    def delete_run(self, run: int) -> None:
        """Forget a run that has no open tasks, with everything measured in it."""
        self.ask(m.Delete(0, run))

    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = (), timeout: float = ANSWER_SECONDS) -> Any:
        """Send a request and wait for its reply; raises what the daemon answers, or DaemonUnreachable."""
        channel = self._channel
        with channel.lock:
            request = self._core.request(message, time.monotonic(), frames)
        if not channel.wait(lambda: request.answered, timeout):
            raise DaemonUnreachable(f"the daemon at {self.address} did not answer within {timeout:g} s")
        if request.error is not None:
            raise request.error
        return request.reply

    def close(self, timeout: float = ANSWER_SECONDS) -> None:
        """Wait until what was put is acknowledged, then disconnect. Runs stay with the daemon, and go on there."""
        channel, core = self._channel, self._core
        if channel.closed:
            return
        try:
            channel.wait(lambda: all(run.is_settled or run.error for run in core.all_runs()), timeout)
        finally:
            self._finalizer()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(ANSWER_SECONDS if error is None else 1.0)

    def __repr__(self) -> str:
        return f"<Lab {self.name!r} at {self.address}: {', '.join(self)}>"


class Master:
    """One Master of a daemon."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self._default: Run | None = None

    @property
    def _info(self) -> m.MasterInfo:
        return self.lab._core.master(self.name)

    @property
    def parameters(self) -> tuple[Field, ...]:
        """What a point consists of; empty where points of any form are taken."""
        return self._info.parameters

    @property
    def outputs(self) -> tuple[Field, ...]:
        """What an evaluation gives; empty where that may be anything."""
        return self._info.outputs

    @property
    def description(self) -> str:
        """What it evaluates, in the configuration's words."""
        return self._info.description

    @property
    def slots(self) -> int:
        """How many tasks it evaluates at a time, now."""
        return self.statistics().slots

    def statistics(self) -> MasterStatus:
        """Its state, queue, workers and counts."""
        return next(master for master in self.lab.status().masters if master.name == self.name)

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Run:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``seed`` is recorded with a new run (chosen by the daemon if None). ``since`` says which results of an existing
        run come: ``"start"`` all, ``"now"`` those that arrive from now on. A higher ``priority`` goes first.
        """
        if since not in ("start", "now"):
            raise ValueError(f"since must be 'start' or 'now', not {since!r}")
        claim = secrets.token_hex(8)
        message = m.Open(0, self.name, name or fresh_name(), True, True, seed, priority, metadata or {}, claim)
        return self._open(message, since)

    def watch(self, name: str, since: str = "start") -> Run:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        return self._open(m.Open(0, self.name, name, write=False, create=False), since)

    def _open(self, message: m.Open, since: str) -> Run:
        opened = self.lab.ask(message)
        channel, core = self.lab._channel, self.lab._core
        with channel.lock:
            run = core.opened(opened, write=message.write, since=since)
        if not channel.wait(lambda: core.is_following(run), ANSWER_SECONDS):
            raise DaemonUnreachable(f"the results socket of the daemon at {self.lab.address} cannot be reached")
        return Run(self, run)

    # -- a Master's own tasks and results ----------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """A run of this connection's own, opened when it is first used."""
        if self._default is None:
            self._default = self.open()
        return self._default

    @property
    def tasks(self) -> Tasks:
        """The ``tasks`` channel of :attr:`run`."""
        return self.run.tasks

    @property
    def results(self) -> Results:
        """The ``results`` channel of :attr:`run`."""
        return self.run.results

    def map(self, points: Any) -> list[Any]:
        """The outputs for ``points``, in their order. Raises TaskFailed for the first that failed."""
        with self.open(since="now") as run:
            outputs: list[Any] = [None] * len(run.tasks.put_many(points))
            for chunk in run.results._chunks(lambda core: core.open_tasks <= 0):
                chunk.spread(outputs)
        return outputs

    def imap_unordered(self, points: Any) -> Iterator[Result]:
        """Results for ``points`` as they come."""
        with self.open(since="now") as run:
            run.tasks.put_many(points)
            yield from run.results

    # -- switches -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Evaluate nothing further, of any run; what is being evaluated goes on."""
        self.lab.ask(m.Pause(0, self.name))

    def resume(self) -> None:
        """Undo :meth:`pause`; also tries again where workers had been given up."""
        self.lab.ask(m.Resume(0, self.name))

    def set_workers(self, count: int) -> None:
        """Have the daemon keep ``count`` local worker processes."""
        self.lab.ask(m.SetWorkers(0, self.name, count))

    def __repr__(self) -> str:
        return f"<Master {self.name!r} of {self.lab.name!r}>"


class Run:
    """One learner's conversation with one Master: put on :attr:`tasks`, take from :attr:`results`."""

    def __init__(self, master: Master, core: RunCore) -> None:
        self.master = master
        self._core = core
        self._channel = master.lab._channel
        self.tasks = Tasks(self)
        self.results = Results(self)

    @property
    def name(self) -> str:
        """Its name; opening it again by that goes on with it."""
        return self._core.name

    @property
    def seed(self) -> int:
        """The seed recorded with it: whatever is random in its learner should come from there."""
        return self._core.seed

    @property
    def metadata(self) -> dict[str, str]:
        """What was noted when it was created."""
        return self._core.metadata

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not arrived here."""
        return self._core.open_tasks

    @property
    def next_index(self) -> int:
        """The index that the next task will get."""
        return self._core.next_index

    def cancel(self, indices: Iterable[int] | None = None) -> int:
        """Cancel tasks that have no outcome yet (all of them, by default); returns how many were cancelled.

        Each arrives as a result that says so. A task that is being evaluated is broken off where that is harmless.
        """
        self.flush()
        core = self._core
        if indices is None:  # named, not "all": sent again after a lost answer it must not cancel what was put since
            intervals: tuple[tuple[int, int], ...] = ((0, max(core.next_index, core.acknowledged)),)
        else:
            intervals = tuple((i, i + 1) for i in sorted(set(indices)))
        return int(self.master.lab.ask(m.Cancel(0, self._core.id, intervals)).count)

    def pause(self) -> None:
        """Evaluate nothing further of this run for now."""
        self.master.lab.ask(m.Pause(0, self.master.name, self._core.id))

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.master.lab.ask(m.Resume(0, self.master.name, self._core.id))

    def prioritise(self, priority: int) -> None:
        """Give the run another priority: the highest goes first, equals share."""
        self.master.lab.ask(m.Prioritise(0, self._core.id, priority))

    def flush(self, timeout: float | None = ANSWER_SECONDS) -> None:
        """Wait until all that was put is on the daemon's disk."""
        core = self._core
        if not self._channel.wait(lambda: core.is_settled or core.error is not None, timeout):
            raise DaemonUnreachable(f"run {self.name!r}: puts were not acknowledged within {timeout:g} s")
        if core.error is not None:
            raise core.error

    def close(self) -> None:
        """No further tasks: followers are told. Open tasks are still evaluated; opening it again goes on with it."""
        if self._core.write and self._core.error is None:
            self.flush()
            self.master.lab.ask(m.Close(0, self._core.id, self._core.writer))
        self.detach()

    def detach(self) -> None:
        """Stop following it from here, leaving the run as it is."""
        with self._channel.lock:
            self.master.lab._core.forget(self._core)
            if not self._channel.closed:
                self._channel.flush()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.detach()

    def __repr__(self) -> str:
        return f"<Run {self.name!r} of Master {self.master.name!r}: {self.next_index} tasks, {self.open_tasks} open>"


class Tasks:
    """Where points are put."""

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel
        self._run = run

    def put(self, point: Any) -> int:
        """Put a point; returns its index. Waits while the daemon is full. Raises InvalidTask, and puts nothing then."""
        channel, core = self._channel, self._core
        with channel.lock:
            if channel.closed:
                channel.require_open()
            if core.has_room:
                index = core.put(point, time.monotonic())
                if core.has_gathered:
                    if not index & 255:
                        channel.flush()  # acknowledgements wait in the socket
                    else:
                        channel.wake_keeper()
                else:
                    channel.send()
                return index
        self._wait_for_room()
        return self.put(point)

    def new_ask(self) -> None:
        """What is put next belongs to a new ask of the learner: that is noted with it, for replaying the run."""
        with self._channel.lock:
            self._core.new_ask()

    def put_nowait(self, point: Any) -> int:
        """Like :meth:`put`, but raises Full where that would wait."""
        with self._channel.lock:
            self._channel.flush()
            self._require_room()
            return self.put(point)

    def put_many(self, points: Any) -> range:
        """Put points as a block: an ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence.

        Returns their indices. Raises InvalidTask, and puts none of them then. Waits while the daemon is full.
        """
        channel, core = self._channel, self._core
        self._wait_for_room()
        with channel.lock:
            self._require_writable()
            indices = core.put_many(points, time.monotonic())
            channel.flush()
            channel.wake_keeper()
        return indices

    def _wait_for_room(self) -> None:
        core = self._core
        self._require_writable()
        self._channel.wait(lambda: core.has_room or core.error is not None)
        if core.error is not None:
            raise core.error

    def _require_room(self) -> None:
        core = self._core
        if not core.has_room:
            raise Full(
                f"run {core.name!r}: {core.next_index - core.acknowledged} tasks wait to be acknowledged; try later"
            )

    def _require_writable(self) -> None:
        core = self._core
        if not core.write:
            raise RunClosed(f"run {core.name!r} was opened for reading; open it with open() to put tasks")


class Results:
    """Where results arrive, in the order in which they ended."""

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel

    def get(self, timeout: float | None = None) -> Result:
        """The next result. Raises TimeoutError if none arrives in ``timeout`` seconds, RunClosed if none can.

        (None can arrive where every task has an outcome that was taken already.)
        """
        core = self._core
        result: Result | None = None

        def arrived() -> bool:
            nonlocal result
            result = core.take()
            return result is not None or core.error is not None

        with self._channel.lock:
            if arrived() and result is not None:
                return result
        if self._channel.wait(arrived, timeout):
            if result is not None:
                return result
            assert core.error is not None
            raise core.error
        raise TimeoutError(f"run {core.name!r}: no result within {timeout:g} s; {core.open_tasks} tasks are open")

    def get_nowait(self) -> Result | None:
        """The next result if one has arrived, else None."""
        with self._channel.lock:
            self._channel.flush()
            return self._core.take()

    def __iter__(self) -> Iterator[Result]:
        """Results until no task of this run is open."""
        return self._until(lambda core: core.open_tasks <= 0)

    def follow(self) -> Iterator[Result]:
        """Results until the run is closed, whoever writes to it."""
        return self._until(lambda core: core.is_over)

    def _until(self, ended: Callable[[RunCore], bool]) -> Iterator[Result]:
        core = self._core
        for chunk in self._chunks(ended):
            n, seq = chunk.head.n, chunk.head.seq
            for k in chunk.positions:
                if k >= n:
                    break
                core.told = seq + k
                yield Result(chunk, k)

    def _chunks(self, ended: Callable[[RunCore], bool]) -> Iterator[Chunk]:
        """Chunks of which results are left, as they arrive, until ``ended`` or an error."""
        core, channel = self._core, self._channel
        chunk: Chunk | None = None

        def arrived() -> bool:
            nonlocal chunk
            if chunk is not None:
                core.is_through(chunk)
            chunk = core.current()
            return chunk is not None or ended(core) or core.error is not None

        while True:
            with channel.lock:
                ready = arrived()
            if not ready:
                channel.wait(arrived)
            if chunk is None:
                if core.error is not None:
                    raise core.error
                return
            yield chunk


def resolve(address: str, control: str) -> str:
    """A daemon's address as this client reaches it: one bound to all interfaces is where the control socket was."""
    if address.startswith(("tcp://0.0.0.0:", "tcp://*:")) and control.startswith("tcp://"):
        return control.rpartition(":")[0] + ":" + address.rpartition(":")[2]
    return address
