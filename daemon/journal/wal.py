"""Reads SQLite's write-ahead log as it lies on disk, without SQLite.

SQLite takes its log up to the last commit before the first frame that does not check, and says nothing about what comes
behind: a log that was damaged in its middle looks like a shorter history. Whoever wants to know must look before SQLite
opens the database, because that begins to write over what it does not take.

The format is documented at https://sqlite.org/fileformat2.html#walformat: a header of 32 bytes, then frames, each a
header of 24 bytes and a page. Every frame carries the *salts* of its log's header: a log that has been moved into the
database is written over from its start, and its salts, its *generation*, tell the new frames from the old ones behind
them. And every frame carries a checksum of all from the log's header up to and including itself, which runs over pairs
of words ``x``::

    s0 += x[0] + s1;  s1 += x[1] + s0        (mod 2³²)

That is linear: ``after = M^k · before + Σ weights · words``, with the same ``M^k`` and weights for every frame. So all
frames are checked at once, each against what the frame before *says* its checksum is: the first that fails is the one
at which SQLite stops, and those behind it can still be told from rubbish.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EMPTY",
    "HEADER_BYTES",
    "Frames",
    "Generation",
    "Log",
    "Words",
    "checksums",
    "lost_header",
    "read_frames",
    "read_log",
    "taken_pages",
]

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
#: Where a log's header says which generation it is; and how: checkpoints, salts.
GENERATION_AT = 12
GENERATION = struct.Struct(">3I")
#: The last bit of the magic number says in which byte order the checksum takes its words.
_MAGIC = 0x377F0682
_VERSION = 3_007_000
#: Ours are of this size.
_PAGE_BYTES = 4096
_HEADER = struct.Struct(">8I")
#: Frames looked at at a time: bounds the memory that a look at a large log takes.
_AT_ONCE = 2048

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Generation:
    """Which log it is: how often its file was begun anew, and the salts of its frames.

    SQLite adds one to the count and to the first salt each time; the second salt it draws by lot.
    """

    checkpoints: int
    salts: tuple[int, int]

    @classmethod
    def of(cls, header: bytes) -> Generation:
        """As a log's header says."""
        checkpoints, *salts = GENERATION.unpack_from(header, GENERATION_AT)
        return cls(checkpoints, (salts[0], salts[1]))

    def steps_since(self, other: Generation) -> int | None:
        """How many generations this is after ``other``, negative if before; None if it is of another file."""
        steps = _signed(self.checkpoints - other.checkpoints)
        if steps != _signed(self.salts[0] - other.salts[0]) or (steps == 0 and self != other):
            return None
        return steps


@dataclass(frozen=True)
class Log:
    """What a log holds. Frames are counted from 1."""

    #: None where there is no log, or its header does not check
    generation: Generation | None = None
    #: there is a header that does not check; SQLite then takes nothing
    bad_header: bool = False
    #: frames that SQLite takes: up to the last commit before the first that does not check
    frames: int = 0
    #: pages of the database after the last of these
    pages: int = 0
    #: transactions in them
    commits: int = 0
    #: the first frame that does not check although transactions of this generation lie behind it
    bad_frame: int | None = None
    #: how many transactions those are
    stranded: int = 0


EMPTY = Log()


@dataclass(frozen=True)
class Frames:
    """Some frames: the page of each; the size of the database, in pages, where it ends a transaction, else 0; and
    whether it is of the log's generation and checks."""

    first: int
    page: Words
    commit: Words
    sound: NDArray[np.bool_]


