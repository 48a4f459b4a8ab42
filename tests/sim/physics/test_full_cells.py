"""Full cells of the studies; what emerges and what is entered is said by their presets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.cathode import Cathode
from cellbench_sim.physics.cell import Cell
from cellbench_sim.physics.fixture import SCREW_JIG
from cellbench_sim.physics.indium import Indium
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.electrodes import IndiumElectrode
from cellbench_sim.world import World

pytestmark = pytest.mark.long

FullCells = Callable[..., Any]
#: Study B measured at 19 +- 6 degC; its protocols set 20.
STUDY_B_K = 293.15
AREA_CM2 = 0.7853981633974483


def test_rates_of_study_b_and_the_return(full_cell: FullCells) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0, temperature_K=STUDY_B_K)
    cell.cycle(0.05, 2.5, 4.3)
    capacities = []
    for c_rate in (0.1, 0.2, 0.5, 1.0, 2.0, 0.1):
        cell.cycle(c_rate, 2.5, 4.3)
        capacities.append(cell.cycle(c_rate, 2.5, 4.3)[1])

    assert capacities[:5] == pytest.approx([172, 162, 148, 121, 91], rel=0.1)
    assert capacities[5] == pytest.approx(capacities[0], rel=0.01)


def test_study_b_breaks_in_over_eight_cycles_and_then_keeps_its_capacity(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0, temperature_K=STUDY_B_K)
    cycles = [cell.cycle(1.0, 2.5, 4.3) for _ in range(108)]
    discharged = [discharge for _, discharge in cycles]

    assert cycles[0] == pytest.approx((98.6, 93.1), rel=0.1)
    assert discharged[7] == pytest.approx(130.0, rel=0.1)
    assert discharged[-1] / max(discharged) == pytest.approx(0.99, abs=0.005)
    charge, discharge = cycles[-1]
    assert discharge / charge == pytest.approx(0.994, abs=0.003)


def test_bare_lyc_no_longer_reaches_4_3_volts_from_cycle_9(full_cell: FullCells) -> None:
    cell = full_cell("NMC811_LYC_Li", 200.0, temperature_K=STUDY_B_K)
    cap_s = 1.3 * 3600.0
    reached, first = [], None
    for _ in range(12):
        charge = cell.drive(1.0, 4.3, at_most_s=cap_s)
        reached.append(charge < 259.0)
        discharge = cell.drive(-1.0, 2.5)
        first = first or (charge, discharge)

    assert first is not None
    assert first == pytest.approx((106.6, 80.1), rel=0.1)
    assert reached == [True] * 8 + [False] * 4


def test_the_full_cell_is_resistive_up_to_2_megapascals_low_at_5_and_shorted_above_8(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0)
    resistances_Ohm = []
    cell.press(0.0)
    for pressure_MPa in (0.0, 1.0, 2.0, 5.0, 8.0):
        cell.press(pressure_MPa)
        resistances_Ohm.append(float(cell.world.impedance(np.array([1e3]))[0].real))
        cell.rest(600.0)
    assert min(resistances_Ohm[:3]) > 1.7 * resistances_Ohm[3]
    assert resistances_Ohm[3] == pytest.approx(resistances_Ohm[4], rel=0.1)
    assert cell.world.terminals()[0] > 2.5

    cell.press(12.0)
    cell.rest(600.0)
    assert cell.world.impedance(np.array([0.1]))[0].real < 30.0
    assert abs(cell.world.terminals()[0]) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_8_megapascals_for_an_hour_practically_never_short_a_full_cell(
    full_cell: FullCells, seed: int
) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0, seed=seed)
    cell.press(8.0)
    cell.rest(3600.0)

    assert cell.world.terminals()[0] > 2.5


def test_capacities_of_study_a(full_cell: FullCells) -> None:
    for name, one_c, c_rate, cut_offs, expected in (
        ("NCM85_InLi_high_loading", 180.0, 0.125, (2.18, 3.68), 192.0),
        ("NCM85_InLi_9to1", 180.0, 0.2, (2.18, 3.68), 180.0),
        ("NCM85_InLi_3C", 180.0, 3.0, (2.18, 3.68), 86.0),
        ("NCM85_InLi_2C", 180.0, 2.0, (2.18, 3.68), 155.0),
        ("NCM622_InLi", 180.0, 0.2, (2.18, 3.98), 194.0),
    ):
        cell = full_cell(name, one_c)
        cell.cycle(c_rate, *cut_offs)
        assert cell.cycle(c_rate, *cut_offs)[1] == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize(
    ("temperature_K", "high_V", "expected_mAh_per_cm2"), [(298.15, 3.78, 3.0), (323.15, 3.68, 4.5)]
)
def test_thick_lco_gives_half_as_much_again_when_warm(
    full_cell: FullCells, temperature_K: float, high_V: float, expected_mAh_per_cm2: float
) -> None:
    cell = full_cell("LCO_InLi_52", 137.0)
    cell.world.chamber.set_point_K = temperature_K
    cell.rest(7200.0)
    cell.cycle(1 / 6, 1.98, high_V)
    discharge = cell.cycle(1 / 6, 1.98, high_V)[1]

    assert discharge * cell.mass_kg * 1e3 / AREA_CM2 == pytest.approx(
        expected_mAh_per_cm2, rel=0.05
    )


@pytest.mark.parametrize(
    ("name", "areal_Ohm_cm2", "efficiency"),
    [("LCO_Li3YCl6_InLi", 16.8, 0.94), ("LCO_Li3PS4_InLi", 128.4, 0.84)],
)
def test_the_interface_after_the_first_charge_and_its_efficiency(
    full_cell: FullCells, name: str, areal_Ohm_cm2: float, efficiency: float
) -> None:
    cell = full_cell(name, 137.0)
    charge = cell.drive(0.1, 3.58)
    cell.rest(3600.0)
    parts = cell.world.cell.working
    assert isinstance(parts, Cathode)
    interface_Ohm = parts.film.resistance_Ohm + parts.transfer.slope_Ohm
    interface_Ohm += cell.world.cell.counter.resistance_Ohm

    assert interface_Ohm * AREA_CM2 == pytest.approx(areal_Ohm_cm2, rel=0.02)
    assert cell.drive(-0.1, 2.18) / charge == pytest.approx(efficiency, abs=0.01)


def test_along_the_first_cycle_of_ncm622_the_arc_is_smallest_half_way_and_largest_at_the_top(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NCM622_InLi", 180.0)
    arcs_Ohm, contents, tails_Ohm = [], [], []
    for c_rate, cut_off_V in ((0.2, 3.98), (-0.2, 2.18)):
        for _ in range(6):
            cell.drive(c_rate, cut_off_V, at_most_s=3600.0)
            cell.rest(1800.0)
            cathode = cell.world.cell.working
            arc_Ohm = cathode.film.resistance_Ohm + cathode.transfer.slope_Ohm
            arcs_Ohm.append(arc_Ohm + cell.world.cell.counter.resistance_Ohm)
            contents.append(cathode.particle.mean)
            tails_Ohm.append(abs(cell.world.impedance(np.array([0.1]))[0]))
            cell.rest(1800.0)

    assert max(arcs_Ohm) < 80.0
    assert int(np.argmax(arcs_Ohm)) == int(np.argmin(contents))
    assert contents[int(np.argmin(arcs_Ohm))] == pytest.approx(0.5, abs=0.08)
    assert int(np.argmax(tails_Ohm)) == int(np.argmax(contents))


@pytest.mark.parametrize(
    ("name", "per_capacity"), [("NMC811_InLi_single", 2.65), ("NMC811_InLi_poly", 2.37)]
)
def test_a_stack_of_constant_gap_breathes_with_the_charge(
    full_cell: FullCells, name: str, per_capacity: float
) -> None:
    cell = full_cell(name, 200.0, fixture=SCREW_JIG)
    cell.press(20.0)
    before_Pa = cell.world.stack_pressure_Pa()
    passed = cell.drive(0.1, 3.68) * cell.mass_kg * 1e3 / AREA_CM2
    rise_MPa = (cell.world.stack_pressure_Pa() - before_Pa) / 1e6

    # The first charge loses a tenth, which moves lithium and swells no cathode.
    expected = per_capacity * 1e-6 * 10e6 / (AREA_CM2 * 1e-4) / 1e6
    assert rise_MPa / passed == pytest.approx(expected, rel=0.02)
    cell.drive(-0.1, 2.18)
    assert cell.world.stack_pressure_Pa() < before_Pa + 0.1e6


def test_indium_holds_its_potential_until_it_is_empty_or_overfull() -> None:
    parameters = load_preset("NCM85_InLi").counter
    assert isinstance(parameters, IndiumElectrode)
    counter = Indium(parameters, AREA_CM2 * 1e-4)
    capacity = 36000.0  # mAh/cm2 in C/m2
    assert counter.potential_V == pytest.approx(0.62, abs=1e-3)
    counter.prepare(1.0, 0.0)
    counter.advance(3600.0, 4.5 * 10.0)
    assert counter.potential_V == pytest.approx(0.62, abs=1e-3)
    counter.advance(3600.0, 0.42 * 10.0)
    assert counter.potential_V > 1.0
    counter.advance(3600.0, -(4.92 + 12.0) * 10.0)
    assert counter.potential_V == pytest.approx(0.62, abs=0.02)
    counter.advance(3600.0, -1.2 * 10.0)
    assert counter.potential_V == pytest.approx(0.3, abs=0.01)
    assert counter.thickness_m == pytest.approx(2.9e-6 * counter.lithium_C / (AREA_CM2 * 3.6))
    assert counter.ratio * 17.0 * capacity == pytest.approx(counter.lithium_C / AREA_CM2 * 1e4)


def test_a_charged_cell_leaks_at_open_circuit_through_its_electrolyte(
    full_cell: FullCells,
) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0)
    cell.cycle(0.1, 2.5, 4.3)
    cell.drive(0.1, 4.3)
    cell.rest(3600.0)
    fresh_V = cell.world.terminals()[0]
    cell.rest(100 * 3600.0)

    assert 0.02 < fresh_V - cell.world.terminals()[0] < 0.4


def test_a_spectrum_of_a_full_cell_sees_separator_arcs_and_diffusion(
    full_cell: FullCells, frequencies_Hz: NDArray[np.float64]
) -> None:
    cell = full_cell("NMC811_LYC_PMMA_Li", 200.0)
    cell.drive(0.1, 4.0)
    cell.rest(3600.0)
    world: World = cell.world
    spectrum = world.impedance(frequencies_Hz)

    assert spectrum[0].real > world.cell.separator.pellet.bulk_Ohm
    assert (np.diff(spectrum.real) > 0).all()
    assert spectrum[-1].real > world.cell.separator.resistance_Ohm + 50.0


@pytest.mark.parametrize("name", ["NCM85_InLi", "NMC811_LYC_PMMA_Li"])
def test_the_coarse_grid_follows_the_fine_one(
    full_cell: FullCells, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Voltages under a current within 1 mV; currents of a decaying hold within 2 uA or 1 %."""

    def course() -> tuple[list[float], list[float]]:
        cell = full_cell(name, 180.0)
        world = cell.world
        cell.drive(0.5, 3.9, at_most_s=2400.0)
        world.apply_voltage(world.terminals()[0] + 0.1)
        currents_mA, voltages_V = [], []
        for _ in range(60):
            world.advance_to(world.time_s + 30.0)
            currents_mA.append(1e3 * world.terminals()[1])
        world.apply_current(-0.2e-3)
        for _ in range(60):
            world.advance_to(world.time_s + 30.0)
            voltages_V.append(world.terminals()[0])
        return currents_mA, voltages_V

    coarse_mA, coarse_V = course()
    monkeypatch.setattr(Cell, "longest_step_s", 0.0)
    fine_mA, fine_V = course()

    assert coarse_V == pytest.approx(fine_V, abs=1e-3, rel=0.0)
    assert coarse_mA == pytest.approx(fine_mA, abs=2e-3, rel=0.01)
