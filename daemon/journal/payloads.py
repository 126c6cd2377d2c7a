"""Large payloads: files beside the database, named by the SHA-256 of their content and their length.

A file is complete and on disk before the row that names it is committed; one that no row names is an accident's
left-over and harmless. Equal content is one file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.table import Buffer, content_digest

__all__ = ["Payloads"]

_REMEDY = "restore it from a backup; 'taskmaster check --journal' says which runs need it"

#: Maps kept open for reading.
_KEPT = 256


class Payloads:
    """The folder ``payloads/`` of a state directory."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync
        self._maps: dict[str, memoryview] = {}
        self._unsynced: set[Path] = set()
        #: files of this process's own making, which need no second look
        self._written: set[str] = set()
        folder.mkdir(mode=0o700, exist_ok=True)

    def write(self, frames: Sequence[Buffer]) -> str:
        """Store frames one after the other and return the file's name; call :meth:`sync` before naming it in a row."""
        name = _name(frames)
        if name in self._written:
            return name
        path = self.path(name)
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._unsynced.add(self.folder)
        # Under another name first: the file may be there already, needed by a row and mapped, and must stay whole.
        part = path.with_name(f"{name}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, frames)
            if self._sync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
        self._unsynced.add(path.parent)
        self._written.add(name)
        return name

    def sync(self) -> None:
        """Make the names of all files written so far durable."""
        if self._sync:
            for folder in self._unsynced:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._unsynced.clear()

    def read(self, name: str) -> memoryview:
        """The content of a file, mapped. Raises JournalDamaged if it is missing."""
        view = self._maps.get(name)
        if view is None:
            try:
                with open(self.path(name), "rb") as file:
                    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except (FileNotFoundError, ValueError) as error:
                raise JournalDamaged(f"payload file {self.path(name)} is missing or empty; {_REMEDY}") from error
            if name not in self._written and _name([view]) != name:
                raise JournalDamaged(f"payload file {self.path(name)} has changed since it was written; {_REMEDY}")
            while len(self._maps) >= _KEPT:
                del self._maps[next(iter(self._maps))]
            self._maps[name] = view
        return view

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` whose file is not there, or not as long as it was written."""
        return [name for name in names if not self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        try:
            return os.stat(self.path(name)).st_size == int(name.partition("-")[2])
        except FileNotFoundError:
            return False

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that no row names any more."""
        for name in names:
            self._maps.pop(name, None)
            self._written.discard(name)
            self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.folder / name[:2] / name


def _name(frames: Sequence[Buffer]) -> str:
    """``SHA-256 of the content`` and its length, so that a truncated file shows without being read."""
    return f"{content_digest(frames).hex()}-{sum(memoryview(frame).nbytes for frame in frames)}"


def _write_all(descriptor: int, frames: Sequence[Buffer]) -> None:
    for frame in frames:
        view = memoryview(frame).cast("B")
        while view.nbytes:
            view = view[os.write(descriptor, view) :]
