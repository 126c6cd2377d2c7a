"""Sets of task indices as disjoint half-open intervals.

A run of a million tasks that are queued, leased and done in chunks is a handful of intervals; nothing here costs per
task. Intervals are kept sorted in two parallel lists and found by bisection; adjacent ones are joined.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["IntervalSet"]

#: So many intervals are sooner removed one by one than in a pass over all.
_FEW = 8


class IntervalSet:
    """A mutable set of non-negative integers. ``len`` counts the integers, iteration yields ``(low, high)`` pairs."""

    __slots__ = ("_highs", "_lows", "_size")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._size = 0
        for low, high in intervals:
            self.add(low, high)

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._lows, self._highs)))

    def __contains__(self, index: int) -> bool:
        k = bisect_right(self._lows, index) - 1
        return k >= 0 and index < self._highs[k]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and self._lows == other._lows and self._highs == other._highs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    @property
    def pieces(self) -> int:
        """How many intervals it takes."""
        return len(self._lows)

    @property
    def first(self) -> tuple[int, int]:
        """The lowest interval; IndexError if empty."""
        return self._lows[0], self._highs[0]

    @property
    def last(self) -> tuple[int, int]:
        """The highest interval; IndexError if empty."""
        return self._lows[-1], self._highs[-1]

    @property
    def end(self) -> int:
        """One past the highest member; 0 if empty."""
        return self._highs[-1] if self._highs else 0

    def indices(self) -> Iterator[int]:
        """Every member, in order."""
        for low, high in self:
            yield from range(low, high)

    def copy(self) -> IntervalSet:
        other = IntervalSet()
        other._lows, other._highs, other._size = self._lows.copy(), self._highs.copy(), self._size
        return other

    def add(self, low: int, high: int) -> None:
        """Add ``low ≤ i < high``; members already there are no error."""
        if low >= high:
            return
        if not self._highs or low > self._highs[-1]:
            self._lows.append(low)
            self._highs.append(high)
            self._size += high - low
            return
        i = bisect_left(self._highs, low)  # first interval that ends at or after low: touches or lies behind
        j = bisect_right(self._lows, high)  # first interval that starts after high
        if i < j:
            low, high = min(low, self._lows[i]), max(high, self._highs[j - 1])
            self._size -= sum(self._highs[k] - self._lows[k] for k in range(i, j))
        self._lows[i:j] = [low]
        self._highs[i:j] = [high]
        self._size += high - low

    def remove(self, low: int, high: int) -> int:
        """Remove ``low ≤ i < high``; returns how many were members."""
        if low >= high or not self._size:
            return 0
        if len(self._lows) == 1 and low <= self._lows[0] and self._highs[0] <= high:
            count, self._size = self._size, 0
            self._lows.clear()
            self._highs.clear()
            return count
        i = bisect_right(self._highs, low)  # first interval that ends after low
        j = bisect_left(self._lows, high)  # first interval that starts at or after high
        if i >= j:
            return 0
        lows, highs = [], []
        if self._lows[i] < low:
            lows.append(self._lows[i])
            highs.append(low)
        if self._highs[j - 1] > high:
            lows.append(high)
            highs.append(self._highs[j - 1])
        before = sum(self._highs[k] - self._lows[k] for k in range(i, j))
        after = sum(h - low_ for low_, h in zip(lows, highs))
        self._lows[i:j] = lows
        self._highs[i:j] = highs
        self._size -= before - after
        return before - after

    def remove_all(self, other: IntervalSet) -> None:
        """Remove every member of ``other``: in one pass, where :meth:`remove` would move the rest each time."""
        if other.pieces < _FEW:
            for low, high in other:
                self.remove(low, high)
            return
        kept = [gap for low, high in zip(self._lows, self._highs) for gap in other.gaps(low, high)]
        self._lows = [low for low, _ in kept]
        self._highs = [high for _, high in kept]
        self._size = sum(self._highs) - sum(self._lows)

    def pop_first(self, n: int) -> tuple[int, int]:
        """Remove and return the first up to ``n`` members that are contiguous; IndexError if empty."""
        low, high = self._lows[0], self._highs[0]
        if high - low <= n:
            del self._lows[0], self._highs[0]
        else:
            high = low + n
            self._lows[0] = high
        self._size -= high - low
        return low, high

    def within(self, low: int, high: int) -> list[tuple[int, int]]:
        """The members in ``low ≤ i < high``, as intervals; none is empty."""
        if low >= high:
            return []
        i = bisect_right(self._highs, low)
        j = bisect_left(self._lows, high)
        return [(max(low, self._lows[k]), min(high, self._highs[k])) for k in range(i, j)]

    def reach(self, index: int) -> tuple[int, int] | None:
        """The interval that ``index`` is in, or else the next one after it; None if there is none."""
        k = bisect_right(self._highs, index)
        return (self._lows[k], self._highs[k]) if k < len(self._lows) else None

    def common(self, other: IntervalSet) -> list[tuple[int, int]]:
        """The members that both have, as intervals in order."""
        few, many = (self, other) if self.pieces < other.pieces else (other, self)
        return [part for low, high in zip(few._lows, few._highs) for part in many.within(low, high)]

    def intersects(self, low: int, high: int) -> bool:
        """Whether any of ``low ≤ i < high`` is a member; looks at one interval, however many there are."""
        k = bisect_right(self._highs, low)
        return low < high and k < len(self._lows) and self._lows[k] < high

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """What is not a member in ``low ≤ i < high``, as intervals."""
        gaps = []
        for start, stop in self.within(low, high):
            if low < start:
                gaps.append((low, start))
            low = stop
        if low < high:
            gaps.append((low, high))
        return gaps

    def covers(self, low: int, high: int) -> bool:
        """Whether all of ``low ≤ i < high`` are members."""
        k = bisect_right(self._lows, low) - 1
        return low >= high or (k >= 0 and self._highs[k] >= high)
