"""Heads of commands that are stopped and made safe, and the instrument's own watchdog, which sees to that, too."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.commandheads import AT_ONCE, LONG, TIP, WAYS, Counted, at, probe_head, stopped_when, truth
from helpers.waiting import eventually

from taskmaster.drivers.instruments import CommandHead
from taskmaster.drivers.instruments.errors import DeviceError, Stopped, TimedOut, Unreachable
from taskmaster.drivers.simulated import Laboratory

NEVER = {"query": "TIP?", "until": "NEVER", "timeout": LONG}
IMAGE = {"query": "MEAS:IMAG? 64,64", "parse": "block", "dtype": "<f4", "shape": (-1,)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("commands", "reached"),
    [
        ({}, "MEAS:CURR?"),
        ({"read": {"current": IMAGE}}, "MEAS:IMAG?"),
        ({"wait": NEVER}, "TIP?"),
        ({"ramps": {"bias": {"step": 0.1, "every": LONG, "query": "BIAS?"}}}, "BIAS"),
    ],
    ids=["read", "half an image", "wait", "ramp"],
)
def test_a_stop_takes_effect_at_once_and_the_head_is_safe_at_once(
    probe: Laboratory, way: str, commands: dict[str, Any], reached: str
) -> None:
    with probe_head(probe[TIP], way, commands=commands, query_timeout=LONG) as head:
        head.open()
        probe.control.fault("half" if reached == "MEAS:IMAG?" else "silence", TIP, match="MEAS", count=1)
        stopped_at = stopped_when(head, Counted(probe), reached)
        head.safe()
        safe_at = probe.control.first_safe(TIP, stopped_at)
        assert safe_at is not None
        assert safe_at - stopped_at < AT_ONCE
        assert probe.control.truth(TIP)["current"] == 0, "both commands have arrived when safe() has returned"

        with pytest.raises(Stopped):
            head.evaluate(at(100))
        head.stopping.clear()
        head.begin_task()


def test_a_head_that_is_busy_with_a_question_is_made_safe_over_another_connection(probe: Laboratory) -> None:
    with probe_head(probe[TIP], query_timeout=LONG) as head:
        head.open()
        probe.control.fault("latency", TIP, match="MEAS", seconds=LONG, count=1)
        stopped_at = stopped_when(head, Counted(probe), "MEAS:CURR?")
        head.safe()
        safe_at = probe.control.first_safe(TIP, stopped_at)
        assert safe_at is not None
        assert safe_at - stopped_at < AT_ONCE
        head.stopping.clear()
        assert truth(probe, head, 101)


def test_safe_when_the_instrument_has_hung_up_meanwhile(probe: Laboratory) -> None:
    """The first bytes on a dead connection seem to be sent: they are sent again over a new one."""
    with probe_head(probe[TIP]) as head:
        head.open()
        head.evaluate(at(100))
        probe.control.fault("unplug", TIP, match="BIAS 0", at="before", seconds=0.01, count=1)
        eventually(lambda: made_safe(head), "it is safe")
        assert probe.control.truth(TIP)["approached"] == 0
        probe.control.unplug(TIP)
        with pytest.raises(Unreachable):
            head.safe()


def test_what_was_made_safe_is_initialised_again_before_it_acts(probe: Laboratory) -> None:
    counted = Counted(probe)
    with probe_head(probe[TIP]) as head:
        head.open()
        head.safe()
        assert truth(probe, head, 100)
        assert probe.control.truth(TIP)["approached"] == 1
    assert counted.connections == 1


@pytest.mark.parametrize("connected", [True, False], ids=["over the connection", "over a new one"])
def test_what_the_instrument_refuses_is_not_called_safe_and_the_rest_is_sent(
    probe: Laboratory, connected: bool
) -> None:
    counted = Counted(probe)
    with probe_head(probe[TIP], commands={"safe": ("BIAS 99", "TIP:WITHDRAW")}) as head:
        if connected:
            head.open()
        with pytest.raises(DeviceError, match="after safe the instrument says -222"):
            head.safe()
        assert probe.control.truth(TIP)["approached"] == 0
    assert counted["TIP:WITH"] == 2, "told once more, to know which of its errors came of this"


def test_errors_from_before_do_not_make_it_unsafe_nor_come_before_the_safe_commands(probe: Laboratory) -> None:
    with probe_head(probe[TIP]) as head:
        head.open()
        head.link.tell(b"NONSENSE\n", acts=False)
        head.safe()
        assert [one.command for one in probe.control.actions(TIP).actions[-2:]] == ["BIAS", "TIP:WITH"]
        assert truth(probe, head, 100), "its errors are not those of the next task"


@pytest.mark.parametrize(
    ("commands", "options", "asked"),
    [
        ({"wait": {"query": "*OPC?"}}, {}, "*OPC?"),
        ({"wait": None}, {"interlocks": {"hot": {"query": "TEMP?", "max": 99}}}, "TEMP?"),
        ({"wait": None}, {}, "MEAS:CURR?"),
    ],
    ids=["wait", "interlock", "read"],
)
def test_one_that_does_not_say_who_it_is_is_asked_something_else(
    probe: Laboratory, commands: dict[str, Any], options: dict[str, Any], asked: str
) -> None:
    silent = {"identify": "", "identity": None, **options}
    with probe_head(probe[TIP], commands={"errors": None, **commands}, **silent) as head:
        head.open()
        assert head.commands.shows_safe
        probe.control.fault("silence", TIP, match=asked, count=1)
        head.safe()  # unanswered once, so it was told again over a new connection
        probe.control.fault("silence", TIP, match=asked)
        with pytest.raises(TimedOut):
            head.safe()


def made_safe(head: CommandHead) -> bool:
    try:
        head.safe()
    except Unreachable:
        return False
    return True


# -- the instrument's own watchdog ------------------------------------------------------------------------------------


def test_an_instruments_own_watchdog_is_armed_fed_and_switched_off_once_it_is_safe(probe: Laboratory) -> None:
    watchdog = {"arm": ("WDOG 60",), "keep": "WDOG?", "disarm": ("WDOG 0",)}
    counted = Counted(probe)
    with probe_head(probe[TIP], commands={"watchdog": watchdog}) as head:
        head.open()
        head.feed_watchdog()
        assert (counted.sets("WDOG"), counted["WDOG?"]) == ([(60.0,)], 1)
        head.close()
        head.open()
        assert counted.sets("WDOG") == [(60.0,)] * 2, "who just closes the connection leaves it armed"
        head.safe()
    eventually(lambda: len(counted.sets("WDOG")) == 3, "it to be switched off")
    *_, withdrawn, disarmed = probe.control.actions(TIP).actions
    assert (withdrawn.command, disarmed.command, disarmed.arguments) == ("TIP:WITH", "WDOG", (0.0,))


def test_a_watchdog_that_any_command_keeps_quiet_is_fed_when_nothing_was_said(probe: Laboratory) -> None:
    watchdog = {"arm": ("WDOG 60",), "keep": "WDOG?", "every": 0.2, "any_command": True}
    counted = Counted(probe)
    with probe_head(probe[TIP], commands={"watchdog": watchdog}) as head:
        head.open()
        head.feed_watchdog()
        assert counted["WDOG?"] == 0, "it has just been armed"

        def was_fed() -> bool:
            head.feed_watchdog()
            return counted["WDOG?"] == 1

        eventually(was_fed, "it to be fed after a silence")
