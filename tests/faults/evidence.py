"""What learners and evaluations write down by themselves, and what is true of it whatever was done to the daemon.

A learner notes what it puts, what was acknowledged and what it was told; an evaluation notes its point before it
returns. Each note is one write to the end of a file, so it survives whoever wrote it, and nothing of it comes from the
daemon. At the end :func:`judge` holds it against the journal, read with Python's own sqlite3.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import recorded
from helpers.recorded import Outcome

__all__ = ["RUN_STRIDE", "Notes", "Verdict", "evaluations", "judge", "on_record", "read"]


class Notes:
    """One learner's file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: str, *values: Any) -> None:
        """Write down that something has happened, now."""
        os.write(self._descriptor, json.dumps([what, time.monotonic(), *values]).encode() + b"\n")


def read(path: Path) -> Iterator[list[Any]]:
    """Everything that was noted: ``[what, when, …]``."""
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


#: Points of different runs lie so far apart.
RUN_STRIDE = 10_000_000_000


def evaluations(path: Path, until: float = math.inf) -> Counter[int]:
    """How often each point was evaluated before a moment."""
    if not path.exists():
        return Counter()
    noted = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return Counter(int(point) for point, when in noted if float(when) < until)


def on_record(state: Path, master: str, run: str) -> int:
    """How many tasks of a run are in a journal. Raises LookupError where there is no such run."""
    number = recorded.run_number(state, master, run)
    with closing(sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)) as db:
        (end,) = db.execute("SELECT max(first + n) FROM blocks WHERE run = ?", (number,)).fetchone()
    return int(end or 0)


@dataclass
class Verdict:
    """What came of one run; everything but ``again`` and ``pause`` has to be zero, or empty."""

    acknowledged: int = 0
    #: acknowledged tasks without an outcome, and results that were told and are not on record as they were told
    lost: int = 0
    #: outcomes that were recorded, or told to somebody, for the second time
    repeated: int = 0
    #: tasks of a Master that must not act twice, and did
    twice: int = 0
    #: evaluations that were lost with their worker and repeated, where that is harmless
    again: int = 0
    #: the longest time in which a learner that had something open heard nothing, in seconds
    pause: float = 0.0
    #: everything that is wrong, in words
    complaints: list[str] = field(default_factory=list)


@dataclass
class _Story:
    """What one run's learners have noted, one after the other."""

    #: index → point, as acknowledged; what a learner put that was killed before it was told may have another number
    points: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    #: by seq
    told: dict[int, Outcome] = field(default_factory=dict)
    ever_put: set[int] = field(default_factory=set)
    repeated: int = 0
    pause: float = 0.0
    complaints: list[str] = field(default_factory=list)


def _story(path: Path, until: float) -> _Story:
    story = _Story()
    put: dict[int, int] = {}
    here: set[int] = set()
    heard, outstanding = 0.0, 0
    for what, when, *values in read(path):
        if when >= until:
            break
        if what in ("ack", "told", "put") and outstanding > 0:
            if what != "put":
                story.pause = max(story.pause, when - heard)
                heard = when
        else:
            heard = when
        if what == "open":
            put, here, outstanding = {}, set(), 0
            (next_index,) = values
            if next_index < story.acknowledged:
                story.complaints.append(f"{story.acknowledged} tasks were acknowledged, {next_index} were there later")
        elif what == "put":
            first, points = values
            put.update(enumerate(points, first))
            story.ever_put.update(points)
            outstanding += len(points)
        elif what == "ack":
            for index in range(story.acknowledged, values[0]):
                if index in put:
                    story.points[index] = put[index]
            story.acknowledged = max(story.acknowledged, values[0])
        elif what == "told":
            for seq, index, kind, point, output in values[0]:
                story.repeated += seq in here
                here.add(seq)
                outstanding -= index in put
                outcome = Outcome(seq, index, kind, point, output)
                if story.told.setdefault(seq, outcome) != outcome:
                    story.complaints.append(f"event {seq} was told as {story.told[seq]}, and as {outcome}")
    return story


def judge(
    state: Path, master: str, run: str, notes: Path, evaluated: Path, *, once: bool,
    ended: bool = True, until: float = math.inf,
) -> Verdict:  # fmt: skip
    """What came of a run: its learners' notes against the journal's record.

    ``once``: a task may not be evaluated for the second time; else it has to end as done. ``ended``: nothing is open
    any more; else it is enough that what was acknowledged is on record, or was before the moment ``until``.
    """
    story = _story(notes, until)
    mine = {point // RUN_STRIDE for point in story.ever_put}
    times = Counter({point: n for point, n in evaluations(evaluated).items() if point // RUN_STRIDE in mine})
    if not story.acknowledged and until < math.inf:
        return Verdict()  # it need not be on record
    try:
        number = recorded.run_number(state, master, run)
    except LookupError as error:
        return Verdict(story.acknowledged, lost=story.acknowledged, complaints=[str(error)])
    recorded_run, points = recorded.outcomes(state, number), recorded.points(state, number)
    verdict = Verdict(story.acknowledged, repeated=story.repeated, pause=story.pause)
    say = verdict.complaints.append
    verdict.complaints += story.complaints
    by_index: dict[int, Outcome] = {}
    for outcome in recorded_run:
        if outcome.index in by_index:
            verdict.repeated += 1
            say(f"task {outcome.index} has two outcomes on record")
        by_index[outcome.index] = outcome
    for index in range(story.acknowledged):
        if index not in (by_index if ended else points):
            verdict.lost += 1
            say(f"task {index} was acknowledged and " + ("has no outcome" if index in points else "is gone"))
        elif index in story.points and points[index] != story.points[index]:
            verdict.lost += 1
            say(f"task {index} was put as {story.points[index]}, and is on record as {points[index]}")
    by_seq = {outcome.seq: outcome for outcome in recorded_run}
    for seq, told in story.told.items():
        if by_seq.get(seq) != told:
            verdict.lost += 1
            say(f"event {seq} was told as {told}, and is not on record so")
    for outcome in recorded_run:
        if outcome.point not in story.ever_put and until == math.inf:
            say(f"nobody has put what is on record as task {outcome.index}: {outcome.point}")
        if outcome.kind == "done" and (outcome.output != outcome.point or not times[outcome.point]):
            say(f"task {outcome.index} is said to be done, and is not: {outcome}")
        if outcome.kind not in (("done", "failed") if once else ("done",)):
            say(f"task {outcome.index} is {outcome.kind}")
    for point in times.keys() - story.ever_put if until == math.inf else ():
        say(f"nobody has put what was evaluated: {point}")
    more = {point: n for point, n in times.items() if n > 1}
    if once:
        verdict.twice = len(more)
        verdict.complaints += [f"{point} was evaluated {n} times" for point, n in more.items()]
    else:
        verdict.again = sum(more.values()) - len(more)
    if story.repeated:
        say(f"{story.repeated} results were told to a learner for the second time")
    return verdict
