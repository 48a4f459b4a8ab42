"""The cell whose cathode PyBaMM solves: the interface's promises, and against the reduced model."""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellbench.errors import InputError
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.physics.pybamm_cell import PybammCell
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.cathode import (
    ActiveMaterial,
    CathodeElectrode,
    ChargeTransferParameters,
    ContactLoss,
    Interphase,
    SeriesResistance,
)
from cellbench_sim.presets.schema import CellPreset
from cellbench_sim.world import World

pytestmark = pytest.mark.long

NAME = "NMC811_Li_pybamm"
C_RATE_A_PER_M2 = 13.0

needs_pybamm = pytest.mark.skipif(
    importlib.util.find_spec("pybamm") is None,
    reason='PyBaMM is not installed: pip install "cellbench[pybamm]"',
)


def preset(**changes: Any) -> CellPreset:
    known = load_preset(NAME)
    return known.model_copy(update={"working": known.working.model_copy(update=changes)})


def pressed(cell: CellPreset, pressure_Pa: float = 5e6) -> World:
    world = World(cell, seed=0)
    world.press.ramp_to(pressure_Pa * world.model.area_m2, 40.0)
    world.advance_to(120.0)
    return world


def half_cell(world: World) -> PybammCell:
    assert isinstance(world.model, PybammCell)
    return world.model


def one_c_A(world: World) -> float:
    return C_RATE_A_PER_M2 * world.model.area_m2


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybamm", None)

    with pytest.raises(InputError, match=r'pip install "cellbench\[pybamm\]"'):
        SimulatedBench(NAME, seed=1)


