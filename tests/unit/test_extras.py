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
