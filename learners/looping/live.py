"""A picture of what is learnt, while it is learnt; needs matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import lacking
from taskmaster.learners.arguments import duration
from taskmaster.learners.looping.hooks import Hooks
from taskmaster.learners.looping.progress import Pace, in_notebook, ipython
from taskmaster.learners.record import select
from taskmaster.learners.results import Result

if TYPE_CHECKING:
    from taskmaster.learners.loop import Loop

__all__ = ["LivePlot"]


class LivePlot(Hooks):
    """Draws what was measured, in a notebook or into a file: ``Loop(…, hook=LivePlot())``.

    ``draw(axes, loop)`` draws on empty matplotlib axes; by default the output against the one parameter there is, as
    colour over two, or in the order of coming. ``output`` names the one to draw, where there are several; the first, by
    default. ``seconds`` is between two pictures, which take a tenth of the time at most. ``file`` is replaced each time
    as a whole. Raises CallerError where there is neither a notebook nor a file, or no matplotlib; for a file that
    cannot be there, or of a kind that matplotlib does not draw.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | None = None,
        *,
        draw: Callable[[Any, Loop], object] | None = None,
        output: str | None = None,
        seconds: float = 1.0,
    ) -> None:
        if file is None and not in_notebook():
            raise CallerError("a live plot needs a notebook to be drawn in, or a file: LivePlot('plot.png')")
        if file is not None and not isinstance(file, (str, os.PathLike)):
            raise CallerError(f"a live plot is drawn into a file, LivePlot('plot.png'), not into {file!r}")
        if draw is not None and not callable(draw):
            raise CallerError(f"draw of a live plot is called as draw(axes, loop); got {draw!r}")
        seconds = duration(seconds, "the time between two pictures")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise CallerError(lacking("a live plot needs", "matplotlib", "plot", error)) from None
        self._file = None if file is None else Path(file)
        self._draw = draw
        self._output = output
        self._pace = Pace(seconds)
        self._figure: Any = Figure(layout="constrained")
        if self._file is not None:
            _require_drawable(self._file, self._figure.canvas.get_supported_filetypes())
        self._handle: Any = None
        self._rows: list[tuple[tuple[float, ...], float]] = []
        self._names: tuple[str, ...] = ()

    def told(self, loop: Loop, result: Result) -> None:
        if self._draw is None:
            self._keep(result.input, result.output)

    def result(self, loop: Loop, result: Result) -> None:
        if self._pace.begin():
            self._show(loop)
            self._pace.end()

    def ended(self, loop: Loop, error: BaseException | None) -> None:
        self._show(loop)

    def _keep(self, point: Any, output: Any) -> None:
        value = select(output, self._first(output))
        if isinstance(point, Mapping):
            self._names = tuple(point)
            point = tuple(point.values())
        row = np.atleast_1d(np.asarray(point))
        if row.dtype.kind in "biuf" and row.ndim == 1 and isinstance(value, (int, float, np.number)):
            self._rows.append((tuple(row.tolist()), float(value)))

    def _first(self, output: Any) -> str | None:
        if self._output is None and isinstance(output, Mapping):
            return str(next(iter(output)))
        return self._output

    def _show(self, loop: Loop) -> None:
        self._figure.clear()
        axes = self._figure.add_subplot()
        if self._draw is not None:
            self._draw(axes, loop)
        elif self._rows:
            self._draw_rows(axes)
        picture = io.BytesIO()
        form = "png" if self._file is None else _form(self._file)
        self._figure.savefig(picture, format=form)
        if self._file is not None:
            partial = self._file.with_name(f".{self._file.name}.partial")
            partial.write_bytes(picture.getvalue())
            partial.replace(self._file)
            return
        display = ipython("display")
        image = display.Image(picture.getvalue())
        if self._handle is None:
            self._handle = display.display(image, display_id=True)
        else:
            self._handle.update(image)

    def _draw_rows(self, axes: Any) -> None:
        values = [value for _, value in self._rows]
        dimensions = {len(row) for row, _ in self._rows}
        if dimensions == {1}:
            axes.scatter([row[0] for row, _ in self._rows], values, s=8)
            axes.set_xlabel(*self._names or ("point",))
        elif dimensions == {2}:
            x, y = zip(*(row for row, _ in self._rows))
            self._figure.colorbar(axes.scatter(x, y, c=values, s=12))
            axes.set_xlabel(self._names[0] if self._names else "0")
            axes.set_ylabel(self._names[1] if self._names else "1")
        else:
            axes.plot(values, ".", markersize=3)
            axes.set_xlabel("result")


def _form(file: Path) -> str:
    return file.suffix.removeprefix(".").lower() or "png"


def _require_drawable(file: Path, forms: Mapping[str, str]) -> None:
    """Raise CallerError now where the first picture would fail, in the middle of a run."""
    if not file.parent.is_dir():
        raise CallerError(f"a live plot cannot be written to {str(file)!r}: there is no folder {str(file.parent)!r}")
    if _form(file) not in forms:
        raise CallerError(f"a live plot cannot be a {_form(file)!r} file; matplotlib draws {', '.join(sorted(forms))}")
