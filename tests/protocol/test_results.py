"""Results of steps in expressions: what is wrong with them is known before anything runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.protocol.conftest import Bench

from cellbench.protocol import Program, ProtocolError, Walk, check
from cellbench.protocol.program import ChannelStep, LaterStep, MarkStep

Load = Callable[..., Program]

EIS = "  - eis: {from: 1 MHz, to: 1 Hz, as: e}\n"
REST = "  - rest: {for: 1 min, as: r}\n"
CONDITION = "    steps:\n      - mark: x\n"


def said(program: Program, bench: Bench) -> str:
    problems = check(program, bench).problems
    return " ".join(" ".join(problem.render() for problem in problems).split())


@pytest.mark.parametrize(
    "text",
    [
        f"{EIS}  - if: $e.R_low > 100 Ohm\n{CONDITION}",
        f"{EIS}  - if: $e.R_high_ohm > 100 Ohm and $e.R_low < 1 kOhm\n{CONDITION}",
        f"{EIS}  - if: $e.kramers_kronig_residual > 1 %\n{CONDITION}",
        f"{EIS}  - rest: $e.R_low * 1 s / (1 Ohm)\n",
        f"{REST}  - voltage: {{at: $r.voltage + 0.1 V, for: $r.duration}}\n",
        f"{REST}  - eis: {{from: 1 MHz, to: 1 Hz, bias: $r.voltage_V}}\n",
        f"{REST}  - current: {{at: $r.current * 2, for: 1 s, until: charge > $r.charge}}\n",
        f"{REST}  - repeat: round($r.duration / (10 s))\n{CONDITION}",
        f"{REST}  - for each: {{v: 0 V to $r.voltage by 0.1 V}}\n    steps:\n"
        "      - voltage: {at: $v, for: 1 s}\n",
        f"  - repeat: 3\n    until: $e.R_low > 1 Ohm\n    steps:\n    {EIS}",
        "  - press: {to: 1 MPa, as: p}\n  - press: $p.stack_pressure * 2\n",
        "  - temperature: {to: 20 degC, as: t}\n  - temperature: $t.temperature + 5 K\n",
        f"  - if: 1 > 2\n    steps:\n    {EIS}    else:\n    {EIS}"
        "  - rest: $e.R_low * 1 s / (1 Ohm)\n",
        f"{EIS}  - if: $e.R_low > 1 Ohm\n    steps:\n    {REST}    else:\n    {REST}"
        "  - rest: $r.duration\n",
        f"{EIS}  - include: pellet_conductivity\n"
        "    with: {equilibrate: $e.R_low * 1 s / (1 Ohm)}\n",
    ],
)
def test_results_that_there_will_be_are_accepted(text: str, program: Load, bench: Bench) -> None:
    assert said(program(text), bench) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{EIS}  - if: $e.R_total > 100 Ohm\n{CONDITION}", ["R_total", "R_high_ohm, R_low_ohm"]),
        (f"{EIS}  - if: $e.R_low > 100 V\n{CONDITION}", ["is a resistance", "a voltage"]),
        (f"{EIS}  - if: $e.R_low\n{CONDITION}", ["needs a comparison", "$first.R_low"]),
        (f"{EIS}  - rest: $e.R_low\n", ['"? Ohm"', "dimension resistance", "a time"]),
        (f"{EIS}  - rest: $e.R_low + 1 s\n", ["is a resistance", "a time"]),
        (f"{EIS}  - press: $e.R_low * 1 V\n", ["what is needed is a pressure"]),
        (f"{EIS}  - voltage: {{at: $e.R_low * 1 A, for: 5 Ohm}}\n", ["needed is a time"]),
        (f"{EIS}  - current: {{at: 1 mA, for: $e.R_low}}\n", ["needed is a time"]),
        (f"{EIS}  - eis: {{from: $e.R_low, to: 1 Hz}}\n", ["needed is a frequency"]),
        (f"{EIS}  - repeat: $e.R_low\n{CONDITION}", ["how often"]),
        (
            f"  - repeat: 2\n    until: $e.R_low > 1 V\n    steps:\n    {EIS}",
            ["is a resistance", "a voltage"],
        ),
        (f"  - rest: $e.R_low * 1 s / (1 Ohm)\n{EIS}", ["is used before the step", '"as: e"']),
        ("  - mark: {text: x, as: m}\n  - rest: $m.time\n", ["gives no results"]),
        ("  - press: {to: 1 MPa, as: p}\n  - rest: $p.duration\n", ["stack_pressure_Pa"]),
        (
            f"{EIS}  - if: $e.R_low > 1 Ohm\n    steps:\n    {REST}  - rest: $r.duration\n",
            ["may have been left out"],
        ),
        (
            f"{EIS}  - include: pellet_conductivity\n    with: {{equilibrate: $e.R_low}}\n",
            ["needed is a time"],
        ),
    ],
)
def test_a_result_that_cannot_be_used_so_is_a_problem_before_the_run(
    text: str, words: list[str], program: Load, bench: Bench
) -> None:
    found = said(program(text), bench)
    assert [word for word in words if word not in found] == [], found


def test_a_step_waits_for_all_results_that_it_uses(program: Load) -> None:
    text = f"{EIS}{REST}  - rest: $r.duration * ($e.R_low / (1 Ohm))\n"
    *_, later = Walk(program(text), planning=True)
    assert isinstance(later, LaterStep)
    assert later.uses == ("e.R_low", "r.duration")


def test_a_voltage_that_was_measured_is_one_at_the_terminals(program: Load) -> None:
    walk = Walk(program(f"{REST}  - if: $r.voltage > 3 V vs Li+/Li\n{CONDITION}"))
    next(walk)
    walk.record("r", {"voltage_V": 3.0})
    with pytest.raises(ProtocolError, match="different references"):
        next(walk)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_without_a_value_is_an_error_in_the_run(value: float, program: Load) -> None:
    walk = Walk(program(f"{EIS}  - rest: $e.R_low * 1 s / (1 Ohm)\n"))
    next(walk)
    walk.record("e", {"R_low_ohm": value})
    with pytest.raises(ProtocolError, match="gave no results"):
        next(walk)


@pytest.mark.parametrize(
    "text",
    [
        "  - repeat: $e.R_low / (1 Ohm)\n    steps:\n      - mark: x\n",
        "  - for each: {v: $e.R_low}\n    steps:\n      - mark: x\n",
        "  - if: $e.R_low > 1 Ohm\n    steps:\n      - mark: x\n",
    ],
)
def test_a_result_that_never_came_is_an_error_in_loops_and_branches_too(
    text: str, program: Load
) -> None:
    walk = Walk(program(EIS + text))
    next(walk)
    with pytest.raises(ProtocolError, match=r"e\.R_low.* gave no results"):
        next(walk)


def test_a_result_that_makes_a_step_endless_is_an_error_in_the_run(program: Load) -> None:
    walk = Walk(program(f"{EIS}  - rest: $e.R_low_ohm * 1e9 s / (1 Ohm)\n"))
    next(walk)
    walk.record("e", {"R_low_ohm": 52.0})
    with pytest.raises(ProtocolError, match=r"would last 1\.65e"):
        next(walk)


def test_the_charge_of_a_discharge_is_a_magnitude(program: Load) -> None:
    """A negative one would be below any part of another, and end a loop after its first pass."""
    loaded = program(
        "  - current: {at: 1 mA, for: 1 h, as: first}\n"
        "  - current: {at: -1 mA, for: 1 h, as: now}\n"
        "  - if: $now.charge < 0.7 * $first.charge\n    steps:\n      - mark: worn out\n"
    )
    walk = Walk(loaded)
    left = []
    for item in walk:
        left.append(item)
        if isinstance(item, ChannelStep) and item.save_as:
            walk.record(item.save_as, {"charge_C": 3.6 if item.save_as == "first" else -3.5})
    assert not any(isinstance(item, MarkStep) for item in left)
