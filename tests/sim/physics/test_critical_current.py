"""The critical-current ramps of the studies, verdict by verdict, for ten cells of each preset.

These presets are parameterised from the verdicts, so the tests guard the model and its margins:
what is stable is clearly stable, what is irregular clearly irregular, and a short persists and
shows in a spectrum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.world import World

pytestmark = pytest.mark.long

STUDY_B = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
REVIEW = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
HALF_CYCLE_S = 1200
SHORT_LASTS_S = 60


@dataclass(frozen=True)
class HalfCycle:
    """Apparent area resistance (Ohm cm2), second by second."""

    resistance: NDArray[np.float64]

    @property
    def middle(self) -> float:
        return float(np.median(self.resistance))

    @property
    def unrest(self) -> float:
        """Detrended rms over the median."""
        seconds = np.arange(len(self.resistance))
        trend = np.polyval(np.polyfit(seconds, self.resistance, 1), seconds)
        return float((self.resistance - trend).std() / self.middle)

    @property
    def largest_step(self) -> float:
        return float(np.abs(np.diff(self.resistance)).max() / self.middle)

    @property
    def end_ratio(self) -> float:
        return float(self.resistance[-1] / self.resistance[len(self.resistance) // 10])


@dataclass(frozen=True)
class Step:
    """Two half-cycles at a current density (mA/cm2) and the spectrum after them."""

    density: float
    halves: tuple[HalfCycle, HalfCycle]
    spectrum: NDArray[np.complex128]

    def irregular(self) -> bool:
        return all(half.unrest > 0.05 and half.largest_step > 0.15 for half in self.halves)

    def stable(self) -> bool:
        quiet = all(half.unrest < 0.005 and half.largest_step < 0.03 for half in self.halves)
        flat = all(0.95 < half.end_ratio < 1.05 for half in self.halves)
        plus, minus = (half.middle for half in self.halves)
        return quiet and flat and abs(plus - minus) < 0.05 * plus

    def ever_short(self, limit: float) -> bool:
        return any((half.resistance < limit).any() for half in self.halves)

    def short(self, limit: float) -> bool:
        first, second = self.halves
        return bool(
            (first.resistance[-SHORT_LASTS_S:] < limit).all() and (second.resistance < limit).all()
        )


def half_cycle(world: World, density: float) -> HalfCycle:
    current_A = density * 10 * world.cell.area_m2
    world.apply_current(current_A)
    start_s = world.time_s
    resistance = np.empty(HALF_CYCLE_S)
    for second in range(HALF_CYCLE_S):
        world.advance_to(start_s + second + 1)
        resistance[second] = world.terminals()[0] / density * 1e3
    return HalfCycle(resistance)


def ramp(
    world: World, densities: Sequence[float], frequencies_Hz: NDArray[np.float64]
) -> list[Step]:
    """Ramp until a short shows in the spectrum."""
    before = world.impedance(frequencies_Hz)
    steps: list[Step] = []
    for density in densities:
        halves = half_cycle(world, density), half_cycle(world, -density)
        world.open_circuit()
        world.advance_to(world.time_s + 60)
        steps.append(Step(density, halves, world.impedance(frequencies_Hz)))
        if steps[-1].spectrum[-1].real < 0.5 * before[-1].real:
            break
    return steps


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("name", "densities", "irregular", "short"),
    [
        ("LYC_PMMA", STUDY_B, 2.0, 3.0),
        ("LYC", STUDY_B, 0.6, 0.8),
        ("Li2ZrCl6", REVIEW, 0.6, 0.7),
        ("Li2ZrCl5.5F0.5", REVIEW, None, None),
    ],
)
def test_a_ramp_ends_as_the_study_saw_it(
    pressed_world: Callable[..., World],
    frequencies_Hz: NDArray[np.float64],
    name: str,
    densities: Sequence[float],
    irregular: float | None,
    short: float | None,
    seed: int,
) -> None:
    world = pressed_world(name, seed=seed)
    before = world.impedance(frequencies_Hz)
    limit = 0.5 * before.real.min() * world.cell.area_m2 * 1e4
    steps = ramp(world, densities, frequencies_Hz)

    stable = [step.density for step in steps if step.stable()]
    assert stable == [density for density in densities if density < (irregular or np.inf)]
    assert [step.density for step in steps if step.irregular()] == (
        [irregular] if irregular else []
    )
    assert [step.density for step in steps if step.ever_short(limit)] == ([short] if short else [])
    if short:
        assert steps[-1].short(limit)
        assert -steps[-1].spectrum.imag.min() < 0.05 * -before.imag.min()


def test_plating_past_the_critical_areal_capacity_shorts_below_the_critical_current(
    pressed_world: Callable[..., World],
) -> None:
    world = pressed_world("LYC_PMMA")
    world.cell.counter.advance(3600.0 * 24.9, -10.0)
    world.apply_current(10 * world.cell.area_m2)
    world.advance_to(world.time_s + 3600.0 * 8)

    assert world.cell.shunt is not None
    assert world.cell.shunt.collapse.begun


def test_warm_lithium_bears_twice_the_current_at_60_degrees(
    pressed_world: Callable[..., World],
) -> None:
    world = pressed_world("LYC")
    assert world.cell.shunt is not None
    cool = world.cell.shunt.dendrites.critical_A_per_m2
    world.chamber.set_point_K = 333.15
    world.advance_to(world.time_s + 7200.0)

    assert world.cell.shunt.dendrites.critical_A_per_m2 / cool == pytest.approx(2.0, abs=0.1)
