"""A daemon that cannot start says in a line why and what to do, and ends with a code of its own for each reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from helpers.daemon import Daemon, function, tcp
from helpers.places import StartDaemon
from helpers.waiting import PATIENCE

Configured: TypeAlias = Callable[..., Daemon]

MASTERS = {"echo": function("echo", workers=0)}


@pytest.fixture
def running(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(MASTERS, name="first", **tcp())


@pytest.fixture
def configured(place: Path) -> Iterator[Configured]:
    """``configured({"name": {its keys}}, key=value of [daemon])``: a daemon that is for the test to start."""
    with ExitStack() as stack:

        def configure(masters: Mapping[str, Mapping[str, Any]], **settings: Any) -> Daemon:
            daemon = Daemon(place / "d", masters, **settings)
            stack.callback(daemon.close)
            return daemon

        yield configure


def serve_in_vain(daemon: Daemon) -> tuple[int, str]:
    """``taskmaster serve``: its exit code, and the one line that it has printed."""
    command = [sys.executable, "-m", "taskmaster", "serve", str(daemon.folder / "daemon.toml")]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert time.monotonic() - began < PATIENCE
    assert done.stdout == ""
    line, newline, more = done.stderr.partition("\n")
    assert (newline, more) == ("\n", ""), done.stderr
    assert line.startswith("taskmaster: ")
    return done.returncode, line.removeprefix("taskmaster: ")


def test_a_second_daemon_on_a_state_directory_is_told_who_the_first_is(running: Daemon, configured: Configured) -> None:
    second = configured(MASTERS, state=str(running.state))
    code, line = serve_in_vain(second)
    assert code == 5
    assert line == (
        f"another daemon (process {running.pid}) uses the state directory {running.state}; stop it, or give this one "
        "another ([daemon] state = …)"
    )
    with running.connect() as lab:
        assert lab.status().pid == running.pid, "the first goes on as if nothing had been"


def test_the_lock_goes_with_the_process_however_that_ended(running: Daemon) -> None:
    running.kill()
    running.start()


@pytest.mark.parametrize("socket", ["control", "results", "workers"])
def test_an_address_that_somebody_has_is_named_with_its_socket(
    running: Daemon, configured: Configured, socket: str
) -> None:
    key = "listen" if socket == "control" else socket
    taken = next(line.split('"')[1] for line in _lines_of(running) if line.startswith(key))
    second = configured(MASTERS, **{**tcp(), key: taken})
    code, line = serve_in_vain(second)
    assert code == 6
    assert line == (
        f"the {socket} socket cannot listen on {taken}: another program does; stop it or choose another address"
    )
    second.configure(MASTERS)
    second.start()  # what it had begun to make is no obstacle
    assert second.stop() == 0


def test_a_path_that_another_daemon_listens_at_is_not_taken_from_it(running: Daemon, configured: Configured) -> None:
    first = configured(MASTERS)
    first.start()
    control = first.state / "control"
    with closing(Daemon(first.folder.parent / "second", MASTERS, listen=f"ipc://{control}")) as second:
        code, line = serve_in_vain(second)
        assert code == 6
        assert line == (
            f"the control socket cannot listen on ipc://{control}: another program does; stop it or choose another "
            "address"
        )
        with first.connect() as lab:
            assert lab.status().pid == first.pid
        first.kill()
        second.start()  # what a killed one leaves behind is no obstacle
        assert second.stop() == 0


def test_a_file_in_the_place_of_a_socket_is_left_alone(place: Path, configured: Configured) -> None:
    (place / "thesis").write_text("years of work")
    code, line = serve_in_vain(configured(MASTERS, listen=f"ipc://{place / 'thesis'}"))
    assert code == 3
    assert "that is no socket but something else; move it away" in line
    assert (place / "thesis").read_text() == "years of work"


def test_what_a_daemon_writes_is_for_its_user_alone(place: Path, configured: Configured) -> None:
    (place / "d").mkdir()
    (place / "d" / "state").mkdir(mode=0o755)
    daemon = configured({"echo": function("echo", workers=1)})
    daemon.start()
    with daemon.connect() as lab:
        lab["echo"].map([bytes(100_000)])
        loose = [path for path in daemon.state.rglob("*") if not path.is_dir() and path.stat().st_mode & 0o077]
    assert loose == []


def _lines_of(daemon: Daemon) -> list[str]:
    return (daemon.folder / "daemon.toml").read_text().splitlines()


@pytest.fixture
def read_only(place: Path) -> Iterator[Path]:
    """A directory that cannot be written, not even by root."""
    folder = place / "read-only"
    folder.mkdir(mode=0o500)
    if os.geteuid() != 0:
        yield folder
        return
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"root may write anywhere but on a read-only file system, and none can be mounted: {mount.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("state", ["", "below"])
def test_a_directory_that_cannot_be_written_is_named(configured: Configured, read_only: Path, state: str) -> None:
    code, line = serve_in_vain(configured(MASTERS, state=str(read_only / state), listen="tcp://127.0.0.1:*"))
    assert code == 10
    assert re.fullmatch(
        rf"the state directory {read_only / state} cannot be written: (Read-only file system|Permission denied); "
        r"choose another one \(\[daemon\] state = …\) or change its owner",
        line,
    )


def test_a_file_in_the_place_of_the_directory_is_named(place: Path, configured: Configured) -> None:
    (place / "file").write_text("something else")
    code, line = serve_in_vain(configured(MASTERS, state=str(place / "file"), listen="tcp://127.0.0.1:*"))
    assert code == 10
    assert f"the state directory {place / 'file'} cannot be written: File exists" in line
    assert (place / "file").read_text() == "something else"


def test_a_misspelt_key_is_named_with_its_line_and_what_was_meant(configured: Configured) -> None:
    daemon = configured({"echo": {**function("echo"), "wokers": 2}})
    code, line = serve_in_vain(daemon)
    assert code == 3
    number = 1 + next(k for k, text in enumerate(_lines_of(daemon)) if text.startswith("wokers"))
    assert re.match(rf"{daemon.folder}/daemon.toml:{number}:.*wokers.*did you mean 'workers'\?", line)
    assert not daemon.state.exists(), "it has not even begun"


def test_a_configuration_that_is_not_there_is_named(configured: Configured) -> None:
    daemon = configured(MASTERS)
    (daemon.folder / "daemon.toml").unlink()
    code, line = serve_in_vain(daemon)
    assert code == 3
    assert str(daemon.folder / "daemon.toml") in line
