"""Whatever a person may write, on whatever cell: it lands as the right volts, amperes and newtons.

Through the protocol's own resolution, from its text to the technique that an instrument is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Impedance, Sweep
from cellbench.protocol import Walk, load_protocol
from cellbench.protocol.program import ChannelStep, EisStep, PressStep, Step

Resolve = Callable[..., list[Step]]

#: Counter electrode as a card writes it, and its potential against Li+/Li.
COUNTERS = {
    "{material: Li}": 0.0,
    "{material: In/InLi}": 0.62,
    "{material: LTO, potential: 1.55 V vs Li+/Li}": 1.55,
}
STANDARD_GRAVITY_m_per_s2 = 9.80665
#: Each one loads a protocol; the first of all loads the units too.
examples = settings(max_examples=40)
counters = st.sampled_from(sorted(COUNTERS))
potentials = st.decimals(2.0, 4.5, places=3)
diameters = st.decimals(5, 20, places=1)
densities = st.decimals("0.01", 5, places=2)


@pytest.fixture(scope="module")
def resolve(tmp_path_factory: pytest.TempPathFactory) -> Resolve:
    """Steps of a protocol's text on a card."""
    directory = tmp_path_factory.mktemp("units")

    def load(card: str, steps: str, limits: str = "") -> list[Step]:
        card_file, protocol = directory / "card.yaml", directory / "protocol.yaml"
        card_file.write_text(card, encoding="utf-8")
        protocol.write_text(f"name: x\n{limits}steps:\n{steps}", encoding="utf-8")
        walk = Walk(load_protocol(Path(protocol), Path(card_file)))
        return [each for each in walk if isinstance(each, Step)]

    return load


def full(counter: str, *, electrode_mm: object = 10, pellet_mm: object = 10, more: str = "") -> str:
    return (
        f"cell: F\nlayout: a full cell\nworking: {{active: NMC, loading: 6 mg/cm2, 1C: 180 mA/g, "
        f"diameter: {electrode_mm} mm}}\ncounter: {counter}\n"
        f"electrolyte: {{thickness: 1 mm, diameter: {pellet_mm} mm}}\n"
        "limits: {potential: 1.5 V to 5 V vs Li+/Li, current: 50 mA/cm2}\n" + more
    )


def symmetric(electrode_mm: object = 10, pellet_mm: object = 10) -> str:
    return (
        f"cell: S\nlayout: a symmetric cell\nworking: {{material: Li, diameter: {electrode_mm} mm}}"
        "\ncounter: {material: Li}\n"
        f"electrolyte: {{thickness: 1 mm, diameter: {pellet_mm} mm}}\n"
        "limits: {voltage: -5 V to 5 V, current: 50 mA/cm2}\n"
    )


def disc_m2(diameter_mm: object) -> float:
    return math.pi / 4 * (float(str(diameter_mm)) * 1e-3) ** 2


def techniques(steps: list[Step]) -> list[object]:
    return [each.technique for each in steps if isinstance(each, ChannelStep | EisStep)]


@examples
@given(counter=counters, upper=potentials, lower=potentials)
def test_every_potential_of_a_protocol_lands_at_the_terminals(
    resolve: Resolve, counter: str, upper: object, lower: object
) -> None:
    charge, discharge, hold, sweep, spectrum = techniques(
        resolve(
            full(counter),
            f"  - charge: {{at: C/10, until: potential >= {upper} V vs Li+/Li, at most: 20 h}}\n"
            f"  - discharge: {{at: C/10, until: potential <= {lower} V vs Li+/Li, at most: 20 h}}\n"
            f"  - hold: {{at: {upper} V vs Li+/Li, for: 1 h}}\n"
            f"  - sweep: {{from: {lower} V vs Li+/Li, to: 4.8 V vs Li+/Li, rate: 1 mV/s}}\n"
            f"  - eis: {{from: 1 MHz, to: 1 Hz, bias: {upper} V vs Li+/Li}}\n",
        )
    )
    shift_V = COUNTERS[counter]
    upper_V, lower_V = float(str(upper)) - shift_V, float(str(lower)) - shift_V
    assert isinstance(charge, ConstantCurrent)
    assert isinstance(discharge, ConstantCurrent)
    assert (charge.cut_offs[0].above, discharge.cut_offs[0].above) == (True, False)
    assert charge.cut_offs[0].value == pytest.approx(upper_V, abs=1e-9)
    assert discharge.cut_offs[0].value == pytest.approx(lower_V, abs=1e-9)
    assert isinstance(hold, ConstantVoltage)
    assert hold.voltage_V == pytest.approx(upper_V, abs=1e-9)
    assert isinstance(sweep, Sweep)
    assert sweep.voltages_V == pytest.approx((lower_V, 4.8 - shift_V), abs=1e-9)
    assert isinstance(spectrum, Impedance)
    assert spectrum.bias_V == pytest.approx(upper_V, abs=1e-9)


