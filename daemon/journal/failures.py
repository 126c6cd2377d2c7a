"""How SQLite and the disk fail, and what that is for us: the one place that knows."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import apsw

from taskmaster.bus.errors import DiskFull, JournalDamaged, JournalError

__all__ = ["journal_error", "transaction"]

#: What it looks like where this user may not do that.
_FORBIDDEN = (PermissionError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)


def journal_error(error: Exception, what: str) -> JournalError:
    """SQLite's and the disk's errors as ours; this is the one place that tells them apart."""
    extended = getattr(error, "extendedresult", 0)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or isinstance(error, apsw.FullError) or extended == apsw.SQLITE_IOERR_SHMSIZE:
        return DiskFull(f"{what}: no room left on the disk; free some, the daemon goes on by itself")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)) or extended == apsw.SQLITE_IOERR_DATA:
        # What SQLite says of a page whose checksum is wrong is not what a person should read.
        why = "a page does not check" if str(error) in ("disk I/O error", "not an error") else str(error)
        return JournalDamaged(f"{what}: {why}; run 'taskmaster check --journal' to see what can be kept")
    if isinstance(error, _FORBIDDEN) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return JournalError(
            f"{what}: {error}; the state directory and what is in it must belong to the user who runs the daemon, on a "
            "file system that can be written"
        )
    return JournalError(f"{what}: {error}")


@contextlib.contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """What is written inside is there as a whole, or not at all.

    (`with db` would do, but where SQLite itself has rolled back, on a full disk, it hides why.)
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if not db.get_autocommit():
            db.execute("ROLLBACK")
        raise
