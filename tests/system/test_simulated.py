"""The simulated laboratory as a client meets it: processes, sockets, pseudo-terminals, and whatever goes wrong."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.instruments import Line
from helpers.waiting import PATIENCE, eventually

from taskmaster.bus.errors import CallerError, PeerError
from taskmaster.drivers.simulated import Laboratory


@pytest.fixture(scope="module")
def shared_probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=2, settling=0, pty=tmp_path_factory.mktemp("tty")) as laboratory:
        yield laboratory


@pytest.fixture
def probe(shared_probe: Laboratory) -> Iterator[Laboratory]:
    """A probe with nothing wrong, shared by the tests of this module."""
    yield shared_probe
    shared_probe.control.clear()
    shared_probe.control.power_cycle()


def refused(laboratory: Laboratory, head: str) -> bool:
    try:
        Line(laboratory[head]).close()
    except ConnectionRefusedError:
        return True
    return False


# -- the conversation -------------------------------------------------------------------------------------------------


def test_a_head_is_told_asked_and_remembers(probe: Laboratory) -> None:
    start = probe.control.actions("tip-1").counts
    with Line(probe["tip-1"]) as line:
        assert line.ask("*IDN?") == probe["tip-1"].identity == "ACME,STM-HEAD,0001,1.0"
        line.tell("TIP:APPR", "BIAS 0.5", "POS 120.5,80")
        assert line.ask("*OPC?") == "1"
        assert [abs(float(line.ask("MEAS:CURR?"))) > 1e-12 for _ in range(3)] == [True] * 3
        line.tell("POS 900,0")
        assert line.ask("SYST:ERR?") == '-222,"Data out of range"'

    record = probe.control.actions("tip-1")
    assert record.counts["MEAS:CURR?"] - start.get("MEAS:CURR?", 0) == 3
    assert record.measured("x", "y") == {(120.5, 80.0): 3}
    assert record.actions[-1].command == "POS"
    assert record.actions[-1].error == -222
    assert probe.control.actions("tip-2").actions == ()


def test_an_image_arrives_as_a_block(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        line.tell("TIP:APPR;BIAS 1;POS 250,250;FRAM 100", "*OPC?", "MEAS:IMAG? 900,700")
        assert line.hear() == b"1"
        image = np.frombuffer(line.hear_block(), "<f4").reshape(700, 900)
        assert line.ask("*OPC?") == "1", "the block's end was met"
    assert np.isfinite(image).all()
    assert image.std() > 0.1 * image.mean() > 0


def test_lines_may_come_in_pieces_and_many_at_once(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        for piece in (b"*ID", b"N?\r", b"\nBIAS?\n*OP", b"C?\n"):
            line.socket.sendall(piece)
        assert [line.hear() for _ in range(3)] == [b"ACME,STM-HEAD,0001,1.0", b"+0.000000E+00", b"1"]

        line.tell(*(f"BIAS {i % 10};BIAS?" for i in range(3000)))
        assert [float(line.hear()) for _ in range(3000)] == [i % 10 for i in range(3000)]


def test_a_line_without_end_is_refused_and_the_next_one_understood(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        line.socket.sendall(b"x" * 300_000 + b"\n")
        assert line.ask("SYST:ERR?") == '-363,"Input buffer overrun"'
        assert line.ask("SYST:ERR?") == '0,"No error"'


def test_completion_is_told_when_simulated_time_has_come() -> None:
    with Laboratory("probe", heads=1, settling=2, factor=0) as probe, Line(probe.heads[0]) as line:
        line.tell("POS 100,100;*OPC?;POS?", "BIAS?")
        probe.control.wait("tip-1", "*OPC?")
        probe.control.advance(1.0)
        with Line(probe.heads[0]) as other:
            assert other.ask("POS?") == "96.8377,96.8377", "who did not ask for completion does not wait"
        assert line.heard_nothing
        probe.control.advance(1.0)
        assert [line.hear(), line.hear()] == [b"1;99.9000,99.9000", b"+0.000000E+00"]


def test_who_floods_one_head_does_not_hold_up_another(probe: Laboratory) -> None:
    flood = 20_000
    before = probe.control.statistics("tip-1")["answers"]
    with Line(probe["tip-1"]) as flooding, Line(probe["tip-2"]) as other:
        sender = threading.Thread(target=flooding.tell, args=["MEAS:CURR?"] * flood)
        sender.start()
        probe.control.wait("tip-1", "MEAS:CURR?", probe.control.actions("tip-1").counts.get("MEAS:CURR?", 0) + 1)
        for _ in range(20):
            assert other.ask("*OPC?") == "1"
        assert probe.control.statistics("tip-1")["answers"] - before < flood
        for _ in range(flood):
            flooding.hear()
        sender.join(PATIENCE)


def test_who_takes_no_answers_is_not_read_from(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line, Line(probe["tip-2"]) as other:
        start = probe.control.actions("tip-1").counts.get("MEAS:IMAG?", 0)
        line.tell(*["MEAS:IMAG? 1000,1000"] * 100)
        probe.control.wait("tip-1", "MEAS:IMAG?", start + 1)
        assert other.ask("*OPC?") == "1"
        assert probe.control.actions("tip-1").counts["MEAS:IMAG?"] - start < 5, "the rest waits"
        assert len(line.hear_block()) == 4_000_000


# -- wrong answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "heard"),
    [
        ("half", {}, b"+2.500"),
        ("units", {"scale": 1e3, "text": " MV"}, b"+2.500000E+03 MV\n"),
        ("excess", {}, b"+2.500000E+00\n+2.500000E+00\n"),
        ("latency", {"seconds": 0.05}, b"+2.500000E+00\n"),
    ],
)
def test_a_faulty_answer_comes_as_ordered_and_then_no_more(
    probe: Laboratory, kind: str, options: dict[str, object], heard: bytes
) -> None:
    with Line(probe["tip-1"]) as line:
        line.tell("BIAS 2.5")
        probe.control.fault(kind, "tip-1", match="BIAS?", count=1, **options)  # type: ignore[arg-type]
        line.tell("BIAS?", "*OPC?")
        assert line._read(len(heard)) == heard
        assert line.hear() == b"1"
        assert line.ask("BIAS?") == "+2.500000E+00"


def test_a_late_answer_comes_among_those_to_what_follows(probe: Laboratory) -> None:
    probe.control.fault("late", "tip-1", match="*IDN?", seconds=0.2, count=1)
    with Line(probe["tip-1"]) as line:
        line.tell("*IDN?", "BIAS?")
        assert line.hear() == b"+0.000000E+00"
        assert line.hear() == b"ACME,STM-HEAD,0001,1.0"


def test_no_answer_means_that_it_was_done_all_the_same(probe: Laboratory) -> None:
    start = len(probe.control.actions("tip-1").actions)
    probe.control.fault("silence", "tip-1", match="MEAS:CURR?")
    with Line(probe["tip-1"]) as line:
        line.tell("MEAS:CURR?", "MEAS:CURR?")
        assert line.ask("*OPC?") == "1"
        assert line.heard_nothing
    assert [action.command for action in probe.control.actions("tip-1", since=start).actions] == ["MEAS:CURR?"] * 2


def test_the_wrong_instrument_answers(probe: Laboratory) -> None:
    probe.control.fault("identity", text="OTHER,THING,7,0")
    for head in probe.heads:
        with Line(head) as line:
            assert line.ask("*IDN?") == "OTHER,THING,7,0"


# -- cuts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "heard", "measured"), [("before", b"", 0), ("after", b"", 1), ("within", b"+0.000", 1)])
def test_a_cut_falls_where_it_was_ordered(probe: Laboratory, at: str, heard: bytes, measured: int) -> None:
    start = probe.control.actions("tip-1").counts.get("BIAS?", 0)
    probe.control.fault("unplug", "tip-1", match="BIAS?", at=at, count=1)
    with Line(probe["tip-1"]) as line:
        line.tell("*OPC?", "BIAS?", "BIAS?")
        assert line.hear() == b"1"
        assert line.hear() == heard
    assert probe.control.actions("tip-1").counts.get("BIAS?", 0) - start == measured, "what came after is lost"
    assert refused(probe, "tip-1")


def test_an_unplugged_head_refuses_and_comes_back_at_its_address(probe: Laboratory) -> None:
    for _ in range(20):
        with Line(probe["tip-1"]) as line:
            assert line.ask("*OPC?") == "1"
            probe.control.unplug("tip-1")
            assert line.hear() == b""
        assert refused(probe, "tip-1")
        assert not refused(probe, "tip-2")
        probe.control.replug("tip-1")
    with Line(probe["tip-1"]) as line:
        assert line.ask("*OPC?") == "1"


def test_a_reset_is_an_error_and_a_time_of_absence_ends(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        assert line.ask("*OPC?") == "1"
        probe.control.unplug("tip-1", seconds=0.1, reset=True)
        with pytest.raises(ConnectionResetError):
            line.hear()
    eventually(lambda: not refused(probe, "tip-1"), "the head to be back")


def test_a_power_cycle_loses_settings_and_keeps_the_record(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        line.tell("TIP:APPR;BIAS 1.5;WDOG 1000", "*ESR?")
        line.hear()
        total = len(probe.control.actions("tip-1").actions)
        probe.control.power_cycle("tip-1")
        assert line.hear() == b""
    with Line(probe["tip-1"]) as line:
        assert line.ask("*ESR?;BIAS?;TIP?;WDOG?") == "128;+0.000000E+00;WITHDRAWN;+0.000000E+00"
    assert len(probe.control.actions("tip-1").actions) == total


# -- safety -----------------------------------------------------------------------------------------------------------


def test_the_watchdog_withdraws_when_nothing_is_heard(probe: Laboratory) -> None:
    mark = time.monotonic()
    with Line(probe["tip-1"]) as line:
        line.tell("TIP:APPR;BIAS 1;WDOG 1000")
        assert line.ask("WDOG 0.1;*OPC?") == "1"
        safe = eventually(lambda: probe.control.first_safe("tip-1", mark), "the watchdog to act")
        assert line.ask("TIP?;BIAS?;WDOG?") == "WITHDRAWN;+0.000000E+00;+0.000000E+00"
    [action] = [action for action in probe.control.actions("tip-1").actions if action.time == safe]
    assert action.by == "watchdog"
    assert safe - mark >= 0.1
    assert probe.control.first_safe("tip-2", mark) is None


def test_who_keeps_talking_keeps_the_watchdog_quiet(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        line.tell("TIP:APPR;WDOG 1")
        start = time.monotonic()
        while time.monotonic() - start < 1.3:
            assert line.ask("*OPC?;TIP?") == "1;APPROACHED"


def test_stopping_is_timed_at_the_instrument_by_the_clock_of_whoever_stops(probe: Laboratory) -> None:
    with Line(probe["tip-1"]) as line:
        assert line.ask("TIP:APPR;*OPC?") == "1"
        before = time.monotonic()
        line.tell("TIP:WITHDRAW")
        assert line.ask("*OPC?") == "1"
        safe = probe.control.first_safe("tip-1", before)
    assert safe is not None
    assert before <= safe <= time.monotonic()


# -- pseudo-terminals -------------------------------------------------------------------------------------------------


class Terminal:
    """A serial line, opened by its name."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)

    def ask(self, query: bytes) -> bytes:
        os.write(self.fd, query + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(self.fd, 1000)
        return answer[:-1]

    def has_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(PATIENCE * 1000)[0][1] & select.POLLHUP)

    def close(self) -> None:
        os.close(self.fd)


