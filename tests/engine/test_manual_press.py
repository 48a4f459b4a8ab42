"""A press that a person works, on the simulated bench with its simulated operator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.conftest import Runner

from cellbench.bench import Bench
from cellbench.engine.run import Conductor, RunState
from cellbench.instruments import registry
from cellbench_drivers.manual_press import ManualPress
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.operator import Hands, SimulatedOperator

PROTOCOL = """
cellbench: 1
name: A test
limits:
  stack pressure: at most 30 MPa
steps:
  - press: {to: 22 MPa, ramp: 0.5 MPa/s, settle: {within: 1 MPa, for: 30 s}}
  - rest: 60 s
  - press: release
"""
GAUGES = pytest.mark.parametrize("gauge", [True, False], ids=["gauge", "typed"])


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, gauge: bool) -> None:
    """Put a press that a person works in the place of the bench's own."""
    described, load = SimulatedBench.description, registry.load_driver

    def description(bench: SimulatedBench, addresses: Any = None) -> dict[str, Any]:
        content = described(bench, addresses)
        content["instruments"]["press"] = {
            "driver": "manual_press", "port": "none", "capacity": "5 kN"
        }  # fmt: skip
        if not gauge:
            del content["instruments"]["load cell"]
        bench.operator = SimulatedOperator(Hands(bench._timebase, bench.world))
        return content

    def load_driver(name: str, beside: Any = None) -> Any:
        return ManualPress if name == "manual_press" else load(name, beside)

    monkeypatch.setattr(SimulatedBench, "description", description)
    monkeypatch.setattr("cellbench.bench.load_driver", load_driver)


@GAUGES
@pytest.mark.usefixtures("by_hand")
def test_a_run_goes_on_once_the_operator_has_pressed(run: Runner, gauge: bool) -> None:
    ran = run(PROTOCOL)
    assert ran.end.state is RunState.COMPLETED, ran.texts()
    prompts = [entry.text for entry in ran.reader.journal if entry.kind == "prompt"]
    assert prompts[0].startswith("Press by hand to 22 MPa on the cell = 1.728 kN")
    assert prompts[1].startswith("Unload the press by hand")
    # A gauge that reads no force needs no answer.
    assert ran.kinds().count("answer") == (1 if gauge else 2)
    assert ran.simulator.world.force_N() < 10.0
    pressed = next(e for e in ran.reader.journal if e.kind == "step ended" and "press" in e.step)
    assert pressed.data["results"]["stack_pressure_Pa"] == pytest.approx(22e6, rel=0.05)


@pytest.mark.parametrize("gauge", [True])
@pytest.mark.usefixtures("by_hand")
def test_an_operator_who_presses_too_much_is_asked_to_unload(run: Runner) -> None:
    class Careless:
        """Presses twice what is asked at first."""

        def __init__(self, operator: SimulatedOperator) -> None:
            self._operator = operator
            self._first = True

        async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
            if self._first:
                self._first = False
                prompt = prompt.replace("1.728 kN", "3.456 kN")
            return await self._operator.ask(prompt, choices)

    async def replace(simulator: SimulatedBench, bench: Bench, conductor: Conductor) -> None:
        press = bench.press
        assert isinstance(press, ManualPress)
        press.operator = Careless(simulator.operator)
        await asyncio.sleep(0)

    ran = run(PROTOCOL, disturb=replace)
    assert ran.end.state is RunState.STOPPED
    assert "above its limit of 30 MPa" in ran.end.reason
    assert ran.simulator.world.force_N() < 10.0
    outcomes = {outcome.state: outcome.confirmed for outcome in ran.end.outcomes}
    assert any(state.startswith("released") and sure for state, sure in outcomes.items())


@pytest.mark.parametrize("gauge", [True])
@pytest.mark.usefixtures("by_hand")
def test_with_nobody_there_to_unload_the_run_ends_and_says_so(run: Runner) -> None:
    class Leaves:
        def __init__(self, operator: SimulatedOperator) -> None:
            self._operator = operator

        async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
            if prompt.startswith("Unload"):
                await asyncio.sleep(1e9)
            return await self._operator.ask(prompt, choices)

    async def replace(simulator: SimulatedBench, bench: Bench, conductor: Conductor) -> None:
        press = bench.press
        assert isinstance(press, ManualPress)
        press.operator = Leaves(simulator.operator)
        while bench.press is not None and simulator.world.force_N() < 1000:
            await asyncio.sleep(1.0)
        await asyncio.sleep(120.0)
        simulator.load_cell.line.silent = True

    ran = run(PROTOCOL.replace("rest: 60 s", "rest: 1 h"), disturb=replace)
    assert ran.end.state is not RunState.COMPLETED
    assert not ran.end.safe
    assert any("released: unknown" in outcome.state for outcome in ran.end.outcomes)
    assert ran.simulator.world.force_N() > 1000
