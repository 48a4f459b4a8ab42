"""The limits on single readings: what is past them, and what cannot be read."""

from __future__ import annotations

import math

import pytest

from cellbench.engine.limits import BLIND_ROWS, LimitWatch
from cellbench.engine.trips import SafeState, Trip
from cellbench.instruments.readings import Flag
from cellbench.protocol.program import Limits

LIMITS = Limits(
    voltage_min_V=-1.0, voltage_max_V=4.3, current_max_A=1e-3, pressure_min_Pa=2e6,
    pressure_max_Pa=8e6, temperature_min_K=283.0, temperature_max_K=333.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("voltage_V", "current_A", "what"),
    [
        (4.31, 0.0, "voltage"),
        (-1.01, 0.0, "voltage"),
        (4.0, 1.03e-3, "current"),
        (4.0, -1.03e-3, "current"),
        (math.nan, 2e-3, "current"),
        (5.0, math.nan, "voltage"),
    ],
)
def test_one_reading_past_a_limit_is_enough_though_the_other_is_blind(
    voltage_V: float, current_A: float, what: str
) -> None:
    with pytest.raises(Trip, match=what):
        LimitWatch(LIMITS).electrical(voltage_V, current_A)


def test_a_set_point_at_its_limit_is_within_the_instruments_accuracy() -> None:
    LimitWatch(LIMITS).electrical(4.302, 1.01e-3)


@pytest.mark.parametrize(
    ("voltage_V", "current_A", "flags"), [(math.nan, 0.0, 0), (4.0, 1e-4, Flag.SATURATED)]
)
def test_a_channel_that_stays_blind_is_not_within_its_limits(
    voltage_V: float, current_A: float, flags: int
) -> None:
    watch = LimitWatch(LIMITS)
    for _ in range(BLIND_ROWS - 1):
        watch.electrical(voltage_V, current_A, flags)
    with pytest.raises(Trip, match="out of the instrument's range"):
        watch.electrical(voltage_V, current_A, flags)


def test_a_sound_reading_in_between_is_a_glitch_forgiven() -> None:
    watch = LimitWatch(LIMITS)
    for _ in range(10):
        watch.electrical(math.nan, 0.0)
        watch.electrical(4.0, 0.0)


@pytest.mark.parametrize(
    ("pressure_Pa", "flags"), [(8.1e6, 0), (math.nan, 0), (7e6, Flag.SATURATED)]
)
def test_too_much_or_unreadable_pressure_calls_for_release(pressure_Pa: float, flags: int) -> None:
    with pytest.raises(Trip) as tripped:
        LimitWatch(LIMITS).pressure(pressure_Pa, flags)
    assert tripped.value.target is SafeState.RELEASED


def test_too_little_pressure_counts_once_the_stack_is_pressed() -> None:
    watch = LimitWatch(LIMITS)
    watch.pressure(1e6)
    watch.pressed = True
    with pytest.raises(Trip, match="leaking"):
        watch.pressure(1e6)


@pytest.mark.parametrize("temperature_K", [334.0, 282.0, math.nan])
def test_a_temperature_outside_its_limits_trips(temperature_K: float) -> None:
    with pytest.raises(Trip, match="temperature"):
        LimitWatch(LIMITS).temperature(temperature_K)
