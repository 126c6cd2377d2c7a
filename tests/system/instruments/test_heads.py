"""Heads of a real daemon at the simulated probe, which counts what it is told: nothing is done to it twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from helpers import probes
from helpers.daemon import Daemon
from helpers.places import StartDaemon
from helpers.probes import await_states, heads, outcomes, points
from helpers.waiting import eventually

from taskmaster.bus.errors import CallerError
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab

HEADS = ("tip-1", "tip-2", "tip-3")


@pytest.fixture
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=3, settling=0.02) as probe:
        yield probe


@pytest.fixture
def daemon(probe: Laboratory, start_daemon: StartDaemon) -> Daemon:
    return start_daemon({"stm": probes.stm(probe, HEADS)})


@pytest.fixture
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        await_states(lab, "ready", "ready", "ready")
        yield lab


def visits(probe: Laboratory) -> Counter[tuple[float, ...]]:
    return probes.visits(probe, HEADS)


def test_all_heads_work_and_each_place_is_visited_once(probe: Laboratory, lab: Lab) -> None:
    wanted = points(60)
    run = lab["stm"].open()
    run.tasks.put_many(wanted)
    workers = Counter(result.worker for result in run.results if result.output is not None)
    assert set(workers) == set(HEADS)
    assert workers.total() == 60
    assert visits(probe) == Counter(map(tuple, wanted.tolist()))
    assert sum(info.tasks for info in heads(lab).values()) == 60
    assert {info.identity for info in heads(lab).values()} == {probe[head].identity for head in HEADS}


def test_a_head_that_is_unplugged_comes_back_by_itself_and_the_others_go_on(probe: Laboratory, lab: Lab) -> None:
    wanted = points(90)
    run = lab["stm"].open()
    run.tasks.put_many(wanted)
    probe.control.wait("tip-2", "POS", 5)
    probe.control.unplug("tip-2")
    eventually(lambda: heads(lab)["tip-2"].state in ("faulty", "connecting", "parked"), "it to be missed")
    others = heads(lab)["tip-1"].tasks
    eventually(lambda: heads(lab)["tip-1"].tasks > others, "another to go on")
    probe.control.replug("tip-2")
    ended = outcomes(run, 90)
    assert ended["failed"] == 0
    assert ended["held"] <= 1, "only what it was at"
    assert max(visits(probe).values()) == 1
    for held in lab.held():
        lab.resolve(held.run, held.index, "retry")  # it is known here that this does no harm
    await_states(lab, "ready", "ready", "ready")
    assert outcomes(run, 90)["done"] == 90


def test_a_worker_killed_in_a_task_leaves_it_in_doubt(probe: Laboratory, lab: Lab) -> None:
    run = lab["stm"].open()
    run.tasks.put_many(points(30))
    probe.control.wait("tip-3", "POS", 3)
    os.kill(heads(lab)["tip-3"].pid, signal.SIGKILL)
    ended = outcomes(run, 30)
    assert ended["done"] + ended["held"] == 30
    assert ended["held"] <= 2, "what it was in, and what it had not reported yet"
    assert max(visits(probe).values()) == 1


def test_a_daemon_that_is_killed_does_nothing_twice(probe: Laboratory, daemon: Daemon, lab: Lab) -> None:
    wanted = points(60)
    run = lab["stm"].open("killed")
    run.tasks.put_many(wanted)
    for _ in range(2):
        gone = visits(probe).total()
        eventually(lambda gone=gone: visits(probe).total() >= gone + 9, "them to be at work")  # type: ignore[misc]
        daemon.restart()
        eventually(lambda: {"connecting", "away"}.isdisjoint(probes.states(lab)), "the heads to be back")
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail", reason="nobody knows")
    ended = outcomes(run, 60)
    assert ended["done"] + ended["failed"] == 60
    assert ended["failed"] <= 2 * len(HEADS)
    assert max(visits(probe).values()) == 1


def test_a_stop_reaches_all_heads_at_once_and_lasts(probe: Laboratory, daemon: Daemon, lab: Lab) -> None:
    run = lab["stm"].open()
    run.tasks.put_many(points(300))
    probe.control.wait("tip-1", "POS", 3)
    mark = probe.control.mark()
    lab.stop(reason="smoke")
    eventually(lambda: all(probe.control.first_safe(head, mark) for head in HEADS), "all to be safe")
    assert max(probe.control.first_safe(head, mark) or 0.0 for head in HEADS) - mark < 1.0, (
        "how fast it is is measured elsewhere; here, that no task was waited for"
    )
    eventually(lambda: all(info.safe for info in heads(lab).values()), "all to have said so")
    gone = visits(probe).total()
    daemon.restart()
    eventually(lambda: all(info.safe and info.state == "stopped" for info in heads(lab).values()), "them to be again")
    for held in lab.held():
        lab.resolve(held.run, held.index, "fail", reason="it was stopped")
    assert visits(probe).total() == gone
    lab.reset()
    assert outcomes(run, 300)["done"] >= 290
    assert max(visits(probe).values()) == 1


def test_a_head_is_taken_out_and_put_back(probe: Laboratory, lab: Lab) -> None:
    lab.set_head("stm", "tip-1", inside=False, reason="a new tip", who="ada")
    eventually(lambda: heads(lab)["tip-1"].safe, "it to be safe")
    run = lab["stm"].open()
    run.tasks.put_many(points(20))
    assert {result.worker for result in run.results} == {"tip-2", "tip-3"}
    assert (heads(lab)["tip-1"].state, heads(lab)["tip-1"].reason) == ("out", "by ada: a new tip")
    lab.set_head("stm", "tip-1", inside=True)
    eventually(lambda: heads(lab)["tip-1"].state == "ready", "it to be back")
    run.tasks.put_many(points(40))
    assert "tip-1" in {result.worker for result in run.results}


def test_tasks_are_evaluated_where_they_ask_to_be(probe: Laboratory, lab: Lab) -> None:
    run = lab["stm"].open()
    wanted = {"tip-1": points(3), "tip-2": points(4), "tip-3": points(5)}
    for head, places in wanted.items():
        run.tasks.put_many(places[:-1], where={"head": head})
        run.tasks.put(dict(zip("xy", places[-1])), where={"head": head})
    assert Counter(result.worker for result in run.results) == {"tip-1": 3, "tip-2": 4, "tip-3": 5}
    for head, places in wanted.items():
        assert set(probes.visits(probe, [head])) == set(map(tuple, places.tolist()))
    with pytest.raises(CallerError, match=r"Master 'stm' has no head 'tip-4'; did you mean 'tip-"):
        run.tasks.put({"x": 1.0, "y": 1.0}, where={"head": "tip-4"})
    with pytest.raises(CallerError, match="where has no key 'tip'; it has 'head', 'capability'"):
        run.tasks.put({"x": 1.0, "y": 1.0}, where={"tip": "tip-1"})
