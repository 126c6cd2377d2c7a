"""The ``taskmaster`` command. Everything it needs is imported when it is called: other programs import parts of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line with ``arguments`` (the program's own by default) and end with its exit code."""
    from taskmaster.cli.app import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
