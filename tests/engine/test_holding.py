"""A constant voltage is held, from the side that the cell needs; one that is not is told of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.protocol.conftest import CHANNEL

from cellbench.engine.holding import AT_LIMIT, SETTLING_S, HeldVoltage
from cellbench.engine.run import RunState
from cellbench.instruments.readings import Flag
from cellbench.instruments.techniques import ConstantVoltage

Runner = Callable[..., Any]
HEAD = "cellbench: 1\nname: A test\nsteps:\n"
#: The second hold is below where the first one has left a cell that rests at 0 V.
STAIRS = "  - hold: {at: 50 mV, for: 10 min}\n  - hold: {at: 30 mV, for: 20 min}\n"
#: The cell relaxes below the second voltage, and the cycler was told to come from above.
MISJUDGED = (
    "  - charge: {at: 1C, until: potential >= 4.2 V vs Li+/Li, at most: 2 h}\n"
    "  - rest: 30 min\n"
    "  - hold: {at: 4.19 V vs Li+/Li, for: 10 min}\n"
)


def rows_of(ran: Any, path: str) -> Any:
    """Columns of the channel's rows of one step."""
    journal = ran.reader.journal
    start_s, end_s = (
        next(each.data.get(key, each.time_s) for each in journal
             if each.kind == kind and each.step == path)
        for kind, key in (("step started", "began_s"), ("step ended", "ended_s"))
    )  # fmt: skip
    samples = next(
        samples for samples in map(ran.reader.samples, ran.reader.sources())
        if not np.isnan(samples["voltage_V"]).all()
    )  # fmt: skip
    within = (samples["time_s"] > start_s) & (samples["time_s"] <= end_s)
    return {name: column[within] for name, column in samples.items()}


