"""``taskmaster serve``: the daemon in the foreground."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.places import ENVIRONMENT, default_address
from taskmaster.cli.base import Command
from taskmaster.cli.logs import log_options, log_to_stderr

if TYPE_CHECKING:
    from taskmaster.config.load import Config
    from taskmaster.daemon.core import Identity

__all__ = ["command"]

log = logging.getLogger("taskmaster.daemon")


@click.command("serve", cls=Command)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--simulate", is_flag=True,
    help="Have simulators, made from the descriptions, in the instruments' place, and another state folder.",
)  # fmt: skip
@log_options
def command(config: Path, simulate: bool, log_level: str, log_format: str) -> None:
    """Run the daemon that CONFIG describes, in the foreground.

    Ctrl-C or SIGTERM stops it in order: evaluations under way may finish for as long as 'grace' says; a second one
    stops it at once. Nothing that was acknowledged is lost either way.

    With --simulate no instrument is touched: what is asked of one is answered by a simulator, within the limits of the
    outputs. Instruments of a Python class cannot be simulated, so their Masters are left out. The journal is in a
    folder beside the real one, STATE-simulated.
    """
    from taskmaster.config.load import load
    from taskmaster.daemon.plan import plan
    from taskmaster.daemon.service import serve

    log_to_stderr(log_level, log_format)
    loaded = load(config)
    if not simulate:
        serve(plan(loaded), _on_ready)
        return
    with _simulated(loaded) as on_bench:
        serve(plan(on_bench), _on_ready)


@contextmanager
def _simulated(config: Config) -> Iterator[Config]:
    """The configuration with simulators in the place of its instruments."""
    from taskmaster.drivers.simulated.bench import not_simulated, simulated

    left_out = not_simulated(config)
    for name, reason in left_out.items():
        log.warning("Master %r is left out: %s", name, reason)
    if len(left_out) == len(config.masters):
        raise ConfigError(f"{config.path}: none of the Masters can be simulated")
    with simulated(config) as (on_bench, laboratory):
        if laboratory is not None:
            control = laboratory.control.address
            heads = ", ".join(head.name for head in laboratory.heads)
            log.info("simulated: %s; what goes wrong is said at %s (docs/simulated.md)", heads, control)
        log.info("what is simulated is kept in %s", on_bench.daemon.state)
        yield on_bench


def _on_ready(identity: Identity, address: str) -> None:
    if address != default_address():
        log.info("clients find it by: export %s=%s", ENVIRONMENT, address)
