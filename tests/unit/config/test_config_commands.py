"""Commands and readings of an instrument in the file: what wrong ones are told, with the line."""

from __future__ import annotations

import pytest
from helpers.instrument_files import LAMP, ONE, STM, changed, complaints, options

from taskmaster.config.heads import has_safe_state
from taskmaster.config.load import loads

# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("BIAS {bais:.4f}", "{bais:.4f}: there is no parameter 'bais'; did you mean 'bias'?"),
        (
            "BIAS {bias:d}",
            "{bias:d}: the format does not fit parameter 'bias', whose kind is 'float'; for example {bias:.4f}",
        ),
        (
            "BIAS {bias.real}",
            (
                "{bias.real}: there is no parameter 'bias.real'; 'bias' is one, but a place takes a whole value: "
                "write {bias}"
            ),
        ),
        ("B {bias[0]}", "{bias[0]} does not name a parameter; write {name} or {name:format}, nothing else"),
        ("B {bias!r}", "{bias!r} has a conversion, '!r'; write {bias} and a format after ':'"),
        ("B {bias", "'B {bias': a brace is missing; a { or } that is meant as such is doubled"),
        ("BIAS 1\\n", "'BIAS 1\\n' cannot be a command: it has '\\n'; use the characters from ' ' to '~'"),
        ("", "'' cannot be a command: it is empty"),
    ],
)
def test_a_command_that_cannot_be_sent(command: str, expected: str) -> None:
    text = changed('"BIAS {bias:.4f}"', f'"BIAS {{bias:.4f}}",\n"{command}"')
    assert complaints(text) == [f"17: commands.set[1]: {expected}"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("open = ['B {bias:.1f}']", "commands.open[0]"),
        ("watchdog = { arm = ['W'], disarm = ['W {bias:.1f}'] }", "commands.watchdog.disarm[0]"),
        ("errors = { query = 'ERR? {bias:.1f}' }", "commands.errors.query"),
        ("watchdog = { arm = ['W {bias:.1f}'] }", "commands.watchdog.arm[0]"),
        ("watchdog = { arm = ['W'], keep = 'W {bias:.1f}' }", "commands.watchdog.keep"),
        ("ramps = { bias = { step = 1, query = 'B? {bias:.1f}' } }", "commands.ramps.bias.query"),
        ("[masters.stm.interlocks]\nhot = { query = 'T {bias:.1f}', max = 1 }", "interlocks.hot.query"),
        ("[masters.stm.monitor]\nhot = { query = 'T {bias:.1f}' }", "monitor.hot.query"),
    ],
)
def test_what_is_sent_without_a_task_has_no_values(line: str, expected: str) -> None:
    (complaint,) = complaints(STM + line)
    _, key, what = complaint.split(": ", 2)
    assert key == expected
    assert what == ("{bias}: this is sent without a task, so parameter 'bias' has no value; write the value itself")


def test_what_makes_a_head_safe_may_name_no_parameter() -> None:
    (complaint,) = complaints(changed('"BIAS 0"', '"BIAS 0", "B {bias:.1f}"'))
    assert complaint.startswith("18: commands.safe[1]: {bias}: this is sent without a task, so parameter 'bias' has")


def test_that_there_is_no_safe_state_has_to_be_written() -> None:
    """An oversight would show only when an instrument is stopped, and is not."""
    wanted = (
        "is missing: nothing would be done to a head that is stopped or lost; for example safe = ['OUTP 0'], or "
        "safe = [] for what only looks on"
    )
    assert complaints(changed('safe = ["BIAS 0"]', "")) == [f"15: commands.safe: {wanted}"]
    assert complaints(ONE.replace("commands.safe = []\n", "")) == [f"6: commands.safe: {wanted}"]
    for text, declared in ((STM, True), (changed('"BIAS 0"', ""), False), (LAMP, True), (LAMP + "safe = []", False)):
        assert has_safe_state(options(text).model_dump()) == declared
    (complaint,) = complaints(changed("safe = [", "sfae = ["))
    assert complaint == "18: commands.sfae: unknown key; did you mean 'safe'?"


