"""Commands to instruments: what a template may say, and that no value gets out of its place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from taskmaster.config.templates import ARRAY, Template

KINDS = {"x": "float", "n": "int", "on": "bool", "mode": "str", "gain.a": "float", "τ": "float"}
KINDS |= {"image": ARRAY, "note": "any"}


def test_values_go_where_their_names_stand() -> None:
    template = Template("POS {x:.3f},{n:d};REL {x:+.1e}")
    assert template.fields == ("x", "n")
    assert template.check(KINDS) == []
    assert template.format({"x": 1.25, "n": 7, "other": "ignored"}) == "POS 1.250,7;REL +1.2e+00"
    assert Template("{{{x:.1f}}}").format({"x": 2}) == "{2.0}"
    assert Template("*CLS").format({}) == "*CLS"


@pytest.mark.parametrize(
    ("template", "value", "sent"),
    [
        ("{x:.3f}", np.float32(1.5), "1.500"),
        ("{x}", 1e-9, "1e-09"),
        ("{x:08.2f}", -1.5, "-0001.50"),
        ("{n:d}", np.int64(3), "3"),
        ("{n:d}", 3.0, "3"),
        ("{n:#06x}", 255, "0x00ff"),
        ("{n:.2f}", 3, "3.00"),
        ("{on:d}", True, "1"),
        ("{on:d}", np.bool_(False), "0"),
        ("{mode:>5}", "SIN", "  SIN"),
        ("{gain.a:.1f}", 0.25, "0.2"),
        ("{τ:.1f}", 0.25, "0.2"),
    ],
)
def test_a_value_is_sent_in_its_format(template: str, value: Any, sent: str) -> None:
    parsed = Template(template)
    assert parsed.check(KINDS) == []
    assert parsed.format({parsed.fields[0]: value}) == sent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' cannot be a command: it is empty"),
        ("*CLS\n", "'*CLS\\n' cannot be a command: it has '\\n'; use the characters from ' ' to '~'"),
        ("A\t{x}", "'A\\t{x}' cannot be a command: it has '\\t'; use the characters from ' ' to '~'"),
        ("5 µm", "'5 µm' cannot be a command: it has 'µ'; use the characters from ' ' to '~'"),
        ("A {x", "'A {x': a brace is missing; a { or } that is meant as such is doubled"),
        ("A }", "'A }': a brace is missing; a { or } that is meant as such is doubled"),
        ("A {}", "{} does not name a parameter; write {name} or {name:format}, nothing else"),
        ("A {0}", "{0} does not name a parameter; write {name} or {name:format}, nothing else"),
        ("A {x[0]:.2f}", "{x[0]:.2f} does not name a parameter; write {name} or {name:format}, nothing else"),
        ("A {x!r}", "{x!r} has a conversion, '!r'; write {x} and a format after ':'"),
        ("A {x:{n}}", "{x:{n}}: '{n}' is not a format for a command; for example {x:.4f}"),
        ("A {x:,}", "{x:,}: ',' is not a format for a command; for example {x:.4f}"),
        ("A {x:1000000000}", "{x:1000000000}: '1000000000' is not a format for a command; for example {x:.4f}"),
    ],
)
def test_what_cannot_be_a_command(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        Template(text)
    assert str(caught.value) == expected


def test_a_printable_terminator_is_no_part_of_a_command() -> None:
    assert Template("A {x:.1f}", "#").format({"x": 1}) == "A 1.0"
    with pytest.raises(ValueError, match="it has the terminator '#', which is added by itself"):
        Template("A#", "#")
    with pytest.raises(ValueError, match=r"'POS {x:#x}' with x = 255 cannot be sent: it has the terminator '0x'"):
        Template("POS {x:#x}", "0x").format({"x": 255})


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("{y}", "there is no parameter 'y'; there are 'x', 'n', 'on', 'mode', 'gain.a', 'τ', 'image', 'note'"),
        ("{mod}", "there is no parameter 'mod'; did you mean 'mode'?"),
        ("{x.real}", "there is no parameter 'x.real'; 'x' is one, but a place takes a whole value: write {x}"),
        ("{x:d}", "the format does not fit parameter 'x', whose kind is 'float'; for example {x:.4f}"),
        ("{x:n}", "the format does not fit parameter 'x', whose kind is 'float'; for example {x:.4f}"),
        ("{n:.2d}", "the format does not fit parameter 'n', whose kind is 'int'; for example {n:d}"),
        ("{n:c}", "the format does not fit parameter 'n', whose kind is 'int'; for example {n:d}"),
        ("{on}", "the format does not fit parameter 'on', whose kind is 'bool'; for example {on:d}"),
        ("{mode:.2f}", "the format does not fit parameter 'mode', whose kind is 'str'; for example {mode}"),
        ("{mode:=9}", "the format does not fit parameter 'mode', whose kind is 'str'; for example {mode}"),
        ("{image}", "parameter 'image' is an array and cannot stand in a command"),
        ("{note}", "parameter 'note' is of any kind and cannot stand in a command"),
    ],
)
def test_a_place_that_does_not_fit_the_parameters(place: str, expected: str) -> None:
    assert Template(f"A {place} {{n:d}}").check(KINDS) == [f"{place}: {expected}"]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("M {v}", "a;*RST", "it has ';', which could end the command"),
        ("M '{v}'", "a'", 'it has "\'", which could end the command'),
        ("M {v}", np.array("a;*RST"), "it has ';', which could end the command"),
        ("M {v}", "a\n*RST", "it has '\\n'; use the characters from ' ' to '~'"),
        ("M {v}", "", "it is empty"),
        ("M {v:.2f}", "1", "it does not fit the format (Unknown format code 'f' for object of type 'str')"),
        ("M {v:.2f}", float("nan"), "it does not fit the format (not a finite number)"),
        ("M {v}", float("-inf"), "it does not fit the format (not a finite number)"),
        ("M {v:d}", 2.5, "it does not fit the format (Unknown format code 'd' for object of type 'float')"),
        ("M {v}", [1], "it does not fit the format (neither a number nor text)"),
    ],
)
def test_a_value_that_cannot_be_sent(text: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        Template(text).format({"v": value})
    assert str(caught.value).startswith("parameter 'v': ")
    assert str(caught.value).endswith(f" cannot be sent in {text!r}: {expected}")


def test_a_value_that_is_not_given() -> None:
    with pytest.raises(ValueError, match=r"parameter 'x' has no value, and 'A {x}' needs one"):
        Template("A {x}").format({})


VALUES = st.one_of(st.text(), st.text("a;\"'\r\n\0# "), st.floats(), st.integers(), st.booleans(), st.none())


@given(VALUES, st.sampled_from(["{v}", "{v:.3f}", "{v:d}", "{v:>9}", "{v:s}", "{v:x}"]), st.sampled_from("\n\r#"))
def test_no_value_gets_out_of_its_place(value: Any, place: str, terminator: str) -> None:
    try:
        sent = Template(f"SET {place}", terminator).format({"v": value})
    except ValueError:
        return
    assert sent.startswith("SET ")
    assert sent.isascii()
    assert sent.isprintable()
    assert not any(character in sent for character in f";\"'{terminator}")


# -- as who receives it reads it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "known", "values"),
    [
        ("BIAS {bias:.4f}", {}, {"bias": -1.25}),
        ("POS {x:.3f},{y:+.3e}", {}, {"x": 1.5, "y": -2.5e-3}),
        ("C {ch:d};V {v:.2f}", {"ch": 7}, {"v": 0.25}),
        ("MODE {mode};ON {on:d}", {}, {"mode": "FAST", "on": 1}),
        ("MASK #H{n:X}", {}, {"n": 255}),
        ("DUTY {d:.1%}", {}, {"d": 0.125}),
        ("*{{[(.+)]}}? {n:04d}", {}, {"n": 42}),
    ],
)
def test_a_command_is_read_as_it_was_written(text: str, known: dict[str, Any], values: dict[str, Any]) -> None:
    template = Template(text)
    read = template.reader(known)
    assert read(template.format({**known, **values})) == values
    assert read("X" + template.format({**known, **values})) is None


def test_a_command_of_another_is_none_of_its_own() -> None:
    read = Template("C {ch:d};V {v:.2f}").reader({"ch": 1})
    assert read("C 1;V 0.50") == {"v": 0.5}
    assert read("C 2;V 0.50") is None
    assert read("C 1;V half") is None


@pytest.mark.parametrize(
    "text", ["POS {x:.3f},{y:+010.2e}", "{{{x:g}}} {y:E}", "SET {x:8.1F};{y:.2G}", "R {x:%},{y:.1f}"]
)
@pytest.mark.parametrize("x", [0.0, -1.5, 1e300, 123456.789])
def test_numbers_of_python_and_of_numpy_are_formatted_alike(text: str, x: float) -> None:
    template = Template(text)
    assert template.format({"x": x, "y": 2.0}) == template.format({"x": np.float64(x), "y": np.float64(2)})
    for wrong in (math.inf, math.nan, "1", None):
        with pytest.raises(ValueError, match="'y'"):
            template.format({"x": x, "y": wrong})
    with pytest.raises(ValueError, match="'y' has no value"):
        template.format({"x": x})
