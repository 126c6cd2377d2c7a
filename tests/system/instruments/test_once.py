"""The matrix of once: whatever dies, at whichever point of a task's life, no action is done twice and no task is lost.

``ONCE_KILLS=200`` makes so many kills at each point, in place of twenty.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from helpers import mortal_daemon, probes
from helpers.places import StartDaemon
from helpers.probes import points
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import TaskMasterError
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Run

KILLS = int(os.environ.get("ONCE_KILLS", "20"))
#: Points that any test here puts at most.
MOST = 100_000
HEADS = ("tip-1", "tip-2", "tip-3", "tip-4")
MORTAL = Path(__file__).resolve().parents[2] / "helpers" / "mortal"

#: Points of a worker's life with a task, in the order in which it comes to them.
WORKER_POINTS = (
    "when the task arrives",
    "when it is noted as begun",
    "before the first byte",
    "when the first bytes are out",
    "while it waits",
    "when the answer is there",
    "before the outcome leaves",
    "when the outcome is out",
    "when it is settled",
)
DAEMON_POINTS = (
    "before a commit",
    "in a commit",
    "after a commit",
    "after a dispatch",
    "after an acknowledgement",
    "after a publication",
    "after a settlement",
)
#: What an instrument may do in the middle of a conversation, and when.
HEAD_POINTS: dict[str, dict[str, Any]] = {
    "unplugged before it is set": {"kind": "unplug", "match": "POS", "at": "before", "seconds": 0.02},
    "unplugged when it is set": {"kind": "unplug", "match": "POS", "at": "after", "seconds": 0.02},
    "unplugged while it settles": {"kind": "unplug", "match": "*OPC?", "at": "before", "seconds": 0.02},
    "unplugged amid its answer": {"kind": "unplug", "match": "MEAS", "at": "within", "seconds": 0.02},
    "reset when it has answered": {"kind": "unplug", "match": "MEAS", "at": "after", "seconds": 0.02, "reset": True},
    "off and on again when it is set": {"kind": "power", "match": "POS", "at": "after", "seconds": 0.02},
    "silent": {"kind": "silence", "match": "MEAS"},
    "late": {"kind": "late", "match": "MEAS", "seconds": 0.3},
    "garbage": {"kind": "garbage", "match": "MEAS"},
    "half a line": {"kind": "half", "match": "MEAS"},
}


@pytest.fixture
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=len(HEADS), settling=0.002) as probe:
        yield probe


PLACES = points(MOST)


def places(n: int) -> Any:
    """The first of the points."""
    return PLACES[:n]


def master(probe: Laboratory, **keys: Any) -> dict[str, Any]:
    return probes.stm(probe, HEADS, query_timeout="200 ms", quarantine_after=10_000, **keys)


def resolve_doubts(lab: Lab, run: Run) -> None:
    """Nobody knows what has become of these: that is said, so that their heads may work on."""
    for held in lab.held():
        assert held.run == run.number
        lab.resolve(held.run, held.index, "fail", reason="nobody knows", attempt=held.attempt)


def finish(probe: Laboratory, lab: Lab, run: Run, n: int) -> None:
    """See every task end, and that the instrument was told of none twice."""

    def ended() -> bool:
        resolve_doubts(lab, run)
        (info,) = (info for info in lab.runs() if info.run == run.number)
        return info.done + info.failed == n

    try:
        eventually(ended, "every task to end")
    except AssertionError as error:
        error.add_note(f"{lab.runs()}\n{lab.heads()}\n{lab.held()}")
        raise
    visits = probes.visits(probe, HEADS)
    wanted = {tuple(point) for point in places(n).tolist()}
    assert set(visits) <= wanted, "it was told of places that nobody had asked for"
    assert max(visits.values()) == 1, "something was done twice"
    results = [run.results.get(PATIENCE) for _ in range(n)]
    assert sorted(result.index for result in results) == list(range(n))
    done = {tuple(result.input.values()) for result in results if result.error is None}
    assert done <= set(visits), "an outcome without a visit"


@pytest.mark.slow
@pytest.mark.parametrize("point", WORKER_POINTS)
def test_workers_die(probe: Laboratory, start_daemon: StartDaemon, tmp_path: Path, point: str) -> None:
    """Each worker when it comes there for the second time, and so does its successor."""
    record = tmp_path / "deaths"
    path = os.pathsep.join(filter(None, (str(MORTAL), os.environ.get("PYTHONPATH"))))
    env = {"MORTAL": f"{point}:2", "MORTAL_RECORD": str(record), "PYTHONPATH": path}
    n = 20 * KILLS  # quick ones are granted several at a time
    daemon = start_daemon({"stm": master(probe, env=env)})
    with daemon.connect() as lab:
        run = lab["stm"].open("once")
        run.tasks.put_many(places(n))

        def enough() -> bool:
            resolve_doubts(lab, run)
            return record.exists() and record.stat().st_size >= KILLS

        eventually(enough, f"{KILLS} deaths", timeout=10 * KILLS)
        daemon.configure({"stm": master(probe)})
        daemon.restart()  # with immortal ones, when those that there are have no task
        finish(probe, lab, run, n)


class Feeder(Thread):
    """Puts tasks one by one, and resolves doubts, for as long as it is wanted."""

    def __init__(self, lab: Lab, run: Run) -> None:
        super().__init__(daemon=True)
        self.lab, self.run_ = lab, run
        self.put = 0
        self.error: BaseException | None = None
        self._over = Event()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                if self.run_.open_tasks < 2 * len(HEADS):
                    x, y = PLACES[self.put]
                    self.run_.tasks.put({"x": x, "y": y})
                    self.put += 1
                resolve_doubts(self.lab, self.run_)
                while self.run_.results.get_nowait() is not None:
                    pass
        except TaskMasterError as error:  # raised by whoever ends this
            self.error = error

    def end(self) -> int:
        """How many were put."""
        self._over.set()
        self.join(PATIENCE)
        assert self.error is None
        return self.put


@pytest.mark.slow
@pytest.mark.parametrize("point", DAEMON_POINTS)
def test_the_daemon_dies(probe: Laboratory, start_daemon: StartDaemon, point: str) -> None:
    daemon = start_daemon({"stm": master(probe)}, heartbeat="200 ms", lost_after="2 s")
    with daemon.connect() as lab:
        feeder = Feeder(lab, lab["stm"].open("once"))
        feeder.start()
        daemon.kill()
        for k in range(KILLS):
            daemon.launch(program=("-m", "helpers.mortal_daemon"), MORTAL=f"{point}:{1 + k % 5}")
            assert daemon.wait() == -signal.SIGKILL, f"it never came to {point}"
        daemon.start()
        n = feeder.end()
        with lab["stm"].watch("once") as run:
            finish(probe, lab, run, n)


def test_every_point_of_the_daemons_is_one() -> None:
    assert set(DAEMON_POINTS) <= set(mortal_daemon.POINTS)


@pytest.mark.parametrize("what", HEAD_POINTS)
def test_instruments_fail(probe: Laboratory, start_daemon: StartDaemon, what: str) -> None:
    n = 2 * KILLS + 20
    daemon = start_daemon({"stm": master(probe)})
    with daemon.connect() as lab:
        probes.await_states(lab, *["ready"] * len(HEADS))
        each = -(-KILLS // len(HEADS))
        for head in HEADS:
            probe.control.fault(**HEAD_POINTS[what], head=head, skip=1, count=each)
        run = lab["stm"].open("once")
        run.tasks.put_many(places(n))
        finish(probe, lab, run, n)
        (info,) = (info for info in lab.runs() if info.run == run.number)
        # On a busy machine some are cut off before the head has asked: of these it is known.
        assert info.failed >= KILLS * 0.5, "of these it cannot be known"


@pytest.mark.slow
@pytest.mark.parametrize("who", ["worker", "guardian", "daemon", "all of them"])
def test_processes_are_killed_at_any_moment(probe: Laboratory, start_daemon: StartDaemon, who: str) -> None:
    """Not at a point that anybody has thought of."""
    chance = random.Random(1)
    n = 10 * KILLS
    daemon = start_daemon({"stm": master(probe)}, heartbeat="200 ms", lost_after="2 s")
    kill: dict[str, Callable[[Lab], object]] = {
        "worker": lambda lab: _kill(chance.choice([info.pid for info in lab.heads()])),
        "guardian": lambda lab: _kill(daemon.guardians().get("stm", 0)),
        "daemon": lambda lab: daemon.restart(),
    }
    with daemon.connect() as lab:
        run = lab["stm"].open("once")
        run.tasks.put_many(places(n))
        for _ in range(max(4, KILLS // 5)):
            told = sum(info.tasks for info in lab.heads())
            more = chance.randint(1, 6)

            def at_work(told: int = told, more: int = more) -> bool:
                resolve_doubts(lab, run)
                (info,) = (info for info in lab.runs() if info.run == run.number)
                now = sum(info.tasks for info in lab.heads())
                return not told <= now < told + more or info.done + info.failed == n

            eventually(at_work, "some more to be done")
            for victim in [who] if who in kill else list(kill):
                kill[victim](lab)
        finish(probe, lab, run, n)


def _kill(pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):  # it has died by itself since it was looked for
            os.kill(pid, signal.SIGKILL)