@pytest.mark.long
@pytest.mark.parametrize("bench", [None, "neware", "maccor"])
def test_a_cell_that_rests_at_zero_is_held_at_descending_voltages(
    run: Runner, bench: str | None
) -> None:
    ran = run(HEAD + STAIRS, cell="LYC", bench=bench)
    assert ran.end.state is RunState.COMPLETED
    assert "deviation" not in ran.kinds()
    rows = rows_of(ran, "hold_2")
    assert rows["voltage_V"][len(rows["voltage_V"]) // 2 :] == pytest.approx(0.03, abs=1e-3)
    assert rows["current_A"][-1] == pytest.approx(2.146e-5, rel=0.03)


@pytest.mark.long
def test_the_charge_of_a_hold_is_what_the_cycler_counted_from_its_first_moment_on(
    run: Runner,
) -> None:
    """Its first row tells the surge of that moment, which does not last to the second one."""
    steps = "  - hold: {at: 50 mV, for: 10 min}\n  - hold: {at: 10 mV, for: 10 min}\n"
    by_cycler = run(HEAD + steps, cell="LYC", bench="neware")
    by_potentiostat = run(HEAD + steps, cell="LYC")
    charges_C = [rows_of(each, "hold_2")["charge_C"][-1] for each in (by_cycler, by_potentiostat)]
    assert charges_C[0] == pytest.approx(charges_C[1], abs=1e-4)


@pytest.mark.parametrize("bench", ["neware", "maccor"])
def test_a_hold_that_needs_either_direction_is_refused_where_there_is_one(
    run: Runner, bench: str
) -> None:
    ran = run(HEAD + "  - hold: {at: 0 V, for: 10 min}\n", cell="LYC", bench=bench)
    assert ran.end.state is RunState.FAILED
    assert "in one direction only" in ran.end.reason
    assert run(HEAD + "  - hold: {at: 0 V, for: 1 min}\n", cell="LYC").end.safe


@pytest.mark.long
def test_a_voltage_that_is_not_held_is_flagged_told_once_and_in_the_ending(run: Runner) -> None:
    ran = run(HEAD + MISJUDGED, cell="NMC811_LYC_PMMA_Li", bench="neware")
    assert ran.end.state is RunState.COMPLETED
    (told,) = [each for each in ran.reader.journal if each.kind == "deviation"]
    assert "the voltage is not held" in told.text
    assert told.data["alert"] == "trouble"
    rows = rows_of(ran, "hold")
    flagged = rows["flags"].astype(int) & Flag.NOT_HELD > 0
    assert not flagged[rows["time_s"] < rows["time_s"][0] + SETTLING_S - 1].any()
    assert flagged[rows["time_s"] > rows["time_s"][0] + SETTLING_S + 1].all()
    (ended,) = [each for each in ran.reader.journal if each.kind == "step ended"][-1:]
    assert ended.data["ending"].startswith("completed; not held: ")


def test_a_taper_that_was_none_says_so(run: Runner) -> None:
    steps = MISJUDGED.replace("for: 10 min", "until: abs(current) <= 10 uA, at most: 1 h")
    ran = run(HEAD + steps, cell="NMC811_LYC_PMMA_Li", bench="neware")
    ended = [each for each in ran.reader.journal if each.kind == "step ended"][-1]
    assert "not held" in ended.data["ending"]


#: A cell that falls below the voltage at which a discharge has ended.
FALLING = (
    "  - discharge: {at: C/2, until: potential <= 2.8 V vs Li+/Li, at most: 3 h}\n"
    "  - hold: {at: 2.8 V vs Li+/Li, for: 1 h, when interrupted: quiet}\n"
)


@pytest.mark.long
@pytest.mark.parametrize("bench", ["neware", "maccor"])
def test_a_single_hold_of_a_cycler_is_gone_on_with_from_the_other_side(
    run: Runner, bench: str
) -> None:
    charge = MISJUDGED.partition("  - rest")[0]
    ran = run(HEAD + charge + FALLING, cell="NMC811_LYC_PMMA_Li", bench=bench)
    assert ran.end.state is RunState.COMPLETED
    assert ran.texts().count("from now on the voltage is held from the other side") == 1
    rows = rows_of(ran, "hold")
    assert rows["voltage_V"][len(rows["voltage_V"]) // 2 :] == pytest.approx(2.8, abs=5e-3)
    ended = [each for each in ran.reader.journal if each.kind == "step ended"][-1]
    assert ended.data["ending"] == "completed"


# --- Rows ---------------------------------------------------------------------------------------


def watched(rows: list[tuple[float, float, float]], flags: int = 0) -> tuple[list[int], list[str]]:
    """Flags of rows of a hold at 1 V with a limit of 1 mA, and what was told."""
    told: list[str] = []
    held = HeldVoltage(ConstantVoltage(voltage_V=1.0, duration_s=1e4), 1e-3, CHANNEL, told.append)
    return [held.flags(*row, flags) for row in rows], told


def seconds(until_s: int, voltage_V: float, current_A: float) -> list[tuple[float, float, float]]:
    return [(float(at), voltage_V, current_A) for at in range(until_s)]


@pytest.mark.parametrize(
    ("voltage_V", "current_A", "flags"),
    [(1.0025, 0.0, 0), (0.5, AT_LIMIT * 1e-3, 0), (0.5, -1e-3, 0), (math.nan, 0.0, 0),
     (0.5, 0.0, int(Flag.SATURATED))],
)  # fmt: skip
def test_within_tolerance_or_at_its_limit_a_voltage_is_held(
    voltage_V: float, current_A: float, flags: int
) -> None:
    seen, told = watched(seconds(600, voltage_V, current_A), flags)
    assert set(seen) == {flags}
    assert not told


def test_one_that_comes_back_within_the_time_to_settle_is_held() -> None:
    rows = [(float(at), 0.5 if at % 25 else 1.0, 0.0) for at in range(600)]
    assert watched(rows) == ([0] * 600, [])


def test_it_is_judged_anew_after_a_gap() -> None:
    rows = [(40.0 * at, 0.5, 0.0) for at in range(20)]
    assert watched(rows) == ([0] * 20, [])
