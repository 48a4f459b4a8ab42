"""Numbers of MethodSCRIPT: the manual's golden vectors, and what must hold for every number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench_sim.emulators.mscript.values import encode, encode_time, literal

_POWERS = dict(zip("afpnum kMGTPE", range(-18, 19, 3), strict=True))


def decoded(text: str) -> float:
    """Return what a package value means, by the format's definition."""
    offset = int(text[:7], 16) - 2**27
    return float(offset) if text[7] == "i" else offset * 10.0 ** _POWERS[text[7]]


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (-0.499914, "7F85F36u"),
        (4.8, "8493E00u"),
        (1.234e-3, "812D450n"),
        (100e3, "DF5E100m"),
        (1234.5, "812D644m"),
        (-98.765, "21CF738u"),
        (0.0, "8000000 "),
        (7, "8000007i"),
        (-1, "7FFFFFFi"),
    ],
)
def test_values_are_encoded_as_in_the_manual(value: float, golden: str) -> None:
    assert encode(value) == golden


@pytest.mark.parametrize(
    ("seconds", "golden"), [(0.1, "80186A0u"), (2.0, "80007D0m"), (200e3, "8030D40 ")]
)
def test_times_are_encoded_as_a_timer_counts(seconds: float, golden: str) -> None:
    assert encode_time(seconds) == golden


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_is_no_number_or_too_large_reads_nan(value: float) -> None:
    assert encode(value) == "     nan"


@given(st.floats(min_value=1e-9, max_value=1e20), st.sampled_from([1, -1]))
def test_a_value_survives_encoding_to_five_digits(magnitude: float, sign: int) -> None:
    assert decoded(encode(sign * magnitude)) == pytest.approx(sign * magnitude, rel=1e-5)


@given(st.floats(min_value=0, max_value=1e8))
def test_a_time_is_never_off_by_more_than_half_its_unit(seconds: float) -> None:
    resolution_s = 1e-6 if seconds < 1 else 1e-3 if seconds < 134_217 else 1.0
    assert decoded(encode_time(seconds)) == pytest.approx(seconds, abs=0.51 * resolution_s)


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("4800m", 4.8),
        ("10m", 0.01),
        ("200k", 2e5),
        ("-5m", -0.005),
        ("0", 0.0),
        ("1M", 1e6),
        ("61i", 61),
        ("0x10i", 16),
        ("-1i", -1),
    ],
)
def test_literals_are_integers_with_a_prefix(token: str, value: float) -> None:
    number = literal(token)
    assert number == value
    assert type(number) is type(value)


@pytest.mark.parametrize("token", ["1.5", "1e3", "m", "", "5x", "--5", "5 m", "p"])
def test_what_is_no_literal_is_refused(token: str) -> None:
    assert literal(token) is None


@given(st.integers(min_value=-(10**6), max_value=10**6))
def test_a_literal_in_milli_is_the_nearest_double(count: int) -> None:
    assert literal(f"{count}m") == count / 1000
