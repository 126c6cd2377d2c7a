"""Any Python class as a head: what a configuration can say of it, and what it is told where it says something wrong."""

from __future__ import annotations

import errno
import re
from threading import Event
from typing import Any

import numpy as np
import pytest
from helpers.devices import Furnace, Gate, Growing, OwnHead, Probe, Refused, Wire

from taskmaster.bus.errors import ConfigError, InvalidOutput, InvalidTask, TaskMasterError
from taskmaster.bus.fields import Field, Schema
from taskmaster.drivers.generators import drive
from taskmaster.drivers.instruments.binding import arguments_of
from taskmaster.drivers.instruments.classes import ClassHead, make_head
from taskmaster.drivers.instruments.errors import (
    Garbled,
    InstrumentError,
    LinkError,
    PermissionDenied,
    Stopped,
    TimedOut,
    Unreachable,
    WrongIdentity,
)
from taskmaster.drivers.instruments.failures import meaning
from taskmaster.drivers.instruments.head import HeadContext


def schema(*names: str) -> Schema:
    return Schema([Field(name, "any") for name in names], "stm")


def head(parameters: str = "", outputs: str = "", /, acted: list[str] | None = None, **options: Any) -> ClassHead:
    """A head of one of the classes in helpers.devices, not yet open."""
    options["class"] = f"helpers.devices:{options.pop('kind', 'Probe')}"
    acted = [] if acted is None else acted
    context = HeadContext(
        "tip-1",
        "stm",
        options,
        schema(*parameters.split()),
        schema(*outputs.split()),
        on_acting=lambda: acted.append("!"),
    )
    made = make_head(context)
    assert isinstance(made, ClassHead)
    return made


@pytest.fixture
def sent() -> list[str]:
    return []


def wired(sent: list[str], **options: Any) -> dict[str, Any]:
    """The option that gives a Probe a wire which keeps what is sent in ``sent``."""
    return {"kwargs": {"wire": Wire(sent)}, **options}


# -- what a configuration can say -------------------------------------------------------------------------------------


def test_a_task_sets_calls_and_reads_in_the_order_of_the_file(sent: list[str]) -> None:
    acted: list[str] = []
    tip = head(
        "bias gain x y",
        "current line",
        acted,
        **wired(sent),
        init=["trigger", {"filter": 3, "ch1.voltage": 0.5}, {"method": "move", "args": [0, 0]}],
        set={"bias": "ch1.voltage", "gain": {"method": "ramp", "kwargs": {"steps": 4}}},
        call=[{"method": "move", "args": [{"parameter": "x"}], "kwargs": {"y": {"parameter": "y"}}}, "trigger"],
        read={"line": {"method": "trace", "args": [3]}, "current": "current"},
        safe=[{"ch1.voltage": 0}, "withdraw"],
    )
    tip.open()
    assert sent == ["trigger", "voltage1 0.5", "move 0 0 at 1.0"]  # the names were found without asking anything
    assert not acted
    sent.clear()

    output = tip.evaluate({"bias": 2.0, "gain": 7.0, "x": 1.0, "y": 3.0})
    assert sent == ["voltage1 2.0", "ramp 7.0 in 4", "move 1.0 3.0 at 1.0", "trigger", "trace 3", "current?"]
    assert acted == ["!"]
    assert output["current"] == 4e-9
    np.testing.assert_array_equal(output["line"], [0, 0.5, 1])

    sent.clear()
    assert set(tip.read()) == {"line", "current"}
    assert sent == ["trace 3", "current?"]
    sent.clear()
    tip.safe()
    tip.safe()
    assert sent == ["voltage1 0", "withdraw"] * 2
    tip.close()
    tip.close()


