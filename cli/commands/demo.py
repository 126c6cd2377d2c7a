"""``taskmaster demo``"""

from __future__ import annotations

from pathlib import Path

import click

from taskmaster.bus.text import did_you_mean_or
from taskmaster.cli.base import Command

__all__ = ["command"]


@click.command("demo", cls=Command)
@click.argument("which", default="stm")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default="demo-output", show_default=True,
    help="The folder for the picture, the table and the daemon's log.",
)  # fmt: skip
@click.option(
    "--points", metavar="N", type=click.IntRange(min=1), help="How many points; by default what takes about a minute."
)
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path),
    help="Where the daemon keeps its journal: an interrupted demo goes on there. By default a temporary folder.",
)  # fmt: skip
@click.option("--headless", is_flag=True, help="Print lines, also on a terminal, instead of drawing in place.")
def command(which: str, output: Path, points: int | None, state: Path | None, headless: bool) -> None:
    """See a learner drive an evaluation through a daemon.

    stm: what does a surface look like? Four heads of a simulated probe image it where an adaptive learner chooses. One
    of them is unplugged meanwhile.

    chambers: in which climate does a plant grow most? Twelve simulated growth chambers look for it, a day in a second.
    The heater of one sticks.

    svm: how well does a support-vector classifier recognise handwritten digits? An adaptive learner finds out for which
    settings, with two worker processes.

    Kill the daemon meanwhile: nothing is lost.
    """
    from taskmaster.cli.demo import DEMOS, run_demo

    if which not in DEMOS:
        raise click.UsageError(f"there is no demo {which!r}{did_you_mean_or(which, DEMOS)}")
    run_demo(which, output, points=points, state=state, headless=headless)
