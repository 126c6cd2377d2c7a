"""The daemon, with a moment in its life at which it kills itself: the N-th time it comes to ``MORTAL="POINT:N"``.

    MORTAL="before a commit:3" python -m helpers.mortal_daemon CONFIG

Nothing of the daemon knows of it: its journal is a subclass, and what it sends passes through here.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from taskmaster.bus import sockets
from taskmaster.config.load import load
from taskmaster.daemon import service
from taskmaster.daemon.effects import Record
from taskmaster.daemon.journal import journal, payloads
from taskmaster.daemon.plan import plan

__all__ = ["POINTS"]

#: Points after a message has left, by the type of the message.
_AFTER = {
    "dispatch": "after a dispatch",
    "ack": "after an acknowledgement",
    "events": "after a publication",
    "settled": "after a settlement",
    "opened": "after a run was opened",
    "page": "after a page",
}
POINTS = (
    "while it restores",
    "before a commit",
    "in a commit",
    "after a commit",
    "in a payload file",
    "after a payload file",
    "before a checkpoint",
    "after a checkpoint",
    *_AFTER.values(),
)
#: What is sent leaves in another thread: long enough for it, before the end.
_LEAVES_SECONDS = 0.01


class _Tagged(msgspec.Struct):
    """Any message of the protocol."""

    t: str


_decode = msgspec.msgpack.Decoder(_Tagged).decode


class Fate:
    """Counts how often a point was reached."""

    def __init__(self, point: str, times: int) -> None:
        self.point = point
        self._left = times

    def reach(self, point: str, delay: float = 0.0) -> None:
        """Die, if this is it."""
        if point == self.point:
            self._left -= 1
            if not self._left:
                time.sleep(delay)
                os.kill(os.getpid(), signal.SIGKILL)


def _mortal_journal(fate: Fate) -> type[journal.Journal]:
    class MortalJournal(journal.Journal):
        def __init__(self, folder: Path, durability: str = "power") -> None:
            super().__init__(folder, durability)
            self._db.set_commit_hook(self._on_commit)

        def _on_commit(self) -> bool:
            fate.reach("in a commit")
            return False  # go on with it

        def commit(self, records: Sequence[Record]) -> dict[int, str]:
            fate.reach("before a commit")
            files = super().commit(records)
            fate.reach("after a commit")
            return files

        def checkpoint(self, *, idle: bool) -> None:
            due = self._frames * journal.PAGE_BYTES > journal.CHECKPOINT_BUSY
            if due:
                fate.reach("before a checkpoint")
            super().checkpoint(idle=idle)
            if due:
                fate.reach("after a checkpoint")

    return MortalJournal


def _dying(fate: Fate, stack: ExitStack) -> None:
    """Put the points into the daemon's way."""

    def change(module: Any, name: str, make: Callable[[Any], Any]) -> None:
        stack.enter_context(patch.object(module, name, make(getattr(module, name))))

    change(service, "Journal", lambda _: _mortal_journal(fate))
    change(service, "restore", lambda restore: _then(restore, lambda: fate.reach("while it restores")))
    change(sockets, "send", lambda send: _watched(send, fate))
    if "payload" in fate.point:
        change(payloads.Payloads, "_write_file", lambda write: _torn(write, fate))
        change(payloads.Payloads, "write", lambda write: _then(write, lambda: fate.reach("after a payload file")))
    if "checkpoint" in fate.point:  # so that they come often
        change(journal, "CHECKPOINT_BUSY", lambda _: 64 << 10)


def _then(call: Callable[..., Any], following: Callable[[], None]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        result = call(*arguments)
        following()
        return result

    return both


def _watched(send: Callable[..., bool], fate: Fate) -> Callable[..., bool]:
    def send_and_perhaps_die(socket: Any, frames: Sequence[Any]) -> bool:
        sent = send(socket, frames)
        point = _AFTER.get(_decode(frames[1]).t)
        if sent and point is not None:
            fate.reach(point, _LEAVES_SECONDS)
        return sent

    return send_and_perhaps_die


def _torn(write: Callable[..., None], fate: Fate) -> Callable[..., None]:
    def write_and_perhaps_die(files: payloads.Payloads, path: Path, frames: Sequence[Any]) -> None:
        content = b"".join(frames)
        write(files, path, [content[: len(content) // 2]])
        fate.reach("in a payload file")
        write(files, path, [content])

    return write_and_perhaps_die


def main() -> None:
    """Serve until death."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    point, _, times = os.environ["MORTAL"].rpartition(":")
    if point not in POINTS:
        raise ValueError(f"{point!r} is no point to die at; there are {', '.join(POINTS)}")
    with ExitStack() as stack:
        _dying(Fate(point, int(times)), stack)
        service.serve(plan(load(sys.argv[1])))


if __name__ == "__main__":
    main()
