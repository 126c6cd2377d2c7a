"""A run in the asyncio client: its ``tasks`` and ``results``, and what can be done with it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.learners.arguments import Where
from taskmaster.learners.history import AskedBlock, asked_blocks, noted_behind
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.series import ProgressPoint, Series
from taskmaster.learners.views import ANSWER_SECONDS, RunView, progress_of

if TYPE_CHECKING:
    from taskmaster.learners.aio import Master

__all__ = ["Results", "Run", "Tasks"]

#: Puts and results after which the loop's other tasks have a turn, where nothing has to be waited for.
_TURN_PUTS = 256
_TURN_RESULTS = 1024


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

    async def cancel(self, indices: Iterable[int] | None = None, *, queued: bool = False) -> int:
        """Cancel tasks that have no outcome yet (all of them, by default); returns how many were cancelled.

        Each arrives as a result that says so. A task that is being evaluated is broken off where that is harmless;
        ``queued``: it, and what else was granted to a worker, is left alone.
        """
        wanted = self._wanted(indices)
        cancelled, taken = 0, -1
        while not await self._flush(self.master.lab.patience, full_beyond=taken):
            # Full, perhaps of just these tasks: those that it has make room for those that are still here.
            taken = self._core.acknowledged
            cancelled += await self._cancel(wanted, queued)
        return cancelled + await self._cancel(wanted, queued)

    async def _cancel(self, wanted: list[int] | None, queued: bool) -> int:
        messages = self._cancel_messages(wanted, queued)
        return sum([int((await self.master.lab.ask(message)).count) for message in messages])

    async def resolve(
        self,
        index: int,
        action: str,
        output: Any = None,
        *,
        reason: str = "",
        attempt: int = 0,
        who: str | None = None,
    ) -> None:
        """Say what becomes of a task of it that is in doubt; see :meth:`Lab.resolve`, and :meth:`Lab.held`."""
        await self.master.lab.resolve(self._core.id, index, action, output, reason=reason, attempt=attempt, who=who)

    async def progress(self, index: int, attempt: int | None = None) -> Series:
        """What the evaluation of a task has told of its progress so far: of its latest ``attempt``, or of this one.

        ``.time`` in seconds since 1970 and ``.values`` by their names are arrays of the same length, which is 0 where
        it has told nothing; ``.attempt`` says which one that is.
        """
        pieces: list[m.Piece] = []
        async for page in self.master.lab.series_pages(self._progress_question(index, attempt)):
            pieces += page.pieces
        return progress_of(pieces, (*self.master.parameters, *self.master.outputs))

    async def follow_progress(self, since: str = "start") -> AsyncIterator[ProgressPoint]:
        """What evaluations tell of their progress, as it comes, until the run is closed and all its tasks have ended.

        What was told before comes first, task by task; with ``since="now"`` it is left out. Whoever evaluates, and
        whoever writes to the run: each point comes once, those of a task in their order. Raises UnknownRun if the run
        is deleted meanwhile.
        """
        following = self._progress_following(since)
        async for point in self.master.lab.follow_series(following):
            yield point

    async def record(self) -> AsyncIterator[AskedBlock]:
        """The tasks that it has, as they were put, and what its learner was asked for them: block by block.

        From the daemon's journal; what is still on its way there, or put meanwhile, is left out.
        """
        first, end = 0, self._core.acknowledged if self._core.write else self._core.next_index
        while first < end:
            page, frames = await self.master.lab.page(m.ReadAsks(0, self._core.id, first))
            for block in asked_blocks(page, frames, end):
                first = block.first + block.points.n
                yield block

    async def writers(self) -> list[WriterInfo]:
        """Who has opened it for writing, in that order, and what they said of themselves: :meth:`introduce`."""
        found: list[WriterInfo] = []
        more = True
        while more:
            after = found[-1].writer if found else 0
            page: m.WriterList = await self.master.lab.ask(m.ReadWriters(0, self._core.id, after))
            found += page.writers
            more = page.more
        return found

    async def introduce(self, metadata: Mapping[str, str]) -> None:
        """Record who puts tasks from here on, in place of what was said before: a Loop does, of its learner.

        For the whole run there is what was given to :meth:`Master.open` when it was made. Raises Fenced where another
        one has opened it since, RunClosed where it was opened for reading.
        """
        await self.master.lab.ask(self._introduction(metadata))

    async def fork(self, name: str, at: int | None = None) -> RunInfo:
        """A run ``name`` that starts from the first ``at`` events of this one, by default all: see :meth:`Lab.fork`."""
        await self.flush()
        forked: RunInfo = await self.master.lab.fork(self._core.id, name, at)
        return forked

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
        """Wait until all that was put is on the daemon's disk. Raises DaemonUnreachable after ``timeout`` seconds.

        And all that the learner was asked, also behind the last task that was put.
        """
        await self._flush(timeout)
        await self._note_vain(timeout)

    async def _flush(self, timeout: float | None, full_beyond: float = math.inf) -> bool:
        """The same, but give it up (False) where the daemon is full and has more than so many tasks of this run."""
        core = self._core
        if not await self._channel.wait(lambda: self._is_flushed(full_beyond), timeout):
            raise self._unacknowledged(timeout)
        if core.error is not None:
            raise core.error
        return core.is_settled

    async def _note_vain(self, timeout: float | None) -> None:
        """Have the daemon record what the learner was asked behind the last task, as it records what it was asked else.

        ``timeout`` is for each of the two answers that takes.
        """
        lab, core = self.master.lab, self._core
        first, asks = core.take_vain()
        if not asks:
            return
        try:
            page = await lab._ask(m.ReadAsks(0, core.id, first - 1), (), timeout)
            await lab._ask(m.NoteAsks(0, core.id, core.writer, first, noted_behind(page), asks), (), timeout)
        except BaseException:
            core.give_back(first, asks)
            raise

    async def close(self) -> None:
        """No further tasks: followers are told. Open tasks are still evaluated; opening it again goes on with it."""
        core = self._core
        if core.write and core.error is None:
            await self._flush(self.master.lab.patience)
            await self._note_vain(self.master.lab.patience)
            await self.master.lab.ask(m.Close(0, core.id, core.writer))
        await self.detach()

    async def detach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Stop following it from here, leaving the run as it is.

        Waits, at most ``timeout`` seconds, until all that was put is on the daemon's disk. Raises DaemonUnreachable
        if it is not; it is still followed then, and sent on until the connection is closed.
        """
        core, channel = self._core, self._channel
        if channel.closed:
            return
        if not await channel.wait(lambda: core.is_settled or core.error is not None, timeout):
            raise self._unacknowledged(timeout)
        self.master.lab._core.forget(core)
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
            with contextlib.suppress(DaemonUnreachable):  # what has gone wrong before is what is to be raised
                await self.detach(1.0)


