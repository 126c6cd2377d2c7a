"""The files in `systemd/`: they are right, they protect as much as was promised, and they agree with each other."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from helpers.documents import ROOT, document, section, tables

from taskmaster.bus.errors import ConfigError, JournalDamaged, JournalTooNew
from taskmaster.bus.text import parse_duration
from taskmaster.cli.exits import USAGE, exit_code
from taskmaster.cli.journald import FIELDS
from taskmaster.cli.units import ALLOWANCES, DEVICES
from taskmaster.config.settings import DaemonSettings

UNITS = ROOT / "systemd"
SYSTEM = ("taskmaster.service", "taskmaster@.service", "taskmaster-worker@.service")
USER = ("taskmaster.service", "taskmaster@.service")
#: What a service may be exposed at most, in tenths, without devices and with them.
EXPOSED, EXPOSED_WITH_DEVICES = 12, 14
PROGRAM = "/usr/bin/env taskmaster"

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(path: Path) -> configparser.ConfigParser:
    """A unit; of what it has several times, the last."""
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(path)
    return parsed


def analyze(*words: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, which looks for units in ``folder`` first."""
    around = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:", "XDG_RUNTIME_DIR": str(folder), **environment}
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, env=around)


def lay_out(folder: Path, name: str, drop_ins: Sequence[str] = ()) -> Path:
    """A unit as it is installed, with drop-ins, and a program that there is."""
    file = folder / name.replace("@.", "@some.")
    file.write_text((UNITS / name).read_text().replace(PROGRAM, "/bin/true"))
    beside = folder / f"{file.name}.d"
    beside.mkdir()
    for drop_in in drop_ins:
        shutil.copy(UNITS / "drop-ins" / f"{drop_in}.conf", beside)
    return file


# -- protection -------------------------------------------------------------------------------------------------------


def exposure(folder: Path, name: str, drop_ins: Sequence[str] = ()) -> float:
    file = lay_out(folder, name, drop_ins)
    said = analyze("security", "--offline=true", "--no-pager", file.name, folder=folder).stdout
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", said)
    assert found, said
    return float(found[1])


@needs_analyze
@pytest.mark.parametrize("name", SYSTEM)
def test_without_devices_little_is_exposed(name: str, tmp_path: Path) -> None:
    assert exposure(tmp_path, name) * 10 <= EXPOSED


@needs_analyze
@pytest.mark.parametrize("kinds", [*combinations(DEVICES, 1), DEVICES], ids="+".join)
def test_with_devices_not_much_more(kinds: Sequence[str], tmp_path: Path) -> None:
    assert exposure(tmp_path, "taskmaster.service", kinds) * 10 <= EXPOSED_WITH_DEVICES


@needs_analyze
@pytest.mark.parametrize("kind", [*DEVICES, *ALLOWANCES])
def test_each_drop_in_allows_something(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert exposure(tmp_path / "a", "taskmaster.service", [kind]) > exposure(tmp_path / "b", "taskmaster.service")


# -- right ------------------------------------------------------------------------------------------------------------


@needs_analyze
@pytest.mark.parametrize("name", SYSTEM)
def test_systemd_has_nothing_to_say_against_a_unit(name: str, tmp_path: Path) -> None:
    file = lay_out(tmp_path, name, [*DEVICES, *ALLOWANCES])
    verified = analyze("verify", "--man=no", file.name, folder=tmp_path)
    assert file.name not in verified.stderr, verified.stderr


@needs_analyze
@pytest.mark.parametrize("name", USER)
def test_nor_against_a_users(name: str, tmp_path: Path) -> None:
    file = tmp_path / name.replace("@.", "@some.")
    file.write_text((UNITS / "user" / name).read_text().replace(PROGRAM, "/bin/true"))
    verified = analyze("--user", "verify", "--man=no", file.name, folder=tmp_path)
    assert file.name not in verified.stderr, verified.stderr


@pytest.mark.parametrize("path", [*(UNITS / name for name in SYSTEM[:2]), *(UNITS / "user" / name for name in USER)])
def test_the_daemons_unit_agrees_with_the_daemon(path: Path) -> None:
    service = unit(path)["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert int(service["WatchdogSec"]) > 0
    final = {USAGE, exit_code(ConfigError("")), exit_code(JournalDamaged("")), exit_code(JournalTooNew(""))}
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == final
    assert service["KillMode"] == "process", "what makes instruments safe outlives the daemon"
    assert int(service["TimeoutStopSec"]) > parse_duration(DaemonSettings.model_fields["grace"].default)
    # Three on the network, three more for who comes from this machine, and a few that are given up as addresses change.
    assert int(service["FileDescriptorStoreMax"]) >= 8
    assert f"FDSTORE={service['FileDescriptorStoreMax']}" in path.read_text()
    assert service["ExecStart"].startswith(f"{PROGRAM} serve ")


def test_one_of_several_daemons_is_as_the_only_one() -> None:
    """But for its name."""
    for folder in (UNITS, UNITS / "user"):
        one, several = ((folder / name).read_text().splitlines() for name in USER)
        named = [line.replace("-%i", "").replace("/%i", "").replace("%i", "taskmaster") for line in several]
        settings = [[line for line in lines if line and line[0] not in "#["] for lines in (one, named)]
        differing = set(settings[0]) ^ set(settings[1])
        differing = {
            line for line in differing if not line.startswith(("Description=", "Environment=STATE_DIRECTORY="))
        }
        differing = {line for line in differing if "etc/taskmaster" not in line and "%E" not in line}
        assert differing == set()


def test_workers_are_protected_as_the_daemon_is() -> None:
    heading = "# -- what it may do -"
    daemon, worker = ((UNITS / name).read_text().partition(heading)[2] for name in (SYSTEM[0], SYSTEM[2]))
    differing = set(_settings(daemon)) ^ set(_settings(worker))
    assert {line.partition("=")[0] for line in differing} == {"BindPaths"}, "each has a /tmp of its own"


def _settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and line[0] not in "#["]


def test_rules_of_devices_can_be_read() -> None:
    text = (UNITS / "udev/70-taskmaster.rules").read_text()
    token = r'[A-Z_]+(\{[^}]+\})?(==|!=|=|\+=|:=)"[^"]*"'
    for line in _settings(text):
        assert re.fullmatch(rf"{token}(, {token})*", line), line
    if shutil.which("udevadm") is None:
        return
    version = int(
        re.findall(r"\d+", subprocess.run(["udevadm", "--version"], capture_output=True, text=True).stdout)[0]
    )
    if version >= 254:
        verify = ["udevadm", "verify", "--resolve-names=never", str(UNITS / "udev/70-taskmaster.rules")]
        verified = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr


# -- documents --------------------------------------------------------------------------------------------------------

SERVICE = section(document("docs/operations.md"), "Install as a service")


def test_the_document_has_all_classes_of_devices() -> None:
    [rows] = tables(section(SERVICE, "Devices of instruments"))
    assert tuple(row[0] for row in rows) == DEVICES


def test_the_document_has_all_that_can_be_allowed() -> None:
    text = section(SERVICE, "What the service may do")
    assert set(re.findall(r"--allow (\w+)", text)) == set(ALLOWANCES)
    assert f"{EXPOSED / 10} (OK) without devices" in text
    assert f"{EXPOSED_WITH_DEVICES / 10} with" in text


def test_the_document_has_all_fields_of_the_journal() -> None:
    [rows] = tables(section(SERVICE, "What it says"))
    assert [(row[0], row[1].strip("`")) for row in rows] == [(name, what.strip("`")) for name, what in FIELDS.items()]
