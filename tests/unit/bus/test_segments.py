"""Memory that two processes have: given, taken, sealed, and gone with whoever had it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers.waiting import eventually
from msgspec.structs import replace

from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.segments import MOST_SEGMENTS, Segments, Taken
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment

MB = 1 << 20
#: Gives a segment of 64 MB, says which, and has it until it is told otherwise, or killed.
GIVES = """
import sys, msgspec
from taskmaster.bus.segments import Segments
segments = Segments()
print(msgspec.json.encode(segments.put([bytes(64 << 20), b"end"])).decode(), flush=True)
sys.stdin.read()
"""
#: Takes one, says what is at its end, and has it as long.
TAKES = """
import sys, msgspec
from taskmaster.bus.segments import Taken
from taskmaster.bus.table import Buffer
from taskmaster.bus.wire import Segment
frames = Taken().take(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Segment))
print(bytes(frames[1]).decode(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def segments() -> Iterator[Segments]:
    segments = Segments()
    yield segments
    segments.close()


def shared() -> int:
    """Bytes of memory of this kind on this machine."""
    (kilobytes,) = re.findall(r"^Shmem: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(kilobytes) << 10


def test_frames_are_taken_as_they_were_put(segments: Segments) -> None:
    frames: list[Buffer] = [b"", b"a", np.arange(1000.0).tobytes(), memoryview(bytearray(3 * MB + 1)), b"end"]
    taken = Taken().take(os.getpid(), segments.put(frames))
    assert [bytes(frame) for frame in taken] == [bytes(frame) for frame in frames]
    assert np.frombuffer(taken[2]).flags.aligned
    assert all(frame.readonly for frame in taken)


def test_more_frames_than_one_call_writes(segments: Segments) -> None:
    frames = [b"%d" % k for k in range(3000)]
    assert [bytes(frame) for frame in Taken().take(os.getpid(), segments.put(frames))] == frames


def test_none_at_all(segments: Segments) -> None:
    assert Taken().take(os.getpid(), segments.put([])) == []
    assert [bytes(frame) for frame in Taken().take(os.getpid(), segments.put([b"", b""]))] == [b"", b""]


def test_what_was_taken_is_there_though_it_was_let_go_of(segments: Segments) -> None:
    segment = segments.put([b"x" * MB])
    (frame,) = Taken().take(os.getpid(), segment)
    segments.release([segment.number, 12345])
    assert len(segments) == 0
    assert bytes(frame) == b"x" * MB
    with pytest.raises(ProtocolError, match=rf"segment {segment.number} of process {os.getpid()}"):
        Taken().take(os.getpid(), segment)


def test_one_that_nobody_reads_any_more_is_used_again(segments: Segments) -> None:
    taken = Taken()
    first = segments.put([b"x" * (5 * MB), b"end"])
    (frame, end) = taken.take(os.getpid(), first, b"somebody")
    part = frame[MB : 2 * MB]
    del frame, end
    assert taken.ended() == []
    del part
    assert taken.ended() == [(b"somebody", first.number)]
    assert taken.ended() == []
    segments.reuse([first.number, 12345])
    assert (len(segments), segments.kept_bytes) == (0, 6 * MB)
    second = segments.put([b"y" * (5 * MB)])
    assert (second.inode, second.number) == (first.inode, first.number + 1)
    assert segments.put([b"z" * (5 * MB)]).inode != first.inode, "that is in use"
    assert bytes(taken.take(os.getpid(), second)[0]) == b"y" * (5 * MB)


def test_what_is_not_used_for_long_is_let_go_of(segments: Segments) -> None:
    segments.reuse([segments.put([bytes(MB)]).number])
    segments.tidy(time.monotonic())
    assert segments.kept_bytes == MB
    segments.tidy(time.monotonic() + 11)
    assert segments.kept_bytes == 0


def test_a_descriptor_that_was_used_again_is_seen(segments: Segments) -> None:
    segment = segments.put([b"mine"])
    segments.release([segment.number])
    other = segments.put([b"your"])
    assert other.descriptor == segment.descriptor
    with pytest.raises(ProtocolError, match="is another file by now"):
        Taken().take(os.getpid(), segment)


@pytest.mark.parametrize("given", ["a file", "a pipe", "unsealed"])
def test_what_could_change_is_not_taken(given: str, tmp_path: Path) -> None:
    spare = []
    if given == "a pipe":
        reader, descriptor = os.pipe()
        spare.append(reader)
    elif given == "a file":
        descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    else:
        descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.write(descriptor, bytes(64))
    if given == "unsealed":
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    try:
        with pytest.raises(ProtocolError, match="segment 1 of process"):
            Taken().take(os.getpid(), Segment(1, descriptor, os.fstat(descriptor).st_ino, (4,)))
    finally:
        for each in (descriptor, *spare):
            os.close(each)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another user's files")
def test_another_users_is_not_taken() -> None:
    descriptor = os.memfd_create("theirs", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, 64)
        os.fchown(descriptor, 65534, -1)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | 0x10 | fcntl.F_SEAL_SEAL)
        with pytest.raises(ProtocolError, match="another user's"):
            Taken().take(os.getpid(), Segment(1, descriptor, os.fstat(descriptor).st_ino, (4,)))
    finally:
        os.close(descriptor)


def test_more_than_is_wanted_is_not_taken(segments: Segments) -> None:
    segment = segments.put([bytes(60), bytes(60)])
    assert len(Taken().take(os.getpid(), segment, most=120)) == 2
    with pytest.raises(ProtocolError, match="more than 119 bytes"):
        Taken().take(os.getpid(), segment, most=119)


def test_what_cannot_be_put_leaves_nothing_behind(segments: Segments) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IndexError):
        segments.put([memoryview(array("d", [0.0] * 4))])
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_no_more_are_kept_than_descriptors_can_be_spared(segments: Segments) -> None:
    segments.reuse([segments.put([bytes(10)]).number for _ in range(1)])
    segments.reuse([segment.number for segment in [segments.put([bytes(10)]) for _ in range(3 * MOST_SEGMENTS)]])
    assert segments.kept_bytes == MOST_SEGMENTS * 4096


def test_nobody_can_change_what_was_put(segments: Segments) -> None:
    segment = segments.put([b"as it was"])
    changes: list[Callable[[], object]] = [
        lambda: os.pwrite(segment.descriptor, b"X", 0),
        lambda: os.ftruncate(segment.descriptor, 0),
    ]
    for change in changes:
        with pytest.raises(PermissionError):
            change()
    with pytest.raises(ProtocolError):
        Taken().take(os.getpid(), replace(segment, sizes=(10_000,)))


@pytest.mark.parametrize("first", ["the giver", "the taker"])
def test_it_is_gone_when_both_are_however_they_end(first: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GIVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as giver:
        assert giver.stdout is not None
        said = giver.stdout.readline()
        with subprocess.Popen(
            [sys.executable, "-c", TAKES, str(giver.pid), said],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as taker:  # fmt: skip
            assert taker.stdout is not None
            assert taker.stdout.readline() == "end\n"
            before = shared()
            one, other = (giver, taker) if first == "the giver" else (taker, giver)
            one.send_signal(signal.SIGKILL)
            one.wait()
            if first == "the taker":
                assert bytes(Taken().take(giver.pid, msgspec.json.decode(said, type=Segment))[1]) == b"end", (
                    "for others, too"
                )
            other.send_signal(signal.SIGKILL)
            other.wait()
    eventually(lambda: shared() < before - 32 * MB, "the memory to be free again")
