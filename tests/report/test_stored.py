"""A stored run as the data set that analyses look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.dataset import Samples, StepData
from cellbench.analysis.stored import _holding_their_rows


def test_the_last_row_of_a_hold_counts_no_charge_into_the_discharge_after_it(
    make_run: Callable[..., Any],
) -> None:
    # The instrument's clock leads the host's by 0.3 ms at the end of the hold.
    async def write(script: Any) -> None:
        for path, verb, current_A in (("hold", "hold", 1e-3), ("discharge", "discharge", -1e-3)):
            step = await script.step(path, verb, verb, 100.0)
            time_s = script.now_s + np.arange(1.0, 101.0)
            time_s[-1] += 3e-4
            column = np.full(100, current_A)
            script.columns(step, Samples(time_s, np.full(100, 3.5), column))
            await script.end(path, verb, 100.0)

    *_, discharge = half_cycles(make_run(write, analyses=()).dataset)
    assert discharge.direction == "discharge"
    assert discharge.capacity_C == pytest.approx(0.1, rel=1e-3)


def test_a_step_that_was_interrupted_keeps_its_late_last_row() -> None:
    def step(path: str, start_s: float, end_s: float) -> StepData:
        return StepData(path, "current", start_s, end_s)

    steps = [step("c", 0, 100), step("c/every[1]/eis", 50, 60), step("h", 100, 150)]
    rows = {"c": (100.02, 101.0), "c/every[1]/eis": (59.0, 61.0), "h": (150.0, math.inf)}
    held = _holding_their_rows(steps, rows)
    assert [(one.start_s, one.end_s) for one in held] == [(0, 100.02), (50, 60), (100.02, 150)]


def test_a_row_at_the_very_start_of_a_step_counts_into_no_other(
    make_run: Callable[..., Any],
) -> None:
    # Some instruments take their first reading at once, with the charge at zero.
    async def write(script: Any) -> None:
        for path, current_A in (("charge", 1e-3), ("rest", 0.0)):
            step = await script.step(path, path, path, 100.0)
            time_s = script.now_s + np.arange(0.0, 100.0)
            column = np.full(100, current_A)
            charge_C = current_A * (time_s - time_s[0])
            script.columns(step, Samples(time_s, np.full(100, 3.5), column, charge_C=charge_C))
            await script.end(path, path, 100.0)

    (charge,) = half_cycles(make_run(write, analyses=()).dataset)
    assert charge.capacity_C == pytest.approx(0.099, rel=1e-3)
