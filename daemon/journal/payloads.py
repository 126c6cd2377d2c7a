"""Large payloads: files beside the database, named by the SHA-256 of their content and their length.

A file is complete and on disk before the row that names it is committed; one that no row names is an accident's
left-over, which :meth:`Payloads.sweep` clears away. Equal content is one file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from taskmaster.bus.errors import JournalDamaged, JournalError
from taskmaster.bus.table import Buffer, content_digest

__all__ = ["Payloads", "size_of"]

_REMEDY = "put it back from a backup; 'taskmaster check --journal' says which runs need it"
_NAME = re.compile(r"[0-9a-f]{64}-\d+")
_PART = ".part"

#: Maps kept open for reading. Each costs a descriptor, for Python's mmap keeps the file's; what is mapped again is in
#: the system's cache, so more would hardly be quicker.
_KEPT = 64
#: Names remembered of files whose content this process knows to be right.
_REMEMBERED = 8192


class Payloads:
    """The folder ``payloads/`` of a state directory, made when it is needed. ``sync``: what is written is synced."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync
        self._maps: dict[str, memoryview] = {}
        #: folders with names in them that a power cut may take
        self._unsynced: set[Path] = set()
        #: folders whose own names it cannot take
        self._durable: set[Path] = set()
        #: files of this process's own making
        self._written: dict[str, None] = {}
        #: files that it has looked through, which need no second look
        self._sound: dict[str, None] = {}

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, frames: Sequence[Buffer]) -> str:
        """Store frames one after the other and return the file's name; call :meth:`sync` before naming it in a row.

        Raises OSError, and has then left no file behind.
        """
        name = _name(frames)
        if name in self._written:
            return name
        path = self.path(name)
        self._make_folder(path.parent)
        # Under another name first: the file may be there already, needed by a row and mapped, and must stay whole.
        part = path.with_name(name + _PART)
        try:
            self._write_file(part, frames)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self._unsynced.add(path.parent)
        _remember(self._written, name)
        return name

    def _make_folder(self, folder: Path) -> None:
        """Also of one that is there it is not known whether whoever made it came to sync its name."""
        for needed in (self.folder, folder):
            if needed not in self._durable:
                needed.mkdir(mode=0o700, exist_ok=True)
                self._unsynced.add(needed.parent)

    def _write_file(self, path: Path, frames: Sequence[Buffer]) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for frame in frames:
                view = memoryview(frame).cast("B")
                while view.nbytes:
                    view = view[os.write(descriptor, view) :]
            if self._sync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Make the names of all files written so far durable."""
        if self._sync:
            for folder in self._unsynced:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        if self._unsynced:  # they are each other's parents, up to the state directory
            self._durable |= {self.folder, *self._unsynced} - {self.folder.parent}
        self._unsynced.clear()

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, name: str) -> memoryview:
        """The content of a file, mapped; looked through when it is first read. Raises JournalDamaged, JournalError."""
        view = self._maps.get(name)
        if view is None:
            view = self._map(name)
            while len(self._maps) >= _KEPT:
                del self._maps[next(iter(self._maps))]
            self._maps[name] = view
        return view

    def _map(self, name: str) -> memoryview:
        path = self.path(name)
        try:
            with open(path, "rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (FileNotFoundError, ValueError) as error:  # to map an empty file is a ValueError
            raise JournalDamaged(f"payload file {path} is missing or empty; {_REMEDY}") from error
        except OSError as error:
            raise JournalError(f"payload file {path} cannot be read: {error.strerror}") from error
        if name not in self._written and name not in self._sound:
            if _name([view]) != name:
                raise JournalDamaged(f"payload file {path} has changed since it was written; {_REMEDY}")
            _remember(self._sound, name)
        return view

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` whose file is not there, or not as long as it was written. Raises OSError."""
        return [name for name in names if not self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        try:
            return self.path(name).stat().st_size == size_of(name)
        except FileNotFoundError:
            return False

    # -- clearing away ------------------------------------------------------------------------------------------------

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that no row names any more; one that cannot be deleted is left to :meth:`sweep`."""
        for name in names:
            self._maps.pop(name, None)
            self._written.pop(name, None)
            self._sound.pop(name, None)
            with contextlib.suppress(OSError):
                self.path(name).unlink()

    def leftovers(self, named: Iterable[str]) -> Iterator[Path]:
        """Files of ours that are not among those ``named`` in rows."""
        needed = set(named)
        for path in self.folder.glob("??/*"):
            name = path.name.removesuffix(_PART)
            if _NAME.fullmatch(name) and path.parent.name == name[:2] and path.name not in needed:
                yield path

    def sweep(self, named: Iterable[str]) -> int:
        """Delete left-overs; returns how many bytes that gave back. Not to be called between write and commit."""
        size = 0
        for path in self.leftovers(named):
            with contextlib.suppress(OSError):
                length = path.stat().st_size
                path.unlink()
                size += length
        return size

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.folder / name[:2] / name


def size_of(name: str) -> int:
    """Bytes of a payload, by its name."""
    return int(name.partition("-")[2])


def _remember(names: dict[str, None], name: str) -> None:
    while len(names) >= _REMEMBERED:
        del names[next(iter(names))]
    names[name] = None


def _name(frames: Sequence[Buffer]) -> str:
    """The SHA-256 of the content and its length, so that a truncated file shows without being read."""
    return f"{content_digest(frames).hex()}-{sum(memoryview(frame).nbytes for frame in frames)}"
