"""Numbers with units: what is understood, what is refused and why."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellbench.quantities import (
    DIMENSIONS,
    LITHIUM,
    TERMINALS,
    QuantityError,
    format_quantity,
    parse,
    parse_bounds,
    parse_interval,
    parse_list,
    parse_quantities,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("0.5 mA/cm2", "current density", 5.0),
        ("0.5 mA / cm^2", "current density", 5.0),
        ("0.5 mA cm-2", "current density", 5.0),
        ("C/5", "C-rate", 0.2),
        ("1C", "C-rate", 1.0),
        ("0.2C", "C-rate", 0.2),
        ("-C/10", "C-rate", -0.1),
        ("3 t", "force", 29419.95),
        ("25 kN", "force", 25e3),
        ("30 min", "time", 1800.0),
        ("20min", "time", 1200.0),
        ("2 minutes", "time", 120.0),
        ("1.5 h", "time", 5400.0),
        ("0.354 mm", "length", 3.54e-4),
        ("5 MPa", "pressure", 5e6),
        ("2 bar", "pressure", 2e5),
        ("0.5 MPa/s", "rate of pressure", 5e5),
        ("6.22 mg/cm2", "loading", 0.0622),
        ("180 mA/g", "specific current", 180.0),
        ("1 mAh/cm2", "areal capacity", 36000.0),
        ("2 mA h", "charge", 7.2),
        ("5 coulomb", "charge", 5.0),
        ("100 mHz", "frequency", 0.1),
        ("7 MHz", "frequency", 7e6),
        ("25 degC", "temperature", 298.15),
        ("-10 °C", "temperature", 263.15),
        ("300 K", "temperature", 300.0),
        ("0.5 degC", "temperature difference", 0.5),
        ("1 K/min", "rate of temperature", 1 / 60),
        ("5 %", "fraction", 0.05),
        ("0 V", "voltage", 0.0),
        ("-0.1 V", "voltage", -0.1),
        ("1 µA", "current", 1e-6),
        ("1 uA", "current", 1e-6),
        ("50 Ohm cm2", "area resistance", 5e-3),
        ("0.35 mS/cm", "conductivity", 0.035),
        ("1e3 s", "time", 1000.0),
    ],
)
def test_quantities_become_si_units(text: str, dimension: str, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension", "words"),
    [
        ("0.5 mA/cm", "current density", 'what is needed is a current density like "0.5 mA/cm2"'),
        ("5 MPA", "pressure", 'did you mean "MPa"'),
        ("5 C", "charge", '"5C" or "5 coulomb"'),
        ("10 minits", "time", 'did you mean "min"'),
        ("10", "time", "has no unit"),
        ("0,5 mA", "current", 'write "0.5" or "0, 5"'),
        ("nan V", "voltage", "not a number"),
        ("inf V", "voltage", "not a number"),
        ("1e400 V", "voltage", "beyond all bounds"),
        ("1 V/", "voltage", "makes no sense"),
        ("1 V V", "voltage", "dimension"),
        ("1 V 2", "voltage", "makes no sense"),
        ("C/0", "C-rate", "zero"),
        ("4.8 V vs SHE", "voltage", "vs Li\\+/Li"),
        ("4.8 A vs Li+/Li", "current", "only a potential"),
        ("", "time", "not a number"),
        ("1 Vs", "voltage", "not a unit"),
    ],
)
def test_what_is_not_a_quantity_is_refused_with_the_cure(
    text: str, dimension: str, words: str
) -> None:
    with pytest.raises(QuantityError, match=words):
        parse(text, dimension)


def test_a_potential_keeps_its_reference() -> None:
    assert parse_quantity("4.8 V vs Li+/Li").reference == LITHIUM
    assert parse_quantity("4.8 V vs. Li/Li+").reference == LITHIUM
    assert parse_quantity("4.18 V at the terminals").reference == TERMINALS
    assert parse_quantity("4.18 V").reference == ""


def test_the_last_unit_of_a_list_holds_for_all() -> None:
    assert parse_list("0.02, 0.05, 0.1 mA/cm2", "current density") == pytest.approx((0.2, 0.5, 1))
    assert parse_list("100 uA, 0.2, 1 mA", "current") == pytest.approx((1e-4, 2e-4, 1e-3))
    assert parse_list("10, 25 degC", "temperature") == pytest.approx((283.15, 298.15))


def test_a_range_has_both_its_ends() -> None:
    values = parse_list("0.1 to 0.7 by 0.1 mA/cm2", "current density")
    assert values == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    assert parse_list("10 to 60 by 25 degC", "temperature") == pytest.approx(
        (283.15, 308.15, 333.15)
    )
    assert parse_list("3 to 1 by 1 V", "voltage") == (3.0, 2.0, 1.0)


def test_values_of_a_range_read_like_written_numbers() -> None:
    shown = [str(each) for each in parse_quantities("0.1 to 0.7 by 0.1 mA/cm2")]
    assert shown == [f"0.{n} mA/cm2" for n in range(1, 8)]


@pytest.mark.parametrize(
    "text", ["1 to 2 V", "0 to 1 by 0 V", "0 to 1 by 1e-9 V", "1 V to 2 A by 1 V"]
)
def test_a_range_without_a_sound_step_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantities(text)


def test_intervals_are_open_where_nothing_is_said() -> None:
    assert parse_interval("at most 12 MPa", "pressure").low is None
    assert parse_interval("at least 2 MPa", "pressure").high is None
    both = parse_interval("-2 V to 2 V", "voltage")
    assert (both.low, both.high) == (-2.0, 2.0)
    low, high = parse_bounds("2.5 to 4.9 V vs Li+/Li")
    assert low is not None
    assert high is not None
    assert low.reference == high.reference == LITHIUM
    with pytest.raises(QuantityError, match="below its start"):
        parse_interval("2 V to 1 V", "voltage")


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (5.0, "current density", "0.5 mA/cm2"),
        (3.927e-4, "current", "392.7 uA"),
        (5e6, "pressure", "5 MPa"),
        (1200.0, "time", "20 min"),
        (102.2, "time", "102.2 s"),
        (7200.0, "time", "2 h"),
        (298.15, "temperature", "25 °C"),
        (0.2, "C-rate", "0.2C"),
        (0.1, "frequency", "100 mHz"),
        (0.0, "voltage", "0 V"),
        (0.05, "fraction", "5 %"),
    ],
)
def test_values_are_written_in_engineering_units(value: float, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text


@given(st.floats(1e-6, 1e6), st.sampled_from(sorted(DIMENSIONS)))
def test_what_is_written_can_be_read_again(value: float, dimension: str) -> None:
    if dimension == "number":
        return
    text = format_quantity(value, dimension)
    assert parse(text, dimension) == pytest.approx(value, rel=1e-3, abs=0.06)


@given(st.text(max_size=60) | st.from_regex(r"[-+]?[0-9.,eE]{1,8} ?[A-Za-z/^*%0-9 -]{0,20}"))
@example("1 degC2/°C")
@example("1 s^9 s^9 s^9")
def test_no_text_raises_anything_but_a_quantity_error(text: str) -> None:
    for reader in (parse_quantity, parse_quantities, parse_bounds):
        try:
            reader(text)
        except QuantityError:
            continue


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100))
def test_a_number_survives_its_unit(value: float) -> None:
    assert math.isclose(parse(f"{value!r} V", "voltage"), value, rel_tol=1e-12)


def test_importing_quantities_does_not_import_pint() -> None:
    code = "import sys, cellbench.quantities; raise SystemExit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("raised", "plain"),
    [
        ("0.5 mA/cm²", "0.5 mA/cm2"),
        ("0.5 mA cm⁻²", "0.5 mA/cm2"),
        ("2 mm³", "2 mm^3"),
        ("5 µA", "5 uA"),
        ("5 μA", "5 uA"),
        ("2 mA·h", "2 mAh"),
        ("50 Ω·cm²", "50 Ohm cm2"),
        ("3 days", "3 d"),
    ],
)
def test_raised_exponents_micro_and_dots_are_units_too(raised: str, plain: str) -> None:
    a, b = parse_quantity(raised), parse_quantity(plain)
    assert a.exponents == b.exponents
    assert a.value == pytest.approx(b.value)


@pytest.mark.parametrize("word", ["years", "yr", "month", "weeks"])
def test_a_time_that_has_no_fixed_length_is_no_unit(word: str) -> None:
    with pytest.raises(QuantityError, match="use s, min, h or d"):
        parse_quantity(f"2 {word}")


def test_a_step_of_zero_never_arrives() -> None:
    with pytest.raises(QuantityError, match="step of zero"):
        parse_list("1 to 2 by 0 V", "voltage")


@pytest.mark.parametrize("text", ["25 C", "10 C to 25 degC", "25C"])
def test_c_is_no_temperature(text: str) -> None:
    with pytest.raises(QuantityError, match="degC"):
        parse_interval(text, "temperature")
