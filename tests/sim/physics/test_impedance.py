"""Spectra: sinusoids in time against the closed form, blocking spikes, arcs within the band.

Under a staircase of voltages the current of a cell comes in bursts, so that what belongs to a step
is the charge that it passed. Where in the step it passed, a staircase cannot tell: a half step of
phase, of first order in the steps per period, which two staircases of different steps take out.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.cathode import Cathode
from cellbench_sim.physics.copper import Copper
from cellbench_sim.presets import load_preset, preset_names
from cellbench_sim.world import World

pytestmark = pytest.mark.long

STEPS_PER_PERIOD = 400
PERIODS = 4
#: Cells of our own model; the sinusoids of PyBaMM's are in test_pybamm_cell.py.
REDUCED = [name for name in preset_names() if load_preset(name).working.kind != "pybamm"]
Drive = Callable[[World, float], None]


def measured(
    world: World, frequency_Hz: float, drive: Drive, bias: float, amplitude: float
) -> complex:
    """Drive a staircase sine; return V/I at its frequency, from the middles of the last steps."""
    start_s, step_s = world.time_s, 1 / (frequency_Hz * STEPS_PER_PERIOD)
    total = STEPS_PER_PERIOD * PERIODS
    voltages, currents = np.empty(total), np.empty(total)
    for step in range(total):
        world.advance_to(start_s + step * step_s)
        phase = 2 * np.pi * (step + 0.5) / STEPS_PER_PERIOD
        drive(world, bias + amplitude * float(np.cos(phase)))
        world.advance_to(start_s + (step + 0.5) * step_s)
        voltages[step], currents[step] = world.terminals()
    return phasor(voltages) / phasor(currents)


def phasor(samples: NDArray[np.float64], steps_per_period: int = STEPS_PER_PERIOD) -> complex:
    """Amplitude at the frequency over the last two periods, a parabolic drift taken out."""
    turns = (np.arange(2 * steps_per_period) + 0.5) / steps_per_period
    phases = 2 * np.pi * turns
    columns = [np.cos(phases), np.sin(phases), turns**0, turns, turns**2]
    shares = np.linalg.lstsq(np.stack(columns, axis=1), samples[-turns.size :], rcond=None)[0]
    return complex(shares[0], -shares[1])


@pytest.mark.parametrize("frequency_Hz", [0.1, 3.0, 1e2, 1e3, 1e4, 1e5])
@pytest.mark.parametrize("name", ["LYC", "LYC_PMMA"])
def test_a_current_sinusoid_meets_the_closed_form_within_a_percent(
    pressed_world: Callable[..., World], name: str, frequency_Hz: float
) -> None:
    world = pressed_world(name)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_current, 0.0, 1e-7)

    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.mark.parametrize("frequency_Hz", [0.1, 1e2, 1e3, 1e5])
def test_a_voltage_sinusoid_meets_the_closed_form_within_a_percent(
    pressed_world: Callable[..., World], frequency_Hz: float
) -> None:
    world = pressed_world("LYC_PMMA")
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_voltage, 0.0, 1e-5)

    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.mark.parametrize("frequency_Hz", [0.2, 2.0, 1e3])
def test_a_spectrum_under_bias_sees_the_slope_at_the_bias(
    pressed_world: Callable[..., World], frequency_Hz: float
) -> None:
    world = pressed_world("LYC_PMMA")
    bias_A = 0.05 * 10 * world.cell.area_m2
    world.apply_current(bias_A)
    world.advance_to(world.time_s + 10.0)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_current, bias_A, 1e-7)

    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.mark.parametrize("frequency_Hz", [1.0, 1e3, 1e5])
def test_a_sinusoid_through_a_blocking_cell_meets_the_closed_form(frequency_Hz: float) -> None:
    world = World(load_preset("LYC_blocking"), seed=0)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_current, 0.0, 1e-7)

    assert abs(driven - closed) < 0.01 * abs(closed)


def test_steel_electrodes_show_the_spike_of_a_constant_phase_element() -> None:
    world = World(load_preset("LYC_blocking"), seed=0)
    frequencies_Hz = np.logspace(1, -1, 21)
    spike = world.impedance(frequencies_Hz)

    slope = np.polyfit(np.log(frequencies_Hz), np.log(np.abs(spike)), 1)[0]
    assert slope == pytest.approx(-0.9, abs=0.02)
    assert np.degrees(np.angle(spike)).max() == pytest.approx(-81, abs=2)


@pytest.mark.parametrize("name", ["LYC", "LYC_PMMA", "Li2ZrCl6", "Li2ZrCl5.5F0.5"])
def test_the_boundary_arc_peaks_below_a_megahertz_and_the_bulk_arc_above_ten(name: str) -> None:
    pellet = World(load_preset(name), seed=0).cell.pellet
    frequencies_Hz = np.logspace(4, 6, 200)
    boundary = -pellet.boundary.impedance(2 * np.pi * frequencies_Hz).imag

    assert frequencies_Hz[0] < frequencies_Hz[boundary.argmax()] < 5e5
    intercept = pellet.impedance(2 * np.pi * np.array([1e7]))[0]
    assert intercept.real == pytest.approx(pellet.bulk_Ohm, rel=0.15)


def test_a_spectrum_at_open_circuit_does_not_see_the_added_resistance(
    pressed_world: Callable[..., World], frequencies_Hz: NDArray[np.float64]
) -> None:
    world = pressed_world("LYC_PMMA")
    spectrum_Ohm = float(world.impedance(frequencies_Hz)[-1].real)
    current_A = 1e-3 * world.cell.area_m2 * 1e4
    world.apply_current(current_A)
    world.advance_to(world.time_s + 60.0)

    added_Ohm = world.terminals()[0] / current_A - spectrum_Ohm
    assert added_Ohm * world.cell.area_m2 * 1e4 == pytest.approx(219, rel=0.02)


@pytest.mark.parametrize("frequency_Hz", [1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e4])
@pytest.mark.parametrize("name", ["NCM85_InLi", "NMC811_LYC_PMMA_Li", "LCO_InLi_27"])
def test_a_sinusoid_through_a_full_cell_meets_the_closed_form_within_a_percent(
    half_charged_world: Callable[[str], World], name: str, frequency_Hz: float
) -> None:
    world = half_charged_world(name)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_current, 0.0, 2e-5)

    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.mark.parametrize("frequency_Hz", [0.01, 0.1, 1.0])
def test_a_sinusoid_upon_a_hold_meets_the_closed_form_at_its_bias(frequency_Hz: float) -> None:
    """Near the end of a 4.8 V hold, where kinetics hang on the content of the surface."""
    world = World(load_preset("NCM85_InLi"), seed=0)
    world.apply_current(1e-3)
    while world.terminals()[0] < 4.18:
        world.advance_to(world.time_s + 10.0)
    world.apply_voltage(4.18)
    world.advance_to(world.time_s + 10 * 3600.0)
    closed = world.impedance(np.array([frequency_Hz]))[0]
    held_A = world.terminals()[1]
    driven = measured(world, frequency_Hz, World.apply_current, held_A, 1e-9)

    assert abs(closed) > 1e4 or frequency_Hz > 0.05
    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.mark.parametrize("frequency_Hz", [0.01, 1.0, 1e2])
@pytest.mark.parametrize("name", ["LYC_carbon_Li", "Cu_LYC_PMMA_Li"])
def test_a_sinusoid_through_a_half_cell_meets_the_closed_form(
    name: str, frequency_Hz: float
) -> None:
    world = World(load_preset(name), seed=0)
    world.apply_current(-1e-6)
    world.advance_to(600.0)
    world.open_circuit()
    world.advance_to(1200.0)
    closed = world.impedance(np.array([frequency_Hz]))[0]

    driven = measured(world, frequency_Hz, World.apply_current, 0.0, 1e-8)

    assert abs(driven - closed) < 0.01 * abs(closed)


@pytest.fixture(scope="module")
def settled_world() -> Callable[[str], World]:
    """A world under 5 MPa at rest: a cathode partly charged, copper with some lithium on it."""
    kept: dict[str, tuple[World, dict[str, object]]] = {}

    def build(name: str) -> World:
        if name not in kept:
            world = settled(name)
            kept[name] = world, world.snapshot()
        world, state = kept[name]
        world.restore(state)
        return world

    return build


def settled(name: str) -> World:
    world = World(load_preset(name), seed=0)
    world.press.ramp_to(5e6 * world.cell.area_m2, 40.0)
    world.advance_to(120.0)
    working = world.cell.working
    if isinstance(working, Cathode):
        # What the first charge loses flows one way only; a sinusoid wants that behind it.
        working.lost_C = working.capacity_C
        world.apply_current(0.4 * working.capacity_C / 3600.0)
        world.advance_to(3720.0)
    elif isinstance(working, Copper):
        world.apply_current(-1e-4)
        world.advance_to(720.0)
    world.open_circuit()
    world.advance_to(10_000.0)
    return world


class Staircase:
    """Sines of one frequency on one world; every one starts from the same state."""

    def __init__(self, world: World, frequency_Hz: float, drive: Drive, bias: float) -> None:
        self._world, self._frequency_Hz = world, frequency_Hz
        self._drive, self._bias = drive, bias
        self._start = world.snapshot()

    def impedance(self, amplitude: float) -> complex:
        """Return V/I as for steps without end."""
        coarse, fine = (self._measured(amplitude, steps) for steps in (80, 160))
        return (4.0 * fine - coarse) / 3.0

    def _measured(self, amplitude: float, steps_per_period: int) -> complex:
        world = self._world
        world.restore(self._start)
        step_s = 1 / (self._frequency_Hz * steps_per_period)
        rows = []
        for step in range(3 * steps_per_period):
            phase = 2 * np.pi * (step + 0.5) / steps_per_period
            rows.append(self._step(self._bias + amplitude * float(np.cos(phase)), step_s))
        voltages, currents = np.array(rows).T
        return phasor(voltages, steps_per_period) / phasor(currents, steps_per_period)

    def _step(self, level: float, step_s: float) -> tuple[float, float]:
        """Hold one level; return the voltage in the middle and the mean current (V, A)."""
        world = self._world
        self._drive(world, level)
        start_s, start_C = world.time_s, world.cell.passed_C
        world.advance_to(start_s + 0.5 * step_s)
        voltage_V = world.terminals()[0]
        world.advance_to(start_s + step_s)
        # A command settles the world up to now.
        self._drive(world, level)
        return voltage_V, (world.cell.passed_C - start_C) / step_s


@pytest.mark.parametrize("frequency_Hz", [0.02, 2.0, 1e3])
@pytest.mark.parametrize("drive", [World.apply_current, World.apply_voltage])
@pytest.mark.parametrize("name", REDUCED)
def test_a_sinusoid_of_either_kind_meets_the_closed_form_in_every_cell(
    settled_world: Callable[[str], World], name: str, drive: Drive, frequency_Hz: float
) -> None:
    world = settled_world(name)
    before = world.impedance(np.array([frequency_Hz]))[0]
    bias, amplitude = 0.0, 1e-4 / abs(before)
    if drive is World.apply_voltage:
        bias, amplitude = world.terminals()[0], 1e-4

    driven = Staircase(world, frequency_Hz, drive, bias).impedance(amplitude)

    # A cell that leaks is another one at the end.
    closed = 0.5 * (before + world.impedance(np.array([frequency_Hz]))[0])
    assert abs(driven - closed) < 0.01 * abs(closed)
