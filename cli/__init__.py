"""The ``taskmaster`` command. Each subcommand is a module that is only imported when it is called."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the command line."""
    from taskmaster.cli.app import run

    run()
