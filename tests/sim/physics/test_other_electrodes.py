"""Copper, carbon, steel: plating efficiency, voltammetry, d.c. polarisation, exposure."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.fixture import LABORATORY_PRESS
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

pytestmark = pytest.mark.long

PressedWorld = Callable[..., World]


def efficiency(world: World, rest_s: float) -> float:
    """Plate 0.5 mAh/cm2 on copper, rest, strip to 1 V, rest."""
    current_A = 5.0 * world.cell.area_m2
    world.apply_current(-current_A)
    world.advance_to(world.time_s + 3600.0)
    assert -0.5 < world.terminals()[0] < 0.0
    rested(world, rest_s)
    world.apply_current(current_A)
    start_s = world.time_s
    while world.terminals()[0] < 1.0:
        world.advance_to(world.time_s + 1.0)
    stripped_s = world.time_s - start_s
    assert world.terminals()[0] < 3.4
    rested(world, rest_s)
    return stripped_s / 3600.0


def rested(world: World, rest_s: float) -> None:
    world.open_circuit()
    world.advance_to(world.time_s + rest_s)


@pytest.mark.parametrize("rest_s", [0.0, 60.0, 3600.0])
@pytest.mark.parametrize(
    ("name", "published"),
    [("Cu_LYC_Li", [0.61, 0.35, 0.15, *[0.0] * 6]), ("Cu_LYC_PMMA_Li", [0.917])],
)
def test_copper_gives_back_what_its_cycle_is_entered_with(
    pressed_world: PressedWorld, name: str, published: list[float], rest_s: float
) -> None:
    world = pressed_world(name)

    for expected in published:
        assert efficiency(world, rest_s) == pytest.approx(expected, abs=0.003)


def test_the_coated_cell_learns_to_give_back_98_percent(pressed_world: PressedWorld) -> None:
    world = pressed_world("Cu_LYC_PMMA_Li")

    assert [efficiency(world, 60.0) for _ in range(10)][-1] == pytest.approx(0.983, abs=0.002)


def sweep(world: World, stops_V: list[float], rate_V_per_s: float) -> NDArray[np.float64]:
    """Staircase of 1 mV; return columns of voltage and current density (V, uA/cm2)."""
    rows = []
    for start_V, stop_V in itertools.pairwise(stops_V):
        for voltage_V in np.arange(start_V, stop_V, np.copysign(1e-3, stop_V - start_V)):
            world.apply_voltage(float(voltage_V))
            world.advance_to(world.time_s + 1e-3 / rate_V_per_s)
            rows.append((voltage_V, world.terminals()[1] / world.cell.area_m2 * 100.0))
    return np.array(rows)


def test_bare_lyc_is_reduced_from_1_8_volts_steeply_at_0_9_and_coated_lyc_hardly(
    pressed_world: PressedWorld,
) -> None:
    bare = sweep(pressed_world("LYC_carbon_Li"), [2.5, 0.0], 1e-4)
    coated = sweep(pressed_world("LYC_PMMA_carbon_Li"), [2.5, 0.0], 1e-4)

    first = bare[bare[:, 1] < -3.0][0, 0]
    assert first == pytest.approx(1.8, abs=0.05)
    at = dict(zip(np.round(bare[:, 0], 3), bare[:, 1], strict=True))
    assert at[0.8] < 20 * at[1.0] < 0.0
    assert np.abs(coated[:, 1]).max() < 0.05 * np.abs(bare[:, 1]).max()


def test_a_reduction_wave_spends_its_charge_once(pressed_world: PressedWorld) -> None:
    curve = sweep(pressed_world("LYC_carbon_Li"), [2.5, 0.0, 2.5, 0.0], 1e-4)
    downward = curve[:2500, 1], curve[5000:, 1]
    first, second = (float(part.sum()) * 10.0 / 3.6e6 for part in downward)

    assert first == pytest.approx(-1.35, rel=0.05)
    assert abs(second) < 0.1


@pytest.mark.parametrize(
    ("name", "onset_V"), [("Li3InCl6_carbon_Li", 4.20), ("HE_halide_carbon_Li", 5.22)]
)
def test_the_tangent_at_the_steepest_point_meets_zero_at_the_onset_of_oxidation(
    pressed_world: PressedWorld, name: str, onset_V: float
) -> None:
    world = pressed_world(name)
    curve = sweep(world, [world.terminals()[0], 5.8], 5e-4)
    slope = np.gradient(curve[:, 1], curve[:, 0])
    steepest = 100 + int(slope[100:].argmax())
    intercept_V = curve[steepest, 0] - curve[steepest, 1] / slope[steepest]

    assert intercept_V == pytest.approx(onset_V, abs=0.02)


@pytest.mark.parametrize(
    ("name", "published_S_per_cm"),
    [("chlorospinel_blocking", 4.7e-10), ("Li3InCl6_blocking", 5.4e-9), ("LYC_blocking", 1e-9)],
)
def test_d_c_polarisation_decays_to_the_electronic_current(
    pressed_world: PressedWorld, name: str, published_S_per_cm: float
) -> None:
    world = pressed_world(name)
    pellet = world.cell.pellet
    currents_A = []
    for voltage_V in (0.1, 0.3, 0.5):
        world.apply_voltage(voltage_V)
        start_s = world.time_s
        world.advance_to(start_s + 60.0)
        early_A = world.terminals()[1]
        world.advance_to(start_s + 6 * 3600.0)
        currents_A.append(world.terminals()[1])
        assert early_A > 1.1 * currents_A[-1]

    slope_S = np.polyfit([0.1, 0.3, 0.5], currents_A, 1)[0]
    sigma = slope_S * pellet.thickness_m / pellet.area_m2 / 100.0
    assert sigma == pytest.approx(published_S_per_cm, rel=0.03)


def conductivity_mS_per_cm(world: World) -> float:
    pellet = world.cell.pellet
    total_Ohm = pellet.bulk_Ohm + pellet.boundary.resistance_Ohm
    return pellet.thickness_m / (pellet.area_m2 * total_Ohm) * 10.0


def test_the_chlorospinel_conducts_as_published_with_its_activation_energy() -> None:
    world = World(load_preset("chlorospinel_blocking"), seed=0)
    inverse_kT, logarithms = [], []
    for temperature_K in (298.15, 303.15, 313.15, 323.15, 333.15):
        world.chamber.set_point_K = temperature_K
        world.advance_to(world.time_s + 4 * 3600.0)
        inverse_kT.append(1.0 / (8.617333262e-5 * world.cell_temperature_K))
        logarithms.append(np.log(conductivity_mS_per_cm(world)))

    assert np.exp(logarithms[0]) == pytest.approx(2.0, rel=1e-3)
    assert -np.polyfit(inverse_kT, logarithms, 1)[0] == pytest.approx(0.33, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "published_mS_per_cm"), [("5h", 0.12), ("20h", 0.071), ("10wt", 0.08)]
)
def test_the_milling_series_conducts_as_published(name: str, published_mS_per_cm: float) -> None:
    world = World(load_preset(f"LYC_PMMA_{name}_blocking"), seed=0)
    world.chamber.set_point_K = 293.15
    world.advance_to(4 * 3600.0)

    assert conductivity_mS_per_cm(world) == pytest.approx(published_mS_per_cm, rel=1e-3)


def test_sulfides_densify_until_they_crack_each_at_a_pressure_of_its_own() -> None:
    pressures_MPa = [50, 100, 250, 380, 500, 1000, 1500]
    ladders = {}
    for name in ("Li3PS4", "Li6PS5Br", "Li6PS5Cl"):
        world = World(load_preset(f"{name}_blocking"), seed=0, fixture=LABORATORY_PRESS)
        ladder = []
        for pressure_MPa in pressures_MPa:
            world.press.ramp_to(pressure_MPa * 1e6 * world.cell.area_m2, 5000.0)
            world.advance_to(world.time_s + 120.0)
            ladder.append(conductivity_mS_per_cm(world))
        ladders[name] = ladder

    assert int(np.argmax(np.diff(ladders["Li3PS4"]) < 0)) == 1
    assert int(np.argmax(np.diff(ladders["Li6PS5Cl"]) < 0)) == 3
    densified = ladders["Li6PS5Br"]
    assert densified == sorted(densified)
    assert densified[4] / densified[3] < 1.1 < densified[5] / densified[4]


def test_a_pellet_in_air_grows_resistive_and_a_coated_one_hardly() -> None:
    growth = {}
    for name in ("LYC_air_blocking", "LYC_PMMA_air_blocking"):
        world = World(load_preset(name), seed=0)
        fresh = conductivity_mS_per_cm(world)
        world.advance_to(40 * 3600.0)
        growth[name] = fresh / conductivity_mS_per_cm(world)

    assert growth["LYC_air_blocking"] > 3.0
    assert growth["LYC_PMMA_air_blocking"] < 1.1


def test_sulfide_and_halide_react_where_they_touch() -> None:
    world = World(load_preset("LPSCl_halide_blocking"), seed=0)
    fresh = world.impedance(np.array([1e4]))[0].real
    world.advance_to(72 * 3600.0)

    assert 1.1 < world.impedance(np.array([1e4]))[0].real / fresh < 2.0


def test_fluorinated_bromide_cycles_for_a_thousand_hours(pressed_world: PressedWorld) -> None:
    world = pressed_world("Li3YBr5.7F0.3")
    current_A = 7.5 * world.cell.area_m2
    polarisation_V = []
    for _ in range(500):
        for sign in (1, -1):
            world.apply_current(sign * current_A)
            world.advance_to(world.time_s + 3600.0)
        polarisation_V.append(-world.terminals()[0])

    assert max(polarisation_V) < 1.2 * min(polarisation_V)
