"""Heads of commands at the simulated probe: they set, wait, ramp and read; and the instrument refuses."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers.commandheads import TIP, WAYS, Counted, at, probe_head, truth

from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.instruments.errors import DeviceError
from taskmaster.drivers.simulated import Laboratory


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


def test_an_answer_has_its_time_where_that_of_the_waiting_ends(probe: Laboratory) -> None:
    """With no time between, the last question is asked just before the end."""
    wait = {"query": "TIP?", "until": "WITHDRAWN", "timeout": 0.0001, "every": 0}
    with probe_head(probe[TIP], commands={"wait": wait}) as head:
        head.open()
        for _ in range(20):
            with pytest.raises(DeviceError, match=r"after 0.0001 s 'TIP\?' is still answered with 'APPROACHED'"):
                head.evaluate(at(100))


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
