"""A recorded run as a file of each format, read back by the libraries that people read them with."""

from __future__ import annotations

import csv
import datetime
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Program, taskmaster
from helpers.daemon import Daemon, function
from helpers.documents import document, section, tables
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

from taskmaster.learners.client import Lab, Run

XS = [2.0, -1.0, 3.0, 0.5]
COLUMNS = ["index", "seq", "x", "peak", "trace", "outcome", "error", "worker", "attempt", "started", "finished"]
BAD = 'ValueError: -1.0 is negative, and that is "bad"'
#: Values of any form, as a Master without declarations takes them.
VALUES: list[Any] = [1, "text, with a comma", None, [1, [2.5]], {"a": True, "b": float("nan")}, 2**70, 1 + 2j]


@pytest.fixture(scope="module")
def daemon(start_shared_daemon: StartDaemon) -> Daemon:
    masters = {
        "probe": function(
            "spectrum",
            parameters={"x": {"unit": "mm", "min": -10, "max": 10, "description": "position"}},
            outputs={"peak": {"unit": "V"}, "trace": {"unit": "mV", "shape": [3]}},
        ),
        "echo": function("echo"),
        "square": function("square", parameters={"x": {}}, outputs={"y": {}}),
    }
    return start_shared_daemon(masters)


@pytest.fixture(scope="module")
def lab(daemon: Daemon) -> Iterator[Lab]:
    with daemon.connect() as lab:
        yield lab


@pytest.fixture(scope="module")
def spectra(lab: Lab) -> Run:
    """Three that are done, one that failed, one that was cancelled."""
    with lab["probe"].open("spectra", seed=2**62, metadata={"sample": "Au(111)"}) as run:
        for x in XS:
            run.tasks.put({"x": x})
            run.results.get(PATIENCE)
        lab["probe"].pause()
        run.tasks.put({"x": 7.0})
        run.cancel()
        run.results.get(PATIENCE)
        lab["probe"].resume()
    return run


@pytest.fixture(scope="module")
def barren(lab: Lab) -> Run:
    """One that failed, and nothing else."""
    with lab["probe"].open("barren") as run:
        run.tasks.put({"x": XS[1]})
        assert run.results.get(PATIENCE).outcome == "failed"
    return run


@pytest.fixture(scope="module")
def odd(lab: Lab) -> Run:
    with lab["echo"].open("odd") as run:
        for value in VALUES:
            run.tasks.put(value)
            run.results.get(PATIENCE)
    return run


@pytest.fixture
def typed(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("TASKMASTER", daemon.address)
    return Program(capsys, monkeypatch)


def exported(typed: Program, run: Run, file: Path) -> Path:
    said = typed("runs", "export", f"{run.master.name}/{run.name}", "-o", file)
    rows = len(XS) + 1 if run.name == "spectra" else len(VALUES)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"{file}: {rows} rows of run ")
    return file


def test_the_columns_are_the_documented_ones() -> None:
    [table] = tables(section(document("docs/cli.md"), "Of results"))
    names = [row[0] for row in table]
    assert [name for name in names if not name.startswith("*")] == [
        name for name in COLUMNS if name not in ("x", "peak", "trace")
    ]


