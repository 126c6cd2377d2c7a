"""Whatever process of TaskMaster's dies or hangs, heads are made safe, and no task is evaluated twice."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from helpers import probes
from helpers.circle import Circle
from helpers.daemon import Daemon
from helpers.places import StartDaemon, short_folder, starter
from helpers.probes import await_states, heads, outcomes, points
from helpers.waiting import PATIENCE, all_ended, eventually

from taskmaster.bus import codec, messages as m
from taskmaster.bus.keys import Credentials
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners import connect
from taskmaster.learners.client import Lab, Run

HEADS = ("tip-1", "tip-2")
#: Seconds that a task takes which is to be interrupted.
LONG = 30.0


@pytest.fixture
def settling() -> float:
    return LONG


@pytest.fixture
def probe(settling: float) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=settling) as probe:
        yield probe


@pytest.fixture
def start(probe: Laboratory, start_daemon: StartDaemon) -> Callable[..., Daemon]:
    def start(**keys: object) -> Daemon:
        return start_daemon({"stm": probes.stm(probe, HEADS, **keys)}, lost_after="1 s", heartbeat="200 ms")

    return start


def both_safe(probe: Laboratory, mark: float) -> None:
    eventually(lambda: all(probe.control.first_safe(head, mark) for head in HEADS), "both heads to be safe")


def at_work(probe: Laboratory, lab: Lab, n: int = 2) -> Run:
    """Two long tasks, one at each head."""
    await_states(lab, "ready", "ready")
    run = lab["stm"].open("long")
    run.tasks.put_many(points(n))
    for head in HEADS:
        probe.control.wait(head, "POS")
    return run


def twice(probe: Laboratory) -> int:
    return max(probes.visits(probe, HEADS).values())


def test_a_head_whose_worker_is_killed_is_made_safe_before_another_has_it(
    probe: Laboratory, start: Callable[..., Daemon]
) -> None:
    with start().connect() as lab:
        run = at_work(probe, lab)
        mark = probe.control.mark()
        os.kill(heads(lab)["tip-1"].pid, signal.SIGKILL)
        eventually(lambda: probe.control.first_safe("tip-1", mark), "the head to be made safe")
        await_states(lab, "parked", "busy")
        assert probe.control.first_safe("tip-2", mark) is None, "it is its own domain of failure"
        (held,) = lab.held()
        assert "killed by SIGKILL" in held.reason
        lab.resolve(held.run, held.index, "fail")
        await_states(lab, "ready", "busy")
        assert run.name == "long"
        assert twice(probe) == 1


def test_heads_are_made_safe_when_their_guardian_is_killed_and_the_next_takes_over(
    probe: Laboratory, start: Callable[..., Daemon]
) -> None:
    daemon = start()
    with daemon.connect() as lab:
        at_work(probe, lab)
        mark = probe.control.mark()
        before = daemon.guardians()["stm"]
        os.kill(before, signal.SIGKILL)
        both_safe(probe, mark)
        eventually(lambda: daemon.guardians().get("stm", before) != before, "another guardian")
        await_states(lab, "parked", "parked")
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail")
        await_states(lab, "ready", "ready")
        assert twice(probe) == 1


def test_a_worker_that_hangs_when_its_guardian_is_killed_is_ended_by_the_next(
    probe: Laboratory, start: Callable[..., Daemon]
) -> None:
    daemon = start()
    with daemon.connect() as lab:
        at_work(probe, lab)
        mark = probe.control.mark()
        os.kill(heads(lab)["tip-1"].pid, signal.SIGSTOP)
        os.kill(daemon.guardians()["stm"], signal.SIGKILL)
        both_safe(probe, mark)
        await_states(lab, "parked", "parked")
        assert twice(probe) == 1


def test_a_stop_reaches_a_head_whose_worker_hangs(probe: Laboratory, start: Callable[..., Daemon]) -> None:
    with start().connect() as lab:
        run = at_work(probe, lab)
        os.kill(heads(lab)["tip-1"].pid, signal.SIGSTOP)
        mark = probe.control.mark()
        lab.stop(reason="smoke")
        both_safe(probe, mark)
        assert outcomes(run, 2)["held"] == 2
        await_states(lab, "stopped", "stopped")
        eventually(lambda: all(info.safe for info in heads(lab).values()), "both to say that they are safe")


def test_heads_make_themselves_safe_when_the_daemon_stays_away(probe: Laboratory, start: Callable[..., Daemon]) -> None:
    daemon = start(deadman="2 s")
    with daemon.connect() as lab:
        run = at_work(probe, lab)
        mark = probe.control.mark()
        killed = time.monotonic()
        daemon.kill()
        both_safe(probe, mark)
        assert time.monotonic() - killed > 1.5, "a restart of the daemon would not have been noticed"
        daemon.start()
        assert outcomes(run, 2)["held"] == 2
        assert all("nothing was heard of the daemon" in held.reason for held in lab.held())
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail")
        await_states(lab, "ready", "ready")
        assert twice(probe) == 1


@pytest.mark.parametrize("worker", ["lives", "hangs", "is killed"])
def test_heads_are_made_safe_when_the_daemon_hangs(
    probe: Laboratory, start: Callable[..., Daemon], worker: str
) -> None:
    daemon = start(deadman="2 s")
    with daemon.connect() as lab:
        run = at_work(probe, lab)
        pid = heads(lab)["tip-1"].pid
        mark = probe.control.mark()
        daemon.signal(signal.SIGSTOP)
        if worker != "lives":
            os.kill(pid, signal.SIGSTOP if worker == "hangs" else signal.SIGKILL)
        both_safe(probe, mark)
        daemon.signal(signal.SIGCONT)
        assert outcomes(run, 2)["held"] == 2
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail")
        await_states(lab, "ready", "ready")
        assert twice(probe) == 1


@pytest.mark.parametrize("settling", [3.0])
def test_work_goes_on_while_the_daemon_is_killed_and_started(probe: Laboratory, start: Callable[..., Daemon]) -> None:
    daemon = start()
    with daemon.connect() as lab:
        run = at_work(probe, lab)
        workers = {info.pid for info in heads(lab).values()}
        daemon.kill()
        guardians = daemon.guardians()
        daemon.start()
        assert outcomes(run, 2)["done"] == 2
        assert ({info.pid for info in heads(lab).values()}, daemon.guardians()) == (workers, guardians)
        assert twice(probe) == 1


@pytest.mark.parametrize("settling", [3.0])
def test_work_goes_on_while_the_daemon_is_stopped_if_it_is_to(probe: Laboratory, start: Callable[..., Daemon]) -> None:
    daemon = start(on_shutdown="continue")
    with daemon.connect() as lab:
        run = at_work(probe, lab)
        assert daemon.stop() == 0
        daemon.start()
        assert outcomes(run, 2)["done"] == 2
        assert twice(probe) == 1


def test_a_daemon_that_is_stopped_leaves_safe_heads_and_no_process(
    probe: Laboratory, start: Callable[..., Daemon]
) -> None:
    daemon = start()
    daemon.configure({"stm": probes.stm(probe, HEADS)}, grace="0 s")
    daemon.stop()
    daemon.start()
    with daemon.connect() as lab:
        at_work(probe, lab)
        left = [os.pidfd_open(pid) for pid in (*daemon.guardians().values(), *(h.pid for h in heads(lab).values()))]
        mark = probe.control.mark()
        assert daemon.stop() == 0
        both_safe(probe, mark)
        assert all_ended(left)
        daemon.start()
        assert {held.reason.rpartition(": ")[2] for held in lab.held()} == {"stopped"}
        assert twice(probe) == 1
    for descriptor in left:
        os.close(descriptor)


def test_a_guardian_that_is_told_to_go_makes_its_heads_safe(probe: Laboratory, start: Callable[..., Daemon]) -> None:
    daemon = start()
    with daemon.connect() as lab:
        at_work(probe, lab)
    mark = probe.control.mark()
    daemon.kill()
    guardian = os.pidfd_open(daemon.guardians()["stm"])
    signal.pidfd_send_signal(guardian, signal.SIGTERM)
    both_safe(probe, mark)
    assert all_ended([guardian])
    os.close(guardian)


def test_a_workers_key_does_not_speak_for_the_guardian_of_heads_that_are_here(probe: Laboratory) -> None:
    """Neither of a head, nor that it is there when it hangs: it would not be ended, and its heads not made safe."""
    with short_folder() as folder, starter(folder) as start, zmq.Context() as context:
        circle = Circle(folder, start, {"stm": probes.stm(probe, HEADS)}, lost_after="1 s", heartbeat="200 ms")
        circle.admit("eve", "worker")
        with connect(circle.near) as near, connect_as(circle, "eve", context) as eve:
            await_states(near, "ready", "ready")
            pid = circle.daemon.guardians()["stm"]
            hello = m.GuardianHello(m.PROTOCOL_VERSION, "stm", "g", pid, socket.gethostname())
            for message in (hello, m.Guarded(time.time(), "stm", "tip-1", "its worker died", "it does not answer")):
                eve.send(codec.encode(message))
                assert eve.poll(round(PATIENCE * 1e3))
                refused = codec.to_host_decoder().decode(eve.recv())
                assert isinstance(refused, m.Refused)
                assert refused.code == "not_allowed"
            assert "NOT KNOWN TO BE SAFE" not in circle.daemon.log
            mark = probe.control.mark()
            os.kill(pid, signal.SIGSTOP)

            def is_ended() -> bool:
                for message in (hello, m.Heartbeat()):
                    eve.send(codec.encode(message))
                return f"(process {pid}) was not heard of for" in circle.daemon.log

            eventually(is_ended, "it to be ended")
            both_safe(probe, mark)


@contextlib.contextmanager
def connect_as(circle: Circle, name: str, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[zmq.Socket[bytes]]:
    """The workers' socket, with somebody's key."""
    with circle.connect(name) as lab, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        Credentials(circle.pairs[name], circle.own.public).apply(peer)
        peer.connect(lab._described.workers)
        yield peer
