"""docs/simulated.md says what the code does."""

from __future__ import annotations

import argparse
import inspect

import pytest
from helpers.documents import code_blocks, document, section, tables

from taskmaster.drivers.simulated.__main__ import parser
from taskmaster.drivers.simulated.actions import Action
from taskmaster.drivers.simulated.chambers import Chamber
from taskmaster.drivers.simulated.control import ControlChannel, requests
from taskmaster.drivers.simulated.faults import FAULTS
from taskmaster.drivers.simulated.probe import ProbeHead
from taskmaster.drivers.simulated.scpi import ERRORS, Command, Instrument

DOCUMENT = document("docs/simulated.md")


def as_cells(*cells: str) -> list[str]:
    return [cell.strip("`") for cell in cells]


def rows(commands: list[Command]) -> list[list[str]]:
    return [as_cells(c.header, "; ".join(map(str, c.takes)) or "–", c.kind, c.answers or "–", c.does) for c in commands]


def is_common(command: Command) -> bool:
    return getattr(Instrument, command.handler.__name__, None) is command.handler


@pytest.mark.parametrize("kind", [ProbeHead, Chamber])
def test_every_command_has_its_row(kind: type[Instrument]) -> None:
    [common] = tables(section(DOCUMENT, "All instruments"))
    [own] = tables(section(DOCUMENT, "Probe heads" if kind is ProbeHead else "Chambers"))
    assert common == rows([command for command in kind.COMMANDS if is_common(command)])
    assert own == rows([command for command in kind.COMMANDS if not is_common(command)])


def test_every_error_fault_and_field_has_its_row() -> None:
    assert tables(section(DOCUMENT, "Errors")) == [[[str(code), text] for code, text in ERRORS.items()]]
    assert tables(section(DOCUMENT, "What goes wrong")) == [[as_cells(*row) for row in FAULTS.items()]]
    [fields] = tables(section(DOCUMENT, "The record"))
    assert [row[0] for row in fields] == list(Action._fields)


def test_every_request_has_its_row() -> None:
    [listed] = tables(section(DOCUMENT, "The control channel"))
    assert [[row[0], row[2]] for row in listed] == [as_cells(*row) for row in requests().items()]
    for name, takes, _ in listed:
        parameters = list(inspect.signature(getattr(ControlChannel, f"_do_{name}")).parameters.values())[1:]
        for parameter in parameters:
            shown = "…" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
            assert shown in takes, f"{name}: {shown}"


@pytest.mark.parametrize(("simulator", "index"), [("probe", 0), ("chambers", 1)])
def test_every_option_has_its_row(simulator: str, index: int) -> None:
    [subparsers] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    options = [action for action in subparsers.choices[simulator]._actions if action.dest != "help"]
    listed = tables(section(DOCUMENT, "Options"))[index]
    assert listed == [[option.option_strings[0], option.help] for option in options]


def test_its_programs_run(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile("\n".join(code_blocks(DOCUMENT, "python")), "docs/simulated.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "ACME,STM-HEAD,0001,1.0" in printed
    assert "A: +" in printed
