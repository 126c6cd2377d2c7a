"""The asyncio client: what :mod:`taskmaster.learners.client` offers, to be awaited.

    async with connect("tcp://127.0.0.1:5570") as lab:
        async with lab["svm"].open("first-try") as run:
            await run.tasks.put({"log_C": 0.0, "log_gamma": -3.0})
            async for x, y in run.results:
                ...

The names are the same, and so are the errors and what happens when the daemon goes away. What waits there is awaited
here; what looks a number up at the daemon is a method to be awaited and no property. A connection belongs to the event
loop in which it was made. Whatever is awaited may be cancelled: no result is lost by it and no task is put twice.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from taskmaster.bus import messages as m
from taskmaster.bus.places import default_address
from taskmaster.bus.status import DaemonStatus, MasterStatus, RunInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners.aiochannel import AsyncChannel
from taskmaster.learners.arguments import duration
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.views import ANSWER_SECONDS, LabView, MasterView, RunView, check_since, run_number

__all__ = ["Lab", "Master", "Opening", "Results", "Run", "Tasks", "connect"]

#: Puts and results after which the loop's other tasks have a turn, where nothing has to be waited for.
_TURN_PUTS = 256
_TURN_RESULTS = 1024


class _Closable(Protocol):
    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T = TypeVar("T", bound=_Closable)


class Opening(Awaitable[T], Generic[T]):
    """Something that is being opened: ``await`` it and close it later, or let ``async with`` do both."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._opening = opening
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._opening().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._opening()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)


def connect(
    address: str | None = None, timeout: float = ANSWER_SECONDS, patience: float | None = ANSWER_SECONDS
) -> Opening[Lab]:
    """Connect to a daemon's control socket; by default ``$TASKMASTER``, else the local daemon's.

    ``lab = await connect()``, or ``async with connect() as lab:``. Raises DaemonUnreachable if no daemon answers within
    ``timeout`` seconds. ``patience`` is what it may take to answer later, see :class:`Lab`.
    """

    async def open_lab() -> Lab:
        lab = Lab(address or default_address(), patience)
        try:
            await lab._describe(duration(timeout, "timeout"))
        except BaseException:
            lab._finalizer.detach()
            lab._channel.close()
            raise
        return lab

    return Opening(open_lab)


class Lab(LabView):
    """A connection to one daemon: a mapping of names to Masters. Made by :func:`connect`.

    If the daemon goes away, putting and taking wait for it to come back, and then go on; nothing is lost. What asks it
    for an answer (opening a run, and so :meth:`Master.map` and a Loop when they begin; its status, switches) waits
    ``patience`` seconds and raises DaemonUnreachable then. With ``patience=None`` that waits, too.
    """

    def __init__(self, address: str, patience: float | None = ANSWER_SECONDS) -> None:
        super().__init__(address, patience)
        self._channel = AsyncChannel(self._core)
        self._finalizer = weakref.finalize(self, AsyncChannel.abandon, self._channel)

    async def _describe(self, timeout: float) -> None:
        request = self._core.describe(self._channel.loop.time())
        if not await self._channel.wait(lambda: request.answered, timeout):
            raise self._nobody()
        if request.error is not None:
            raise request.error
        self._channel.subscribe_at(self._results_address)

    def __getitem__(self, name: str) -> Master:
        """The Master of this name. Raises UnknownMaster."""
        return Master(self, name)

    async def status(self) -> DaemonStatus:
        """Everything the daemon tells about itself."""
        reply = await self.ask(m.Status(0))
        assert isinstance(reply, m.StatusReport)
        return reply.status

    async def runs(self, master: str | None = None) -> tuple[RunInfo, ...]:
        """The runs of one Master, or of all."""
        runs: list[RunInfo] = []
        more = True
        while more:
            reply = await self.ask(m.ListRuns(0, master, runs[-1].run if runs else 0))
            assert isinstance(reply, m.RunList)
            runs += reply.runs
            more = reply.more
        return tuple(runs)

    async def delete_run(self, run: int) -> None:
        """Forget a run that has no open tasks, with everything measured in it. ``run`` is its number.

        Whoever follows it gets UnknownRun. Raises NotAllowed while it has open tasks.
        """
        await self.ask(m.Delete(0, run_number(run)))

    async def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any:
        """Send a request and wait for its reply; raises what the daemon answers, or DaemonUnreachable.

        It is not asked any further then, nor if this is cancelled; whether it is carried out is not known.
        """
        self._channel.require_open()
        request = self._core.request(message, self._channel.loop.time(), frames)
        try:
            if not await self._channel.wait(lambda: request.answered, self.patience):
                raise self._late(request)
        finally:
            self._core.withdraw(request)
        if request.error is not None:
            raise request.error
        return request.reply

    async def close(self, timeout: float = ANSWER_SECONDS) -> None:
        """Wait until what was put is acknowledged, then disconnect. Runs stay with the daemon, and go on there."""
        if self._channel.closed:
            return
        try:
            await self._channel.wait(self._is_settled, timeout)
        finally:
            self._finalizer.detach()
            self._channel.close()

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(ANSWER_SECONDS if error is None else 1.0)