def test_a_terminal_speaks_the_same_lines_and_keeps_its_name(probe: Laboratory) -> None:
    name = probe["tip-1"].pty
    assert name is not None
    for cycle in range(25):
        terminal = Terminal(name)
        assert terminal.ask(b"BIAS %d;*IDN?;BIAS?" % (cycle % 10)) == b"ACME,STM-HEAD,0001,1.0;%+.6E" % (cycle % 10)
        probe.control.unplug("tip-1")
        assert not Path(name).exists()
        assert terminal.has_hung_up()
        with pytest.raises(OSError) as raised:
            os.write(terminal.fd, b"BIAS 5\n")
        assert raised.value.errno == errno.EIO
        terminal.close()
        probe.control.replug("tip-1")


def test_a_terminal_survives_whoever_opens_and_closes_it(probe: Laboratory) -> None:
    name = probe["tip-2"].pty
    assert name is not None
    for _ in range(5):
        terminal = Terminal(name)
        assert terminal.ask(b"*OPC?") == b"1"
        terminal.close()
    with Line(probe["tip-2"]) as line:
        assert line.ask("*OPC?") == "1", "the port works beside it"


# -- clients that people use ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["resource", "pty_resource"])
def test_pyvisa_talks_to_it(probe: Laboratory, way: str) -> None:
    pyvisa = pytest.importorskip("pyvisa")
    pytest.importorskip("pyvisa_py")
    pytest.importorskip("serial")
    manager = pyvisa.ResourceManager("@py")
    instrument = manager.open_resource(
        getattr(probe["tip-1"], way), read_termination="\n", write_termination="\n", timeout=10_000
    )
    try:
        assert instrument.query("*IDN?") == probe["tip-1"].identity
        instrument.write("TIP:APPR;BIAS 1;POS 50,60")
        assert instrument.query("*OPC?") == "1"
        assert len(instrument.query_ascii_values("MEAS:WAV? 100")) == 100
        image = instrument.query_binary_values("MEAS:IMAG? 30,20", datatype="f", container=np.array)
        assert image.shape == (600,)

        probe.control.fault("silence", "tip-1", match="BIAS?", count=1)
        instrument.timeout = 100
        with pytest.raises(pyvisa.errors.VisaIOError):
            instrument.query("BIAS?")
    finally:
        instrument.close()
        manager.close()


