"""News of series in time to who follows them. Whoever is not listening costs nothing, whoever is slow misses some.

Each publication says which came before, and beacons repeat the last number: what was missed is asked for, as with
events (`publishing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from taskmaster.bus import codec, messages as m, topics
from taskmaster.daemon.core import Core
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import Resting
from taskmaster.daemon.series import Source

__all__ = ["SeriesPublisher"]

#: Beacons of one second; where more series are followed, they take turns.
BEACONS = 2_000
#: Topics that are remembered for these; to the followers of others it tells more when there are news.
TOPICS = 20_000


class SeriesPublisher:
    """Publishes series for one daemon.

    ``send`` takes a topic and a message, ``anybody`` says whether anybody listens to a topic.
    """

    def __init__(
        self, core: Core, send: Callable[[bytes, bytes], None], anybody: Callable[[bytes], bool], largest: int
    ) -> None:
        self._core = core
        self._send = send
        self._anybody = anybody
        self._largest = largest
        #: what somebody has subscribed to by just its topic
        self._followed: dict[bytes, Source] = {}
        self._beats = 0

    def on_subscription(self, topic: bytes, *, comes: bool) -> None:
        """Somebody came, and is told where the series stands; or went."""
        found = topics.parse_series_topic(topic)
        if found is None:
            return
        if not comes:
            self._followed.pop(topic, None)
            return
        source = Source(*found)
        if len(self._followed) < TOPICS:
            self._followed[topic] = source
        self._beacon(topic, source)

    def publish(self, news: Iterable[m.SeriesNews]) -> None:
        """What has become durable."""
        for one in news:
            topic = _topic(one.master, one.run)
            if self._anybody(topic):
                message = codec.encode(one)
                if len(message) > self._largest:  # whoever follows sees the gap, and asks
                    message = codec.encode(replace(one, after=one.latest, pieces=()))
                self._send(topic, message)

    def beacons(self) -> None:
        """Repeat to those who follow where their series stand."""
        followed = list(self._followed.items())
        start = self._beats * BEACONS % max(1, len(followed))
        for topic, source in (followed[start:] + followed[:start])[:BEACONS]:
            self._beacon(topic, source)
        self._beats += 1

    def on_events(self, master: str, run: int) -> None:
        """Something became of a run: where that is over, who follows its progress need not wait for the next beacon."""
        topic = topics.progress_topic(master, run)
        if topic in self._followed and self._is_over(self._core.runs.look(run)):
            self._beacon(topic, self._followed[topic])

    @staticmethod
    def _is_over(run: Run | Resting | None) -> bool:
        return run is not None and run.closed and not (isinstance(run, Run) and run.open)

    def _beacon(self, topic: bytes, source: Source) -> None:
        news = self._core.series.news(source)
        if source.run:
            run = self._core.runs.look(source.run)
            if run is None or run.master != source.master:
                self._send(topic, codec.encode(m.Gone(source.run, news.epoch)))
                return
            news = replace(news, over=self._is_over(run))
        self._send(topic, codec.encode(news))


def _topic(master: str, run: int) -> bytes:
    return topics.progress_topic(master, run) if run else topics.samples_topic(master)
