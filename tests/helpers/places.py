"""Daemons that do not outlive whoever needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from helpers.daemon import Daemon

__all__ = ["StartDaemon", "short_folder", "starter"]

#: ``start({"name": {keys of the Master}}, name="d", key=value of [daemon])``
StartDaemon: TypeAlias = Callable[..., Daemon]


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder: pytest's own can be too deep for the path of a Unix socket."""
    # A process that a test has left to end by itself may still write its last word there.
    with tempfile.TemporaryDirectory(prefix="tm-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def starter(folder: Path) -> Iterator[StartDaemon]:
    """A function that starts daemons in ``folder``; all end with the context."""
    with ExitStack() as stack:

        def start(masters: Mapping[str, Mapping[str, Any]], *, name: str = "d", **settings: Any) -> Daemon:
            daemon = Daemon(folder / name, masters, **settings)
            stack.callback(daemon.close)
            stack.callback(lambda: print(daemon.log))  # pytest shows it where the test has failed
            return daemon.start()

        yield start
