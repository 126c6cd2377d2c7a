"""Who keeps pace misses nothing, who has stopped delays nobody for long, and what waits is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zmq
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.table import Buffer
from taskmaster.daemon import outbox
from taskmaster.daemon.outbox import MOST, WAIT_SECONDS, Outbox

PATIENCE_MS = round(1e3 * PATIENCE)
#: What fits into the queues of a follower that reads nothing, on both sides and between them.
_QUEUE = 16


class Hall:
    """A publisher, and who follows."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self._context, self._address = context, address
        self.xpub = context.socket(zmq.XPUB)
        self.xpub.sndhwm = _QUEUE
        self.xpub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.xpub.bind(address)
        self.outbox = Outbox(self.xpub)
        self._followers: list[zmq.Socket[bytes]] = []

    def follow(self, topic: bytes) -> zmq.Socket[bytes]:
        """Somebody who has subscribed."""
        socket = self._context.socket(zmq.SUB)
        self._followers.append(socket)
        socket.rcvhwm = _QUEUE
        socket.rcvbuf = socket.sndbuf = 4096
        socket.connect(self._address)
        socket.subscribe(topic)
        assert self.xpub.poll(PATIENCE_MS)
        self.xpub.recv()
        return socket

    def fill(self, topic: bytes) -> None:
        """Send until a message waits, and would for ever: its follower reads nothing."""
        filler = topic + b" filler"
        self.outbox._wait = PATIENCE
        for _ in range(100_000):
            self.outbox.send(filler, [b"filler"])
            end = time.monotonic() + 0.1
            while len(self.outbox) and time.monotonic() < end:
                self.outbox.retry(time.monotonic())
            if len(self.outbox):
                self.outbox._wait = WAIT_SECONDS
                self.outbox._held[filler].until = time.monotonic() + WAIT_SECONDS
                return
        raise AssertionError("its queue takes all there is")

    def settle(self) -> None:
        """Turn until nothing waits."""
        end = time.monotonic() + PATIENCE
        while len(self.outbox):
            assert time.monotonic() < end
            self.outbox.retry(time.monotonic())


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield Hall(context, f"ipc://{tmp_path}/results")
    context.destroy(linger=0)


def received(socket: zmq.Socket[bytes]) -> list[bytes]:
    messages = []
    while socket.poll(0):
        messages.append(socket.recv_multipart()[1])
    return messages


def test_who_reads_misses_nothing_of_a_burst(hall: Hall) -> None:
    follower = hall.follow(b"")
    hall.outbox._wait = PATIENCE  # however long this thread, or ZeroMQ's, is kept from its processor
    got: list[bytes] = []
    for k in range(40 * _QUEUE):
        hall.outbox.send(b"run %d" % k, [b"%d" % k])
        if k % _QUEUE == 0:  # as fast as one thread that does both can
            got += received(follower)

    def all_there() -> bool:
        hall.outbox.retry(time.monotonic())
        got.extend(received(follower))
        return len(got) == 40 * _QUEUE

    eventually(all_there, "all that was sent")
    assert hall.outbox.dropped == 0
    assert sorted(map(int, got)) == list(range(40 * _QUEUE))
    assert hall.outbox.due == float("inf")


def test_the_messages_of_a_topic_stay_in_order(hall: Hall) -> None:
    follower = hall.follow(b"run")
    hall.fill(b"run")
    for k in range(3):
        hall.outbox.send(b"run", [b"%d" % k])
    for held in hall.outbox._held.values():
        held.until += PATIENCE  # however slow this machine is
    got = received(follower)  # there is room by now, and some that wait
    hall.outbox.send(b"run", [b"3"])

    def all_there() -> bool:
        hall.outbox.retry(time.monotonic())
        got.extend(received(follower))
        return got[-1] == b"3"

    eventually(all_there, "the last")
    assert got[-4:] == [b"0", b"1", b"2", b"3"]


def test_what_finds_no_room_goes_to_the_others_after_a_moment(hall: Hall) -> None:
    hall.follow(b"run")  # reads nothing
    hall.fill(b"run")
    healthy = hall.follow(b"run")
    hall.outbox.send(b"run", [b"there"])
    now = time.monotonic()
    hall.outbox.retry(hall.outbox.due)
    assert len(hall.outbox) == 2
    hall.outbox.retry(now + 2 * WAIT_SECONDS)
    assert len(hall.outbox) == 0
    assert hall.outbox.dropped >= 1
    assert healthy.poll(PATIENCE_MS)


def test_who_has_missed_a_message_delays_nobody_any_more(hall: Hall) -> None:
    hall.follow(b"run")  # reads nothing
    hall.fill(b"run")
    healthy = hall.follow(b"run")
    hall.settle()
    for k in range(100):
        hall.outbox.send(b"run", [b"%d" % k])
        assert len(hall.outbox) == 0
        assert healthy.poll(PATIENCE_MS)
        healthy.recv_multipart()


def test_other_topics_do_not_wait_for_one_who_has_stopped(hall: Hall) -> None:
    hall.follow(b"run 1")  # reads nothing
    healthy = hall.follow(b"run 2")
    hall.fill(b"run 1")
    hall.outbox.send(b"run 2", [b"there"])
    assert healthy.poll(PATIENCE_MS)
    assert len(hall.outbox) == 1


def test_what_waits_is_bounded_by_number_and_by_bytes(hall: Hall) -> None:
    hall.follow(b"")  # reads nothing
    for size, most in ((1, 2 * MOST), (1 << 20, 20)):
        hall.fill(b"run")
        for k in range(most):
            hall.outbox.send(b"run %d" % (k % 7), [b"x" * size])
            assert len(hall.outbox) <= MOST
            assert hall.outbox._bytes <= outbox._MOST_BYTES
        assert hall.outbox.dropped
        hall.settle()
        assert (len(hall.outbox), hall.outbox._bytes) == (0, 0)
        hall.outbox.dropped = 0
        hall.follow(b"")  # the first is known not to read


def test_thousands_of_topics_that_have_no_room_are_not_all_tried_each_time(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall.follow(b"")  # reads nothing
    hall.fill(b"run")
    hall.outbox._wait = PATIENCE
    for k in range(1000):
        hall.outbox.send(b"run %d" % k, [b"x"])
    tried: list[bytes] = []

    def never(topic: bytes, frames: Sequence[Buffer]) -> bool:
        tried.append(topic)
        return False

    monkeypatch.setattr(hall.outbox, "_fits", never)
    hall.outbox.retry(hall.outbox.due)
    assert len(tried) == outbox._IN_VAIN
