"""A run as whoever follows it sees it, without sockets: what was told and not taken.

Events are taken in the order of their numbers and none twice. A gap (a subscriber that was too slow, a connection that
was cut, a payload too large to be published) is filled by asking for the missing pages. So is what comes while too much
of what came before has not been taken: it is dropped here, and asked for later.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

from taskmaster.bus import codec, messages as m, topics
from taskmaster.bus.errors import RunClosed, TaskMasterError
from taskmaster.bus.table import Buffer, Table
from taskmaster.learners.doubts import Doubts
from taskmaster.learners.inputs import OwnInputs
from taskmaster.learners.results import Chunk, Result

__all__ = ["Following"]

log = logging.getLogger("taskmaster")

#: Bytes of results that wait to be taken, and what one page has more; further ones are left with the daemon.
HELD_BYTES = 64 << 20
#: Events that arrived behind a gap and wait for it to be filled, and their bytes.
AHEAD = 256
AHEAD_BYTES = 8 << 20
#: Seconds without an answer after which it may be that a page, or the question for it, was lost. Doubled where it was.
PAGE_SECONDS = 2.0


class Following(ABC):
    """The events of a run in one client, from the number ``since`` on."""

    def __init__(self, opened: m.Opened, *, write: bool, since: int, code: bool) -> None:
        self.id = opened.run
        self.name = opened.name
        self.master = opened.master
        self.closed = opened.closed
        #: the topic it is followed by, see `ClientCore`
        self.followed: bytes | None = None
        #: why nothing more can be put, or come; raised at the next put, and when what has come is taken
        self.error: TaskMasterError | None = None
        #: tasks were put that the daemon did not take and will not: for those no result comes, but ``error``
        self.is_cut_short = False
        #: events must come with their inputs: unless every task of the run is this client's own
        self.wants_inputs = not write or opened.next_index > 0
        #: number of the next event expected from the daemon
        self.next_seq = since
        #: the last event its learner has been told, -1 before the first
        self.told = since - 1
        self.chunks: deque[Chunk] = deque()
        #: tasks that were put, or were open when the run was opened, and whose outcome has not arrived
        self.open_tasks = opened.open_tasks if since == opened.next_seq else opened.next_index
        self._held = 0
        self._inputs = OwnInputs()
        self._ahead: dict[int, tuple[m.EventHead, Sequence[Buffer]]] = {}
        self._ahead_bytes = 0
        self._replay_to = opened.next_seq
        self._doubts = Doubts()
        #: tasks are pickled functions and arguments, see `workmaster`; what they were, by their index
        self.takes_code = code
        self._code: dict[int, Any] = {}
        #: whether a page was asked for and has not come; how many were asked for so far; when the last; whether again
        self._asking = False
        self._pages_asked = 0
        self._page_asked_at: float | None = None
        self._page_seconds = PAGE_SECONDS

    def on_event(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        """A row of events: the expected one, one that is known already, or one behind a gap."""
        if head.seq + head.n <= self.next_seq:
            return
        if not self._has_inputs(head):
            # A task of somebody else's: from here on inputs are needed too.
            self.wants_inputs = True
            self.on_end(head.seq + head.n)
            return
        if head.seq > self.next_seq:
            self._keep_ahead(head, frames)
            self.on_end(head.seq + head.n)
            return
        self._append(head, frames)
        while self._ahead:
            following = self._ahead.pop(self.next_seq, None)
            if following is None or not self._has_inputs(following[0]):
                self._ahead = {seq: event for seq, event in self._ahead.items() if seq > self.next_seq}
                self._ahead_bytes = sum(sum(map(len, event[1])) for event in self._ahead.values())
                break
            self._ahead_bytes -= sum(map(len, following[1]))
            self._append(*following)
        if self._doubts and self.next_seq >= self._replay_to:  # else what comes may say that they are resolved
            for line in self._doubts.take(self.master, self.id, self.name):
                log.warning("%s", line)

    def _keep_ahead(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        nbytes = sum(map(len, frames))
        if head.seq not in self._ahead and len(self._ahead) < AHEAD and self._ahead_bytes + nbytes <= AHEAD_BYTES:
            self._ahead[head.seq] = (head, frames)
            self._ahead_bytes += nbytes

    def on_publication(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        """A row of events that nobody here asked for: it is dropped, to be asked for later, where too many wait."""
        if self._held < HELD_BYTES:
            self.on_event(head, frames)
        else:
            self._replay_to = max(self._replay_to, head.seq + head.n)

    @property
    def topic(self) -> bytes:
        """What has to be followed to hear of its events."""
        name = topics.with_inputs_topic if self.wants_inputs else topics.events_topic
        return name(self.master, self.id)

    def on_end(self, next_seq: int) -> None:
        """The daemon says where the run's events end: if that is further than here, ask for what is missing."""
        self._replay_to = max(self._replay_to, next_seq)
        if self.next_seq < self._replay_to and not self._asking and self._held < HELD_BYTES:
            self._request_page()

    def on_page(self, page: m.Page, frames: Sequence[Sequence[Buffer]]) -> None:
        """A page of recorded events."""
        self._asking = False
        self._page_asked_at = None
        self._page_seconds = PAGE_SECONDS
        self._replay_to = max(self._replay_to, page.next_seq)
        for head, own in zip(page.events, frames):
            self.on_event(head, own)
        self.on_end(page.next_seq)

    def on_failed(self, error: TaskMasterError) -> None:
        """What was asked on the run's behalf was refused: what the journal holds is damaged, or the run is gone."""
        self.error = error

    def on_left(self) -> None:
        """This client has left the run."""
        self._end(RunClosed(f"run {self.name!r} of Master {self.master!r} was closed here; open it by name to go on"))

    def _end(self, error: TaskMasterError) -> None:
        if self.error is None:
            self.error = error

    @property
    def is_over(self) -> bool:
        """Whether the run is closed, every task of it has an outcome, and all of that has arrived here."""
        return self.closed and self.open_tasks <= 0 and self.next_seq >= self._replay_to

    @property
    def has_news(self) -> bool:
        """Whether it is worth while to look for a result, or for the reason why none comes."""
        return bool(self.chunks) or self.error is not None or self.is_over

    def take(self) -> Result | None:
        """The next result that has arrived, or None. Events that are no outcome are passed over, and count as told."""
        while (chunk := self.current()) is not None:
            k = next(chunk.positions)
            if k < chunk.head.n:
                self.told = chunk.head.seq + k
                return Result(chunk, k)
            self._let_go()
        return None

    def current(self) -> Chunk | None:
        """The chunk that results are to be taken from next, by its ``positions``; None if none has arrived.

        To be called, like everything here, by one thread at a time; not so taking from the chunk.
        """
        while self.chunks:
            chunk = self.chunks[0]
            head = chunk.head
            if chunk.is_about_tasks:
                return chunk
            self.told = head.seq + head.n - 1
            if head.kind in ("closed", "reopened"):
                self.closed = head.kind == "closed"
            self._let_go()
        return None

    def after(self, chunk: Chunk | None) -> Chunk | None:
        """The chunk that follows one of which all was taken; None if it has not arrived."""
        if chunk is not None and self.chunks and self.chunks[0] is chunk:
            self._let_go()
        return self.current()

    def _let_go(self) -> None:
        """Forget the first chunk, which was taken: that may make room for what was left with the daemon."""
        self._held -= self.chunks.popleft().nbytes
        if self.next_seq < self._replay_to:
            self.on_end(self._replay_to)

    def require_more(self) -> None:
        """Raise why no further result can come, if that is so. To be called when all that came was taken."""
        if self.error is not None:
            raise self.error
        if self.is_over:
            raise RunClosed(f"run {self.name!r} of Master {self.master!r} is closed, and all its results were taken")

    def _append(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        outputs, times, inputs = codec.event_tables(head, frames)
        known = max(0, self.next_seq - head.seq)
        own = self._own_inputs(head)  # even where others came: those that are through are let go by this
        chunk = Chunk(head, outputs, times, (inputs,) if inputs is not None else own, known)
        self._held += chunk.nbytes
        self.next_seq = head.seq + head.n
        if self._doubts or head.kind == "held":
            self._doubts.note(head)
        if chunk.is_about_tasks:
            self.open_tasks -= head.n - known
        if self.takes_code and chunk.is_about_tasks:
            chunk.set_inputs([self._code.pop(head.first + k, None) or chunk.input(k) for k in range(head.n)])
        self.chunks.append(chunk)

    def _has_inputs(self, head: m.EventHead) -> bool:
        """Whether the inputs of an event's tasks came with it, or are still here."""
        if head.inputs is not None or head.kind in ("closed", "reopened"):
            return True
        return self._inputs.cover(head.first, head.first + head.n)

    def _own_inputs(self, head: m.EventHead) -> tuple[Table, ...]:
        """The inputs of an event's tasks, of which this client has put all; those that are through are let go."""
        low, high = head.first, head.first + head.n
        if not self._inputs.cover(low, high):
            return ()
        tables = self._inputs.of(low, high)
        if head.kind in ("done", "cancelled"):
            self._inputs.on_ended(low, high)
        return tables

    @abstractmethod
    def _ask_for(self, page: m.Replay) -> None:
        """Ask the daemon for a page of events; :meth:`on_page` is to hear of it."""

    def _request_page(self) -> None:
        self._asking = True
        self._pages_asked += 1
        self._page_asked_at = None
        self._ask_for(m.Replay(0, self.id, self.next_seq, inputs=self.wants_inputs))
