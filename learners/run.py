"""A run in the blocking client: its ``tasks`` and ``results``, and what can be done with it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import DaemonUnreachable
from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.learners.arguments import Where
from taskmaster.learners.history import AskedBlock, History, asked_blocks, noted_behind, writers_of
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.runcore import RunCore
from taskmaster.learners.series import ProgressPoint, Series
from taskmaster.learners.views import ANSWER_SECONDS, RunView, progress_of

if TYPE_CHECKING:
    from taskmaster.learners.client import Master

__all__ = ["Results", "Run", "Tasks"]


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

    def cancel(self, indices: Iterable[int] | None = None, *, queued: bool = False) -> int:
        """Cancel tasks that have no outcome yet (all of them, by default); returns how many were cancelled.

        Each arrives as a result that says so. A task that is being evaluated is broken off where that is harmless;
        ``queued``: it, and what else was granted to a worker, is left alone.
        """
        wanted = self._wanted(indices)
        cancelled, taken = 0, -1
        while not self._flush(self.master.lab.patience, full_beyond=taken):
            # Full, perhaps of just these tasks: those that it has make room for those that are still here.
            taken = self._core.acknowledged
            cancelled += self._cancel(wanted, queued)
        return cancelled + self._cancel(wanted, queued)

    def _cancel(self, wanted: list[int] | None, queued: bool) -> int:
        return sum(int(self.master.lab.ask(message).count) for message in self._cancel_messages(wanted, queued))

    def resolve(
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
        self.master.lab.resolve(self._core.id, index, action, output, reason=reason, attempt=attempt, who=who)

    def progress(self, index: int, attempt: int | None = None) -> Series:
        """What the evaluation of a task has told of its progress so far: of its latest ``attempt``, or of this one.

        ``.time`` in seconds since 1970 and ``.values`` by their names are arrays of the same length, which is 0 where
        it has told nothing; ``.attempt`` says which one that is.
        """
        pieces: list[m.Piece] = []
        for page in self.master.lab.series_pages(self._progress_question(index, attempt)):
            pieces += page.pieces
        return progress_of(pieces, (*self.master.parameters, *self.master.outputs))

    def follow_progress(self, since: str = "start") -> Iterator[ProgressPoint]:
        """What evaluations tell of their progress, as it comes, until the run is closed and all its tasks have ended.

        What was told before comes first, task by task; with ``since="now"`` it is left out. Whoever evaluates, and
        whoever writes to the run: each point comes once, those of a task in their order. Raises UnknownRun if the run
        is deleted meanwhile.
        """
        yield from self.master.lab.follow_series(self._progress_following(since))

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, as they were put, and what its learner was asked for them: block by block.

        From the daemon's journal; what is still on its way there, or put meanwhile, is left out.
        """
        first, end = 0, self._core.acknowledged if self._core.write else self._core.next_index
        while first < end:
            page, frames = self.master.lab.page(m.ReadAsks(0, self._core.id, first))
            for block in asked_blocks(page, frames, end):
                first = block.first + block.points.n
                yield block

    def writers(self) -> list[WriterInfo]:
        """Who has opened it for writing, in that order, and what they said of themselves: :meth:`introduce`."""
        return list(writers_of(self.master.lab, self._core.id))

    def introduce(self, metadata: Mapping[str, str]) -> None:
        """Record who puts tasks from here on, in place of what was said before: a Loop does, of its learner.

        For the whole run there is what was given to :meth:`Master.open` when it was made. Raises Fenced where another
        one has opened it since, RunClosed where it was opened for reading.
        """
        self.master.lab.ask(self._introduction(metadata))

    def history(self) -> History:
        """What is recorded of it up to now, to be replayed, or compared with another. Raises UnknownRun."""
        return History.of(self)

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by; None where its daemon is a part of this program."""
        return None if self.master.lab.is_embedded else f"{self.master.name}/{self.name}"

    def clock(self) -> float:
        """Seconds, by :func:`time.monotonic`: what a Loop over this run counts time by."""
        return time.monotonic()

    def fork(self, name: str, at: int | None = None) -> RunInfo:
        """A run ``name`` that starts from the first ``at`` events of this one, by default all: see :meth:`Lab.fork`."""
        self.flush()
        forked: RunInfo = self.master.lab.fork(self._core.id, name, at)
        return forked

    def time(self) -> float:
        """Seconds since 1970, by the system's clock: what a Loop's goal of a time of day goes by."""
        return time.time()

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
        """Wait until all that was put is on the daemon's disk. Raises DaemonUnreachable after ``timeout`` seconds.

        And all that the learner was asked, also behind the last task that was put.
        """
        self._flush(timeout)
        self._note_vain(timeout)

    def _flush(self, timeout: float | None, full_beyond: float = math.inf) -> bool:
        """The same, but give it up (False) where the daemon is full and has more than so many tasks of this run."""
        core = self._core
        if core.is_gathering:
            self.tasks.send(listen=False)
        if not self._channel.wait(lambda: self._is_flushed(full_beyond), timeout):
            raise self._unacknowledged(timeout)
        if core.error is not None:
            raise core.error
        return core.is_settled

    def _note_vain(self, timeout: float | None) -> None:
        """Have the daemon record what the learner was asked behind the last task, as it records what it was asked else.

        ``timeout`` is for each of the two answers that takes.
        """
        lab, core, lock = self.master.lab, self._core, self._channel.lock
        with lock:
            first, asks = core.take_vain()
        if not asks:
            return
        try:
            page = lab._ask(m.ReadAsks(0, core.id, first - 1), (), timeout)
            lab._ask(m.NoteAsks(0, core.id, core.writer, first, noted_behind(page), asks), (), timeout)
        except BaseException:
            with lock:
                core.give_back(first, asks)
            raise

    def close(self) -> None:
        """No further tasks: followers are told. Open tasks are still evaluated; opening it again goes on with it."""
        core = self._core
        if core.write and core.error is None:
            self._flush(self.master.lab.patience)
            self._note_vain(self.master.lab.patience)
            self.master.lab.ask(m.Close(0, core.id, core.writer))
        self.detach()

    def detach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Stop following it from here, leaving the run as it is.

        Waits, at most ``timeout`` seconds, until all that was put is on the daemon's disk. Raises DaemonUnreachable
        if it is not; it is still followed then, and sent on until the connection is closed.
        """
        core, channel = self._core, self._channel
        if channel.closed:
            return
        if not channel.wait(lambda: core.is_settled or core.error is not None, timeout):
            raise self._unacknowledged(timeout)
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
            with contextlib.suppress(DaemonUnreachable):  # what has gone wrong before is what is to be raised
                self.detach(1.0)


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

    def put(self, point: Any, where: Where | None = None) -> int:
        """Put a point; returns its index. Waits while the daemon is full. Raises InvalidTask, and puts nothing then."""
        channel, core = self._channel, self._core
        while True:
            if channel.returning:
                channel.make_way()
            with channel.lock:
                if channel.closed:
                    channel.require_open()
                if core.has_room:
                    return self._put(point, where)
            self._wait_for_room()

    def _put(self, point: Any, where: Where | None) -> int:
        channel, core = self._channel, self._core
        index = core.put(point, time.monotonic(), where)
        if core.is_gathering:
            return index
        if not core.has_gathered:
            channel.send()
        elif index & 255:
            channel.wake_keeper()
        else:
            channel.flush()  # acknowledgements wait in the socket
        return index

    def put_nowait(self, point: Any, where: Where | None = None) -> int:
        """Like :meth:`put`, but raises Full where that would wait."""
        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            self._channel.flush()
            self._core.require_room()
            return self._put(point, where)

    def put_many(self, points: Any, where: Where | None = None) -> range:
        """Put points as a block: an ``(n, d)`` array in the parameters' order, a dict of columns, or a sequence.

        Returns their indices. Raises InvalidTask, and puts none of them then. Waits while the daemon is full.
        """
        channel, core = self._channel, self._core
        self._wait_for_room()
        if channel.returning:
            channel.make_way()
        with channel.lock:
            indices = core.put_many(points, time.monotonic(), where)
            channel.flush()
            channel.wake_keeper()
        return indices

    def new_ask(self, after: int | None = None, asked: int = m.BY_HAND, order: m.Order | None = None) -> None:
        """The learner was asked for ``asked`` points, of which those that are put next came: noted, for replaying it.

        Also to be called if it gave none. ``after`` is the ``seq`` of the last result that it had been told then, by
        default the last one taken. ``asked`` is KEPT (0) for points that it was asked for at that time and that were
        kept back since, AGAIN (-2) where the point that failed by result ``after`` is put again. ``order`` is for runs
        whose learner has several: see `taskmaster.bus.messages.Order`.
        """
        with self._channel.lock:
            self._core.new_ask(after, asked, order)

    def gather(self, on: bool = True) -> None:
        """Whether what is put is kept here until :meth:`send`, or until a result is waited for: for a quick Loop.

        Sent one by one, each would cost as much as a message of many does. Without, what was kept is sent.
        """
        with self._channel.lock:
            self._core.is_gathering = on
            if not on and not self._channel.closed:
                self._send()

    def send(self, *, listen: bool = True) -> None:
        """Send what was gathered, or have it sent when what was sent before is acknowledged.

        Somebody has to ``listen`` for that: unless whoever calls this is about to put, or wait for, something more.
        """
        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            self._send()
            if listen and self._core.has_gathered:
                self._channel.wake_keeper()

    def _send(self) -> None:
        self._channel.flush()  # first the acknowledgement of what was sent before, if it is here
        if self._core.is_ready_to_send:
            self._core.flush(time.monotonic())
            self._channel.send()

    def _wait_for_room(self) -> None:
        core = self._core
        if core.error is None and not core.has_room and core.write:
            self._channel.wait(lambda: core.has_room or core.error is not None)
        self._channel.require_open()
        core.require_writable()


