"""What each fault makes of an answer, and which lines it strikes."""

from __future__ import annotations

import pytest

from taskmaster.drivers.simulated.faults import Delivery, Fault, Faults

QUERY, ANSWER = b"MEAS:CURR?", b"+1.500000E-09"


def deliver(fault: Fault, query: bytes = QUERY, answer: bytes = ANSWER) -> Delivery:
    faults = Faults()
    faults.add(fault)
    return faults.deliver(query, answer)


def test_without_a_fault_the_answer_is_delivered() -> None:
    assert Faults().deliver(QUERY, ANSWER) == Delivery(ANSWER + b"\n")


@pytest.mark.parametrize(
    ("fault", "delivery"),
    [
        (Fault("latency", seconds=0.5), Delivery(ANSWER + b"\n", 0.5, in_order=True)),
        (Fault("late", seconds=0.5), Delivery(ANSWER + b"\n", 0.5, in_order=False)),
        (Fault("silence"), Delivery(None)),
        (Fault("half"), Delivery(b"+1.500")),
        (Fault("excess"), Delivery(ANSWER + b"\n" + ANSWER + b"\n")),
        (Fault("units", scale=1e9, text=" NA"), Delivery(b"+1.500000E+00 NA\n")),
        (Fault("identity", text="X"), Delivery(ANSWER + b"\n")),
    ],
)
def test_a_fault_shapes_the_answer(fault: Fault, delivery: Delivery) -> None:
    assert deliver(fault) == delivery


def test_garbage_is_one_line_of_nonsense_as_long_as_the_answer() -> None:
    nonsense = deliver(Fault("garbage")).data
    assert nonsense is not None
    assert len(nonsense) == len(ANSWER) + 1
    assert nonsense.index(b"\n") == len(ANSWER)
    assert nonsense[:-1] != ANSWER


def test_faults_leave_alone_what_they_do_not_concern() -> None:
    assert deliver(Fault("identity", text="OTHER"), b"*idn?", b"ME").data == b"OTHER\n"
    assert deliver(Fault("units"), b"TIP?", b"WITHDRAWN").data == b"WITHDRAWN\n"
    assert deliver(Fault("units"), b"*OPC?", b"1").data == b"1\n"
    assert deliver(Fault("units", scale=10), b"POS?", b"1.0,2.5").data == b"+1.000000E+01,+2.500000E+01\n"


def test_what_is_stuck_answers_each_query_as_at_first() -> None:
    faults = Faults()
    faults.add(Fault("stuck"))
    said = [faults.deliver(query, answer).data for query, answer in ((b"A?", b"1"), (b"B?", b"2"), (b"a?", b"3"))]
    assert said == [b"1\n", b"2\n", b"1\n"]
    assert faults.deliver(b"SYST:ERR?", b"0").data == b"0\n"
    assert faults.deliver(b"SYST:ERR?", b"-113").data == b"-113\n"


def test_a_fault_strikes_what_it_matches_after_some_and_so_many_times() -> None:
    faults = Faults()
    faults.add(Fault("silence", match="meas:curr?", skip=1, count=2))
    heard = [faults.deliver(query, b"1").data for query in [b"POS?", QUERY, QUERY, b"POS?", QUERY, QUERY]]
    assert [data is not None for data in heard] == [True, True, False, True, False, True]
    assert not faults, "it is over"


def test_several_faults_act_one_after_the_other() -> None:
    faults = Faults()
    faults.add(Fault("units", scale=2))
    faults.add(Fault("excess"))
    faults.add(Fault("latency", seconds=1))
    assert faults.deliver(QUERY, b"1") == Delivery(b"+2.000000E+00\n" * 2, 1.0)
    faults.clear("excess")
    assert [fault.kind for fault in faults] == ["units", "latency"]
    faults.clear()
    assert not faults


def test_a_cut_strikes_commands_before_or_after_they_are_carried_out() -> None:
    faults = Faults()
    faults.add(Fault("unplug", match="BIAS", at="before", count=1))
    faults.add(Fault("power", match="POS", count=1))
    assert faults.cut(b"POS 1,2", before=True) is None
    power = faults.cut(b"POS 1,2", before=False)
    unplug = faults.cut(b"BIAS 1", before=True)
    assert (power and power.kind, unplug and unplug.kind) == ("power", "unplug")
    assert not faults


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "latncy"}, "did you mean 'latency'"),
        ({"kind": "unplug", "at": "during"}, "'during'"),
        ({"kind": "silence", "count": 0}, "count 1 or more"),
        ({"kind": "late", "seconds": -1.0}, "0 or more"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fault(**options)  # type: ignore[arg-type]
