"""News of series through ZeroMQ's own sockets: who hears what, and that nobody can make it expensive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import zmq
from helpers.heart import Conversation, Heart, spec
from helpers.waiting import PATIENCE

from taskmaster.bus import codec, messages as m, topics
from taskmaster.daemon import series_publishing
from taskmaster.daemon.publishing import PUBLISHED_BYTES, Publisher

Socket: TypeAlias = "zmq.Socket[bytes]"

PATIENCE_MS = round(1e3 * PATIENCE)
_decode = codec.publication_decoder().decode


class Radio:
    """A publisher of a daemon with one run."""

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self._context = context
        self.xpub = context.socket(zmq.XPUB)
        self.xpub.bind("inproc://results")
        self.heart = Heart(spec("stm", "hold", heads=(m.HeadName("tip-1"),)))
        self.run: Conversation = self.heart.open("stm")
        self.publisher = Publisher(self.xpub, self.heart.core)
        self._followers: list[Socket] = []

    def listen(self, topic: bytes) -> Socket:
        """Somebody who has subscribed, and has been told where that stands."""
        socket = self._context.socket(zmq.SUB)
        self._followers.append(socket)  # until the context ends
        socket.connect("inproc://results")
        socket.subscribe(topic)
        assert self.xpub.poll(PATIENCE_MS)
        self.publisher.on_subscriptions()
        return socket

    def tell(self, run: int = 0, characters: int = 10) -> m.SeriesNews:
        """Something new of a run's progress, or of samples."""
        piece = m.Piece(0, 1, ("height",), 0, "x" * characters, task=3, attempt=1)
        news = m.SeriesNews("stm", run, 1, 1000, 1001, 1000, (piece,))
        self.publisher.series.publish([news])
        return news


@pytest.fixture
def radio() -> Iterator[Radio]:
    context: zmq.Context[Socket] = zmq.Context()
    radio = Radio(context)
    yield radio
    context.destroy(linger=0)


def hear(socket: Socket) -> Any:
    """The next thing that is heard."""
    assert socket.poll(PATIENCE_MS)
    _, header = socket.recv_multipart()
    return _decode(header)


def test_who_subscribes_is_told_where_it_stands_and_then_what_is_new(radio: Radio) -> None:
    progress = radio.listen(topics.progress_topic("stm", radio.run.run))
    samples = radio.listen(topics.samples_topic("stm"))
    for socket, run in ((progress, radio.run.run), (samples, 0)):
        beacon = hear(socket)
        assert (beacon.master, beacon.run, beacon.pieces, beacon.after) == ("stm", run, (), beacon.latest)
        assert radio.tell(run) == hear(socket)
    radio.publisher.beacons()
    assert (hear(progress).pieces, hear(samples).pieces) == ((), ())


def test_what_is_large_is_announced_and_not_published(radio: Radio) -> None:
    socket = radio.listen(topics.samples_topic("stm"))
    hear(socket)
    radio.tell(characters=PUBLISHED_BYTES)
    news = hear(socket)
    assert (news.pieces, news.latest) == ((), 1001)
    assert news.after == 1001, "so that who follows sees that it is behind, and asks"


def test_nothing_is_sent_where_nobody_listens(radio: Radio, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    monkeypatch.setattr(codec, "encode", encoded.append)
    radio.tell()
    radio.tell(radio.run.run)
    radio.publisher.beacons()
    assert not encoded


def test_the_end_of_a_run_is_told_at_once_and_its_deletion(radio: Radio) -> None:
    run = radio.run
    socket = radio.listen(topics.progress_topic("stm", run.run))
    assert not hear(socket).over
    events = radio.heart.say(m.Close(1, run.run, run.writer)).publications
    radio.publisher.publish(events)
    assert hear(socket).over
    radio.heart.ask(m.Delete(1, run.run), m.Done)
    radio.publisher.beacons()
    assert hear(socket) == m.Gone(run.run, radio.heart.epoch)


@pytest.mark.parametrize("topic", [topics.progress_topic("stm", 77), topics.progress_topic("svm", 1)])
def test_of_a_run_that_is_not_there_one_hears_so(radio: Radio, topic: bytes) -> None:
    assert isinstance(hear(radio.listen(topic)), m.Gone)


def test_topics_that_are_remembered_are_bounded(radio: Radio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series_publishing, "TOPICS", 1)
    first = radio.listen(topics.samples_topic("stm"))
    second = radio.listen(topics.progress_topic("stm", radio.run.run))
    hear(first)
    hear(second)
    radio.publisher.beacons()
    hear(first)
    assert not second.poll(0), "no beacon each second"
    radio.tell(radio.run.run)
    assert hear(second).pieces, "but what is new"
