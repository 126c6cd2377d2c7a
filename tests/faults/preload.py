"""Between a daemon and its files and clock: what is preloaded into it (`preload.c`), and how it is told what to do."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults.nursery import Nursery

__all__ = ["KINDS", "Call", "NoCompiler", "Preload"]

_SOURCE = Path(__file__).with_name("preload.c")
_CONTROL = struct.Struct("512s10iq")
_RECORD = struct.Struct("<4I4Q")
#: Calls by what they do.
KINDS = {"open": 1, "write": 2, "sync": 4, "truncate": 8, "rename": 16, "unlink": 32, "mkdir": 64}
_NAMES = {number: name for name, number in KINDS.items()}


class NoCompiler(Exception):
    """There is no C compiler here."""


@dataclass(frozen=True)
class Call:
    """A call that a program has made to the system, and that has succeeded."""

    kind: str
    path: str
    #: of a rename
    other: str
    #: of an open: the file was not there before
    created: bool
    offset: int
    #: what was written; how long the file was made
    data: bytes
    size: int
    #: monotonic
    began: float
    ended: float


class Preload:
    """A nursery whose daemons can be watched, disturbed and misled. ``folder`` is for its files."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NoCompiler("there is no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "preload.so"
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"], check=True
        )
        self.trace = folder / "trace"
        (folder / "control").write_bytes(bytes(mmap.PAGESIZE))
        descriptor = os.open(folder / "control", os.O_RDWR)
        self._block = mmap.mmap(descriptor, mmap.PAGESIZE)
        os.close(descriptor)
        self._prefix = b""
        self._offset = 0
        self.nursery = Nursery(
            LD_PRELOAD=str(library), FAULTS_CONTROL=str(folder / "control"), FAULTS_TRACE=str(self.trace)
        )

    def close(self) -> None:
        """End its nursery."""
        self.nursery.close()
        self._block.close()

    def __enter__(self) -> Preload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, *, trace: bool = False, kinds: int = 0, error: int = 0, nth: int = 0, sticky: bool = False,
               pid: int = 0, of_commit: bool = False) -> None:  # fmt: skip
        values = (trace, kinds, error, nth, sticky, pid, 0, 0, nth if of_commit else 0, 0)
        self._block[: _CONTROL.size] = _CONTROL.pack(self._prefix, *values, self._offset)

    def record(self, folder: Path) -> None:
        """From now on record what is done below a folder."""
        self._prefix = os.fsencode(folder)
        self._write(trace=True)

    def watch(self, folder: Path) -> None:
        """Know the files below a folder that are opened from now on; what was open before does not fail."""
        self._prefix = os.fsencode(folder)
        self._write()

    def fail(
        self, folder: Path, kinds: int, error: int, nth: int,
        *, pid: int, sticky: bool = False, of_commit: bool = False,
    ) -> None:  # fmt: skip
        """Have the ``nth`` call of these kinds below a folder that a process makes from now on fail with an errno.

        ``of_commit``: the ``nth`` since the log was synced last, in the first commit that makes so many.
        """
        self._prefix = os.fsencode(folder)
        self._write(kinds=kinds, error=error, nth=nth, sticky=sticky, pid=pid, of_commit=of_commit)

    def relent(self) -> None:
        """Let no further call fail, and record none."""
        self._write()

    @property
    def failed(self) -> int:
        """How many calls have failed since :meth:`fail`."""
        return int(_CONTROL.unpack_from(self._block)[7])

    @property
    def seen(self) -> int:
        """How many calls there were that might have."""
        return int(_CONTROL.unpack_from(self._block)[8])

    def shift(self, seconds: float) -> None:
        """Have the time of day be wrong by so much, for everybody."""
        self._offset = round(seconds * 1e9)
        struct.pack_into("q", self._block, _CONTROL.size - 8, self._offset)

    def calls(self) -> Iterator[Call]:
        """What was recorded."""
        content = self.trace.read_bytes()
        at = 0
        while at < len(content):
            kind, path, other, created, offset, size, began, ended = _RECORD.unpack_from(content, at)
            at += _RECORD.size
            name = content[at : at + path].decode()
            renamed = content[at + path : at + path + other].decode()
            at += path + other
            data = b""
            if _NAMES[kind] == "write":
                data = content[at : at + size]
                at += size
            yield Call(_NAMES[kind], name, renamed, bool(created), offset, data, size, began / 1e9, ended / 1e9)
