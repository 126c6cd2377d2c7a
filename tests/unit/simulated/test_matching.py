"""Text that a regular expression matches, made rather than guessed."""

from __future__ import annotations

import re
from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st

from taskmaster.drivers.simulated.matching import matching


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("ACME,STM-HEAD,0001,.*", "ACME,STM-HEAD,0001,simulated"),
        (r"KEITHLEY INSTRUMENTS INC\.,MODEL 24\d\d,.+", "KEITHLEY INSTRUMENTS INC.,MODEL 2400,simulated"),
        ("[+-]?0(,.*)?", "0"),
        (r"^(?:READY|IDLE)$", "READY"),
        (r"(?i)ok", "ok"),
        (r"(\w)-\1", "0-0"),
        (r"(?=.*5)\d{3}", "005"),
        (r"(?!1)[0-3]", "0"),
        (r"[^0-9a-f]{2}", "gg"),
        (r"(?P<sign>-)?(?(sign)1|2)", "2"),
        (r"\S+\s\W?", "0 "),
        ("", ""),
    ],
)
def test_the_simplest_text_comes_first(pattern: str, first: str) -> None:
    assert next(matching(pattern)) == first


def test_a_long_pattern_is_no_harder_than_a_short_one() -> None:
    assert next(matching("x" * 5000 + r"\d")) == "x" * 5000 + "0"


@pytest.mark.parametrize("pattern", [r"\d{3000}", "a(?<=b)", r"[^\s\S]", "(?=a)b"])
def test_what_is_not_found_is_not_made_up(pattern: str) -> None:
    assert list(matching(pattern)) == []


@pytest.mark.parametrize(
    ("pattern", "fill", "text"),
    [
        ("T=(.*)", "3.5", "T=3.5"),
        (r"R=([-+.\d]+) mA;.*", "-1.5", "R=-1.5 mA;simulated"),
        (r"[-\d.]+", "-1.5", "-1.5"),
        (r"(?:CH\d )?V=(.*?) V", "2", "V=2 V"),
    ],
)
def test_a_value_stands_where_the_pattern_finds_it(pattern: str, fill: str, text: str) -> None:
    assert next(matching(pattern, fill)) == text
    match = re.search(pattern, text)
    assert match is not None
    assert (match[1] if match.re.groups else match[0]) == fill


@pytest.mark.parametrize(("pattern", "fill"), [(r"R=(\d+)", "-1.5"), (r"\d+", "x"), (r"(a)", "b")])
def test_a_value_that_the_pattern_would_not_find(pattern: str, fill: str) -> None:
    assert list(matching(pattern, fill)) == []


PIECES = st.sampled_from(
    ["a", "B7", r"\d", r"\w+", ".", ".*", "[a-f]", "[^x]", "(?:on|off)", "(c)?", "x{2,3}", r"\.", "[-+]?", r"\s*", ","]
)


@settings(max_examples=150)
@given(st.lists(PIECES, min_size=1, max_size=6).map("".join))
def test_whatever_is_made_matches(pattern: str) -> None:
    found = list(islice(matching(pattern), 20))
    assert found
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(pattern, text) for text in found)
