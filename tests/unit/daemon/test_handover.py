"""What the daemon and a worker on its machine hand each other beside the socket: shown, given, taken, let go of."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.segments import MOST_SEGMENTS, SEGMENT_BYTES, Segments
from taskmaster.bus.table import pack_values
from taskmaster.daemon.effects import Sender
from taskmaster.daemon.handover import Handover
from taskmaster.daemon.roles import Peer
from taskmaster.drivers.protocol import WorkerProtocol
from taskmaster.drivers.sharing import Sharing

WORKER = Sender(b"worker")
LARGE = bytes(SEGMENT_BYTES)


class Pair:
    """A worker, and the daemon's end, without what is between them."""

    def __init__(self) -> None:
        self.handover = Handover()
        self.sharing = Sharing()
        self.worker = WorkerProtocol("svm", "token", pid=os.getpid(), sharing=self.sharing)
        self.worker.hello(0.0)

    def meet(self) -> None:
        """Hello, and welcome."""
        hello = self.said()[-1]
        assert isinstance(hello, m.WorkerHello)
        self.handover.on_hello(WORKER, hello)
        welcome = m.Welcome(1, hello.session, "svm", "process", {})
        self.tell(self.handover.welcome(WORKER.address, welcome))

    def tell(self, message: m.ToWorker, *frames: bytes) -> None:
        self.worker.on_frames([codec.encode(message), *frames], 0.0)

    def said(self) -> list[m.WorkerMessage]:
        """What the worker has said; the daemon's end hears it."""
        self.worker.tick(0.0)
        messages = [codec.worker_decoder().decode(bytes(frames[0])) for frames in self.worker.outbox]
        self.worker.outbox.clear()
        for message in messages:
            if isinstance(message, m.Returned):
                self.handover.on_returned(WORKER, message)
        return messages

    def dispatch(self, size: int) -> m.Dispatch:
        table = pack_values([bytes(size)])
        message, frames = self.handover.give(WORKER.address, m.Dispatch((1, 1), 1, 0, 1, table.layout), table.frames)
        self.tell(message, *map(bytes, frames))
        return message


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.handover.forget(WORKER.address)
    pair.sharing.close()


def test_what_is_large_goes_by_segments_once_both_have_shown_that_they_can(pair: Pair) -> None:
    assert pair.dispatch(2 * SEGMENT_BYTES).segment is None, "nobody has said hello"
    pair.meet()
    assert pair.dispatch(2 * SEGMENT_BYTES).segment is None, "it has not shown that it can"
    assert any(isinstance(message, m.Returned) for message in pair.said())
    assert pair.dispatch(100).segment is None, "it is not worth it"
    given = pair.dispatch(2 * SEGMENT_BYTES)
    assert given.segment is not None
    assert len(pair.handover) == 1
    rows = []
    while (assignment := pair.worker.begin()) is not None:
        rows = assignment.table.rows()
        assert len(pair.handover) == 1, "it is read"
        pair.worker.report(assignment, 0, 1, pack_values([1]), (), 0.0, 0.0, None, final=True, now=0.0)
    assert rows == [bytes(2 * SEGMENT_BYTES)]
    pair.said()
    assert len(pair.handover) == 0, "it is not read any more"


def test_outcomes_come_by_segments_and_are_kept_until_they_are_settled(pair: Pair) -> None:
    pair.meet()
    pair.dispatch(100)
    assignment = pair.worker.begin()
    assert assignment is not None
    table = pack_values([LARGE])
    pair.said()
    pair.worker.report(assignment, 0, 1, table, (), 0.0, 0.0, None, final=True, now=0.0)
    [frames] = pair.worker.outbox
    assert len(frames) == 1
    [outcome] = [message for message in pair.said() if isinstance(message, m.Outcome)]
    assert outcome.segment is not None
    taken = pair.handover.take(WORKER, outcome.segment)
    assert taken is not None
    assert [bytes(frame) for frame in taken] == list(map(bytes, table.frames))
    pair.tell(m.Settled((assignment.lease,), 0))
    assert pair.handover.returns() == [], "it is read still"
    del taken
    [(address, returned)] = pair.handover.returns()
    assert (address, returned.numbers) == (WORKER.address, (outcome.segment.number,))
    pair.tell(returned)
    assert pair.sharing.put([LARGE]) == replace(outcome.segment, number=3, sizes=(len(LARGE),)), "used again"
    pair.sharing.close()
    assert pair.handover.take(WORKER, outcome.segment) is None
    pair.worker.hello(1.0)
    pair.meet()
    assert not pair.sharing.puts, "what could not be had comes by the socket from then on"


def test_what_was_sent_twice_is_never_used_again(pair: Pair) -> None:
    """The daemon may have taken it twice, and have returned one of the two."""
    pair.meet()
    pair.dispatch(100)
    assignment = pair.worker.begin()
    assert assignment is not None
    pair.said()
    pair.worker.report(assignment, 0, 1, pack_values([LARGE]), (), 0.0, 0.0, None, final=True, now=0.0)
    taken = []
    for now in (0.0, 10.0):
        pair.worker.tick(now)
        [outcome] = [message for message in pair.said() if isinstance(message, m.Outcome)]
        assert outcome.segment is not None
        taken.append(pair.handover.take(WORKER, outcome.segment))
    taken.pop(0)
    [(_, returned)] = pair.handover.returns()
    pair.tell(returned)
    pair.tell(m.Settled((assignment.lease,), 0))
    other = pair.sharing.put([bytes([1]) * SEGMENT_BYTES])
    assert other is not None
    assert outcome.segment is not None
    assert other.inode != outcome.segment.inode
    [left] = taken
    assert left is not None
    assert not any(bytes([1]) * 64 in bytes(frame) for frame in left)


