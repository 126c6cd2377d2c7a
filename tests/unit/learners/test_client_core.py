"""The client without its sockets: what cannot be asked is refused where it is asked, and forgotten."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from helpers.shore import Shore

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import CallerError, DaemonUnreachable, ProtocolError, TooLarge
from taskmaster.learners.core import ClientCore

#: What it says → a request that the daemon could not read, or that cannot even be written.
UNREADABLE: dict[str, Any] = {
    "type object is unsupported": lambda: m.Open(0, "svm", "q", metadata={"a": object()}),  # type: ignore[dict-item]
    r"Expected `int \| null`, got `str` - at `\$.seed`": lambda: m.Open(0, "svm", "q", seed="x"),  # type: ignore[arg-type]
    "serialize ints": lambda: m.Open(0, "svm", "q", seed=2**70),
    "surrogates not allowed": lambda: m.Open(0, "svm", "\ud800"),
    "Expected `str`, got `int`": lambda: m.Open(0, "svm", 5),  # type: ignore[arg-type]
    "Expected `int`, got `float`": lambda: m.Cancel(0, 1, ((1.5, 2.5),)),  # type: ignore[arg-type]
    "Expected `int` >= 0": lambda: m.Delete(0, -1),
}


@pytest.mark.parametrize("words", UNREADABLE)
def test_a_request_that_the_daemon_could_not_read_is_refused_and_never_tried_again(words: str) -> None:
    core = ClientCore("ipc:///nowhere")
    with pytest.raises(CallerError, match=f"cannot be asked of the daemon like this: .*{words}"):
        core.request(UNREADABLE[words](), 0.0)
    asked = core.request(m.Status(0), 0.0)
    for now in (3.0, 6.0, 9.0):
        core.on_tick(now)
    sent = [codec.client_decoder().decode(frames[0]) for frames in core.outbox]
    assert sent[0] == asked.message
    assert all(message == asked.message for message in sent), "it is asked again, and nothing else is"


def test_one_that_is_too_large_is_refused_as_such() -> None:
    core = ClientCore("ipc:///nowhere")
    with pytest.raises(TooLarge):
        core.request(m.Open(0, "svm", "q", metadata={"a": "a" * codec.MAX_HEADER}), 0.0)
    core.on_tick(10.0)
    assert not core.outbox


def test_a_request_that_the_daemon_cannot_read_all_the_same_is_answered_under_its_number() -> None:
    with pytest.raises(ProtocolError):
        codec.client_decoder().decode(b"\x82\xa1t\xa8tomorrow\xa2id\x07")
    assert codec.request_id(b"\x82\xa1t\xa8tomorrow\xa2id\x07") == 7
    for other in (b"", b"\xc1", b"\x80", b"\x81\xa2id\xa17", b"\x91" * 100_000):
        assert codec.request_id(other) == 0


@pytest.mark.parametrize("write", [True, False])
def test_whoever_follows_a_run_hears_once_that_the_daemon_is_gone_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture, write: bool
) -> None:
    """Also who only reads it, and has nothing open: what others may put is waited for."""
    shore = Shore()
    shore.open(write=write)
    shore.beacon(epoch=1, next_seq=0)
    with caplog.at_level(logging.WARNING, "taskmaster"):
        shore.wait(4)
        assert not caplog.messages, "a beacon a second or two late is none that fails to come"
        shore.wait(20)
        gone = "the daemon at tcp://shore does not answer; waiting for it to come back (nothing is lost)"
        assert caplog.messages == [gone]
        assert shore.said(m.Describe), "it is asked whether it is there"
        shore.beacon(epoch=1, next_seq=0)
        assert caplog.messages == [gone, "the daemon at tcp://shore is back"]


def test_a_daemon_that_has_ended_for_good_is_asked_nothing_more() -> None:
    """Its runs are followed still, and it has been silent for long: no reason to ask whether it is there."""
    shore = Shore()
    run = shore.open()
    shore.beacon(epoch=1, next_seq=0)
    shore.core.obituary = lambda: DaemonUnreachable("it was killed")
    shore.wait(20)
    assert isinstance(run.error, DaemonUnreachable)
    with pytest.raises(DaemonUnreachable, match="it was killed"):
        shore.core.request(m.Status(0), shore.now)


def test_whoever_waits_for_nothing_is_not_told_that_the_daemon_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    shore = Shore()
    shore.core.forget(shore.open())
    with caplog.at_level(logging.WARNING, "taskmaster"):
        shore.wait(20)
    assert not caplog.messages
