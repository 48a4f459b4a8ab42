"""Leads of several instruments on one cell: what each sees, and that two never drive it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cellbench.bench import parse_bench, simulated_benches
from cellbench.clock import run
from cellbench.errors import InputError
from cellbench.protocol.source import document_of, load
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.leads import Junction, Leads, TwoSources
from cellbench_sim.operator import AttendedOperator, Hands, SimulatedOperator
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World


@pytest.fixture
def world() -> World:
    return World(load_preset("NMC811_InLi_single"), seed=1)


@pytest.fixture
def pair(world: World) -> tuple[Leads, Leads]:
    junction = Junction(world)
    return junction.leads(), junction.leads()


def test_leads_in_the_air_are_an_open_wire(world: World, pair: tuple[Leads, Leads]) -> None:
    leads, _ = pair
    assert leads.terminals() == (0.0, 0.0)
    leads.apply_current(1e-6)
    assert leads.terminals() == (1e6, 1e-6)
    leads.apply_voltage(3.0)
    assert leads.terminals() == (3.0, 3e-12)
    assert abs(leads.impedance(np.array([1e3]))[0]) > 1e11
    world.advance_to(10.0)
    assert world.terminals()[1] == 0


def test_what_an_instrument_drives_reaches_the_cell_when_its_leads_do(
    world: World, pair: tuple[Leads, Leads]
) -> None:
    leads, other = pair
    leads.apply_current(1e-4)
    leads.connected = other.connected = True
    voltage_V = world.terminals()[0]
    assert leads.terminals() == (voltage_V, 1e-4)
    assert other.terminals() == (voltage_V, 0.0)
    assert other.impedance(np.array([1e3]))[0] == world.impedance(np.array([1e3]))[0]
    other.open_circuit()
    assert world.terminals()[1] == 1e-4
    leads.connected = False
    assert world.terminals()[1] == 0.0


def test_two_sources_never_drive_one_cell(pair: tuple[Leads, Leads]) -> None:
    leads, other = pair
    leads.connected = other.connected = True
    leads.apply_voltage(3.0)
    with pytest.raises(TwoSources):
        other.apply_current(1e-4)


def test_two_sources_never_meet_on_one_cell(pair: tuple[Leads, Leads]) -> None:
    leads, other = pair
    leads.apply_voltage(3.0)
    other.apply_current(1e-4)
    leads.connected = True
    with pytest.raises(TwoSources):
        other.connected = True


def bench(name: str) -> SimulatedBench:
    file = parse_bench(load(document_of(simulated_benches()[name], f"{name}.yaml")))
    entries = {each: entry.model_dump() for each, entry in file.instruments.items()}
    wiring = {cell: each.model_dump() for cell, each in file.wiring.items()}
    return SimulatedBench("LYC_PMMA", 1, instruments=entries, wiring=wiring)


def test_closing_both_positions_onto_two_sources_is_a_fault_of_the_bench() -> None:
    async def main() -> None:
        async with bench("two_on_a_switch") as simulator:
            for leads in simulator.leads.values():
                leads.apply_current(1e-4)
            stream = simulator.connect("multiplexer")
            await stream.write(b"ROUT:CLOS (@101,102,103,104)\n")
            await asyncio.sleep(1.0)

    with pytest.raises(BaseExceptionGroup) as found:
        run(main(), virtual=True)
    assert found.group_contains(TwoSources)


def test_one_relay_of_a_pair_connects_nothing() -> None:
    async def main() -> list[list[bool]]:
        seen = []
        async with bench("two_on_a_switch") as simulator:
            stream = simulator.connect("multiplexer")
            for command in (b"CLOS (@101,103)\n", b"CLOS (@102)\n", b"OPEN:ALL\n"):
                await stream.write(b"ROUT:" + command)
                await asyncio.sleep(1.0)
                seen.append([leads.connected for leads in simulator.leads.values()])
        return seen

    off, unit = [False, False], [True, False]
    assert run(main(), virtual=True) == [off, unit, off]


def test_a_wiring_needs_a_switch_that_is_there() -> None:
    entries = {"a": {"driver": "palmsens"}, "b": {"driver": "palmsens"}}
    wiring = {"cell": {"cycling": "a", "impedance": "b", "changeover": "c"}}
    with pytest.raises(InputError, match="c is no switch"):
        SimulatedBench("LYC", 1, instruments=entries, wiring=wiring)


PROMPT = "Take those of a off the cell, then clip the leads of b to it, and confirm."


class Person:
    """Answers with what was prepared."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    async def ask(self, _prompt: str, _choices: object = ()) -> str:
        return self._answer


@pytest.mark.parametrize(("answer", "moved"), [("done", True), ("not done", False), ("", True)])
def test_leads_are_moved_once_the_person_confirms(
    world: World, pair: tuple[Leads, Leads], answer: str, moved: bool
) -> None:
    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        hands = Hands(timebase, world, dict(zip("ab", pair, strict=True)))
        operator = AttendedOperator(Person(answer), hands) if answer else SimulatedOperator(hands)
        pair[0].connected = True
        await operator.ask(PROMPT, ("done", "not done"))

    run(main(), virtual=True)
    assert [leads.connected for leads in pair] == [not moved, moved]
