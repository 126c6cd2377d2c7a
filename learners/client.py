"""The blocking client: :func:`connect`, Masters, runs, their ``tasks`` and ``results``. Safe to use from any thread."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.places import default_address
from taskmaster.bus.status import DaemonStatus, MasterStatus, RunInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners.arguments import duration
from taskmaster.learners.channel import Channel
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.views import ANSWER_SECONDS, LabView, MasterView, RunView, check_since, run_number

__all__ = ["Lab", "Master", "Results", "Run", "Tasks", "connect"]


def connect(
    address: str | None = None, timeout: float = ANSWER_SECONDS, patience: float | None = ANSWER_SECONDS
) -> Lab:
    """Connect to a daemon's control socket; by default ``$TASKMASTER``, else the local daemon's.

    Raises DaemonUnreachable if none answers within ``timeout`` seconds. ``patience`` is what it may take to answer
    later, see :class:`Lab`.
    """
    return Lab(address or default_address(), timeout, patience)


class Lab(LabView):
    """A connection to one daemon: a mapping of names to Masters. Use it as a context manager, or close it.

    If the daemon goes away, putting and taking wait for it to come back, and then go on; nothing is lost. What asks it
    for an answer (opening a run, and so :meth:`Master.map` and a Loop when they begin; its status, switches) waits
    ``patience`` seconds and raises DaemonUnreachable then. With ``patience=None`` that waits, too.
    """

    def __init__(self, address: str, timeout: float = ANSWER_SECONDS, patience: float | None = ANSWER_SECONDS) -> None:
        super().__init__(address, patience)
        self._channel = Channel(self._core)
        self._finalizer = weakref.finalize(self, Channel.close, self._channel)
        try:
            self._describe(duration(timeout, "timeout"))
        except BaseException:
            self._finalizer()
            raise

    def _describe(self, timeout: float) -> None:
        channel = self._channel
        with channel.lock:
            request = self._core.describe(time.monotonic())
        if not channel.wait(lambda: request.answered, timeout):
            raise self._nobody()
        if request.error is not None:
            raise request.error
        with channel.lock:
            channel.subscribe_at(self._results_address)

    def __getitem__(self, name: str) -> Master:
        """The Master of this name. Raises UnknownMaster."""
        return Master(self, name)

    def status(self) -> DaemonStatus:
        """Everything the daemon tells about itself."""
        reply = self.ask(m.Status(0))
        assert isinstance(reply, m.StatusReport)
        return reply.status

    def runs(self, master: str | None = None) -> tuple[RunInfo, ...]:
        """The runs of one Master, or of all."""
        runs: list[RunInfo] = []
        more = True
        while more:
            reply = self.ask(m.ListRuns(0, master, runs[-1].run if runs else 0))
            assert isinstance(reply, m.RunList)
            runs += reply.runs
            more = reply.more
        return tuple(runs)

    def delete_run(self, run: int) -> None:
        """Forget a run that has no open tasks, with everything measured in it. ``run`` is its number.

        Whoever follows it gets UnknownRun. Raises NotAllowed while it has open tasks.
        """
        self.ask(m.Delete(0, run_number(run)))

    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any:
        """Send a request and wait for its reply; raises what the daemon answers, or DaemonUnreachable.

        It is not asked any further then; whether it is carried out is not known.
        """
        channel = self._channel
        with channel.lock:
            channel.require_open()
            request = self._core.request(message, time.monotonic(), frames)
        try:
            if not channel.wait(lambda: request.answered, self.patience):
                raise self._late(request)
        finally:
            if not request.answered:
                with channel.lock:
                    self._core.withdraw(request)
        if request.error is not None:
            raise request.error
        return request.reply

    def close(self, timeout: float = ANSWER_SECONDS) -> None:
        """Wait until what was put is acknowledged, then disconnect. Runs stay with the daemon, and go on there."""
        if self._channel.closed:
            return
        try:
            self._channel.wait(self._is_settled, timeout)
        finally:
            self._finalizer()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(ANSWER_SECONDS if error is None else 1.0)


class Master(MasterView):
    """One Master of a daemon: ``lab["svm"]``.

    :meth:`map` is the short way, :meth:`open` the long one, to a run with a name that can be taken up again. In between
    stand :attr:`tasks` and :attr:`results`, the channels of a run that is opened when they are first used.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab._core, name)
        self.lab = lab
        self._default: Run | None = None

    @property
    def slots(self) -> int:
        """How many tasks it evaluates at a time, now."""
        return self.statistics().slots

    def statistics(self) -> MasterStatus:
        """Its state, queue, workers and counts."""
        return self._find(self.lab.status())

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Run:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``seed`` and ``metadata`` are recorded with a new run (the daemon chooses a seed if it is None). ``since`` says
        which results of an existing run come: ``"start"`` all, ``"now"`` those that arrive from now on. The run of the
        highest ``priority`` goes first, equals share. Raises Conflict if the run exists with another seed.
        """
        check_since(since)
        return self._open(self._open_message(name, seed, priority, metadata), since)

    def watch(self, name: str, since: str = "start") -> Run:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        check_since(since)
        return self._open(self._watch_message(name), since)

    def _open(self, message: m.Open, since: str) -> Run:
        opened = self.lab.ask(message)
        channel, core = self.lab._channel, self.lab._core
        with channel.lock:
            run = core.opened(opened, write=message.write, since=since)
        if not channel.wait(lambda: core.is_following(run), self.lab.patience):
            raise self.lab._deaf()
        return Run(self, run)

    # -- a Master's own tasks and results ----------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """A run of this object's own, opened when it is first used."""
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
        """The outputs for ``points`` (see :meth:`Tasks.put_many`), in their order.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        with _Errand(self) as run:
            outputs: list[Any] = [None] * len(run.tasks.put_many(points))
            for chunk in run.results._chunks(lambda core: core.open_tasks <= 0):
                chunk.spread(outputs)
        return outputs

    def imap_unordered(self, points: Any) -> Iterator[Result]:
        """Results for ``points`` as they come. Those that nobody waits for any more are cancelled."""
        with _Errand(self) as run:
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
        """Have the daemon keep ``count`` local worker processes. Raises CallerError unless it is 0 to 4096."""
        self.lab.ask(self._workers_message(count))


class Run(RunView):
    """One learner's conversation with one Master: put on :attr:`tasks`, take from :attr:`results`.

    As a context manager it is closed at the end, or left open (for being resumed) if there was an error.
    """

    def __init__(self, master: Master, core: RunCore) -> None:
        super().__init__(core)
        self.master = master
        self._channel = master.lab._channel
        #: where points are put
        self.tasks = Tasks(self)
        #: where results arrive
        self.results = Results(self)

    def cancel(self, indices: Iterable[int] | None = None) -> int:
        """Cancel tasks that have no outcome yet (all of them, by default); returns how many were cancelled.

        Each arrives as a result that says so. A task that is being evaluated is broken off where that is harmless.
        """
        wanted = self._wanted(indices)
        cancelled, taken = 0, -1
        while not self._flush(self.master.lab.patience, full_beyond=taken):
            # Full, perhaps of just these tasks: those that it has make room for those that are still here.
            taken = self._core.acknowledged
            cancelled += int(self.master.lab.ask(self._cancel_message(wanted)).count)
        return cancelled + int(self.master.lab.ask(self._cancel_message(wanted)).count)

    def pause(self) -> None:
        """Evaluate nothing further of this run for now."""
        self.master.lab.ask(m.Pause(0, self.master.name, self._core.id))

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self.master.lab.ask(m.Resume(0, self.master.name, self._core.id))

    def prioritise(self, priority: int) -> None:
        """Give the run another priority: the highest goes first, equals share."""
        self.master.lab.ask(self._prioritise_message(priority))

    def flush(self, timeout: float | None = ANSWER_SECONDS) -> None:
        """Wait until all that was put is on the daemon's disk. Raises DaemonUnreachable after ``timeout`` seconds."""
        self._flush(timeout)

    def _flush(self, timeout: float | None, full_beyond: float = math.inf) -> bool:
        """The same, but give it up (False) where the daemon is full and has more than so many tasks of this run."""
        core = self._core
        if not self._channel.wait(lambda: self._is_flushed(full_beyond), timeout):
            raise self._unacknowledged(timeout)
        if core.error is not None:
            raise core.error
        return core.is_settled

    def close(self) -> None:
        """No further tasks: followers are told. Open tasks are still evaluated; opening it again goes on with it."""
        core = self._core
        if core.write and core.error is None:
            self._flush(self.master.lab.patience)
            self.master.lab.ask(m.Close(0, core.id, core.writer))
        self.detach()

    def detach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Stop following it from here, leaving the run as it is.

        Waits, at most ``timeout`` seconds, until all that was put is on the daemon's disk.
        """
        core, channel = self._core, self._channel
        if channel.closed:
            return
        channel.wait(lambda: core.is_settled or core.error is not None, timeout)
        with channel.lock:
            self.master.lab._core.forget(core)
            channel.flush()
            channel.notify()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.detach(1.0)


class Tasks:
    """Where points are put.

    What a point is the Master says: a dict of its parameters, or, where it declares none, any value that can travel
    (numbers, strings, lists, dicts, tuples, datetimes, numpy arrays). It is taken as it is when it is put.
    """

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel

    def put(self, point: Any) -> int:
        """Put a point; returns its index. Waits while the daemon is full. Raises InvalidTask, and puts nothing then."""
        channel, core = self._channel, self._core
        while True:
            if channel.returning:
                channel.make_way()
            with channel.lock:
                if channel.closed:
                    channel.require_open()
                if core.has_room:
                    return self._put(point)
            self._wait_for_room()

    def _put(self, point: Any) -> int:
        channel, core = self._channel, self._core
        index = core.put(point, time.monotonic())
        if not core.has_gathered:
            channel.send()
        elif index & 255:
            channel.wake_keeper()
        else:
            channel.flush()  # acknowledgements wait in the socket
        return index

    def put_nowait(self, point: Any) -> int:
        """Like :meth:`put`, but raises Full where that would wait."""
        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            self._channel.flush()
            self._core.require_room()
            return self._put(point)

    def put_many(self, points: Any) -> range:
        """Put points as a block: an ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence.

        Returns their indices. Raises InvalidTask, and puts none of them then. Waits while the daemon is full.
        """
        channel, core = self._channel, self._core
        self._wait_for_room()
        if channel.returning:
            channel.make_way()
        with channel.lock:
            indices = core.put_many(points, time.monotonic())
            channel.flush()
            channel.wake_keeper()
        return indices

    def new_ask(self, after: int | None = None) -> None:
        """What is put next belongs to a new ask of the learner: that is noted with it, for replaying the run.

        ``after`` is the ``seq`` of the last result that it had been told then, by default the last one taken.
        """
        with self._channel.lock:
            self._core.new_ask(after)

    def _wait_for_room(self) -> None:
        core = self._core
        if core.error is None and not core.has_room and core.write:
            self._channel.wait(lambda: core.has_room or core.error is not None)
        self._channel.require_open()
        core.require_writable()


class Results:
    """Where results arrive, in the order in which the tasks ended."""

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel
        self._view = RunView(run._core)

    def get(self, timeout: float | None = None) -> Result:
        """The next result. Raises TimeoutError if none arrives in ``timeout`` seconds, RunClosed if none can.

        None can where the run is closed and all was taken. Where nothing is open it waits: another thread may put.
        """
        core = self._core
        result: Result | None = None

        def arrived() -> bool:
            nonlocal result
            result = core.take()
            if result is None:
                core.require_more()
            return result is not None

        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            result = core.take()
            self._channel.send_on()
        if result is None and not self._channel.wait(arrived, timeout):
            raise self._view._too_late(timeout)
        assert result is not None
        return result

    def get_nowait(self) -> Result | None:
        """The next result if one has arrived, else None."""
        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            self._channel.flush()
            result = self._core.take()
            self._channel.send_on()
            return result

    def __iter__(self) -> Iterator[Result]:
        """Results until no task of this run is open."""
        return self._until(lambda core: core.open_tasks <= 0)

    def follow(self) -> Iterator[Result]:
        """Results until the run is closed and all its tasks have ended, whoever writes to it.

        Raises UnknownRun if it is deleted meanwhile.
        """
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
            chunk = core.after(chunk)
            return chunk is not None or ended(core) or core.error is not None

        while True:
            with channel.lock:
                ready = arrived()
                channel.send_on()
            if not ready:
                channel.wait(arrived)
            if chunk is None:
                if core.error is not None and not ended(core):
                    raise core.error
                return
            yield chunk


class _Errand:
    """A run for one call, which nobody comes back to."""

    def __init__(self, master: Master) -> None:
        self._run = master.open(since="now")

    def __enter__(self) -> Run:
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, lab = self._run, self._run.master.lab
        if error is None or run._core.error is not None:
            run.close()
            return
        # Whatever happened, nobody waits for the rest. The daemon gets to know; its answers are not waited for either.
        channel = run._channel
        with channel.lock:
            if not channel.closed:
                lab._core.give_up(run._core, time.monotonic())
                channel.flush()
