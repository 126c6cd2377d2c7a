"""``taskmaster serve``: the daemon in the foreground, as a service manager or a terminal runs it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def command(config: Path, verbose: bool) -> None:
    """Run the daemon that CONFIG describes until Ctrl-C or SIGTERM; a second one stops it at once."""
    from taskmaster.config.load import load
    from taskmaster.daemon.core import Identity
    from taskmaster.daemon.plan import plan
    from taskmaster.daemon.service import serve

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s"
    )
    prepared = plan(load(config))

    def on_ready(identity: Identity, address: str) -> None:
        masters = ", ".join(master.spec.name for master in prepared.masters)
        click.echo(f"{identity.name}: serving {masters} at {address} (Ctrl-C stops)", err=True)

    serve(prepared, on_ready)
