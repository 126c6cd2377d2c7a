"""What supervision decides without a process: when to look, and whom to have go. (With processes: `tests/system`.)"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.heart import Heart, spec

from taskmaster.bus import messages as m
from taskmaster.daemon.effects import Effects
from taskmaster.daemon.leases import NOTHING, Started
from taskmaster.daemon.supervision import WATCH_SECONDS, Pool, Supervisor, started
from taskmaster.drivers.host import HostedWorker
from taskmaster.drivers.progress import Position, ProgressReader, ProgressWriter


def supervise(heart: Heart, folder: Path, **pool: object) -> Supervisor:
    supervisor = Supervisor(heart.core, folder / "progress", "inproc://nowhere")
    supervisor.add(Pool(heart.core.masters["svm"], 0, **pool))  # type: ignore[arg-type]
    supervisor.look(heart.now, {}, Effects())
    return supervisor


def test_with_nothing_to_watch_the_loop_sleeps(tmp_path: Path) -> None:
    heart = Heart(spec())
    assert supervise(heart, tmp_path, timeout=60.0).due(heart.now) > heart.now + 1000


def test_a_time_out_is_watched_from_the_moment_a_task_is_out(tmp_path: Path) -> None:
    heart = Heart(spec())
    supervisor = supervise(heart, tmp_path, timeout=60.0)
    hand = heart.hand()
    heart.open().put(1)
    assert supervisor.due(heart.now) == pytest.approx(heart.now + WATCH_SECONDS)
    hand.report(hand.assignments.pop())
    heart.now += 1
    supervisor.look(heart.now, {}, Effects())
    assert supervisor.due(heart.now) > heart.now + 1000


def test_without_a_time_out_a_busy_master_wakes_nobody(tmp_path: Path) -> None:
    heart = Heart(spec())
    supervisor = supervise(heart, tmp_path)
    heart.hand()
    heart.open().put(1)
    assert supervisor.due(heart.now) > heart.now + 1000


def test_a_pool_that_was_given_up_is_tried_again_when_somebody_asks(tmp_path: Path) -> None:
    heart = Heart(spec())
    supervisor = supervise(heart, tmp_path)
    pool = supervisor.pools["svm"]
    pool.gave_up, pool.count = True, 2
    assert supervisor.starting("svm") == 0
    pool.policy.after_death(heart.now, worked=False)
    out = heart.say(m.Resume(1, "svm"))
    (scaling,) = out.scalings
    supervisor.scale(scaling.master, scaling.count)
    assert supervisor.starting("svm") == 2
    assert supervisor.due(heart.now) == 0.0
    assert pool.policy.after_death(heart.now, worked=False) == 0.1  # counted anew
    supervisor.scale("svm", 5)
    assert pool.count == 5
    supervisor.scale("nobody", 5)


def test_what_a_worker_noted_says_how_far_it_had_come() -> None:
    assert started(None) is None  # nobody knows
    assert started([]) == NOTHING
    slots = [Position((1, 4), 1, 0, 3, 1), Position((1, 7), 1, 20, 1, 1)]
    assert started(slots) == Started((1, 7), {(1, 4): 3, (1, 7): 1})


def test_how_far_a_dead_worker_had_come_stays_noted_until_its_tasks_are_on_disk(tmp_path: Path) -> None:
    """A daemon that is killed in between reads it at its next start; without, it would suspect every task."""
    heart = Heart(spec())
    supervisor = supervise(heart, tmp_path)
    note = tmp_path / "progress" / "svm-1"
    writer = ProgressWriter(note, 1)
    writer.begin(0, (1, 1), 1, 0, 1)
    process = subprocess.Popen(["true"])
    supervisor._lay_to_rest(HostedWorker(process, "svm-1", ProgressReader(note), heart.now))
    assert note.exists()
    supervisor.committed()
    assert not note.exists()


def test_scaling_is_asked_for_within_reason() -> None:
    heart = Heart(spec())
    out = heart.say(m.SetWorkers(1, "svm", 3))
    assert out.scalings == [m.SetWorkers(1, "svm", 3)]
    assert heart.ask(m.SetWorkers(1, "svm", 5000), m.Refused).id == 1
    assert heart.ask(m.SetWorkers(1, "svn", 1), m.Refused).code == "unknown_master"
