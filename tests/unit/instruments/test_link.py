"""Turns at a connection that heads share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from helpers.commandheads import TIP, probe_head
from helpers.waiting import PATIENCE

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead
from taskmaster.drivers.instruments.errors import Garbled, Unreachable
from taskmaster.drivers.instruments.link import Link
from taskmaster.drivers.instruments.replies import Text
from taskmaster.drivers.simulated import Laboratory


class Relay:
    """A lock of which somebody else has hold by the time it has been released."""

    def __init__(self, lock: Any, other: Callable[[], None]) -> None:
        self._lock = lock
        self._other = other

    def acquire(self, *, timeout: float) -> bool:
        return bool(self._lock.acquire(timeout=timeout))

    def release(self) -> None:
        self._lock.release()
        other, self._other = self._other, lambda: None
        other()


@pytest.fixture(scope="module")
def probe() -> Iterator[Laboratory]:
    with Laboratory("probe", heads=1, settling=0) as probe:
        yield probe


@pytest.fixture
def head(probe: Laboratory) -> Iterator[CommandHead]:
    with probe_head(probe[TIP]) as head:
        head.open()
        yield head


@contextmanager
def turn(head: CommandHead, who: str = "stm/tip-1") -> Iterator[Link]:
    with head.link.turn(threading.Event(), lambda: None, who):
        yield head.link


def test_what_could_not_be_sent_at_the_end_of_a_turn_fails_though_another_begins_at_once(head: CommandHead) -> None:
    has_turn, may_go = threading.Event(), threading.Event()

    def other() -> None:
        with turn(head, "stm/tip-2"):
            has_turn.set()
            may_go.wait(PATIENCE)

    def begin() -> None:
        thread.start()
        assert has_turn.wait(PATIENCE)

    def say() -> None:
        with turn(head) as link:
            link._transport._stream._socket.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
            link.tell(b"POS 1,2", acts=False, more=True)

    thread = threading.Thread(target=other)
    head.link._lock = Relay(head.link._lock, begin)  # type: ignore[assignment]
    try:
        with pytest.raises(Unreachable, match=r"^stm/tip-1: "):
            say()
    finally:
        may_go.set()
        thread.join(PATIENCE)
    assert not head.link.is_open


def test_what_has_waited_to_be_sent_when_a_turn_is_broken_off_is_never_sent(probe: Laboratory) -> None:
    def break_off(head: CommandHead) -> None:
        with turn(head) as link:
            link.tell(b"POS 77,88", acts=False, more=True)
            raise ZeroDivisionError

    outputs = Schema([Field(name="place", shape=(2,))], "stm", "output")
    with probe_head(probe[TIP], commands={"read": {"place": "POS?"}}, outputs=outputs) as head:
        head.open()
        before = head.read()["place"].tolist()
        with pytest.raises(ZeroDivisionError):
            break_off(head)
        with turn(head) as link:
            link.tell(b"*CLS", acts=False)
        assert head.read()["place"].tolist() == before


def test_what_came_between_two_turns_is_no_answer(head: CommandHead) -> None:
    with turn(head) as link:
        link.get_in_step(1.0)
    with turn(head) as link:
        link._transport.write(b"*IDN?", acts=False)
        link._transport._stream._readable.poll(PATIENCE * 1e3)  # type: ignore[union-attr]
    with pytest.raises(Garbled, match="had come before"), turn(head) as link:
        link.ask(b"*OPC?", Text())