def test_a_wait_and_a_reading_may_name_parameters() -> None:
    text = changed('"MEAS:CURR?"', '"MEAS? {n:d}"') + "wait = { query = 'DONE? {n:d}' }\n"
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("FAST", "A;B", "5: parameters.mode.choices: 'A;B' cannot be sent in a command: it has ';', which could end"),
        ("FAST", "Ä", "5: parameters.mode.choices: 'Ä' cannot be sent in a command: it has 'Ä'; use the characters"),
        ("min = -2.0", "nan = true", "4: parameters.bias.nan: NaN cannot be sent in a command; remove it"),
        (
            "AVER {n:d}",
            "AVER 1",
            "6: parameters.n: no command sends it; put {n} into one of commands.set, or remove it",
        ),
        (
            'kind = "int", min = 1',
            "shape = [3]",
            "16: commands.set[1]: {n:d}: parameter 'n' is an array and cannot stand in a command",
        ),
        (
            'kind = "int", min = 1',
            'kind = "any"',
            "16: commands.set[1]: {n:d}: parameter 'n' is of any kind and cannot stand in a command",
        ),
    ],
)
def test_a_parameter_that_cannot_be_sent(old: str, new: str, expected: str) -> None:
    (complaint,) = complaints(changed(old, new))
    assert complaint.startswith(expected)


def test_a_parameter_that_is_wrong_itself_is_complained_of_once() -> None:
    assert complaints(changed("min = -2.0", "mim = -2.0")) == [
        "4: parameters.bias.mim: unknown key; did you mean 'min'?"
    ]


def test_no_number_for_an_instrument_is_infinite() -> None:
    assert {field.name: field.finite for field in loads(STM).masters["stm"].parameter_fields} == {
        "bias": True, "mode": False, "n": False,
    }  # fmt: skip
    assert not any(field.finite for field in loads(STM).masters["stm"].output_fields)


def test_a_terminator_stands_in_no_command() -> None:
    assert complaints(STM.replace("{n:d}", "{n:d}!")) == []
    text = changed('driver = "visa"', 'driver = "visa"\nwrite_terminator = "!"').replace("{n:d}", "{n:d}!")
    assert complaints(text) == [
        (
            "17: commands.set[1]: 'MODE {mode};AVER {n:d}!' cannot be a command: it has the terminator '!', "
            "which is added by itself"
        )
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("opne = ['*CLS']", "commands.opne: unknown key; did you mean 'open'?"),
        ("open = '*CLS'", "commands.open: expected a list, got '*CLS'"),
        ("open = [1]", "commands.open[0]: expected text in quotes, got 1"),
        ("delay = 'soon'", "commands.delay: 'soon' is not a duration; write a number and one of us, µs, ms, s, min, h"),
        ("wait = '*OPC?'", "commands.wait: expected a table, got '*OPC?'"),
        ("wait = { until = '1' }", "commands.wait.query: is missing; for example query = '*OPC?'"),
        ("wait = { query = '*OPC?', until = '(' }", "commands.wait.until: '(' is not a regular expression: missing ),"),
        ("errors = { query = 'E?', okay = '0' }", "commands.errors.okay: unknown key; did you mean 'ok'?"),
        ("watchdog = { every = '1 s' }", "commands.watchdog.arm: is missing; for example arm = 'WDOG 5'"),
        ("watchdog = { arm = [] }", "commands.watchdog.arm: expected at least 1 elements, got []"),
        (
            "ramps = { bais = { step = 1, start = 0 } }",
            "commands.ramps.bais: there is no parameter 'bais'; did you mean",
        ),
        ("ramps = { bias = { step = 0, start = 0 } }", "commands.ramps.bias.step: expected more than 0.0, got 0"),
        (
            "ramps = { bias = { step = 1 } }",
            "commands.ramps.bias: where a ramp begins has to be known from one place; add query or start",
        ),
        (
            "ramps = { bias = { step = 1, start = 0, query = 'B?' } }",
            "commands.ramps.bias.start: where a ramp begins has to be known from one place; remove one of query and",
        ),
        (
            "ramps = { n = { step = 0.5, start = 0 } }",
            "commands.ramps.n.step: expected a whole number, as the parameter's kind is 'int', got 0.5",
        ),
        (
            "ramps = { mode = { step = 1, start = 0 } }",
            "commands.ramps.mode: only a number can be ramped, and parameter 'mode' is one of choices",
        ),
    ],
)
def test_a_key_of_the_commands(line: str, expected: str) -> None:
    (complaint,) = complaints(STM + line)
    assert complaint.startswith(f"19: {expected}")


# -- readings ----------------------------------------------------------------------------------------------------------


