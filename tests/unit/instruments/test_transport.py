"""What all transports have in common, over a socket whose other end the test holds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from taskmaster.drivers.instruments.errors import Garbled, Stopped, TimedOut, Unreachable
from taskmaster.drivers.instruments.streams import SocketStream
from taskmaster.drivers.instruments.transport import Transport, shortened


class Pair(Transport):
    """Its instrument is the socket `far`."""

    far: socket.socket
    near: socket.socket | None = None
    _stream: SocketStream

    @property
    def is_open(self) -> bool:
        return self.near is not None

    def _connect(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.near = socket.create_connection(server.getsockname())
            self.far, _ = server.accept()
        self._stream = SocketStream(self.resource, self.near)

    def _disconnect(self) -> None:
        near, self.near = self.near, None
        if near is not None:
            near.close()

    def _receive(self, seconds: float) -> tuple[bytes, bool]:
        return self._stream.receive(seconds), False

    def _send(self, data: bytes | memoryview, seconds: float) -> int:
        return self._stream.send(data, seconds)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair("pair", write_timeout=0.2)
    pair.open(threading.Event())
    yield pair
    pair.close()
    pair.far.close()


def soon() -> float:
    return time.monotonic() + 0.05


def later() -> float:
    return time.monotonic() + 30


def test_messages_end_by_their_terminator(pair: Pair) -> None:
    pair.write(b"A?", acts=False)
    assert pair.far.recv(10) == b"A?\n"
    pair.far.sendall(b"1\n2\nhal")
    assert pair.read(later()) == b"1"
    assert pair.pending.startswith(b"2\n")
    assert pair.read(later()) == b"2"
    with pytest.raises(TimedOut, match="received 'hal'"):
        pair.read(soon())
    assert not pair.is_open, "what else comes belongs to nobody"
    with pytest.raises(Unreachable, match="not connected"):
        pair.write(b"B?", acts=False)


def test_a_terminator_of_two_may_come_in_two(pair: Pair) -> None:
    pair._read_terminator = b"\r\n"
    pair.far.sendall(b"1\r")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(pair.read, later())
        pair.far.sendall(b"\n2\n\r")
        assert first.result() == b"1"
    pair.far.sendall(b"\n")
    assert pair.read(later()) == b"2\n"


def test_drained_is_what_lies_there(pair: Pair) -> None:
    assert pair.drain() == b""
    pair.far.sendall(b"late\n")
    assert pair.read(later()) == b"late"
    pair.far.sendall(b"1\n2\n")
    assert pair.read(later()) == b"1"
    assert pair.drain() == b"2\n"
    assert pair.drain() == b""


def test_blocks_of_any_content(pair: Pair) -> None:
    image = np.random.default_rng(0).bytes(2_000_000)
    sender = threading.Thread(target=pair.far.sendall, args=[b"#72000000" + image + b"\n#13\n\n\n\n#0ab\ncd\n"])
    sender.start()
    assert pair.read_block(later()) == image
    assert pair.read_block(later()) == b"\n\n\n"
    assert pair.read_block(later()) == b"ab\ncd", "a block without length ends when no more comes"
    sender.join()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"1.5\n", "'1.5\\\\n': which is no block"),
        (b"#3abc\n", "is no number"),
        (b"#9999999999\n", "999999999 bytes, where at most"),
        (b"#13abcd\n", "after the end of a block"),
    ],
)
def test_what_is_no_block(pair: Pair, sent: bytes, says: str) -> None:
    pair.far.sendall(sent)
    with pytest.raises(Garbled, match=says):
        pair.read_block(later(), max_bytes=1000)
    assert not pair.is_open


def test_half_a_block_is_a_time_out(pair: Pair) -> None:
    pair.far.sendall(b"#3100abc")
    with pytest.raises(TimedOut, match="received '#3100abc'"):
        pair.read_block(soon())


def test_hanging_up_is_noticed_at_once(pair: Pair) -> None:
    pair.far.close()
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="connection is lost"):
        pair.read(later())
    assert time.monotonic() - begun < 1


def test_an_instrument_that_takes_nothing_is_waited_for_and_given_up(pair: Pair) -> None:
    with pytest.raises(TimedOut, match="did not take"):
        pair.write(b"x" * 30_000_000, acts=False)
    assert not pair.is_open


def test_what_acts_is_marked_before_it_is_sent(pair: Pair) -> None:
    marks: list[bool] = []
    pair.far.setblocking(False)

    def mark() -> None:
        with pytest.raises(BlockingIOError):
            pair.far.recv(1)
        marks.append(True)

    pair.on_acting = mark
    pair.write(b"A?", acts=False)
    pair.far.setblocking(True)
    assert (pair.far.recv(10), marks) == (b"A?\n", [])
    pair.far.setblocking(False)
    pair.write(b"SET 1", acts=True)
    assert marks == [True]


def test_what_may_wait_goes_with_what_follows(pair: Pair) -> None:
    pair._joins = True
    pair.far.setblocking(False)
    marks: list[bool] = []
    pair.on_acting = lambda: marks.append(True)
    pair.write(b"SET 1", acts=True, more=True)
    assert marks == [True], "it is as good as sent"
    with pytest.raises(BlockingIOError):
        pair.far.recv(1)
    pair.write(b"SET 2", acts=True, more=True)
    pair.write(b"A?", acts=False)
    pair.far.setblocking(True)
    assert pair.far.recv(100) == b"SET 1\nSET 2\nA?\n"
    pair.write(b"SET 3", acts=True, more=True)
    pair.flush()
    assert pair.far.recv(100) == b"SET 3\n"


def test_what_has_waited_is_not_sent_after_what_has_broken_off(pair: Pair) -> None:
    pair._joins = True
    pair.write(b"SET 1", acts=True, more=True)
    pair.unsent = b""
    pair.write(b"SAFE", acts=False)
    pair.write(b"SET 2", acts=True, more=True)
    pair.close()
    pair.flush()
    assert pair.far.recv(100) == b"SAFE\n"
    assert pair.far.recv(100) == b"", "it hangs up"


def test_where_messages_have_ends_nothing_waits(pair: Pair) -> None:
    pair.write(b"SET 1", acts=True, more=True)
    assert pair.far.recv(100) == b"SET 1\n"


@pytest.mark.parametrize("doing", ["read", "block", "write"])
def test_a_stop_is_heeded_in_every_wait(pair: Pair, doing: str) -> None:
    stopped_at: list[float] = []

    def stop() -> None:
        stopped_at.append(time.monotonic())
        pair.stopping.set()

    pair._write_timeout = 30
    threading.Timer(0.1, stop).start()
    waits: dict[str, Callable[[], object]] = {
        "read": partial(pair.read, later()),
        "block": partial(pair.read_block, later()),
        "write": partial(pair.write, b"x" * 30_000_000, acts=False),
    }
    with pytest.raises(Stopped):
        waits[doing]()
    assert time.monotonic() - stopped_at[0] < 0.5, "on a machine that does much else"
    with pytest.raises(Stopped):
        pair.open(pair.stopping)


def test_long_answers_are_shown_by_their_beginning() -> None:
    assert shortened(b"") == "nothing"
    assert shortened(b"ab\n") == r"'ab\n'"
    assert shortened(b"x" * 1000) == f"'{'x' * 60}'… (1000 bytes)"


def test_an_answer_that_comes_whole_may_not_be_endless_either() -> None:
    pair = Pair("pair", largest=1000)
    pair.open(threading.Event())
    try:
        pair.far.sendall(b"1" * 2000 + b"\n")
        with pytest.raises(Garbled, match="more than 1000 bytes"):
            pair.read(later())
    finally:
        pair.close()
        pair.far.close()
