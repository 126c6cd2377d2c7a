"""What the demonstrations with instruments draw, and how the one with the chambers searches."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console, RenderableType

from taskmaster.bus.status import HeadInfo
from taskmaster.cli.demos.chambers_search import ShrinkingBox
from taskmaster.cli.demos.chambers_view import RoomView
from taskmaster.cli.demos.headlines import HeadLines
from taskmaster.cli.demos.stm_map import TerminalMap
from taskmaster.cli.demos.stm_view import SurfaceView, map_side


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(drawn: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(drawn)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def head(name: str, state: str = "busy", reason: str = "", tasks: int = 0, busy: float = 0.0) -> HeadInfo:
    return HeadInfo("stm", name, state, reason, tasks=tasks, busy=busy)


def test_a_map_shows_the_nearest_point_with_y_upwards() -> None:
    surface = TerminalMap(8)
    surface.add(0.05, 0.95, 0.0)
    surface.add(0.95, 0.05, 1.0)
    without = [line.plain for line in surface.lines(colours=False)]
    assert [len(line) for line in without] == [8] * 4
    assert (without[0][0], without[3][7]) == (".", "@"), "the least and the most, in opposite corners"
    assert sum(len(line.strip()) for line in without) == 2, "without colours only what was measured is shown"
    in_colours = surface.lines(colours=True)
    assert {line.plain for line in in_colours} == {"▀" * 8}
    styles = [str(span.style) for line in in_colours for span in line.spans]
    assert any(style.startswith("#440154") for style in styles), "the lowest is viridis' first colour, undimmed"


def test_a_map_without_points_is_dark() -> None:
    surface = TerminalMap(4)
    assert [line.plain for line in surface.lines(colours=False)] == ["    "] * 2
    assert {str(span.style) for line in surface.lines(colours=True) for span in line.spans} == {"#000000 on #000000"}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (300, 100), (40, 10)])
def test_a_map_and_the_heads_fit_the_terminal(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view = SurfaceView(console, 900, 250.0, live=True)
    heads = [head(f"tip-{i}", tasks=1000 + i) for i in range(1, 4)]
    view.look([*heads, head("tip-4", "parked", "task 152 of run 1 is in doubt: taskmaster resolve 1 152 done|retry")])
    for index in range(20):
        view.measured(
            index + 1, 0.5, f"tip-{1 + index % 4}", index, (12.0 * index, 250 - 12.0 * index), -9 - index / 40
        )
    drawn = lines(view.draw(), width)
    assert all(len(line) <= width for line in drawn)
    text = "\n".join(drawn)
    if width >= 80:
        assert len(drawn) == map_side(width, height) // 2 <= height - 4
        for part in ("20/900 points", "loss 0.5000", "tip-3 busy", "#18", "1003", "tip-4: task 152 of run 1"):
            assert part in text


def test_how_busy_a_head_is_counts_over_the_last_seconds() -> None:
    clock = Clock()
    heads = HeadLines(clock)
    heads.look([head("tip-1")])
    assert heads.busy_share("tip-1") is None
    for second in range(1, 11):
        clock.now = second
        heads.look([head("tip-1", busy=0.5 * min(second, 5))])
    assert heads.busy_share("tip-1") == pytest.approx(0.0), "idle for five seconds, whatever was before"
    clock.now = 11
    heads.look([head("tip-1", busy=0.1)])
    assert heads.busy_share("tip-1") == 0.0, "a daemon that was started again counts from 0"


def test_a_room_of_chambers_fits_a_small_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    view = RoomView(console, 84, live=True)
    truth = {"temperature": 41.5, "humidity": 95.0, "light": 1200.0, "co2": 1200.0, "biomass": 39.9, "tripped": 0.0}
    chambers = {f"chamber-{i}": {**truth, "tripped": float(i == 5)} for i in range(1, 13)}
    view.look(27.3, [head(name, "quarantined") for name in chambers], chambers)
    view.do("round 6: growing")
    view.grown("chamber-12", 0.7123, "best 0.712 per day at 22 °C, 82 %, 1163 µmol/m²/s, 1115 ppm CO₂")
    drawn = lines(view.draw())
    assert len(drawn) <= 18
    assert all(len(line) <= 80 for line in drawn)
    assert drawn[0].strip() == "day 27.3  round 6: growing"
    assert "limiter" in next(line for line in drawn if line.startswith("chamber-5 "))
    assert drawn[-2].rstrip().endswith("0.712")


def test_a_shrinking_box_closes_in_on_what_is_best_and_stays_within_its_limits() -> None:
    limits = {"x": (0.0, 10.0), "y": (-1.0, 1.0)}
    search = ShrinkingBox(limits, seed=3)
    spread = []
    for _ in range(12):
        points = search.ask(12)
        spread.append(np.ptp([point["x"] for point in points]))
        for point in points:
            assert all(low <= point[name] <= high for name, (low, high) in limits.items())
            search.tell(point, -((point["x"] - 9.5) ** 2) - (point["y"] - 0.2) ** 2)
    assert search.best is not None
    assert search.best[0] == pytest.approx({"x": 9.5, "y": 0.2}, abs=0.1)
    assert spread[-1] < 0.1 * spread[0]
