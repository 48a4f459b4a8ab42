"""A plain table of samples (a mapping of columns, a data frame) as the dataset that analyses take.

Steps are what the table's "step" column says, else they begin where the current starts, stops,
turns round or jumps. Each is then named by what was held: nothing flowed (rest), the current was
constant (charge or discharge in a cell that has both, else current), the voltage was constant
(voltage), or neither (sweep).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis.dataset import (
    Dataset,
    FloatArray,
    Geometry,
    Samples,
    Series,
    Setting,
    Spectrum,
    StepData,
)

_NEEDED = ("time_s", "voltage_V", "current_A")
_AT_REST = 1e-4  # of the largest current
_STEADY_A, _JUMP = 0.02, 0.1  # of the current itself
_STEADY_V = 2e-3


def dataset_of(
    table: Mapping[str, Any],
    geometry: Geometry,
    spectra: Iterable[Spectrum] = (),
    name: str = "",
) -> Dataset:
    """A dataset of a table's columns.

    Args:
        table: columns of one length: "time_s" (ascending), "voltage_V", "current_A" (positive is
            oxidation at the working electrode), and where there are any "step" (a number that
            changes from step to step), "stack_pressure_Pa", "temperature_K".
        geometry: sizes of the cell.
        spectra: impedance spectra measured meanwhile.
        name: of the cell.

    Raises:
        ValueError: if a column is missing, or they differ in length.
    """
    missing = [column for column in _NEEDED if column not in table]
    if missing:
        raise ValueError(f"A table of samples needs {', '.join(_NEEDED)}; missing: {missing}.")
    time_s, voltage_V, current_A = (_column(table, column) for column in _NEEDED)
    samples = Samples(
        time_s,
        voltage_V,
        current_A,
        _series(table, "stack_pressure_Pa", time_s),
        _series(table, "temperature_K", time_s),
    )
    steps = tuple(_steps(samples, step_numbers(table), geometry))
    return Dataset(geometry, steps, samples, tuple(spectra), name)


def _column(table: Mapping[str, Any], name: str) -> FloatArray:
    return np.asarray(table[name], dtype=np.float64)


def _series(table: Mapping[str, Any], name: str, time_s: FloatArray) -> Series:
    return Series(time_s, _column(table, name)) if name in table else Series()


def step_numbers(table: Mapping[str, Any]) -> FloatArray:
    """A number per row that changes where a step begins: the table's, or found from its current."""
    if "step" in table:
        return _column(table, "step")
    current_A = _column(table, "current_A")
    largest_A = float(np.max(np.abs(current_A), initial=0.0))
    sign = np.sign(current_A) * (np.abs(current_A) > _AT_REST * largest_A)
    steps = np.diff(sign, prepend=sign[:1]) != 0
    before_A = np.concatenate((current_A[:1], current_A[:-1]))
    jumps = np.abs(current_A - before_A) > _JUMP * np.maximum(np.abs(current_A), np.abs(before_A))
    return np.cumsum(steps | (jumps & (sign != 0))).astype(np.float64)


def _steps(samples: Samples, numbers: FloatArray, geometry: Geometry) -> Iterator[StepData]:
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    largest_A = float(np.max(np.abs(samples.current_A), initial=0.0))
    for place, (first, end) in enumerate(pairwise(edges)):
        if end == first:
            continue
        rows = slice(first, end)
        kind = _kind(samples.voltage_V[rows], samples.current_A[rows], largest_A, geometry)
        start_s = _start_s(samples.time_s, first, end)
        settings: dict[str, Setting] = {}
        if kind in {"charge", "discharge", "current"}:
            settings["current_A"] = float(np.median(samples.current_A[rows]))
        yield StepData(f"{kind}_{place}", kind, start_s, float(samples.time_s[end - 1]), settings)


def _start_s(time_s: FloatArray, first: int, end: int) -> float:
    """One interval before the first row, but not before the row of the step before."""
    interval_s = float(time_s[first + 1] - time_s[first]) if end - first > 1 else 0.0
    earlier_s = float(time_s[first - 1]) if first else -np.inf
    return max(float(time_s[first]) - interval_s, earlier_s)


def _kind(
    voltage_V: FloatArray, current_A: FloatArray, largest_A: float, geometry: Geometry
) -> str:
    if float(np.quantile(np.abs(current_A), 0.95)) <= _AT_REST * largest_A:
        return "rest"
    held = float(np.ptp(voltage_V)) < _STEADY_V
    low_A, level_A, high_A = np.quantile(current_A, (0.1, 0.5, 0.9)).tolist()
    driven = high_A - low_A <= _STEADY_A * abs(level_A)
    # Where both are constant, blocking electrodes tell: no current can be driven through them.
    if held and (not driven or geometry.layout == "blocking"):
        return "voltage"
    if not driven:
        return "sweep"
    if geometry.layout not in {"full", "half"}:
        return "current"
    return "charge" if level_A * geometry.charge_sign > 0 else "discharge"
