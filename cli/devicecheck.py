"""``taskmaster check --connect``: the CUDA devices that Masters of driver ``gpu`` would have, and what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskmaster.bus.text import format_size
from taskmaster.cli.output import Cell, Table, print_table, say
from taskmaster.config.gpu import GpuOptions
from taskmaster.config.load import Config
from taskmaster.drivers.gpu.arrays import missing
from taskmaster.drivers.gpu.visible import Unanswered, ask_devices

__all__ = ["Looked", "look", "print_looked"]


@dataclass(frozen=True)
class Looked:
    """What one Master would evaluate on."""

    master: str
    #: ``cuda`` or ``cpu``
    kind: str
    #: the kernel's driver, the newest CUDA that it knows, and CuPy, by their versions
    versions: dict[str, str] = field(default_factory=dict)
    #: those that it is to have: number, name, memory, compute capability
    devices: tuple[dict[str, Any], ...] = ()
    problem: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "master": self.master,
            "device": self.kind,
            "ok": not self.problem,
            "problem": self.problem,
            "versions": self.versions,
            "devices": list(self.devices),
        }


def look(config: Config, masters: Sequence[str], seconds: float) -> list[Looked]:
    """Ask, in a process each that ends then, what these Masters (all, if none is named) would have."""
    found = []
    for name, master in config.masters.items():
        if isinstance(master.options, GpuOptions) and (not masters or name in masters):
            found.append(_look(name, master.options, seconds))
    return found


def _look(name: str, options: GpuOptions, seconds: float) -> Looked:
    library = _missing_library(options, seconds)
    if options.device == "cpu":
        return Looked(name, "cpu", problem=library)
    try:
        said = ask_devices(options.env, seconds)
    except Unanswered as error:
        return Looked(name, "cuda", problem=f"which devices there are cannot be found out: {error}")
    there = {device["number"]: device for device in said["devices"]}
    wanted = options.places if options.places is not None else tuple(there)
    absent = [number for number in wanted if number not in there]
    problem = said["problem"]
    if not problem and absent:
        numbers = ", ".join(map(str, there))
        problem = f"devices = {list(wanted)}: there is no device {absent[0]}; there are {numbers}"
    if not problem and not said["cupy"]:
        problem = "CuPy is not installed here: the extra [gpu]"
    problem = problem or library
    versions = {"driver": said["driver"], "cuda": said["cuda"], "cupy": said["cupy"]}
    return Looked(name, "cuda", versions, tuple(there[number] for number in wanted if number in there), problem)


#: Exits with 1 where the module that it is given is not there: to look for it does not import it, which takes seconds.
_IS_THERE = "import sys, importlib.util; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def _missing_library(options: GpuOptions, seconds: float) -> str:
    """What is wrong where the function's arrays are of a library that a worker would not find."""
    if options.array == "cupy":
        return ""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _IS_THERE, options.array],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **options.env},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"whether {options.array} is installed cannot be found out: {error}"
    return missing(options.array) if asked.returncode else ""


def print_looked(looked: Sequence[Looked]) -> None:
    """A table of devices, and what is wrong."""
    table = Table(["master", ">device", "name", ">memory", ">capability", "driver", "CUDA", "CuPy"], [], ("name",))
    for one in looked:
        if one.kind == "cpu":
            table.rows.append([one.master, "cpu", Cell("the processor, as declared", "yellow"), *["–"] * 5])
        versions = [one.versions.get(key) or "–" for key in ("driver", "cuda", "cupy")]
        for device in one.devices:
            numbers = [str(device["number"]), device["name"], format_size(device["memory"]), device["capability"]]
            table.rows.append([one.master, *numbers, *versions])
    if table.rows:
        say()
        print_table(table)
    for one in looked:
        if one.problem:
            say(f"\nMaster {one.master!r}: {one.problem}")
