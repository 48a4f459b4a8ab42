"""The ladder of an arc against the closed form, in frequency and in time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.relaxation import relaxation_times


@pytest.mark.parametrize("alpha", [0.8, 0.85, 0.9, 0.95])
def test_the_ladder_of_an_arc_is_the_closed_form_within_a_fifth_of_a_percent(alpha: float) -> None:
    arc = Arc(relaxation_times(alpha))
    arc.resistance_Ohm, arc.time_constant_s = 40.0, 1e-3
    omega = np.logspace(0, 6, 200)

    exact = 40.0 / (1 + (1j * omega * 1e-3) ** alpha)

    assert np.abs(arc.impedance(omega) - exact).max() < 0.002 * 40.0


def test_an_exponent_of_one_is_a_single_pair() -> None:
    times = relaxation_times(1.0)

    assert times.ratios == (1.0,)
    assert times.shares == (1.0,)


@given(alpha=st.floats(0.7, 0.98))
def test_the_shares_of_a_ladder_sum_to_one_from_slow_to_fast(alpha: float) -> None:
    times = relaxation_times(alpha)

    assert sum(times.shares) == pytest.approx(1.0)
    assert min(times.shares) > 0
    assert list(times.ratios) == sorted(times.ratios, reverse=True)


def test_a_constant_current_charges_a_single_pair_exponentially() -> None:
    arc = Arc(relaxation_times(1.0))
    arc.resistance_Ohm, arc.time_constant_s = 10.0, 2.0
    arc.disturb()

    voltage_V, resistance_Ohm = arc.response(3.0)

    assert voltage_V + resistance_Ohm * 0.1 == pytest.approx(1.0 * (1 - math.exp(-1.5)))


@given(pieces=st.lists(st.floats(1e-6, 5.0), min_size=1, max_size=8))
def test_many_steps_under_a_steady_current_equal_one(pieces: list[float]) -> None:
    whole, parts = (Arc(relaxation_times(0.9)) for _ in range(2))
    for arc in (whole, parts):
        arc.resistance_Ohm, arc.time_constant_s = 10.0, 0.1
        arc.disturb()
    for piece in pieces:
        parts.relax(piece, 1e-3)
    whole.relax(sum(pieces), 1e-3)

    offset_V, resistance_Ohm = whole.response(0.0)

    assert parts.response(0.0)[0] + parts.response(0.0)[1] * 1e-3 == pytest.approx(
        offset_V + resistance_Ohm * 1e-3, rel=2e-6
    )


def test_a_settled_arc_is_a_resistance_until_it_is_disturbed() -> None:
    arc = Arc(relaxation_times(0.9))
    arc.resistance_Ohm, arc.time_constant_s = 10.0, 1e-3
    arc.disturb()
    arc.relax(1000.0, 0.5)

    assert arc.response(1.0) == (0.0, 10.0)
    arc.disturb()
    voltage_V, resistance_Ohm = arc.response(0.0)
    assert voltage_V == pytest.approx(5.0)
    assert resistance_Ohm == pytest.approx(0.0, abs=1e-12)