@examples
@given(counter=counters, upper=potentials)
def test_a_window_against_lithium_bounds_the_terminals(
    tmp_path_factory: pytest.TempPathFactory, counter: str, upper: object
) -> None:
    directory = tmp_path_factory.getbasetemp()
    card, protocol = directory / "card.yaml", directory / "protocol.yaml"
    card.write_text(full(counter), encoding="utf-8")
    protocol.write_text(
        f"name: x\nlimits: {{potential: 1.6 V to {upper} V vs Li+/Li}}\nsteps: [{{rest: 1 s}}]\n",
        encoding="utf-8",
    )
    limits = load_protocol(protocol, card).limits
    window = (limits.electrical.voltage_min_V, limits.electrical.voltage_max_V)
    shift_V = COUNTERS[counter]
    assert window == pytest.approx((1.6 - shift_V, float(str(upper)) - shift_V), abs=1e-9)


@examples
@given(voltage=st.decimals(-4, 4, places=3))
def test_between_two_electrodes_of_lithium_both_references_are_the_same(
    resolve: Resolve, voltage: object
) -> None:
    found = techniques(
        resolve(
            symmetric(),
            f"  - voltage: {{at: {voltage} V vs Li+/Li, for: 1 h}}\n"
            f"  - voltage: {{at: {voltage} V at the terminals, for: 1 h}}\n"
            f"  - voltage: {{at: {voltage} V, for: 1 h}}\n",
        )
    )
    assert [each.voltage_V for each in found if isinstance(each, ConstantVoltage)] == (
        pytest.approx([float(str(voltage))] * 3, abs=1e-9)
    )


@examples
@given(
    counter=counters,
    inverse=st.integers(1, 100),
    electrode_mm=diameters,
    pellet_mm=diameters,
    one_c=st.sampled_from(["C/{}", "{}C"]),
)
def test_a_c_rate_is_that_of_the_active_mass_on_the_electrode(
    resolve: Resolve, counter: str, inverse: int, electrode_mm: object, pellet_mm: object,
    one_c: str,
) -> None:  # fmt: skip
    card = full(counter, electrode_mm=electrode_mm, pellet_mm=pellet_mm)
    number = inverse if one_c.startswith("C/") else (inverse % 9) + 1
    rate = 1 / number if one_c.startswith("C/") else number
    (charge,) = techniques(
        resolve(card, f"  - charge: {{at: {one_c.format(number)}, for: 10 min}}\n")
    )
    one_c_A = 180e-3 * 6e-3 * 1e4 * disc_m2(electrode_mm)
    assert isinstance(charge, ConstantCurrent)
    assert charge.current_A == pytest.approx(rate * one_c_A, rel=1e-9)


@examples
@given(density=densities, electrode_mm=diameters, pellet_mm=diameters)
def test_current_densities_know_the_electrode_and_pressures_the_pellet(
    resolve: Resolve, density: object, electrode_mm: object, pellet_mm: object
) -> None:
    press, current = resolve(
        symmetric(electrode_mm, pellet_mm),
        f"  - press: {{to: {density} MPa}}\n  - current: {{at: {density} mA/cm2, for: 1 min}}\n",
    )
    value = float(str(density))
    assert isinstance(current, ChannelStep)
    assert isinstance(current.technique, ConstantCurrent)
    expected_A = value * 10 * disc_m2(electrode_mm)
    assert current.technique.current_A == pytest.approx(expected_A, rel=1e-9)
    assert isinstance(press, PressStep)
    assert press.force_N == pytest.approx(value * 1e6 * disc_m2(pellet_mm), rel=1e-9)


@examples
@given(number=st.decimals("0.1", 20, places=2), pellet_mm=diameters)
@pytest.mark.parametrize(
    ("unit", "newtons"),
    [("t", 1e3 * STANDARD_GRAVITY_m_per_s2), ("kN", 1e3)],
)
def test_tonnes_are_a_force_whatever_they_press_on(
    resolve: Resolve, unit: str, newtons: float, number: object, pellet_mm: object
) -> None:
    (press,) = resolve(symmetric(10, pellet_mm), f"  - press: {{to: {number} {unit}}}\n")
    assert isinstance(press, PressStep)
    assert press.force_N == pytest.approx(float(str(number)) * newtons, rel=1e-9)


@examples
@given(number=st.decimals("0.1", 500, places=1), pellet_mm=diameters)
@pytest.mark.parametrize(("unit", "pascals"), [("bar", 1e5), ("MPa", 1e6), ("kPa", 1e3)])
def test_bars_are_a_pressure_on_the_pellet(
    resolve: Resolve, unit: str, pascals: float, number: object, pellet_mm: object
) -> None:
    (press,) = resolve(symmetric(10, pellet_mm), f"  - press: {{to: {number} {unit}}}\n")
    assert isinstance(press, PressStep)
    expected_N = float(str(number)) * pascals * disc_m2(pellet_mm)
    assert press.force_N == pytest.approx(expected_N, rel=1e-9)