def test_csv(typed: Program, spectra: Run, tmp_path: Path) -> None:
    with open(exported(typed, spectra, tmp_path / "run.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [float(row["x"]) for row in rows] == [*XS, 7.0]
    assert [row["peak"] for row in rows] == ["4.0", "", "9.0", "0.25", ""]
    assert json.loads(rows[0]["trace"]) == [0.0, 1.0, 2.0]
    assert [row["outcome"] for row in rows] == ["done", "failed", "done", "done", "cancelled"]
    assert [row["error"] for row in rows] == ["", BAD, "", "", ""]
    assert [row["attempt"] for row in rows] == ["1", "1", "1", "1", ""]
    assert all(float(row["started"]) <= float(row["finished"]) for row in rows[:4])


def test_json_lines(typed: Program, spectra: Run, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in exported(typed, spectra, tmp_path / "run.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [COLUMNS] * 5
    assert rows[0]["trace"] == [0.0, 1.0, 2.0]
    assert (rows[1]["peak"], rows[1]["trace"], rows[1]["error"]) == (None, None, BAD)
    assert (rows[4]["worker"], rows[4]["attempt"], rows[4]["started"]) == (None, None, None)
    assert rows[2]["worker"].startswith("probe-")


def test_parquet(typed: Program, spectra: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(exported(typed, spectra, tmp_path / "run.parquet"))
    assert table.column_names == COLUMNS
    rows = table.to_pylist()
    assert [row["peak"] for row in rows] == [4.0, None, 9.0, 0.25, None]
    assert rows[2]["trace"] == [0.0, 1.5, 3.0]
    assert (rows[1]["error"], rows[1]["trace"]) == (BAD, None)
    age = datetime.datetime.now(datetime.UTC) - rows[0]["started"]
    assert datetime.timedelta(0) < age < datetime.timedelta(minutes=10)
    assert table.schema.field("x").metadata == {
        b"units": b"mm", b"long_name": b"position", b"valid_min": b"-10.0", b"valid_max": b"10.0",
    }  # fmt: skip
    assert table.schema.field("trace").metadata == {b"units": b"mV"}
    about = table.schema.metadata
    assert (about[b"master"], about[b"run"], about[b"metadata.sample"]) == (b"probe", b"spectra", b"Au(111)")
    assert int(about[b"seed"]) == 2**62


def test_netcdf(typed: Program, spectra: Run, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(exported(typed, spectra, tmp_path / "run.nc"), engine="h5netcdf") as data:
        assert {*data.variables} == {*COLUMNS}
        np.testing.assert_array_equal(data["x"], [*XS, 7.0])
        np.testing.assert_array_equal(data["peak"], [4.0, np.nan, 9.0, 0.25, np.nan])
        assert data["trace"].dims == ("task", "trace_0")
        np.testing.assert_array_equal(data["trace"][3], [0.0, 0.25, 0.5])
        assert data["trace"][1].isnull().all()
        assert list(data["error"].values) == ["", BAD, "", "", ""]
        assert data["x"].attrs == {"units": "mm", "long_name": "position", "valid_min": -10.0, "valid_max": 10.0}
        assert data["peak"].attrs["units"] == "V"
        assert np.issubdtype(data["started"].dtype, np.datetime64)
        assert (data["finished"] - data["started"])[:4].min() >= np.timedelta64(0)
        assert (data.attrs["master"], data.attrs["metadata.sample"]) == ("probe", "Au(111)")
        assert int(data.attrs["seed"]) == 2**62


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "netcdf"])
def test_a_run_without_a_success_has_the_columns_that_are_declared(
    form: str, typed: Program, barren: Run, tmp_path: Path
) -> None:
    file = tmp_path / "run"
    said = typed("runs", "export", "probe/barren", "-o", file, "--format", form)
    assert (said.status, said.err) == (0, "")
    if form == "csv":
        assert file.read_text().splitlines()[0].split(",") == COLUMNS
    elif form == "jsonl":
        row = json.loads(file.read_text())
        assert (list(row), row["peak"], row["trace"]) == (COLUMNS, None, None)
    elif form == "parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(file)
        assert (table.column_names, table.column("peak").to_pylist()) == (COLUMNS, [None])
        assert str(table.schema.field("peak").type) == "double"
    else:
        with pytest.importorskip("xarray").open_dataset(file, engine="h5netcdf") as data:
            assert {"x", "peak", "trace"} <= set(data.variables)


def test_values_of_any_form_are_in_every_format(typed: Program, odd: Run, tmp_path: Path) -> None:
    lines = exported(typed, odd, tmp_path / "run.jsonl").read_text().splitlines()
    plain = [*VALUES[:4], {"a": True, "b": "NaN"}, 2**70, {"real": 1.0, "imag": 2.0}]
    assert [json.loads(line)["output"] for line in lines] == plain
    with open(exported(typed, odd, tmp_path / "run.csv"), newline="", encoding="utf-8") as file:
        cells = [row["input"] for row in csv.DictReader(file)]
    assert cells[:3] == ["1", "text, with a comma", ""]
    assert [json.loads(cell) for cell in cells[3:]] == plain[3:]
    parquet = pytest.importorskip("pyarrow.parquet")
    values = parquet.read_table(exported(typed, odd, tmp_path / "run.parquet"))["output"].to_pylist()
    assert [value and json.loads(value) for value in values] == plain
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(exported(typed, odd, tmp_path / "run.nc"), engine="h5netcdf") as data:
        assert [json.loads(value) if value else None for value in data["output"].values] == plain


def test_a_run_of_many_tasks_is_written_as_it_is_read(typed: Program, lab: Lab, tmp_path: Path) -> None:
    xs = np.random.default_rng(1).uniform(-1e3, 1e3, 100_000)
    with lab["square"].open("many") as run:
        run.tasks.put_many(xs)
        for _ in run.results:
            pass
    for name in ("many.csv", "many.parquet"):
        assert typed("runs", "export", "many", "-o", tmp_path / name).out.startswith(f"{tmp_path / name}: 100000 rows")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "many.parquet", columns=["index", "x", "y"])
    order = np.argsort(table["index"])
    np.testing.assert_array_equal(np.asarray(table["x"])[order], xs)
    assert np.asarray(table["y"])[order].tolist() == [x**2 for x in xs.tolist()]
    assert parquet.ParquetFile(tmp_path / "many.parquet").num_row_groups > 1
    with open(tmp_path / "many.csv", encoding="utf-8") as file:
        assert sum(1 for _ in file) == 100_001


# -- where it goes ----------------------------------------------------------------------------------------------------


def test_without_a_file_it_goes_to_standard_output(daemon: Daemon, spectra: Run) -> None:
    said = taskmaster("runs", "export", "probe/spectra", TASKMASTER=daemon.address)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0] == ",".join(COLUMNS)
    said = taskmaster("runs", "export", "probe/spectra", "--format", "jsonl", "-o", "-", TASKMASTER=daemon.address)
    assert [list(json.loads(line)) for line in said.out.splitlines()] == [COLUMNS] * 5


def test_tasks_without_an_outcome_are_left_out_and_counted(typed: Program, lab: Lab, tmp_path: Path) -> None:
    lab["probe"].pause()
    with lab["probe"].open("unfinished") as run:
        run.tasks.put({"x": 1.0})
    said = typed("runs", "export", "unfinished", "-o", tmp_path / "run.csv")
    assert said.status == 0
    assert said.out.startswith(f"{tmp_path}/run.csv: 0 rows")
    assert said.err == "taskmaster: 1 task without an outcome yet left out\n"
    for name in ("run.jsonl", "run.parquet", "run.nc"):
        assert typed("runs", "export", "unfinished", "-o", tmp_path / name).status == 0, "none is no mistake"
    lab["probe"].resume()


def test_a_file_is_replaced_when_it_is_complete_and_left_alone_otherwise(
    typed: Program, spectra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.parquet"
    file.write_text("what was there")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = typed("runs", "export", "spectra", "-o", file)
    assert said.status == 1
    assert said.err.startswith("taskmaster: Parquet needs pyarrow (")
    assert said.err.endswith("): pip install pyarrow (it is in the extra 'parquet')\n")
    monkeypatch.setitem(sys.modules, "xarray", None)
    said = typed("runs", "export", "spectra", "-o", tmp_path / "run.nc")
    assert said.err.endswith("): pip install xarray h5netcdf (they are in the extra 'netcdf')\n")
    assert file.read_text() == "what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"], "nothing half done lies about"
    assert typed("runs", "export", "spectra", "--format", "csv", "-o", file).status == 0
    assert file.read_text().startswith("index,seq,")
    assert stat.S_IMODE(file.stat().st_mode) & 0o044, "readable as any file that is made here"


@pytest.mark.parametrize(
    ("file", "form", "message", "status"),
    [
        ("run.xls", None, "'run.xls' does not say in which format to write", 2),
        ("run.cvs", None, "did you mean '.csv'?", 2),
        ("run.csv", "excel", "cannot write format 'excel'; there are 'csv', 'jsonl', 'parquet', 'netcdf'", 2),
        ("nowhere/run.csv", None, "there is no folder nowhere", 1),
    ],
)
def test_what_cannot_be_written_is_said(
    file: str, form: str | None, message: str, status: int, typed: Program, spectra: Run
) -> None:
    said = typed("runs", "export", "spectra", "-o", file, *(("--format", form) if form else ()))
    assert (said.status, said.out) == (status, "")
    assert message in said.err
    assert len(said.err.splitlines()) == 1
