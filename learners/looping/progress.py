"""How a loop gets on, for whoever looks on: a line on a terminal, a bar in a notebook, a line now and then in a log."""

from __future__ import annotations

import html
import math
import os
import shutil
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from taskmaster.learners.looping.figures import LoopStatistics, statistics_text
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop

__all__ = ["LOOK_SHARE", "Pace", "Progress", "in_notebook", "ipython"]

#: Between two looks at a loop, and between two lines where there is no terminal.
_LOOK_SECONDS = 0.2
_PLAIN_SECONDS = 5.0
#: A look computes the learner's loss, which may take long: of the whole time, this part at most.
LOOK_SHARE = 0.1


def in_notebook() -> bool:
    """Whether this is a kernel with a notebook (or something like it) in front."""
    if "IPython" not in sys.modules:
        return False
    shell = ipython("core.getipython").get_ipython()
    return getattr(shell, "kernel", None) is not None


def ipython(module: str) -> Any:
    """A module of IPython's, which is there where there is a notebook."""
    return import_module(f"IPython.{module}")


class Pace:
    """When it is time for another look: every so many seconds, and never more than a share of the whole time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = -math.inf
        self._began = 0.0

    def begin(self) -> bool:
        """Whether it is time; :meth:`end` is to be called when the look has ended."""
        self._began = time.monotonic()
        return self._began >= self._next

    def end(self) -> None:
        """The look has ended."""
        now = time.monotonic()
        self._next = now + max(self._seconds, (now - self._began) / LOOK_SHARE)


class _Display(Protocol):
    """Where progress is shown."""

    seconds: float

    def show(self, seen: LoopStatistics) -> None: ...
    def end(self, seen: LoopStatistics) -> None: ...


class Progress(Hooks):
    """Shows how a loop gets on: ``Loop(…, hook=Progress())``.

    On a terminal it is a line that is drawn again and again, in a notebook a bar, elsewhere a line every five seconds.
    ``stream`` is standard error by default, and is not used in a notebook.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._display: _Display = _Lines(sys.stderr)
        self._pace = Pace(0.0)

    def started(self, loop: Loop) -> None:
        stream = self._stream or sys.stderr
        if self._stream is None and in_notebook():
            self._display = _Notebook()
        else:
            self._display = _Line(stream) if stream.isatty() else _Lines(stream)
        self._pace = Pace(self._display.seconds)
        if isinstance(self._display, _Lines):  # nothing to be seen of it yet, and the first line would say so
            self._pace.end()

    def result(self, loop: Loop, result: Result) -> None:
        if self._pace.begin():
            self._display.show(loop.statistics())
            self._pace.end()

    def ended(self, loop: Loop, error: BaseException | None) -> None:
        self._display.end(loop.statistics())


class _Lines:
    """A line each time."""

    seconds = _PLAIN_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, seen: LoopStatistics) -> None:
        self._stream.write(f"{statistics_text(seen)}\n")
        self._stream.flush()

    def end(self, seen: LoopStatistics) -> None:
        self.show(seen)


class _Line:
    """One line, drawn again each time."""

    seconds = _LOOK_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, seen: LoopStatistics) -> None:
        # Asked each time: terminals change their width. The last column is left: it would begin another line.
        try:
            width = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            width = 0
        width = width or shutil.get_terminal_size().columns  # there are terminals that do not know
        self._stream.write(f"\r{statistics_text(seen)[: width - 1]}\x1b[K")
        self._stream.flush()

    def end(self, seen: LoopStatistics) -> None:
        self.show(seen)
        self._stream.write("\n")
        self._stream.flush()


class _Notebook:
    """A bar and a line below it, replaced each time."""

    seconds = _LOOK_SECONDS

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, seen: LoopStatistics) -> None:
        display = ipython("display")
        bar = f'<progress value="{seen.fraction:.4f}" max="1" style="width: 30em"></progress>'
        page = display.HTML(f"{bar}<br><small>{html.escape(statistics_text(seen))}</small>")
        if self._handle is None:
            self._handle = display.display(page, display_id=True)
        else:
            self._handle.update(page)

    def end(self, seen: LoopStatistics) -> None:
        self.show(seen)