def read_log(path: Path) -> Log:
    """What the log at ``path`` holds; :data:`EMPTY` where there is none. Raises OSError where it cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - what there is to close is closed below
    except FileNotFoundError:
        return EMPTY
    with file:
        header = file.read(HEADER_BYTES)
        if not any(header):  # SQLite writes the header before any frame
            return EMPTY
        if not _is_header(header):
            # With nothing behind it, it was being written when the power went: that is as good as no log.
            return Log(bad_header=True) if any(file.read()) else EMPTY
        return _survey(Generation.of(header), read_frames(file, header))


def lost_header(path: Path, checkpoints: int = 0) -> bytes | None:
    """The header that a log with a bad one has had, by the salts of its first frame, if that checks behind it.

    A header is written over where the log is begun anew, all of which is in the database by then; a power cut in that
    moment may leave a part of it. ``checkpoints`` is how often the log had been begun anew, as far as that is known.
    """
    with open(path, "rb") as file:
        header, frame = file.read(HEADER_BYTES), file.read(FRAME_HEADER_BYTES)
        if len(frame) < FRAME_HEADER_BYTES:
            return None
        _, _, salt1, salt2, *_ = struct.unpack(">6I", frame)
        (said,) = struct.unpack_from(">I", header, GENERATION_AT)
        for count in (said, said - 1, checkpoints, checkpoints + 1):
            fields = struct.pack(">6I", _MAGIC, _VERSION, _PAGE_BYTES, count % 2**32, salt1, salt2)
            words = np.frombuffer(fields, _word_type(_MAGIC)).reshape(1, 6)
            candidate = fields + checksums(words, np.zeros((1, 2), np.uint32)).astype(">u4").tobytes()
            file.seek(HEADER_BYTES)
            if any(piece.sound[0] for piece in islice(read_frames(file, candidate, 1), 1)):
                return candidate
    return None


def _is_header(header: bytes) -> bool:
    if len(header) < HEADER_BYTES:
        return False
    magic, version, page_bytes, *_ = _HEADER.unpack(header)
    if magic & ~1 != _MAGIC or version != _VERSION or page_bytes < 512 or page_bytes & (page_bytes - 1):
        return False
    words = np.frombuffer(header, _word_type(magic), 6).reshape(1, 6)
    return bool((checksums(words, np.zeros((1, 2), np.uint32)) == np.frombuffer(header, ">u4", 2, 24)).all())


def _survey(generation: Generation, pieces: Iterator[Frames]) -> Log:
    frames = pages = commits = stranded = 0
    bad: int | None = None
    for piece in pieces:
        broken = np.flatnonzero(~piece.sound)
        ends = piece.first + np.flatnonzero(piece.sound & (piece.commit > 0))
        if bad is None and broken.size:
            bad = piece.first + int(broken[0])
        taken = ends if bad is None else ends[ends < bad]
        if taken.size:
            frames = int(taken[-1])
            pages = int(piece.commit[frames - piece.first])
        commits += taken.size
        stranded += ends.size - taken.size
    return Log(generation, False, frames, pages, commits, bad if stranded else None, stranded)


def taken_pages(path: Path, log: Log) -> frozenset[int]:
    """The pages of which ``log``, read from ``path``, has a version that SQLite takes."""
    pages: set[int] = set()
    if log.frames:
        with open(path, "rb") as file:
            for piece in read_frames(file, file.read(HEADER_BYTES)):
                pages.update(piece.page[: max(0, log.frames + 1 - piece.first)].tolist())
    return frozenset(pages)


def read_frames(file: BinaryIO, header: bytes, at_once: int = _AT_ONCE) -> Iterator[Frames]:
    """The whole frames of the log whose ``header`` has just been read from ``file``, some at a time."""
    magic, _, page_bytes, _, *rest = _HEADER.unpack(header)
    salts, before = rest[:2], np.array([rest[2:]], np.uint32)
    size = FRAME_HEADER_BYTES + page_bytes
    first = 1
    while n := len(content := file.read(at_once * size)) // size:
        head = np.ndarray((n, 6), ">u4", content, 0, (size, 4)).astype(np.uint32)
        said = head[:, 4:]
        words = np.frombuffer(content, _word_type(magic), n * size // 4).reshape(n, -1)
        due = checksums(words, np.concatenate([before, said[:-1]]), skipped=(2, 6))
        sound = (due == said).all(axis=1) & (head[:, 2:4] == salts).all(axis=1) & (head[:, 0] > 0)
        yield Frames(first, head[:, 0], head[:, 1], sound)
        first += n
        before = said[-1:]


def checksums(words: Words, before: Words, skipped: tuple[int, int] = (0, 0)) -> Words:
    """SQLite's checksum of each row of ``words`` (n, 2 k), begun with ``before`` (n, 2): (n, 2).

    The columns ``skipped[0] ≤ i < skipped[1]`` are left out.
    """
    weights, power = _weights(words.shape[1], skipped)
    return words @ weights + before @ power.T  # whole numbers of 32 bits: what overflows is meant to


@cache
def _weights(width: int, skipped: tuple[int, int]) -> tuple[Words, Words]:
    """What each word counts for in the two sums, (width, 2); and what the sums before do, (2, 2)."""
    weights = np.zeros((width, 2), np.uint32)
    a, b, c, d = 1, 0, 0, 1  # M^k for the k pairs behind the one at hand; M = [[1, 1], [1, 2]]
    for at in reversed([at for at in range(0, width, 2) if not skipped[0] <= at < skipped[1]]):
        weights[at] = (a + b) & 0xFFFFFFFF, (c + d) & 0xFFFFFFFF  # x[0] enters both sums, x[1] the second alone
        weights[at + 1] = b, d
        a, b, c, d = ((a + b) & 0xFFFFFFFF, (a + 2 * b) & 0xFFFFFFFF, (c + d) & 0xFFFFFFFF, (c + 2 * d) & 0xFFFFFFFF)
    return weights, np.array([[a, b], [c, d]], np.uint32)


def _word_type(magic: int) -> np.dtype[np.uint32]:
    return np.dtype(">u4" if magic & 1 else "<u4")


def _signed(difference: int) -> int:
    """A difference of two counters of 32 bits, either of which may have wrapped around."""
    return (difference + 2**31) % 2**32 - 2**31