def test_arguments_of_the_class_may_be_objects_that_the_file_describes() -> None:
    tip = head(
        outputs="x",
        resource="virtual",
        kwargs={"wire": {"class": "helpers.devices:Wire", "kwargs": {"baud": 115200}}},
        init=[{"filter": {"object": "helpers.devices:Gate.SHUT"}}],
        read={"x": "x"},
    )
    tip.open()
    probe = tip.instrument
    assert (probe.resource, probe.wire.baud, probe.filter) == ("virtual", 115200, Gate.SHUT)
    tip.close()
    assert probe.closed


def test_places_in_arguments_are_filled_in() -> None:
    options = {"resource": "GPIB::1", "args": ["{resource}", "{{resource}}", "{port}"], "kwargs": {"at": ["{name}"]}}
    assert arguments_of(options, "tip") == (("GPIB::1", "{resource}", "{port}"), {"at": ["tip"]})


def test_a_class_that_evaluates_needs_no_tables() -> None:
    Furnace.alive.clear()
    acted: list[str] = []
    furnace = head("setpoint", "temperature", acted, kind="Furnace", identity="ACME,FURNACE,.*")
    furnace.open()
    assert furnace.identify() == "ACME,FURNACE,1"
    assert drive(furnace.evaluate({"setpoint": 100.0}), print, furnace.stopping) == 90.0
    assert acted == ["!"]
    furnace.safe()
    furnace.close()
    assert Furnace.alive == ["open", "evaluate", "safe", "close"]


def test_a_head_of_ones_own_is_used_as_it_is() -> None:
    options = {"class": "helpers.devices:OwnHead", "args": [2.0], "kwargs": {"offset": 1.0}}
    own = make_head(HeadContext("tip-1", "stm", options))
    assert isinstance(own, OwnHead)
    assert own.evaluate({"bias": 3.0}) == 7.0
    assert own.acting
    with pytest.raises(ConfigError, match=r"OwnHead cannot be made so: missing a required argument: 'gain'"):
        make_head(HeadContext("tip-1", "stm", {"class": "helpers.devices:OwnHead"}))


def test_another_instrument_than_the_declared_one_is_not_initialised(sent: list[str]) -> None:
    Furnace.alive.clear()
    furnace = head(kind="Furnace", identity="ACME,FURNACE", init=["safe"])
    with pytest.raises(WrongIdentity, match=r"stm/tip-1: .* is 'ACME,FURNACE,1', not 'ACME,FURNACE'"):
        furnace.open()
    assert "safe" not in Furnace.alive
    tip = head(outputs="x", read={"x": "x"}, identity=".+")
    with pytest.raises(WrongIdentity, match="does not say what it is"):
        tip.open()


