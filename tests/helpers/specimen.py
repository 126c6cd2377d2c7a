"""The journal that a killed daemon has left, to be damaged; and what a daemon that starts on one would serve of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from helpers.daemon import Daemon, function
from helpers.waiting import PATIENCE, eventually
from taskmaster.bus import messages as m
from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.fields import Schema
from taskmaster.daemon.core import Core, Identity
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.check import check_at_start, check_log
from taskmaster.daemon.journal.pages import read_page
from taskmaster.daemon.journal.recovery import restore
from taskmaster.daemon.master import Master
from taskmaster.daemon.spec import MasterSpec

__all__ = [
    "FRAME_BYTES",
    "HEADER_BYTES",
    "MASTERS",
    "SOCKETS",
    "Contents",
    "Specimen",
    "flip",
    "is_detected",
    "make_specimen",
    "payload_files",
    "serve_all",
]

MASTERS = {"echo": function("echo", workers=2)}
#: A frame of the log: its header and a page.
FRAME_BYTES = 24 + 4096
#: The log's own header.
HEADER_BYTES = 32

#: What cannot be copied, of a state directory.
SOCKETS = shutil.ignore_patterns("control", "results", "workers", "local")

#: By run: how far it goes, its events with inputs and outputs, and the inputs of its open tasks.
Contents: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Specimen:
    """A state directory without its daemon, and what is in it."""

    state: Path
    contents: Contents
    #: what a client had been told before the kill: by run, tasks acknowledged and results delivered, input → output
    acknowledged: dict[str, int]
    delivered: dict[str, dict[int, Any]]
    #: bytes of the log that hold something; the rest is room
    log_bytes: int

    def copy(self, to: Path) -> Path:
        """A fresh copy to be damaged."""
        if to.exists():
            shutil.rmtree(to)
        shutil.copytree(self.state, to, ignore=SOCKETS)
        return to


def make_specimen(place: Path) -> Specimen:
    """Have a daemon record things of every kind, partly in its database and partly in its log; kill it at work."""
    daemon = Daemon(place / "d", MASTERS, durability="power")
    try:
        daemon.start()
        acknowledged: dict[str, int] = {}
        delivered: dict[str, dict[int, Any]] = {}
        with daemon.connect() as lab:
            run = lab["echo"].open("settled")
            run.tasks.put_many(np.arange(20_000.0).reshape(-1, 2))  # more than a row holds: in a payload file
            run.tasks.put_many([f"text {i}" for i in range(3000)])
            delivered["settled"] = {result.index: result.output for result in run.results}
            run.flush()
            acknowledged["settled"] = run.next_index
        daemon.stop()  # which moves the log into the database
        daemon.start()
        with daemon.connect() as lab:
            run = lab["echo"].open("at work")
            chosen = random.Random(1)
            for i in range(150):
                run.tasks.put({"i": i, "noise": chosen.randbytes(300)})
                if i % 50 == 0:
                    run.tasks.put_many([{"large": chosen.randbytes(90_000)}])
            taken = [run.results.get(PATIENCE) for _ in range(100)]
            delivered["at work"] = {result.index: result.output for result in taken}
            run.flush()
            acknowledged["at work"] = run.next_index
            waiting = lab["echo"].open("waiting")
            waiting.pause()
            waiting.tasks.put_many(list(range(500)))
            waiting.flush()
            acknowledged["waiting"] = waiting.next_index
            delivered["waiting"] = {}
            eventually(lambda: lab.status().turns > 100, "the daemon to have made some turns")
            daemon.kill()
            lab.close(timeout=0)
    finally:
        daemon.close()
    state = daemon.state
    log = (state / "journal.db-wal").read_bytes()
    log_bytes = len(log.rstrip(b"\0"))
    pristine = shutil.copytree(
        state, place / "pristine", ignore=shutil.ignore_patterns("control", "results", "workers")
    )
    return Specimen(state, serve_all(pristine), acknowledged, delivered, log_bytes)


def serve_all(state: Path) -> Contents:
    """Start on a journal as a daemon does, and read all that it would serve.

    Raises what a start or a replay raises: JournalDamaged where the journal is not whole.
    """
    before = check_log(state, "power")
    journal = Journal(state, "power")
    try:
        check_at_start(journal, before)
        spec = MasterSpec("echo", "process", Schema((), "echo"), Schema((), "echo"))
        core = Core(Identity("specimen", journal.begin_epoch(0.0)), [Master(spec, 1)], lambda: 1)
        restore(core, journal, {}, 0.0, Effects())
        return {run.name: dict(_contents(journal, run)) for run in core.runs.values()}
    finally:
        journal.close(in_order=False)


def _contents(journal: Journal, run: Any) -> Iterator[tuple[str, Any]]:
    yield "numbers", (run.id, run.next_index, run.next_seq, run.done, run.failed, run.seed, run.metadata)
    yield "open", [run.inputs(low, high)[0].rows() for low, high in run.open]
    since = 0
    while since < run.next_seq:
        page, frames = read_page(journal, run, m.Replay(1, run.id, since, inputs=True))
        yield f"events from {since}", (page.events, [bytes(frame) for frame in frames])
        since = page.events[-1].seq + page.events[-1].n


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def payload_files(state: Path) -> list[Path]:
    """The files of its large payloads."""
    return sorted((state / "payloads").glob("??/*"))


def is_detected(state: Path, specimen: Specimen) -> bool:
    """Whether damage was found out; AssertionError where something else is served instead."""
    try:
        served = serve_all(state)
    except JournalDamaged as error:
        remedy = str(error)
    else:
        assert served == specimen.contents, "something else was served than was recorded"
        return False
    assert "check --journal" in remedy
    return True
