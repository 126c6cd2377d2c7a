"""Records of a log as entries of systemd's journal, with fields, by its own protocol.

One record is one entry, however many lines it has. What the journal adds by itself (unit, process, boot) is not sent.
The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from taskmaster.bus.text import printable_lines

__all__ = ["FIELDS", "SOCKET", "JournalHandler", "priority"]

#: Where the journal listens.
SOCKET = Path("/run/systemd/journal/socket")

#: What an entry has besides what the journal adds: the field, and what is in it.
FIELDS: Mapping[str, str] = {
    "MESSAGE": "what is said",
    "PRIORITY": "how bad it is: 7 debug, 6 info, 4 warning, 3 error, 2 critical",
    "SYSLOG_IDENTIFIER": "`taskmaster`, or `taskmaster-worker` for workers of a daemon elsewhere",
    "TASKMASTER_LOGGER": "which part of it says so: `daemon`, `supervision`, `host`, …",
    "TASKMASTER_MASTER": "the Master that it is about, where it is about one",
    "CODE_FILE": "where in the program that is",
    "CODE_LINE": "the line there",
    "CODE_FUNC": "the function there",
}

#: logging's levels → syslog's
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
#: Bytes of a message that are sent at most: a datagram has to hold the entry.
_LONGEST = 64 << 10
#: How messages name a Master, as all of them do.
_MASTER = re.compile(r"\bMaster '([^']+)'")


def priority(level: int) -> int:
    """syslog's priority for a level of logging's."""
    return _PRIORITIES.get(level, 6)


class JournalHandler(logging.Handler):
    """Sends each record to the journal. Raises OSError where there is none.

    Where the journal does not take an entry at once it is left out and counted: a log must not hold up a daemon.
    """

    def __init__(self, identifier: str) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())
        self._identifier = identifier
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(str(SOCKET))
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, if it can be."""
        text = printable_lines(self.format(record))
        if self._lost:
            text += f" ({self._lost} entries before this one were lost: the journal did not take them)"
        try:
            self._socket.send(b"".join(_encoded(name, value) for name, value in self._fields(record, text)))
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def _fields(self, record: logging.LogRecord, text: str) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", text
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", self._identifier
        yield "TASKMASTER_LOGGER", record.name.removeprefix("taskmaster.")
        if named := _MASTER.search(text):
            yield "TASKMASTER_MASTER", named[1]
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName

    def close(self) -> None:
        """Let go of the journal."""
        self._socket.close()
        super().close()


def _encoded(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")[:_LONGEST]
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)
