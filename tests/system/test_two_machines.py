"""Two machines, with keys, set up by docs/security.md as it is written: each line is typed where its prompt says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documents import code_blocks, document, section
from helpers.machines import Machines
from helpers.waiting import PATIENCE, eventually

_LINE = re.compile(r"(lab-7|desk)\$ (.*)")
_KEY = re.compile(r"tm-public-\w+")


class Desk:
    """Somebody at a machine: a home, a folder, what they have exported."""

    def __init__(self, machines: Machines, name: str, home: Path) -> None:
        home.mkdir()
        self.name, self.folder = name, home
        self._machines = machines
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "XDG_RUNTIME_DIR": str(home),
            "LANG": "C.UTF-8",
        }
        #: the last key that was printed here
        self.key = ""
        self.serving: subprocess.Popen[str] | None = None

    def type(self, line: str, log: Path) -> str:
        """Type a line; what it says."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value
            return ""
        if "serve" in line:
            with log.open("w") as file:
                command = self._machines.on(self.name, ["sh", "-c", f"exec {line}"])
                self.serving = subprocess.Popen(
                    command, env=self.environment, cwd=self.folder, stdout=file, stderr=file, text=True
                )
            eventually(lambda: "is ready at tcp://0.0.0.0:5570" in log.read_text(), "the daemon to be ready")
            return ""
        said = self._machines.run(self.name, line, self.environment, self.folder)
        if keys := _KEY.findall(said):
            self.key = keys[-1]
        return said


@pytest.mark.slow
def test_what_the_document_says_word_for_word(tmp_path: Path) -> None:
    text = section(document("docs/security.md"), "Two machines in five commands")
    [settings] = code_blocks(text, "toml")
    lines = [line for block in code_blocks(text, "console") for line in block.splitlines()]
    typed = [match.groups() for line in lines if (match := _LINE.fullmatch(line))]
    with Machines("lab-7", "desk") as machines:
        lab, desk = (Desk(machines, name, tmp_path / name) for name in ("lab-7", "desk"))
        lab.type("taskmaster init lab", tmp_path / "log")
        lab.folder /= "lab"
        config = lab.folder / "taskmaster.toml"
        config.write_text(config.read_text().replace("[daemon]\n", f'[daemon]\nstate = "state"\n{settings}'))
        people = {"lab-7": (lab, desk), "desk": (desk, lab)}
        said: dict[str, str] = {}
        try:
            for where, line in typed:
                here, there = people[where]
                if where == "desk" and line == "taskmaster status":
                    refused = here.type("taskmaster pause resonance 2>&1 || true", tmp_path / "log")
                    assert "key 'anna' (learner) may not pause" in refused
                said[line] = here.type(line.replace("tm-public-…", there.key), tmp_path / "log")
                if where == "desk" and line == "taskmaster keys new anna":
                    assert desk.key.startswith("tm-public-")
            assert "resonance" in said["taskmaster status"]
            [learned] = [answer for line, answer in said.items() if line.startswith("taskmaster learn")]
            assert "20 points" in learned
            assert "best" in learned
            listed = lab.type(
                f"taskmaster runs list --address ipc://{lab.folder}/state/control --json", tmp_path / "log"
            )
            assert '"user":"anna"' in listed.replace(" ", "")
        finally:
            if lab.serving is not None:
                lab.serving.send_signal(signal.SIGTERM)
                lab.serving.wait(PATIENCE)
