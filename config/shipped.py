"""The example configurations that come with TaskMaster."""

from __future__ import annotations

from pathlib import Path

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean_or

__all__ = ["example", "examples"]

_FOLDER = Path(__file__).parent / "examples"


def examples() -> tuple[str, ...]:
    """The names of all examples, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def example(name: str) -> Path:
    """The file of the example ``name``, say ``"svm"``; what it needs lies beside it. ConfigError if there is none."""
    if name not in examples():
        raise ConfigError(f"there is no example {name!r}{did_you_mean_or(name, examples())}")
    return _FOLDER / f"{name}.toml"
