"""An outcome that is too large for a message, in portions that are not."""

from __future__ import annotations

import numpy as np
import pytest

from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import pack_values
from taskmaster.bus.wire import MOST_ERRORS
from taskmaster.drivers.outputs import Portion, portions, time_of

#: Seconds after its start at which each of 16 tasks ended, the last of them at its end.
ENDS = np.cumsum(np.linspace(0.1, 0.3, 16))
SECONDS = float(ENDS[-1])


def whole(*, timed: bool) -> Portion:
    """Sixteen tasks from position 3 on, each with an output of 1000 bytes but for the fifth, which raised."""
    outputs = pack_values([np.full(125, float(k)) for k in range(16) if k != 4])
    errors = (TaskError(4, "ValueError", "no"),)
    return Portion(3, 19, outputs, ENDS.tobytes() if timed else None, errors)


@pytest.mark.parametrize("timed", [True, False])
def test_nothing_is_lost_doubled_or_mixed_up(timed: bool) -> None:
    parts = list(portions(whole(timed=timed), 6_000))
    assert len(parts) > 2
    assert [part.low for part in parts] == [3, *(part.high for part in parts[:-1])]
    assert parts[-1].high == 19
    rows = [row[0] for part in parts if part.outputs is not None for row in part.outputs.rows()]
    assert rows == [float(k) for k in range(16) if k != 4]
    assert [part.low - 3 + error.position for part in parts for error in part.errors] == [4]
    assert all(part.outputs is None or part.outputs.nbytes <= 3_000 for part in parts)


@pytest.mark.parametrize("timed", [True, False])
def test_the_time_is_parted_with_the_tasks(timed: bool) -> None:
    all_of_it = whole(timed=timed)
    ends = []
    before = 0.0
    for part in portions(all_of_it, 6_000):
        begin, end, times = time_of(part, all_of_it, SECONDS)
        assert begin == pytest.approx(before)
        before = end
        if times is not None:
            ends += [begin + after for after in np.frombuffer(times, "<f8")]
            assert ends[-1] == pytest.approx(end)
    assert before == pytest.approx(SECONDS)
    assert ends == pytest.approx(list(ENDS) if timed else [])


def test_what_is_too_large_by_itself_fails_its_task_alone() -> None:
    outputs = pack_values([np.zeros(10), np.zeros(1_000), np.zeros(10)])
    parts = list(portions(Portion(0, 3, outputs, None, ()), 6_000))
    (failed,) = [part for part in parts if part.errors]
    assert (failed.low, failed.high, failed.errors[0].kind) == (1, 2, "OutputTooLarge")
    assert sum(part.outputs.n for part in parts if part.outputs is not None) == 2


def test_more_errors_than_one_message_names_are_said_in_several() -> None:
    n = MOST_ERRORS + 1
    errors = tuple(TaskError(k, "E", "") for k in range(n))
    parts = list(portions(Portion(0, n, None, None, errors), 64 << 20))
    assert [part.high - part.low for part in parts] == [n // 2, n - n // 2]
    assert [part.low + error.position for part in parts for error in part.errors] == list(range(n))
    assert len(list(portions(Portion(0, n - 1, None, None, errors[:-1]), 64 << 20))) == 1
