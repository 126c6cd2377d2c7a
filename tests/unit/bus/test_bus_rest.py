"""The rest of the ground floor: texts that are more, errors by code, topics, places, and sockets that never block."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given, strategies as st

from taskmaster.bus import errors, places, sockets
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.topics import ALARMS, events_topic, parse_topic, with_inputs_topic
from taskmaster.bus.values import decode, encode

# -- values -----------------------------------------------------------------------------------------------------------


class Colour(str, enum.Enum):  # noqa: UP042 - str() of one is not its value
    RED = "red"


def test_a_text_with_a_name_travels_as_the_text() -> None:
    assert decode(encode([Colour.RED, {Colour.RED: 1}])) == ["red", {"red": 1}]
    [row] = Schema([Field("x", "str", choices=("red",))], "m").pack_points([{"x": Colour.RED}]).rows()
    assert row == {"x": "red"}


def test_a_key_that_python_does_not_write_out_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a dict with the key of \d+ bits cannot travel"):
        encode({10**5000: 1})


# -- errors -----------------------------------------------------------------------------------------------------------

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_is_of_its_class_again_on_the_other_side(kind: type[errors.TaskMasterError]) -> None:
    made = errors.from_code(kind.code, "what happened")
    assert type(made) is kind
    assert "what happened" in str(made)
    assert made.retryable == kind.retryable


def test_an_error_of_a_newer_peer_keeps_its_name() -> None:
    made = errors.from_code("haunted", "what happened")
    assert (type(made), str(made)) == (errors.TaskMasterError, "what happened [haunted]")


def test_a_failed_task_shows_where_it_failed() -> None:
    assert str(errors.TaskFailed("no", "ValueError")) == "ValueError: no"
    assert str(errors.TaskFailed("no")) == "no"
    assert str(errors.TaskFailed("no", "E", "line 1\n")) == "E: no\n\nRemote traceback:\nline 1"


# -- topics -----------------------------------------------------------------------------------------------------------

masters = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
runs = st.integers(0, 2**53)


@given(masters, runs, masters, runs)
def test_a_topic_is_of_one_run_and_no_prefix_of_anothers(a: str, i: int, b: str, j: int) -> None:
    topics = [events_topic(a, i), with_inputs_topic(a, i)]
    assert [parse_topic(topic) for topic in topics] == [i, i]
    others = [ALARMS, with_inputs_topic(a, i)] + ([events_topic(b, j)] if (a, i) != (b, j) else [])
    assert not any(other.startswith(events_topic(a, i)) for other in others)


@pytest.mark.parametrize(
    "topic", [ALARMS, b"", b"a/1", b"a/1/", b"a/x/o", b"a/1/oo", b"a/-1/o", b"a/" + b"9" * 19 + b"/o"]
)
def test_what_is_no_topic_is_of_no_run(topic: bytes) -> None:
    assert parse_topic(topic) is None


# -- places -----------------------------------------------------------------------------------------------------------


def test_the_state_lies_where_it_is_expected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STATE_DIRECTORY", "TASKMASTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert places.default_state() == tmp_path / ".local/state/taskmaster"
    monkeypatch.setenv("XDG_STATE_HOME", "/states")
    assert places.default_address() == "ipc:///states/taskmaster/control"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert places.default_state() == Path("/var/lib/taskmaster")
    monkeypatch.setenv("STATE_DIRECTORY", "/run/a:/run/b")
    assert places.default_state() == Path("/run/a")
    monkeypatch.setenv("TASKMASTER", "tcp://lab:1")
    assert places.default_address() == "tcp://lab:1"


# -- sockets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_a_message_of_too_many_frames_is_read_to_its_end(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with sockets.router(context) as router, sockets.dealer(context) as dealer:
        dealer.setsockopt(zmq.IDENTITY, b"me")
        dealer.connect(sockets.bind(router, "tcp://127.0.0.1:0", "this test"))
        assert sockets.receive(router) is None
        assert sockets.send(dealer, [b"x"] * 20)
        assert sockets.send(dealer, [b"y", memoryview(bytes(1 << 17))])
        heard: list[list[bytes] | None] = []
        while len(heard) < 2:
            assert router.poll(10_000)
            heard.append(sockets.receive(router, max_frames=10))
        assert heard == [[], [b"me", b"y", bytes(1 << 17)]]
        assert not sockets.send(router, [b"nobody", b"x"]), "nobody of that name is here"


def test_an_address_that_cannot_be_had_is_named(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    far = f"ipc://{tmp_path}"
    with sockets.router(context) as other, sockets.publisher(context) as socket:
        taken = sockets.bind(other, "tcp://127.0.0.1:0", "this test")
        with pytest.raises(errors.AddressInUse, match=f"the test cannot listen on {taken}: another program does"):
            sockets.bind(socket, taken, "the test")
        for wrong in ("tcp://127.0.0.1", "quic://127.0.0.1:1", f"{far}/{'x' * 200}", f"{far}/no/such"):
            with pytest.raises(errors.ConfigError, match=f"{re.escape(wrong)}.*check the address"):
                sockets.bind(socket, wrong, "the test")