class Results:
    """Where results arrive, in the order in which the tasks ended."""

    def __init__(self, run: Run) -> None:
        self._lab = run.master.lab  # whoever has this and nothing else still has the connection
        self._core = run._core
        self._channel = run._channel
        self._view = RunView(run._core)
        self._roused = False

    def get(self, timeout: float | None = None) -> Result:
        """The next result. Raises TimeoutError if none arrives in ``timeout`` seconds, RunClosed if none can.

        None can where the run is closed and all was taken. Where nothing is open it waits: another thread may put.
        TimeoutError also where it is :meth:`roused <rouse>` while it waits.
        """
        core = self._core
        result: Result | None = None

        def arrived() -> bool:
            nonlocal result
            result = core.take()
            if result is None:
                core.require_more()
            return result is not None or self._roused

        if self._channel.returning:
            self._channel.make_way()
        with self._channel.lock:
            result = core.take()
            self._channel.send_on()
            if result is None and core.is_ready_to_send:  # nobody gathers any more who waits
                core.flush(time.monotonic())
        if result is None and not self._channel.wait(arrived, timeout):
            raise self._view._too_late(timeout)
        if result is None:
            self._roused = False
            raise TimeoutError(f"run {self._view.name!r}: roused while it waited for a result")
        return result

    def rouse(self, on: bool = True) -> None:
        """Have whoever waits in :meth:`get`, or does so next, look up: it raises TimeoutError; not ``on``: it does not.

        From any thread, and from a signal's handler.
        """
        self._roused = on
        if on:
            self._channel.wake()

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
        for chunk in self.chunks(ended):
            n, seq = chunk.head.n, chunk.head.seq
            for k in chunk.positions:
                if k >= n:
                    break
                core.told = seq + k
                yield Result(chunk, k)

    def chunks(self, ended: Callable[[RunCore], bool]) -> Iterator[Chunk]:
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
                if core.error is not None and (core.is_cut_short or not ended(core)):
                    raise core.error
                return
            yield chunk
