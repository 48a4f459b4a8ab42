"""MethodSCRIPT literals and packages: golden vectors of the manual, and round trips."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench.instruments.readings import Flag
from cellbench_drivers.methodscript import CURRENT, TIME, VOLTAGE, decode_package, error_meaning
from cellbench_drivers.methodscript import literal as written

_PREFIXES = {"a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9}


def _value(text: str) -> float:
    exponent = _PREFIXES.get(text[-1], 0)
    return float(f"{text.rstrip('afpnumkMG')}e{exponent}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.8, "4800m"),
        (0.01, "10m"),
        (200e3, "200k"),
        (-0.005, "-5m"),
        (0.0, "0"),
        (-0.0, "0"),
        (1e-30, "0"),
        (1e6, "1M"),
        (1.2345678e-3, "1234570n"),
        (86400.0, "86400"),
        (-2.0, "-2"),
    ],
)
def test_numbers_are_written_as_integers_with_a_prefix(value: float, text: str) -> None:
    assert written(value) == text


@given(st.floats(1e-12, 1e9), st.sampled_from([1.0, -1.0]))
def test_every_number_survives_to_six_digits(size: float, sign: float) -> None:
    text = written(sign * size)
    assert _value(text) == pytest.approx(sign * size, rel=5.1e-6)
    assert abs(int(text.rstrip("afpnumkMG"))) < 1 << 27


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e27])
def test_numbers_beyond_the_language_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        written(value)


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("da7F85F36u", -0.499914),
        ("ab8493E00u", 4.8),
        ("ba812D450n", 1.234e-3),
        ("dcDF5E100m", 100e3),
        ("cc812D644m", 1234.5),
        ("cd21CF738u", -98.765),
        ("eb80186A0u", 0.1),
        ("eb80007D0m", 2.0),
        ("ee800000Ci", 12.0),
        ("ab8000003 ", 3.0),
    ],
)
def test_the_golden_vectors_of_the_manual_are_read(item: str, value: float) -> None:
    values, flags = decode_package(f"P{item}", (frozenset({item[:2]}),))
    assert values == [pytest.approx(value, rel=1e-12)]
    assert flags == 0


def test_a_whole_package_gives_values_in_order() -> None:
    values, flags = decode_package("Pda7F85F36u;ba812D450n,10,212", (VOLTAGE, CURRENT))
    assert values == pytest.approx([-0.499914, 1.234e-3])
    assert flags == 0


@pytest.mark.parametrize(
    ("metadata", "flags"),
    [
        (",10,212", 0),
        (",11", Flag.LATE),
        (",12,212", Flag.SATURATED),
        (",212,14", Flag.UNDERRANGE),
        (",17", Flag.LATE | Flag.SATURATED | Flag.UNDERRANGE),
        (",18", 0),
        (",43", 0),
    ],
)
def test_the_status_of_a_reading_becomes_flags(metadata: str, flags: int) -> None:
    assert decode_package(f"Pba812D450n{metadata}", (CURRENT,))[1] == flags


def test_a_reading_without_a_value_is_nan_and_saturated() -> None:
    values, flags = decode_package("Pab     nan,12;eb80007D0m", (VOLTAGE, TIME))
    assert math.isnan(values[0])
    assert values[1] == 2.0
    assert flags == Flag.SATURATED


@pytest.mark.parametrize(
    "line",
    [
        "P",
        "Pab84",
        "Pab8493E00u",
        "Pab8493E00u;ba812D450",
        "Pab8493E00u;eb80007D0m",
        "Pab8493E0?u;ba",
    ],
)
def test_a_garbled_package_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="garbled"):
        decode_package(line, (VOLTAGE, CURRENT))


@pytest.mark.long
@given(st.text(max_size=60))
def test_no_line_makes_the_parser_fail_otherwise(line: str) -> None:
    try:
        values, flags = decode_package(f"P{line}", (VOLTAGE, CURRENT))
    except ValueError:
        return
    assert len(values) == 2
    assert flags >= 0


@given(st.integers(-(1 << 27), (1 << 27) - 1), st.sampled_from("afpnum kMGTPEi"))
def test_what_the_instrument_can_say_is_read_to_the_last_digit(number: int, prefix: str) -> None:
    exponents = {**_PREFIXES, " ": 0, "i": 0, "T": 12, "P": 15, "E": 18}
    values, _ = decode_package(f"Pab{number + (1 << 27):07X}{prefix}", (VOLTAGE,))
    assert values[0] == pytest.approx(float(f"{number}e{exponents[prefix]}"), rel=1e-14)


def test_error_codes_have_a_meaning() -> None:
    assert "overload" in error_meaning("0032")
    assert "does not explain" in error_meaning("0FFF")
