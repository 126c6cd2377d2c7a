"""A run as its client sees it, without sockets: what was put and not acknowledged, what was told and not taken.

Putting
    A put is sent at once when everything before it is acknowledged, and joins its neighbours when it is not: under load
    blocks grow by themselves, and an idle line costs nothing in latency. What is not acknowledged is kept and sent
    again, under the same numbers, until it is.

Taking
    Events are taken in the order of their numbers and none twice. A gap (a subscriber that was too slow, a connection
    that was cut, a payload too large to be published) is filled by asking for the missing pages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus import codec, sockets, topics
from taskmaster.bus import messages as m
from taskmaster.bus.errors import (
    BUSY,
    Fenced,
    Full,
    Gap,
    InvalidTask,
    JournalDamaged,
    RunClosed,
    TaskMasterError,
    UnknownRun,
    from_code,
)
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import BARE, Buffer, Layout, Table, pack_column, pack_values
from taskmaster.bus.values import keep
from taskmaster.learners.code import dumps
from taskmaster.learners.inputs import Inputs
from taskmaster.learners.results import Chunk, Result
from taskmaster.learners.sizes import SMALL, Limit, weight

__all__ = ["RunCore"]

#: Rows and bytes of a block at most. A block is one message, one row of the journal and one answer.
BLOCK_ROWS = 131_072
BLOCK_BYTES = 4 << 20
#: Single puts that are gathered at most before they are sent whatever is outstanding.
GATHER_ROWS = 16_384
#: Blocks are sent ahead of their acknowledgement up to so many tasks and bytes.
WINDOW_TASKS = 4 << 20
WINDOW_BYTES = 256 << 20
#: Seconds without an acknowledgement after which the daemon is asked what it has.
OVERDUE_SECONDS = 2.0
#: Pauses before a daemon that was full is asked again.
BUSY_FIRST_SECONDS = 0.05
BUSY_LONGEST_SECONDS = 1.0
_GAP_SECONDS = 0.2
#: Events that arrived behind a gap and wait for it to be filled.
_AHEAD = 256
#: Bytes of results that wait here to be taken; further ones stay with the daemon until half of that is left.
READ_AHEAD = 64 << 20
#: What an event takes beside its frames and errors.
_EVENT_BYTES = 512


class _Block:
    """A block that is not acknowledged."""

    __slots__ = ("first", "frames", "n", "nbytes", "sent_at")

    def __init__(self, first: int, n: int, frames: list[Buffer], nbytes: int) -> None:
        self.first = first
        self.n = n
        self.frames = frames
        self.nbytes = nbytes
        self.sent_at = 0.0


class RunCore:
    """One run's state in one client. ``send`` queues frames for the control socket; ``ask`` makes a Replay request."""

    def __init__(
        self,
        opened: m.Opened,
        schema: Schema,
        *,
        write: bool,
        since: int,
        code: bool = False,
        max_message: int = sockets.MAX_MESSAGE,
        send: Callable[[list[Buffer]], None],
        ask: Callable[[RunCore, m.Replay], None],
    ) -> None:
        self.id = opened.run
        self.name = opened.name
        self.master = opened.master
        self.seed = opened.seed
        self.metadata = opened.metadata
        self.writer = opened.writer
        self.write = write
        self.schema = schema
        self._limit = Limit(opened.master, max_message)
        self.closed = opened.closed
        #: the topic it is followed by, see `ClientCore`
        self.followed: bytes | None = None
        #: why nothing more can be put, or come; raised at the next put, and when what has come is taken
        self.error: TaskMasterError | None = None
        # -- putting
        self.next_index = opened.next_index
        self.acknowledged = opened.next_index
        self._send = send
        self._rows: list[Any] = []
        self._asks: list[tuple[int, int]] = []
        self._asked_after: int | None = None
        self._unacknowledged: deque[_Block] = deque()
        self._unsent = 0
        self._outstanding_bytes = 0
        self._busy_until = 0.0
        self._busy_pause = BUSY_FIRST_SECONDS
        #: the daemon was full: one block is sent until one is taken, lest it be sent the whole window to refuse
        self._probing = False
        self._gap_at = 0.0
        # -- taking
        #: events must come with their inputs: unless every task of the run is this client's own
        self.wants_inputs = not write or opened.next_index > 0
        #: number of the next event expected from the daemon
        self.next_seq = since
        #: the last event its learner has been told, -1 before the first
        self.told = since - 1
        self.chunks: deque[Chunk] = deque()
        #: tasks that were put, or were open when the run was opened, and whose outcome has not arrived
        self.open_tasks = opened.open_tasks if since == opened.next_seq else opened.next_index
        self.last_heard = 0.0
        self._inputs = Inputs()
        #: bytes of events that have come and were not taken
        self._waiting_bytes = 0
        self._ahead: dict[int, tuple[m.EventHead, Sequence[Buffer]]] = {}
        self._replay_to = opened.next_seq
        self._ask = ask
        #: tasks are pickled functions and arguments, see `workmaster`
        self.takes_code = code
        self._code: dict[int, Any] = {}
        self._asking = False
        if since < opened.next_seq:
            self._request_page()

    # -- putting ------------------------------------------------------------------------------------------------------

    def put(self, point: Any, now: float) -> int:
        """Put one task; returns its index. Raises InvalidTask."""
        if self.error is not None:
            raise self.error
        # Gathered rows are packed later: from here on nothing may go wrong with this one, and nobody change it.
        row = self.schema.row(point) if self.schema.fields else self._keep(point)
        if not (self.schema.is_matrix or type(row) in SMALL):
            self._limit.require(weight(row), "a point")
        if self.told != self._asked_after:
            self._note_ask()
        self._rows.append(row)
        index = self.next_index
        self.next_index = index + 1
        self.open_tasks += 1
        if not self._unacknowledged or len(self._rows) >= GATHER_ROWS:
            self.flush(now)
        return index

    def put_many(self, points: Any, now: float) -> range:
        """Put many tasks as blocks; returns their indices. Raises InvalidTask, and has then put none."""
        if self.error is not None:
            raise self.error
        if self.takes_code:
            points = [self._pickle(self.next_index + k, point) for k, point in enumerate(points)]
        table = self._pack(points)
        if not table.n:
            return range(self.next_index, self.next_index)
        pieces = list(self._limit.pieces(table, BLOCK_BYTES, BLOCK_ROWS))
        self.flush(now)
        self._note_ask()
        first = self.next_index
        for piece in pieces:
            self._add_block(piece, now)
        self.next_index += table.n
        self.open_tasks += table.n
        self._transmit(now)
        return range(first, self.next_index)

    def _keep(self, point: Any) -> Any:
        if self.takes_code:
            return self._pickle(self.next_index, point)
        try:
            return keep(point)
        except TypeError as error:
            raise InvalidTask(f"Master {self.master!r}: {error}") from None

    def _pickle(self, index: int, task: Any) -> bytes:
        """A task that brings its own code; what it was is kept for its result."""
        function, args, kwargs = self._call_of(task)
        data = dumps((function, args, kwargs), function)
        self._code[index] = task
        return data

    def _call_of(self, task: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        parts = task if isinstance(task, tuple) else (task,)
        function, args, kwargs = (*parts, *(None, (), {})[len(parts) :]) if len(parts) <= 3 else (None, (), {})
        if not callable(function) or not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
            raise InvalidTask(
                f"Master {self.master!r} takes (function, args, kwargs) as tasks, not {task!r}; leave out what is empty"
            )
        return function, tuple(args), dict(kwargs)

    def new_ask(self) -> None:
        """What is put next belongs to a new ask of the learner, even if it has been told nothing since the last."""
        self._asked_after = None

    def flush(self, now: float) -> None:
        """Send what was gathered."""
        if self._rows:
            rows, self._rows = self._rows, []
            table = self.schema.pack_rows(rows) if self.schema.fields else pack_values(rows)
            for piece in self._limit.pieces(table, BLOCK_BYTES, BLOCK_ROWS) if len(rows) > 1 else (table,):
                self._add_block(piece, now)
        self._transmit(now)

    @property
    def has_room(self) -> bool:
        """Whether another task may be put without waiting: not while a full daemon has taken none of what was."""
        outstanding = self.next_index - self.acknowledged
        return (
            outstanding < WINDOW_TASKS
            and self._outstanding_bytes < WINDOW_BYTES
            and not (self._busy_until or self._probing)
            and self.write
        )

    def require_room(self) -> None:
        """Raise Full where a put would have to wait, and what is wrong where it would be in vain."""
        self.require_writable()
        if not self.has_room:
            raise Full(
                f"run {self.name!r} of Master {self.master!r}: {self.next_index - self.acknowledged} tasks wait to be "
                "acknowledged; put again later"
            )

    def require_writable(self) -> None:
        """Raise what is wrong with the run, if anything; and RunClosed if it is not open for writing."""
        if self.error is not None:
            raise self.error
        if not self.write:
            raise RunClosed(
                f"run {self.name!r} of Master {self.master!r} was opened for reading; open() it to put tasks"
            )

    @property
    def is_turned_away(self) -> bool:
        """Whether the daemon was full when it was last asked to take what is outstanding."""
        return self._probing

    @property
    def is_settled(self) -> bool:
        """Whether all that was put is acknowledged."""
        return not self._rows and not self._unacknowledged

    @property
    def has_gathered(self) -> bool:
        """Whether puts wait to be sent."""
        return bool(self._rows)

    def _pack(self, points: Any) -> Table:
        if self.schema.fields:
            return self.schema.pack_points(points)
        try:
            if isinstance(points, np.ndarray) and points.ndim:
                part, frames = pack_column(BARE, points.copy())
                return Table(Layout((part,)), len(points), frames)
            return pack_values(list(points))
        except TypeError as error:
            raise InvalidTask(f"Master {self.master!r}: {error}; none of the block was queued") from None

    def _note_ask(self) -> None:
        self._asked_after = self.told
        self._asks.append((len(self._rows), self.told))

    def _add_block(self, table: Table, now: float) -> None:
        first = (
            self._unacknowledged[-1].first + self._unacknowledged[-1].n if self._unacknowledged else self.acknowledged
        )
        asks, self._asks = tuple(self._asks), []
        message = m.Submit(self.id, self.writer, first, table.n, table.layout, asks)
        block = _Block(first, table.n, [codec.encode(message), *table.frames], table.nbytes)
        if not self.wants_inputs:
            self._inputs.append(first, table)
        self._unacknowledged.append(block)
        self._unsent += 1
        self._outstanding_bytes += block.nbytes

    def _transmit(self, now: float) -> None:
        """Send the blocks that were not sent yet, unless the daemon was full just now."""
        if self._busy_until > now:
            return
        self._busy_until = 0.0
        blocks = self._unacknowledged
        start = len(blocks) - self._unsent
        stop = min(1, len(blocks)) if self._probing else len(blocks)
        for k in range(start, stop):
            blocks[k].sent_at = now
            self._send(blocks[k].frames)
        self._unsent = len(blocks) - max(start, stop)

    def on_writer(self, writer: int) -> None:
        """``writer`` is the run's newest: if that is not this client, it was fenced off."""
        if self.write and writer > self.writer and self.error is None:
            self.error = Fenced(
                f"run {self.name!r} of Master {self.master!r} was opened again by another writer; only the newest one "
                "may submit: open it again to take over"
            )
            self._abandon(self.acknowledged)

    def on_ack(self, next_index: int, writer: int, now: float) -> None:
        """All tasks below ``next_index`` are on disk; of this client, if it is still the newest writer."""
        self.on_writer(writer)
        if not self.write:
            self.open_tasks += max(0, next_index - self.next_index)
            self.next_index = self.acknowledged = max(self.next_index, next_index)
        elif writer == self.writer:
            self._acknowledge(next_index, now)

    def _acknowledge(self, next_index: int, now: float) -> None:
        blocks = self._unacknowledged
        while blocks and blocks[0].first + blocks[0].n <= next_index:
            block = blocks.popleft()
            self._outstanding_bytes -= block.nbytes
            self._unsent = min(self._unsent, len(blocks))
            self._probing = False
        self.acknowledged = max(self.acknowledged, next_index)
        self._busy_pause = BUSY_FIRST_SECONDS
        if self._unsent and not self._probing:
            self._transmit(now)
        if not blocks and self._rows:
            self.flush(now)

    def on_refused(self, refused: m.Refused, now: float) -> None:
        """A submission was not taken: try again later, or from where the daemon stands, or give up and say why."""
        if refused.code in BUSY:
            self._probing = True
            self._unsent = len(self._unacknowledged)
            self._busy_until = now + self._busy_pause
            self._busy_pause = min(2 * self._busy_pause, BUSY_LONGEST_SECONDS)
        elif refused.code == Gap.code:
            self._acknowledge(refused.next_index, now)
            # Every block behind the missing one is refused like this; one repetition answers them all.
            if self._busy_until <= now and now - self._gap_at > _GAP_SECONDS:
                self._gap_at = now
                self._unsent = len(self._unacknowledged)
                self._transmit(now)
        elif refused.first >= self.acknowledged:
            self.error = from_code(refused.code, refused.message)
            # Behind a newer writer the daemon's number counts that one's tasks too.
            self._abandon(self.acknowledged if refused.code == Fenced.code else refused.next_index)

    def _abandon(self, next_index: int) -> None:
        """The daemon will not take what is outstanding: those tasks do not exist."""
        taken = max(next_index, self.acknowledged)
        lost = self.next_index - taken
        self._inputs.cut(taken)
        self._unacknowledged.clear()
        self._rows.clear()
        self._unsent = self._outstanding_bytes = 0
        self.next_index -= lost
        self.open_tasks -= lost
        self._busy_until = 0.0
        self._probing = False

    def on_tick(self, now: float) -> None:
        """Once in a while: send what was held back."""
        if self._busy_until:
            if now >= self._busy_until:
                self._transmit(now)
        elif not self._unacknowledged and self._rows:
            self.flush(now)

    def is_overdue(self, now: float) -> bool:
        """Whether the daemon should have acknowledged by now what it was sent: if it was not full, it, or its
        acknowledgement, is lost; or still on its way over a slow line."""
        blocks = self._unacknowledged
        return bool(blocks) and not self._busy_until and now - blocks[0].sent_at > OVERDUE_SECONDS

    @property
    def sent_to(self) -> int:
        """Tasks below this index have been sent."""
        k = len(self._unacknowledged) - self._unsent - 1
        return self._unacknowledged[k].first + self._unacknowledged[k].n if k >= 0 else self.acknowledged

    def resend(self, now: float) -> None:
        """Send again all that is not acknowledged: some of it was lost."""
        if not self._busy_until:
            self._unsent = len(self._unacknowledged)
            self._transmit(now)

    # -- taking -------------------------------------------------------------------------------------------------------

    def on_event(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        """A row of events: the expected one, one that is known already, or one behind a gap."""
        if head.seq + head.n <= self.next_seq:
            return
        if not self._has_inputs(head):
            # A task of somebody else's: from here on inputs are needed too.
            self.wants_inputs = True
            self.on_end(head.seq + head.n)
            return
        if head.seq > self.next_seq or self._waiting_bytes > READ_AHEAD:
            if len(self._ahead) < _AHEAD and self._waiting_bytes <= READ_AHEAD:
                self._ahead[head.seq] = (head, frames)
            self.on_end(head.seq + head.n)
            return
        self._append(head, frames)
        while self._ahead:
            following = self._ahead.pop(self.next_seq, None)
            if following is None or not self._has_inputs(following[0]):
                self._ahead = {seq: event for seq, event in self._ahead.items() if seq > self.next_seq}
                break
            self._append(*following)

    @property
    def topic(self) -> bytes:
        """What has to be followed to hear of its events."""
        name = topics.with_inputs_topic if self.wants_inputs else topics.events_topic
        return name(self.master, self.id)

    def on_end(self, next_seq: int) -> None:
        """The daemon says where the run's events end: if that is further than here, ask for what is missing."""
        self._replay_to = max(self._replay_to, next_seq)
        self._read_on()

    def _read_on(self) -> None:
        """Ask for what is missing, if its learner keeps up."""
        if self.next_seq < self._replay_to and not self._asking and self._waiting_bytes <= READ_AHEAD // 2:
            self._request_page()

    def on_page(self, page: m.Page, frames: Sequence[Sequence[Buffer]]) -> None:
        """A page of recorded events."""
        self._asking = False
        self.on_writer(page.writer)
        for head, own in zip(page.events, frames):
            self.on_event(head, own)
        self.on_end(page.next_seq)

    def on_failed(self, error: TaskMasterError) -> None:
        """What was asked on the run's behalf was refused: what the journal holds is damaged, or the run is gone."""
        self.error = error

    def on_gone(self) -> None:
        """The run was deleted."""
        self._abandon(self.acknowledged)
        self._end(UnknownRun(f"run {self.name!r} of Master {self.master!r} was deleted; open it to begin a new one"))

    def on_left(self) -> None:
        """This client has left the run."""
        self._end(RunClosed(f"run {self.name!r} of Master {self.master!r} was closed here; open it by name to go on"))

    def _end(self, error: TaskMasterError) -> None:
        if self.error is None:
            self.error = error

    def on_pong(self, ping: m.Ping, pong: m.Pong, sent_to: int, now: float) -> bool:
        """Where the run stands by the daemon's journal, when it had read all that was sent before it was asked.

        Tasks below ``sent_to`` had been: whether some were lost on the way, and all that is not acknowledged is sent
        again. What the daemon knows is held against what was known when it was asked: it has lost its end, if that is
        less; newer events may have overtaken the answer.
        """
        if pong.next_index < ping.next_index or pong.next_seq < ping.next_seq:
            self.error = JournalDamaged(
                f"run {self.name!r}: {ping.next_index} tasks were acknowledged and {ping.next_seq} events told, but "
                f"the restarted daemon knows of {pong.next_index} and {pong.next_seq}; see 'taskmaster check --journal'"
            )
            return False
        self.on_ack(pong.next_index, pong.writer, now)
        lost = self.write and self.error is None and self.acknowledged < sent_to
        if lost:
            self.resend(now)
        self.on_end(pong.next_seq)
        return lost

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
            self._drop_first()
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
            self._drop_first()
        return None

    def after(self, chunk: Chunk | None) -> Chunk | None:
        """The chunk that follows one of which all was taken; None if it has not arrived."""
        if chunk is not None and self.chunks and self.chunks[0] is chunk:
            self._drop_first()
        return self.current()

    def _drop_first(self) -> None:
        self._waiting_bytes -= self.chunks.popleft().nbytes
        self._read_on()

    def require_more(self) -> None:
        """Raise why no further result can come, if that is so. To be called when all that came was taken."""
        if self.error is not None:
            raise self.error
        if self.is_over:
            raise RunClosed(f"run {self.name!r} of Master {self.master!r} is closed, and all its results were taken")

    def _append(self, head: m.EventHead, frames: Sequence[Buffer]) -> None:
        outputs, times, inputs = codec.event_tables(head, frames)
        known = max(0, self.next_seq - head.seq)
        chunk = Chunk(head, outputs, times, (inputs,) if inputs is not None else self._own_inputs(head), known)
        self.next_seq = head.seq + head.n
        if chunk.is_about_tasks:
            self.open_tasks -= head.n - known
        if self.takes_code and chunk.is_about_tasks:
            chunk.set_inputs([self._code.pop(head.first + k, None) or chunk.input(k) for k in range(head.n)])
        chunk.nbytes = _EVENT_BYTES + sum(map(len, frames)) + sum(len(error.traceback) for error in head.errors)
        self._waiting_bytes += chunk.nbytes
        self.chunks.append(chunk)

    def _has_inputs(self, head: m.EventHead) -> bool:
        """Whether the inputs of an event's tasks came with it, or are still here."""
        if head.inputs is not None or head.kind in ("closed", "reopened"):
            return True
        return self._inputs.cover(head.first, head.first + head.n)

    def _own_inputs(self, head: m.EventHead) -> tuple[Table, ...]:
        """The inputs of an event's tasks, from the blocks this client has put; those that are through are let go."""
        tables = self._inputs.of(head.first, head.first + head.n)
        if head.kind in ("done", "cancelled"):
            self._inputs.done(head.first, head.first + head.n)
        return tables

    def _request_page(self) -> None:
        self._asking = True
        self._ask(self, m.Replay(0, self.id, self.next_seq, inputs=self.wants_inputs))
