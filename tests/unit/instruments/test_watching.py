"""What is due when, what trips an interlock, and what becomes of it: decided without a clock or an instrument."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from taskmaster.drivers.instruments.watching import (
    Condition,
    Interlock,
    Keep,
    Monitor,
    Schedule,
    Watched,
    scalar,
    watched,
)

PERIODS = st.lists(st.sampled_from([0.05, 0.2, 1.0, 3.0, 60.0]), min_size=1, max_size=5)


@given(PERIODS, st.lists(st.floats(0.0, 100.0), min_size=1, max_size=60))
def test_what_was_missed_is_not_made_up_for(periods: list[float], pauses: list[float]) -> None:
    """After however long a query, each is polled once at most, and then not before it is due again."""
    items = [Monitor(f"v{i}", every) for i, every in enumerate(periods)]
    schedule = Schedule(items)
    assert schedule.take(1e9) is None, "nothing is due before it is to be polled"
    now = 100.0
    schedule.start(items, now)
    polled: Counter[Watched] = Counter()
    for pause in pauses:
        now += pause
        at_once: list[Watched] = []
        while (item := schedule.take(now)) is not None:
            at_once.append(item)
        assert len(at_once) == len(set(at_once))
        assert schedule.due > now
        polled.update(at_once)
        assert all(polled[each] <= (now - 100.0) / each.every + 1 for each in items)


@given(PERIODS, st.floats(0.001, 0.02))
def test_whoever_has_time_polls_each_as_often_as_declared(periods: list[float], query: float) -> None:
    """Polls that take ``query`` seconds, one at a time: none is put off by more than all the others together take."""
    items = [Monitor(f"v{i}", every) for i, every in enumerate(periods)]
    schedule = Schedule(items)
    now = 0.0
    last: dict[Watched, float] = dict.fromkeys(items, 0.0)
    schedule.start(items, now)
    while now < 10.0:
        now = max(now, schedule.due)
        item = schedule.take(now)
        assert item is not None
        assert now - last[item] <= item.every + len(items) * query + 1e-9 or last[item] == 0.0
        last[item] = now
        now += query


def test_what_is_not_to_be_polled_any_more_is_not_due() -> None:
    bias, keep = Monitor("bias", 1.0), Keep("watchdog", 1.0)
    schedule = Schedule([bias, keep])
    schedule.start([bias, keep], 5.0)
    schedule.stop([keep])
    assert (schedule.take(5.0), schedule.take(5.0)) == (bias, None)
    schedule.stop([bias])
    assert schedule.due == math.inf


@pytest.mark.parametrize(
    ("bounds", "value", "wrong"),
    [
        ({"minimum": 5.0, "maximum": 60.0}, 60.0, ""),
        ({"minimum": 5.0, "maximum": 60.0}, 60.5, "60.5 is above max = 60"),
        ({"minimum": 5.0}, 4, "4 is below min = 5"),
        ({"maximum": 60.0}, math.nan, "nan is no number"),
        ({"maximum": 60.0}, "COLD", "'COLD' is no number"),
        ({"maximum": 60.0}, True, "True is no number"),
        ({"maximum": 60.0}, None, "None is no number"),
        ({"equals": "CLOSED"}, "CLOSED", ""),
        ({"equals": "CLOSED"}, "OPEN", "'OPEN' is not 'CLOSED'"),
        ({"equals": 0}, 0.0, ""),
        ({"equals": 0}, False, "False is not 0"),
        ({"equals": 0}, "0", "'0' is not 0"),
        ({"equals": True}, True, ""),
        ({"equals": True}, 1.0, "1.0 is not True"),
        ({"compared": True}, "high", "'high' is no number"),
    ],
)
def test_what_trips(bounds: dict[str, Any], value: Any, wrong: str) -> None:
    assert Interlock("it", 1.0, **bounds).wrong(value) == wrong


def test_an_interlock_holds_again_when_two_polls_in_a_row_have_said_so() -> None:
    condition = Condition()
    assert not condition.hear("")
    assert condition.hear("it is gone", lost=True)
    assert not condition.hear("it is still gone", lost=True)
    assert condition.hear("too hot"), "a value out of bounds is more than one that cannot be had"
    assert (condition.reason, condition.lost) == ("too hot", False)
    assert not condition.hear("it is gone", lost=True)
    assert not condition.hear("")
    assert not condition.hear("too hot"), "it never was in order"
    assert not condition.hear("")
    assert condition.hear("")
    assert condition.reason == ""


def test_which_head_has_what_to_poll() -> None:
    options = {
        "commands": {"watchdog": {"arm": ["W"], "every": 2.0}},
        "monitor": {"bias": {"query": "BIAS?", "every": 5.0}},
        "interlocks": {
            "own": {"query": "TEMP?", "every": 1.0, "max": 60.0, "action": "stop"},
            "there": {"query": "DOOR?", "every": 1.0, "head": "b", "equals": "CLOSED", "action": "pause"},
            "less": {"query": "BIAS?", "every": 0.5, "head": "a", "below": "b", "action": "safe"},
        },
    }

    def names(head: str) -> dict[str, tuple[bool, bool]]:
        return {
            item.name: (item.judged, item.compared) if isinstance(item, Interlock) else (False, False)
            for item in watched(options, head)
        }

    alone = (False, False)
    assert names("a") == {"watchdog": alone, "own": (True, False), "less": (True, True), "bias": alone}
    assert names("b") == {
        "watchdog": alone, "own": (True, False), "there": (True, False), "less": (False, True), "bias": alone,
    }  # fmt: skip
    assert watched({}, "a") == ()


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), 0.5])
def test_numpys_scalars_are_values_as_others_are(value: Any) -> None:
    assert scalar(value) == 0.5
    assert type(scalar(value)) is float


@pytest.mark.parametrize("value", [[1.0], np.zeros(2), 2**63, 1j, object()])
def test_what_is_no_single_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is no number, text or truth value"):
        scalar(value)
