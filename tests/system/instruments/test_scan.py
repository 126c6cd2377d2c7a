"""``taskmaster scan``: what is there is asked who it is, but for serial ports, and what a daemon uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Program
from helpers.documents import document, section, tables

from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.scan import identity_pattern, serial_port
from taskmaster.drivers.simulated import Laboratory


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(capsys, monkeypatch)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with Laboratory("probe", heads=3, settling=0, pty=tmp_path_factory.mktemp("tty")) as laboratory:
        yield laboratory


#: The exit code for instruments.
TROUBLE = 12


def found(out: str) -> dict[str, dict[str, Any]]:
    return {one["resource"]: one for one in json.loads(out)["resources"]}


def test_places_on_the_network(probe: Laboratory, typed: Program) -> None:
    """One that answers, one that is in use, one that says nothing."""
    first, second, third = probe.heads
    ports = ",".join(head.address.split(":")[1] for head in probe.heads)
    probe.control.fault("silence", third.name)
    try:
        with Claim(second.resource, "stm/tip-2 of a daemon"):
            said = typed("scan", "--local", "--tcp", f"127.0.0.1:{ports}", "--timeout", "0.5 s", "--json")
    finally:
        probe.control.clear()
    assert said.status == TROUBLE
    assert said.err == f"taskmaster: {third.resource} cannot be asked, or did not answer: see above\n"
    heads = found(said.out)
    [[(_, described), _]] = tables(section(document("docs/cli.md"), "Of `scan`"))
    assert all(f"`{key}`" in described for key in heads[first.resource])
    assert heads[first.resource]["identity"] == first.identity
    table = tomllib.loads("\n".join(heads[first.resource]["lines"]))
    assert table == {"driver": "visa", "resource": first.resource, "identity": "ACME,STM-HEAD,0001,.*"}
    assert "stm/tip-2 of a daemon" in heads[second.resource]["problem"]
    assert probe.control.actions(second.name).counts == {}
    assert "no complete answer in time" in heads[third.resource]["problem"]
    assert heads[third.resource]["lines"] == []
    assert all(action.kind == "query" for head in probe.heads for action in probe.control.actions(head.name).actions)


def test_a_serial_port_is_asked_when_that_is_wanted(probe: Laboratory, typed: Program) -> None:
    path = str(probe["tip-1"].pty)
    before = probe.control.actions("tip-1").counts.get("*IDN?", 0)
    said = typed("scan", "--local", "--port", path)
    assert said.status == 0, said.err
    assert re.search(rf"{path} +serial +– +not asked", said.out)
    assert probe.control.actions("tip-1").counts.get("*IDN?", 0) == before
    said = typed("scan", "--local", "--port", path, "--ask", "19200")
    assert f'driver = "serial"\nresource = "{path}"\nbaud_rate = 19200\nidentity = "ACME,STM-HEAD,0001,.*"' in said.out


def test_a_port_that_this_user_may_not_open(tmp_path: Path) -> None:
    """The remedy is told: the group, or the udev rule."""
    with tempfile.NamedTemporaryFile(prefix="ttyUSB", dir="/tmp") as device:
        os.chmod(device.name, 0)
        user = os.geteuid()
        if user == 0:  # whom nothing is denied
            os.seteuid(65534)
        try:
            problem = serial_port(device.name).problem
        finally:
            os.seteuid(user)
    assert "may not open" in problem
    assert "udev rule" in problem or "usermod -aG" in problem
    assert serial_port(str(tmp_path / "none")).problem == f"there is no {tmp_path / 'none'}; is it plugged in?"


def test_a_port_that_is_not_there_is_an_error_where_it_was_named(typed: Program, tmp_path: Path) -> None:
    """What a scan says does not send anybody to the scan."""
    path = tmp_path / "file"
    path.touch()
    said = typed("scan", "--local", "--port", str(path), "--ask", "9600")
    assert said.status == TROUBLE
    assert f"{path} is no serial port" in said.out
    assert "taskmaster scan" not in said.out
    notes = [line for line in said.err.splitlines() if line.startswith("note: to look for instruments on ")]
    assert all("pip install" in note for note in notes)
    assert "Please install" not in said.err
    said = typed("scan", "--local", "--port", str(tmp_path / "none"))
    assert said.status == TROUBLE
    assert said.err.endswith(f"taskmaster: {tmp_path / 'none'} cannot be asked, or did not answer: see above\n")


MUTE = "USB0::0x1111::0x2222::S1::0::INSTR"
#: In pyvisa-sim's language: a meter, and something that has no identity.
BENCH = """
spec: "1.1"
devices:
  meter:
    eom: {GPIB INSTR: {q: "\\n", r: "\\n"}, ASRL INSTR: {q: "\\n", r: "\\n"}}
    dialogues: [{q: "*IDN?", r: "SIM,METER 1.5,77,2"}]
  mute:
    eom: {USB INSTR: {q: "\\n", r: "\\n"}}
    dialogues: [{q: "VOLT?", r: "1"}]
resources:
  GPIB0::8::INSTR: {device: meter}
  USB0::0x1111::0x2222::S1::0::INSTR: {device: mute}
  ASRL2::INSTR: {device: meter}
"""


def test_the_resources_of_another_library(typed: Program, tmp_path: Path) -> None:
    """pyvisa-sim, as a vendor's would be: one that has no answer is listed, a serial line is not asked."""
    bench = tmp_path / "bench.yaml"
    bench.write_text(BENCH, encoding="utf-8")
    said = typed("scan", "--backend", f"{bench}@sim", "--timeout", "0.3 s", "--json")
    assert said.status == 0, said.err
    resources = found(said.out)
    meter, mute, line = (resources[name] for name in ("GPIB0::8::INSTR", MUTE, "ASRL2::INSTR"))
    assert (meter["identity"], meter["lines"][-1]) == ("SIM,METER 1.5,77,2", r"identity = 'SIM,METER 1\.5,77,.*'")
    assert f"'*IDN?': {MUTE}: no complete answer in time" in mute["problem"]
    assert (line["asked"], line["problem"]) == (False, "")


@pytest.mark.parametrize(
    ("identity", "pattern"),
    [
        ("ACME,STM-HEAD,0001,1.0", "ACME,STM-HEAD,0001,.*"),
        ("KEITHLEY INSTRUMENTS INC.,MODEL 2400,123,C30 (Mar)", r"KEITHLEY INSTRUMENTS INC\.,MODEL 2400,123,.*"),
        ("LSCI 1+1 [a]", r"LSCI 1\+1 \[a\]"),
        ("A,,,", "A,,,"),
    ],
)
def test_the_pattern_that_is_suggested_matches(identity: str, pattern: str) -> None:
    assert identity_pattern(identity) == pattern
    assert re.fullmatch(pattern, identity)


@pytest.mark.parametrize("line", ["--tcp 127.0.0.1:a", "--tcp a:99999", "--timeout soon", "--ask 3"])
def test_what_is_typed_wrongly(typed: Program, line: str) -> None:
    assert typed("scan", *line.split()).status == 2


def test_without_the_packages_it_says_which(tmp_path: Path) -> None:
    (tmp_path / "pyvisa.py").write_text("raise ModuleNotFoundError(\"No module named 'pyvisa'\", name='pyvisa')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "taskmaster", "scan", "--local"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install pyvisa pyvisa-py (they are in the extra 'instruments')" in done.stderr
