"""What heads do and what was monitored, on the command line: in tables, lines and files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.cli import Terminal, taskmaster
from helpers.daemon import Daemon
from helpers.handheld import PROGRAM, HandHead, instrument
from helpers.places import short_folder
from helpers.waiting import eventually

from taskmaster.learners.client import Lab, Run

NOON = 1.7e9


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    monitor = {"temperature": {"unit": "K", "every": "1 s"}, "gauge": {"every": "1 s"}}
    with short_folder() as folder, ExitStack() as stack:
        daemon = Daemon(folder / "d", {"stm": instrument(4, **monitor)}, lost_after="5 min")
        stack.callback(daemon.close)
        daemon.launch(program=PROGRAM)
        daemon.await_note("READY=1")
        yield daemon


@pytest.fixture(scope="module")
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture(scope="module")
def surface(daemon: Daemon, lab: Lab) -> Iterator[Run]:
    """Three heads at work, one that has ended its task and has nothing to do."""
    with ExitStack() as stack:
        heads = [HandHead(daemon, f"tip-{k + 1}") for k in range(4)]
        for head in heads:
            stack.callback(head.close)
        eventually(lambda: all(info.state == "ready" for info in lab.heads()), "all heads to be ready")
        run = lab["stm"].open("surface-of-gold")
        run.tasks.put_many([{"x": float(x)} for x in range(4)])
        tasks = [head.task() for head in heads]
        for k, (head, task) in enumerate(zip(heads, tasks)):
            head.tell(task, NOON + k, current=1.25e-9 * (k + 1), phase="approach")
            head.sample(NOON + k, temperature=4.2 + k, gauge="ok")
        heads[3].end(tasks[3])
        eventually(lambda: len(lab.heads()[3].values) == 2, "samples to arrive")
        yield run


@pytest.fixture(autouse=True)
def address(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMASTER", daemon.address)


def test_heads_show_what_they_do_and_what_is_monitored(surface: Run) -> None:
    said = taskmaster("heads", "stm")
    assert said.status == 0
    heading, *lines = said.out.splitlines()
    assert heading.split()[6:10] == ["busy", "task", "progress", "values"]
    assert [line.split()[1:3] for line in lines] == [[f"tip-{k}", "busy"] for k in (1, 2, 3)] + [["tip-4", "ready"]]
    assert len(lines) == 4
    assert "temperature=4.2 K gauge=ok" in said.out
    assert "current=1.25e-09 A phase=approach" in said.out
    first = json.loads(taskmaster("heads", "stm", "--json").out)[0]
    assert first["values"]["temperature"] == {"value": 4.2, "time": NOON, "unit": "K"}
    assert first["task"]["progress"]["phase"] == "approach"


@pytest.mark.parametrize("columns", [80, 120])
def test_top_has_a_line_for_each_head(surface: Run, columns: int, tmp_path: Path) -> None:
    with Terminal("top", "--interval", "0.2", columns=columns) as terminal:
        terminal.await_text(r"\ntip-1 +busy +\d+ %")
        terminal.await_text(r"\ntip-4 ")
        for line in terminal.lines:
            assert len(line) <= columns
        (line,) = {line for line in terminal.lines if line.startswith("tip-1")}
        assert "current=1.25e" in line
        assert "gauge=ok" in line
        print(terminal.text)
        terminal.press("q")
        assert terminal.wait() == 0


def test_watch_shows_heads_below_results_and_progress_if_asked_for(surface: Run) -> None:
    with Terminal("watch", "stm", columns=100) as terminal:
        terminal.await_text(r"tip-1 +busy")
        terminal.await_text("current=1.25e-09 A")
        terminal.await_text(r"x=\d +→ 1 A")
        terminal.press("\x03")
        terminal.wait()
    with Terminal("watch", "stm", "--progress", columns=100) as terminal:
        terminal.await_text(r"\n\d  2023-11-14 \d\d:13:20  current=1.25e-09 A phase=approach")
        terminal.press("\x03")
        terminal.wait()


def test_progress_and_samples_are_written_as_tables(surface: Run, tmp_path: Path) -> None:
    said = taskmaster("runs", "export", "stm/surface-of-gold", "--progress")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(row["index"], row["attempt"], row["phase"]) for row in rows] == [
        (str(k), "1", "approach") for k in range(4)
    ]
    assert sorted(float(row["current"]) for row in rows) == [1.25e-9 * (k + 1) for k in range(4)]
    file = tmp_path / "samples.parquet"
    said = taskmaster("samples", "stm", "--name", "temperature", "-o", file)
    assert said.out == f"{file}: 4 rows of Master stm\n"
    table = pq.read_table(file)
    assert table["head"].to_pylist() == [f"tip-{k + 1}" for k in range(4)]
    assert table["value"].to_pylist() == [4.2, 5.2, 6.2, 7.2]
    assert table["time"].to_pylist()[0].timestamp() == NOON
    said = taskmaster("samples", "stm", "--head", "tip-2", "--format", "jsonl", "--since", "2023-01-01")
    assert [json.loads(line)["value"] for line in said.out.splitlines()] == ["ok", 5.2]
    assert taskmaster("samples", "stm", "--since", "1 h").out == "head,name,time,value\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["samples", "stm", "--since", "yesterday"], "must be a time"),
        (["samples", "stm", "--head", "tip-9"], "did you mean 'tip-"),
        (["samples", "stm", "--name", "temprature"], "did you mean 'temperature'?"),
        (["samples", "stm", "--format", "netcdf"], "cannot write a series in format netcdf"),
        (["samples", "stn"], "did you mean 'stm'?"),
        (["runs", "export", "stm/surface-of-gold", "--progress", "--format", "parquet"], "goes to a file"),
    ],
)
def test_mistakes_are_named(surface: Run, arguments: list[str], words: str) -> None:
    said = taskmaster(*arguments)
    assert words in said.err
