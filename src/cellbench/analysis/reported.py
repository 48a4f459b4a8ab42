"""From SI to the units in which the field reports, with None for what is not there.

Every function takes None (or NaN) and gives None, so that a result holds JSON values only.
"""

from collections.abc import Iterable

import numpy as np

_ZERO_CELSIUS_K = 273.15


def number(value: float | None) -> float | None:
    """A plain finite float of six significant digits; None for None, NaN and infinity."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.6g}")


def plain(value: float, digits: int = 4) -> str:
    """So many significant digits in words for people, without an exponent up to ten millions."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if 10**digits <= abs(rounded) < 1e7 else f"{value:.{digits}g}"


def scaled(value: float | None, factor: float) -> float | None:
    """The value times a factor."""
    return None if value is None else number(value * factor)


def percent(fraction: float | None) -> float | None:
    """A fraction of one in percent."""
    return scaled(fraction, 100.0)


def megapascal(pressure_Pa: float | None) -> float | None:
    """Pascal to MPa."""
    return scaled(pressure_Pa, 1e-6)


def degree_celsius(temperature_K: float | None) -> float | None:
    """Kelvin to degrees Celsius."""
    return None if temperature_K is None else number(temperature_K - _ZERO_CELSIUS_K)


def milliampere_per_cm2(current_density_A_m2: float | None) -> float | None:
    """A/m2 to mA/cm2."""
    return scaled(current_density_A_m2, 0.1)


def milliampere_hour_per_cm2(charge_C_m2: float | None) -> float | None:
    """C/m2 to mAh/cm2."""
    return scaled(charge_C_m2, 1 / 3.6e4)


def ohm_cm2(asr_ohm_m2: float | None) -> float | None:
    """Area-specific resistance from Ohm m2 to Ohm cm2."""
    return scaled(asr_ohm_m2, 1e4)


def median(values: Iterable[float | None]) -> float | None:
    """Median of those that are there."""
    known = [value for value in values if value is not None]
    return number(float(np.median(known))) if known else None


def largest(values: Iterable[float | None]) -> float | None:
    """The largest of those that are there."""
    return number(max((value for value in values if value is not None), default=None))


def smallest(values: Iterable[float | None]) -> float | None:
    """The smallest of those that are there."""
    return number(min((value for value in values if value is not None), default=None))