# -- what it is told that says something wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"read": {"x": "curent"}}, r"helpers\.devices\.Probe has no attribute 'curent'; did you mean 'current'\?"),
        ({"read": {"x": "ch1.volts"}}, r"helpers\.devices\.Channel has no attribute 'volts'; did you mean 'voltage'\?"),
        ({"read": {"x": "ch2.voltage"}}, r"Probe has no attribute 'ch2'; did you mean 'ch1'\?"),
        ({"read": {"x": "trace"}}, r"Probe\.trace cannot be called so: missing a required argument: 'points'"),
        ({"read": {"x": {"method": "trace", "args": [1, 2]}}}, r"Probe\.trace cannot be called so: too many"),
        ({"init": [{"current": 1}]}, r"Probe\.current cannot be set: it is a property without a setter"),
        ({"init": ["current"]}, r"Probe\.current is not a method; a value is set with a table"),
        ({"safe": ["withdrawn"]}, r"Probe has no attribute 'withdrawn'; did you mean 'withdraw'\?"),
        ({"kwargs": {"cable": 1}}, r"Probe cannot be made so: got an unexpected keyword argument 'cable'"),
        ({"backend": "@py"}, r"neither a PyMeasure nor a QCoDeS instrument"),
    ],
)
def test_what_the_class_does_not_have_is_named_before_anything_is_sent(
    options: dict[str, Any], says: str, sent: list[str]
) -> None:
    tip = head(outputs="x", **{"read": {"x": "x"}, **wired(sent), **options})
    with pytest.raises(ConfigError, match=says):
        tip.open()
    assert not sent


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"set": {"bais": "x"}}, r"set\.bais: the Master has no parameter 'bais'; did you mean 'bias'\?"),
        ({"set": {}}, r"set: nothing takes the parameter 'bias'"),
        ({"read": {}}, r"read: nothing gives the output 'current'"),
        ({"read": {"x": "x", "current": "x"}}, r"read\.x: the Master has no output 'x'"),
        ({"set": {"bias": "x; rm"}}, r"set\.bias: 'x; rm' is not the name of an attribute"),
        ({"set": {"bias": {"args": [1]}}}, r"set\.bias: expected a name or a table"),
        ({"set": {"bias": {"method": "ramp", "arg": [1]}}}, r"set\.bias: unknown key 'arg'; did you mean 'args'\?"),
        ({"set": {"bias": {"method": "move", "args": [{"parameter": "bias"}]}}}, r"stands in `call`"),
        ({"call": "trigger"}, r"call: expected a list, got 'trigger'"),
        ({"call": [{"method": "move", "args": [{"parameter": "z"}]}]}, r"call\[0\]: the Master has no parameter 'z'"),
        ({"init": [3]}, r"init\[0\]: expected the name of a method or a table \{name = value\}, got 3"),
        (
            {"safe": [{"method": "ramp", "args": [{"parameter": "bias"}]}]},
            r"safe\[0\]: .* there is none at this moment",
        ),
        ({"read": ["current"]}, r"read: expected a table"),
        ({"identity": "("}, r"identity: '\(' is no regular expression"),
        ({"kind": "Prob"}, r"has no 'Prob'; did you mean 'Probe'\?"),
        ({"kind": "schema"}, r"has no 'schema'"),
        ({"lost": ["helpers.devices:Wire"]}, r"not a class of BaseException"),
    ],
)
def test_tables_that_do_not_fit_are_refused_without_the_instrument(options: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"set": {"bias": "ch1.voltage"}, "read": {"current": "current"}}
    head("bias", "current", **good)
    with pytest.raises(ConfigError, match=says):
        head("bias", "current", **{**good, **options})


def test_classes_that_are_none() -> None:
    with pytest.raises(ConfigError, match=r"helpers\.devices\.Cold has no method evaluate\(x\)"):
        head(kind="Cold")
    with pytest.raises(ConfigError, match=r"no module 'helpers\.device' in"):
        make_head(HeadContext(options={"class": "helpers.device:Probe"}))
    with pytest.raises(ConfigError, match="not a class"):
        make_head(HeadContext(options={"class": "helpers.devices:__all__"}))


def test_what_cannot_travel_is_named() -> None:
    tip = head("", "gate", read={"gate": "gate"})
    tip.open()
    with pytest.raises(InvalidOutput, match=r"stm/tip-1: reading Probe\.gate: a value of type helpers\.devices\.Gate"):
        tip.evaluate({})
    tip = head("", "figure", read={"figure": "figure"})
    tip.open()
    with pytest.raises(InvalidOutput, match=r"type helpers\.devices\.Figure cannot travel"):
        tip.read()


def test_a_task_is_a_table() -> None:
    acted: list[str] = []
    tip = head("", "x", acted, read={"x": "x"})
    tip.open()
    with pytest.raises(InvalidTask, match="not 3"):
        tip.evaluate(3)
    assert not acted


# -- stops and generators ---------------------------------------------------------------------------------------------


def test_a_stopped_head_takes_no_further_step_but_can_be_made_safe(sent: list[str]) -> None:
    tip = head("", "x", **wired(sent), read={"x": "x"}, call=["trigger"], safe=["withdraw"])
    tip.open()
    tip.stopping.set()
    with pytest.raises(Stopped, match=r"stm/tip-1 was stopped before calling Probe\.trigger"):
        tip.evaluate({})
    tip.safe()
    tip.close()
    assert sent == ["withdraw"]
    tip.safe()  # connects for it
    assert sent == ["withdraw"] * 2
    with pytest.raises(Stopped):
        tip.open()


