"""What becomes of calls that were put: each has a future, which a thread gives the outcome as it arrives.

A call is put, and its future entered under the task's index; a thread takes results and looks for their futures. A
result can come before its future is entered: it is kept for that moment.

The thread is there as long as a future waits, and a moment longer. So a program that ends waits for what it has
submitted, as with the standard library's executors, and one whose futures are all done does not. As it is the thread
that waits for the daemon, it is the thread that cancels: a future that is cancelled is so at once, whatever the daemon
does, and the daemon is told when it is known to have the task.

What is only not to begin any more waits for the daemon's word: nobody else knows what has begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice
from typing import Any

from taskmaster.bus import messages as m
from taskmaster.bus.errors import TaskFailed, TaskMasterError
from taskmaster.bus.intervals import IntervalSet
from taskmaster.learners.failures import as_raised
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.run import Run

__all__ = ["CallFuture", "Collector"]

log = logging.getLogger("taskmaster")

#: Seconds that the thread stays when no future waits: threads take a while to start, and learners to think.
REST_SECONDS = 0.1
#: Tasks that one message cancels.
_AT_A_TIME = 1000


class CallFuture(Future[Any]):
    """The future of one call. It can be cancelled as long as it has no outcome."""

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self._collector = collector
        #: the task's, in its run
        self.index = -1

    def cancel(self) -> bool:
        """Give the call up; False if it has ended. What waits for it gets to know at once."""
        if self._collector.withdraw(self.index):
            self.give_up()
        return self.cancelled()

    def give_up(self) -> None:
        """It is cancelled, and whoever waits for it is told. To be called once, by who has taken it out."""
        super().cancel()
        self.set_running_or_notify_cancel()


class Collector:
    """Puts the calls of one run, and gives their futures what becomes of them.

    ``convert`` makes a result of an output, ``explain`` says more of a failure, where it can.
    """

    def __init__(
        self,
        run: Run,
        convert: Callable[[Any], Any] | None = None,
        explain: Callable[[TaskFailed], TaskFailed] | None = None,
    ) -> None:
        self.run = run
        self._convert = convert
        self._explain = explain
        self._core = run._core
        self._channel = run._channel
        self._lock = threading.Lock()
        self._futures: dict[int, CallFuture] = {}
        #: results whose futures are about to be entered
        self._early: dict[int, Result] = {}
        #: calls that were given up: all whose outcome has not come, and those of which the daemon has not been told
        self._withdrawn: set[int] = set()
        self._untold: set[int] = set()
        #: calls that are not to begin any more, of which the daemon has not been told
        self._unwanted: set[int] = set()
        #: tasks below this are not of this collector
        self._first = run.next_index
        self._putting = 0
        self._ending = False
        self._thread: threading.Thread | None = None

    def put(self, task: Any) -> CallFuture:
        """Put a call. Raises RuntimeError after :meth:`end`, and what :meth:`Tasks.put` raises."""
        with self._lock:
            if self._ending:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._putting += 1
        future = CallFuture(self)
        try:
            future.index = self.run.tasks.put(task)
        finally:
            with self._lock:
                self._putting -= 1
                early = self._enter(future) if future.index >= 0 else None
        if early is not None:
            self._settle(future, early)
        return future

    def _enter(self, future: CallFuture) -> Result | None:
        early = self._early.pop(future.index, None)
        if early is None:
            self._futures[future.index] = future
            self._need_thread()
        return early

    def withdraw(self, index: int) -> bool:
        """Nobody wants this call any more; False if its outcome has come, or somebody else has given it up."""
        with self._lock:
            if self._futures.pop(index, None) is None:
                return False
            self._withdrawn.add(index)
            self._untold.add(index)
            self._need_thread()
        self._wake()
        return True

    def end(self, *, cancel: bool = False) -> None:
        """No further calls; ``cancel`` those that no worker has yet. The run is closed when all have ended."""
        with self._lock:
            first, self._ending = not self._ending, True
            if cancel:
                self._unwanted.update(self._futures)
            if first or self._unwanted:
                self._need_thread()
        self._wake()

    def withdraw_all(self) -> None:
        """Nobody wants any of the calls that have no outcome."""
        with self._lock:
            futures = list(self._futures.values())
        for future in futures:
            future.cancel()

    def join(self) -> None:
        """Wait until the run is closed. Returns at once in a callback of a future of its own."""
        while True:
            with self._lock:
                thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            thread.join()

    def _need_thread(self) -> None:
        """To be called with the lock held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._collect, name="taskmaster-futures")
            self._thread.start()

    def _wake(self) -> None:
        with self._channel.lock:
            if not self._channel.closed:
                self._channel.notify()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        chunk: Chunk | None = None
        try:
            while True:
                chunk = self._next(chunk)
                if chunk is not None:
                    self._hand_out(chunk)
                elif self._rests():
                    return
        except TaskMasterError as error:
            self._fail(error)

    def _next(self, chunk: Chunk | None) -> Chunk | None:
        """The chunk of results behind this one; None where there is something else to do, or nothing for a while."""
        core, channel = self._core, self._channel

        def has_news() -> bool:
            nonlocal chunk
            chunk = core.after(chunk)
            idle_for_good = self._ending and not self._futures
            return chunk is not None or core.error is not None or self._may_tell() or idle_for_good

        with channel.lock:
            ready = has_news()
            channel.send_on()
        if not ready:
            channel.wait(has_news, None if self._futures or self._untold else REST_SECONDS)
        if chunk is None and core.error is not None:
            raise core.error
        if self._untold or self._unwanted:
            self._tell()
        return chunk

    def _hand_out(self, chunk: Chunk) -> None:
        head = chunk.head
        settled: list[tuple[CallFuture, Result]] = []
        with self._lock:
            for k in islice(chunk.positions, head.n):
                if k >= head.n:
                    break
                index = head.first + k
                future = self._futures.pop(index, None)
                if future is not None:
                    settled.append((future, Result(chunk, k)))
                elif index in self._withdrawn:
                    self._withdrawn.discard(index)
                    self._untold.discard(index)
                elif index >= self._first:
                    self._early[index] = Result(chunk, k)
        self._core.told = head.seq + head.n - 1
        for future, result in settled:
            try:
                self._settle(future, result)
            except BaseException:
                log.exception("a callback of task %d of run %r raised", future.index, self.run.name)

    def _settle(self, future: CallFuture, result: Result) -> None:
        """Give a future, which nobody else can reach any more, its outcome."""
        error = result.error
        if error is None:
            try:
                output = result.output if self._convert is None else self._convert(result.output)
            except Exception as broken:  # noqa: BLE001 - a user's class may raise anything when it is unpickled
                future.set_exception(broken)
            else:
                future.set_result(output)
        elif isinstance(error, TaskFailed):
            future.set_exception(as_raised(error if self._explain is None else self._explain(error)))
        else:
            future.give_up()

    def _may_tell(self) -> bool:
        acknowledged = self._core.acknowledged
        return any(indices and min(indices) < acknowledged for indices in (self._untold, self._unwanted))

    def _tell(self) -> None:
        """Have the daemon cancel what was given up, as far as it is known to have it."""
        core, channel = self._core, self._channel
        with self._lock, channel.lock:
            for indices, queued in ((self._untold, False), (self._unwanted, True)):
                known = sorted(index for index in indices if index < core.acknowledged)
                indices.difference_update(known)
                for k in range(0, len(known), _AT_A_TIME):
                    tasks = IntervalSet((index, index + 1) for index in known[k : k + _AT_A_TIME])
                    self.run.master.lab._core.request(m.Cancel(0, core.id, tuple(tasks), queued), time.monotonic())
            channel.flush()

    def _rests(self) -> bool:
        """Whether there is nothing to do for the thread any more, which then is to end."""
        with self._lock:
            if self._futures or self._untold or self._putting:
                return False
            if not self._ending:
                self._thread = None
                return True
        self._close()
        self._thread = None
        return True

    def _close(self) -> None:
        try:
            self.run.close()
        except TaskMasterError as error:
            log.warning("run %r of Master %r could not be closed: %s", self.run.name, self.run.master.name, error)

    def _fail(self, error: TaskMasterError) -> None:
        """Nothing will come any more."""
        with self._lock:
            futures, self._futures = list(self._futures.values()), {}
            self._untold.clear()
            self._unwanted.clear()
            self._thread = None
        for future in futures:
            future.set_exception(error)
