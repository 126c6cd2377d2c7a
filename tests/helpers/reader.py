"""Somebody who reads a document and types what it says, word for word."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.waiting import PATIENCE
from taskmaster.daemon.guardians import end_guardians
from taskmaster.learners.client import connect

__all__ = ["Reader", "alike", "equal"]

#: A file's name, then its content.
_FILE = re.compile(r"`([\w.]+)`:\s*\n+```(?:python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What changes nothing, and shows what may take a moment: who does not see it yet looks again.
_LOOKS = ("taskmaster heads", "taskmaster held", "taskmaster status")

_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<when>"),
    (re.compile(r"\d+(\.\d+)? (µs|ms|s)\b"), "<time>"),
    (re.compile(r"-?\d+(\.\d+)?e-?\d+|-?\d+\.\d+|(?<== )\d+|(?<==)\d+|\d+(?= %)"), "<number>"),
)


def equal(printed: str, expected: str) -> bool:
    """Whether the lines are the same, in any order: results of two workers come in none that is fixed."""
    return sorted(printed.splitlines()) == sorted(expected.splitlines())


def alike(printed: str, expected: str) -> bool:
    """Whether the lines occur in this order, but for times, measured values, and what stands for ``…``."""
    lines = iter(_plain(printed))
    return all(any(pattern.fullmatch(line) for line in lines) for pattern in _patterns(expected))


def _plain(text: str) -> list[str]:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for pattern, instead in _VARYING:
        lines = [pattern.sub(instead, line) for line in lines]
    return lines


def _patterns(text: str) -> list[re.Pattern[str]]:
    """Of each line that says something."""
    return [re.compile(re.escape(line).replace("…", ".*")) for line in _plain(text) if line not in ("", "…")]


class Reader:
    """Somebody who types what a document says, in a folder of their own. ``same`` compares what is printed with it."""

    def __init__(self, folder: Path, same: Callable[[str, str], bool] = equal) -> None:
        self._folder = folder
        self._same = same
        programs = Path(sys.executable).parent
        self._around = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[str]] = []
        self.commands: list[str] = []

    def follow(self, text: str) -> None:
        """Make the files and run the commands in the order in which they stand there."""
        found = [*_FILE.finditer(text), *_CONSOLE.finditer(text)]
        for block in sorted(found, key=lambda match: match.start()):
            if block.re is _FILE:
                (self._folder / block[1]).write_text(block[2], encoding="utf-8")
                continue
            for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block[1], re.MULTILINE):
                self._type(command, expected)

    def _type(self, command: str, expected: str) -> None:
        self.commands.append(command)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._around[name] = value.replace("$PWD", str(self._folder))
        elif command.startswith("taskmaster serve"):
            self._serve(command)
        elif command.endswith(" &"):
            self._begin(command.removesuffix(" &"))
        elif command.startswith(_LOOKS):
            self._look(command, expected)
        else:
            printed = self._run(command)
            assert not expected or self._same(printed, expected), f"$ {command}\n{printed}"

    def _look(self, command: str, expected: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._same(printed := self._run(command), expected) and expected:
            assert time.monotonic() < deadline, f"$ {command}\n{printed}"

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=self._around, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _begin(self, command: str) -> None:
        """In the background; it has begun when it says something."""
        program = ["bash", "-c", f"exec {command}"]
        self._others.append(
            subprocess.Popen(program, cwd=self._folder, env=self._around, stdout=subprocess.PIPE, text=True)
        )
        said = self._others[-1].stdout
        assert said is not None
        assert said.readline(), f"$ {command} &"

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
        end_guardians(self._folder / "state" / "guardians", 1.0)
        for other in self._others:
            other.terminate()
            other.communicate(timeout=PATIENCE)
