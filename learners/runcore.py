"""A run as its client sees it, without sockets: what was put and not acknowledged. What was told: `following`.

Putting
    A put is sent at once when everything before it is acknowledged, and joins its neighbours when it is not: under load
    blocks grow by themselves, and an idle line costs nothing in latency. What is not acknowledged is kept and sent
    again, under the same numbers, when it was lost.

Losses
    A connection keeps order, and only its breaking loses anything, of which ZeroMQ says nothing. So where an answer is
    late, a short question is sent behind what it is the answer to. When the daemon answers that, what was sent before
    has arrived or was lost: only then is it sent again. However slow a line is, nothing large crosses it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus import codec, messages as m
from taskmaster.bus.calls import meant, named_call
from taskmaster.bus.errors import (
    BUSY,
    Fenced,
    Full,
    Gap,
    InvalidTask,
    JournalDamaged,
    RunClosed,
    UnknownRun,
    from_code,
)
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import BARE, Buffer, Layout, Table, pack_column, pack_values
from taskmaster.bus.values import keep
from taskmaster.learners.arguments import heads_wanted
from taskmaster.learners.blocks import LIGHT, MAX_MESSAGE, Fit
from taskmaster.learners.code import call_of, dumps
from taskmaster.learners.following import Following
from taskmaster.learners.window import Block, Window

__all__ = ["RunCore"]

#: Single puts that are gathered at most before they are sent whatever is outstanding.
GATHER_ROWS = 16_384
#: So many tasks and bytes may wait for their acknowledgement before the next put has to wait, too.
WINDOW_TASKS = 4 << 20
WINDOW_BYTES = 256 << 20
#: Seconds for a page, at most, after which it may be that it was lost, see `following`.
PAGE_LONGEST_SECONDS = 60.0
#: An ask takes so many bytes of a block's header at most.
_ASK_BYTES = 32


class RunCore(Following):
    """One run's state in one client.

    ``send`` queues frames for the control socket; ``ask`` makes a Replay or Ping request, in place of the one before;
    ``max_message`` is how many bytes the daemon takes in one message.
    """

    def __init__(
        self,
        opened: m.Opened,
        schema: Schema,
        *,
        write: bool,
        since: int,
        code: bool = False,
        calls: Sequence[str] = (),
        send: Callable[[list[Buffer]], None],
        ask: Callable[[RunCore, m.Replay | m.Ping], None],
        max_message: int = MAX_MESSAGE,
        heads: Sequence[m.HeadName] = (),
    ) -> None:
        super().__init__(opened, write=write, since=since, code=code)
        self.seed = opened.seed
        self.metadata = opened.metadata
        self.writer = opened.writer
        self.write = write
        self.schema = schema
        self.next_index = opened.next_index
        self._fit = Fit(schema, opened.master, max_message)
        self._all_fit = self._fit.is_certain
        self._window = Window(opened.next_index, send)
        self._rows: list[Any] = []
        #: puts are kept although they could be sent: further ones are about to come
        self.is_gathering = False
        #: which heads those ask for that are gathered, or are put next
        self._where: m.Where | None = None
        self._heads = heads
        #: tasks are calls of functions by name, of these
        self._calls = calls
        self._row_bytes = 0
        self._most_rows = min(GATHER_ROWS, max(1, max_message // (2 * _ASK_BYTES)))
        #: those since the last block, by the row that was to be the next one
        self._asks: list[m.Ask] = []
        #: what had been told when the last of them was noted; None: what is put next needs a note of its own
        self._asked_after: int | None = None
        #: that was just now: a block that is put belongs to it
        self._has_asked = False
        #: it was of an order over several runs, and whoever keeps that notes everything: results are taken ahead there
        self._is_ordered = False
        self._ask = ask
        #: a Ping is out: what had been sent before it, of tasks and of questions for pages
        self._inquiry: tuple[int, int] | None = None
        if since < opened.next_seq:
            self._request_page()

    # -- putting ------------------------------------------------------------------------------------------------------

    def put(self, point: Any, now: float, where: Mapping[str, str] | None = None) -> int:
        """Put one task; returns its index. Raises InvalidTask."""
        if self.error is not None:
            raise self.error
        if where is not None or self._where is not None:
            self._place(where, now)
        # Gathered rows are packed later: from here on nothing may go wrong with this one, and nobody change it.
        row = self.schema.row(point) if self.schema.fields else self._keep(point)
        if not self._all_fit and type(row) not in LIGHT and not (type(row) is int and -(2**63) < row < 2**63):
            self._weigh(row, now)
        if self.told != self._asked_after and not self._is_ordered:
            self._note_ask(self.told, m.BY_HAND)
        self._has_asked = False
        self._rows.append(row)
        index = self.next_index
        self.next_index = index + 1
        self.open_tasks += 1
        is_much = max(len(self._rows), len(self._asks)) >= self._most_rows
        if is_much or not (self._window.count or self.is_gathering):
            self.flush(now)
        return index

    def _weigh(self, row: Any, now: float) -> None:
        """Require that a row fits into a message; where enough bytes are gathered already, they go before it."""
        size = self._fit.require_row(row)
        if self._row_bytes + size > self._fit.block_bytes:
            self.flush(now)
        self._row_bytes += size

    def _place(self, where: Mapping[str, str] | None, now: float) -> None:
        """What is put next asks for these heads; a block is for one place."""
        place = heads_wanted(where, self.master, self._heads)
        if place != self._where:
            self.flush(now)
            self._where = place

    def put_many(self, points: Any, now: float, where: Mapping[str, str] | None = None) -> range:
        """Put many tasks as blocks; returns their indices. Raises InvalidTask, and has then put none."""
        if self.error is not None:
            raise self.error
        if where is not None or self._where is not None:
            self._place(where, now)
        if self.takes_code:
            points = [self._pickle(self.next_index + k, point) for k, point in enumerate(points)]
        elif self._calls:
            points = [self._named(point) for point in points]
        table = self._pack(points)
        self._fit.require(table)
        if not table.n:
            return range(self.next_index, self.next_index)
        self.flush(now)
        if not (self._is_ordered or (self._has_asked and self.told == self._asked_after)):
            self._note_ask(self.told, m.BY_HAND)
        self._has_asked = False
        first = self.next_index
        self._add(table)
        self.next_index += table.n
        self.open_tasks += table.n
        self._window.transmit(now)
        return range(first, self.next_index)

    def _keep(self, point: Any) -> Any:
        if self.takes_code:
            return self._pickle(self.next_index, point)
        try:
            return keep(self._named(point) if self._calls else point)
        except TypeError as error:
            raise InvalidTask(f"Master {self.master!r}: {error}") from None

    def _pickle(self, index: int, task: Any) -> bytes:
        """A task that brings its own code; what it was is kept for its result."""
        function, args, kwargs = call_of(task, self.master, by_name=bool(self._calls))
        data = dumps((function, args, kwargs), meant(function, args))
        self._code[index] = task
        return data

    def _named(self, task: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """A task that says by name which function is to be called."""
        return named_call(self.master, self._calls, *call_of(task, self.master, by_name=bool(self._calls)))

    def new_ask(self, after: int | None = None, asked: int = m.BY_HAND, order: m.Order | None = None) -> None:
        """The learner was asked for so many points; what is put next is what it gave. Or what else `bus.messages.Ask`
        knows.

        ``after`` is the last event it had been told then; by default that is :attr:`told`.
        """
        self._note_ask(self.told if after is None else after, asked, order)

    def take_vain(self) -> tuple[int, tuple[m.Ask, ...]]:
        """What the learner was asked behind the last task that was put, and where that ends; from now on the caller's.

        Nothing, as long as not everything that was put is acknowledged: it goes with the next block. What nobody says
        the learner was asked is nothing to be told either.
        """
        asks = self._asks
        if not (self.write and self.is_settled and self.acknowledged and any(ask.asked != m.BY_HAND for ask in asks)):
            return self.acknowledged, ()
        self._asks = []
        return self.acknowledged, tuple(asks)

    def give_back(self, first: int, asks: Sequence[m.Ask]) -> None:
        """They could not be noted: they go with the next block, if there has been none since."""
        if self.next_index == first:
            self._asks[:0] = asks

    def flush(self, now: float) -> None:
        """Send what was gathered."""
        if self._rows:
            rows, self._rows, self._row_bytes = self._rows, [], 0
            self._add(self.schema.pack_rows(rows) if self.schema.fields else pack_values(rows))
        self._window.transmit(now)

    @property
    def has_room(self) -> bool:
        """Whether another task may be put without waiting: not while a full daemon has taken none of what was."""
        window = self._window
        return (
            self.next_index - window.acknowledged < WINDOW_TASKS
            and window.nbytes < WINDOW_BYTES
            and not (window.busy_until or window.is_probing)
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
    def acknowledged(self) -> int:
        """Tasks below this index are on the daemon's disk."""
        return self._window.acknowledged

    @property
    def is_turned_away(self) -> bool:
        """Whether the daemon was full when it was last asked to take what is outstanding."""
        return self._window.is_probing

    @property
    def put_off_until(self) -> float:
        """When the daemon, which was full, is asked again; 0 where it was not."""
        return self._window.busy_until

    @property
    def is_settled(self) -> bool:
        """Whether all that was put is acknowledged."""
        return not self._rows and not self._window.count

    @property
    def is_ready_to_send(self) -> bool:
        """Whether puts wait for nothing but that they are sent."""
        return bool(self._rows) and not self._window.count

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

    def _note_ask(self, after: int, asked: int, order: m.Order | None = None) -> None:
        """Note an ask with the tasks that are put next, whichever those are.

        Those of which nothing was put wait for a block to travel with, and there is a bound to how many do. At the
        bound two are noted that say of nothing what was asked, and then no further ones before a block has taken them
        along. The first has no tasks, and so `BY_HAND` means nothing else there: a replay knows that there is a gap.
        """
        self._asked_after = self.told
        self._has_asked = True
        self._is_ordered = order is not None
        most = 2 * self._most_rows
        if len(self._asks) < most:
            self._asks.append(m.Ask(len(self._rows), after, asked, order))
        elif len(self._asks) == most:
            self._asks += 2 * [m.Ask(len(self._rows), after, m.BY_HAND)]

    def _add(self, table: Table) -> None:
        """Add tasks to the window in blocks, each with those asks of the learner that began in it."""
        asks, self._asks = self._asks, []
        low, window = 0, self._window
        for block in self._fit.blocks(table):
            high = low + block.n
            own = [_moved(ask, low) for ask in asks if low <= ask.offset < high]
            first = window.end
            message = m.Submit(self.id, self.writer, first, block.n, block.layout, tuple(own), self._where)
            window.add(Block(first + block.n, [codec.encode(message), *block.frames], block.nbytes))
            if not self.wants_inputs:
                self._inputs.add(first, block)
            low = high
        if asks and asks[-1].offset >= low:  # it gave nothing that was put before: that goes with the next block
            self._asks = [_moved(ask, low) for ask in asks if ask.offset >= low]

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
            self.on_extent(next_index)
        elif writer == self.writer:
            self._acknowledge(next_index, now)

    def on_extent(self, next_index: int) -> None:
        """There are tasks below this index: news to those who only read the run."""
        if not self.write and next_index > self.next_index:
            self.open_tasks += next_index - self.next_index
            self.next_index = next_index
            self._window.acknowledge(next_index, 0.0)

    def _acknowledge(self, next_index: int, now: float) -> None:
        self._window.acknowledge(next_index, now)
        if self._rows and not self._window.count:
            self.flush(now)

    def on_refused(self, refused: m.Refused, now: float) -> None:
        """A submission was not taken: try again later, or from where the daemon stands, or give up and say why."""
        if refused.code in BUSY:
            self._window.on_full(now)
        elif refused.code == Gap.code:
            # So is every block behind the one that was lost, and there may be many on their way.
            self._acknowledge(refused.next_index, now)
            self._inquire()
        elif refused.first >= self.acknowledged:
            self.error = from_code(refused.code, refused.message)
            # Behind a newer writer the daemon's number counts that one's tasks too.
            self._abandon(self.acknowledged if refused.code == Fenced.code else refused.next_index)

    def _abandon(self, next_index: int) -> None:
        """The daemon will not take what is outstanding: those tasks do not exist."""
        taken = max(next_index, self.acknowledged)
        lost = self.next_index - taken
        self.is_cut_short |= lost > 0
        self._inputs.drop_from(taken)
        self._window.clear(taken)
        self._rows.clear()
        self._asks.clear()
        self._row_bytes = 0
        self.next_index -= lost
        self.open_tasks -= lost

    # -- losses -------------------------------------------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Once in a while: send what was put off, and inquire after what is late."""
        window = self._window
        if window.busy_until:
            window.transmit(now)
        elif self._rows and not window.count:
            self.flush(now)
        if self._asking and self._page_asked_at is None:
            self._page_asked_at = now
        page_is_late = self._page_asked_at is not None and now - self._page_asked_at > self._page_seconds
        if window.is_late(now) or page_is_late:
            self._inquire()

    def _inquire(self, *, anew: bool = False) -> None:
        """Ask where the daemon stands, behind everything that was sent to it, unless that was asked already."""
        if self._inquiry is None or anew:
            self._inquiry = (self._window.sent_to, self._pages_asked if self._asking else 0)
            self._ask(self, m.Ping(0, self.id, self.acknowledged, self.next_seq))

    def on_restart(self) -> None:
        """The daemon was restarted: whatever was on its way is lost."""
        self._inquire(anew=True)

    def on_pong(self, ping: m.Ping, pong: m.Pong, now: float) -> None:
        """This is where the daemon's journal says the run stands; what was sent before the ``ping`` and lacks is lost.

        It is held against what was known when it was asked: newer events may have overtaken the answer.
        """
        if pong.next_index < ping.next_index or pong.next_seq < ping.next_seq:
            self.error = JournalDamaged(
                f"run {self.name!r}: {ping.next_index} tasks were acknowledged and {ping.next_seq} events told, but "
                f"the restarted daemon knows of {pong.next_index} and {pong.next_seq}; see 'taskmaster check --journal'"
            )
            return
        sent_to, page = self._inquiry or (0, 0)
        self._inquiry = None
        self.on_ack(pong.next_index, pong.writer, now)
        if self.acknowledged < sent_to:
            self._window.send_again(now)
        if self._asking and page == self._pages_asked:
            self._asking = False
            self._page_seconds = min(2 * self._page_seconds, PAGE_LONGEST_SECONDS)
        self.on_end(pong.next_seq)

    def _ask_for(self, page: m.Replay) -> None:
        self._ask(self, page)

    def on_page(self, page: m.Page, frames: Sequence[Sequence[Buffer]]) -> None:
        """A page of recorded events."""
        self.on_writer(page.writer)
        self.on_extent(page.next_index)
        super().on_page(page, frames)

    def on_gone(self) -> None:
        """The run was deleted."""
        self._abandon(self.acknowledged)
        self._end(UnknownRun(f"run {self.name!r} of Master {self.master!r} was deleted; open it to begin a new one"))


def _moved(ask: m.Ask, rows: int) -> m.Ask:
    """An ask of a table as one of what is left behind so many of its rows."""
    return m.Ask(ask.offset - rows, ask.after, ask.asked, ask.order)
