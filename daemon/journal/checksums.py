"""Connections whose every page carries a checksum.

SQLite itself notices a broken structure but not a flipped bit in a value. Its checksum VFS keeps eight bytes at the end
of each page and verifies them whenever the page is read from the database file; any SQLite tool still reads such a
file. (Frames of the write-ahead log have checksums of their own, see `wal`.)
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import apsw
import apsw.sqlite_extra

from taskmaster.bus.errors import JournalError

__all__ = ["CHECKSUM_BYTES", "connect", "create"]

_VFS = "cksmvfs"
#: at the end of each page
CHECKSUM_BYTES = 8
_BUSY_MS = 5_000


def connect(path: Path, *, write: bool, immutable: bool = False) -> apsw.Connection:
    """Open a journal's database. Raises apsw.Error, or JournalError where checksums cannot be had.

    ``immutable``: nobody writes to it, and nothing is to be written beside it, as beside a backup.
    """
    if _VFS not in apsw.vfs_names():
        if not apsw.sqlite_extra.has("cksumvfs"):
            raise JournalError(
                f"the installed apsw {apsw.apsw_version()} comes without SQLite's checksum VFS, which the journal "
                f"{path} needs; install apsw's wheel from PyPI"
            )
        apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if write else apsw.SQLITE_OPEN_READONLY
    name = str(path)
    if immutable:
        name, flags = f"file:{quote(os.path.abspath(path))}?immutable=1", flags | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(name, flags, vfs=_VFS)
    connection.set_busy_timeout(_BUSY_MS)
    if write:
        connection.reserve_bytes(reserve=CHECKSUM_BYTES)
    return connection


def create(path: Path) -> None:
    """Make an empty file for a database, for this user alone, where there is none. Raises OSError.

    SQLite itself would let everybody read it; what it makes beside it has the same mode.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:  # nor may it be opened: to close it again would give up SQLite's locks
        return
