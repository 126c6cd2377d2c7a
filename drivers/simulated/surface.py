"""A synthetic crystal surface: terraces between monatomic steps, with adatoms on them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["STEP_HEIGHT", "Surface"]

#: Height of a monatomic step on Au(111), in nm.
STEP_HEIGHT = 0.235
#: Points of the raster in each direction.
_POINTS = 2048
#: Mean width of a terrace; the width of a step as a tip of finite radius sees it, in nm.
_TERRACE_WIDTH, _EDGE_WIDTH = 62.0, 0.6
#: Amplitude and wavelength by which the steps meander, in nm.
_MEANDER, _MEANDER_LENGTH = 9.0, 170.0
#: Height and radius of what an adatom looks like, in nm; how many there are on a square of 100 nm × 100 nm.
_ADATOM_HEIGHT, _ADATOM_RADIUS, _ADATOM_DENSITY = 0.14, 1.6, 3.0


class Surface:
    """The heights of a square of ``size`` nm × ``size`` nm, above the mean plane, in nm.

    The mean plane is what a scanner with tilt compensation follows: a vicinal surface less its mean plane is a
    sawtooth of the height of one step. Made once as a raster and interpolated, which is what makes a reading cheap.
    """

    def __init__(self, size: float = 500.0, seed: int = 0) -> None:
        self.size = size
        self._scale = (_POINTS - 1) / size
        rng = np.random.default_rng((seed, 0x5F))
        axis = np.linspace(0, size, _POINTS, dtype=np.float32)
        self._raster = self._stairs(axis, rng)
        for _ in range(round(_ADATOM_DENSITY * (size / 100) ** 2)):
            self._add_adatom(axis, *rng.uniform(0, size, 2))
        # Python's own way to single elements: many times as fast as the array's.
        self._view: memoryview[float] = memoryview(self._raster.data).cast("B").cast("f")

    @staticmethod
    def _stairs(axis: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Terraces that descend along some direction, less the mean plane; ``[y, x]``."""
        angle, phase, start = rng.uniform(0.2, 1.2), rng.uniform(0, 2 * math.pi), rng.uniform()
        x, y = axis[np.newaxis, :], axis[:, np.newaxis]
        along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
        across = y * np.float32(math.cos(angle)) - x * np.float32(math.sin(angle))
        along += np.float32(_MEANDER) * np.sin(across * np.float32(2 * math.pi / _MEANDER_LENGTH) + np.float32(phase))
        position = along / np.float32(_TERRACE_WIDTH) + np.float32(start)
        within = position - np.floor(position)
        # The step stands at the middle of each period, so that the sawtooth is continuous where periods meet.
        edge = np.tanh((within - np.float32(0.5)) * np.float32(_TERRACE_WIDTH / _EDGE_WIDTH))
        return np.ascontiguousarray(np.float32(STEP_HEIGHT) * (within - np.float32(0.5) - edge / 2), dtype=np.float32)

    def _add_adatom(self, axis: npt.NDArray[np.float32], x: float, y: float) -> None:
        reach = math.ceil(4 * _ADATOM_RADIUS * self._scale)
        column, row = round(x * self._scale), round(y * self._scale)
        columns = slice(max(0, column - reach), column + reach + 1)
        rows = slice(max(0, row - reach), row + reach + 1)
        bump_x = np.exp(-(((axis[columns] - x) / _ADATOM_RADIUS) ** 2))
        bump_y = np.exp(-(((axis[rows] - y) / _ADATOM_RADIUS) ** 2))
        self._raster[rows, columns] += np.float32(_ADATOM_HEIGHT) * np.outer(bump_y, bump_x)

    def height(self, x: float, y: float) -> float:
        """The height at a place in nm; beyond the edges it goes on as at the edge."""
        right = self._place(x)
        down = self._place(y)
        column = min(int(right), _POINTS - 2)
        row = min(int(down), _POINTS - 2)
        right -= column
        down -= row
        view, at = self._view, row * _POINTS + column
        upper = view[at] * (1 - right) + view[at + 1] * right
        lower = view[at + _POINTS] * (1 - right) + view[at + _POINTS + 1] * right
        return upper * (1 - down) + lower * down

    def _place(self, coordinate: float) -> float:
        if coordinate <= 0:
            return 0.0
        return (coordinate if coordinate < self.size else self.size) * self._scale

    def heights(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The heights (h, w) on the grid of ``x`` (w,) and ``y`` (h,), all in nm."""
        columns, right = self._cells(x)
        rows, down = self._cells(y)
        # Most images are of a small part of the surface: whatever lies beyond need not be looked at.
        left = int(columns.min())
        part = self._raster[:, left : int(columns.max()) + 2]
        bands = part[rows] * (1 - down)[:, np.newaxis] + part[rows + 1] * down[:, np.newaxis]
        heights = bands.take(columns - left, axis=1)
        heights += (bands.take(columns - left + 1, axis=1) - heights) * right
        return heights

    def _cells(self, coordinates: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        places = np.clip(coordinates, 0.0, self.size) * self._scale
        cells = np.minimum(places.astype(np.intp), _POINTS - 2)
        return cells, (places - cells).astype(np.float32)
