"""The demonstrations with simulated instruments, as a person meets them: run, and interrupted at a bad moment."""

from __future__ import annotations

import io
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest
from helpers.demos import DemoProcess, read_table
from PIL import Image
from rich.console import Console

from taskmaster.bus.errors import DaemonError
from taskmaster.cli.demo import run_demo
from taskmaster.cli.demos.chambers import GrowthReport
from taskmaster.cli.demos.stm import HEADS, UNPLUGGED, ProbeReport, compare

#: Seconds for each test, several times what it takes.
pytestmark = pytest.mark.timeout(150)


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def is_a_picture(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 21) or ()) > 500


def test_four_heads_image_a_surface_and_one_is_unplugged_meanwhile(tmp_path: Path) -> None:
    said = console()
    report = run_demo("stm", tmp_path, points=100, headless=True, console=said)

    assert isinstance(report, ProbeReport)
    assert (report.points, report.restarts) == (100, 0)
    assert report.points <= report.measured <= report.points + report.failed
    assert set(report.by_head) == set(HEADS), "all had a share"
    assert report.by_head[UNPLUGGED] < max(report.by_head.values())
    table = read_table(report.table)
    assert len({(row["x"], row["y"]) for row in table}) == 100
    assert Counter(row["head"] for row in table) == report.by_head
    assert is_a_picture(report.picture)
    lines = printed(said)
    for text in ("tip-3 is unplugged", "tip-3 is plugged in again", "tip-3 is back", "100/100 points", "none twice"):
        assert text in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_behind_by_a_demo_that_is_ended_while_a_head_is_unplugged(
    number: signal.Signals, place: Path
) -> None:
    demo = DemoProcess(place, "stm", 100)
    try:
        demo.read_until("is unplugged")
        family = demo.family()
        demo.interrupt(number)
        text = demo.finish()
        _, alive = psutil.wait_procs(family, timeout=20)
    finally:
        demo.close()

    assert ("Interrupted after" in text) == (number is signal.SIGINT)
    assert demo.process.returncode != 0
    assert len(family) >= 4 + len(HEADS), "the demo, the probe, the daemon, the guardian and a worker for each head"
    assert alive == []
    assert list(demo.temporary.iterdir()) == [], "its state was temporary"


@pytest.mark.slow
def test_chambers_find_a_climate_though_a_heater_sticks(tmp_path: Path) -> None:
    said = console()
    report = run_demo("chambers", tmp_path, points=24, headless=True, console=said)

    assert isinstance(report, GrowthReport)
    assert 20 <= report.points < 24, "two rounds of twelve, but for what was in the chamber that failed"
    assert report.days == pytest.approx(10, abs=3)
    table = read_table(report.table)
    assert ("2", "chamber-5") not in {(row["round"], row["chamber"]) for row in table}
    assert report.rate == pytest.approx(max(float(row["rate"]) for row in table), abs=1e-5)
    assert report.rate > 0.3, "a plant can do this"
    assert is_a_picture(report.picture)
    assert "The heater of chamber-5 sticks" in printed(said)


def test_what_was_done_is_compared_with_what_the_instrument_says_before_it_is_praised() -> None:
    here, there = (1.0, 2.0), (3.0, 4.0)
    compare(Counter([here]), Counter([there]), Counter([here]))
    compare(Counter([here]), Counter([there]), Counter([here, there]))
    with pytest.raises(DaemonError, match=r"not measured \[\(3.0, 4.0\)\]"):
        compare(Counter([here, there]), Counter(), Counter([here]))
    with pytest.raises(DaemonError, match=r"measured without a result \[\(1.0, 2.0\)\]"):
        compare(Counter([here]), Counter([there]), Counter([here, here]))
