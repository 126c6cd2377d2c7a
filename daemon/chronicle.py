"""What is on record of a run besides its results, written to a file before the run goes from the journal.

Who opened it and what they said of themselves, what its learner was asked and when, what people decided of its tasks,
and what became of it that was no outcome: a line of JSON for each row, in a gzip file. With the results all that the
journal knew of a run, but for the payloads of inputs that were edited before they were approved.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from taskmaster.bus.errors import JournalError
from taskmaster.daemon.journal.reading import RecordedRuns

__all__ = ["TABLES", "write_chronicle"]

#: Rows that are read at a time.
_ROWS = 4096
#: The tables of which it has rows, and of each: the column by which they are in order, the others, and which of these
#: are JSON. `tests/unit/journal/test_journal_schemas.py` knows of every table where it is archived, or why it is not.
TABLES = {
    "runs": ("run", "master, name, seed, created, user, priority, done, failed, cancelled", "metadata"),
    "writers": ("writer", "user, time, first, forked", "metadata"),
    "blocks": ("first", "n, time, user", "asks"),
    "places": ("first", "n, head, capability", ""),
    "approvals": ("entry", "first, n, what, reason, user, time", ""),
    "events": ("seq", "n, kind, first, worker, attempt, started, finished", "errors"),
}
#: Outcomes are among the results.
_WHERE = {"events": "AND kind NOT IN ('done', 'cancelled')"}
_encode = msgspec.json.Encoder().encode


def write_chronicle(runs: RecordedRuns, run: int, file: Path) -> None:
    """Write it, and read it again. Raises OSError, JournalError where what is read is not what was written."""
    written, read = hashlib.sha256(), hashlib.sha256()
    with open(file, "wb") as out, gzip.GzipFile(file.name, "wb", 6, out, mtime=0) as packed:
        for line in _lines(runs, run):
            written.update(line)
            packed.write(line)
    try:
        with gzip.open(file, "rb") as unpacked:
            while content := unpacked.read(1 << 20):
                read.update(content)
    except (EOFError, gzip.BadGzipFile) as error:
        raise JournalError(f"{file} cannot be read again: {error}; its run is kept in the journal") from error
    if read.digest() != written.digest():
        raise JournalError(f"{file} does not hold what was written to it: its run is kept in the journal")


def _lines(runs: RecordedRuns, run: int) -> Iterator[bytes]:
    for table, (key, plain, as_json) in TABLES.items():
        names = [key, *plain.split(", "), *filter(None, [as_json])]
        select = (
            f"SELECT {', '.join(names)} FROM {table} WHERE run = ?1 AND {key} > ?2 {_WHERE.get(table, '')} "
            f"ORDER BY {key} LIMIT {_ROWS}"
        )
        after = -1
        while rows := runs.query(select, (run, after)):
            after = rows[-1][0]
            for row in rows:
                said = dict(zip(names, row))
                if said.get(as_json) is not None:
                    said[as_json] = msgspec.Raw(said[as_json].encode())
                yield _encode({"table": table, **said}) + b"\n"