def test_pyserial_sees_an_unplug(probe: Laboratory) -> None:
    serial = pytest.importorskip("serial")
    with serial.Serial(probe["tip-1"].pty, timeout=PATIENCE) as port:
        port.write(b"*IDN?\n")
        assert port.readline() == b"ACME,STM-HEAD,0001,1.0\n"
        probe.control.unplug("tip-1")
        with pytest.raises((serial.SerialException, OSError)):
            port.write(b"*IDN?\n")


# -- chambers ---------------------------------------------------------------------------------------------------------


def test_days_in_the_chambers_pass_in_seconds() -> None:
    with Laboratory("chambers", count=12, factor=1e5) as room, Line(room["chamber-12"]) as line:
        assert line.ask("*IDN?") == "ACME,GROWTH-CHAMBER,0012,1.0"
        line.tell("TEMP:SP 26;LIGHT:SP 400;HUM:SP 70;RUN")
        eventually(lambda: float(line.ask("PLAN:MASS?")) > 0.1, "the plant to have doubled")
        assert room.control.time() > 86400
        assert float(line.ask("TEMP?")) == pytest.approx(26.6, abs=0.3)

        room.control.overheat("chamber-12")
        eventually(lambda: line.ask("ALAR?") == "1", "the limiter to cut off")
        assert line.ask("STAT?;LIGHT?") == "TRIPPED;0.0"
        assert room.control.truth("chamber-11")["tripped"] == 0


