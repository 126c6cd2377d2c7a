"""Durations, sizes and names as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmaster.bus.text import did_you_mean, did_you_mean_or, format_duration, format_size, parse_duration, parse_size
from taskmaster.bus.topics import events_topic, parse_topic, with_inputs_topic

SECONDS = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
BYTES |= {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}

spaces = st.sampled_from(["", " ", "   "])
quick = settings(max_examples=100, deadline=None)


# -- durations --------------------------------------------------------------------------------------------------------


@quick
@given(st.floats(0, 1e5), st.sampled_from(sorted(SECONDS)), spaces, spaces)
def test_a_duration_is_a_number_and_a_unit(number: float, unit: str, before: str, between: str) -> None:
    assert parse_duration(f"{before}{number!r}{between}{unit}") == pytest.approx(number * SECONDS[unit], rel=1e-12)


@quick
@given(st.floats(0, 1e10) | st.integers(0, 10**10))
def test_a_bare_number_is_seconds(number: float) -> None:
    assert parse_duration(number) == parse_duration(repr(number)) == number


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            "s",
            "-1 s",
            "1 fortnight",
            "1 m",
            "1 S",
            "1,5 s",
            "1.s",
            "0x10",
            "1_000 s",
            "1 s 5",
            "nan",
            "inf",
            "1e400",
        ),
        *("1e11 s", "9" * 400, True, None, b"1 s", [1], -1, -1e-9, float("nan"), float("inf"), 10**400),
    ],
    ids=lambda bad: repr(bad)[:20],
)
def test_what_is_no_duration_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match=r"duration") as refused:
        parse_duration(bad)  # type: ignore[arg-type]
    assert (str(bad) if isinstance(bad, (int, float)) else repr(bad)) in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (340e-6, "340 µs"),
        (999.6e-6, "1 ms"),
        (0.01234, "12.3 ms"),
        (0.9996, "1 s"),
        (3.44, "3.44 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.9, "1 h"),
        (12000, "3 h 20 min"),
        (86399, "1 d"),
        (86400 * 4 + 7200, "4 d 2 h"),
        (86400 * 5 - 1, "5 d"),
    ],
)
def test_a_duration_is_said_in_the_units_that_fit_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@quick
@given(st.floats(1e-6, 1e10))
def test_what_is_said_of_a_duration_is_close_to_it(seconds: float) -> None:
    words = format_duration(seconds).split()
    said = sum(parse_duration(f"{number} {unit}") for number, unit in zip(words[::2], words[1::2]))
    assert said == pytest.approx(seconds, rel=0.03, abs=0.6e-6)
    assert all(re.fullmatch(r"\d+(\.\d+)?", number) for number in words[::2]), "as people write numbers"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_no_clock_shows_is_not_said(bad: float) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        format_duration(bad)


# -- sizes ------------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 1000), st.sampled_from(sorted(BYTES)), spaces)
def test_a_size_is_a_number_and_a_unit(number: int, unit: str, between: str) -> None:
    assert parse_size(f"{number}{between}{unit}") == number * BYTES[unit]


@pytest.mark.parametrize(
    ("text", "size"), [("1.5 kB", 1500), ("0.5 KiB", 512), ("1e3", 1000), (" 7 ", 7), (2**70, 2**70)]
)
def test_a_size_may_be_broken_or_bare(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "bad",
    ["", "MB", "-1", "1 KB", "1 mb", "1,5 MB", "nan", "1e400", "9" * 400, True, None, 1.5, -1, b"1 MB"],
    ids=lambda bad: repr(bad)[:20],
)
def test_what_is_no_size_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match=r"size") as refused:
        parse_size(bad)  # type: ignore[arg-type]
    assert repr(bad) in str(refused.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1234, "1.23 kB"),
        (999_999, "1 MB"),
        (5e9, "5 GB"),
        (1e12, "1 TB"),
        (2.5e15, "2500 TB"),
    ],
)
def test_a_size_is_said_in_the_unit_that_fits_it(size: float, text: str) -> None:
    assert format_size(size) == text


@quick
@given(st.integers(0, 10**16))
def test_what_is_said_of_a_size_is_close_to_it(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.006)


@pytest.mark.parametrize(("parse", "good"), [(parse_duration, "1 s"), (parse_size, "1 MB")])
def test_who_writes_it_wrong_is_told_how_to_write_it(parse: Callable[[str], float], good: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse("1 foo")
    hint = re.search(r"like '(.+)'", str(refused.value))
    assert hint is not None
    assert parse(hint[1]) > parse("0")
    assert good.split()[1] in str(refused.value)


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_name_misspelt_is_guessed_and_one_far_off_is_answered_with_all_there_are() -> None:
    known = ["voltage", "current"]
    assert did_you_mean("voltge", known) == did_you_mean_or("voltge", known) == "; did you mean 'voltage'?"
    assert did_you_mean("x", known) == ""
    assert did_you_mean_or("x", known) == "; there are 'voltage', 'current'"
    assert did_you_mean_or("x", [], "it has") == "; it has none"


@given(st.text("abc-_.@", min_size=1, max_size=8), st.integers(1, 2**53))
@quick
def test_topics_name_their_run_and_none_is_the_beginning_of_another(master: str, run: int) -> None:
    topics = [events_topic(master, run), with_inputs_topic(master, run), events_topic(master, run * 10)]
    assert [parse_topic(topic) for topic in topics] == [run, run, run * 10]
    assert not any(other.startswith(topic) for topic in topics for other in topics if other is not topic)


@pytest.mark.parametrize(
    "topic", [b"", b"svm", b"svm/", b"svm/1", b"svm/1/", b"svm/x/o", b"svm/1/oo", b"svm/-1/o", b"@alarms"]
)
def test_what_names_no_run_is_no_topic_of_one(topic: bytes) -> None:
    assert parse_topic(topic) is None
    assert parse_topic(b"svm/" + b"9" * 5000 + b"/o") is None