def test_outputs_and_readings_belong_together() -> None:
    assert complaints(changed("read = { current", "read = { curent")) == [
        "8: outputs.current: nothing reads it; add commands.read.current, or remove it",
        "17: commands.read.curent: there is no output 'curent'; did you mean 'current'?",
    ]
    assert complaints(STM.replace('[masters.stm.outputs]\ncurrent = { unit = "A" }\n', "")) == [
        "15: commands.read.current: there is no output 'current'; declare it in outputs"
    ]


@pytest.mark.parametrize(
    ("output", "reading", "expected"),
    [
        ("{}", "3", ": expected a query or a table, got 3"),
        ("{}", "{ parse = 'number' }", ".query: is missing; for example query = 'MEAS:CURR?'"),
        (
            "{}",
            "{ query = 'Q?', parse = 'numbr' }",
            ".parse: expected 'number', 'list', 'text' or 'block', got 'numbr'; did you mean 'number'?",
        ),
        (
            "{}",
            "{ query = 'Q?', pattern = '(a)(b)' }",
            ".pattern: expected at most one group, got 2 in '(a)(b)'; (?:…) groups without one",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'number', separator = ';' }",
            ".separator: parse = 'number' has no use for it; only 'list' has",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'number', dtype = '<f4' }",
            ".dtype: parse = 'number' has no use for it; only 'block' has",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'block', dtype = 'f4' }",
            ".dtype: expected '<' or '>' and f4, i2, u8, …, or i1, u1, got 'f4'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'block' }",
            ".dtype: is missing; for example dtype = '<f4'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', parse = 'number' }",
            ".parse: 'number' gives a single value, and the output has a shape; use 'list' or 'block'",
        ),
        (
            "{}",
            "{ query = 'Q?', parse = 'list' }",
            ".parse: 'list' gives an array; declare the output's shape, such as shape = [-1]",
        ),
        ("{}", "{ query = 'Q?', parse = 'text' }", ".parse: 'text' gives text, and the output's kind is 'float'"),
        (
            "{ kind = 'str' }",
            "{ query = 'Q?', parse = 'number' }",
            ".parse: 'number' gives numbers, and the output's kind is 'str'",
        ),
        (
            "{ shape = [3, -1] }",
            "{ query = 'Q?', shape = [-1] }",
            ".shape: expected 2 axes, as the output has, got 1",
        ),
        (
            "{ shape = [3, -1] }",
            "{ query = 'Q?', shape = [4, 'n'] }",
            ".shape: expected the output's, [3, -1], got [4, 'n']",
        ),
        ("{ shape = [-1] }", "{ query = 'Q?', shape = ['m'] }", ".shape[0]: there is no parameter 'm'; there are"),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', shape = ['bias'] }",
            ".shape[0]: expected a parameter of kind 'int', and 'bias' is of kind 'float'",
        ),
        (
            "{ shape = [-1] }",
            "{ query = 'Q?', shape = [-2] }",
            ".shape[0]: expected a whole number of at least -1 or the name of a parameter, got -2",
        ),
        ("{ shape = [-1] }", "{ query = 'Q?', shape = [0] }", ".shape[0]: an axis of length 0 has no values; write -1"),
        (
            "{ shape = [-1, -1] }",
            "{ query = 'Q?', shape = [-1, -1] }",
            ".shape: only one axis can be of any length; give the others' or the parameters that have them",
        ),
    ],
)
def test_a_reading(output: str, reading: str, expected: str) -> None:
    text = changed('{ unit = "A" }', output).replace('"MEAS:CURR?"', reading)
    (complaint,) = complaints(text)
    assert complaint.startswith(f"17: commands.read.current{expected}")


@pytest.mark.parametrize(
    ("output", "reading", "parse", "shape"),
    [
        ("{}", "'Q?'", "number", ()),
        ("{ kind = 'bool' }", "'Q?'", "number", ()),
        ("{ kind = 'str' }", "'Q?'", "text", ()),
        ("{ shape = [-1] }", "'Q?'", "list", (-1,)),
        ("{ shape = [2, -1] }", "{ query = 'Q?', parse = 'block', dtype = '>i2' }", "block", (2, -1)),
        ("{ shape = [-1, -1] }", "{ query = 'Q?', shape = ['n', -1] }", "list", ("n", -1)),
    ],
)
def test_what_a_reading_leaves_out_follows_from_the_output(
    output: str, reading: str, parse: str, shape: tuple[object, ...]
) -> None:
    text = changed('{ unit = "A" }', output).replace('"MEAS:CURR?"', reading)
    found = options(text).commands.read["current"]
    assert (found.query, found.parse, found.shape) == ("Q?", parse, shape)
