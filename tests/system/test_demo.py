"""The demo as a person meets it: run, killed in the middle, interrupted, run again; and the examples beside it."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from helpers.demos import DemoProcess, read_table
from PIL import Image
from rich.console import Console

from taskmaster.bus.errors import CallerError, DaemonError, StateUnwritable
from taskmaster.cli.demo import DEMOS, run_demo
from taskmaster.cli.demos.base import check_complete
from taskmaster.cli.demos.svm import ClassifierReport
from taskmaster.learners.client import Run, connect

#: Seconds for each test, several times what it takes.
pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
#: Of the demo's 300, so that a test takes seconds.
POINTS = 24


def points_of(table: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """The points in the order of their indices, as written."""
    return [(row["index"], row["log_C"], row["log_gamma"]) for row in table]


@dataclass(frozen=True)
class Undisturbed:
    """A demo that nobody disturbs, what it printed and what it measured."""

    report: ClassifierReport
    printed: str
    table: list[dict[str, str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    console = Console(file=io.StringIO(), width=80)
    report = run_demo("svm", tmp_path_factory.mktemp("undisturbed"), points=POINTS, headless=True, console=console)
    assert isinstance(console.file, io.StringIO)
    assert isinstance(report, ClassifierReport)
    return Undisturbed(report, console.file.getvalue(), read_table(report.table))


@pytest.fixture
def demo(place: Path) -> Iterator[DemoProcess]:
    """A demo under way, with a state folder of its own to be watched in."""
    process = DemoProcess(place, "svm", POINTS, state=place / "state")
    yield process
    process.close()


def wait_for_results(run: Run, n: int) -> None:
    for _ in range(n):
        run.results.get(timeout=60)


def test_a_demo_evaluates_its_points_and_shows_the_best(undisturbed: Undisturbed) -> None:
    report, table = undisturbed.report, undisturbed.table

    assert (report.points, report.failed, report.restarts) == (POINTS, 0, 0)
    assert [int(row["index"]) for row in table] == list(range(POINTS))
    assert len({(row["log_C"], row["log_gamma"]) for row in table}) == POINTS
    assert len({row["worker"] for row in table}) == 2, "both workers had a share"
    assert report.accuracy == max(float(row["accuracy"]) for row in table)
    assert report.accuracy > 0.95, "a support-vector classifier can do this"
    best = next(row for row in table if float(row["accuracy"]) == report.accuracy)
    assert report.best == {"log_C": float(best["log_C"]), "log_gamma": float(best["log_gamma"])}


def test_what_it_found_is_printed_with_the_files_that_hold_it(undisturbed: Undisturbed) -> None:
    report, printed = undisturbed.report, undisturbed.printed
    assert f"{POINTS}/{POINTS} points" in printed
    assert ", none lost, none twice." in printed
    assert f"Best: accuracy {report.accuracy:.4f} at log_C = {report.best['log_C']:.2f}" in printed
    assert report.picture.is_absolute()
    assert f"Map:   {report.picture}\n" in printed
    assert f"Table: {report.table}\n" in printed


def test_the_map_is_a_picture_in_colours(undisturbed: Undisturbed) -> None:
    with Image.open(undisturbed.report.picture) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1200, 900)
        assert len(picture.convert("RGB").getcolors(1 << 21) or ()) > 500


def test_a_daemon_that_is_killed_twice_changes_nothing(demo: DemoProcess, undisturbed: Undisturbed) -> None:
    with connect(demo.address, timeout=30) as lab:
        run = lab["svm"].watch("demo")
        for _ in range(2):
            wait_for_results(run, POINTS // 4)
            os.kill(lab.status().pid, signal.SIGKILL)
        wait_for_results(run, POINTS - 2 * (POINTS // 4))
    printed = demo.finish()

    assert demo.process.returncode == 0, printed
    assert printed.count("The daemon was killed; started again") == 2
    assert "over 2 restarts of the daemon" in printed
    assert points_of(read_table(demo.output / "svm.csv")) == points_of(undisturbed.table)
    assert [row["accuracy"] for row in read_table(demo.output / "svm.csv")] == [
        row["accuracy"] for row in undisturbed.table
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_whoever_ends_it_is_told_so_and_nothing_is_left_behind(number: signal.Signals, place: Path) -> None:
    demo = DemoProcess(place, "svm", 10_000)
    try:
        with connect(demo.address, timeout=30) as lab:
            wait_for_results(lab["svm"].watch("demo"), 4)
        family = demo.family()
        assert len(family) == 4, "the demo, its daemon and two workers"
        demo.interrupt(number)
        printed = demo.finish()
        _, alive = psutil.wait_procs(family, timeout=10)
    finally:
        demo.close()

    assert alive == []
    assert "Interrupted after" in printed
    assert "of 10000 points" in printed
    assert list(demo.temporary.iterdir()) == [], "its state was temporary"
    assert demo.process.returncode != 0


def test_a_killed_demo_takes_its_processes_and_its_state_along(place: Path) -> None:
    demo = DemoProcess(place, "svm", 10_000)
    try:
        with connect(demo.address, timeout=30) as lab:
            wait_for_results(lab["svm"].watch("demo"), 4)
        family = demo.family()
        [state] = demo.temporary.iterdir()
        used = sum(file.stat().st_blocks * 512 for file in state.rglob("*"))
        demo.process.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
    finally:
        demo.close()

    assert len(family) == 4
    assert alive == []
    assert used < 32e6, "it keeps back the room that a demo needs, not that of a laboratory"
    assert list(demo.temporary.iterdir()) == []


def test_an_interrupted_demo_goes_on_in_its_state_folder(
    demo: DemoProcess, place: Path, undisturbed: Undisturbed
) -> None:
    with connect(demo.address, timeout=30) as lab:
        wait_for_results(lab["svm"].watch("demo"), POINTS // 2)
    demo.interrupt()
    assert "What was measured is kept" in demo.finish()

    began = time.time()
    report = run_demo("svm", place / "again", points=POINTS, state=place / "state", headless=True)
    table = read_table(report.table)

    assert points_of(table) == points_of(undisturbed.table)
    kept = [row for row in table if float(row["finished"]) < began]
    assert len(kept) >= POINTS // 2, "what was measured before is not measured again"


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([(1, 0), (2, 2)], r"lost \[1\], twice \[\]"),
        ([(1, 0), (2, 1), (3, 1), (4, 2)], r"lost \[\], twice \[1\]"),
        ([(1, 0), (1, 1), (2, 2)], r"in the order \[1, 1, 2\]"),
    ],
)
def test_that_nothing_is_lost_or_twice_is_looked_at_before_it_is_said(
    results: list[tuple[int, int]], problem: str
) -> None:
    check_complete([(1, 2), (2, 0), (5, 1)], 3)
    with pytest.raises(DaemonError, match=problem):
        check_complete(results, 3)


def test_what_there_is_no_demo_of_is_said_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"no demo 'smv'; did you mean 'svm'\?"):
        run_demo("smv", tmp_path)


def test_a_folder_that_cannot_be_made_is_said_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = tmp_path / "file" / "out"
    with pytest.raises(CallerError, match=rf"^the output folder {wrong} cannot be made \(Not a directory\); .* by -o$"):
        run_demo("svm", wrong)
    with pytest.raises(StateUnwritable, match=rf"^the state folder {wrong} cannot be made .* by --state$"):
        run_demo("svm", tmp_path, state=wrong)


def test_a_daemon_that_cannot_start_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.db").mkdir()
    with pytest.raises(Exception, match="journal"):
        run_demo("svm", tmp_path / "out", points=4, state=tmp_path / "state", headless=True)


@pytest.mark.parametrize("name", sorted(DEMOS))
def test_every_demo_has_words_and_a_shipped_configuration(name: str) -> None:
    assert DEMOS[name].question.endswith("?")
    assert (ROOT / "config" / "examples" / f"{DEMOS[name].config}.toml").is_file()
