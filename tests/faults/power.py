"""Power cuts: what the disk may hold after losing what was not synced, at many points of a recorded workload.

Every call by which a daemon changed its files was recorded (`preload.py`). The :class:`Disk` goes through them as a
disk does: what was synced is durable, of what was not any part may be, in any order, and torn. At a cut an image is
made of it, on which a daemon starts; and everything that learners had noted by then has to be there.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

from faults.evidence import Verdict, evaluations
from faults.learner import BULK
from faults.nursery import Nursery
from faults.preload import Call, NoCompiler, Preload
from faults.site import OFTEN, ONCE, Site
from faults.tally import Tally
from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import Schema
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.journal import Journal, guards, mark
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.spec import MasterSpec

__all__ = ["Disk", "cuts", "start_on"]

SECTOR = 512
#: Another start of the machine than that in which the workload was recorded.
_NEXT_BOOT = 4711
#: What is made anew at each start.
_TRANSIENT = frozenset({"lock", "control", "results", "workers", "local", "reserve"})


class _File:
    """What is durable of a file, and what was done to it since it was synced: data at an offset, or a new length."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def image(self, chance: random.Random, how: str) -> bytearray:
        """What may be found of it."""
        content = bytearray(self.durable)
        pending = self.pending
        if how == "nothing":
            return content
        for k, (offset, data) in enumerate(pending):
            if how == "in order" and k == len(pending) - 1 and data is not None:
                _apply(content, offset, data[: chance.randrange(len(data) + 1)])  # torn in the middle of a sector
            elif how == "in order":
                _apply(content, offset, data)
            elif chance.random() < 0.6:
                _scatter(content, offset, data, chance)
        return content


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _scatter(content: bytearray, offset: int, data: bytes | None, chance: random.Random) -> None:
    """Some of the sectors that were written."""
    if data is None or chance.random() < 0.5:
        _apply(content, offset, data)
        return
    at = offset
    while at < offset + len(data):
        end = min(offset + len(data), (at // SECTOR + 1) * SECTOR)
        if chance.random() < 0.5:
            _apply(content, at, data[at - offset : end - offset])
        at = end


#: A rename, or the making or removal of a file: by name, what it names from then on.
_Change: TypeAlias = tuple[tuple[str, _File | None], ...]


class Disk:
    """The files of a folder as programs see them, and as a power cut would leave them."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        #: since their folder was synced
        self._names: list[_Change] = []

    def do(self, call: Call) -> None:
        """One more call was made."""
        file = self._seen.get(call.path)
        match call.kind:
            case "open" if call.created:
                self._seen[call.path] = _File()
                self._names.append(((call.path, self._seen[call.path]),))
            case "open" if file is not None:
                file.pending.append((0, None))
            case "write" if file is not None:
                file.pending.append((call.offset, call.data))
            case "truncate" if file is not None:
                file.pending.append((call.size, None))
            case "sync" if file is not None:
                file.sync()
                self._settle(lambda change: change[0][1] is file)
            case "sync":
                self._settle(lambda change: any(_parent(path) == call.path for path, _ in change))
            case "rename" if file is not None:
                del self._seen[call.path]
                self._seen[call.other] = file
                self._names.append(((call.other, file), (call.path, None)))
            case "unlink" if file is not None:
                del self._seen[call.path]
                self._names.append(((call.path, None),))

    def _settle(self, settles: Callable[[_Change], bool]) -> None:
        """Make changes of names durable, and with each what was done to the same names before."""
        settled: set[str] = set()
        left = []
        for change in reversed(self._names):
            if settles(change) or any(path in settled for path, _ in change):
                _rename(self._durable, [(path, file) for path, file in change if path not in settled])
                settled.update(path for path, _ in change)
            else:
                left.append(change)
        self._names = left[::-1]

    def image(self, to: Path, chance: random.Random, how: str) -> None:
        """Write down what a cut at this moment may leave."""
        names = dict(self._durable)
        for change in self._names:
            if how == "in order" or (how == "anything" and chance.random() < 0.5):
                _rename(names, change)
        for path, file in names.items():
            name = path.removeprefix(self._root).lstrip("/")
            if name not in _TRANSIENT:
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                (to / name).write_bytes(file.image(chance, how))
        to.mkdir(exist_ok=True)


def _rename(names: dict[str, _File], change: Iterable[tuple[str, _File | None]]) -> None:
    for path, file in change:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


# -- a daemon starts on it ---------------------------------------------------------------------------------------------


def start_on(state: Path, *masters: str) -> Core:
    """Take a journal up as a daemon does that starts after the machine has. Raises what that raises."""
    with (
        patch.object(guards, "machine_start", lambda: _NEXT_BOOT),
        patch.object(mark, "machine_start", lambda: _NEXT_BOOT),
    ):
        before = check_log(state, "power")
        journal = Journal(state, "power")
        try:
            check_at_start(journal, before)
            specs = [
                MasterSpec(
                    name, "process", Schema((), name), Schema((), name), on_lost="hold" if name == ONCE else "retry"
                )
                for name in masters
            ]
            core = Core(Identity("cut", journal.begin_epoch(2e9)), [Master(spec, 1) for spec in specs], lambda: 1)
            restore(core, journal, {}, 0.0, Effects())
            return core
        finally:
            journal.close(in_order=False)


def cuts(folder: Path, nursery: Nursery, times: int, seed: int, tally: Tally, durability: str = "power") -> None:
    """Record a workload with two lives of a daemon, checkpoints and large payloads; cut it so many times."""
    try:
        preload = Preload(folder / "preload")
    except NoCompiler as error:
        tally.skipped = str(error)
        return
    with preload, Site(folder / "site", preload.nursery, bulk=True, durability=durability) as site:
        preload.record(site.daemon.state)
        site.program = "faults.programs:tidy_daemon"
        site.start(OFTEN, ONCE, BULK)
        site.await_progress(3)
        site.daemon.stop()
        site.daemon.launch(program=site.program)
        site.daemon.await_note("READY=1")
        site.await_progress(2)
        site.learners[0].await_told(15)
        site.daemon.kill()
        for learner in site.learners:
            learner.kill()
        calls = list(preload.calls())
        chance = random.Random(seed)
        _cut_at(site, calls, _moments(len(calls), times, chance), chance, tally)


def _moments(calls: int, times: int, chance: random.Random) -> list[int]:
    """Before which calls the power is cut: each once before any is for the second time, for what is lost is by lot."""
    every = range(1, calls)
    again, more = divmod(times, len(every))
    return sorted([*every] * again + chance.sample(every, more))


def _cut_at(site: Site, calls: Sequence[Call], points: Sequence[int], chance: random.Random, tally: Tally) -> None:
    disk = Disk(str(site.daemon.state))
    at = 0
    final = Verdict()
    for number, point in enumerate(points):
        for call in calls[at:point]:
            disk.do(call)
        at = point
        how = ("nothing", "in order", "anything", "anything")[number % 4]
        image = site.folder / "image"
        shutil.rmtree(image, ignore_errors=True)
        disk.image(image, chance, how)
        wrong = list(_check(site, image, calls[point].began if point < len(calls) else calls[-1].ended, final))
        tally.injected += 1
        tally.lost += len(wrong)
        tally.complaints += [f"cut {number} before call {point} ({how}): {text}" for text in wrong[:5]]
    tally.acknowledged += final.acknowledged


def _check(site: Site, image: Path, when: float, final: Verdict) -> Iterator[str]:
    """What is missing on an image that learners had been told of before the cut."""
    try:
        core = start_on(image, OFTEN, ONCE, BULK)
    except TaskMasterError as error:
        yield f"no daemon starts on it: {error}"
        return
    total = 0
    for learner in site.learners:
        verdict = site.verdict(learner, ended=False, until=when, state=image)
        total += verdict.acknowledged
        yield from verdict.complaints
        yield from _evaluated_again(site, core, learner.master, when)
    final.acknowledged = max(final.acknowledged, total)


def _evaluated_again(site: Site, core: Core, master: str, when: float) -> Iterator[str]:
    """What may not act twice, has acted, and would be dispatched again."""
    if master != ONCE:
        return
    begun = evaluations(site.folder / f"{master}.evaluated", when)
    for run in core.runs.values():
        if run.master == master:
            for low, high in run.queued:
                for index, point in enumerate(run.inputs(low, high)[0].rows(), low):
                    if point in begun:
                        yield f"task {index} has acted, and is queued again"