class Master(MasterView):
    """One Master of a daemon: ``lab["svm"]``. :meth:`map` is the short way, :meth:`open` the long one."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab._core, name)
        self.lab = lab

    async def slots(self) -> int:
        """How many tasks it evaluates at a time, now."""
        return (await self.statistics()).slots

    async def statistics(self) -> MasterStatus:
        """Its state, queue, workers and counts."""
        return self._find(await self.lab.status())

    def open(
        self,
        name: str | None = None,
        *,
        seed: int | None = None,
        since: str = "start",
        priority: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[Run]:
        """Open a run for writing: a new one, or an existing one to go on with (its former writer is fenced).

        ``run = await master.open()``, or ``async with master.open() as run:``. ``seed`` and ``metadata`` are recorded
        with a new run (the daemon chooses a seed if it is None). ``since`` says which results of an existing run come:
        ``"start"`` all, ``"now"`` those that arrive from now on. The run of the highest ``priority`` goes first, equals
        share. Raises Conflict if the run exists with another seed.
        """
        check_since(since)
        return Opening(lambda: self._open(self._open_message(name, seed, priority, metadata), since))

    def watch(self, name: str, since: str = "start") -> Opening[Run]:
        """An existing run for reading: its results, whoever writes to it. Raises UnknownRun."""
        check_since(since)
        return Opening(lambda: self._open(self._watch_message(name), since))

    async def _open(self, message: m.Open, since: str) -> Run:
        opened = await self.lab.ask(message)
        core, channel = self.lab._core, self.lab._channel
        run = core.opened(opened, write=message.write, since=since)
        try:
            if not await channel.wait(lambda: core.is_following(run), self.lab.patience):
                raise self.lab._deaf()
        except BaseException:
            core.forget(run)
            raise
        return Run(self, run)

    async def map(self, points: Any) -> list[Any]:
        """The outputs for ``points`` (see :meth:`Tasks.put_many`), in their order.

        Raises TaskFailed for the first that fails; the others are cancelled then.
        """
        async with _Errand(self) as run:
            outputs: list[Any] = [None] * len(await run.tasks.put_many(points))
            async for chunk in run.results._chunks(_has_ended):
                chunk.spread(outputs)
        return outputs

    async def imap_unordered(self, points: Any) -> AsyncIterator[Result]:
        """Results for ``points`` as they come. Those that nobody waits for any more are cancelled."""
        async with _Errand(self) as run:
            await run.tasks.put_many(points)
            async for result in run.results:
                yield result

    async def pause(self) -> None:
        """Evaluate nothing further, of any run; what is being evaluated goes on."""
        await self.lab.ask(m.Pause(0, self.name))

    async def resume(self) -> None:
        """Undo :meth:`pause`; also tries again where workers had been given up."""
        await self.lab.ask(m.Resume(0, self.name))

    async def set_workers(self, count: int) -> None:
        """Have the daemon keep ``count`` local worker processes. Raises CallerError unless it is 0 to 4096."""
        await self.lab.ask(self._workers_message(count))


class Run(RunView):
    """One learner's conversation with one Master: put on :attr:`tasks`, take from :attr:`results`.

    With ``async with`` it is closed at the end, or left open (for being resumed) if there was an error.
    """

    def __init__(self, master: Master, core: RunCore) -> None:
        super().__init__(core)
        self.master = master
        self._channel = master.lab._channel
        #: where points are put
        self.tasks = Tasks(self)
        #: where results arrive
        self.results = Results(self)

    async def cancel(self, indices: Iterable[int] | None = None) -> int:
        """Cancel tasks that have no outcome yet (all of them, by default); returns how many were cancelled.

        Each arrives as a result that says so. A task that is being evaluated is broken off where that is harmless.
        """
        wanted = self._wanted(indices)
        cancelled, taken = 0, -1
        while not await self._flush(self.master.lab.patience, full_beyond=taken):
            # Full, perhaps of just these tasks: those that it has make room for those that are still here.
            taken = self._core.acknowledged
            cancelled += int((await self.master.lab.ask(self._cancel_message(wanted))).count)
        return cancelled + int((await self.master.lab.ask(self._cancel_message(wanted))).count)

    async def pause(self) -> None:
        """Evaluate nothing further of this run for now."""
        await self.master.lab.ask(m.Pause(0, self.master.name, self._core.id))

    async def resume(self) -> None:
        """Undo :meth:`pause`."""
        await self.master.lab.ask(m.Resume(0, self.master.name, self._core.id))

    async def prioritise(self, priority: int) -> None:
        """Give the run another priority: the highest goes first, equals share."""
        await self.master.lab.ask(self._prioritise_message(priority))

    async def flush(self, timeout: float | None = ANSWER_SECONDS) -> None:
        """Wait until all that was put is on the daemon's disk. Raises DaemonUnreachable after ``timeout`` seconds."""
        await self._flush(timeout)

    async def _flush(self, timeout: float | None, full_beyond: float = math.inf) -> bool:
        """The same, but give it up (False) where the daemon is full and has more than so many tasks of this run."""
        core = self._core
        if not await self._channel.wait(lambda: self._is_flushed(full_beyond), timeout):
            raise self._unacknowledged(timeout)
        if core.error is not None:
            raise core.error
        return core.is_settled

    async def close(self) -> None:
        """No further tasks: followers are told. Open tasks are still evaluated; opening it again goes on with it."""
        core = self._core
        if core.write and core.error is None:
            await self._flush(self.master.lab.patience)
            await self.master.lab.ask(m.Close(0, core.id, core.writer))
        await self.detach()

    async def detach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Stop following it from here, leaving the run as it is.

        Waits, at most ``timeout`` seconds, until all that was put is on the daemon's disk.
        """
        core, channel = self._core, self._channel
        if channel.closed:
            return
        try:
            await channel.wait(lambda: core.is_settled or core.error is not None, timeout)
        finally:
            self.master.lab._core.forget(core)
            if not channel.closed:
                channel.send()
                channel.notify()

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.detach(1.0)


class Tasks:
    """Where points are put.

    What a point is the Master says: a dict of its parameters, or, where it declares none, any value that can travel
    (numbers, strings, lists, dicts, tuples, datetimes, numpy arrays). It is taken as it is when it is put.
    """

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel

    async def put(self, point: Any) -> int:
        """Put a point; returns its index. Waits while the daemon is full. Raises InvalidTask, and puts nothing then.

        If it is cancelled nothing was put.
        """
        if not self._core.next_index % _TURN_PUTS:
            await asyncio.sleep(0)
        await self._wait_for_room()
        return self._put(point)

    def put_nowait(self, point: Any) -> int:
        """Like :meth:`put`, without waiting; raises Full where it would have to."""
        self._channel.require_open()
        self._core.require_room()
        return self._put(point)

    def _put(self, point: Any) -> int:
        channel, core = self._channel, self._core
        index = core.put(point, channel.loop.time())
        if not core.has_gathered:  # else it is sent when what was put before is acknowledged
            channel.send()
        return index

    async def put_many(self, points: Any) -> range:
        """Put points as a block: an ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence.

        Returns their indices. Raises InvalidTask, and puts none of them then. Waits while the daemon is full.
        """
        await self._wait_for_room()
        indices = self._core.put_many(points, self._channel.loop.time())
        self._channel.send()
        return indices

    def new_ask(self, after: int | None = None) -> None:
        """What is put next belongs to a new ask of the learner: that is noted with it, for replaying the run.

        ``after`` is the ``seq`` of the last result that it had been told then, by default the last one taken.
        """
        self._core.new_ask(after)

    async def _wait_for_room(self) -> None:
        channel, core = self._channel, self._core
        channel.require_open()
        while not core.has_room:
            core.require_writable()
            await channel.wait(lambda: core.has_room or core.error is not None)


class Results:
    """Where results arrive, in the order in which the tasks ended. ``async for`` takes them until no task is open."""

    def __init__(self, run: Run) -> None:
        self._core = run._core
        self._channel = run._channel
        self._view = RunView(run._core)

    async def get(self, timeout: float | None = None) -> Result:
        """The next result. Raises TimeoutError if none arrives in ``timeout`` seconds, RunClosed if none can.

        None can where the run is closed and all was taken. Where nothing is open it waits: another task may put. If it
        is cancelled, the result is there for the next one who asks.
        """
        core, channel = self._core, self._channel
        deadline = None if timeout is None else channel.loop.time() + timeout
        while (result := core.take()) is None:
            core.require_more()
            left = None if deadline is None else deadline - channel.loop.time()
            if not await channel.wait(lambda: core.has_news, left):
                raise self._view._too_late(timeout)
        channel.send_on()
        return result

    def get_nowait(self) -> Result | None:
        """The next result if one has arrived, else None."""
        self._channel.require_open()
        result = self._core.take()
        self._channel.send_on()
        return result

    def __aiter__(self) -> AsyncIterator[Result]:
        """Results until no task of this run is open."""
        return self._until(_has_ended)

    def follow(self) -> AsyncIterator[Result]:
        """Results until the run is closed and all its tasks have ended, whoever writes to it.

        Raises UnknownRun if it is deleted meanwhile.
        """
        return self._until(_is_over)

    async def _until(self, ended: Callable[[RunCore], bool]) -> AsyncIterator[Result]:
        core = self._core
        taken = 0
        async for chunk in self._chunks(ended):
            n, seq = chunk.head.n, chunk.head.seq
            for k in chunk.positions:
                if k >= n:
                    break
                taken += 1
                if not taken % _TURN_RESULTS:
                    await asyncio.sleep(0)
                core.told = seq + k
                yield Result(chunk, k)

    async def _chunks(self, ended: Callable[[RunCore], bool]) -> AsyncIterator[Chunk]:
        """Chunks of which results are left, as they arrive, until ``ended`` or an error."""
        core = self._core
        chunk: Chunk | None = None
        while True:
            chunk = core.after(chunk)
            self._channel.send_on()
            if chunk is not None:
                yield chunk
            elif ended(core):
                return
            elif core.error is not None:
                raise core.error
            else:
                await self._channel.wait(lambda: core.has_news or ended(core))


def _has_ended(core: RunCore) -> bool:
    return core.open_tasks <= 0


def _is_over(core: RunCore) -> bool:
    return core.is_over


class _Errand:
    """A run for one call, which nobody comes back to."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._run: Run

    async def __aenter__(self) -> Run:
        self._run = await self._master.open(since="now")
        return self._run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, channel = self._run, self._run._channel
        if error is None or run._core.error is not None:
            await run.close()
        elif not channel.closed:
            # Nobody waits for the rest. The daemon gets to know; its answers are not waited for either.
            self._master.lab._core.give_up(run._core, channel.loop.time())
            channel.send()