def test_other_cells_do_not_import_it() -> None:
    code = (
        "import sys; from cellbench_sim.bench import SimulatedBench; SimulatedBench('LYC', seed=1);"
        "sys.exit(bool({'pybamm', 'casadi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("change", [{"shorts": True}, {"counter": "NCM85_InLi"}])
def test_a_preset_that_asks_for_what_would_be_left_out_is_refused(change: dict[str, Any]) -> None:
    known = load_preset(NAME)
    other = {
        "shorts": load_preset("NMC811_LYC_PMMA_Li").shorts,
        "counter": load_preset("NCM85_InLi").counter,
    }
    changed = dict(known) | {key: other[key] for key in change}

    with pytest.raises(ValueError, match="against lithium, without shorts"):
        CellPreset.model_validate(changed)


@needs_pybamm
def test_telemetry_is_off_and_the_home_stays_empty(tmp_path: Path) -> None:
    code = (
        f"from cellbench_sim.bench import SimulatedBench; SimulatedBench({NAME!r}, seed=1);"
        "import pybamm; assert pybamm.telemetry._posthog.disabled"
    )
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in {"PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH"}
    }
    home = {key: str(tmp_path) for key in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not list(tmp_path.iterdir())


@needs_pybamm
def test_a_name_that_pybamm_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter Positive electrode thicknes"):
        World(preset(values={"Positive electrode thicknes [m]": 1e-5}), seed=0)
    with pytest.raises(InputError, match="no parameter set 'Chen2019'"):
        World(preset(parameter_set="Chen2019"), seed=0)


@needs_pybamm
@pytest.mark.parametrize("model", ["SPM", "SPMe", "DFN"])
def test_two_steps_are_as_good_as_one(model: str) -> None:
    cells = [half_cell(pressed(preset(model=model))) for _ in range(2)]
    for cell, steps_s in zip(cells, ([3.0, 1.3, 900.7, 95.0], [1000.0]), strict=True):
        cell.demand("current", C_RATE_A_PER_M2 * cell.area_m2)
        for step_s in steps_s:
            cell.advance(0.0, step_s)

    (one_V, _), (two_V, _) = (cell.terminals_after(0.0) for cell in cells)
    assert one_V == pytest.approx(two_V, abs=1e-9)
    assert cells[0].charge_C == pytest.approx(cells[1].charge_C, rel=1e-9)


@needs_pybamm
def test_looking_in_between_changes_nothing() -> None:
    looked, alone = pressed(preset()), pressed(preset())
    for world in (looked, alone):
        world.apply_current(one_c_A(world))
    for time_s in np.linspace(120.0, 1999.0, 400):
        looked.advance_to(float(time_s))
        looked.terminals()
    for world in (looked, alone):
        world.advance_to(2000.0)

    assert looked.terminals() == alone.terminals()
    assert looked.snapshot() == alone.snapshot()


@needs_pybamm
def test_a_new_start_from_the_middle_stays_within_the_solver_s_tolerance() -> None:
    straight, interrupted = pressed(preset()), pressed(preset())
    for world in (straight, interrupted):
        world.apply_current(one_c_A(world))
    for time_s in range(200, 2000, 100):
        interrupted.advance_to(float(time_s))
        interrupted.apply_current(one_c_A(interrupted))
    for world in (straight, interrupted):
        world.advance_to(2000.0)

    assert interrupted.terminals()[0] == pytest.approx(straight.terminals()[0], abs=20e-6)


@needs_pybamm
def test_a_restored_cell_repeats_itself() -> None:
    world = pressed(preset())
    world.apply_current(one_c_A(world))
    world.advance_to(1000.0)
    state = world.snapshot()

    ends = []
    for _ in range(2):
        world.advance_to(1500.0)
        world.apply_voltage(4.1)
        world.advance_to(1600.0)
        ends.append((world.terminals(), world.snapshot()))
        world.restore(state)

    assert ends[0] == ends[1]


@needs_pybamm
def test_a_cut_off_is_found_by_bisecting_what_lies_ahead() -> None:
    cell = half_cell(pressed(preset()))
    cell.demand("current", C_RATE_A_PER_M2 * cell.area_m2)
    low_s, high_s = 0.0, 4000.0
    while high_s - low_s > 1e-6:
        middle_s = 0.5 * (low_s + high_s)
        above = cell.terminals_after(middle_s)[0] >= 4.2
        low_s, high_s = (low_s, middle_s) if above else (middle_s, high_s)
    cell.advance(0.0, high_s)

    assert 2000.0 < high_s < 4000.0
    # The lithium's reduced layer grows with the step that is committed: some uV.
    assert cell.terminals_after(0.0)[0] == pytest.approx(4.2, abs=50e-6)


@needs_pybamm
def test_a_held_voltage_lets_the_current_decay_and_the_charge_adds_up() -> None:
    world = pressed(preset())
    world.apply_current(one_c_A(world))
    world.advance_to(2000.0)
    begun_C = half_cell(world).charge_C
    world.apply_voltage(4.2)
    times_s = 2000.0 + np.concatenate([np.linspace(0.0, 10.0, 1001), np.linspace(12.0, 3e3, 1495)])
    currents_A = []
    for time_s in times_s:
        world.advance_to(float(time_s))
        voltage_V, current_A = world.terminals()
        assert voltage_V == 4.2
        currents_A.append(current_A)

    assert np.all(np.diff(currents_A[2:]) < 0.0)
    passed_C = half_cell(world).charge_C - begun_C
    assert passed_C == pytest.approx(np.trapezoid(currents_A, times_s), rel=1e-3)


@needs_pybamm
def test_stack_pressure_acts_through_the_contact_of_the_lithium() -> None:
    drops, resistances = [], []
    for pressure_Pa in (1e6, 5e6):
        world = pressed(preset(), pressure_Pa)
        world.apply_current(one_c_A(world))
        world.advance_to(130.0)
        drops.append(world.terminals()[0])
        resistances.append(half_cell(world).resistance_Ohm)

    assert resistances[0] > 1.1 * resistances[1]
    expected_V = one_c_A(world) * (resistances[0] - resistances[1])
    assert drops[0] - drops[1] == pytest.approx(expected_V, rel=1e-3)


@needs_pybamm
def test_at_its_end_the_model_stands_and_comes_back() -> None:
    world = pressed(preset())
    world.apply_current(-one_c_A(world))
    world.advance_to(2000.0)
    spent_C = half_cell(world).charge_C
    world.advance_to(3000.0)

    assert world.terminals()[0] < 1.5
    assert half_cell(world).charge_C == spent_C
    world.apply_current(-one_c_A(world))
    world.advance_to(3100.0)
    assert half_cell(world).charge_C == pytest.approx(spent_C)
    world.apply_current(one_c_A(world))
    world.advance_to(3400.0)
    assert 3.5 < world.terminals()[0] < 4.0


@needs_pybamm
@pytest.mark.parametrize("frequency_Hz", [0.003, 0.1, 3.0])
def test_the_spectrum_is_that_of_the_response_in_time(frequency_Hz: float) -> None:
    world = pressed(preset(model="SPM"))
    world.apply_current(one_c_A(world))
    world.advance_to(1800.0)
    world.open_circuit()
    world.advance_to(60_000.0)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    cell, step_s = half_cell(world), 1.0 / (64 * frequency_Hz)
    phases = 2.0 * np.pi * (np.arange(3 * 64) + 0.5) / 64
    voltages = []
    for phase in phases:
        cell.demand("current", 1e-6 * float(np.cos(phase)))
        cell.advance(0.0, 0.5 * step_s)
        voltages.append(cell.terminals_after(0.0)[0])
        cell.advance(0.0, 0.5 * step_s)
    columns = np.stack([np.cos(phases), np.sin(phases), phases**0, phases, phases**2], axis=1)
    shares = np.linalg.lstsq(columns[64:], np.array(voltages[64:]), rcond=None)[0]

    assert abs(complex(shares[0], -shares[1]) / 1e-6 - closed) < 0.01 * abs(closed)


# Two independent implementations of one single-particle model. Chen2020's exchange current, j0 = m
# sqrt(c_e c (c_max - c)), has the form of the reduced model's, so that R_ct at half content says it
# all; between these contents, both models' potentials are Chen2020's as published.
CONTENT, FULL = 0.28, 0.92
RADIUS_M, DIFFUSIVITY_M2_PER_S = 5.22e-6, 4e-15
MOST_MOL_PER_M3, SHARE, THICKNESS_M = 63104.0, 0.665, 20e-6
RATE, ELECTROLYTE_MOL_PER_M3 = 3.42e-6, 1000.0
FARADAY, THERMAL_V = 96485.33212, 8.314462618 * 298.15 / 96485.33212


def twin() -> CellPreset:
    """The cell of the preset with the reduced model's cathode, nothing added, nothing ageing."""
    known = load_preset(NAME)
    exchange_A_per_m2 = RATE * math.sqrt(ELECTROLYTE_MOL_PER_M3) * 0.5 * MOST_MOL_PER_M3
    surface = 3.0 * SHARE / RADIUS_M * THICKNESS_M
    capacity_C_per_m2 = FARADAY * MOST_MOL_PER_M3 * SHARE * THICKNESS_M
    kinetics = ChargeTransferParameters(
        half_resistance_Ohm_m2=THERMAL_V / (surface * exchange_A_per_m2),
        depletion_content=-1.0,
        depletion_width=0.01,
        activation_energy_eV=17800.0 / FARADAY,
        reference_temperature_K=298.15,
        capacitance_F_per_m2=0.2 * surface,
        exponent=1.0,
    )
    working = CathodeElectrode(
        kind="cathode",
        active=ActiveMaterial(
            open_circuit_potential="NMC811",
            specific_capacity_C_per_kg=capacity_C_per_m2,
            initial_content=CONTENT,
            diffusion_time_s=RADIUS_M**2 / DIFFUSIVITY_M2_PER_S,
            diffusion_activation_energy_eV=0.0,
            charge_transfer=kinetics,
            swelling_m_per_C_per_m2=0.0,
        ),
        loading_kg_per_m2=1.0,
        active_fraction=1.0,
        series=SeriesResistance(
            resistance_Ohm_m2=0.0,
            activation_energy_eV=0.0,
            reference_temperature_K=298.15,
            excess_Ohm_m2=0.0,
            excess_pressure_Pa=1e6,
            excess_steepness=1.0,
        ),
        interphase=Interphase(
            rate_m2_per_s=0.0,
            onset_V=4.3,
            width_V=0.1,
            activation_energy_eV=0.0,
            reference_temperature_K=298.15,
            initial_m=1e-9,
            resistivity_Ohm_m=1.0,
            charge_A_s_per_m3=0.0,
            capacitance_F_per_m2=0.1,
            exponent=1.0,
        ),
        contact_loss=ContactLoss(
            per_cycle=0.0,
            high_potential_V=4.2,
            high_width_V=0.1,
            healing_share=0.0,
            healing_potential_V=2.0,
            healing_pressure_Pa=1e9,
        ),
    )
    tight = known.electrolyte.model_copy(update={"electronic_conductivity_S_per_m": 1e-20})
    return known.model_copy(update={"working": working, "electrolyte": tight})


def far_apart_V(course: list[tuple[float, float]], points: int) -> float:
    """The most that the models differ over a course of (current over 1C, seconds), seen at 10 s."""
    theirs = preset(model="SPM", initial_content=CONTENT, points_in_particle=points)
    worlds = pressed(twin()), pressed(theirs)
    worst_V, begun_s = 0.0, 120.0
    for rate, duration_s in course:
        for world in worlds:
            world.apply_current(rate * one_c_A(world))
        for offset_s in np.arange(10.0, duration_s + 1.0, 10.0):
            for world in worlds:
                world.advance_to(begun_s + float(offset_s))
            ours_V, theirs_V = (world.terminals()[0] for world in worlds)
            worst_V = max(worst_V, abs(ours_V - theirs_V))
        begun_s += duration_s
    return worst_V


def discharge_s(rate: float, depth: float) -> float:
    capacity_C_per_m2 = FARADAY * MOST_MOL_PER_M3 * SHARE * THICKNESS_M
    return depth * (FULL - CONTENT) * capacity_C_per_m2 / (rate * C_RATE_A_PER_M2)


@needs_pybamm
@pytest.mark.parametrize(("rate", "depth"), [(0.1, 0.98), (0.5, 0.8), (1.0, 0.8)])
def test_the_reduced_model_discharges_as_pybamm_s_within_0_3_mV(rate: float, depth: float) -> None:
    assert far_apart_V([(-rate, discharge_s(rate, depth))], points=120) < 0.3e-3


@needs_pybamm
def test_the_reduced_model_titrates_as_pybamm_s_within_0_3_mV() -> None:
    pulses = [(-0.5, 600.0), (0.0, 3600.0)] * 6 + [(0.5, 600.0), (0.0, 3600.0)] * 3

    assert far_apart_V(pulses, points=120) < 0.3e-3


@needs_pybamm
def test_what_is_left_between_the_models_is_pybamm_s_mesh() -> None:
    course = [(-1.0, discharge_s(1.0, 0.8))]
    coarse_V, finer_V, finest_V = (far_apart_V(course, points) for points in (30, 60, 120))

    # An error of second order falls to a quarter where the mesh is twice as fine.
    assert 3.0 < coarse_V / finer_V < 5.0
    assert 3.0 < finer_V / finest_V < 5.0
