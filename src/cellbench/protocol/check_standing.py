"""Checks of standing orders: stack pressure against cell, die, press and gauge; temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    FixtureKind,
    PressCapabilities,
)
from cellbench.protocol.abilities import BenchLike, fixture_force_max_N
from cellbench.protocol.errors import Problem
from cellbench.protocol.program import PressStep, Program, TemperatureStep
from cellbench.quantities import format_quantity

#: Chambers overshoot; a set point closer to a limit than this trips it.
OVERSHOOT_K = 2.0
#: No press moves more slowly in earnest.
_SLOWEST_RAMP_PA_PER_S = 1e3


def check_press(
    step: PressStep, program: Program, bench: BenchLike, able: PressCapabilities
) -> Iterator[Problem]:
    """Check a press step against cell, die, press and gauge."""
    yield from _rate(step, able, program.card.stack_area_m2)
    yield from _heard(step, program, able)
    if step.pressure_Pa is None or step.force_N is None:
        return
    beyond = [
        *_pressure(step, step.pressure_Pa, program, able),
        *_force(step, step.force_N, bench, able),
    ]
    yield from beyond[:1]  # what the cell does not bear, die and press need not bear either
    yield from _confirmed(step, program, bench)


def _heard(step: PressStep, program: Program, able: PressCapabilities) -> Iterator[Problem]:
    """A press that watches its host lets go when it does not hear of it."""
    every_s = program.conditions_every_s
    if able.heartbeat_s is not None and every_s > able.heartbeat_s / 2:
        yield step.source.problem(
            f"{able.model} lets go when it hears nothing for "
            f"{format_quantity(able.heartbeat_s, 'time')}, and is looked at every "
            f"{format_quantity(every_s, 'time')} only",
            'Choose a shorter time under "conditions", or a longer host timeout in the bench file.',
        )


def _rate(step: PressStep, able: PressCapabilities, area_m2: float) -> Iterator[Problem]:
    rate = step.rate_N_per_s
    if rate is not None and rate > able.rate_max_N_per_s * (1 + 1e-9):
        yield _at(
            step,
            "ramp",
            f"a ramp of {rate:.4g} N/s is faster than {able.model} moves, "
            f"{able.rate_max_N_per_s:g} N/s",
            f"On this cell that is at most {_largest_ramp(able.rate_max_N_per_s / area_m2)}.",
        )


def _largest_ramp(rate_Pa_per_s: float) -> str:
    """Write a rate with two digits, rounded down: what is proposed has to be allowed."""
    digits = 1 - math.floor(math.log10(rate_Pa_per_s))
    rounded = math.floor(rate_Pa_per_s * (1 + 1e-9) * 10**digits) / 10**digits
    return format_quantity(rounded, "rate of pressure")


def _force(
    step: PressStep, force_N: float, bench: BenchLike, able: PressCapabilities
) -> Iterator[Problem]:
    shown = f"{_pascals(step.pressure_Pa)} is {format_quantity(force_N, 'force')}"
    fixture_N = fixture_force_max_N(bench.fixture)
    stronger = _other_fixture(bench, "screw", "laboratory press")
    if fixture_N is not None and force_N > fixture_N:
        yield _at(step, "to", f"{shown}; die and fixture bear {_newtons(fixture_N)}", stronger)
    elif force_N > able.force_max_N:
        reach = f"{able.model} reaches {_newtons(able.force_max_N)}"
        yield _at(step, "to", f"{shown}; {reach}", stronger)
    elif bench.gauge and force_N > bench.gauge.capabilities.force_max_N:
        gauge = bench.gauge.capabilities
        end = f"the gauge {gauge.model} ends at {_newtons(gauge.force_max_N)}"
        yield _at(step, "to", f"{shown}; {end}", stronger)
    elif 0 < force_N < able.force_min_N:
        yield _at(
            step,
            "to",
            f"{shown}; {able.model} cannot set less than {_newtons(able.force_min_N)}",
            "A press that makes pellets cannot set a low stack pressure; use a jig or small servo. "
            + _other_fixture(bench, "servo"),
        )


def _other_fixture(bench: BenchLike, *kinds: FixtureKind) -> str:
    """Of the simulated bench's fixtures those of ``kinds`` that come after the present one."""
    if not bench.simulated or bench.fixture is None:
        return ""
    present = [place for place, kind in enumerate(kinds, 1) if kind == bench.fixture.kind]
    others = [f'--fixture "{kind}"' for kind in kinds[max(present, default=0) :]]
    return f"On the simulated bench, try {' or '.join(others)}." if others else ""


