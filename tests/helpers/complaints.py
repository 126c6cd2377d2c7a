"""What a user reads about a wrong file."""

from __future__ import annotations

from pathlib import Path

from taskmaster.bus.errors import ConfigError
from taskmaster.config.load import loads

__all__ = ["complaints", "complaints_of"]


def complaints(text: str, folder: str | Path = "/") -> list[str]:
    """The lines of the error that ``text`` gets as the file ``lab.toml``; none where it is right."""
    try:
        loads(text, "lab.toml", folder)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def complaints_of(master: str, text: str, folder: str | Path = "/") -> list[str]:
    """The same, without file and Master: ``LINE: key: message``."""
    return [line.removeprefix("lab.toml:").replace(f"masters.{master}.", "") for line in complaints(text, folder)]
