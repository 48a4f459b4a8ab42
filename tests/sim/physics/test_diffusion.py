"""Diffusion in spheres: modes in time, closed form in frequency, one against the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench_sim.physics.diffusion import Particle

TIME_S = 1000.0


def test_under_a_steady_rate_the_surface_leads_the_mean_by_a_fifteenth() -> None:
    particle = Particle(TIME_S, 0.9)
    particle.relax(10.0 * TIME_S, -1e-5)

    assert particle.mean == pytest.approx(0.8)
    assert particle.surface - particle.mean == pytest.approx(-1e-5 * TIME_S / 15.0, rel=1e-6)


def test_at_short_times_the_surface_moves_with_the_root_of_time() -> None:
    """Semi-infinite diffusion gives (2 R/3 sqrt(pi)) r sqrt(t/D); curvature adds r t / 3."""
    particle = Particle(TIME_S, 0.5)
    for duration_s in (1.0, 2.0, 5.0, 10.0):
        content, seconds = particle.response(duration_s)
        semi_infinite = 2.0 / (3.0 * np.sqrt(np.pi)) * np.sqrt(duration_s * TIME_S)
        assert content == 0.5
        assert seconds == pytest.approx(semi_infinite + duration_s / 3.0, rel=0.01)


@settings(max_examples=50)
@given(cuts=st.lists(st.floats(0.1, 500.0), min_size=1, max_size=6), rate=st.floats(-1e-4, 1e-4))
def test_a_step_in_pieces_leads_where_the_whole_step_leads(cuts: list[float], rate: float) -> None:
    pieces, whole = Particle(TIME_S, 0.5), Particle(TIME_S, 0.5)
    for duration_s in cuts:
        pieces.relax(duration_s, rate)
    whole.relax(sum(cuts), rate)

    assert pieces.surface == pytest.approx(whole.surface, abs=1e-12)
    assert pieces.mean == pytest.approx(whole.mean, abs=1e-12)


@pytest.mark.parametrize("frequency_Hz", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_sinusoid_through_the_modes_gives_the_closed_form(frequency_Hz: float) -> None:
    particle = Particle(TIME_S, 0.5)
    steps, periods = 400, 8
    step_s = 1.0 / (frequency_Hz * steps)
    phases = 2.0 * np.pi * (np.arange(steps * periods) + 0.5) / steps
    surface = np.empty_like(phases)
    for index, phase in enumerate(phases):
        particle.relax(step_s / 2, 1e-6 * float(np.cos(phase)))
        surface[index] = particle.surface
        particle.relax(step_s / 2, 1e-6 * float(np.cos(phase)))
    turning = np.exp(-1j * phases[-steps:])
    driven = (surface[-steps:] @ turning) / (1e-6 * np.cos(phases[-steps:]) @ turning)
    closed = particle.transfer(np.array([2.0 * np.pi * frequency_Hz]))[0]

    assert abs(driven - closed) < 0.007 * abs(closed)


def test_the_closed_form_holds_from_a_capacitor_to_a_warburg_line() -> None:
    particle = Particle(TIME_S, 0.5)
    slow, fast = particle.transfer(np.array([1e-6, 1e6]))

    assert slow.imag == pytest.approx(-1e6, rel=1e-3)
    assert slow.real == pytest.approx(TIME_S / 15.0, rel=1e-3)
    assert np.degrees(np.angle(fast)) == pytest.approx(-45.0, abs=0.1)