def test_a_daemon_that_takes_none_is_told_by_the_socket(pair: Pair) -> None:
    """Another release, say, started in the place of the one that did."""
    pair.meet()
    pair.dispatch(100)
    assignment = pair.worker.begin()
    assert assignment is not None
    pair.worker.report(assignment, 0, 1, pack_values([LARGE]), (), 0.0, 0.0, None, final=True, now=0.0)
    pair.said()
    pair.worker.hello(1.0)
    (hello,) = pair.said()
    assert isinstance(hello, m.WorkerHello)
    pair.tell(m.Welcome(1, hello.session, "svm", "process", {}))
    [frames] = [frames for frames in pair.worker.outbox if len(frames) > 1]
    outcome = codec.worker_decoder().decode(bytes(frames[0]))
    assert isinstance(outcome, m.Outcome)
    assert outcome.segment is None
    assert sum(map(len, frames[1:])) > SEGMENT_BYTES


@pytest.mark.parametrize("who", ["from the network", "another user's", "nobody known"])
def test_of_whom_nothing_is_taken(pair: Pair, who: str) -> None:
    hello = pair.said()[-1]
    assert isinstance(hello, m.WorkerHello)
    sender = WORKER
    if who == "from the network":
        sender = Sender(b"worker", "rig", Peer("rig", "worker"))
    elif who == "another user's":
        hello.pid = 1 if os.geteuid() else 2**22 - 1
    if who != "nobody known":
        pair.handover.on_hello(sender, hello)
    welcome = m.Welcome(1, 1, "svm", "process", {})
    assert pair.handover.welcome(sender.address, welcome) == welcome
    assert hello.proof is not None
    assert pair.handover.take(sender, hello.proof) is None


def test_a_segment_that_is_not_there_is_asked_for_by_the_socket_from_then_on(pair: Pair) -> None:
    pair.meet()
    pair.said()
    gone = Segments()
    lost = gone.put([LARGE])
    gone.close()
    table = pack_values([LARGE])
    with pytest.raises(ProtocolError):
        pair.tell(m.Dispatch((1, 1), 1, 0, 1, table.layout, segment=lost))
    pair.worker.hello(1.0)
    pair.meet()
    assert not any(isinstance(message, m.Returned) for message in pair.said())
    assert pair.dispatch(2 * SEGMENT_BYTES).segment is None


def test_what_another_daemon_has_given_is_not_returned_to_this_one(pair: Pair) -> None:
    """It counts from 1, too: it would write over what was not read yet."""
    pair.meet()
    pair.said()
    former = pair.dispatch(2 * SEGMENT_BYTES)
    reading = pair.worker.begin()
    assert reading is not None
    pair.handover = Handover()
    pair.worker.hello(1.0)
    pair.meet()
    pair.said()
    latter = pair.dispatch(2 * SEGMENT_BYTES)
    assert former.segment is not None
    assert latter.segment is not None
    assert former.segment.number == latter.segment.number
    pair.worker.report(reading, 0, 1, pack_values([1]), (), 0.0, 0.0, None, final=True, now=0.0)
    del reading
    pair.said()
    assert len(pair.handover) == 1, "that one waits to be evaluated"


def test_what_was_on_its_way_from_a_daemon_that_is_gone_says_nothing_of_the_next(pair: Pair) -> None:
    lost = replace(pair.sharing.proof, descriptor=2**30)
    pair.sharing.meet(2**22 - 1, None, takes=True)
    with pytest.raises(ProtocolError):
        pair.sharing.take(lost)
    pair.sharing.meet(os.getpid(), pair.sharing.proof, takes=True)
    assert pair.sharing.returns() == (pair.sharing.proof.number,)


def test_one_worker_has_no_more_segments_than_descriptors_can_be_spared(pair: Pair) -> None:
    pair.meet()
    pair.said()
    pair.worker.on_frames = lambda *said: None  # type: ignore[method-assign]
    given = [pair.dispatch(2 * SEGMENT_BYTES).segment for _ in range(MOST_SEGMENTS + 3)]
    assert len(pair.handover) == MOST_SEGMENTS
    assert given[MOST_SEGMENTS:] == [None] * 3, "these come by the socket"
    put = [pair.sharing.put([LARGE]) for _ in range(MOST_SEGMENTS + 3)]
    assert put[MOST_SEGMENTS:] == [None] * 3


def test_no_more_is_taken_than_one_message_may_have(pair: Pair) -> None:
    pair.handover = Handover(max_message=SEGMENT_BYTES)
    pair.meet()
    small, large = pair.sharing.put([LARGE]), pair.sharing.put([LARGE, b"x"])
    assert small is not None
    assert large is not None
    assert pair.handover.take(WORKER, small) is not None
    assert pair.handover.take(WORKER, large) is None


def test_who_is_gone_leaves_nothing_behind(pair: Pair) -> None:
    pair.meet()
    pair.said()
    pair.worker.on_frames = lambda *said: None  # type: ignore[method-assign]
    for _ in range(3):
        pair.dispatch(2 * SEGMENT_BYTES)
    pair.handover.look([WORKER.address])
    assert len(pair.handover) == 3
    pair.handover.look([])
    assert len(pair.handover) == 0
