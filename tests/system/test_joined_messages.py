"""Leases and outcomes of many learners go as one message to and from a worker, and each counts by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, function
from helpers.places import StartDaemon
from helpers.raw import RawPeer
from helpers.waiting import eventually

from taskmaster.bus import codec, messages as m
from taskmaster.bus.joining import first_of, parts
from taskmaster.bus.table import Buffer, pack_values
from taskmaster.learners.client import Run

N = 40


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    return start_shared_daemon({"square": function("square", workers=0)})


class Worker:
    """One that takes a hundred leases at a time, and says what a test has it say."""

    def __init__(self, daemon: Daemon, *, several: bool) -> None:
        self.peer = RawPeer(f"ipc://{daemon.state}/workers")
        token = f"joined-{several}-{id(self)}"
        hello = m.WorkerHello(m.PROTOCOL_VERSION, "square", token, 1, slots=200, batch=1000, shares=1, several=several)
        assert self.peer.ask(hello, m.Welcome).several
        self.peer.say(m.Ready())
        self.token = token
        self.kinds: list[type] = []
        self._decoder = codec.to_worker_decoder()

    def leases(self, n: int) -> list[tuple[m.Dispatch, float]]:
        """So many leases of a task each, with their inputs."""
        found: list[tuple[m.Dispatch, float]] = []
        while len(found) < n:
            message, frames = self.peer.hear()
            self.kinds.append(type(message))
            each: list[list[Buffer]] = [[codec.encode(message), *frames]]
            if isinstance(message, m.Several):
                each = list(parts(message, frames))
            for header, *behind in each:
                one = self._decoder.decode(header)
                if isinstance(one, m.Dispatch):
                    table = codec.table_of(one.layout, one.n, behind)
                    assert table is not None
                    found.append((one, table.rows()[0]))
        return found

    def say_as_one(self, *messages: list[Buffer]) -> None:
        count, frames = first_of(messages)
        assert count == len(messages)
        self.peer.send(*frames)

    def leave(self) -> None:
        self.peer.say(m.Leave(self.token))
        self.peer.hear_of(m.Goodbye)
        self.peer.close()


@pytest.fixture
def runs(daemon: Daemon) -> Iterator[list[Run]]:
    with daemon.connect() as lab:
        runs = [lab["square"].open() for _ in range(N)]
        for k, run in enumerate(runs):
            run.tasks.put(float(k))
            run.tasks.send()
        eventually(lambda: lab["square"].statistics().queued == N, "all tasks queued")
        yield runs
        for run in runs:
            run.close()


def outcome(lease: m.Dispatch, value: float) -> list[Buffer]:
    table = pack_values([value])
    return [codec.encode(m.Outcome(lease.lease, 0, 1, table.layout, (), 1.0, 2.0)), *table.frames]


def test_who_takes_several_gets_leases_as_one_message_and_reports_them_so(daemon: Daemon, runs: list[Run]) -> None:
    worker = Worker(daemon, several=True)
    leases = worker.leases(N)
    assert m.Dispatch not in worker.kinds
    assert len([kind for kind in worker.kinds if kind is m.Several]) < N / 4
    worker.say_as_one(*(outcome(lease, value**2) for lease, value in leases))
    assert [run.results.get().output for run in runs] == [float(k**2) for k in range(N)]
    worker.leave()


def test_who_does_not_gets_one_by_one(daemon: Daemon, runs: list[Run]) -> None:
    worker = Worker(daemon, several=False)
    leases = worker.leases(N)
    assert m.Several not in worker.kinds
    for lease, value in leases:
        worker.peer.send(*outcome(lease, value**2))
    assert [run.results.get().output for run in runs] == [float(k**2) for k in range(N)]
    worker.leave()


def test_what_is_no_message_among_several_costs_the_others_nothing(daemon: Daemon, runs: list[Run]) -> None:
    worker = Worker(daemon, several=True)
    leases = worker.leases(N)
    nested = codec.encode(m.Several(((codec.encode(m.Leave(worker.token)), ()),)))
    nonsense: list[list[Buffer]] = [[b"\xc1"], [nested], [codec.encode(m.Leave(worker.token)), b"behind it"]]
    messages = [outcome(lease, value**2) for lease, value in leases]
    worker.say_as_one(*messages[:10], *nonsense, *messages[10:])
    assert [run.results.get().output for run in runs] == [float(k**2) for k in range(N)]
    for _ in nonsense:
        assert worker.peer.hear_of(m.Refused).code == "protocol"
    worker.leave()
