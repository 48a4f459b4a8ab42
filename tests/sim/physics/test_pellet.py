"""Conductivity of the separator: temperature, fabrication pressure, cracks."""

import math

import pytest

from cellbench_sim.physics.pellet import Pellet
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

STUDY_B_K = 293.15


def pellet_of(name: str) -> Pellet:
    preset = load_preset(name)
    return Pellet(preset.electrolyte, preset.pellet)


def conductivity_S_per_m(pellet: Pellet) -> float:
    total_Ohm = pellet.bulk_Ohm + pellet.boundary.resistance_Ohm
    return pellet.thickness_m / (total_Ohm * pellet.area_m2)


@pytest.mark.parametrize(
    ("name", "bulk_Ohm", "boundary_Ohm", "sigma_mS_per_cm"),
    [("LYC_blocking", 91.2, 38.1, 0.349), ("LYC_PMMA_blocking", 91.2, 192.7, 0.159)],
)
def test_the_pellets_of_study_b_have_its_resistances_at_20_degrees(
    name: str, bulk_Ohm: float, boundary_Ohm: float, sigma_mS_per_cm: float
) -> None:
    pellet = pellet_of(name)
    pellet.refresh(5e6, STUDY_B_K)

    assert pellet.bulk_Ohm == pytest.approx(bulk_Ohm, rel=1e-3)
    assert pellet.boundary.resistance_Ohm == pytest.approx(boundary_Ohm, rel=1e-3)
    assert conductivity_S_per_m(pellet) * 10 == pytest.approx(sigma_mS_per_cm, rel=3e-3)


@pytest.mark.parametrize(("name", "energy_eV"), [("LYC_blocking", 0.394), ("LYC_PMMA", 0.452)])
def test_the_whole_pellet_shows_the_activation_energy_of_the_study(
    name: str, energy_eV: float
) -> None:
    pellet = pellet_of(name)
    logs = []
    for temperature_K in (STUDY_B_K - 10, STUDY_B_K + 10):
        pellet.refresh(5e6, temperature_K)
        logs.append(math.log(conductivity_S_per_m(pellet)))

    inverse = 1 / (STUDY_B_K - 10) - 1 / (STUDY_B_K + 10)
    assert (logs[1] - logs[0]) / inverse * 8.617333e-5 == pytest.approx(energy_eV, abs=2e-3)


def test_a_blocking_cell_in_a_chamber_at_20_degrees_reaches_the_conductivity_of_the_study() -> None:
    world = World(load_preset("LYC_PMMA_blocking"), seed=0)
    world.chamber.set_point_K = STUDY_B_K
    world.advance_to(3600.0)

    assert world.cell_temperature_K == pytest.approx(STUDY_B_K, abs=0.005)
    assert conductivity_S_per_m(world.cell.pellet) * 10 == pytest.approx(0.159, rel=3e-3)


def test_a_stack_pressure_below_the_fabrication_pressure_changes_nothing() -> None:
    pellet = pellet_of("LYC")
    before_Ohm = pellet.bulk_Ohm
    pellet.refresh(22e6, STUDY_B_K)

    assert pellet.bulk_Ohm == before_Ohm


def test_a_pellet_remembers_the_highest_pressure_it_felt() -> None:
    pellet = pellet_of("LYC_blocking")
    loose = conductivity_S_per_m(pellet)
    thick_m = pellet.thickness_m
    pellet.refresh(500e6, STUDY_B_K)
    dense = conductivity_S_per_m(pellet)
    pellet.refresh(5e6, STUDY_B_K)

    expected = ((1 - 0.503 * math.exp(-500 / 442.5)) / (1 - 0.503 * math.exp(-300 / 442.5))) ** 2
    assert dense / loose == pytest.approx(expected, rel=1e-3)
    assert conductivity_S_per_m(pellet) == dense
    assert pellet.thickness_m < thick_m


def test_a_pellet_cracks_above_the_limit_of_its_material_and_stays_cracked() -> None:
    pellet = pellet_of("LYC_blocking")
    pellet.refresh(900e6, STUDY_B_K)
    whole_Ohm = pellet.boundary.resistance_Ohm
    pellet.refresh(1100e6, STUDY_B_K)
    pellet.refresh(5e6, STUDY_B_K)

    assert pellet.cracked
    assert pellet.boundary.resistance_Ohm > 2 * whole_Ohm
