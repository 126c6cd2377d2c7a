"""The inputs of a run's open tasks, in blocks: as they were submitted, small ones joined, gone with their last task."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter

from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Table, concatenate

__all__ = ["Block", "Blocks"]

#: Small neighbouring blocks are joined in memory up to this many bytes, so that a million tasks that were put one by
#: one do not cost a million objects.
_JOIN_BYTES = 256 << 10


class Block:
    """Contiguous tasks and their inputs. The broker may replace ``table`` by one that stays in its file."""

    __slots__ = ("first", "n", "table", "turn")

    def __init__(self, first: int, table: Table, turn: int = -1) -> None:
        self.first = first
        self.n = table.n
        self.table = table
        #: the turn it was submitted in; in that very turn it is not on disk yet
        self.turn = turn

    @property
    def end(self) -> int:
        return self.first + self.n


_first = attrgetter("first")


class Blocks:
    """The blocks of one run, by their first tasks."""

    __slots__ = ("_blocks", "nbytes")

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        #: bytes of all inputs
        self.nbytes = 0

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: Block) -> None:
        """Keep a block that comes after all others; small neighbours are joined like the digits of a binary counter."""
        self.nbytes += block.table.nbytes
        blocks = self._blocks
        while (
            blocks
            and blocks[-1].n <= block.n
            and blocks[-1].table.in_memory
            and blocks[-1].end == block.first
            and blocks[-1].table.layout == block.table.layout
            and blocks[-1].table.nbytes + block.table.nbytes <= _JOIN_BYTES
        ):
            last = blocks.pop()
            # Of two turns the older one stands for both: what is on disk may pass for not yet, never the reverse.
            block = Block(last.first, concatenate([last.table, block.table]), min(last.turn, block.turn))
        blocks.append(block)

    def replace(self, index: int, table: Table) -> None:
        """Put another input into the block that has a task's, which is cut for it."""
        k = bisect_right(self._blocks, index, key=_first) - 1
        block = self._blocks[k]
        at = index - block.first
        parts = [Block(index, table)]
        if at:
            parts.insert(0, Block(block.first, block.table.slice(0, at), block.turn))
        if at + 1 < block.n:
            parts.append(Block(index + 1, block.table.slice(at + 1, block.n), block.turn))
        self._blocks[k : k + 1] = parts
        self.nbytes += sum(part.table.nbytes for part in parts) - block.table.nbytes

    def drop(self, low: int, high: int, still_open: IntervalSet) -> None:
        """Forget those from that of ``low`` up to ``high`` that have no open task left."""
        blocks = self._blocks
        if not still_open:
            blocks.clear()
            self.nbytes = 0
            return
        start = bisect_right(blocks, low, key=_first) - 1
        stop = bisect_left(blocks, high, start, key=_first)
        kept = [block for block in blocks[start:stop] if still_open.intersects(block.first, block.end)]
        if len(kept) < stop - start:
            self.nbytes -= sum(block.table.nbytes for block in blocks[start:stop])
            self.nbytes += sum(block.table.nbytes for block in kept)
            blocks[start:stop] = kept

    # -- looking ------------------------------------------------------------------------------------------------------

    def tables(self, low: int, high: int) -> tuple[Table, ...]:
        """The inputs of tasks ``low ≤ i < high``, in as many tables as blocks."""
        first = self._blocks[0]
        if first.first <= low and high <= first.end:
            return (first.table.slice(low - first.first, high - first.first),)
        return tuple(
            block.table.slice(max(low, block.first) - block.first, min(high, block.end) - block.first)
            for block in self._of(low, high)
        )

    def are_of(self, turn: int, low: int, high: int) -> bool:
        """Whether all tasks ``low ≤ i < high`` were submitted in ``turn``."""
        if self._blocks[-1].turn != turn:
            return False
        return all(block.turn == turn for block in self._of(low, high))

    def alike(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The tasks ``low ≤ i < high`` in pieces whose inputs share one layout, so that an event's are one table."""
        first = low
        blocks = list(self._of(low, high))
        for block, following in pairwise(blocks):
            if block.table.layout != following.table.layout:
                yield first, following.first
                first = following.first
        yield first, high

    def _of(self, low: int, high: int) -> Iterator[Block]:
        k = bisect_right(self._blocks, low, key=_first) - 1
        while k < len(self._blocks) and self._blocks[k].first < high:
            yield self._blocks[k]
            k += 1
