"""A smooth curve on an even grid, for the stepping path: value and slope in plain floats."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_CELLS = 4096


class Curve:
    """Piecewise linear on an even grid; beyond its ends it goes on with a given slope."""

    def __init__(
        self,
        function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        low: float,
        high: float,
        beyond: float | None = None,
    ) -> None:
        nodes = function(np.linspace(low, high, _CELLS + 1))
        slopes = np.diff(nodes) * (_CELLS / (high - low))
        outer = [slopes[0], slopes[-1]] if beyond is None else [beyond, beyond]
        self._low = low
        self._per_cell = (high - low) / _CELLS
        self._nodes: tuple[float, ...] = (nodes[0], *nodes.tolist())
        self._slopes: tuple[float, ...] = (outer[0], *slopes.tolist(), outer[1])

    def __call__(self, x: float) -> tuple[float, float]:
        """Return value and slope at `x`."""
        place = (x - self._low) / self._per_cell
        if place < 0.0:
            cell = 0
        elif place >= _CELLS:
            cell = _CELLS + 1
        else:
            cell = int(place) + 1
        start = self._low + (cell - 1) * self._per_cell if cell else self._low
        slope = self._slopes[cell]
        return self._nodes[cell] + slope * (x - start), slope