# -- starting, control, ending ----------------------------------------------------------------------------------------


def test_mistakes_on_the_control_channel_are_explained(probe: Laboratory) -> None:
    control = probe.control
    for ask, said in (
        (lambda: control.unplug("tip-3"), "no head 'tip-3'"),
        (lambda: control.fault("latncy"), "did you mean 'latency'"),  # type: ignore[arg-type]
        (lambda: control.fault("late", lateness=3), "lateness"),
        (lambda: control.advance(-1.0), "cannot jump"),
        (lambda: control._ask("unplg"), "did you mean 'unplug'"),
    ):
        with pytest.raises(CallerError, match=said):
            ask()
    with pytest.raises(TimeoutError, match=r"tip-1 did not receive 1 × NEVER in 0\.05 s"):
        control.wait("tip-1", "NEVER", timeout=0.05)
    assert control.mark() <= time.monotonic()

    with socket.create_connection(control.address.split(":")) as raw:  # type: ignore[arg-type]
        for nonsense in (b"{\n", b"[]\n", b"\xff\n", b'{"do": ["fault"]}\n', b'{"do": "actions"}\n'):
            raw.sendall(nonsense)
            assert b'"ok": false' in raw.recv(1000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    laboratory = Laboratory("probe", heads=1, pty=tmp_path / "tty")
    assert (tmp_path / "tty" / "tip-1").exists()
    with Line(laboratory.heads[0]) as line:
        laboratory.process.send_signal(number)
        assert line.hear() == b""
    assert laboratory.process.wait(PATIENCE) == 0
    assert list((tmp_path / "tty").iterdir()) == []
    with pytest.raises(PeerError, match="has ended"):
        laboratory.control.mark()
    assert laboratory.close() == 0


def test_it_ends_with_its_parent() -> None:
    program = (
        "from taskmaster.drivers.simulated import Laboratory\n"
        "laboratory = Laboratory('probe', heads=1)\n"
        "print(laboratory.heads[0].address, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        host, port = parent.stdout.readline().decode().strip().split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            parent.kill()
            assert line.recv(1) == b""


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (lambda taken: ["probe", "--heads", "1", "--listen", taken], 1, "is another simulator running there?"),
        (lambda taken: ["probe", "--heads", "1", "--control", taken], 1, "is another simulator running there?"),
        (lambda taken: ["probe", "--heads", "0"], 2, "0 is not a number from 1 on"),
        (lambda taken: ["chambers", "--listen", "here"], 2, "'here' is not host:port"),
    ],
)
def test_it_says_why_it_cannot_start(
    probe: Laboratory, options: Callable[[str], list[str]], status: int, said: str
) -> None:
    command = [sys.executable, "-m", "taskmaster.drivers.simulated", *options(probe["tip-1"].address)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert result.returncode == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
