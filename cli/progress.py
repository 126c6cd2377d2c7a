"""What a person sees while a Loop runs: two lines drawn in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from taskmaster.cli.output import console, value_text
from taskmaster.learners.loop import Loop, LoopStatistics
from taskmaster.learners.looping.figures import statistics_text
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LoopView", "statistics_text", "stopping_in_order"]

#: What stops a loop, and what it is called.
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_STDERR = 2

#: Between two looks at a loop.
LOOK_SECONDS = 0.2
#: A look computes the learner's loss, which may take long: of the whole time, this part at most.
LOOK_SHARE = 0.1
#: Between two lines where there is no terminal.
PLAIN_SECONDS = 5.0


class LoopView:
    """Shows progress on standard error: standard output is for what comes out at the end.

    Not ``in_place`` it prints a line now and then, where somebody else uses the terminal, too.
    """

    def __init__(self, *, in_place: bool = True) -> None:
        from rich.live import Live

        self._console = console(stderr=True)
        self._seen: LoopStatistics | None = None
        self._last: Result | None = None
        #: what is said while it stops; nothing as long as it does not
        self._stopping = ""
        self._look_at = 0.0
        self._print_at = time.monotonic() + PLAIN_SECONDS
        self._live = (
            Live(console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True)
            if in_place and self._console.is_terminal
            else None
        )

    def __enter__(self) -> LoopView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_result(self, loop: Loop, result: Result) -> None:
        """The loop's hook."""
        self._last = result
        began = time.monotonic()
        if began < self._look_at:
            return
        self._seen = loop.statistics()
        now = time.monotonic()
        self._look_at = now + max(LOOK_SECONDS, (now - began) / LOOK_SHARE)
        if self._live is None and now >= self._print_at:
            self._print_at = now + PLAIN_SECONDS
            self._console.print(statistics_text(self._seen), soft_wrap=True)

    def on_stopping(self, again: str) -> None:
        """Say that nothing further is asked, and what ``again`` does.

        May be called by a signal's handler, so it draws and locks nothing.
        """
        self._stopping = f"stopping: waiting for what is in flight ({again} again: leave at once)"
        if self._live is None:
            with contextlib.suppress(OSError):  # whoever was to read it may be gone, which is why it is to stop
                os.write(_STDERR, f"{self._stopping}\n".encode())

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        return Group(self._progress(), Text(self._stopping, "yellow")) if self._stopping else self._progress()

    def _progress(self) -> RenderableType:
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if self._seen is None or self._last is None:
            return Text("waiting for the first result …", "dim")
        point = value_text(self._last.input)
        last = value_text(self._last.output) if self._last.outcome == "done" else self._last.outcome
        return Group(
            Padding(ProgressBar(1.0, self._seen.fraction), 0),  # a bar alone does not end its line
            Text(statistics_text(self._seen), no_wrap=True, overflow="ellipsis"),
            Text(f"last: {point} → {last}", "dim", no_wrap=True, overflow="ellipsis"),
        )


@contextlib.contextmanager
def stopping_in_order(loop: Loop, view: LoopView) -> Iterator[None]:
    """Have the first Ctrl-C stop asking, whatever the loop and its learner are at; the second leaves at once.

    Between two steps, that is, or while the learner thinks; the third is for what takes long and is neither. SIGTERM,
    by which a service or a batch system ends a program, does the same.
    """
    pressed = 0

    def on_signal(number: int, frame: object) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            loop.stop()
            view.on_stopping(_SIGNALS[signal.Signals(number)])
        elif pressed == 2:
            loop.break_off()
        else:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