def test_yields_are_progress_and_the_return_value_is_the_output() -> None:
    plant = head("water", "height", kind="Growing")
    plant.open()
    seen: list[Any] = []
    assert drive(plant.evaluate({"water": 2.0}), seen.append, plant.stopping) == 6.0
    assert seen == [{"height": 0.0}, {"height": 2.0}, {"height": 4.0}]


def test_a_stop_between_two_yields_closes_the_generator() -> None:
    growing, stopping = Growing(), Event()
    seen: list[Any] = []

    def note(value: Any) -> None:
        seen.append(value)
        if len(seen) == 2:
            stopping.set()

    with pytest.raises(Stopped):
        drive(growing.evaluate({"water": 1.0}), note, stopping)
    assert len(seen) == 2
    assert growing.tended == ["watered off"]


def test_a_generator_is_closed_where_its_progress_cannot_be_told() -> None:
    growing = Growing()

    def nobody_listens(value: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(growing.evaluate({"water": 1.0}), nobody_listens, Event())
    assert growing.tended == ["watered off"]


def test_a_connection_lost_amid_a_generator_is_a_lost_connection() -> None:
    plant = head("water", "height", kind="Growing")
    plant.open()
    steps = plant.evaluate({"water": 1.0})
    next(steps)
    with pytest.raises(Unreachable, match="stm/tip-1: evaluate: ConnectionResetError"):
        steps.throw(ConnectionResetError("gone"))


def test_an_async_evaluation_is_refused() -> None:
    dry = head("", "x", kind="Dry")
    dry.open()
    with pytest.raises(InvalidOutput, match="async"):
        drive(dry.evaluate({}), print, Event())


# -- what exceptions mean ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["make", "init", "set", "call", "read", "safe", "close"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ValueError("out of range"), ValueError),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Unreachable),
        (TimeoutError("no answer"), TimedOut),
    ],
    ids=["fails", "lost", "silent"],
)
def test_a_class_that_raises_in_every_method(where: str, error: Exception, raised: type[Exception]) -> None:
    moody = head(
        "level", "level", kind="Moody", args=[where, error],
        init=["ready"], set={"level": "level"}, call=["fire"], read={"level": "level"}, safe=["rest"],
    )  # fmt: skip

    def life() -> None:
        moody.open()
        moody.evaluate({"level": 1.0})
        moody.safe()
        moody.close()

    with pytest.raises(raised) as caught:
        life()
    if issubclass(raised, InstrumentError):
        assert caught.value.__cause__ is error
        assert str(caught.value).startswith("stm/tip-1: ")
    else:
        assert caught.value is error


