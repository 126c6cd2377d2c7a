"""Two heads of commands that want the same instrument."""

from __future__ import annotations

import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.commandheads import LONG, TIP, Counted, at, probe_head, stopped_when

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead
from taskmaster.drivers.instruments.errors import Claimed, TimedOut, Unreachable
from taskmaster.drivers.simulated import Laboratory


def test_a_head_has_its_resource_until_it_is_closed(probe: Laboratory) -> None:
    with probe_head(probe[TIP]) as one, probe_head(probe[TIP]) as other:
        one.open()
        with pytest.raises(Claimed, match=f"in use by process {os.getpid()}, stm/tip-1"):
            other.open()
        probe.control.unplug(TIP)
        with pytest.raises(Unreachable):
            one.open()
        with pytest.raises(Claimed):
            other.open()
        probe.control.replug(TIP)
        one.close()
        other.open()


def test_heads_of_one_instrument_take_turns(probe: Laboratory) -> None:
    """What one has set is what it reads, though the other sets the same thing in between."""
    outputs = Schema([Field(name="place", shape=(2,))], "stm", "output")
    commands = {"read": {"place": "POS?"}}
    counted = Counted(probe)
    with probe_head(probe[TIP], commands=commands, outputs=outputs) as one:
        other = CommandHead(dataclasses.replace(one.context, name="tip-b", stopping=threading.Event()), link=one.link)
        one.open()

        def work(head: CommandHead, y: float) -> list[list[float]]:
            return [head.evaluate(at(x, y))["place"].tolist() for x in range(200)]

        with ThreadPoolExecutor() as pool:
            works = [pool.submit(work, head, y) for head, y in ((one, 1.0), (other, 2.0))]
            assert [done.result() for done in works] == [[[x, y] for x in range(200)] for y in (1.0, 2.0)]
        assert (counted.connections, counted["TIP:APPR"]) == (1, 2), "one connection, and each has opened its part"

        probe.control.fault("silence", TIP, match="POS?", count=1)
        with pytest.raises(TimedOut, match=r"^stm/tip-1: "):
            one.evaluate(at(10))
        assert other.evaluate(at(20))["place"].tolist() == [20, 50]
        other.close()
        assert one.evaluate(at(30))["place"].tolist() == [30, 50]
    assert (counted.connections, counted["TIP:APPR"]) == (2, 4)


def test_a_poll_does_not_miss_an_instrument_because_another_head_was_stopped_in_mid_question(probe: Laboratory) -> None:
    temperature = {"query": "TEMP?"}
    with probe_head(probe[TIP]) as one:
        other = CommandHead(dataclasses.replace(one.context, name="tip-b", stopping=threading.Event()), link=one.link)
        other.open()
        probe.control.fault("latency", TIP, match="MEAS", seconds=LONG, count=1)
        stopped_when(one, Counted(probe), "MEAS:CURR?")
        assert other.look(temperature) > 0
        one.safe()
        probe.control.unplug(TIP)
        with pytest.raises(Unreachable):
            other.look(temperature)
