"""This very installation, as a service needs it: how it is started, and which folders it is read from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import taskmaster

__all__ = ["Installation", "is_home", "is_temporary", "outermost", "this_installation", "unreadable"]

#: What a unit's ProtectHome= and PrivateTmp= keep from a service.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))

_READ_AND_ENTER = 0o5


@dataclass(frozen=True)
class Installation:
    """How a program is started: its ``command``, its ``python_path``, and the ``folders`` that it is read from."""

    command: tuple[str, ...]
    python_path: tuple[Path, ...]
    folders: tuple[Path, ...]


def this_installation() -> Installation:
    """The interpreter that runs this, and all that it imports from."""
    given = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # Where this was typed may be among them (python -m), which may be somebody's home.
    imported = [Path(entry).absolute() for entry in sys.path if entry and Path(entry) != Path.cwd()]
    package = Path(taskmaster.__path__[0]).absolute()
    # Of an editable installation these are links to folders elsewhere.
    parts = [package, *(entry.resolve() for entry in package.iterdir() if entry.is_dir())]
    found = [Path(sys.prefix), Path(sys.base_prefix), *given, *imported, *parts]
    there = [path for path in found if path.exists()]
    return Installation(
        (sys.executable, "-m", "taskmaster"), tuple(given), outermost([*there, *(path.resolve() for path in there)])
    )


def outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are in none of the others, sorted."""
    chosen: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(outer) for outer in chosen):
            chosen.append(path)
    return tuple(sorted(chosen))


def is_home(path: Path) -> bool:
    """Whether it is in somebody's home, of which a service sees only what it is shown."""
    return any(path.is_relative_to(place) for place in _HOMES)


def is_temporary(path: Path) -> bool:
    """Whether it is in a folder of which a service has its own, and which is emptied every now and then."""
    return any(path.is_relative_to(place) for place in _TEMPORARY)


def unreadable(path: Path) -> Path | None:
    """The folder or file because of which another user cannot read ``path``; None if it can, as far as modes tell.

    What is shown to a service is reached without the folders above it.
    """
    way = [path] if is_home(path) else [path, *path.parents]
    for step in way if path.exists() else ():
        needed = _READ_AND_ENTER if step == path and step.is_dir() else 0o4 if step == path else 0o1
        if step.stat().st_mode & needed != needed:
            return step
    return None
