"""Simulated instruments understand what SCPI allows, refuse what it does not, and remember both."""

from __future__ import annotations

import pytest

from taskmaster.drivers.simulated.clock import Clock
from taskmaster.drivers.simulated.probe import ProbeHead, ProbeOptions, make_probe
from taskmaster.drivers.simulated.scpi import Pending, block


@pytest.fixture
def head() -> ProbeHead:
    [head] = make_probe(ProbeOptions(heads=1, settling=1.0), Clock(0), remembered=8)
    return head


def errors(head: ProbeHead) -> list[int]:
    """Empties the queue."""
    codes: list[int] = []
    while True:
        answer = head.execute(b"SYST:ERR?")
        assert isinstance(answer, bytes)
        code = int(answer.partition(b",")[0])
        if not code:
            return codes
        codes.append(code)


@pytest.mark.parametrize(
    "spelling", [b"SYST:ERR?", b"syst:err?", b"SYSTem:ERRor?", b"SYSTEM:ERR?", b":SYST:ERROR?", b"  SYST:ERR?  "]
)
def test_headers_are_understood_in_every_form(head: ProbeHead, spelling: bytes) -> None:
    assert head.execute(spelling) == b'0,"No error"'
    assert head.log.counts == {"SYST:ERR?": 1}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"BIASED 1", -113),
        (b"SYSTE:ERR?", -113),
        (b"BIAS", -109),
        (b"POS 1", -109),
        (b"BIAS 1,2", -108),
        (b"*IDN? 1", -108),
        (b"BIAS one", -104),
        (b"BIAS nan", -104),
        (b"BIAS 1_0", -104),
        (b"BIAS 1 V", -104),
        (b"MEAS:WAV? 1.5", -104),
        (b"BIAS 10.01", -222),
        (b"BIAS 1e999", -222),
        (b"POS 0,500.5", -222),
        (b"\xff\xfe", -113),
    ],
)
def test_what_is_refused_has_no_effect_and_no_answer(head: ProbeHead, line: bytes, code: int) -> None:
    before = head.settings()
    assert head.execute(line) is None
    assert errors(head) == [code]
    assert head.settings() == before


def test_several_commands_in_a_line_are_carried_out_in_order(head: ProbeHead) -> None:
    assert head.execute(b"BIAS 0.5;BIAS?;;BIAS -.25e0;BIAS?;") == b"+5.000000E-01;-2.500000E-01"
    assert head.execute(b"BIAS 1;FOO;BIAS 2;BIAS?") == b"+2.000000E+00", "one that is refused does not stop the others"


def test_a_line_waits_where_it_asks_for_completion(head: ProbeHead) -> None:
    head.execute(b"BIAS 1;TIP:APPR")
    answer = head.execute(b"BIAS?;POS 10,20;*OPC?;POS?;BIAS?")
    assert answer == Pending(1.0, (b"+1.000000E+00", b"1"), (b"POS?", b"BIAS?"))

    head.clock.advance(1.0)
    assert head.go_on(answer.parts, answer.rest) == b"+1.000000E+00;1;9.9900,19.9800;+1.000000E+00"
    assert head.execute(b"*OPC?") == b"1"


def test_a_full_error_queue_says_so(head: ProbeHead) -> None:
    for _ in range(40):
        head.execute(b"NONSENSE")
    assert errors(head) == [-113] * 29 + [-350]
    assert head.log.counts["(undefined)"] == 40


def test_events_tell_that_it_was_switched_on_and_what_was_wrong_since(head: ProbeHead) -> None:
    assert head.execute(b"*ESR?;*ESR?") == b"128;0"
    head.execute(b"NONSENSE;BIAS 50")
    assert head.execute(b"*ESR?") == b"48"
    head.power_cycle()
    assert head.execute(b"*ESR?;SYST:ERR?") == b'128;0,"No error"'


def test_the_record_has_what_was_done_and_what_was_refused(head: ProbeHead) -> None:
    head.execute(b"POS 3,4;BIAS 1;MEAS:CURR?;BIAS 11;MEAS:WAV? 0;*IDN?")
    actions = head.log.since(0, 100)
    assert [(a.number, a.kind, a.command, a.arguments, a.error) for a in actions] == [
        (0, "set", "POS", (3.0, 4.0), 0),
        (1, "set", "BIAS", (1.0,), 0),
        (2, "measure", "MEAS:CURR?", (), 0),
        (3, "set", "BIAS", (), -222),
        (4, "measure", "MEAS:WAV?", (), -222),
    ]
    assert actions[2].at == {"x": 3.0, "y": 4.0, "bias": 1.0, "approached": 0.0}


def test_counts_are_for_good_and_actions_for_a_while(head: ProbeHead) -> None:
    for volts in range(10):
        head.execute(b"BIAS %d" % volts)
    assert head.log.counts["BIAS"] == head.log.total == 10
    assert head.log.forgotten == 2
    assert [action.arguments for action in head.log.since(0, 2)] == [(2.0,), (3.0,)]
    assert [action.number for action in head.log.since(7, 100)] == [7, 8, 9]
    assert head.log.since(10, 100) == []


def test_the_first_safe_action_is_found_after_a_mark(head: ProbeHead) -> None:
    head.execute(b"TIP:WITHDRAW")
    mark = head.clock.real()
    head.execute(b"BIAS 1;TIP:WITHDRAW 1;BIAS 0;TIP:WITHDRAW")
    safe = head.log.first_safe(mark)
    assert safe is not None
    assert (safe.command, safe.arguments) == ("BIAS", (0.0,)), "neither a bias nor a refused withdrawal is safe"
    assert head.log.first_safe(head.clock.real()) is None


@pytest.mark.parametrize(("length", "start"), [(0, b"#10"), (9, b"#19"), (10, b"#210"), (1234, b"#41234")])
def test_blocks_begin_with_their_length(length: int, start: bytes) -> None:
    assert block(bytes(length)) == start + bytes(length)
