"""Connections whose every page carries a checksum.

SQLite itself notices a broken structure but not a flipped bit in a value. Its checksum VFS keeps eight bytes at the end
of each page and verifies them whenever the page is read from the database file; any SQLite tool still reads such a
file. (Frames of the write-ahead log have checksums of their own, see `wal`.)
"""

from __future__ import annotations

from pathlib import Path

import apsw
import apsw.sqlite_extra

from taskmaster.bus.errors import JournalError

__all__ = ["CHECKSUM_BYTES", "connect"]

_VFS = "cksmvfs"
#: at the end of each page
CHECKSUM_BYTES = 8
_BUSY_MS = 5_000


def connect(path: Path, *, write: bool) -> apsw.Connection:
    """Open a journal's database. Raises apsw.Error, or JournalError where checksums cannot be had."""
    if _VFS not in apsw.vfs_names():
        if not apsw.sqlite_extra.has("cksumvfs"):
            raise JournalError(
                f"the installed apsw {apsw.apsw_version()} comes without SQLite's checksum VFS, which the journal "
                f"{path} needs; install apsw's wheel from PyPI"
            )
        apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if write else apsw.SQLITE_OPEN_READONLY
    connection = apsw.Connection(str(path), flags, vfs=_VFS)
    connection.set_busy_timeout(_BUSY_MS)
    if write:
        connection.reserve_bytes(reserve=CHECKSUM_BYTES)
    return connection
