"""``taskmaster top``: Masters and workers at work, drawn in place."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.status import DaemonStatus, HeadInfo
from taskmaster.bus.text import format_duration
from taskmaster.cli.base import Command, address_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.heads_view import units_of, work_table
from taskmaster.cli.output import console, is_terminal, rich_table
from taskmaster.cli.views import Rates, facts, masters_table, troubles, workers_table
from taskmaster.learners.client import Lab

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["command"]

#: Alarms that are kept in sight.
_ALARMS = 3
#: A daemon that has not answered for this long is said to be silent.
_SILENCE_SECONDS = 2.0


@click.command("top", cls=Command)
@click.argument("master", required=False)
@click.option(
    "-i", "--interval", metavar="SECONDS", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True,
    help="Between two looks.",
)  # fmt: skip
@address_option
def command(master: str | None, interval: float, address: str | None) -> None:
    """Watch Masters and workers at work.

    With MASTER, only that one. Press q or Ctrl-C to leave.
    """
    if not is_terminal():
        raise click.UsageError("top draws on a terminal; use 'taskmaster status', or its --json, elsewhere")
    from rich.live import Live

    from taskmaster.cli.keys import wait_for_key

    with connected(address) as lab:
        if master is not None:
            _ = lab[master]  # raises UnknownMaster
        screen = _Screen(lab, master, interval)
        with Live(console=console(), get_renderable=screen.render, refresh_per_second=4, screen=True), screen:
            try:
                wait_for_key("qQ")
            except KeyboardInterrupt:
                return  # one of the two ways to leave


class _Screen:
    """What is shown, and the thread that asks for it: a daemon slow to answer must not keep the keys waiting."""

    def __init__(self, lab: Lab, master: str | None, interval: float) -> None:
        self._lab = lab
        self._master = master
        self._interval = interval
        self._rates = Rates()
        self._status: DaemonStatus | None = None
        self._heads: tuple[HeadInfo, ...] = ()
        self._error = ""
        self._seen = 0.0
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, name="top", daemon=True)

    def __enter__(self) -> _Screen:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()

    def _look(self) -> None:
        while not self._left.is_set():
            try:
                status, self._heads = self._lab.status(), self._lab.heads(self._master)
            except TaskMasterError as error:
                self._error = str(error)
            else:
                self._seen = time.monotonic()
                self._rates.look(status, self._seen)
                self._status = status
            self._left.wait(self._interval)

    def _last_word(self) -> Text:
        from rich.text import Text

        silence = time.monotonic() - self._seen - self._interval
        if silence < _SILENCE_SECONDS:
            return Text("q leaves", "dim")
        return Text(f"the daemon has not answered for {format_duration(round(silence))}; q leaves", "bold red")

    def render(self) -> RenderableType:
        """The whole screen."""
        from rich.console import Group
        from rich.text import Text

        status = self._status
        if status is None:
            return Text(self._error or "waiting for the daemon …")  # an error after the first look shows as silence
        width = shutil.get_terminal_size().columns
        masters = [one for one in status.masters if self._master in (None, one.name)]
        heads, instruments = self._heads, {info.master for info in self._heads}
        others = [one for one in masters if one.name not in instruments]
        parts: list[RenderableType] = [
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in facts(status, self._lab.address)),
            self._last_word(),  # above the tables, which may be longer than the screen
            Text(),
            rich_table(masters_table(masters, self._rates), width),
            Text(),
            *((rich_table(work_table(heads, units_of(self._lab, heads)), width), Text()) if heads else ()),
            *((rich_table(workers_table(others, self._rates), width), Text()) if others else ()),
            *(Text(line, "red") for line in troubles(status)),
            *(Text(alarm.message, "yellow") for alarm in self._lab.alarms[-_ALARMS:]),
        ]
        return Group(*parts)