class Tasks:
    """Where points are put.

    What a point is the Master says: a dict of its parameters, or, where it declares none, any value that can travel
    (numbers, strings, lists, dicts, tuples, datetimes, numpy arrays). It is taken as it is when it is put.

    ``where`` asks for the heads of an instrument that may evaluate it: ``{"head": "tip-2"}``, or all those with
    ``{"capability": "cold"}``.
    """

    def __init__(self, run: Run) -> None:
        self._lab = run.master.lab  # whoever has this and nothing else still has the connection
        self._core = run._core
        self._channel = run._channel

    async def put(self, point: Any, where: Where | None = None) -> int:
        """Put a point; returns its index. Waits while the daemon is full. Raises InvalidTask, and puts nothing then.

        If it is cancelled nothing was put.
        """
        if not self._core.next_index % _TURN_PUTS:
            await asyncio.sleep(0)
        await self._wait_for_room()
        return self._put(point, where)

    def put_nowait(self, point: Any, where: Where | None = None) -> int:
        """Like :meth:`put`, without waiting; raises Full where it would have to."""
        self._channel.require_open()
        self._core.require_room()
        return self._put(point, where)

    def _put(self, point: Any, where: Where | None) -> int:
        channel, core = self._channel, self._core
        index = core.put(point, channel.loop.time(), where)
        if not core.has_gathered:  # else it is sent when what was put before is acknowledged
            channel.send()
        return index

    async def put_many(self, points: Any, where: Where | None = None) -> range:
        """Put points as a block: an ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence.

        Returns their indices. Raises InvalidTask, and puts none of them then. Waits while the daemon is full.
        """
        await self._wait_for_room()
        indices = self._core.put_many(points, self._channel.loop.time(), where)
        self._channel.send()
        return indices

    def new_ask(self, after: int | None = None, asked: int = m.BY_HAND) -> None:
        """The learner was asked for ``asked`` points, of which those that are put next came: noted, for replaying it.

        Also to be called if it gave none. ``after`` is the ``seq`` of the last result that it had been told then, by
        default the last one taken. ``asked`` is KEPT (0) for points that it was asked for at that time and that were
        kept back since, AGAIN (-2) where the point that failed by result ``after`` is put again.
        """
        self._core.new_ask(after, asked)

    async def _wait_for_room(self) -> None:
        channel, core = self._channel, self._core
        channel.require_open()
        while not core.has_room:
            core.require_writable()
            await channel.wait(lambda: core.has_room or core.error is not None)


class Results:
    """Where results arrive, in the order in which the tasks ended. ``async for`` takes them until no task is open."""

    def __init__(self, run: Run) -> None:
        self._lab = run.master.lab  # whoever has this and nothing else still has the connection
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
        async for chunk in self.chunks(ended):
            n, seq = chunk.head.n, chunk.head.seq
            while True:
                taken += 1
                if not taken % _TURN_RESULTS:
                    await asyncio.sleep(0)  # which may be cancelled, and so is before anything is taken
                k = next(chunk.positions)
                if k >= n:
                    break
                core.told = seq + k
                yield Result(chunk, k)

    async def chunks(self, ended: Callable[[RunCore], bool]) -> AsyncIterator[Chunk]:
        """Chunks of which results are left, as they arrive, until ``ended`` or an error."""
        core = self._core
        chunk: Chunk | None = None
        while True:
            chunk = core.after(chunk)
            self._channel.send_on()
            if chunk is not None:
                yield chunk
            elif core.error is not None and (core.is_cut_short or not ended(core)):
                raise core.error
            elif ended(core):
                return
            else:
                await self._channel.wait(lambda: core.has_news or ended(core))


def _has_ended(core: RunCore) -> bool:
    return core.open_tasks <= 0


def _is_over(core: RunCore) -> bool:
    return core.is_over
