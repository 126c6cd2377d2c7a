"""Files that are there when they are complete, and not before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from taskmaster.bus.errors import CallerError

__all__ = ["complete_or_not_at_all"]


@contextlib.contextmanager
def complete_or_not_at_all(file: Path) -> Iterator[Path]:
    """A file beside ``file`` that takes its place if all goes well, and is gone otherwise."""
    if file.exists() and not file.is_file():  # a pipe or a device: there is nothing to put in its place
        yield file
        return
    if not file.parent.is_dir():
        raise CallerError(f"cannot write {file}: there is no folder {file.parent}")
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
