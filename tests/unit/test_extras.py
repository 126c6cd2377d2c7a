"""What is installed with what: a small base, and each extra named where its packages are missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from helpers.documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def packages(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in requirements}


def test_the_base_has_nothing_of_instruments() -> None:
    of_instruments = {"visa", "serial", "usb", "instruments", "pymeasure", "qcodes", "ophyd"}
    theirs = set().union(*(packages(EXTRAS[extra]) for extra in of_instruments)) - {"taskmaster-lab"}
    assert theirs == {"pyvisa", "pyvisa-py", "pyserial", "pyusb", "pymeasure", "qcodes", "ophyd-async"}
    assert not theirs & packages(PROJECT["dependencies"])


@pytest.mark.parametrize(
    "module", ["daemon.service", "drivers.worker", "drivers.gpu.driver", "drivers.instruments.worker", "config.load"]
)
def test_nothing_of_it_is_imported_before_it_is_needed(module: str) -> None:
    program = (
        f"import sys, taskmaster.{module}; "
        "print({'pyvisa', 'serial', 'pymeasure', 'qcodes', 'cupy', 'torch', 'jax'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "set()"


#: What comes with PyTorch or CUDA, some gigabytes: tests that need it say so and are left out.
LARGE = {"ax", "torch", "jax", "cupy"}


def installed_with(extra: str) -> set[str]:
    """All that an extra of ours names, and those that it takes in."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        own = re.fullmatch(r"taskmaster-lab\[(.*)\]", requirement)
        found |= set().union(*map(installed_with, own[1].split(","))) if own else packages([requirement])
    return found


def test_no_test_is_left_out_because_too_little_is_installed_for_it() -> None:
    called = {"serial": "pyserial", "sklearn": "scikit-learn"}
    there = {name.partition("[")[0] for name in installed_with("test")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for module in re.findall(r'importorskip\(\s*"(\w+)', path.read_text(encoding="utf-8")):
            assert module in LARGE or called.get(module, module.replace("_", "-")) in there, f"{path.name}: {module}"
