"""What every head has from its base class."""

from __future__ import annotations

import threading
import time

import pytest

from taskmaster.drivers.instruments import Head, HeadContext, Reconciled
from taskmaster.drivers.instruments.errors import CONNECTING, DeviceError, Garbled, Stopped, WrongIdentity


class Counting(Head):
    """Counts by itself; its token is where it is."""

    def evaluate(self, x: int) -> int:
        for i in range(x):
            self.begin_acting()
            self.checkpoint(str(i))
        return x


def test_the_first_action_of_each_task_is_told_and_tokens_are_kept() -> None:
    told: list[str] = []
    tokens: list[bytes] = []
    head = Counting(HeadContext("a", "m", on_acting=lambda: told.append("acting"), on_checkpoint=tokens.append))
    for _ in range(2):
        head.begin_task()
        assert not head.acting
        assert head.evaluate(3) == 3
        assert head.acting
    assert told == ["acting"] * 2
    assert tokens == [b"0", b"1", b"2"] * 2


def test_what_cannot_be_marked_does_not_act() -> None:
    def refuse() -> None:
        raise OSError("no space left")

    head = Counting(HeadContext(on_acting=refuse))
    with pytest.raises(OSError, match="no space left"):
        head.evaluate(1)
    assert not head.acting


def test_a_pause_ends_with_a_stop() -> None:
    head = Head(HeadContext("tip-1", "stm"))
    head.sleep(0.001)
    threading.Timer(0.05, head.stopping.set).start()
    begun = time.monotonic()
    with pytest.raises(Stopped, match="stm/tip-1 was stopped"):
        head.sleep(30)
    assert time.monotonic() - begun < 5
    with pytest.raises(Stopped):
        head.sleep_until(begun)


def test_what_a_head_need_not_have() -> None:
    head = Head()
    head.open()
    head.safe()
    head.close()
    assert (head.name, head.identify(), head.reconcile(1, b"")) == ("", "", Reconciled.unknown())
    for missing, arguments in (("evaluate", (1,)), ("resume", (1, b"")), ("read", ())):
        with pytest.raises(NotImplementedError, match=missing):
            getattr(head, missing)(*arguments)


def test_what_is_the_heads_fault_and_what_the_tasks() -> None:
    assert issubclass(Garbled, CONNECTING)
    assert issubclass(WrongIdentity, CONNECTING)
    assert not issubclass(DeviceError, CONNECTING)


def test_a_checkpoint_that_no_message_carries_fails_the_task_and_says_why() -> None:
    kept: list[bytes] = []
    head = Head(HeadContext("tip-1", "stm", on_checkpoint=kept.append))
    longest = "°" * (1 << 19)
    head.checkpoint(longest)
    assert kept == [longest.encode()]
    with pytest.raises(ValueError, match=r"^stm/tip-1: a checkpoint of 1048577 bytes; at most 1048576 .* to a file"):
        head.checkpoint(longest + "!")
    assert len(kept) == 1
