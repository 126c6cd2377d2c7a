"""Messages that go as one are those that were sent, in their order; and nothing else passes for them."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus import codec, joining, messages as m
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.joining import first_of, parts
from taskmaster.bus.worker_messages import MOST_PARTS

HEADER = codec.encode(m.Ready())

small = st.lists(st.binary(max_size=40), min_size=1, max_size=4)
large = st.integers(0, 3).map(lambda k: [HEADER, bytes(joining.SMALL_BYTES + k)])


def as_sent(messages: list[list[bytes]]) -> list[list[bytes]]:
    """Messages as they go."""
    sent = []
    while messages:
        count, frames = first_of(messages)
        assert count >= 1
        sent.append([bytes(frame) for frame in frames])
        messages = messages[count:]
    return sent


def as_taken(sent: list[list[bytes]]) -> list[list[bytes]]:
    """The messages in what came."""
    decoder = codec.worker_decoder()
    taken = []
    for frames in sent:
        try:
            message = decoder.decode(frames[0])
        except ProtocolError:
            message = None
        if isinstance(message, m.Several):
            taken += [[bytes(frame) for frame in part] for part in parts(message, frames[1:])]
        else:
            taken.append(frames)
    return taken


@given(st.lists(small | large, max_size=30))
def test_what_is_taken_is_what_was_sent(messages: list[list[bytes]]) -> None:
    assert as_taken(as_sent(messages)) == messages


def test_small_ones_that_follow_each_other_are_one_message_of_two_frames() -> None:
    messages = [[HEADER, b"abc", b""]] * 100
    [sent] = as_sent(messages)
    assert len(sent) == 2
    assert as_taken([sent]) == messages


def test_a_large_one_goes_by_itself_and_keeps_its_place() -> None:
    large = [HEADER, bytes(joining.SMALL_BYTES)]
    messages = [[HEADER], [HEADER, b"x"], large, [HEADER], [HEADER]]
    sent = as_sent(messages)
    assert [len(as_taken([one])) for one in sent] == [2, 1, 2]
    assert sent[1] == large


def test_what_goes_as_one_is_bounded_by_number_and_by_bytes() -> None:
    assert [len(as_taken([one])) for one in as_sent([[HEADER]] * (MOST_PARTS + 1))] == [MOST_PARTS, 1]
    most = joining.JOINED_BYTES // (4000 + len(HEADER))
    assert [len(as_taken([one])) for one in as_sent([[HEADER, bytes(4000)]] * (most + 5))] == [most, 5]


def test_frames_begin_where_numbers_are_aligned() -> None:
    [sent] = as_sent([[HEADER, b"abc"], [HEADER, b"12345678", b"x"], [HEADER, b"y"]])
    assert sent[1] == b"abc\0\0\0\0\0" + b"12345678" + b"x\0\0\0\0\0\0\0" + b"y\0\0\0\0\0\0\0"


@pytest.mark.parametrize("behind", [[], [b"12345678"], [b"12345678" * 3], [b"12345678", b"12345678"]])
def test_frames_that_are_not_theirs_are_refused(behind: list[bytes]) -> None:
    message = m.Several(((HEADER, (3,)), (HEADER, (8,))))
    with pytest.raises(ProtocolError, match="16 bytes behind them"):
        parts(message, behind)


def test_no_more_messages_are_decoded_than_may_go_as_one() -> None:
    header = codec.encode(m.Several(((HEADER, ()),) * (MOST_PARTS + 1)))
    with pytest.raises(ProtocolError):
        codec.worker_decoder().decode(header)
