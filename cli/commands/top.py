"""``taskmaster top``: Masters and workers at work, drawn in place."""

from __future__ import annotations

import datetime
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import click

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.status import DaemonStatus, HeadInfo
from taskmaster.bus.text import format_duration
from taskmaster.cli.base import Command, address_option
from taskmaster.cli.connecting import connected
from taskmaster.cli.heads_view import units_of, work_table
from taskmaster.cli.output import console, is_terminal, one_line, rich_table
from taskmaster.cli.views import Rates, devices_table, facts, masters_table, troubles, workers_table
from taskmaster.learners.client import Lab

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["command"]

#: Alarms that are kept in sight.
_ALARMS = 3
#: What is on record of a stop by a key.
_REASON = "key S in top"
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

    With MASTER, only that one. Press q or Ctrl-C to leave. Press S, a capital, for an emergency stop of the instruments
    shown, as by 'taskmaster stop': nothing is asked, and 'taskmaster reset' undoes it.
    """
    if not is_terminal():
        raise click.UsageError("top draws on a terminal; use 'taskmaster status', or its --json, elsewhere")
    from rich.live import Live

    from taskmaster.cli.keys import keys_pressed

    with connected(address) as lab:
        if master is not None:
            _ = lab[master]  # raises UnknownMaster
        screen = _Screen(lab, master, interval)
        with (
            suppress(KeyboardInterrupt),  # one of the two ways to leave
            Live(console=console(), get_renderable=screen.render, refresh_per_second=4, screen=True) as live,
            screen,
            closing(keys_pressed("qQS")) as keys,
        ):
            while next(keys, "q") == "S":
                screen.stop(live.refresh)


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
        #: what has become of the last emergency stop, in which style
        self._stopped = ("", "")
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

    def stop(self, refresh: Callable[[], None]) -> None:
        """Emergency stop of what is shown; what becomes of it is shown by ``refresh``."""
        whose = "all instruments" if self._master is None else f"Master {self._master!r}"
        again = "taskmaster reset" + ("" if self._master is None else f" {self._master}")
        self._stopped = f"stopping {whose} …", "bold red"
        refresh()
        try:
            self._lab.stop(self._master, _REASON)
        except TaskMasterError as error:
            self._stopped = f"NOT STOPPED: {error}", "bold white on red"
        else:
            at = datetime.datetime.now().isoformat(" ", "seconds")
            self._stopped = f"{at}: stopped {whose}, until: {again}", "bold red"
        refresh()

    def _last_words(self) -> list[Text]:
        from rich.text import Text

        silence = time.monotonic() - self._seen - self._interval
        keys = "q leaves; S stops the instruments at once" if self._heads else "q leaves"
        if silence < _SILENCE_SECONDS:
            words = Text(keys, "dim")
        else:
            words = Text(f"the daemon has not answered for {format_duration(round(silence))}; {keys}", "bold red")
        text, style = self._stopped
        if not text:
            return [words]
        stopped = [info for info in self._heads if info.state == "stopped"]
        safe = sum(info.safe for info in stopped)
        share = f" ({safe} of {len(stopped)} heads are known to be safe)" if stopped else ""
        return [words, Text(one_line(text + share), style)]

    def render(self) -> RenderableType:
        """The whole screen."""
        from rich.console import Group
        from rich.text import Text

        status = self._status
        if status is None:
            # An error after the first look shows as silence.
            return Text(one_line(self._error) or "waiting for the daemon …")
        width = shutil.get_terminal_size().columns
        masters = [one for one in status.masters if self._master in (None, one.name)]
        heads, instruments = self._heads, {info.master for info in self._heads}
        others = [one for one in masters if one.name not in instruments]
        devices = devices_table(masters)
        parts: list[RenderableType] = [
            *(Text(one_line(line), no_wrap=True, overflow="ellipsis") for line in facts(status, self._lab.address)),
            *self._last_words(),  # above the tables, which may be longer than the screen
            Text(),
            rich_table(masters_table(masters, self._rates), width),
            Text(),
            *((rich_table(work_table(heads, units_of(self._lab, heads)), width), Text()) if heads else ()),
            *((rich_table(workers_table(others, self._rates), width), Text()) if others else ()),
            *((rich_table(devices, width), Text()) if devices.rows else ()),
            *(Text(one_line(line), "red") for line in troubles(status)),
            *(Text(one_line(alarm.message), "yellow") for alarm in self._lab.alarms[-_ALARMS:]),
        ]
        return Group(*parts)
