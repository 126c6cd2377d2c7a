"""The example configurations that come with TaskMaster."""

from __future__ import annotations

from pathlib import Path

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.text import did_you_mean_or

__all__ = ["companions", "example", "examples"]

_FOLDER = Path(__file__).parent / "examples"


def examples() -> tuple[str, ...]:
    """The names of all examples, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def companions() -> tuple[str, ...]:
    """The files that some of them need beside them, sorted."""
    return tuple(sorted(path.name for suffix in ("*.py", "*.cu", "*.yaml") for path in _FOLDER.glob(suffix)))


def example(name: str) -> Path:
    """The file of the example ``name``, say ``"svm"``, or of a companion; what it needs lies beside it.

    Raises ConfigError if there is none.
    """
    if name in companions():
        return _FOLDER / name
    if name not in examples():
        raise ConfigError(f"there is no example {name!r}{did_you_mean_or(name, (*examples(), *companions()))}")
    return _FOLDER / f"{name}.toml"
