"""docs/cli.md says of the command line what that does."""

from __future__ import annotations

from helpers.documents import document, section, tables

from taskmaster.cli.app import COMMANDS
from taskmaster.cli.exits import EXITS
from taskmaster.cli.reference import reference

CLI = document("docs/cli.md")


def test_every_command_and_option_is_described_as_it_is() -> None:
    printed = section(CLI, "Commands")
    printed = printed[printed.index("### To begin with") :]
    assert printed.strip() == reference().strip(), "put there what `python -m taskmaster.cli.reference` prints"


def test_every_exit_code_is_listed_as_it_is() -> None:
    [listed] = tables(section(CLI, "Exit codes"))
    assert listed == [[str(way.code), way.meaning] for way in EXITS]


def test_the_changelog_names_every_command() -> None:
    changes = document("CHANGELOG.md")
    for commands in COMMANDS.values():
        for name in commands:
            assert f"`{name}`" in changes or f"`taskmaster {name}`" in changes, name
