"""Instruments by a class, and people, in the file: what a wrong description is told."""

from __future__ import annotations

import pytest
from helpers.instrument_files import LAMP, complaints, options

from taskmaster.config.instruments import HumanOptions, InstrumentClassOptions
from taskmaster.config.load import loads


def test_a_class_and_what_is_done_with_it() -> None:
    found = options(LAMP + "init = { power = 0 }\ncall = 'fire'\nsafe = ['shutdown', { power = 0 }]")
    assert isinstance(found, InstrumentClassOptions)
    assert found.importables() == {"class": "lamp:Lamp"}
    assert found.model_dump()["class"] == "lamp:Lamp"
    assert (found.init, found.call, found.safe) == (({"power": 0},), ("fire",), ("shutdown", {"power": 0}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("init = 3", "init: expected the name of a method, or a table of properties and values, got 3"),
        (
            "safe = ['shut down']",
            "safe: expected the name of a property, parameter or method, such as 'ch1.voltage', got",
        ),
        ("args = 3", "args: expected a list, got 3"),
        ("clas = 'a:b'", "clas: unknown key; did you mean 'class'?"),
        ("commands = {}", "commands: driver 'instrument' has no such key; 'visa', 'serial' have"),
        ("interlocks.hot = { query = 'T?', max = 1 }", "interlocks.hot.method: is missing; for example method = 'temp"),
        ("parameters.colour = {}", "parameters.colour: nothing sets it; add set.colour, or remove it"),
        ("outputs.colour = {}", "outputs.colour: nothing reads it; add read.colour, or remove it"),
        ("set.powre = 'power'", "set.powre: there is no parameter 'powre'; did you mean 'power'?"),
    ],
)
def test_a_key_of_a_class(line: str, expected: str) -> None:
    text = LAMP.replace('set = { power = "dimmer.power" }', 'set.power = "dimmer.power"')
    found = complaints(text + line)
    assert any(complaint.startswith(f"8: {expected}") for complaint in found), found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("args = ['{resorce}']", "args[0]: {resorce}: nothing is filled in there; did you mean {resource}?"),
        (
            "kwargs = { at = { class = 'a:B', kwargs = { where = 'at {port}' } } }",
            "kwargs.at.kwargs.where: {port}: nothing is filled in there; there are {resource} and {name}.",
        ),
        ("heads = [{ name = 'a', args = ['{nane}'] }]", "heads[0].args[0]: {nane}: nothing is filled in there; did"),
        ("args = ['{resource}', '{name}', '{{port}}', '{\"a\": 1}', '{0:.3f}', '{}']", None),
    ],
)
def test_a_place_in_arguments(line: str, expected: str | None) -> None:
    found = complaints(LAMP + line)
    if expected is None:
        assert found == []
    else:
        number = len(LAMP.splitlines()) + 1
        (complaint,) = found
        assert complaint.startswith(f"{number}: {expected}")
        assert "As a text of its own, write {{" in complaint


def test_a_class_that_is_not_named() -> None:
    assert complaints(LAMP.replace("lamp:Lamp", "lamp.Lamp")) == [
        "3: class: expected 'module:name', got 'lamp.Lamp'; did you mean 'lamp:Lamp'?"
    ]
    assert complaints(LAMP.replace('class = "lamp:Lamp"\n', "")) == [
        "1: class: is missing; for example class = 'lab:Probe'"
    ]


def test_a_head_of_ones_own_needs_no_tables() -> None:
    bare = '[masters.stm]\ndriver = "instrument"\nclass = "lab:Probe"\nparameters.x = {}\noutputs.y = {}\n'
    assert complaints(bare) == []
    assert options(bare).resource is None


PERSON = '[masters.stm]\ndriver = "human"\nquestion = "Weigh it."\noutputs.mass = { min = 0 }\n'


def test_a_person() -> None:
    found = options(PERSON)
    assert isinstance(found, HumanOptions)
    assert (found.claim_expires, found.people) == (1800.0, 1)
    assert loads(PERSON).masters["stm"].on_lost == "retry"
    assert complaints(PERSON + "timeout = '1 h'\npeople = 0") == [
        "5: timeout: nobody stops a person, so driver 'human' has no timeout; claim_expires is its like",
        "6: people: expected at least 1, got 0",
    ]
    assert complaints(PERSON.replace("outputs.mass = { min = 0 }\n", "")) == [
        "1: outputs: are missing; an answer is checked against them, so declare what is to be entered"
    ]
