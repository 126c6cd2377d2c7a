"""docs/reliability.md: each promise names tests and faults that are there, and the table is the fault suite's."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from faults.suite import FAULTS
from faults.tally import HEAD
from helpers.documents import ROOT, document, section, tables

TEXT = document("docs/reliability.md")
PROMISES = tables(section(TEXT, "The promises"))[0]
TABLE = tables(section(TEXT, "The fault suite"))[0]

_TEST = re.compile(r"(?:`|^)((?:unit|system|simulation)/[\w/]+\.py)(?:::(\w+))?(?:`|$)")
#: ``fault `NAME` `` or ``faults `NAME`, `NAME` ``, up to what is no fault any more.
_FAULTS = re.compile(r"faults? (`[^`]+`(?:, `[^`]+`)*)")


def named_tests() -> Iterator[tuple[str, str | None]]:
    yield from {(match[1], match[2]) for match in _TEST.finditer(TEXT)}


def faults_in(text: str) -> list[str]:
    return [name for match in _FAULTS.finditer(text) for name in re.findall(r"`([^`]+)`", match[1])]


@pytest.mark.parametrize(("file", "test"), sorted(named_tests(), key=str))
def test_a_test_that_is_named_is_there(file: str, test: str | None) -> None:
    source = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert test is None or re.search(rf"^def {test}\(", source, re.MULTILINE)


def test_every_promise_names_what_would_fail_without_it() -> None:
    assert len(PROMISES) > 15
    for promise, would_fail in PROMISES:
        assert _TEST.search(would_fail) or faults_in(would_fail), promise


def test_the_faults_that_are_named_are_those_of_the_suite() -> None:
    named = {name for _, would_fail in PROMISES for name in faults_in(would_fail)}
    assert named == {fault.name for fault in FAULTS}


def test_the_table_is_a_round_of_the_suite_in_which_nothing_was_lost() -> None:
    assert [row[0] for row in TABLE] == [fault.name for fault in FAULTS]
    for fault, row in zip(FAULTS, TABLE):
        counts = dict(zip(HEAD, row))
        if fault.name != "role × verb × Master":  # there it is rounds, and the table counts cells
            assert int(counts["injected"].replace(",", "")) >= fault.times, fault.name
        assert {counts[what] for what in ("lost", "repeated", "twice")} == {"0"}, fault.name
        assert float(counts["longest pause"].removesuffix(" s")) < fault.patience
