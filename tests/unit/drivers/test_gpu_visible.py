"""Which devices there are, and by what numbers: the same for those who ask, and for the workers that get them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taskmaster.cli.devicecheck import look, print_looked
from taskmaster.config.load import read
from taskmaster.drivers.gpu import visible


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


def answering(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has another program be asked."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_devices_are_counted_as_by_nvidia_smi_unless_somebody_has_counted_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert visible.counting() == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert visible.counting() == {}
    assert visible.environment_of(1) == {visible.NUMBER: "1", "CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")  # by CUDA's own count: another would make others of them
    assert visible.counting() == {}
    assert visible.environment_of(1) == {visible.NUMBER: "1", "CUDA_VISIBLE_DEVICES": "1"}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo first >&2; echo last >&2; exit 3", "ended: last"),
        ("kill -SEGV $$", "was killed by signal 11"),
        ("echo nonsense", "Expecting value"),
        ("exec sleep 60", "has not answered within 0.5 s"),
    ],
)
def test_a_driver_that_crashes_or_hangs_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    answering(script, tmp_path, monkeypatch)
    with pytest.raises(visible.Unanswered, match=why):
        visible.ask_devices({}, 0.5)
    file = tmp_path / "lab.toml"
    file.write_text('[masters.m]\ndriver = "gpu"\nfunction = "m:f"\nparameters = { a = {} }\n')
    config = read(file).config
    assert config is not None
    [looked] = look(config, (), 0.5)
    assert looked.problem.startswith("which devices there are cannot be found out: ")
    assert why in looked.problem


def test_devices_are_shown_and_those_that_are_missing_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = '{"number": 0, "name": "Card", "memory": 8589934592, "capability": "9.0"}'
    said = f'{{"devices": [{device}], "driver": "1.2", "cuda": "12.4", "cupy": "13.3", "problem": ""}}'
    answering(f"echo '{said}'", tmp_path, monkeypatch)
    file = tmp_path / "lab.toml"
    file.write_text('[masters.m]\ndriver = "gpu"\nfunction = "m:f"\nparameters = { a = {} }\ndevices = [0, 1]\n')
    config = read(file).config
    assert config is not None
    [looked] = look(config, (), 30)
    print_looked([looked])
    printed = capsys.readouterr().out
    for word in ("Card", "8.59 GB", "9.0", "1.2", "12.4", "13.3", "Master 'm': devices = [0, 1]: there is no device 1"):
        assert word in printed
    assert looked.problem == "devices = [0, 1]: there is no device 1; there are 0"
    assert [found["name"] for found in looked.devices] == ["Card"]
    assert looked.versions == {"driver": "1.2", "cuda": "12.4", "cupy": "13.3"}


def test_who_cannot_be_asked_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering("exit 1", tmp_path, monkeypatch)
    visible.count_devices.cache_clear()
    assert visible.count_devices() == 0
    visible.count_devices.cache_clear()
