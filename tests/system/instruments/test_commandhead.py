"""Heads of commands at the simulated probe, with everything that goes wrong; the instrument counts what it was told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers.commandheads import WAYS, probe_head
from helpers.waiting import eventually

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments import CommandHead
from taskmaster.drivers.instruments.errors import (
    Claimed,
    DeviceError,
    Garbled,
    LinkError,
    Stopped,
    TimedOut,
    Unreachable,
    WrongIdentity,
)
from taskmaster.drivers.simulated import Laboratory
from taskmaster.drivers.simulated.faults import FaultKind

TIP = "tip-1"
#: Seconds within which a stop must have taken effect, on a machine that does much else; benchmarks tell how fast it is.
AT_ONCE = 0.5


@pytest.fixture(scope="module")
def shared_probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0, noise=0, drift=0, pty=tmp_path_factory.mktemp("tty")) as laboratory:
        yield laboratory


@pytest.fixture
def probe(shared_probe: Laboratory) -> Iterator[Laboratory]:
    """A probe with nothing wrong, shared by the tests of this module."""
    yield shared_probe
    shared_probe.control.clear()
    shared_probe.control.power_cycle()


class Counted:
    """What a head has been told since now."""

    def __init__(self, probe: Laboratory, head: str = TIP) -> None:
        self._control, self._head = probe.control, head
        self._before = self._control.actions(head)
        self._connected = self._control.statistics(head)["connected"]

    def __getitem__(self, command: str) -> int:
        return self._control.actions(self._head).counts.get(command, 0) - self._before.counts.get(command, 0)

    def sets(self, command: str) -> list[tuple[float, ...]]:
        """The arguments of a command, each time."""
        actions = self._control.actions(self._head, len(self._before.actions) + self._before.forgotten).actions
        return [action.arguments for action in actions if action.command == command]

    @property
    def connections(self) -> int:
        return self._control.statistics(self._head)["connected"] - self._connected


def at(x: float, y: float = 50.0, bias: float = 0.5) -> dict[str, float]:
    return {"x": x, "y": y, "bias": bias}


def truth(probe: Laboratory, head: CommandHead, x: float) -> bool:
    """Evaluated anew, a point has the current that flows there."""
    head.begin_task()
    return bool(np.isclose(head.evaluate(at(x))["current"], probe.control.truth(TIP)["current"], rtol=1e-3))


@pytest.mark.parametrize("way", WAYS)
def test_set_wait_read(probe: Laboratory, way: str) -> None:
    """Each point is set once and measured once, and what was measured belongs to it."""
    counted = Counted(probe)
    with probe_head(probe[TIP], way) as head:
        head.open()
        assert head.identify() == probe[TIP].identity
        assert all(truth(probe, head, x) for x in range(100, 150))
    assert counted.sets("POS") == [(float(x), 50.0) for x in range(100, 150)]
    assert counted.sets("BIAS") == [(0.5,)] * 50
    assert (counted["MEAS:CURR?"], counted["TIP:APPR"]) == (50, 1)


@pytest.mark.parametrize("way", WAYS)
def test_numbers_waveforms_and_images(probe: Laboratory, way: str) -> None:
    read = {
        "current": "MEAS:CURR?",
        "wave": {"query": "MEAS:WAV? {n:d}", "shape": ("n",)},
        "image": {"query": "MEAS:IMAG? 96,64", "parse": "block", "dtype": "<f4"},
        "tip": {"query": "TIP?", "pattern": "^APPR"},
    }
    outputs = Schema(
        [
            Field(name="current"),
            Field(name="wave", shape=(-1,)),
            Field(name="image", shape=(64, 96)),
            Field(name="tip", kind="str"),
        ],
        "stm",
        "output",
    )
    with probe_head(probe[TIP], way, commands={"read": read}, outputs=outputs) as head:
        head.open()
        output = head.evaluate({**at(100), "n": 1000})
        assert output["current"] > 1e-12
        assert output["wave"].shape == (1000,)
        assert output["image"].shape == (64, 96)
        assert np.isclose(output["wave"].mean(), output["current"], rtol=1e-2)
        assert output["image"].mean() > 1e-12
        assert output["tip"] == "APPR"


# -- answers that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["socket", "tty"])
@pytest.mark.parametrize(
    ("kind", "options", "error", "says"),
    [
        ("silence", {}, TimedOut, "received nothing"),
        ("half", {}, TimedOut, "received '"),
        ("garbage", {}, Garbled, "received "),
        ("units", {"text": " nA"}, Garbled, "a number alone is expected"),
        ("late", {"seconds": 0.4}, TimedOut, "received nothing"),
        ("unplug", {"seconds": 0.05, "at": "after"}, Unreachable, "the connection is lost"),
        ("unplug", {"seconds": 0.05, "at": "within"}, Unreachable, "the connection is lost"),
        ("power", {"seconds": 0.05, "at": "before", "reset": True}, Unreachable, "the connection is lost"),
    ],
)
def test_a_bad_answer_is_told_and_the_next_task_gets_its_own(
    probe: Laboratory, way: str, kind: FaultKind, options: dict[str, Any], error: type[LinkError], says: str
) -> None:
    """After it the task is in doubt, nothing was sent twice, and the head comes back by itself."""
    counted = Counted(probe)
    with probe_head(probe[TIP], way) as head:
        head.open()
        assert truth(probe, head, 100)
        probe.control.fault(kind, TIP, match="MEAS:CURR?", count=1, **options)
        head.begin_task()
        with pytest.raises(error, match=says) as caught:
            head.evaluate(at(101))
        assert str(caught.value).startswith("stm/tip-1: ")
        assert head.acting, "it was set already"

        eventually(lambda: probe.control.statistics(TIP)["plugged"], "the head is plugged in again")
        assert truth(probe, head, 102)
        assert truth(probe, head, 103)
    assert counted.sets("POS") == [(100.0, 50.0), (101.0, 50.0), (102.0, 50.0), (103.0, 50.0)]


@pytest.mark.parametrize("way", ["socket", "tty"])
def test_too_much_is_never_taken_for_the_next_answer(probe: Laboratory, way: str) -> None:
    """An answer that comes twice is noticed with the first or before the next question."""
    with probe_head(probe[TIP], way, commands={"errors": None, "wait": None}, query_timeout=0.1) as head:
        head.open()
        for x in range(100, 110):
            probe.control.fault("excess", TIP, match="MEAS:CURR?", count=1)
            head.begin_task()
            with contextlib.suppress(Garbled):  # noticed with the answer itself, or before anything else is asked
                head.evaluate(at(x))
            assert truth(probe, head, x + 100.0)


def test_a_query_fails_before_anything_acts(probe: Laboratory) -> None:
    """Until the first byte of `set` the task has not begun, whatever happens."""
    with probe_head(probe[TIP], on_acting=lambda: pytest.fail("it acted")) as head:
        head.open()
        probe.control.unplug(TIP)
        with pytest.raises(Unreachable, match="is the instrument on, and the address right"):
            head.evaluate(at(100))
        assert not head.acting
        with pytest.raises(InvalidTask, match="parameter 'x'"):
            head.evaluate({"x": "1;TIP:WITHDRAW", "y": 1.0, "bias": 1.0})
    read = {"current": {"query": "MEAS:WAV? {n:d}", "parse": "list"}}
    with (
        probe_head(probe[TIP], commands={"read": read}, on_acting=lambda: pytest.fail("it acted")) as head,
        pytest.raises(InvalidTask, match="parameter 'n' has no value"),
    ):
        head.evaluate(at(100))


def test_acting_is_marked_before_the_first_byte_and_once_a_task(probe: Laboratory) -> None:
    counted = Counted(probe)
    told: list[int] = []
    with probe_head(probe[TIP], on_acting=lambda: told.append(counted["BIAS"])) as head:
        head.open()
        for x in (100, 101):
            head.begin_task()
            head.evaluate(at(x))
        assert told == [0, 1]


# -- unplugged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_unplugged_in_mid_write(probe: Laboratory, way: str) -> None:
    """Cut off between the two commands of `set`: in doubt, and the second command never arrives."""
    counted = Counted(probe)
    with probe_head(probe[TIP], way) as head:
        head.open()
        probe.control.fault("unplug", TIP, match="BIAS", at="after", count=1)
        with pytest.raises(LinkError):
            head.evaluate(at(100))
        assert head.acting
        head.begin_task()
        with pytest.raises(Unreachable):
            head.open()
        probe.control.replug(TIP)
        head.open()
        assert truth(probe, head, 101)
    assert (counted["BIAS"], counted["POS"]) == (2, 1)


def test_a_serial_line_is_unplugged_a_hundred_times(probe: Laboratory) -> None:
    """Between tasks and in the middle of them; each time it is there again, and nothing is done twice."""
    counted = Counted(probe)
    doubtful = 0
    with probe_head(probe[TIP], "tty", query_timeout=0.08) as head:
        head.open()
        for cycle in range(100):
            if cycle % 2:
                probe.control.fault("unplug", TIP, match="MEAS", at="before", seconds=0.001, count=1)
            else:
                probe.control.power_cycle(TIP)
            head.begin_task()
            while not head.acting:
                try:
                    head.evaluate(at(100 + cycle))
                except LinkError:
                    doubtful += head.acting
            eventually(lambda: probe.control.statistics(TIP)["plugged"], "the head is plugged in again")
    assert doubtful >= 50
    assert counted.sets("POS") == [(100.0 + cycle, 50.0) for cycle in range(100)]


@pytest.mark.parametrize("way", ["socket", "tty"])
def test_a_power_cycle_between_tasks_is_made_good(probe: Laboratory, way: str) -> None:
    """The `open` commands are sent again before anything else: the tip is at the surface."""
    counted = Counted(probe)
    with probe_head(probe[TIP], way) as head:
        head.open()
        assert truth(probe, head, 100)
        probe.control.power_cycle(TIP)
        assert truth(probe, head, 101)
        assert probe.control.truth(TIP)["current"] > 1e-12
    assert counted["TIP:APPR"] == 2


@pytest.mark.parametrize("way", ["socket", "tty"])
def test_another_instrument_after_a_replug_is_refused(probe: Laboratory, way: str) -> None:
    with probe_head(probe[TIP], way) as head:
        head.open()
        probe.control.fault("identity", TIP, text="ACME,STM-HEAD,0009,1.0")
        probe.control.power_cycle(TIP)
        counted = Counted(probe)
        for attempt in (head.open, lambda: head.evaluate(at(100)), head.safe):
            with pytest.raises(WrongIdentity, match=r"is 'ACME,STM-HEAD,0009,1.0', but .* 'ACME,STM-HEAD,0001,\.\*'"):
                attempt()
        assert not head.acting
        assert not counted["BIAS"] + counted["POS"] + counted["TIP:APPR"] + counted["TIP:WITH"]
        probe.control.clear()
        assert truth(probe, head, 100)


@pytest.mark.parametrize("way", ["visa-tty", "tty"])
def test_what_a_line_still_says_after_it_was_opened_anew(probe: Laboratory, way: str) -> None:
    """A tty keeps a late answer over a new connection: it belongs to nobody, though it comes while another is due."""
    with probe_head(probe[TIP], way, identity=None, query_timeout=0.2) as head:
        head.open()
        for delay in (0.25, 0.3, 0.39):
            probe.control.fault("late", TIP, match="MEAS:CURR?", count=1, seconds=delay)
            with pytest.raises(TimedOut):
                head.evaluate(at(100))
            assert head.ask(head.commands.query({"query": "TEMP?"})) > 10, "the temperature, no current"


# -- what the instrument refuses ---------------------------------------------------------------------------------------


def test_errors_of_the_instrument_fail_the_task_and_leave_the_connection(probe: Laboratory) -> None:
    counted = Counted(probe)
    with probe_head(probe[TIP]) as head:
        head.open()
        with pytest.raises(DeviceError, match=r"after set of .*900.* the instrument says -222,\"Data out of range\"$"):
            head.evaluate(at(900))
        assert truth(probe, head, 100)
    assert counted["MEAS:CURR?"] == 1, "what was not set was not measured"
    assert counted.connections == 1


def test_a_wrong_idea_of_no_error_is_told_from_errors(probe: Laboratory) -> None:
    """The queue is not asked on and on, and what is shown is shown once."""
    wrong = {"query": "SYST:ERR?", "ok": "OK"}
    counted = Counted(probe)
    with probe_head(probe[TIP], commands={"errors": wrong}) as head:
        expected = (
            r"""the instrument says 0,"No error"; `errors\.ok` = 'OK' does not match '0,"No error"'; correct it if"""
        )
        with pytest.raises(DeviceError, match=f"after open {expected}"):
            head.open()
    assert counted["SYST:ERR?"] == 2
    with (
        probe_head(probe[TIP], commands={"open": (), "errors": {"query": "*IDN?", "ok": "OK"}}) as head,
        pytest.raises(DeviceError, match=r"the instrument says ACME.*0 \(64 times\)$"),
    ):
        head.evaluate(at(100))


def test_waiting_for_what_never_comes(probe: Laboratory) -> None:
    wait = {"query": "TIP?", "until": "WITHDRAWN", "timeout": 0.2, "every": 0.02}
    with probe_head(probe[TIP], commands={"wait": wait}) as head:
        head.open()
        with pytest.raises(DeviceError, match=r"after 0.2 s 'TIP\?' is still answered with 'APPROACHED'"):
            head.evaluate(at(100))
        assert head.read()["current"] > 0


def test_reading_sets_nothing(probe: Laboratory) -> None:
    counted = Counted(probe)
    with probe_head(probe[TIP], on_acting=lambda: pytest.fail("it acted")) as head:
        head.connect()
        assert head.read().keys() == {"current"}
    assert not counted["*CLS"] + counted["TIP:APPR"] + counted["BIAS"]


# -- ramps -------------------------------------------------------------------------------------------------------------


def test_a_ramp_begins_where_the_instrument_is_and_goes_on_from_where_it_was_set(probe: Laboratory) -> None:
    counted = Counted(probe)
    ramps = {"bias": {"step": 0.25, "every": 0.02, "query": "BIAS?"}}
    with probe_head(probe[TIP], commands={"ramps": ramps, "open": ("BIAS -0.3",)}) as head:
        head.open()
        begun = time.monotonic()
        head.evaluate(at(100, bias=0.5))
        assert time.monotonic() - begun >= 3 * 0.02
        head.evaluate(at(101, bias=0.1))
    assert counted["BIAS?"] == 1
    assert [round(bias, 3) for (bias,) in counted.sets("BIAS")] == [-0.3, -0.1, 0.1, 0.3, 0.5, 0.3, 0.1]
    assert counted["POS"] == 2


def test_where_a_ramp_begins_after_a_reconnection_is_asked_again(probe: Laboratory) -> None:
    ramps = {"bias": {"step": 1.0, "every": 0.001, "query": "BIAS?"}}
    with probe_head(probe[TIP], commands={"ramps": ramps}) as head:
        head.open()
        head.evaluate(at(100, bias=5))
        probe.control.power_cycle(TIP)
        counted = Counted(probe)
        head.evaluate(at(100, bias=2))
        assert counted.sets("BIAS") == [(1.0,), (2.0,)]


# -- stopping and making safe ------------------------------------------------------------------------------------------


LONG = 20.0
NEVER = {"query": "TIP?", "until": "NEVER", "timeout": LONG}
IMAGE = {"query": "MEAS:IMAG? 64,64", "parse": "block", "dtype": "<f4", "shape": (-1,)}


def stopped_when(head: CommandHead, counted: Counted, command: str) -> float:
    """Evaluate, and stop when a command has arrived; returns when that was. Raises if it took too long."""
    stopped_at: list[float] = []

    def stop() -> None:
        eventually(lambda: counted[command], f"{command} has arrived")
        stopped_at.append(time.monotonic())
        head.stopping.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        head.evaluate(at(100))
    assert time.monotonic() - stopped_at[0] < AT_ONCE
    stopper.join()
    return stopped_at[0]


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


# -- two who want the same ---------------------------------------------------------------------------------------------


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
