"""Shorts, leaks, too much charge and instruments that disagree, where no protocol foresees them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hosts import Host, run_with_kills

from cellbench.analysis.dataset import Geometry
from cellbench.cell import CardError
from cellbench.engine.detection import EFFICIENCY_MIN, ChargeBudget, Detection
from cellbench.engine.limits import STALE_ROWS, LimitWatch
from cellbench.engine.run import RunState
from cellbench.engine.trips import Trip
from cellbench.instruments.readings import Flag
from cellbench.protocol.loading import load_card
from cellbench.protocol.program import Limits

pytestmark = pytest.mark.long

Runner = Callable[..., Any]
HEAD = "cellbench: 1\nname: A test\n"
PRESSED = """steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 10 s}}
  - rest: 2 min
"""
#: One whose card allows it to be empty, so that no limit of voltage is in the way; and a sound one.
FULL, SOUND = "NMC811_LYC_Li", "NMC811_LYC_PMMA_Li"
CHARGE = "  - charge: {at: C/2, until: potential >= 4.3 V vs Li+/Li, at most: 12 h}\n"
#: Where the shorted cells are found, after it began: see docs/guarantees.md.
SOFT_SHORT_S, HARD_SHORT_S = 300.0, 120.0


def plated(current: str, sample: str = "1 s") -> str:
    """Plating in one direction and back, in a protocol that foresees no short."""
    steps = "".join(
        f"  - current: {{at: {sign}{current}, for: 20 min, record: {{sample: {sample}}}}}\n"
        for sign in ("", "-")
    )
    return PRESSED + steps


def warnings(ran: Any) -> dict[str, float]:
    """When which sign was told of."""
    return {
        entry.data["state"]: entry.time_s
        for entry in reversed(ran.reader.journal)
        if entry.kind == "warning" and "state" in entry.data
    }


def tripped_s(ran: Any) -> float:
    times = [entry.time_s for entry in ran.reader.journal if entry.kind == "trip"]
    return float(times[0])


class Onset:
    """Looks at the physics each second: when contacts came and went first, when it collapsed."""

    def __init__(self) -> None:
        self.soft_s = self.hard_s = 0.0

    async def __call__(self, simulator: Any, _bench: Any, _conductor: Any) -> None:
        shunt, now = simulator.world.cell.shunt, asyncio.get_running_loop().time
        while not self.hard_s:
            await asyncio.sleep(1)
            if shunt.dendrites.sag > 0 and not self.soft_s:
                self.soft_s = now()
            if shunt.collapse.begun:
                self.hard_s = now()


def shorted(after_s: float, resistance_ohm: float) -> Callable[..., Awaitable[None]]:
    """Put a resistance across the cell, inside of it."""

    async def disturb(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(after_s)
        world = simulator.world
        world._settle()
        world.cell.shunt.collapse.conductance_S = 1 / resistance_ohm
        world.cell._set_shunt()

    return disturb


# --- Lithium against lithium --------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["LYC", "Li2ZrCl6"])
@pytest.mark.parametrize("seed", [1, 2])
def test_dendrites_are_told_of_before_they_short_the_cell_and_a_hard_short_trips(
    run: Runner, cell: str, seed: int
) -> None:
    onset = Onset()
    ran = run(HEAD + plated("0.8 mA/cm2"), cell=cell, seed=seed, disturb=onset)
    told = warnings(ran)
    assert min(told.values()) - onset.soft_s < SOFT_SHORT_S
    assert ran.end.state is RunState.STOPPED
    assert "short circuit" in ran.end.reason
    assert 0 < tripped_s(ran) - onset.hard_s < HARD_SHORT_S
    assert ran.end.safe
    assert ran.simulator.world.terminals()[1] == 0


@pytest.mark.parametrize("cell", ["LYC", "Li2ZrCl6", "LYC_PMMA"])
@pytest.mark.parametrize("sample", ["1 s", "10 s"])
def test_below_its_critical_current_density_a_cell_shows_no_sign(
    run: Runner, cell: str, sample: str
) -> None:
    ran = run(HEAD + plated("0.3 mA/cm2", sample), cell=cell)
    assert ran.end.state is RunState.COMPLETED
    assert not warnings(ran)


def test_a_soft_short_ends_the_run_where_that_is_wanted(run: Runner) -> None:
    ran = run(HEAD + "limits: {soft short: trip}\n" + plated("0.6 mA/cm2"), cell="LYC")
    assert ran.end.state is RunState.STOPPED
    assert "soft short" in ran.end.reason or "irregular voltage" in ran.end.reason
    assert ran.simulator.world.terminals()[1] == 0


def test_a_warning_asks_for_people_to_be_told(run: Runner) -> None:
    ran = run(HEAD + plated("0.6 mA/cm2"), cell="LYC")
    assert ran.end.state is RunState.COMPLETED
    asked = [entry for entry in ran.reader.journal if "state" in entry.data and entry.step]
    assert {entry.data["alert"] for entry in asked if entry.kind == "warning"} == {"trips"}
    assert len(asked) <= 4  # each kind once an hour


def test_a_protocol_that_is_made_to_find_a_short_is_left_to_it(run: Runner) -> None:
    steps = (
        "  - repeat: 2\n    until: short\n    steps:\n"
        "      - current: {at: 0.8 mA/cm2, for: 20 min}\n"
        "      - current: {at: -0.8 mA/cm2, for: 20 min}\n"
    )
    spectrum = "  - eis: {from: 1 MHz, to: 1 Hz, points: 5 per decade, amplitude: 10 mV}\n"
    ran = run(HEAD + PRESSED + spectrum + steps, cell="LYC")
    assert ran.end.state is RunState.COMPLETED
    assert not warnings(ran)


# --- Cells with a cathode -----------------------------------------------------------------------


@pytest.mark.parametrize("resistance_ohm", [15.0, 300.0])
def test_a_hard_short_within_a_charge_trips(run: Runner, resistance_ohm: float) -> None:
    ran = run(HEAD + PRESSED + CHARGE, cell=FULL, disturb=shorted(2000, resistance_ohm))
    assert "short circuit" in ran.end.reason
    assert tripped_s(ran) - 2000 < HARD_SHORT_S
    assert ran.simulator.world.terminals()[1] == 0


def test_a_soft_short_within_a_charge_is_told_of_and_the_charge_is_bounded(run: Runner) -> None:
    ran = run(HEAD + PRESSED + CHARGE, cell=FULL, disturb=shorted(2000, 3000))
    assert warnings(ran)["soft short"] - 2000 < SOFT_SHORT_S
    assert ran.end.state is RunState.STOPPED
    assert "more than the cell holds" in ran.end.reason
    capacity_C = load_card(FULL, FULL)[0].nominal_capacity_C
    assert ran.simulator.world.cell.passed_C == pytest.approx(1.5 * capacity_C, rel=2e-3)


def test_a_cell_that_takes_charge_and_shows_no_voltage_is_shorted(run: Runner) -> None:
    ran = run(HEAD + PRESSED + CHARGE, cell=FULL, disturb=shorted(1, 15))
    assert "short circuit" in ran.end.reason
    capacity_C = load_card(FULL, FULL)[0].nominal_capacity_C
    assert ran.simulator.world.cell.passed_C < 0.06 * capacity_C


@pytest.mark.parametrize(("resistance_ohm", "within_s"), [(15.0, 60.0), (100.0, 120.0)])
def test_a_charged_cell_that_loses_its_voltage_at_rest_trips(
    run: Runner, resistance_ohm: float, within_s: float
) -> None:
    charge = "  - charge: {at: 1C, until: potential >= 4.2 V vs Li+/Li, at most: 2 h}\n"
    steps = PRESSED + charge + "  - rest: 10 h\n"
    ran = run(HEAD + steps, cell=FULL, disturb=shorted(5000, resistance_ohm))
    assert "at rest" in ran.end.reason
    assert tripped_s(ran) - 5000 < within_s


@pytest.mark.parametrize(("resistance_ohm", "leaks"), [(100e3, True), (1e9, False)])
def test_a_leak_at_rest_is_told_of(run: Runner, resistance_ohm: float, *, leaks: bool) -> None:
    charge = "  - charge: {at: 1C, until: potential >= 4.2 V vs Li+/Li, at most: 2 h}\n"
    steps = PRESSED + charge + "  - rest: 5 h\n"
    ran = run(HEAD + steps, cell=SOUND, disturb=shorted(5000, resistance_ohm))
    assert ran.end.state is RunState.COMPLETED
    assert ("leak" in warnings(ran)) is leaks


# --- Charge -------------------------------------------------------------------------------------


def test_a_limit_of_charge_ends_the_run(run: Runner) -> None:
    limits = "limits: {charge: at most 20 % of nominal capacity}\n"
    ran = run(HEAD + limits + PRESSED + CHARGE, cell=FULL)
    capacity_C = load_card(FULL, FULL)[0].nominal_capacity_C
    assert ran.end.state is RunState.STOPPED
    assert ran.simulator.world.cell.passed_C == pytest.approx(0.2 * capacity_C, rel=5e-3)


def test_a_step_that_asks_for_more_than_the_limit_is_refused(run: Runner) -> None:
    steps = "limits: {charge: 0.5 mAh}\nsteps:\n  - current: {at: 1 mA, for: 1 h}\n"
    ran = run(HEAD + steps, cell=FULL)
    assert ran.end.state is RunState.FAILED
    assert "beyond the limit of" in ran.end.reason
    assert ran.simulator.world.cell.passed_C == 0


def test_the_instrument_itself_ends_a_current_before_it_is_too_much(run: Runner) -> None:
    asked: list[Any] = []

    async def spy(_simulator: Any, bench: Any, _conductor: Any) -> None:
        run_it = bench.channel.run

        def noted(technique: Any, limits: Any) -> Any:
            asked.append(technique)
            return run_it(technique, limits)

        bench.channel.run = noted
        await asyncio.sleep(0)

    run(HEAD + PRESSED + CHARGE, cell=FULL, disturb=spy)
    (charge,) = [each for each in asked if each.technique == "constant current"]
    capacity_C = load_card(FULL, FULL)[0].nominal_capacity_C
    assert charge.current_A * charge.duration_s < 1.6 * capacity_C


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_of_charge_holds_through_the_deaths_of_computers(tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)  # noqa: S311 (no secret)

    async def fate(_: Host, kills: int) -> None:
        await asyncio.sleep(moments.uniform(30, 900) if kills < 6 else 1e9)

    path = tmp_path / "protocol.yaml"
    limits = "limits: {charge: at most 40 % of nominal capacity}\n"
    path.write_text(HEAD + limits + PRESSED + CHARGE, encoding="utf-8")
    ended = run_with_kills(path, tmp_path / "store", fate, away_s=30.0, cell=SOUND)
    assert ended.kills > 2
    assert ended.end.state is RunState.STOPPED
    capacity_C = load_card(SOUND, SOUND)[0].nominal_capacity_C
    passed_C = ended.simulator.world.cell.passed_C
    # What passed unseen counts as if all of it had passed: the limit errs to the safe side.
    assert 0.25 * capacity_C < passed_C < 0.405 * capacity_C


@pytest.mark.parametrize(
    ("text", "charge_mAh"),
    [("at most 1.3 of nominal capacity", 1.3 * 0.845), ("130 % of nominal capacity", 1.3 * 0.845),
     ("at most 2 mAh", 2.0), ("3 mAh/cm2", 3 * 0.7854)],
)  # fmt: skip
def test_a_limit_of_charge_as_people_write_it(text: str, charge_mAh: float) -> None:
    card, _ = load_card(FULL, FULL)
    assert card.most_charge_C(text) / 3.6 == pytest.approx(charge_mAh, rel=1e-3)


def test_symmetric_and_blocking_cells_have_no_capacity() -> None:
    for name in ("LYC", "LYC_blocking"):
        card, _ = load_card(name, name)
        assert card.charge_max_usual_C is None
        with pytest.raises(CardError):
            card.most_charge_C("1.3 of nominal capacity")


@given(
    cycles=st.integers(1, 400),
    efficiency=st.floats(EFFICIENCY_MIN, 1.0),
    first=st.floats(0.6, 1.0),
    depth=st.floats(0.05, 1.0),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_a_thousand_sound_cycles_do_not_add_up(
    cycles: int, efficiency: float, first: float, depth: float, sign: float
) -> None:
    budget = ChargeBudget(1.5, sign)
    budget.add(sign * depth)
    budget.add(-sign * depth * first)
    for _ in range(cycles):
        budget.add(sign * depth)
        budget.check()
        budget.add(-sign * depth * efficiency)
        budget.check()


@given(
    parts=st.lists(st.floats(1e-3, 0.3), min_size=1, max_size=60),
    back=st.floats(0.0, 0.5),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_charge_in_one_direction_is_bounded_however_it_is_divided(
    parts: list[float], back: float, sign: float
) -> None:
    """Pulses in the other direction hide nothing: what counts is what is in the cell, or more."""
    budget, inside = ChargeBudget(1.5, 1.0), 0.0
    for part in parts:
        for charge in (sign * part, -sign * part * back):
            budget.add(charge)
            inside += charge
        if abs(inside) * (1 - back / EFFICIENCY_MIN) / (1 - back) > 1.5:
            with pytest.raises(Trip, match="more than the cell holds"):
                budget.check()
            return


# --- Two instruments, one cell --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "voltage_V", "after_s", "found"),
    [("potentiostat", 3.75, 30, False), ("potentiostat", 3.5, 30, True),
     ("cycler", 3.5, 30, False), ("potentiostat", 3.5, 3600, False)],
)  # fmt: skip
def test_what_two_instruments_measure_of_a_resting_cell_is_compared(
    source: str, voltage_V: float, after_s: float, found: bool
) -> None:
    alarms: list[Trip] = []
    limits = Limits(voltage_min_V=0, voltage_max_V=4.5, current_max_A=1e-2)
    journal: Any = None
    geometry = Geometry(area_m2=1e-4, layout="full")
    detection = Detection(geometry, limits, journal, alarms.append, lambda _: None, foreseen=False)
    detection.rests_at("cycler", 100, 3.76)
    wrong = pytest.raises(Trip, match="one of them is wrong") if found else nullcontext()
    with wrong:
        detection.compare(source, 100 + after_s, voltage_V)
    assert bool(alarms) is found


def test_a_handover_of_a_sound_cell_is_no_disagreement(run: Runner) -> None:
    steps = (
        "  - current: {at: 0.1 mA/cm2, for: 5 min}\n  - rest: 3 min\n"
        "  - eis: {from: 100 kHz, to: 100 Hz, points: 3 per decade, amplitude: 10 mV}\n"
        "  - rest: 3 min\n"
    )
    ran = run(HEAD + "steps:\n" + steps, cell=FULL, bench="two_on_a_switch")
    assert ran.end.state is RunState.COMPLETED


# --- Leads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [FULL, "Cu_LYC_Li", "LYC_carbon_Li", "LCO_InLi"])
@pytest.mark.parametrize("bench", [None, "keithley", "maccor", "neware"])
def test_reversed_leads_are_found_before_anything_is_energised(
    run: Runner, cell: str, bench: str | None
) -> None:
    driven: list[float] = []

    async def reverse(simulator: Any, _bench: Any, _conductor: Any) -> None:
        world = simulator.world
        world.polarity = -1
        apply_current = world.apply_current

        def noted(current_A: float) -> None:
            driven.append(current_A)
            apply_current(current_A)

        world.apply_current = noted
        await asyncio.sleep(0)

    ran = run(
        HEAD + "steps:\n  - current: {at: 0.05 mA/cm2, for: 2 min}\n",
        cell=cell, bench=bench, disturb=reverse,
    )  # fmt: skip
    assert ran.end.state is RunState.FAILED
    assert "leads reversed" in ran.end.reason
    assert not any(driven)


# --- Temperature, and what repeats itself -------------------------------------------------------


def heated(rate_K_per_min: float, above_K: float) -> None:
    """A temperature on a straight line, five minutes and more after the last set point."""
    watch = LimitWatch(Limits(voltage_min_V=0, voltage_max_V=1, current_max_A=1))
    for count in range(180):
        away_K = above_K + rate_K_per_min * max(0, count - 60) / 12
        watch.runaway(5.0 * count, 298.0 + away_K, 298.0)


def test_a_stack_that_heats_itself_trips_long_before_its_limit() -> None:
    with pytest.raises(Trip, match="away from its set point"):
        heated(2.0, 3.0)


@pytest.mark.parametrize(("rate_K_per_min", "above_K"), [(2.0, -20.0), (0.2, 5.0), (-3.0, 30.0)])
def test_warming_up_overshoot_and_cooling_down_are_none(
    rate_K_per_min: float, above_K: float
) -> None:
    heated(rate_K_per_min, above_K)


def test_a_new_set_point_is_given_time() -> None:
    watch = LimitWatch(Limits(voltage_min_V=0, voltage_max_V=1, current_max_A=1))
    for count in range(60):
        watch.runaway(5.0 * count, 300.0 + 0.2 * count, 330.0)
    for count in range(12):  # it still rises for a moment
        watch.runaway(300 + 5.0 * count, 312.0 + 0.2 * count, 300.0)


def test_readings_that_only_repeat_themselves_are_none() -> None:
    watch = LimitWatch(Limits(voltage_min_V=0, voltage_max_V=1, current_max_A=1))
    for _ in range(STALE_ROWS - 1):
        watch.electrical(0.5, 0.1, Flag.STALE)
    with pytest.raises(Trip, match="repeats an old reading"):
        watch.electrical(0.5, 0.1, Flag.STALE)


def test_a_thermometer_at_its_end_is_no_reading() -> None:
    watch = LimitWatch(Limits(voltage_min_V=0, voltage_max_V=1, current_max_A=1))
    with pytest.raises(Trip, match="out of the thermometer's range"):
        watch.temperature(300.0, Flag.SATURATED)


def test_a_fire_in_the_chamber_opens_the_cell(run: Runner) -> None:
    async def burn(simulator: Any, _bench: Any, _conductor: Any) -> None:
        await asyncio.sleep(600)
        chamber = simulator.world.chamber
        for _ in range(300):
            await asyncio.sleep(1)
            simulator.world._settle()
            chamber.air_temperature_K += 0.2
            chamber.stack_temperature_K += 0.2

    steps = "steps:\n  - temperature: {to: 30 degC}\n  - current: {at: 0.1 mA/cm2, for: 1 h}\n"
    ran = run(HEAD + steps, disturb=burn)
    assert ran.end.state is RunState.STOPPED
    assert "temperature" in ran.end.reason
    assert ran.simulator.world.terminals()[1] == 0
