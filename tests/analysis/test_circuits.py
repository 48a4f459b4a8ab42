"""Elements, their derivatives, and the fit, against closed forms and an independent package."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Fit, Resistor, evaluate, fit
from cellbench.analysis.dataset import FloatArray

FREQUENCY_HZ = np.geomspace(1e6, 0.1, 71)
CIRCUIT: Circuit = (Resistor("bulk"), Arc("arc"), ConstantPhase("spike"))
LOG_OHM = st.floats(0.0, 9.0)
PARAMETERS = st.tuples(
    LOG_OHM,
    LOG_OHM,
    st.floats(-15.0, 0.0),
    st.floats(0.5, 1.0),
    st.floats(-16.0, -8.0),
    st.floats(0.5, 1.0),
).map(np.array)


def disturbed(parameters: FloatArray, relative: float = 0.003, seed: int = 0) -> Fit:
    rng = np.random.default_rng(seed)
    z, _ = evaluate(CIRCUIT, parameters, FREQUENCY_HZ)
    z = z * (1 + relative * (rng.normal(size=71) + 1j * rng.normal(size=71)))
    return fit(CIRCUIT, parameters + OFF, FREQUENCY_HZ, z)


OFF = np.array([0.1, 0.1, 0.3, -0.05, 0.1, -0.03])
TYPICAL = np.log([91.2, 192.7, 192.7 * 20e-9, 1.0, 2e-6, 1.0])
TYPICAL[3], TYPICAL[5] = 0.9, 0.88


@given(PARAMETERS)
def test_derivatives_are_those_of_the_impedance(parameters: FloatArray) -> None:
    _, slopes = evaluate(CIRCUIT, parameters, FREQUENCY_HZ)
    for column, slope in enumerate(slopes.T):
        step = np.zeros(len(parameters))
        step[column] = 1e-6
        above, _ = evaluate(CIRCUIT, parameters + step, FREQUENCY_HZ)
        below, _ = evaluate(CIRCUIT, parameters - step, FREQUENCY_HZ)
        scale = np.abs(above).max() + np.abs(slope).max()
        np.testing.assert_allclose((above - below) / 2e-6, slope, atol=1e-6 * scale)


@given(PARAMETERS)
def test_a_passive_circuit_has_a_positive_real_part(parameters: FloatArray) -> None:
    z, _ = evaluate(CIRCUIT, parameters, FREQUENCY_HZ)
    assert (z.real > 0).all()


def test_an_ideal_arc_is_a_resistor_parallel_to_a_capacitor() -> None:
    z, _ = evaluate((Arc("arc", ideal=True),), np.log([100.0, 1e-4]), FREQUENCY_HZ)
    admittance = 1 / 100.0 + 2j * np.pi * FREQUENCY_HZ * 1e-6
    np.testing.assert_allclose(z, 1 / admittance)


@pytest.fixture
def custom_circuit() -> Any:
    pytest.importorskip("pandas", reason="impedance needs it, and does not declare it")
    from impedance.models.circuits import CustomCircuit

    return CustomCircuit


def test_the_impedance_agrees_with_an_independent_package(custom_circuit: Any) -> None:
    R, tau_s, alpha = 192.7, 192.7 * 20e-9, 0.9
    guess = [91.2, R, tau_s**alpha / R, alpha, 2e-6, 0.88]
    oracle = custom_circuit("R0-p(R1,CPE1)-CPE2", initial_guess=guess)
    z, _ = evaluate(CIRCUIT, TYPICAL, FREQUENCY_HZ)
    with pytest.warns(UserWarning, match="initial parameters"):
        theirs = oracle.predict(FREQUENCY_HZ, use_initial=True)
    np.testing.assert_allclose(z, theirs, rtol=1e-9)


def test_the_fit_and_its_errors_agree_with_an_independent_package(custom_circuit: Any) -> None:
    rng = np.random.default_rng(4)
    z, _ = evaluate(CIRCUIT, TYPICAL, FREQUENCY_HZ)
    z = z * (1 + 0.003 * (rng.normal(size=71) + 1j * rng.normal(size=71)))
    guess = [80.0, 150.0, 1e-7, 0.9, 1e-6, 0.9]
    oracle = custom_circuit("R0-p(R1,CPE1)-CPE2", initial_guess=guess)
    oracle.fit(FREQUENCY_HZ, z, weight_by_modulus=True)
    ours = fit(CIRCUIT, TYPICAL + OFF, FREQUENCY_HZ, z)
    for name, value, error in zip(("bulk", "arc"), oracle.parameters_, oracle.conf_, strict=False):
        assert ours.resistance_ohm(name) == pytest.approx(value, rel=1e-3)
        assert ours.uncertainty_ohm(name) == pytest.approx(error, rel=0.15)


def test_the_stated_error_is_the_scatter_of_repeated_measurements() -> None:
    fits = [disturbed(TYPICAL, seed=seed) for seed in range(100)]
    scatter = np.std([one.resistance_ohm("arc") for one in fits])
    stated = np.mean([one.uncertainty_ohm("arc") for one in fits])
    assert stated == pytest.approx(scatter, rel=0.25)


@settings(max_examples=25)
@given(st.floats(2.0, 7.0), st.floats(2.0, 7.0), st.floats(0.8, 0.98))
def test_a_known_circuit_is_found_within_its_stated_errors(a: float, b: float, c: float) -> None:
    truth = np.array([a, b, -11.0, c, -13.0, 0.9])
    found = disturbed(truth)
    assert found.rms == pytest.approx(0.003, rel=0.3)
    total = np.exp(a) + np.exp(b)
    error = found.uncertainty_ohm("bulk", "arc")
    assert abs(found.resistance_ohm("bulk", "arc") - total) < 5 * error


def test_the_error_of_a_sum_knows_that_its_terms_are_correlated() -> None:
    found = disturbed(TYPICAL)
    apart = np.hypot(found.uncertainty_ohm("bulk"), found.uncertainty_ohm("arc"))
    assert found.uncertainty_ohm("bulk", "arc") < apart


def test_an_exponent_above_one_is_held_at_one() -> None:
    truth = TYPICAL.copy()
    truth[3] = 1.0
    found = disturbed(truth, relative=0.01)
    arc = found.circuit[1]
    assert isinstance(arc, Arc)
    assert arc.ideal or found.exponents()["arc"] <= 1


def test_an_arc_whose_top_is_out_of_the_band_is_not_identified() -> None:
    truth = TYPICAL.copy()
    truth[2] = np.log(1 / (2 * np.pi * 5e6))
    reason = disturbed(truth, 1e-4).why_not_identified("arc")
    assert reason is not None
    assert "above" in reason


def test_what_is_well_seen_is_identified() -> None:
    found = disturbed(TYPICAL)
    assert found.why_not_identified("arc") is None
    assert found.why_not_identified("bulk") is None
