"""Instruments in the file as a whole: a plain one, what keeps it safe, and those that are shipped."""

from __future__ import annotations

import math
import re
import socket

import pytest
from helpers.instrument_files import STM, changed, complaints

from taskmaster.config.heads import heads_of
from taskmaster.config.instruments import CommandOptions, VisaOptions
from taskmaster.config.load import load, loads
from taskmaster.config.shipped import example
from taskmaster.config.templates import Template
from taskmaster.drivers.simulated import Laboratory


def test_the_plain_description_is_right() -> None:
    assert complaints(STM) == []
    master = loads(STM).masters["stm"]
    assert isinstance(master.options, VisaOptions)
    assert (master.on_lost, master.options.deadman, master.options.query_timeout) == ("hold", 60.0, 2.0)


# -- safety ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interlock", "expected"),
    [
        ("{ max = 1 }", ".query: is missing; for example query = 'TEMP?'"),
        ("{ query = 'T?' }", ".min: nothing would trip this interlock; add min, max, equals, below or above"),
        ("{ query = 'T?', min = 2, max = 1 }", ".max: expected at least min = 2, got 1"),
        ("{ query = 'T?', min = 2, equals = 1 }", ".equals: cannot stand beside min or max; remove one of them"),
        ("{ query = 'T?', equals = [1] }", ".equals: expected a number, text or true/false, got [1]"),
        ("{ query = 'T?', max = 1, action = 'halt' }", ".action: expected 'pause', 'safe' or 'stop', got 'halt'"),
        ("{ query = 'T?', max = 1, every = 0 }", ".every: expected a duration of at least '10 ms', got 0"),
        ("{ query = 'T?', below = 'tip-3' }", ".below: there is no head 'tip-3'; did you mean 'tip-2'?"),
        ("{ query = 'T?', head = 'a', max = 1 }", ".head: there is no head 'a'; there are 'tip-1', 'tip-2'"),
        ("{ query = 'T?', head = 'tip-1', above = 'tip-1' }", ".above: 'tip-1' is the head itself; name another one"),
        ("{ method = 't', query = 'T?', max = 1 }", ".method: unknown key; known are 'above', 'action', 'below',"),
    ],
)
def test_an_interlock(interlock: str, expected: str) -> None:
    (complaint,) = complaints(f"{STM}[masters.stm.interlocks]\nhot = {interlock}")
    assert complaint.startswith(f"20: interlocks.hot{expected}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deadman = '5 s'", "deadman: expected at least the daemon's lost_after = 10 s, got 5 s"),
        ("deadman = 'never'", "deadman: 'never' is not a duration; write a number and one of"),
        ("reconnect = { first = 9, longest = 1 }", "reconnect.longest: expected at least first = 9 s, got 1 s"),
        ("quarantine_after = 0", "quarantine_after: expected at least 1, got 0"),
        (
            "resume_policy = 'resum'",
            "resume_policy: expected 'resume', 'restart', 'fail' or 'ask', got 'resum'; did you",
        ),
        ("max_attempts = 3", "max_attempts: has no effect without on_lost = 'retry': a task of an instrument is"),
        ("workers = 3", "workers: driver 'visa' has no such key; 'process' has"),
        ("path = ['.']", "path: driver 'visa' has no such key; 'process', 'thread', 'gpu', 'instrument' have"),
        ("read_terminator = 'abcde'", "read_terminator: expected at most 4 ASCII characters, such as"),
        ("monitor = { t = { query = 'T?', every = 0 } }", "monitor.t.every: expected a duration of at least '50 ms'"),
    ],
)
def test_a_key_of_the_master(line: str, expected: str) -> None:
    (complaint,) = complaints(changed('driver = "visa"', f'driver = "visa"\n{line}'))
    assert complaint.startswith(f"3: {expected}")


def test_a_retry_has_to_be_asked_for() -> None:
    text = changed('driver = "visa"', 'driver = "visa"\non_lost = "retry"\nmax_attempts = 2')
    master = loads(text).masters["stm"]
    assert (master.on_lost, master.max_attempts) == ("retry", 2)


# -- examples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "heads"), [("stm", 4), ("chambers", 12)])
def test_the_examples_are_for_the_simulated_laboratory(name: str, heads: int) -> None:
    found = load(example(name)).masters[name].options
    assert isinstance(found, CommandOptions)
    declared = heads_of(found.model_dump())
    assert len(declared) == heads
    assert len({head["resource"] for head in declared}) == heads
    assert found.commands.safe


@pytest.mark.parametrize(("name", "simulator", "heads"), [("stm", "probe", "heads"), ("chambers", "chambers", "count")])
def test_the_simulated_laboratory_understands_the_examples(name: str, simulator: str, heads: str) -> None:
    """All that they send, each once, with the largest value of each parameter; the answers are what they expect."""
    master = load(example(name)).masters[name]
    assert isinstance(master.options, CommandOptions)
    commands = master.options.commands
    assert commands.wait is not None
    assert commands.errors is not None
    point = {field.name: field.max for field in master.parameter_fields}
    (head,) = [head for head in heads_of(master.options.model_dump()) if head["name"].endswith("-1")]
    queries = [interlock.query for interlock in master.options.interlocks.values()]
    queries += [value.query for value in master.options.monitor.values()]
    queries += [ramp.query for ramp in commands.ramps.values() if ramp.query is not None]
    with (
        Laboratory(simulator, None, stdin=None, **{heads: 1}) as laboratory,
        Talk(laboratory.heads[0].address) as talk,
    ):
        assert re.fullmatch(head["identity"], talk.ask(master.options.identify))
        talk.tell(*commands.open, *(Template(text).format(point) for text in commands.set))
        assert re.fullmatch(commands.wait.until, talk.ask(commands.wait.query))
        for query in [reading.query for reading in commands.read.values()]:
            assert math.isfinite(float(talk.ask(Template(query).format(point))))
        assert all(talk.ask(query) for query in queries)
        if commands.watchdog is not None:
            assert commands.watchdog.keep is not None
            talk.tell(*commands.watchdog.arm, *commands.watchdog.disarm)
            assert talk.ask(commands.watchdog.keep)
        talk.tell(*commands.safe)
        assert re.fullmatch(commands.errors.ok, talk.ask(commands.errors.query))


class Talk:
    """A line protocol with one head."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._lines = self._socket.makefile("rb")

    def tell(self, *commands: str) -> None:
        self._socket.sendall("".join(f"{command}\n" for command in commands).encode())

    def ask(self, query: str) -> str:
        self.tell(query)
        return self._lines.readline().decode().rstrip("\n")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lines.close()
        self._socket.close()
