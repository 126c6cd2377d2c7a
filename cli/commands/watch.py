"""``taskmaster watch``: follow the results of a run, or what its evaluations tell meanwhile."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.status import HeadInfo
from taskmaster.cli.base import Command, address_option, json_option
from taskmaster.cli.connecting import connected, in_master, newest_run
from taskmaster.cli.heads_view import Units, units_of, work_table
from taskmaster.cli.lines import ResultLines, print_progress
from taskmaster.cli.output import console, is_terminal, rich_table
from taskmaster.learners.client import Lab

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["command"]

#: Between two looks at the heads.
_LOOK_SECONDS = 0.5


@click.command("watch", cls=Command)
@click.argument("master")
@click.argument("run", required=False)
@click.option(
    "--since", type=click.Choice(["start", "now"]), default="start", show_default=True,
    help="All results of the run, or those that come from now on.",
)  # fmt: skip
@click.option("--progress", is_flag=True, help="What evaluations tell of their progress, instead of results.")
@address_option
@json_option
def command(master: str, run: str | None, since: str, progress: bool, address: str | None, as_json: bool) -> None:
    """Follow the results of a run of MASTER as they come.

    RUN is its name or number; without it, the newest run. Ends when the run is closed and every task of it has an
    outcome; Ctrl-C leaves before, and changes nothing. Of an instrument a terminal shows below what each head is doing.
    """
    with connected(address) as lab, contextlib.ExitStack() as stack:
        info = newest_run(lab, master) if run is None else in_master(lab, master, run)
        if not as_json:
            click.echo(f"run {info.run}, {master}/{info.name}:", err=True)
        heads = () if as_json or not is_terminal() else lab.heads(master)
        followed = lab[master].watch(info.name, since)
        if heads:
            stack.enter_context(_Below(lab, master, heads))
        if progress:
            units = units_of(lab, lab.heads(master)).get(master, {})
            for point in followed.follow_progress(since):
                print_progress(point, units, as_json=as_json)
            return
        lines = ResultLines(lab[master], as_json=as_json)
        for result in followed.results.follow():
            lines.print(result)


class _Below:
    """What the heads are doing, below the lines that are printed; and the thread that asks for it."""

    def __init__(self, lab: Lab, master: str, heads: tuple[HeadInfo, ...]) -> None:
        from rich.live import Live

        self._lab = lab
        self._master = master
        self._heads = heads
        self._units: Units = units_of(lab, heads)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._console = console()
        self._live = Live(console=self._console, get_renderable=self._drawn, refresh_per_second=4, transient=True)

    def __enter__(self) -> None:
        self._live.__enter__()
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._live.__exit__(None, None, None)

    def _look(self) -> None:
        while not self._left.wait(_LOOK_SECONDS):
            with contextlib.suppress(TaskMasterError):  # the daemon is away: what was seen last stays
                self._heads = self._lab.heads(self._master)

    def _drawn(self) -> RenderableType:
        return rich_table(work_table(self._heads, self._units), self._console.width)
