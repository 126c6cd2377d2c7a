"""Blocks of tasks on their way to the daemon's disk.

Blocks are sent ahead of their acknowledgement, up to a bound, so that a line is kept busy and what is asked behind them
is still answered soon. Nothing is sent twice for being slow: how long a block takes to cross a line nobody here can
know, and a second copy would only make it slower. Blocks go out again when it is known that they were lost, because the
daemon has answered a question that was asked behind them, or because it has been full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from taskmaster.bus.table import Buffer

__all__ = ["Block", "Window"]

#: Bytes that are sent ahead of their acknowledgement, and what the last block has more.
SENT_BYTES = 16 << 20
#: Seconds without an acknowledgement after which the daemon is asked where it stands.
LATE_SECONDS = 2.0
#: Pauses before a daemon that was full is asked again.
BUSY_FIRST_SECONDS = 0.05
BUSY_LONGEST_SECONDS = 1.0


class Block:
    """A block that is not acknowledged."""

    __slots__ = ("end", "frames", "nbytes")

    def __init__(self, end: int, frames: list[Buffer], nbytes: int) -> None:
        #: one past the index of its last task
        self.end = end
        self.frames = frames
        self.nbytes = nbytes


class Window:
    """The blocks of one run that are not acknowledged. ``send`` queues frames for the control socket."""

    def __init__(self, first: int, send: Callable[[list[Buffer]], None]) -> None:
        #: tasks below this index are on the daemon's disk
        self.acknowledged = first
        #: tasks below this index are in a block
        self.end = first
        #: how many blocks there are, and their bytes
        self.count = 0
        self.nbytes = 0
        #: until then nothing is sent, because the daemon was full; 0 where it was not
        self.busy_until = 0.0
        #: the daemon was full: one block is sent until one is taken, lest it be sent the whole window to refuse
        self.is_probing = False
        self._send = send
        self._sent: deque[Block] = deque()
        self._unsent: deque[Block] = deque()
        self._sent_bytes = 0
        self._busy_pause = BUSY_FIRST_SECONDS
        #: when an acknowledgement came last, or the first block was sent after there was none to wait for
        self._moved_at = 0.0

    @property
    def sent_to(self) -> int:
        """Tasks below this index were sent."""
        return self._sent[-1].end if self._sent else self.acknowledged

    def add(self, block: Block) -> None:
        """Put a block behind the others, to be sent by :meth:`transmit`."""
        self._unsent.append(block)
        self.end = block.end
        self.count += 1
        self.nbytes += block.nbytes

    def transmit(self, now: float) -> None:
        """Send on what may be sent."""
        if self.busy_until > now:
            return
        self.busy_until = 0.0
        sent, unsent = self._sent, self._unsent
        while unsent and (not sent or (self._sent_bytes < SENT_BYTES and not self.is_probing)):
            block = unsent.popleft()
            if not sent:
                self._moved_at = now
            sent.append(block)
            self._sent_bytes += block.nbytes
            self._send(block.frames)

    def acknowledge(self, next_index: int, now: float) -> None:
        """All tasks below ``next_index`` are on disk: send on what they have made room for."""
        sent, unsent = self._sent, self._unsent
        while sent and sent[0].end <= next_index:
            block = sent.popleft()
            self._sent_bytes -= block.nbytes
            self._let_go(block, now)
        while unsent and unsent[0].end <= next_index:  # it was sent before, and was to be sent again
            self._let_go(unsent.popleft(), now)
        self.acknowledged = max(self.acknowledged, next_index)
        self.end = max(self.end, next_index)
        self._busy_pause = BUSY_FIRST_SECONDS
        if unsent and not self.is_probing:
            self.transmit(now)

    def _let_go(self, block: Block, now: float) -> None:
        self.count -= 1
        self.nbytes -= block.nbytes
        self.is_probing = False
        self._moved_at = now

    def on_full(self, now: float) -> None:
        """The daemon was full: try again in a while, with the first block."""
        self._take_back()
        self.is_probing = True
        self.busy_until = now + self._busy_pause
        self._busy_pause = min(2 * self._busy_pause, BUSY_LONGEST_SECONDS)

    def is_late(self, now: float) -> bool:
        """Whether blocks were sent and no acknowledgement has come for too long."""
        return bool(self._sent) and now - self._moved_at > LATE_SECONDS

    def send_again(self, now: float) -> None:
        """What was sent and is not acknowledged was lost: send it again."""
        if not self.busy_until:
            self._take_back()
            self.transmit(now)

    def _take_back(self) -> None:
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_bytes = 0

    def clear(self, end: int) -> None:
        """Forget all blocks: the run's tasks end at ``end``."""
        self._sent.clear()
        self._unsent.clear()
        self._sent_bytes = self.nbytes = self.count = 0
        self.busy_until = 0.0
        self.is_probing = False
        self.end = end
