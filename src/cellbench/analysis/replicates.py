"""Several cells of one kind: mean, spread and confidence of a quantity, and how many cells failed.

A benchmark states at least three replicates and its failures, which a mean of the survivors hides
(Ohno et al., ACS Energy Lett. 5 (2020) 910, found conductivities of one material between
laboratories to differ by half; Puls et al., Nat. Energy 9 (2024) 1310, the same for whole cells).
Spread is the sample standard deviation, the interval is 95 % from Student's t, and the failure rate
has Wilson's interval (J. Am. Stat. Assoc. 22 (1927) 209), since three cells out of three prove
little.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.regression import t_quantile

_FAILED = ("short", "failed")
_Z = 1.959964


def analyse(
    dataset: Dataset,
    *,
    replicates: Sequence[Dataset] = (),
    analysis: str = "capacity",
    **options: Any,
) -> Result:
    """Statistics of another analysis over several datasets.

    Args:
        dataset: the first cell.
        replicates: the others.
        analysis: name of the analysis that is run on each.
        **options: of that analysis.

    Raises:
        LookupError: if no analysis of this name is installed.
        ValueError: if it found nothing in any of the datasets.
    """
    from cellbench.analysis import analyse as by_name  # noqa: PLC0415 - it finds this module too

    def result_of(one: Dataset) -> Result | None:
        try:
            return by_name(analysis, one, **options)
        except ValueError:  # no result of a cell is a result of the series
            return None

    datasets = (dataset, *replicates)
    found = statistics([result_of(one) for one in datasets])
    if found["failed"] == len(datasets) and not found["quantities"]:
        raise ValueError(f"No replicates: {analysis!r} found nothing in any of {len(datasets)}.")
    names = [one.cell_name or f"cell {k}" for k, one in enumerate(datasets, start=1)]
    return {"analysis": analysis, "cells": names, **found}


def statistics(
    results: Sequence[Mapping[str, Any] | None],
    failed: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Result:
    """Statistics of every number that the results of one analysis have in common.

    Args:
        results: one per cell; None for a cell that gave none, which counts as failed.
        failed: whether a result is a failure; by default a verdict of "short" or "failed".

    Raises:
        ValueError: if there is no result at all.
    """
    if not results:
        raise ValueError("No replicates without results.")
    judge = failed or (lambda result: result.get("verdict") in _FAILED)
    lost = [result is None or judge(result) for result in results]
    count, failures = len(results), sum(lost)
    low, high = _wilson(failures, count)
    sound = [result for result, bad in zip(results, lost, strict=True) if result and not bad]
    names = dict.fromkeys(name for result in sound for name, _ in _numbers(result))
    return {
        "replicates": count,
        "failed": failures,
        "failure_rate_percent": reported.percent(failures / count),
        "failure_rate_low_percent": reported.percent(low),
        "failure_rate_high_percent": reported.percent(high),
        "quantities": [_quantity(name, sound) for name in names],
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The statistics in lines for people."""
    low, high = result["failure_rate_low_percent"], result["failure_rate_high_percent"]
    lines = [
        f"failed        {result['failed']} of {result['replicates']} cells "
        f"({result['failure_rate_percent']:.3g} %, 95 %: {low:.2g} to {high:.2g} %)"
    ]
    if result["replicates"] < 3:
        lines.append("warning       fewer than three replicates")
    spread = [row for row in result["quantities"] if row["standard_deviation"] is not None]
    return lines + [_line(row) for row in spread]


def _line(row: Mapping[str, Any]) -> str:
    name, mean, deviation = row["quantity"], row["mean"], row["standard_deviation"]
    return f"{name.replace('_', ' ')}   {mean:.4g} ± {deviation:.2g} (n = {row['n']})"


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in result.items():
        if isinstance(value, Mapping):  # first and last cycle, say
            yield from ((f"{name}_{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


def _quantity(name: str, sound: Sequence[Mapping[str, Any]]) -> Result:
    values = np.array([dict(_numbers(one))[name] for one in sound if name in dict(_numbers(one))])
    count = len(values)
    # Equal values leave a rounding error of their mean, which would pass for a spread.
    alike = float(np.ptp(values)) == 0
    spread = None if count < 2 else 0.0 if alike else float(np.std(values, ddof=1))
    half_width = None if spread is None else t_quantile(count - 1) * spread / math.sqrt(count)
    mean = float(values.mean())
    return {
        "quantity": name,
        "n": count,
        "mean": reported.number(mean),
        "standard_deviation": reported.number(spread),
        "interval": reported.number(half_width),
        "relative_percent": reported.percent(spread / abs(mean) if spread and mean else None),
        "lowest": reported.number(float(values.min())),
        "highest": reported.number(float(values.max())),
    }


def _wilson(failures: int, count: int) -> tuple[float, float]:
    share, square = failures / count, _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
