"""``taskmaster demo``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("which", default="svm")
@click.option(
    "-o",
    "--output",
    default="demo-output",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the picture.",
)
@click.option("--points", type=int, help="How many points to evaluate.")
@click.option("--headless", is_flag=True, help="Plain lines instead of a live display.")
@click.option("--state", type=click.Path(path_type=Path), help="Keep the daemon's state in this folder.")
def command(which: str, output: Path, points: int | None, headless: bool, state: Path | None) -> None:
    """A learner explores a real function on two processes, driven from another process than the daemon's."""
    from taskmaster.cli.demo import run_demo

    run_demo(which, output, points=points, headless=headless, state=state)
