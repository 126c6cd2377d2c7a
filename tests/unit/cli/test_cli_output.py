"""What is printed: tables, figures, values, results, logs."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from taskmaster.bus.status import DaemonStatus, DeviceStatus, HeadInfo, JournalStatus, MasterStatus, WorkerStatus
from taskmaster.cli import journald, output
from taskmaster.cli.heads_view import heads_table
from taskmaster.cli.logs import log_to_stderr
from taskmaster.cli.output import (
    Cell,
    Table,
    duration,
    number,
    print_json,
    print_line,
    print_table,
    say,
    say_aside,
    shortened,
    value_text,
)
from taskmaster.cli.views import Rates, devices_table, rate_text, troubles

RUNS = Table(
    [">run", "name", "state"],
    [["7", "a-rather-long-name", Cell("open", "green")], ["12", "b", Cell("closed", "dim")]],
    elastic=("name",),
)


def test_a_table_in_a_pipe_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(RUNS)
    assert capsys.readouterr().out.splitlines() == [
        "run  name                state",
        "  7  a-rather-long-name  open",
        " 12  b                   closed",
    ]


def test_that_a_head_is_safe_is_not_said_where_nothing_makes_it_so() -> None:
    safe = HeadInfo("stm", "tip-1", "stopped", safe=True)
    heads = [safe, replace(safe, safe=False), replace(safe, has_safe_state=False)]
    table = heads_table(heads, {"stm": {}})
    column = table.headings.index("safe")
    assert [row[column] for row in table.rows] == ["yes", "", "none"]


def test_columns_that_can_give_way_do_so_where_there_is_little_room() -> None:
    assert RUNS.widths() == [3, 18, 6]
    assert RUNS.widths(100) == [3, 18, 6]
    assert RUNS.widths(28) == [3, 15, 6]
    assert RUNS.widths(10) == [3, 12, 6], "names are left what tells them apart"


def test_columns_that_matter_less_are_left_out_where_they_have_no_room() -> None:
    table = Table(
        ["worker", ">slots", "state"],
        [["svm-29310", "1", "idle"], ["svm-29311", "1", "busy"]],
        elastic=("worker",),
        dispensable=("slots", "state"),
    )
    assert table.fitted(23).headings == ["worker", ">slots", "state"]
    assert table.fitted(22).headings == ["worker", "state"]
    assert table.fitted(22).rows == [["svm-29310", "idle"], ["svm-29311", "busy"]]
    assert table.fitted(5).headings == ["worker"]


def test_a_long_name_keeps_both_its_ends() -> None:
    """The names of workers of a Master begin alike: cut off at their end they would all be the same."""
    assert shortened("resonance-6614", 12) == "reson…e-6614"
    assert shortened("svm-6614", 8) == "svm-6614"
    assert [len(shortened("resonance-6614", limit)) for limit in range(1, 15)] == list(range(1, 15))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        ({"log_C": 0.5, "log_gamma": -3.0}, "log_C=0.5 log_gamma=-3"),
        ([1, 2.5, "a"], "[1, 2.5, a]"),
        (np.array([1.0, 2.0]), "[1, 2]"),
        (np.zeros((3, 4)), "<float64 array of shape (3, 4)>"),
        (np.float32(0.5), "0.5"),
        ("two\nlines", "two lines"),
        ("x" * 80, "x" * 59 + "…"),
        (None, "None"),
        (True, "True"),
    ],
)
def test_a_value_for_people_fits_on_a_line(value: object, text: str) -> None:
    assert value_text(value) == text


def test_figures_for_people() -> None:
    assert [duration(seconds) for seconds in (0.0, math.nan, math.inf, 90)] == ["–", "–", "–", "1 min 30 s"]
    assert [number(1234567.0), number(0.00012345)] == ["1.235e+06", "0.0001234"]
    assert [rate_text(None), rate_text(2.34), rate_text(1234.5)] == ["–", "2.3", "1234"]


def daemon(done: int, tasks: int, **master: object) -> DaemonStatus:
    worker = WorkerStatus("svm-1", "idle", tasks=tasks)
    shown = MasterStatus(
        "svm",
        "process",
        **{"state": "ready", "done": done, "workers": (worker,), **master},  # type: ignore[arg-type]
    )
    return DaemonStatus("lab", "1", 1, 1, 1.0, 1, JournalStatus("j", "power"), (shown,))


def test_rates_follow_from_two_looks() -> None:
    rates = Rates()
    rates.look(daemon(100, 10), 5.0)
    assert rates.masters == {}
    rates.look(daemon(120, 30), 7.0)
    assert (rates.masters, rates.workers) == ({"svm": 10.0}, {"svm/svm-1": 10.0})
    rates.look(daemon(160, 30), 9.0)
    assert (rates.masters, rates.workers) == ({"svm": 15.0}, {"svm/svm-1": 5.0}), "smoothed"
    rates.look(daemon(0, 0), 11.0)
    assert rates.masters["svm"] == 7.5, "a daemon that was started anew has not undone anything"


def test_a_row_says_what_a_device_has_done_in_the_latest_second() -> None:
    device = DeviceStatus("H200", 0.754, 4096, 7, 28_000, 0.002, 0.75, 8 << 30, 6 << 30)
    workers = (
        WorkerStatus("svm-1", "busy", device=device),
        WorkerStatus("svm-2", "idle"),
        WorkerStatus("svm-3", "idle", device=DeviceStatus("cpu")),
    )
    table = devices_table(daemon(0, 0, workers=workers).masters)
    assert table.rows == [
        ["svm", "svm-1", "H200", "75%", "4096", "7", "28000", "750 ms", "2 ms", "2.15 GB of 8.59 GB"],
        ["svm", "svm-3", "cpu", "0%", "0", "0", "0", "–", "–", "–"],
    ]


def test_troubles_name_the_remedy() -> None:
    [reason, held] = troubles(daemon(0, 0, state="crash loop", reason="no device", held=2))
    assert reason == "Master 'svm': no device; when that is mended: taskmaster resume svm"
    [going_on] = troubles(daemon(0, 0, reason="workers die"))
    assert going_on == "Master 'svm': workers die"
    assert held == "Master 'svm': 2 tasks are in doubt: taskmaster held svm"
    assert troubles(daemon(0, 0, held=1)) == ["Master 'svm': 1 task is in doubt: taskmaster held svm"]


# -- logs -------------------------------------------------------------------------------------------------------------


def log_from_here(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log go to standard error, in this form, as long as the test lasts."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    log_to_stderr("info", form)


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_logs_for_people_for_systemd_and_for_programs(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_from_here(form, monkeypatch)
    log = logging.getLogger("taskmaster.daemon")
    log.debug("not worth a line")
    log.warning("Master %r", "svm")
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("broken")
    first, *rest = capsys.readouterr().err.splitlines()
    if form == "text":
        assert first.endswith("warning daemon: Master 'svm'")
        assert rest[-1] == "    ValueError: odd"
        assert all(line.startswith("    ") for line in rest[1:]), "none passes for another entry"
    elif form == "journal":
        assert first == "<4>daemon: Master 'svm'"
        assert all(line.startswith("<3>") for line in rest), "every line of a traceback has its priority"
    else:
        assert json.loads(first).keys() == {"time", "level", "logger", "message", "pid"}
        assert json.loads(first)["message"] == "Master 'svm'"
        assert len(rest) == 1, "one object a line, tracebacks included"


HOSTILE = "x\n2026-11-22 14:00:00.000 info    daemon: audit: otto stop stm: done\r\n\x1b[31mred\x9b2J\u202e\tend"
TAMED = ["x", "2026-11-22 14:00:00.000 info    daemon: audit: otto stop stm: done", "\ufffd[31mred\ufffd2J\ufffd"]


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_what_a_peer_has_written_makes_no_entry_of_its_own(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_from_here(form, monkeypatch)
    logging.getLogger("taskmaster.supervision").warning("Master 'svm': %s", HOSTILE)
    said = capsys.readouterr().err
    lines = said.splitlines()
    if form == "json":
        [line] = lines
        lines = json.loads(line)["message"].splitlines()
    elif form == "journal":
        assert all(line.startswith("<4>    ") for line in lines[1:])
    else:
        assert all(line.startswith("    ") for line in lines[1:])
    assert [line[-len(tame) :] for line, tame in zip(lines, TAMED[:2])] == TAMED[:2]
    assert TAMED[2] in lines[2]
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_peer_has_written_gives_a_terminal_no_orders(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(Table(["worker", "host"], [["svm-1", HOSTILE], [Cell(HOSTILE), "h"]]))
    print_line(HOSTILE, HOSTILE)
    say(HOSTILE)
    say_aside(HOSTILE)
    said = capsys.readouterr()
    assert (said.out + said.err).replace("\n", "").isprintable()
    assert "worker" in said.out
    assert said.err.startswith("taskmaster: x\n2026")
    assert value_text({"said": HOSTILE}, 1000) == f"said={' '.join(' '.join(TAMED).split())} end"
    print_json({"said": HOSTILE})
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {"said": HOSTILE}, "programs get it as it is"


def test_systemds_journal_is_recognised(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        journald, "SOCKET", tmp_path / "none"
    )  # it is standard error that leads there, and nothing else
    status = os.fstat(sys.stderr.fileno())
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log_to_stderr("info", "auto")
    logging.getLogger("taskmaster.daemon").error("full")
    assert capfd.readouterr().err == "<3>daemon: full\n"