def _pressure(
    step: PressStep, pressure_Pa: float, program: Program, able: PressCapabilities
) -> Iterator[Problem]:
    highest, lowest = program.limits.pressure_max_Pa, program.limits.pressure_min_Pa
    if highest is not None and pressure_Pa > highest:
        yield _at(
            step,
            "to",
            f"{_pascals(pressure_Pa)} is beyond the limit of stack pressure, {_pascals(highest)}",
            f"The limit is that of the card of {program.card.cell} or of the protocol, the lower.",
        )
    elif highest is not None and step.rate_Pa_per_s is not None:
        overshoot = step.rate_Pa_per_s * able.reaction.total_s
        if pressure_Pa + overshoot > highest:
            yield _at(
                step,
                "to",
                f"at this ramp the press goes {_pascals(overshoot)} too far before the host can "
                f"stop it, beyond the limit of {_pascals(highest)}",
                _slower((highest - pressure_Pa) / able.reaction.total_s),
            )
    if lowest is not None and 0 < pressure_Pa < lowest:
        yield _at(step, "to", f"{_pascals(pressure_Pa)} is below the limit of {_pascals(lowest)}")


def _slower(rate_Pa_per_s: float) -> str:
    if rate_Pa_per_s < _SLOWEST_RAMP_PA_PER_S:
        return "Keep the set point further below the limit."
    return f"Ramp more slowly: at most {_largest_ramp(rate_Pa_per_s)}."


def _confirmed(step: PressStep, program: Program, bench: BenchLike) -> Iterator[Problem]:
    """A settle gate must be one that the gauge can see."""
    if step.settle is None or bench.gauge is None:
        return
    gauge = bench.gauge.capabilities
    resolution_Pa = program.card.pressure_Pa(gauge.resolution_N)
    if step.settle.within < resolution_Pa:
        yield _at(
            step,
            "settle",
            f"nothing can confirm this pressure: {_pascals(step.settle.within)} is finer than "
            f"the gauge {gauge.model} resolves, {_pascals(resolution_Pa)}",
        )
    if step.settle.for_s < gauge.interval_min_s:
        yield _at(
            step,
            "settle",
            "nothing can confirm this pressure: the gauge reads each "
            f"{format_quantity(gauge.interval_min_s, 'time')}",
        )


def check_temperature(
    step: TemperatureStep, program: Program, able: ChamberCapabilities
) -> Iterator[Problem]:
    """Check a set point against the limits and the chamber."""
    limits, value = program.limits, step.temperature_K
    low, high = limits.temperature_min_K, limits.temperature_max_K
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = " to ".join("any" if each is None else _celsius(each) for each in (low, high))
        yield _at(step, "to", f"{_celsius(value)} is outside the limits, {bounds}")
    elif not able.temperature_min_K <= value <= able.temperature_max_K:
        span = f"{_celsius(able.temperature_min_K)} to {_celsius(able.temperature_max_K)}"
        yield _at(step, "to", f"{_celsius(value)} is beyond {able.model}, {span}")
    else:
        yield from _near_limit(step, low, high)


def _near_limit(step: TemperatureStep, low: float | None, high: float | None) -> Iterator[Problem]:
    for limit in (low, high):
        if limit is not None and abs(step.temperature_K - limit) < OVERSHOOT_K - 1e-6:
            yield _at(
                step,
                "to",
                f"{_celsius(step.temperature_K)} is so close to the limit of {_celsius(limit)} "
                "that the chamber's overshoot would trip it",
                f"Stay {OVERSHOOT_K:g} K away from the limit.",
            )


def _at(step: PressStep | TemperatureStep, key: str, message: str, cure: str = "") -> Problem:
    shown = ", ".join(f"{name} = {text}" for name, text in step.bindings.items())
    place = step.source.child(key) or step.source
    return place.problem(f"with {shown}: {message}" if shown else message, cure)


def _pascals(pressure_Pa: float | None) -> str:
    return format_quantity(pressure_Pa or 0.0, "pressure")


def _newtons(force_N: float) -> str:
    return format_quantity(force_N, "force")


def _celsius(temperature_K: float) -> str:
    return format_quantity(temperature_K, "temperature")
