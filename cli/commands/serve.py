"""``taskmaster serve``: the daemon in the foreground."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus.places import ENVIRONMENT, default_address
from taskmaster.cli.base import Command
from taskmaster.cli.logs import log_options, log_to_stderr

if TYPE_CHECKING:
    from taskmaster.daemon.core import Identity

__all__ = ["command"]

log = logging.getLogger("taskmaster.daemon")


@click.command("serve", cls=Command)
@click.argument("config", type=click.Path(path_type=Path))
@log_options
def command(config: Path, log_level: str, log_format: str) -> None:
    """Run the daemon that CONFIG describes, in the foreground.

    Ctrl-C or SIGTERM stops it in order: evaluations under way may finish for as long as 'grace' says; a second one
    stops it at once. Nothing that was acknowledged is lost either way.
    """
    from taskmaster.config.load import load
    from taskmaster.daemon.plan import plan
    from taskmaster.daemon.service import serve

    log_to_stderr(log_level, log_format)
    serve(plan(load(config)), _on_ready)


def _on_ready(identity: Identity, address: str) -> None:
    if address != default_address():
        log.info("clients find it by: export %s=%s", ENVIRONMENT, address)
