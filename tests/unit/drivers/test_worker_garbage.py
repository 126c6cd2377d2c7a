"""Whatever the daemon says, or somebody in its place: a worker takes it or refuses it whole, and goes on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from helpers.garbage import SAID, mutated

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer, pack_values
from taskmaster.drivers.protocol import WorkerProtocol

_ONE = pack_values([1.0])
#: What a worker may be told.
_TAGS = (b"dispatch", b"welcome", b"revoke", b"settled", b"goodbye", b"refused")
_TOLD = [frames for frames in SAID if any(tag in frames[0][:12] for tag in _TAGS)]


def say(worker: WorkerProtocol, message: m.ToWorker, frames: Sequence[Buffer] = ()) -> None:
    worker.on_frames([codec.encode(message), *map(bytes, frames)], 0.0)


@pytest.fixture
def worker() -> WorkerProtocol:
    """It has been welcomed."""
    worker = WorkerProtocol("m", "m-1")
    worker.hello(0.0)
    welcome(worker)
    return worker


def welcome(worker: WorkerProtocol) -> None:
    hello = codec.worker_decoder().decode(worker.outbox[-1][0])
    assert isinstance(hello, m.WorkerHello)
    say(worker, m.Welcome(1, hello.session, "m", "process", {}))
    worker.outbox.clear()


@pytest.mark.parametrize("n", [0, -1, 2, 2**40])
def test_a_dispatch_that_does_not_add_up_changes_nothing(worker: WorkerProtocol, n: int) -> None:
    say(worker, m.Dispatch((1, 1), 1, 0, 1, _ONE.layout), _ONE.frames)
    with pytest.raises(ProtocolError):
        say(worker, m.Dispatch((1, 2), 1, 0, n, _ONE.layout, settled=((1, 1),)), _ONE.frames if n else [b""])
    assert [assignment.lease for assignment in worker.queue] == [(1, 1)]
    say(worker, m.Settled((), 1))
    assert not worker.outbox, "it has not been counted"


@pytest.mark.parametrize("seed", range(2))
def test_thousands_of_damaged_messages_are_taken_or_refused(worker: WorkerProtocol, seed: int) -> None:
    chance, taken = random.Random(seed), 0
    for _ in range(3000):
        try:
            worker.on_frames(mutated(chance, _TOLD), 0.0)
        except ProtocolError:
            continue
        taken += 1
        while (assignment := worker.begin()) is not None:
            assert assignment.n == assignment.table.n > 0
            outputs = pack_values([None] * assignment.n)
            worker.report(assignment, 0, assignment.n, outputs, (), 0.0, 0.0, None, final=True, now=0.0)
        if not worker._in_session:
            worker.hello(0.0)
            welcome(worker)
        worker.outbox.clear()
    assert taken > 100
