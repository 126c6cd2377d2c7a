"""The documents' programs run as they are printed."""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import Daemon
from helpers.documents import code_blocks, document, section

from taskmaster.learners.client import connect

PROTOCOL = document("docs/protocol.md")

ADDER = {
    "driver": "process",
    "function": "never:called",
    "workers": 0,
    "parameters": {"a": {}, "b": {}},
    "outputs": {"sum": {}},
}


@pytest.fixture
def adder(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with a Master that has no workers of its own."""
    daemon = Daemon(tmp_path, {"adder": ADDER}).start()
    yield daemon
    daemon.close()


def start(program: str, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TASKMASTER": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_client_and_a_worker_can_be_written_from_the_document(adder: Daemon) -> None:
    [client_code] = code_blocks(section(PROTOCOL, "The least client"), "python")
    [worker_code] = code_blocks(section(PROTOCOL, "The least worker"), "python")
    assert "taskmaster" not in client_code + worker_code, "they must do without our code"

    with start(worker_code, adder.address) as worker, start(client_code, adder.address) as client:
        try:
            printed = client.communicate(timeout=60)[0]
            assert client.returncode == 0, printed
            assert sorted(printed.splitlines()) == ["(1.0, 2.0) 3.0", "(3.0, 4.0) 7.0", "(5.0, 6.0) 11.0"]
        finally:
            client.kill()
            worker.kill()


# -- the tutorial -----------------------------------------------------------------------------------------------------

#: A file's name, then its content.
_FILE = re.compile(r"`([\w.]+)`:\s*\n+```(?:python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who types what the tutorial says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        programs = Path(sys.executable).parent
        self._around = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.commands: list[str] = []

    def follow(self, text: str) -> None:
        """Make the files and run the commands in the order in which they stand there."""
        found = [*_FILE.finditer(text), *_CONSOLE.finditer(text)]
        for block in sorted(found, key=lambda match: match.start()):
            if block.re is _FILE:
                (self._folder / block[1]).write_text(block[2], encoding="utf-8")
                continue
            for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block[1], re.MULTILINE):
                self._run(command, expected)

    def _run(self, command: str, expected: str) -> None:
        self.commands.append(command)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._around[name] = value.replace("$PWD", str(self._folder))
        elif command.startswith("taskmaster serve"):
            self._serve(command)
        else:
            result = subprocess.run(
                ["bash", "-c", command], cwd=self._folder, env=self._around, capture_output=True, text=True, timeout=120
            )
            assert result.returncode == 0, f"$ {command}\n{result.stdout}{result.stderr}"
            if expected:  # results of two workers come in no fixed order
                assert sorted(result.stdout.splitlines()) == sorted(expected.splitlines()), f"$ {command}"

    def _serve(self, command: str) -> None:
        for daemon in self._daemons:
            assert daemon.wait(timeout=60) == -signal.SIGKILL, "it has been killed before another is started"
        with (self._folder / "log").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self._folder, env=self._around, stderr=log)
            )
        connect(f"ipc://{self._folder}/state/control", timeout=60).close()

    def interrupt(self) -> int:
        """Ctrl-C in the daemon's terminal; the status it ends with."""
        self._daemons[-1].send_signal(signal.SIGINT)
        return self._daemons[-1].wait(timeout=60)

    def close(self) -> None:
        for daemon in self._daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def test_the_tutorial_works_word_for_word(reader: Reader, tmp_path: Path) -> None:
    reader.follow(document("docs/tutorial.md"))
    status = reader.interrupt()

    assert [command for command in reader.commands if command.startswith("python")] == [
        "python first.py",
        "python wrong.py",
        "python sweep.py",
        "python rest.py",
        "python learn.py",
    ]
    assert len((tmp_path / "overnight.csv").read_text().splitlines()) >= 61, "a heading and 60 results"
    assert status in (0, 130)


# -- the Python API ---------------------------------------------------------------------------------------------------


def test_the_page_of_the_python_api_runs_from_the_first_line_to_the_last(reader: Reader, tmp_path: Path) -> None:
    text = document("docs/python.md")
    reader.follow(text[: text.index("## connect")])
    reader.follow("```console\n$ taskmaster serve taskmaster.toml\n```\n")
    program = "\n".join(code_blocks(text[text.index("## connect") :], "python"))
    around = {**os.environ, "TASKMASTER": f"ipc://{tmp_path}/state/control"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("lab-7 ['hills', 'anything']", "[0.25, 1.0]", "1 failed ZeroDivisionError", "[1024, [3, 2, 1]]"):
        assert line in result.stdout


# -- people -----------------------------------------------------------------------------------------------------------


def test_the_page_about_people_works_word_for_word(reader: Reader, tmp_path: Path) -> None:
    before, code, after = re.split(r"^```python\n(from .*?)^```\n", document("docs/people.md"), flags=re.M | re.S)
    reader.follow(before)
    around = {**os.environ, "TASKMASTER": f"ipc://{tmp_path}/state/control"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [
        "Weigh the sample and enter its mass.",
        "[(2, '')]",
        "2 {'sample': 12}",
        "0 {'mass': 12.5, 'note': 'a bit wet'} human:" + getpass.getuser(),
        "1 CannotBeDone: the vial is broken human:" + getpass.getuser(),
        "2 {'mass': 8.25, 'note': ''} human:ada",
    ]
    reader.follow(after)
