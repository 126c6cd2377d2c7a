"""Which rows form a batch, how many one may have, and what follows from what goes wrong: no device is needed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.scripted import Bench

from taskmaster.bus.fields import Field
from taskmaster.drivers.base import DeviceBroken
from taskmaster.drivers.gpu.batching import FIRST_ROWS, Sizing
from taskmaster.drivers.gpu.device import OutOfMemory


@pytest.fixture
def make() -> Iterator[Any]:
    benches: list[Bench] = []

    def make(*arguments: Any, **keys: Any) -> Bench:
        benches.append(Bench(*arguments, **keys))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


# -- which rows --------------------------------------------------------------------------------------------------------


def test_leases_of_any_runs_form_one_batch_and_each_hears_of_its_own(make: Any) -> None:
    bench = make()
    for k in range(5):
        bench.lease([10.0 * k, 10.0 * k + 1], run=k)
    bench.engine.turn()
    assert bench.device.begun == [[0, 1, 10, 11, 20, 21, 30, 31, 40, 41]]
    bench.land()
    assert bench.said == [(k + 1, 0, [20.0 * k, 20.0 * k + 2], True) for k in range(5)]


def test_an_idle_device_waits_for_nobody_and_what_comes_meanwhile_is_the_next_batch(make: Any) -> None:
    bench = make()
    bench.lease(list(range(10)))
    bench.engine.turn()
    for k in range(4):  # less than half of what is under way: not worth a launch of its own
        bench.lease([float(k)])
        bench.engine.turn()
    assert bench.device.begun == [list(range(10))]
    bench.lease([4.0])
    bench.engine.turn()
    assert bench.device.begun[1:] == [[0, 1, 2, 3, 4]], "that is, and copies and kernels of the two overlap"
    bench.lease([7.0])
    bench.land(2)
    assert bench.device.begun[2:] == [[7]]


def test_a_lease_larger_than_a_batch_is_cut_and_has_its_last_word_at_its_end(make: Any) -> None:
    bench = make(most=4)
    bench.lease(list(range(10)))
    bench.engine.turn()
    assert bench.device.begun == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    bench.run()
    assert [(position, final) for _, position, _, final in bench.said] == [(0, False), (4, False), (8, True)]
    assert bench.outputs[1] == {k: 2.0 * k for k in range(10)}


def test_no_more_batches_are_under_way_than_the_device_takes(make: Any) -> None:
    bench = make(most=4, depth=2)
    bench.lease(list(range(40)))
    bench.run()
    assert len(bench.device.begun) == 10
    assert max(bench.device.beside) == 1


def test_lingering_waits_for_a_full_batch_but_not_for_ever(make: Any) -> None:
    bench = make(linger=0.05, most=4)
    began = time.monotonic()
    bench.lease([1.0])
    bench.engine.turn()
    due = bench.engine.due
    assert bench.device.begun == []
    assert due is not None
    assert began < due <= time.monotonic() + 0.05
    bench.lease([2.0, 3.0, 4.0])
    bench.engine.turn()
    assert bench.device.begun == [[1, 2, 3, 4]], "it is full"
    bench.land()
    bench.lease([5.0])
    while bench.device.begun[1:] != [[5]]:
        assert time.monotonic() < began + 10
        bench.engine.turn()


def test_what_is_revoked_is_left_out(make: Any) -> None:
    bench = make(most=4)
    kept = bench.lease(list(range(8)))
    gone = bench.lease([100.0, 101.0])
    kept.revoked.add(1, 3)
    kept.revoked.add(6, 8)
    gone.revoked.add(0, 2)
    bench.run()
    assert bench.device.begun == [[0, 3, 4, 5]]
    assert bench.outputs[1] == {0: 0.0, 3: 6.0, 4: 8.0, 5: 10.0}
    assert sorted(bench.final) == [1, 2]


def test_what_is_revoked_while_it_is_cut_still_ends(make: Any) -> None:
    bench = make(most=4, depth=1)
    lease = bench.lease(list(range(8)))
    bench.engine.turn()
    lease.revoked.add(4, 8)
    bench.run()
    assert bench.outputs[1] == {k: 2.0 * k for k in range(4)}
    assert bench.final == [1]


def test_more_leases_than_can_be_noted_wait(make: Any) -> None:
    bench = make(slots=3, depth=2)
    for k in range(8):
        bench.lease([float(k)])
    bench.run()
    assert [len(rows) for rows in bench.device.begun] == [3, 3, 2]
    assert len(bench.outputs) == 8


def test_each_lease_is_charged_its_share_of_a_batch(make: Any) -> None:
    bench = make()
    bench.lease([1.0])
    bench.lease([1.0, 2.0, 3.0])
    bench.engine.turn()
    time.sleep(0.02)
    bench.land()
    assert bench.times[1] == pytest.approx(3 * bench.times[0], rel=1e-3)
    assert sum(bench.times) >= 0.02


def test_progress_says_what_is_under_way_and_nothing_else(make: Any) -> None:
    bench = make(most=4, depth=2)
    bench.lease(list(range(6)))
    bench.lease([6.0])
    bench.lease([7.0] * 4)
    bench.engine.turn()
    at = {position.lease[1]: position for position in bench.progress.positions() or ()}
    assert (at[1].started, at[2].started, at[3].started) == (6, 1, 1), "its second batch has a row of each"
    assert all(position.busy for position in at.values())
    bench.run()
    assert not any(position.busy for position in bench.progress.positions() or ())


def test_progress_moves_with_each_launch_that_ends(make: Any) -> None:
    """Or a lease of several, or one that is bisected, would fall to the time-out of one."""
    bench = make(poisonous(5), most=4, depth=3)
    bench.lease(list(range(12)))
    bench.engine.turn()
    seen = [bench.progress.positions()]
    while any(not flight.landed for flight in bench.device.flights):
        bench.land()
        seen.append(bench.progress.positions())
    assert len(seen) > 6
    assert all(now != before for before, now in itertools.pairwise(seen))
    [end] = seen[-1]
    assert (end.started, end.busy) == (12, False)


def test_a_device_that_is_in_one_long_launch_is_busy(make: Any) -> None:
    bench = make()
    bench.lease([1.0])
    bench.engine.status()
    bench.engine.turn()
    assert bench.engine.status().utilisation == 0, "it has just begun"
    assert bench.engine.status().utilisation == 1
    bench.land()
    assert bench.engine.status().utilisation < 1


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def poisonous(*values: float) -> Any:
    def evaluate(rows: Any) -> Any:
        if bad := sorted(set(values) & set(rows[:, 0].tolist())):
            raise ValueError(f"no {bad[0]:g}")
        return 2 * rows[:, 0]

    return evaluate


def test_just_the_rows_that_raise_fail(make: Any) -> None:
    bench = make(poisonous(3, 40, 41))
    bench.lease(list(range(32)))
    bench.lease(list(range(32, 64)))
    bench.run()
    ended = {**bench.outputs[1], **{32 + k: v for k, v in bench.outputs[2].items()}}
    assert ended == {k: "ValueError" if k in (3, 40, 41) else 2.0 * k for k in range(64)}
    assert bench.errors[1, 3].message == "no 3"
    assert "_scripted" not in bench.errors[1, 3].traceback
    assert "poisonous" not in bench.errors[1, 3].kind
    assert sorted(bench.final) == [1, 2]
    assert len(bench.device.begun) < 3 * 2 * math.log2(64)


def test_while_rows_are_told_apart_nothing_else_is_under_way(make: Any) -> None:
    bench = make(poisonous(5), most=8)
    bench.lease(list(range(24)))
    bench.run()
    halves = [beside for rows, beside in zip(bench.device.begun, bench.device.beside) if len(rows) < 8]
    assert halves
    assert set(halves) == {0}


def test_too_large_a_batch_is_tried_by_halves_and_never_again(make: Any) -> None:
    def evaluate(rows: Any) -> Any:
        if len(rows) > 100:
            raise OutOfMemory(f"no room for {len(rows)} rows")
        return 2 * rows[:, 0]

    bench = make(evaluate)
    bench.lease(list(range(1000)))
    bench.run()
    assert bench.outputs[1] == {k: 2.0 * k for k in range(1000)}, "nothing has failed"
    assert bench.device.trimmed
    begun = len(bench.device.begun)
    bench.lease(list(range(1000)))
    bench.run()
    assert max(map(len, bench.device.begun[begun:])) <= 100, "what it was is remembered"


def test_a_row_that_alone_is_too_large_fails(make: Any) -> None:
    def evaluate(rows: Any) -> Any:
        raise OutOfMemory("no room at all")

    bench = make(evaluate)
    bench.lease([1.0, 2.0])
    bench.run()
    assert bench.outputs[1] == {0: "taskmaster.drivers.gpu.device.OutOfMemory"} | {
        1: "taskmaster.drivers.gpu.device.OutOfMemory"
    }


def test_one_row_that_is_too_large_beside_others_is_tried_alone(make: Any) -> None:
    """And says nothing of how many rows there may be."""

    def evaluate(rows: Any) -> Any:
        if 99 in rows and bench.device.beside[-1]:
            raise OutOfMemory("no room beside the others")
        return 2 * rows[:, 0]

    bench = make(evaluate, most=8)
    bench.lease([1.0])
    bench.engine.turn()
    bench.lease([99.0])
    bench.engine.turn()
    assert bench.device.begun == [[1], [99]]
    bench.run()
    assert bench.outputs == {1: {0: 2.0}, 2: {0: 198.0}}
    assert bench.sizing.rows == 8


def test_a_broken_device_ends_it_and_what_was_under_way_is_noted_as_begun(make: Any) -> None:
    def evaluate(rows: Any) -> Any:
        raise DeviceBroken("scripted: an illegal memory access was encountered")

    bench = make(evaluate, most=4, depth=2)
    bench.lease(list(range(6)))
    bench.lease([1.0] * 4)
    bench.engine.turn()
    with pytest.raises(DeviceBroken, match="illegal memory access"):
        bench.land()
    at = {position.lease[1]: (position.started, position.busy) for position in bench.progress.positions() or ()}
    assert at == {1: (6, True), 2: (2, True)}
    assert bench.said == []


def test_what_has_lost_a_worker_before_is_evaluated_alone_lease_by_lease(make: Any) -> None:
    bench = make()
    bench.lease([1.0, 2.0])
    bench.lease([3.0, 4.0], attempt=2)
    bench.lease([5.0], attempt=3)
    bench.lease([6.0])
    bench.lease([7.0])
    bench.run()
    assert bench.device.begun == [[1, 2], [3, 4], [5], [6, 7]]
    assert bench.device.beside == [0, 0, 0, 0]


def test_nan_is_an_output_unless_it_is_forbidden_and_then_fails_its_row_alone(make: Any) -> None:
    def evaluate(rows: Any) -> Any:
        return np.where(rows[:, 0] == 1, np.nan, rows[:, 0])

    taken, refused = make(evaluate), make(evaluate, output=Field("y", nan=False, max=2.5))
    for bench in (taken, refused):
        bench.lease([0.0, 1.0, 2.0])
        bench.lease([3.0])
        bench.run()
        assert len(bench.device.begun) == 1, "nothing is evaluated again for it"
    assert taken.outputs[1][1] != taken.outputs[1][1]
    assert refused.outputs == {1: {0: 0.0, 1: "taskmaster.bus.errors.InvalidOutput", 2: 2.0}} | {
        2: {0: "taskmaster.bus.errors.InvalidOutput"}
    }
    assert "NaN is not allowed" in refused.errors[1, 1].message


@pytest.mark.parametrize(
    "result", [lambda n: np.zeros(n + 1), lambda n: 1.0, lambda n: np.zeros((n, 2)), lambda n: {"z": np.zeros(n)}]
)
def test_what_does_not_fit_the_rows_fails_them(make: Any, result: Any) -> None:
    bench = make(lambda rows: result(len(rows)))
    bench.lease([1.0, 2.0])
    bench.run()
    assert all(isinstance(value, str) for value in bench.outputs[1].values())
    assert bench.final == [1]


def test_ctrl_c_is_no_tasks_exception(make: Any) -> None:
    def evaluate(rows: Any) -> Any:
        raise KeyboardInterrupt

    bench = make(evaluate)
    bench.lease([1.0])
    bench.engine.turn()
    with pytest.raises(KeyboardInterrupt):
        bench.land()


# -- how many rows -----------------------------------------------------------------------------------------------------


def settled(seconds: Any, most: int = 1 << 20) -> int:
    """The size that is come to where a launch of ``n`` rows takes ``seconds(n)``."""
    sizing = Sizing(most)
    for _ in range(100):
        sizing.landed(sizing.rows, seconds(sizing.rows))
    return sizing.rows


def test_batches_grow_while_launches_are_short() -> None:
    assert settled(lambda n: 1e-5) == 1 << 20


def test_batches_grow_where_a_launch_takes_as_long_however_few_rows_it_has() -> None:
    """A trajectory takes as long as its steps do, one or a hundred thousand of them."""
    assert settled(lambda n: 0.2 * max(1.0, n / 50_000)) >= 65_536


def test_batches_are_as_small_as_throughput_allows_where_launches_are_long() -> None:
    rows = settled(lambda n: 1e-5 * n)
    assert FIRST_ROWS <= rows <= 4 * FIRST_ROWS, "10 to 40 ms: results flow"


def test_a_batch_takes_no_longer_than_a_second_where_that_can_be_had() -> None:
    rows = settled(lambda n: 0.01 * n)
    assert rows * 0.01 <= 4


def test_a_batch_that_was_not_full_says_nothing_of_a_full_one() -> None:
    sizing = Sizing(1 << 20)
    for _ in range(10):
        sizing.landed(3, 1e-6)
    assert sizing.rows == FIRST_ROWS


def test_memory_bounds_a_batch_before_it_runs_out() -> None:
    sizing = Sizing(1 << 20, depth=2)
    sizing.needs(1000.0, 10_000_000)
    for _ in range(20):
        sizing.landed(sizing.rows, 1e-6)
    assert sizing.rows == 4000
    sizing.needs(500.0, 10_000_000)
    assert sizing.rows > 4000, "what is known of a larger batch counts"
