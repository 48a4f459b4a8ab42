"""Cathodes: potentials, kinetics that depend on state, oxidation, contact, the charge ledger."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cellbench_sim.physics.cathode import Cathode
from cellbench_sim.physics.charge_transfer import ChargeTransfer
from cellbench_sim.physics.contact import ActiveContact
from cellbench_sim.physics.open_circuit import ActiveName, open_circuit_curve
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.cathode import CathodeElectrode
from cellbench_sim.world import World

AREA_M2 = 7.853981633974483e-05
OHM_CM2 = 1e-4
FullCells = Callable[..., Any]


def parameters(name: str) -> CathodeElectrode:
    working = load_preset(name).working
    assert isinstance(working, CathodeElectrode)
    return working


def cathode_of(world: World) -> Cathode:
    assert isinstance(world.cell.working, Cathode)
    return world.cell.working


@pytest.mark.parametrize("active", ["NMC811", "NCM85", "NCM622", "LCO"])
def test_an_open_circuit_potential_falls_all_the_way_as_lithium_comes_in(
    active: ActiveName,
) -> None:
    curve = open_circuit_curve(active)
    potentials_V = [curve(x)[0] for x in np.linspace(-0.02, 1.02, 5000)]

    assert (np.diff(potentials_V) < 0).all()


def test_a_tenth_of_nickel_rich_lithium_is_left_beyond_4_8_volts() -> None:
    curve = open_circuit_curve("NCM85")

    assert curve(0.07)[0] == pytest.approx(4.8, abs=0.002)
    assert curve(0.106)[0] == pytest.approx(4.8 + 3.33 * (0.07 - 0.106), abs=0.005)
    assert curve(0.5)[0] == pytest.approx(3.972, abs=0.002)
    assert curve(0.262)[0] == pytest.approx(4.3, abs=0.01)


@pytest.mark.parametrize(
    ("content", "expected_Ohm_cm2"), [(0.5, 25), (0.2, 32), (0.12, 335), (0.07, 24_390)]
)
def test_charge_transfer_soars_as_the_cathode_runs_empty(
    content: float, expected_Ohm_cm2: float
) -> None:
    transfer = ChargeTransfer(parameters("NCM85_InLi").active.charge_transfer, AREA_M2)

    areal = transfer.resistance_Ohm(content, 1.0) * AREA_M2 / OHM_CM2
    assert areal == pytest.approx(expected_Ohm_cm2, rel=0.02)


def test_31_kilohm_cost_a_quarter_volt_at_a_fifth_of_a_c_and_not_five_volts() -> None:
    transfer = ChargeTransfer(parameters("NCM85_InLi").active.charge_transfer, AREA_M2)
    transfer.prepare(1e6, 0.07, 1.0)
    current_A = 0.2 * 180.0 * parameters("NCM85_InLi").loading_kg_per_m2 * AREA_M2

    assert transfer.overpotential(current_A)[0] == pytest.approx(0.275, abs=0.01)
    assert current_A * transfer.resistance_Ohm(0.07, 1.0) > 5.0


def test_the_ageing_hold_raises_the_resistance_all_along_and_the_leakage_dies_away(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NCM85_InLi", 180.0)
    world, cathode = cell.world, cathode_of(cell.world)
    cell.drive(0.1, 4.18)
    world.apply_voltage(4.18)
    start_s = world.time_s
    resistances_Ohm, currents_A = [], []
    for hour in (0.1, 1, 5, 10, 20, 30):
        world.advance_to(start_s + 3600.0 * hour)
        resistances_Ohm.append(cathode.transfer.slope_Ohm)
        currents_A.append(world.terminals()[1])

    assert resistances_Ohm == sorted(resistances_Ohm)
    assert resistances_Ohm[-1] == pytest.approx(31e3, rel=0.1)
    assert currents_A == sorted(currents_A, reverse=True)
    assert 0.0 < currents_A[-1] < 1e-6
    assert cathode.particle.mean == pytest.approx(0.07, abs=0.002)
    # The top of the arc lies below 100 mHz.
    assert 2 * np.pi * 0.1 * cathode.transfer.lag.time_constant_s > 1.0

    cell.drive(-0.1, 2.18)
    cell.rest(1800.0)
    assert cathode.resistance_Ohm < 200.0
    charged, discharged = cell.cycle(0.2, 2.18, 3.68)
    assert discharged == pytest.approx(197.0, rel=0.02)
    assert charged == pytest.approx(discharged, rel=0.01)


def test_the_hold_is_milder_at_lower_potentials(full_cell: FullCells) -> None:
    resistances_Ohm = []
    for hold_V in (3.68, 3.98):
        cell = full_cell("NCM85_InLi", 180.0)
        cell.drive(0.1, hold_V)
        cell.world.apply_voltage(hold_V)
        cell.world.advance_to(cell.world.time_s + 30 * 3600.0)
        resistances_Ohm.append(cathode_of(cell.world).transfer.slope_Ohm)

    assert resistances_Ohm[0] < 45.0
    assert resistances_Ohm[0] < resistances_Ohm[1] < 4000.0


def test_every_coulomb_is_in_the_particles_or_accounted_for(full_cell: FullCells) -> None:
    cell = full_cell("NCM85_InLi", 180.0)
    world, cathode = cell.world, cathode_of(cell.world)
    capacity_C = 275.0 * 3.6 * cell.mass_kg * 1e3 * cathode.contact.fraction
    before = cathode.particle.mean
    passed_mAh_per_g = cell.drive(0.2, 3.98)
    start_s, held_C = world.time_s, 0.0
    world.apply_voltage(3.98)
    while world.time_s < start_s + 7200.0:
        world.advance_to(world.time_s + 1.0)
        held_C += world.terminals()[1]

    passed_C = passed_mAh_per_g * 3.6 * cell.mass_kg * 1e3 + held_C
    stored_C = (before - cathode.particle.mean) * capacity_C
    assert stored_C + cathode.lost_C == pytest.approx(passed_C, rel=1e-3)


def test_the_first_charge_loses_what_the_second_does_not(full_cell: FullCells) -> None:
    cell = full_cell("NCM85_InLi", 180.0)
    first_charge, first_discharge = cell.cycle(0.2, 2.18, 3.68)
    second_charge, second_discharge = cell.cycle(0.2, 2.18, 3.68)

    assert first_charge - first_discharge == pytest.approx(12.0, abs=1.0)
    assert second_charge == pytest.approx(second_discharge, rel=2e-3)


def test_a_layer_passivates_above_its_onset_and_does_nothing_below(full_cell: FullCells) -> None:
    layer = cathode_of(full_cell("NMC811_sulfide_InLi", 200.0).world).layer
    layer.advance(1e6, 4.29)
    assert layer.thickness_m == pytest.approx(1e-9)
    assert layer.leakage_A_per_m2 == 0.0

    thicknesses = []
    for _ in range(4):
        layer.advance(1e5, 4.6)
        thicknesses.append(layer.thickness_m)
    growth = np.diff(np.square([1e-9, *thicknesses]))
    assert growth == pytest.approx(growth[0])
    assert layer.leakage_A_per_m2 > 0.0


@pytest.mark.long
def test_the_ladder_of_cut_offs_breaks_near_4_3_volts_with_a_sulfide_only(
    full_cell: FullCells,
) -> None:
    cut_offs_V = np.arange(4.0, 5.01, 0.1)
    growth = {}
    for name in ("NMC811_sulfide_InLi", "NCM85_InLi"):
        cell = full_cell(name, 200.0)
        film_Ohm = []
        for cut_off_V in cut_offs_V:
            cell.cycle(0.2, 2.18, cut_off_V - 0.62)
            film_Ohm.append(cathode_of(cell.world).film.resistance_Ohm)
        growth[name] = np.diff(film_Ohm)

    broken = growth["NMC811_sulfide_InLi"] > 0.5
    assert cut_offs_V[1:][broken].min() == pytest.approx(4.4)
    assert broken[3:].all()
    assert (growth["NCM85_InLi"] < 0.5).all()


def test_nothing_happens_at_open_circuit_for_16_hours_and_then_the_resistance_grows(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NMC811_Li3PS4_InLi", 200.0)
    film = cathode_of(cell.world).film
    fresh_Ohm = film.resistance_Ohm
    cell.world.advance_to(15.9 * 3600.0)
    assert film.resistance_Ohm == pytest.approx(fresh_Ohm)
    cell.world.advance_to(24 * 3600.0)
    assert film.resistance_Ohm > 5 * fresh_Ohm


def test_pulses_are_no_cycles_and_contact_is_lost_only_between_cycles(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NCM85_InLi", 180.0)
    contact = cathode_of(cell.world).contact
    cell.drive(0.5, 3.68)
    for _ in range(20):
        cell.drive(-1.0, 2.0, at_most_s=60.0)
        cell.drive(1.0, 3.68, at_most_s=60.0)
    assert contact.cycles == 0

    cell.drive(-0.5, 2.18)
    fraction = contact.fraction
    cell.drive(0.5, 3.68)
    assert contact.cycles == 1
    assert contact.fraction == pytest.approx(fraction * (1.0 - 0.000117 * 1.5), rel=2e-4)


def test_pressure_brings_back_part_of_the_contact_that_was_lost() -> None:
    contacts = []
    for pressure_Pa in (5e6, 500e6):
        contact = ActiveContact(parameters("NCM85_InLi").contact_loss, None, 0.9)
        contact.refresh(pressure_Pa)
        for _ in range(50):
            contact.advance(10_000.0, -5e-5, 4.3)
            contact.advance(10_000.0, 5e-5, 2.8)
        contacts.append(contact.fraction)

    assert contacts[0] == pytest.approx(0.9 * (1 - 0.000117 * 1.5) ** 49, rel=1e-4)
    assert contacts[0] < contacts[1] < 0.9
