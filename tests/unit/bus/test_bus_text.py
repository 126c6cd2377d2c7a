"""Durations and sizes: read as they are written, written as people read them, and refused by name."""

from __future__ import annotations

import difflib
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.text import (
    did_you_mean,
    did_you_mean_or,
    entry,
    format_duration,
    format_size,
    lacking,
    nearest,
    parse_duration,
    parse_size,
    printable,
    printable_lines,
)

SECONDS = {"": 1, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
#: What people write between a number and its unit, and around both.
spaces = st.sampled_from(["", " ", "  "])


def test_what_is_lacking_is_named_so_that_it_can_be_installed() -> None:
    assert lacking("Parquet needs", "pyarrow", "parquet", "no pyarrow") == (
        "Parquet needs pyarrow (no pyarrow): pip install pyarrow (it is in the extra 'parquet')"
    )
    assert lacking("the demo needs", "adaptive matplotlib", "demo") == (
        "the demo needs adaptive and matplotlib: pip install adaptive matplotlib (they are in the extra 'demo')"
    )


@given(st.text())
def test_what_somebody_else_has_written_holds_no_orders(text: str) -> None:
    assert printable(text).isprintable()
    lines = printable_lines(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == text.count("\n") + 1
    assert all(line.startswith("    ") for line in entry(text).split("\n")[1:])
    assert entry(entry(text)) == entry(text)


def test_what_is_printable_stays_as_it_is() -> None:
    text = "é ∂S  …\n    Größe: 3 µm"
    assert printable_lines(text) == text
    assert printable_lines("a\tb\r\nc\u00a0d\x1b[0m") == "a       b\nc d\ufffd[0m"


def test_a_near_word_is_not_looked_for_at_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for what there is not is not to keep others waiting: to compare long words takes seconds."""
    compared: list[int] = []

    def count(word: str, known: list[str], *rest: Any) -> list[str]:
        compared.append(sum(len(word) * len(name) for name in known))
        return []

    assert nearest("frist", ["second", "first"]) == "first"
    monkeypatch.setattr(difflib, "get_close_matches", count)
    many = ["ab" * 40] * 5000
    for length in (1, 50, 100, 101, 10_000):
        nearest("b" * length, many)
        assert "there are 5000, among them 'abab" in did_you_mean_or("b" * length, many)
    assert 0 < max(compared) <= 200_000


@given(st.floats(0, 1e5), st.sampled_from(sorted(SECONDS)), spaces)
def test_a_duration_is_read_in_every_unit(number: float, unit: str, space: str) -> None:
    assert parse_duration(f"{space}{number!r}{space}{unit}{space}") == pytest.approx(number * SECONDS[unit], rel=1e-12)
    assert parse_duration(number) == number


@given(st.integers(0, 2**80), st.sampled_from(sorted(BYTES)), spaces)
def test_a_size_is_read_to_the_byte(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{space}{number}{space}{unit}{space}") == number * BYTES[unit]
    assert parse_size(number) == number


def test_sizes_may_have_fractions() -> None:
    assert parse_size("1.5 kB") == 1500
    assert parse_size("0.5 KiB") == 512
    assert parse_size("1e3 MB") == 10**9


BAD = ["", " ", "s", "5 seconds", "1 s 2 min", "-1 s", "1,5 s", "0x10", "5 S", "1_000", "nan", "inf s", None, True, [5]]


@pytest.mark.parametrize("bad", [*BAD, -1, float("nan"), float("inf"), 1e11, "1e11 s", "400000 d", "1e400 s"])
def test_what_is_no_duration_is_named(bad: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{bad!r}" if isinstance(bad, str) else f"{bad}")):
        parse_duration(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [*BAD, -1, 1.5, "1 kb", "5 b", "1e400 B", "9" * 400])
def test_what_is_no_size_is_named(bad: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{bad!r}")):
        parse_size(bad)  # type: ignore[arg-type]


def read(text: str, units: dict[str, float]) -> float:
    """What people understand: ``2 min 5 s`` is a sum."""
    words = text.split(" ")
    numbers = [float(word) for word in words[::2]]
    assert all(number < 1000 for number in numbers), f"{text} has a unit of its own"
    assert not any("e" in word for word in words[::2]), f"{text} is not for people"
    return sum(number * units[unit] for number, unit in zip(numbers, words[1::2], strict=True))


near_a_unit = st.sampled_from([1e-3, 1.0, 60.0, 3600.0, 86400.0])


@given(st.floats(1e-6, 8e7) | st.builds(lambda unit, part: unit * part, near_a_unit, st.floats(0.99, 1.01)))
def test_a_duration_is_written_to_the_percent(seconds: float) -> None:
    text = format_duration(seconds)
    assert read(text, SECONDS) == pytest.approx(seconds, rel=0.01, abs=0.5e-6), text


@given(st.floats(1, 9e17) | st.builds(lambda unit, part: unit * part, st.sampled_from([1e3, 1e12]), st.floats(0.99, 1)))
def test_a_size_is_written_to_the_percent(size: float) -> None:
    text = format_size(size)
    assert read(text, {**BYTES, "PB": 10**15}) == pytest.approx(size, rel=0.01), text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (340e-6, "340 µs"),
        (0.012, "12 ms"),
        (0.9996, "1 s"),
        (3.4, "3.4 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (12000, "3 h 20 min"),
        (4 * 86400 + 7200, "4 d 2 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_what_is_no_number_of_seconds_is_not_written() -> None:
    with pytest.raises(ValueError, match="nan is not a duration"):
        format_duration(float("nan"))


def test_what_is_misspelt_is_guessed_and_else_all_are_named() -> None:
    assert did_you_mean("acuracy", ["loss", "accuracy"]) == "; did you mean 'accuracy'?"
    assert did_you_mean("speed", ["loss"]) == ""
    assert did_you_mean_or("acuracy", ["accuracy"]) == "; did you mean 'accuracy'?"
    assert did_you_mean_or("speed", ["loss", "gain"], "it has") == "; it has 'loss', 'gain'"
    assert did_you_mean_or("speed", []) == "; there are none"
    many = [f"name-{k}" for k in range(200)]
    assert did_you_mean_or("nmae-7", many) == "; did you mean 'name-7'?"
    said = did_you_mean_or("Foo", many, "it has")
    assert said.startswith("; it has 200, among them 'name-")
    assert said.count("name-") == 5
