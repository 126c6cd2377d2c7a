"""``taskmaster install-service``: what it writes, and what it does not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from helpers.cli import Program

from taskmaster.cli import installation, networks
from taskmaster.cli.commands import install_service
from taskmaster.cli.installation import Installation, outermost, unreadable
from taskmaster.cli.installing import state_of
from taskmaster.cli.units import Service, UnitFile, is_ours, unit_files
from taskmaster.config.load import loads

HERE = Installation(("/opt/tm/bin/python", "-m", "taskmaster"), (), (Path("/opt/tm"), Path("/usr")))
HOME = Path("/home", "ada")
CONFIG = '[masters.square]\ndriver = "process"\nfunction = "math:sqrt"\n'


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    # Where the tests run is nobody's installation, and their folders are temporary ones.
    monkeypatch.setattr(install_service, "this_installation", lambda: HERE)
    monkeypatch.setattr(install_service, "is_temporary", lambda path: False)
    monkeypatch.setattr(install_service, "public_networks", list)
    return Program(capsys, monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(CONFIG)
    return path


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


UNIT = "etc/systemd/system/taskmaster.service"


def test_it_writes_what_a_service_takes(program: Program, config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    said = program(
        "install-service", "--config", config, "--root", root, "--devices", "serial,gpib", "--allow", "internet"
    )
    assert said.status == 0, said.err
    files = contents(root)
    assert list(files) == [
        UNIT,
        f"{UNIT}.d/10-site.conf",
        f"{UNIT}.d/20-gpib.conf",
        f"{UNIT}.d/20-internet.conf",
        f"{UNIT}.d/20-serial.conf",
        "etc/sysusers.d/taskmaster.conf",
        "etc/tmpfiles.d/taskmaster.conf",
        "etc/udev/rules.d/70-taskmaster.rules",
    ]
    assert "ExecStart=/opt/tm/bin/python -m taskmaster serve /etc/taskmaster/taskmaster.toml\n" in files[UNIT]
    assert f"ExecStart=/opt/tm/bin/python -m taskmaster serve {config}\n" in files[f"{UNIT}.d/10-site.conf"]
    assert all(is_ours(text) for text in files.values())
    for name in files:
        assert f"{root / name}: " in said.out, "each is explained"
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o644
    assert "systemctl enable --now taskmaster " in said.out


def test_again_it_changes_nothing(program: Program, config: Path, tmp_path: Path) -> None:
    words = ("install-service", "--config", config, "--root", tmp_path / "root")
    program(*words)
    before = {path: path.stat().st_ino for path in (tmp_path / "root").rglob("*")}
    said = program(*words)
    assert {path: path.stat().st_ino for path in (tmp_path / "root").rglob("*")} == before
    assert "as it was" in said.out
    assert "All is as it should be" in said.out


def test_what_an_earlier_release_has_written_is_renewed(program: Program, config: Path, tmp_path: Path) -> None:
    words = ("install-service", "--config", config, "--root", tmp_path / "root")
    [unit, *_] = unit_files(Service(root=tmp_path / "root"), HERE, None)
    older = unit.text.partition("\n")[2].replace("WatchdogSec=30", "WatchdogSec=60")
    unit.path.parent.mkdir(parents=True)
    unit.path.write_text(f"# Written by taskmaster install-service, sha256 {_digest(older)}.\n{older}")
    said = program(*words)
    assert said.status == 0, said.err
    assert f"renewed    {unit.path}" in said.out
    assert "WatchdogSec=30" in unit.path.read_text()
    assert "systemctl restart taskmaster" in said.out


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_what_was_changed_by_hand_is_shown_and_left_alone(program: Program, config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    words = ("install-service", "--config", config, "--root", root)
    program(*words)
    unit = root / UNIT
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=300"))
    (root / "etc/tmpfiles.d/taskmaster.conf").unlink()
    before = contents(root)

    said = program(*words)
    assert said.status == 1
    assert f"{unit} is not as this command has written it; nothing was changed" in said.err
    assert "-WatchdogSec=300\n+WatchdogSec=30\n" in said.err
    assert contents(root) == before, "not even what is missing"

    assert "CHANGED BY HAND" in program(*words, "--dry-run").out
    assert program(*words, "--force").status == 0
    assert "WatchdogSec=300" not in unit.read_text()


def test_dry_it_writes_nothing(program: Program, config: Path, tmp_path: Path) -> None:
    said = program("install-service", "--config", config, "--root", tmp_path / "root", "--dry-run")
    assert said.status == 0
    assert not (tmp_path / "root").exists()
    assert "WatchdogSec=30" in said.out
    assert "(to be written)" in said.out


def test_it_is_taken_away_again(program: Program, config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("", "west", "east"):
        words = ["--name", name] if name else []
        assert program("install-service", "--config", config, "--root", root, "--devices", "serial", *words).status == 0

    assert program("install-service", "--root", root, "--name", "west", "--uninstall").status == 0
    left = contents(root)
    assert "etc/systemd/system/taskmaster@.service" in left, "east has the same unit"
    assert not [name for name in left if "west" in name]
    # A file of one's own is nobody's business.
    own = root / "etc/systemd/system/taskmaster@east.service.d/override.conf"
    own.write_text("[Service]\nNice=5\n")
    assert program("install-service", "--root", root, "--name", "east", "--uninstall").status == 0
    assert own.exists()
    own.unlink()
    own.parent.rmdir()
    assert UNIT in contents(root)
    changed = root / f"{UNIT}.d/20-serial.conf"
    changed.write_text(changed.read_text() + "# by hand\n")
    said = program("install-service", "--root", root, "--uninstall")
    assert f"left, as it was changed by hand (--force): {changed}" in said.out
    assert list(contents(root)) == [str(changed.relative_to(root))]
    assert program("install-service", "--root", root, "--uninstall", "--force").status == 0
    assert contents(root) == {}
    assert "is not installed" in program("install-service", "--root", root, "--uninstall").err


def test_workers_for_a_daemon_elsewhere(program: Program, tmp_path: Path) -> None:
    said = program("install-service", "--worker", "--name", "sim", "--root", tmp_path, "--devices", "gpu")
    assert said.status == 0, said.err
    files = contents(tmp_path)
    assert "/opt/tm/bin/python -m taskmaster worker $OPTIONS" in files["etc/systemd/system/taskmaster-worker@.service"]
    assert "etc/systemd/system/taskmaster-worker@sim.service.d/20-gpu.conf" in files
    assert "ADDRESS=tcp://" in said.out, "what to write is said"


def test_one_of_ones_own(program: Program, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "una"))
    said = program("install-service", "--user", "--config", config)
    assert said.status == 0, said.err
    folder = tmp_path / "una/.config/systemd/user"
    assert sorted(path.name for path in folder.iterdir()) == ["taskmaster.service", "taskmaster.service.d"]
    assert "systemctl --user enable --now taskmaster" in said.out
    assert "sysusers" not in said.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--worker"], "--worker needs a --name"),
        (["--worker", "--name", "a", "--user"], "do not go together"),
        (["--worker", "--name", "a", "--config", "x"], "takes no --config"),
        (["--user", "--devices", "serial"], "may use what you may use"),
        (["--devices", "serail"], "'serail' is none of them; did you mean 'serial'?"),
        (["--allow", "all"], "'all' is none of them; there are 'internet', 'processors'"),
        (["--name", "a b"], "letters, digits"),
        (["--name", "../x"], "letters, digits"),
    ],
)
def test_what_does_not_go_together_is_said(words: list[str], reason: str, program: Program, tmp_path: Path) -> None:
    said = program("install-service", *words, "--root", tmp_path)
    assert (said.status, contents(tmp_path)) == (2, {})
    assert reason in said.err


def test_who_may_not_is_told_what_to_do(program: Program, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = program("install-service", "--config", config)
    assert said.status == 1
    assert "type it with sudo, or have a service of your own with --user" in said.err


def test_without_a_configuration_there_is_nothing_to_serve(program: Program, tmp_path: Path) -> None:
    said = program("install-service", "--config", tmp_path / "lab" / "x.toml", "--root", tmp_path / "root")
    assert said.status == 3
    assert f"begin with `taskmaster init {tmp_path / 'lab'}`" in said.err
    (tmp_path / "x.toml").write_text("[daemon]\nnmae = 1\n")
    assert program("install-service", "--config", tmp_path / "x.toml", "--root", tmp_path / "root").status == 3
    assert not (tmp_path / "root").exists()


def test_a_program_that_is_gone_tomorrow_is_not_made_a_service(
    program: Program, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_service, "is_temporary", installation.is_temporary)
    moved = Installation(HERE.command, (), (Path("/tmp/venv"),))
    monkeypatch.setattr(install_service, "this_installation", lambda: moved)
    said = program("install-service", "--config", config, "--root", tmp_path / "root")
    assert said.status == 1
    assert "is in a folder for temporary files" in said.err


# -- what is so here --------------------------------------------------------------------------------------------------


def site(service: Service, here: Installation = HERE, text: str = CONFIG) -> list[str]:
    """The lines of the drop-in for what is so here."""
    files = unit_files(service, here, loads(text, folder="/usr"))
    [found] = [file.text for file in files if file.path.name == "10-site.conf"] or [""]
    return found.splitlines()[2:]


def test_an_installation_in_a_home_is_shown_and_nothing_else_of_it() -> None:
    home = Installation((f"{HOME}/venv/bin/python", "-m", "taskmaster"), (), (HOME / "venv", Path("/usr")))
    lines = site(Service(), home)
    assert lines[1:] == [
        "# Of homes it sees nothing but what is shown to it here.",
        "ProtectHome=tmpfs",
        f"BindReadOnlyPaths={HOME}/venv",
    ]
    assert site(Service()) == []


def test_folders_that_it_writes_to_are_opened() -> None:
    lines = site(Service(writable=[Path("/data/a b"), HOME / "out"]), text=f'[daemon]\nstate = "/srv/tm"\n{CONFIG}')
    assert 'ReadWritePaths="/data/a b"' in lines
    assert f"BindPaths={HOME}/out" in lines
    assert "ReadWritePaths=/srv/tm" in lines


def test_what_is_needed_of_the_environment_is_carried_over() -> None:
    here = Installation(("/usr/bin/python3", "-m", "taskmaster"), (Path("/opt/100% ours"),), (Path("/opt/100% ours"),))
    assert 'Environment="PYTHONPATH=/opt/100%% ours"' in site(Service(), here)


def test_its_own_key_stays_roots_and_is_handed_to_it(program: Program, tmp_path: Path) -> None:
    text = f'[daemon]\nkeys = "keys.toml"\nlisten = "tcp://0.0.0.0:5570"\n{CONFIG}'
    lines = site(Service(), text=text)
    assert "LoadCredential=daemon.key:/usr/daemon.key" in lines
    assert "SetCredential=daemon.key:none" in lines, "the daemon says what is missing, not systemd"
    assert "Wants=network-online.target" in lines
    config = tmp_path / "lab.toml"
    config.write_text(text)
    said = program("install-service", "--config", config, "--root", tmp_path / "root")
    assert f"the daemon's own keys are missing: taskmaster keys new --daemon --config {config}" in said.out
    assert "nobody may come yet: taskmaster keys allow NAME KEY --role ROLE" in said.out
    # Of a home it sees the folder of the keys: another file takes the place of theirs when they change.
    elsewhere = text.replace("keys.toml", f"{HOME}/keys.toml")
    assert f"BindReadOnlyPaths={HOME}" in site(Service(), text=elsewhere)


@pytest.mark.parametrize(
    ("name", "line"),
    [("", "z /run/taskmaster 2755 taskmaster lab"), ("west", "d /run/taskmaster/west 2750 taskmaster lab")],
)
def test_a_group_of_its_own_may_use_it(name: str, line: str, program: Program, config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    named = ["--name", name] if name else []
    words: list[str | Path] = ["install-service", "--config", config, "--root", root, *named]
    config.write_text(f'[daemon]\ngroup = "lab"\n{CONFIG}')
    said = program(*words)
    place = f"etc/tmpfiles.d/taskmaster@{name}.conf"
    assert line in contents(root)[place].splitlines()
    assert f"systemd-tmpfiles --create taskmaster@{name}.conf " in said.out
    assert "usermod -aG lab NAME" in said.out
    # Without it, it is the users' again.
    config.write_text(CONFIG)
    said = program(*words)
    assert place not in contents(root)
    assert f"took away  {root / place}" in said.out
    assert ("chgrp taskmaster-users /run/taskmaster/west" if name else "--create taskmaster.conf") in said.out
    config.write_text(f'[daemon]\ngroup = "lab"\n{CONFIG}')
    program(*words)
    assert program("install-service", "--root", root, *named, "--uninstall").status == 0
    assert contents(root) == {}


def test_a_daemon_on_a_network_waits_for_it() -> None:
    assert "Wants=network-online.target" not in site(
        Service(), text=f'[daemon]\nlisten = "tcp://127.0.0.1:5570"\n{CONFIG}'
    )


def test_networks_of_ones_own_can_be_reached() -> None:
    assert "IPAddressAllow=129.132.0.0/16 129.132.98.12/32" in site(
        Service(networks=["129.132.0.0/16", "129.132.98.12/32"])
    )


def test_public_networks_of_this_machine_are_found(tmp_path: Path) -> None:
    # A laboratory's public network, the way out, a private network, a link of its own; as Linux writes them.
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t01008481\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t00008481\t00000000\t0001\t0\t0\t100\t0000FFFF\t0\t0\t0\n"
        "eth1\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    )
    nowhere = "0" * 32
    (tmp_path / "ipv6_route").write_text(
        f"20010620000000000000000000000000 40 {nowhere} 00 {nowhere} 00000100 00000001 00000000 00000001 eth0\n"
        f"fe800000000000000000000000000000 40 {nowhere} 00 {nowhere} 00000100 00000001 00000000 00000001 eth0\n"
        f"{nowhere} 00 {nowhere} 00 20010620000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"
    )
    (tmp_path / "resolv.conf").write_text("# mine\nsearch example.org\nnameserver 127.0.0.53\nnameserver 130.59.1.1\n")
    found = networks.public_networks(tmp_path, tmp_path / "resolv.conf")
    assert found == ["129.132.0.0/16", "2001:620::/64", "130.59.1.1/32"]
    assert networks.public_networks(tmp_path / "none", tmp_path / "none") == []


def test_of_folders_in_each_other_the_outermost_is_enough() -> None:
    paths = [Path(path) for path in ("/a/b/c", "/a/b", "/a/bc", "/d", "/a/b")]
    assert outermost(paths) == (Path("/a/b"), Path("/a/bc"), Path("/d"))


def test_what_another_user_cannot_read_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "closed" / "program"
    folder.mkdir(parents=True)
    for step in (folder, *folder.parents):
        if step.is_relative_to(tmp_path):
            step.chmod(0o755)
    outside = unreadable(tmp_path)  # pytest's own folder is for its user
    folder.parent.chmod(0o700)
    assert unreadable(folder) == folder.parent
    folder.chmod(0o700)
    assert unreadable(folder) == folder
    assert outside is None or not outside.is_relative_to(tmp_path)


def test_a_file_says_whether_it_is_as_it_was_written(tmp_path: Path) -> None:
    [unit, *_] = unit_files(Service(root=tmp_path), HERE, None)
    assert state_of(unit) == "new"
    unit.path.parent.mkdir(parents=True)
    unit.path.write_text(unit.text)
    assert state_of(unit) == "same"
    assert state_of(UnitFile(unit.path, unit.text + "# more\n", "")) == "older"
    unit.path.write_text(unit.text + "# mine\n")
    assert state_of(unit) == "changed"