def test_every_step_to_the_safe_state_is_taken_also_where_one_before_fails(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(probe: Probe) -> None:
        raise ValueError("not now")

    monkeypatch.setattr(Probe, "trigger", refuse)
    probe = head("", "current", **wired(sent, read={"current": "current"}, safe=["trigger", "withdraw"]))
    probe.open()
    with pytest.raises(ValueError, match="not now"):
        probe.safe()
    assert sent == ["withdraw"]


def test_after_the_safe_steps_it_is_asked_who_it_is_where_that_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    Furnace.alive.clear()
    furnace = head(kind="Furnace", identity="ACME,.*")
    furnace.open()

    def silent(furnace: Furnace) -> str:
        assert Furnace.alive[-1] == "safe"
        raise TimeoutError("no answer")

    monkeypatch.setattr(Furnace, "identify", silent)
    with pytest.raises(TimedOut):
        furnace.safe()


def test_after_a_lost_connection_the_object_is_made_anew() -> None:
    moody = head("", "level", kind="Moody", args=["read", BrokenPipeError()], read={"level": "level"}, safe=["rest"])
    moody.open()
    first = moody.instrument
    with pytest.raises(Unreachable):
        moody.evaluate({})
    moody.safe()
    assert moody.instrument is not first
    moody.close()


def test_a_library_may_have_its_own_way_of_saying_lost() -> None:
    options: dict[str, Any] = {"kind": "Moody", "args": ["read", Refused("bye")], "read": {"level": "level"}}
    moody = head("", "level", **options)
    moody.open()
    with pytest.raises(Refused):
        moody.evaluate({})
    moody = head("", "level", **options, lost=["helpers.devices:Refused"])
    moody.open()
    with pytest.raises(Unreachable, match=r"stm/tip-1: reading Moody\.level: Refused: bye"):
        moody.evaluate({})


def chained(error: Exception, cause: Exception, *, hidden: bool = False) -> Exception:
    """What `error` is like when it was raised while `cause` was handled."""
    error.__context__ = cause
    error.__suppress_context__ = hidden
    return error


USB = type("USBTimeoutError", (OSError,), {})


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (ValueError("3 V is too much"), None),
        (ZeroDivisionError(), None),
        (OSError(errno.EIO, "input/output error"), Unreachable),
        (OSError("device disappeared"), Unreachable),
        (FileNotFoundError(errno.ENOENT, "no such file", "/dev/ttyUSB0"), Unreachable),
        (PermissionError(errno.EACCES, "permission denied", "/dev/ttyUSB0"), PermissionDenied),
        (FileNotFoundError(errno.ENOENT, "no such file", "calibration.csv"), None),
        (OSError(errno.ENOSPC, "no space left"), None),
        (EOFError(), Unreachable),
        (TimeoutError(), TimedOut),
        (USB(110, "timed out"), TimedOut),
        (UnicodeDecodeError("ascii", b"\xff", 0, 1, "bad"), Garbled),
        (Stopped("now"), Stopped),
        (Garbled("late"), Garbled),
        (TaskMasterError("else"), None),
        (chained(ValueError("no answer"), TimeoutError()), TimedOut),
        (chained(ValueError("no answer"), TimeoutError(), hidden=True), None),
        (KeyboardInterrupt(), None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_an_exception_says_of_the_connection(error: BaseException, means: type[LinkError] | None) -> None:
    assert meaning(error) is means


def test_what_visa_and_serial_say() -> None:
    pyvisa = pytest.importorskip("pyvisa")
    serial = pytest.importorskip("serial")
    code = pyvisa.constants.StatusCode
    said = pyvisa.errors.VisaIOError
    assert meaning(said(code.error_timeout)) is TimedOut
    assert meaning(said(code.error_connection_lost)) is Unreachable
    assert meaning(said(code.error_serial_framing)) is Garbled
    assert meaning(said(code.error_nonsupported_operation)) is None
    assert meaning(said(-1)) is Unreachable
    assert meaning(pyvisa.errors.InvalidSession()) is Unreachable
    assert meaning(serial.SerialException("device reports readiness but returned no data")) is Unreachable
    assert meaning(serial.SerialTimeoutException("write timeout")) is TimedOut


def test_a_port_that_this_user_may_not_open() -> None:
    serial = pytest.importorskip("serial")
    error = serial.SerialException(errno.EACCES, "could not open port /dev/null: Permission denied")
    moody = head("", "level", kind="Moody", args=["make", error], read={"level": "level"})
    with pytest.raises(
        PermissionDenied, match=r"stm/tip-1: making .*Moody: user .* may not open /dev/null .*udev rule"
    ):
        moody.open()


def test_every_message_names_the_head() -> None:
    moody = head("", "level", kind="Moody", args=["read", OSError(5, "gone")], read={"level": "level"})
    moody.open()
    with pytest.raises(Unreachable, match=re.escape("stm/tip-1: reading Moody.level: OSError: [Errno 5] gone")):
        moody.evaluate({})
