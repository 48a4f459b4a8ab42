"""Conditions: read, resolved through the card, split between device and host, tested on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from cellbench.errors import InputError
from cellbench.instruments.techniques import ConstantCurrent, CutOff
from cellbench.protocol import ProtocolError
from cellbench.protocol.conditions import (
    AllOf,
    AnyOf,
    Change,
    Condition,
    Slope,
    Threshold,
    Verdict,
    VerdictName,
    Watched,
    first_met,
    holds,
)
from cellbench.protocol.program import AnyStep, ChannelStep, WaitStep

Steps = Callable[..., list[AnyStep]]


class Data:
    """What the host sees: a few values, their slopes, and values of before."""

    def __init__(self, now: Mapping[Watched, float], slopes: Mapping[Watched, float] = {}) -> None:
        self.now = now
        self.slopes = slopes
        self.before: Mapping[Watched, float] = {}
        self.scatters: Mapping[Watched, float] = {}
        self.verdicts: set[VerdictName] = set()

    def value(self, quantity: Watched) -> float | None:
        return self.now.get(quantity)

    def reached(self, quantity: Watched, *, above: bool) -> float | None:  # noqa: ARG002
        return self.now.get(quantity)

    def slope(self, quantity: Watched, _window_s: float) -> float | None:
        return self.slopes.get(quantity)

    def earlier(self, quantity: Watched, _age_s: float) -> float | None:
        return self.before.get(quantity)

    def scatter(self, quantity: Watched) -> float:
        return self.scatters.get(quantity, 0.0)

    def verdict(self, name: VerdictName) -> bool:
        return name in self.verdicts


def condition(steps: Steps, text: str) -> tuple[Condition, ...]:
    (step,) = steps(f"  - wait:\n      until: {text}\n      at most: 1 h\n")
    assert isinstance(step, WaitStep)
    return step.until


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("voltage >= 1 V", Threshold("voltage", above=True, value=1.0)),
        ("potential <= -0.5 V", Threshold("voltage", above=False, value=-0.5)),
        ("current <= 0.1 mA", Threshold("current", above=False, value=1e-4)),
        ('"|current| <= 0.1 mA"', Threshold("current", above=False, value=1e-4)),
        ("abs(current) < 0.1 mA", Threshold("current", above=False, value=1e-4)),
        ("charge > 1 coulomb", Threshold("charge", above=True, value=1.0)),
        ("time >= 30 min", Threshold("time", above=True, value=1800.0)),
        ("stack pressure < 4 MPa", Threshold("stack pressure", above=False, value=4e6)),
        ("temperature > 30 degC", Threshold("temperature", above=True, value=303.15)),
        (
            "slope of stack pressure over 5 min < 0.06 MPa/min",
            Slope("stack pressure", 300.0, above=False, value=1e3),
        ),
        ("current rises by 50 % over 10 min", Change("current", 600.0, rises=True, fraction=0.5)),
        ("irregular", Verdict("irregular")),
        (
            "all of [short, time >= 1 min]",
            AllOf((Verdict("short"), Threshold("time", above=True, value=60.0))),
        ),
    ],
)
def test_conditions_are_resolved_to_si_units(steps: Steps, text: str, expected: Condition) -> None:
    assert condition(steps, text) == (expected,)


def test_a_list_and_any_of_mean_the_same(steps: Steps) -> None:
    wanted = (Verdict("irregular"), Threshold("charge", above=True, value=2.0))
    assert condition(steps, "any of [irregular, charge > 2 coulomb]") == wanted
    assert condition(steps, "[irregular, charge > 2 coulomb]") == wanted


def test_conditions_nest(steps: Steps) -> None:
    (found,) = condition(steps, "all of [any of [short, irregular], time > 1 s]")
    assert isinstance(found, AllOf)
    assert found.conditions[0] == AnyOf((Verdict("short"), Verdict("irregular")))


def test_a_voltage_or_current_cut_off_is_the_instruments(steps: Steps) -> None:
    (step,) = steps(
        "  - current: {at: 1 mA, until: [voltage >= 1 V, current <= 1 uA, short], at most: 1 h}\n"
    )
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, ConstantCurrent)
    assert step.technique.cut_offs == (
        CutOff(quantity="voltage", above=True, value=1.0),
        CutOff(quantity="current", above=False, value=1e-6),
    )
    assert step.until == (Verdict("short"),)
    assert step.capped


def test_a_compound_stays_with_the_host(steps: Steps) -> None:
    text = (
        '  - current: {at: 1 mA, until: "all of [voltage >= 1 V, time >= 1 min]", at most: 1 h}\n'
    )
    (step,) = steps(text)
    assert isinstance(step, ChannelStep)
    assert step.technique.cut_offs == ()
    assert isinstance(step.until[0], AllOf)


def test_a_charge_under_constant_current_becomes_a_time(steps: Steps) -> None:
    (step,) = steps("  - current: {at: 1 mA, for: 1 coulomb}\n")
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, ConstantCurrent)
    assert step.technique.duration_s == pytest.approx(1000.0)
    assert step.charge_max_C == pytest.approx(1.0)
    assert not step.capped


def test_of_several_bounds_the_first_counts(steps: Steps) -> None:
    (step,) = steps(
        "  - current: {at: 1 mA, until: voltage >= 1 V, at most: [10 min, 1 coulomb]}\n"
    )
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, ConstantCurrent)
    assert step.technique.duration_s == 600.0
    assert step.capped


def test_a_value_that_is_not_known_meets_nothing() -> None:
    blind = Data({})
    for each in (
        Threshold("voltage", above=True, value=-9.0),
        Slope("voltage", 1.0, above=False, value=9.0),
        Change("voltage", 1.0, rises=True, fraction=-9.0),
    ):
        assert not holds(each, blind)


def test_currents_are_compared_by_magnitude_and_voltages_as_they_stand() -> None:
    data = Data({"current": -2.0, "voltage": -2.0})
    assert holds(Threshold("current", above=True, value=1.0), data)
    assert not holds(Threshold("voltage", above=True, value=1.0), data)


def test_slopes_are_compared_by_magnitude() -> None:
    data = Data({}, {"stack pressure": -5.0})
    assert holds(Slope("stack pressure", 1.0, above=True, value=4.0), data)
    assert not holds(Slope("stack pressure", 1.0, above=False, value=4.0), data)


def test_a_rise_is_relative_to_what_was() -> None:
    data = Data({"current": -1.6})
    data.before = {"current": -1.0}
    assert holds(Change("current", 600.0, rises=True, fraction=0.5), data)
    assert not holds(Change("current", 600.0, rises=False, fraction=0.5), data)


def test_a_rise_that_is_only_noise_is_none() -> None:
    data = Data({"current": 0.3e-6})
    data.before = {"current": 0.1e-6}
    rise = Change("current", 600.0, rises=True, fraction=0.5)
    assert holds(rise, data)
    data.scatters = {"current": 0.1e-6}
    assert not holds(rise, data)
    data.now = {"current": 1e-6}
    assert holds(rise, data)


def test_the_first_condition_that_is_met_is_named() -> None:
    data = Data({"time": 5.0})
    data.verdicts = {"short"}
    short, late = Verdict("short"), Threshold("time", above=True, value=9.0)
    assert first_met([late, short], data) is short
    assert first_met([late], data) is None


def test_conditions_nested_too_deep_are_refused(steps: Steps) -> None:
    text = "any of [" * 20 + "short" + "]" * 20
    with pytest.raises(InputError, match="nested"):
        condition(steps, text)


@pytest.mark.parametrize("text", ["charge < 1 mAh", "[voltage > 1 V, time <= 10 min]"])
def test_what_is_true_at_once_is_refused(steps: Steps, text: str) -> None:
    with pytest.raises(ProtocolError, match="counts from zero"):
        condition(steps, text)


@pytest.mark.parametrize(
    "text",
    [
        "slope of voltage over 5 min < 1 mV/s",
        "current rises by 5 % over 1 s",
        "any of [current rises by 5 % over 1 s, voltage > 1 V]",
        "all of [voltage > 1 V, current rises by 5 % over 1 s]",
    ],
)
def test_a_loop_has_no_past_to_judge_a_change_by(steps: Steps, text: str) -> None:
    with pytest.raises(ProtocolError, match="tested after each pass"):
        steps(f"  - repeat: 2\n    until: {text}\n    steps:\n      - rest: 1 s\n")
