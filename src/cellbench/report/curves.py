"""What an electrochemist would draw for each analysis, as data for the page's script.

A plot has two axes (and perhaps a second vertical one) and curves, each with its own abscissae.
Curves that follow one another in time are coloured along a scale; others by name. Numbers are
thinned to what a page can show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from cellbench.analysis.dataset import Dataset, FloatArray

MOST_POINTS = 500
MOST_CURVES = 10
Mark: TypeAlias = Literal["line", "points", "hollow", "both", "dashed"]
Values: TypeAlias = Sequence[float | None] | FloatArray


@dataclass(frozen=True)
class Axis:
    """A labelled axis; one from zero may still reach below it, a ``whole`` one has no halves."""

    name: str
    unit: str = ""
    log: bool = False
    from_zero: bool = False
    whole: bool = False

    def data(self) -> dict[str, Any]:
        """As the page's script takes it."""
        label = f"{self.name} / {self.unit}" if self.unit else self.name
        flags = {"log": self.log, "zero": self.from_zero, "whole": self.whole}
        return {"label": label, "unit": self.unit, **flags}


@dataclass(frozen=True, eq=False)
class Curve:
    """One line or set of points, coloured by its order among the plot's curves.

    ``along`` from 0 to 1 is its place on the colour scale instead; ``tone`` the name of a colour
    that means something ("good", "warn-fill", "bad", "soft"); one without a label has no entry in
    the legend. ``errors`` are half-widths of vertical bars.
    """

    label: str
    x: Values
    y: Values
    mark: Mark = "line"
    along: float | None = None
    right: bool = False
    errors: Values | None = None
    tone: str = ""

    def data(self) -> dict[str, Any]:
        """As the page's script takes it, without points that are not there."""
        pairs = list(zip(self.x, self.y, _or_none(self.errors, len(self.x)), strict=True))
        kept = [(x, y, e) for x, y, e in pairs if _there(x) and _there(y)]
        made: dict[str, Any] = {
            "label": self.label,
            "x": [_short(x) for x, _, _ in kept],
            "y": [_short(y) for _, y, _ in kept],
            "mark": self.mark,
            "along": self.along,
            "right": self.right,
        }
        if self.tone:
            made["tone"] = self.tone
        if self.errors is not None:
            made["errors"] = [_short(e) if _there(e) else None for _, _, e in kept]
        return made


@dataclass(frozen=True)
class Plot:
    """A titled plot; ``scale`` names what the colours go along, with the labels of both ends.

    ``top`` names a second horizontal axis and its ticks: places on the first one, and their labels.
    """

    title: str
    x: Axis
    y: Axis
    curves: list[Curve] = field(default_factory=list)
    right: Axis | None = None
    scale: tuple[str, str, str] | None = None
    top: tuple[str, list[float], list[str]] | None = None

    def data(self) -> dict[str, Any]:
        """As the page's script takes it."""
        return {
            "title": self.title,
            "x": self.x.data(),
            "y": self.y.data(),
            "right": self.right.data() if self.right else None,
            "curves": [made for curve in self.curves if (made := curve.data())["x"]],
            "scale": list(self.scale) if self.scale else None,
            "top": list(self.top) if self.top else None,
        }


CYCLE = Axis("cycle", whole=True)


def potential_axis(dataset: Dataset) -> Axis:
    """The axis of the working electrode's potential, or of the plain voltage."""
    reference = dataset.geometry.reference
    if reference == "at the terminals":
        return Axis("voltage", "V")
    return Axis(f"potential {reference}", "V")


def column(rows: Iterable[Mapping[str, Any]], key: str) -> list[float | None]:
    """One column of a result's rows."""
    return [row.get(key) for row in rows]


def spread(count: int, most: int = MOST_CURVES) -> list[int]:
    """Which of many curves are drawn: the first, the last, and evenly between."""
    return [int(one) for one in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def thin(*columns: FloatArray, most: int = MOST_POINTS) -> tuple[FloatArray, ...]:
    """Columns of one length with few rows: even in number, both ends kept."""
    count = len(columns[0])
    if count <= most:
        return columns
    rows = np.unique(np.linspace(0, count - 1, most).round().astype(int))
    return tuple(values[rows] for values in columns)


def place(index: int, count: int) -> float:
    """Place of one of several curves on the colour scale."""
    return index / (count - 1) if count > 1 else 0.0


def _or_none(values: Values | None, count: int) -> Values:
    return [None] * count if values is None else values


def _there(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _short(value: float | None) -> float:
    return float(f"{value:.5g}")
