"""What every figure gets: how large to measure, where, and whether only to profile."""

from __future__ import annotations

import contextlib
import cProfile
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contest import Round
from benchmarks.profiles import profile_text
from benchmarks.rig import Rig, Table
from taskmaster.learners.client import Lab

__all__ = ["Bench", "timed"]


@dataclass(frozen=True)
class Bench:
    """One call of the suite.

    Args:
        folder: where daemons keep their state, on the disk whose syncs are to be measured.
        repeat: rounds that count.
        quick: whether to measure so little that only the suite itself is tested by it.
        profile: ``"daemon"``, ``"client"``, ``"worker"``; or empty, to measure.
    """

    folder: Path
    repeat: int = 5
    quick: bool = False
    profile: str = ""
    _client: cProfile.Profile = field(default_factory=cProfile.Profile)

    @property
    def rounds(self) -> int:
        """Rounds of each contest that count."""
        return 1 if self.quick or self.profile else self.repeat

    def size(self, full: int) -> int:
        """How many tasks to measure with, where ``full`` is what a proper measurement takes."""
        return max(8, full // 100) if self.quick else full

    @contextlib.contextmanager
    def daemon(self, *masters: Table, durability: str = "power", network: str = "") -> Iterator[tuple[Rig, Lab]]:
        """A fresh daemon, with a client whose workers are there."""
        with self.rig(*masters, durability=durability, network=network) as rig:
            with rig, rig.connect() as lab:
                yield rig, lab
            if self.profile:
                print(profile_text(self._client if self.profile == "client" else rig.profile()))

    @contextlib.contextmanager
    def rig(
        self,
        *masters: Table,
        durability: str = "power",
        network: str = "",
        settings: Sequence[str] = (),
    ) -> Iterator[Rig]:
        """What a daemon needs, without the daemon; removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="taskmaster-", dir=self.folder))
        try:
            yield Rig(folder, masters, durability, self.profile, network, settings)
        finally:
            shutil.rmtree(folder)

    def contestants(self, ours: Round, **rivals: Round) -> dict[str, Round]:
        """All of them; only us where a profile is wanted."""
        if not self.profile:
            return {"ours": ours, **rivals}
        return {"ours": self._profiled(ours) if self.profile == "client" else ours}

    def _profiled(self, ours: Round) -> Round:
        def run() -> float:
            with self._client:
                return ours()

        return run


def timed(work: Callable[[Sequence[float]], float], count: int) -> Round:
    """Tasks a second that ``work`` gets squared of ``count``. Raises RuntimeError if their sum is wrong."""
    offset = 0

    def run() -> float:
        nonlocal offset
        # Other numbers each round, so that nobody answers from memory.
        xs = [float(x) for x in range(offset, offset + count)]
        offset += count
        expected = sum(x * x for x in xs)
        began = time.perf_counter()
        total = work(xs)
        seconds = time.perf_counter() - began
        if abs(total - expected) > 1e-6 * expected:
            raise RuntimeError(f"the sum of {count} squares is {total:g}, not {expected:g}: nothing was measured")
        return count / seconds

    return run
