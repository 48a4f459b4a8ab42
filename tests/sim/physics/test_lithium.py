"""Lithium metal: stripping capacities, voids, contact, reduction of the electrolyte."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.lithium import Lithium
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.electrodes import LithiumElectrode
from cellbench_sim.world import World

AREA_M2 = 7.853981633974483e-05
MAH_PER_CM2 = 36_000.0
MA_PER_CM2 = 10.0


def lithium_on(name: str) -> Lithium:
    parameters = load_preset(name).working
    assert isinstance(parameters, LithiumElectrode)
    return Lithium(parameters, AREA_M2)


def stripped_until(world: World, voltage_V: float) -> float:
    """Strip at 1 mA/cm2 to a voltage; return the capacity in mAh/cm2."""
    start_s = world.time_s
    world.apply_current(MA_PER_CM2 * AREA_M2)
    while world.terminals()[0] < voltage_V:
        world.advance_to(world.time_s + 1.0)
    return (world.time_s - start_s) / 3600.0


@pytest.mark.parametrize(
    ("pressure_MPa", "capacity_mAh_cm2"),
    [(2, 6.29), (5, 13.19), (8, 13.19), (14, 12.71), (22, 7.5)],
)
def test_stripping_runs_away_at_the_capacity_of_each_pressure(
    pressed_world: Callable[..., World], pressure_MPa: float, capacity_mAh_cm2: float
) -> None:
    world = pressed_world("LYC_PMMA", pressure_Pa=pressure_MPa * 1e6)

    assert stripped_until(world, 2.0) == pytest.approx(capacity_mAh_cm2, rel=0.03)


def test_the_polarisation_of_stripping_is_smallest_at_5_megapascals(
    pressed_world: Callable[..., World],
) -> None:
    polarisation_V = {}
    for pressure_MPa in (2, 5, 8, 14, 22):
        world = pressed_world("LYC_PMMA", pressure_Pa=pressure_MPa * 1e6)
        world.apply_current(MA_PER_CM2 * AREA_M2)
        world.advance_to(world.time_s + 600.0)
        polarisation_V[pressure_MPa] = world.terminals()[0]

    assert min(polarisation_V, key=lambda pressure: polarisation_V[pressure]) == 5
    assert list(polarisation_V.values()) == pytest.approx([0.92, 0.44, 0.53, 0.63, 0.76], rel=0.1)


def test_no_voids_form_at_half_a_milliampere_and_5_megapascals() -> None:
    lithium = lithium_on("LYC_PMMA")
    lithium.refresh(5e6, 298.15)
    lithium.advance(1800.0, 0.5 * MA_PER_CM2)

    assert lithium.void_C_per_m2 == 0.0


def test_voids_grow_with_the_excess_of_stripping_and_heal_on_plating() -> None:
    lithium = lithium_on("LYC_PMMA")
    lithium.refresh(2e6, 298.15)
    lithium.advance(3600.0, 1.0 * MA_PER_CM2)
    assert lithium.void_C_per_m2 == pytest.approx((1 - 0.0854) * MAH_PER_CM2, rel=2e-3)
    assert lithium.contact < 0.98

    lithium.advance(3600.0, -1.0 * MA_PER_CM2)
    assert lithium.void_C_per_m2 == 0.0
    assert lithium.contact == pytest.approx(1.0)


def test_the_contact_fraction_has_a_floor_and_lithium_does_not_become_negative() -> None:
    lithium = lithium_on("LYC")
    for _ in range(100):
        lithium.advance(3600.0, 1.0 * MA_PER_CM2)

    assert lithium.contact == 0.0005
    assert lithium.usable_C_per_m2 == 0.0


def test_voids_keep_the_thickness_that_stripping_takes() -> None:
    lithium = lithium_on("LYC")
    lithium.refresh(0.0, 298.15)
    fresh_m = lithium.thickness_m
    lithium.advance(3600.0, 1.0 * MA_PER_CM2)

    assert lithium.thickness_m == pytest.approx(fresh_m)


@pytest.mark.parametrize(("hours", "expected_Ohm_cm2"), [(100, 11), (200, 32), (300, 173)])
def test_the_reduced_layer_of_lyc_adds_the_resistance_of_its_age(
    hours: float, expected_Ohm_cm2: float
) -> None:
    aged, fresh = lithium_on("LYC"), lithium_on("LYC")
    for lithium in (aged, fresh):
        lithium.refresh(5e6, 298.15)
    aged.advance(hours * 3600.0, 0.0)

    added_Ohm = aged.arc.resistance_Ohm - fresh.arc.resistance_Ohm
    assert added_Ohm * AREA_M2 * 1e4 == pytest.approx(expected_Ohm_cm2, rel=0.03)


def test_the_coating_slows_the_reduced_layer() -> None:
    coated = lithium_on("LYC_PMMA")
    coated.refresh(5e6, 298.15)
    fresh_Ohm = coated.arc.resistance_Ohm
    coated.advance(1400 * 3600.0, 0.0)

    added = (coated.arc.resistance_Ohm - fresh_Ohm) * AREA_M2 * 1e4
    assert added == pytest.approx(17, rel=0.03)


def test_pressure_lowers_the_interface_and_leaves_the_electrolyte(
    pressed_world: Callable[..., World], frequencies_Hz: NDArray[np.float64]
) -> None:
    world = pressed_world("LYC_PMMA", pressure_Pa=2e6)
    totals, electrolytes = [], []
    for pressure_MPa in (2, 5, 8, 14, 22):
        world.press.ramp_to(pressure_MPa * 1e6 * AREA_M2, 40.0)
        world.advance_to(world.time_s + 120.0)
        totals.append(float(world.impedance(frequencies_Hz)[-1].real))
        electrolytes.append(world.cell.pellet.bulk_Ohm + world.cell.pellet.boundary.resistance_Ohm)

    assert electrolytes == [electrolytes[0]] * 5
    assert totals == sorted(totals, reverse=True)
    interface_fraction = (totals[-1] - electrolytes[0]) / (totals[0] - electrolytes[0])
    assert interface_fraction == pytest.approx(0.38, abs=0.05)
