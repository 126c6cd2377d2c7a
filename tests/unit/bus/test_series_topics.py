"""Topics of series: each is found again, and none is the beginning of another."""

from __future__ import annotations

import pytest

from taskmaster.bus import topics


def test_topics_say_what_they_carry() -> None:
    assert topics.parse_series_topic(topics.progress_topic("stm", 12)) == ("stm", 12)
    assert topics.parse_series_topic(topics.samples_topic("kammer-ü")) == ("kammer-ü", 0)
    every = [make("stm", run) for run in (1, 12) for make in (topics.events_topic, topics.with_inputs_topic)]
    every += [topics.progress_topic("stm", 1), topics.progress_topic("stm", 12), topics.samples_topic("stm")]
    assert not [(a, b) for a in every for b in every if a != b and b.startswith(a)]


@pytest.mark.parametrize(
    "topic",
    [b"", b"stm/", b"stm/1", b"stm/1/o", b"stm/x/p", b"stm/1/p/", b"stm/" + b"9" * 30 + b"/p", b"\xff/@samples"],
)
def test_what_is_no_topic_of_a_series_is_none(topic: bytes) -> None:
    assert topics.parse_series_topic(topic) is None
