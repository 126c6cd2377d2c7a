"""An upgrade of the learner's library in the middle of a run: what parts is named, and so is what has changed."""

from __future__ import annotations

import importlib
import logging
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskmaster.bus.fields import Field
from taskmaster.learners.loop import Loop
from taskmaster.learners.looping import libraries
from taskmaster.learners.looping.libraries import LIBRARIES, changes
from taskmaster.learners.points import Random
from taskmaster.learners.registry import create
from taskmaster.learners.simulate import SimulatedMaster

X = [Field("x", min=0, max=1)]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs a release of ``stepper``, a library of which ``mine`` is a learner."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import stepper\n\n\nclass Mine:\n    def __init__(self):\n        self.k = 0\n\n    def ask(self, n):\n"
        "        self.k += n\n        return [{'x': stepper.step(k)} for k in range(self.k - n, self.k)]\n\n"
        "    def tell(self, point, output):\n        pass\n"
    )

    def release(version: str, step: float) -> Any:
        for info in tmp_path.glob("stepper-*"):
            (info / "METADATA").unlink()
            info.rmdir()
        info = tmp_path / f"stepper-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stepper\nVersion: {version}\n")
        (tmp_path / "stepper.py").write_text(f"def step(k):\n    return k * {step}\n")
        for name in ("mine", "stepper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        libraries._version.cache_clear()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            return importlib.import_module("mine").Mine()
        finally:
            sys.dont_write_bytecode = before

    yield release
    for name in ("mine", "stepper"):
        sys.modules.pop(name, None)
    libraries._version.cache_clear()


def test_an_upgrade_in_the_middle_of_a_run_is_named(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    master = SimulatedMaster(lambda point: point["x"], parameters={"x": (0, 1)})
    Loop(master, install("1.2", 0.01), goal=10, name="night", in_flight=2).run()
    assert master.runs["night"].metadata[LIBRARIES] == f"stepper 1.2, python {platform.python_version()}"
    same = Loop(master, install("1.3", 0.01), goal=20, name="night")
    same.run()
    assert same.divergence is None, "another version need not do anything else"
    with caplog.at_level(logging.WARNING):
        other = Loop(master, install("2.0", 0.02), goal=30, name="night")
        other.run()
    assert other.told == 30
    assert other.divergence is not None
    (said,) = [record.message for record in caplog.records]
    assert "run 'night': task 1 was {'x': 0.01}, the learner now asks {'x': 0.02} there" in said
    assert "not the one that it was: it was made with stepper 1.2, which is 2.0 here; it is told all recorded" in said


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random", "numpy"),
        ("sobol", "scipy"),
        ("adaptive", "adaptive"),
        ("ax:random_search", "ax"),
        ("ax:random_search", "torch"),
        ("optuna:TPESampler", "optuna"),
        ("nevergrad:DE", "nevergrad"),
    ],
)
def test_libraries_are_found(name: str, expected: str) -> None:
    around = create(name, X, [Field("y")], options={"wrap.dedup": "yes"})
    known = {part.split()[0]: part.split()[1] for part in libraries.libraries(around).split(", ")}
    assert {expected, "numpy", "python"} <= set(known)
    assert known["numpy"] == np.__version__
    assert len(known) <= 12


def test_only_what_both_know_has_changed() -> None:
    learner = Random(X)
    assert changes({LIBRARIES: "numpy 1.0, gone 3.1, python 3.2.1"}, learner) == (
        f"numpy 1.0, which is {np.__version__} here, python 3.2.1, which is {platform.python_version()} here"
    )
    for metadata in ({}, {LIBRARIES: ""}, {LIBRARIES: "what is this"}, {LIBRARIES: libraries.libraries(learner)}):
        assert changes(metadata, learner) == ""
