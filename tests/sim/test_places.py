"""A bench with many cells: each place has a world of its own, and shared instruments serve them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellbench.clock import run
from cellbench.engine.owner import Owner, RunRequest, all_at_once
from cellbench.engine.run import RunEnd
from cellbench.errors import InputError
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ElectricalLimits,
    Impedance,
    Rest,
    Technique,
)
from cellbench.store import RunReader, Store
from cellbench.transport.address import open_stream
from cellbench_drivers.eurotherm import Eurotherm
from cellbench_drivers.neware import Neware
from cellbench_drivers.palmsens import PalmSens
from cellbench_drivers.plc_press import PlcPress
from cellbench_drivers.scpi_switch import ScpiSwitch
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.shared import OnTwoCells

LIMITS = ElectricalLimits(voltage_min_V=-4.0, voltage_max_V=4.9, current_max_A=0.01)
#: Their voltages at rest tell them apart: none for symmetric lithium, some volts for a full cell.
CELLS = {"A1": "LYC_PMMA", "A2": "NMC811_InLi_single", "A3": "LYC_PMMA"}
POSITIONS = {"A1": "101,102", "A2": "103,104", "A3": "105,106"}
Story = Callable[[SimulatedBench], Awaitable[None]]


def bench(
    folder: Path, cells: Mapping[str, str] = CELLS, seed: int = 7, **options: Any
) -> SimulatedBench:
    """A channel of one cycler at each place, one potentiostat behind relays, one chamber."""
    numbers = {place: int(place[1:]) for place in cells}
    entries: dict[str, dict[str, Any]] = {
        f"n{number}": {"driver": "neware", **channel(folder, number)} for number in numbers.values()
    }
    entries |= {
        "eis": {"driver": "palmsens", "f_max": "1 MHz"},
        "mux": {"driver": "scpi_switch", "positions": {at: POSITIONS[at] for at in cells}},
        "oven": {"driver": "eurotherm"},
    }
    places = {
        place: {
            "cell": cell,
            "cycling": f"n{numbers[place]}",
            "impedance": "eis",
            "changeover": "mux",
            "chamber": "oven",
        }
        for place, cell in cells.items()
    }
    return SimulatedBench("LYC", seed, instruments=entries, cells=places, **options)


def channel(folder: Path, number: int) -> dict[str, Any]:
    return {
        "channel": f"27-21-1-{number}",
        "steps folder": str(folder),
        "steps folder on pc": r"C:\cellbench",
        "voltage min": "-5 V",
    }


def neware(simulator: SimulatedBench, folder: Path, number: int) -> Neware:
    options = {key.replace(" ", "_"): each for key, each in channel(folder, number).items()}
    return Neware(f"n{number}", simulator.connect(f"n{number}"), options)


async def rows_of(driver: Neware | PalmSens, technique: Technique) -> list[tuple[float, ...]]:
    """Run a technique to its end; time, voltage and current of each row."""
    rows: list[tuple[float, ...]] = []
    async with driver.run(technique, LIMITS) as running:
        async for block in running:
            columns = (block.columns["voltage_V"], block.columns["current_A"])
            rows += zip(block.time_s, *columns, strict=True)
    return rows


def told(simulator: SimulatedBench, story: Story, speed: float | None = None) -> None:
    async def main() -> None:
        async with simulator:
            await story(simulator)

    run(main(), virtual=True, speed=speed)


def test_channels_of_one_cycler_see_their_own_cells(tmp_path: Path) -> None:
    async def cycled(simulator: SimulatedBench, number: int, current_A: float) -> list[Any]:
        driver = neware(simulator, tmp_path, number)
        await driver.connect()
        return await rows_of(driver, ConstantCurrent(current_A=current_A, duration_s=60.0))

    async def story(simulator: SimulatedBench) -> None:
        one, two = await asyncio.gather(cycled(simulator, 1, 1e-4), cycled(simulator, 2, 3e-5))
        # What the cell took besides passes in the parts of a second before its cut-off acts.
        symmetric, full = (simulator.places[at].world.cell for at in ("A1", "A2"))
        assert symmetric.passed_C == pytest.approx(6e-3, rel=1e-2)
        assert full.passed_C == pytest.approx(1.8e-3, rel=1e-2)
        assert simulator.places["A3"].world.cell.passed_C == 0
        assert one[-1][1] < 1.0
        assert two[-1][1] > 2.0
        assert one[-1][2] == pytest.approx(1e-4, rel=1e-3)
        assert two[-1][2] == pytest.approx(3e-5, rel=1e-3)

    told(bench(tmp_path), story)


def test_channels_of_one_cycler_are_served_at_one_address(tmp_path: Path) -> None:
    async def rested(address: str, number: int) -> float:
        options = {key.replace(" ", "_"): each for key, each in channel(tmp_path, number).items()}
        driver = Neware(f"n{number}", await open_stream(address, None, 502), options)
        try:
            await driver.connect()
            return (await rows_of(driver, Rest(duration_s=20.0)))[-1][1]
        finally:
            await driver.close()

    async def story(simulator: SimulatedBench) -> None:
        async with simulator.serve() as addresses:
            (address,) = addresses["n1"]
            assert addresses["n2"] == addresses["n3"] == [address]
            assert len({each[0] for each in addresses.values()}) == 4
            # Both hosts are connected at the same time.
            one, two = await asyncio.gather(rested(address, 1), rested(address, 2))
            assert abs(one) < 0.01
            assert two > 2.0

    told(bench(tmp_path), story, speed=60.0)


def test_the_potentiostat_sees_the_cell_that_the_switch_connects_and_no_other(
    tmp_path: Path,
) -> None:
    spectrum = Impedance(
        frequency_max_Hz=1e5, frequency_min_Hz=1e3, points_per_decade=5, amplitude_V=0.01
    )

    async def story(simulator: SimulatedBench) -> None:
        potentiostat = PalmSens("eis", simulator.connect("eis"), {"f_max": "1 MHz"})
        switch = ScpiSwitch("mux", simulator.connect("mux"), {"positions": POSITIONS})
        await potentiostat.connect()
        await switch.connect()
        for place in CELLS:
            await switch.select(place)
            there = simulator.places[place]
            shown_V = (await rows_of(potentiostat, Rest(duration_s=5.0)))[-1][1]
            assert shown_V == pytest.approx(there.world.terminals()[0], abs=0.01)
            async with potentiostat.run(spectrum, LIMITS) as running:
                found = [block.columns async for block in running][-1]
            (true,) = there.world.impedance(np.array([spectrum.frequency_min_Hz]))
            assert found["impedance_real_ohm"][-1] == pytest.approx(true.real, rel=0.02)
            on = [at for at, each in simulator.places.items() if each.leads["eis"].connected]
            assert on == [place]
        await switch.open_all()
        assert not any(each.leads["eis"].connected for each in simulator.places.values())
        # A cycler without contacts of its own is at its cell for good.
        assert all(each.leads[f"n{at[1:]}"].connected for at, each in simulator.places.items())

    told(bench(tmp_path), story)


def test_two_positions_at_once_are_a_fault_of_the_bench(tmp_path: Path) -> None:
    async def story(simulator: SimulatedBench) -> None:
        stream = simulator.connect("mux")
        await stream.write(b"ROUT:CLOS (@101,102,103,104)\n")
        await asyncio.sleep(1.0)
        potentiostat = PalmSens("eis", simulator.connect("eis"), {"f_max": "1 MHz"})
        await potentiostat.connect()
        await rows_of(potentiostat, Rest(duration_s=5.0))

    with pytest.raises(BaseExceptionGroup) as found:
        told(bench(tmp_path), story)
    assert found.group_contains(OnTwoCells)


def test_the_chamber_warms_all(tmp_path: Path) -> None:
    async def story(simulator: SimulatedBench) -> None:
        chamber = Eurotherm("oven", simulator.connect("oven"), {})
        await chamber.connect()
        await asyncio.sleep(600.0)
        await chamber.set_temperature(318.15)
        await asyncio.sleep(4 * 3600.0)
        assert (await chamber.read()).temperature_K == pytest.approx(318.15, abs=0.2)
        for place in simulator.places.values():
            place.world.advance_to(4 * 3600.0)
            assert place.world.cell_temperature_K == pytest.approx(318.15, abs=0.1)

    told(bench(tmp_path), story)


Seen = tuple[list[tuple[float, ...]], list[float]]


def seen_at(
    folder: Path, place: str, cells: Mapping[str, str], look_s: float = 60.0, seed: int = 7
) -> Seen:
    """What a place shows while a chamber gets warmer, and other places are busy too."""
    temperatures: list[float] = []

    async def warm(simulator: SimulatedBench) -> None:
        oven = Eurotherm("oven", simulator.connect("oven"), {})
        await oven.connect()
        await oven.set_temperature(310.15)
        for _ in range(15):
            await asyncio.sleep(60.0)
            temperatures.append((await oven.read()).temperature_K)

    async def disturb(simulator: SimulatedBench, number: int) -> None:
        driver = neware(simulator, folder, number)
        await driver.connect()
        for current_A in (2e-5, 4e-5):
            await rows_of(driver, ConstantCurrent(current_A=current_A, duration_s=300.0))

    async def watch(simulator: SimulatedBench) -> None:
        """Advancing a world in other steps, as somebody does who looks at it, changes nothing."""
        while True:
            await asyncio.sleep(look_s)
            for each in simulator.places.values():
                each.world.advance_to(simulator._timebase.now())
                each.world.terminals()

    async def main() -> list[tuple[float, ...]]:
        async with bench(folder, cells, seed) as simulator:
            driver = neware(simulator, folder, int(place[1:]))
            await driver.connect()
            others = [int(at[1:]) for at in cells if at != place]
            beside = [asyncio.ensure_future(watch(simulator))]
            busy = [asyncio.ensure_future(disturb(simulator, number)) for number in others]
            warming = asyncio.ensure_future(warm(simulator))
            technique = ConstantCurrent(current_A=3e-5, duration_s=900.0, interval_s=10.0)
            rows = await rows_of(driver, technique)
            await asyncio.gather(warming, *busy)
            beside[0].cancel()
            return rows

    return run(main(), virtual=True), temperatures


@pytest.mark.long
def test_one_seed_gives_one_course_whatever_other_cells_there_are(tmp_path: Path) -> None:
    alone = seen_at(tmp_path, "A2", {"A2": CELLS["A2"]})
    assert seen_at(tmp_path, "A2", CELLS) == alone
    assert seen_at(tmp_path, "A2", CELLS, look_s=7.3) == alone
    assert len(alone[0]) > 90
    assert alone[1][-1] > alone[1][0] + 5
    assert seen_at(tmp_path, "A2", CELLS, seed=8) != alone


def test_replicates_scatter_as_their_instruments_do(tmp_path: Path) -> None:
    def thresholds(seed: int) -> dict[str, Any]:
        places = bench(tmp_path, seed=seed).places
        return {at: each.world.cell.snapshot()["shunt"] for at, each in places.items()}

    assert thresholds(7) == thresholds(7)
    assert thresholds(7)["A1"] != thresholds(7)["A3"]
    cells = {"A1": "LYC_PMMA", "A3": "LYC_PMMA"}
    one, two = (seen_at(tmp_path, place, cells)[0] for place in cells)
    assert [row[1] for row in one] != [row[1] for row in two]
    assert one[-1][1] == pytest.approx(two[-1][1], rel=0.02)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a cell that is none": ({"cell": "unobtainium", "channel": "n1"}, "unobtainium"),
    "a fixture that is none": ({"channel": "n1", "fixture": "anvil"}, "anvil"),
    "two cells on a channel": ({"channel": "n2", "press": "n1"}, "n2 is the channel of A1 and A2"),
    "nobody's instrument": ({"channel": "n1", "chamber": None}, "n2 is at no place"),
    "two roles": ({"channel": "n1", "chamber": "n2"}, "n2 is chamber and channel"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_places_that_cannot_be_are_refused(
    tmp_path: Path, wrong: tuple[dict[str, Any], str]
) -> None:
    entry, complaint = wrong
    entries = {f"n{number}": {"driver": "neware", **channel(tmp_path, number)} for number in (1, 2)}
    second = {} if "no place" in complaint else {"A2": {"channel": "n2"}}
    with pytest.raises(InputError, match=complaint):
        SimulatedBench("LYC", 1, instruments=entries, cells={"A1": entry, **second})


def test_two_entries_cannot_be_one_channel(tmp_path: Path) -> None:
    entries = {name: {"driver": "neware", **channel(tmp_path, 1)} for name in ("n1", "n2")}
    cells = {"A1": {"channel": "n1"}, "A2": {"channel": "n2"}}
    with pytest.raises(InputError, match="another cell is in channel 21-1-1"):
        SimulatedBench("LYC", 1, instruments=entries, cells=cells)


def test_a_press_presses_all_that_stand_in_it() -> None:
    drivers = {"n1": "maccor", "n2": "maccor", "press": "plc_press", "load cell": "loadstar"}
    entries = {name: {"driver": driver} for name, driver in drivers.items()}
    both = {"press": "press", "gauge": "load cell"}
    cells = {"A1": {"channel": "n1", **both}, "A2": {"channel": "n2", **both}}

    async def story(simulator: SimulatedBench) -> None:
        press = PlcPress("press", simulator.connect("press"), {})
        await press.connect()
        await press.ramp_to(1000.0, 100.0, 2000.0)
        await asyncio.sleep(60.0)
        assert (await press.read()).force_N == pytest.approx(1000.0, abs=20.0)
        for place in simulator.places.values():
            place.world.advance_to(70.0)
            assert place.world.force_N() == pytest.approx(1000.0, abs=10.0)

    told(SimulatedBench("LYC", 3, instruments=entries, cells=cells), story)


def test_a_person_works_at_the_place_that_a_prompt_names() -> None:
    entries = {name: {"driver": "maccor"} for name in ("n1", "n2")} | {
        "eis": {"driver": "palmsens"}
    }
    wired = {"impedance": "eis", "changeover": "operator"}
    cells = {"A1": {"cycling": "n1", **wired}, "A10": {"cycling": "n2", **wired}}

    async def story(simulator: SimulatedBench) -> None:
        one, ten = simulator.places.values()

        async def connected(prompt: str) -> list[bool]:
            await simulator.operator.ask(prompt, ("done", "not done"))
            return [each.connected for place in (one, ten) for each in place.leads.values()]

        assert await connected("A1 goes to eis: clip the leads of eis to it.") == [
            False, True, False, False
        ]  # fmt: skip
        assert await connected("A10 goes to n2: clip the leads of n2 to it.") == [
            False, True, True, False
        ]  # fmt: skip
        # It is one pair of leads: what goes to the one cell comes from the other.
        assert await connected("A10 goes to eis: clip the leads of eis to it.") == [
            False, False, False, True
        ]  # fmt: skip
        await simulator.operator.ask("A10: press by hand to 500 N.", ("done",))
        assert [place.world.force_N() for place in (one, ten)] == [0, pytest.approx(500, abs=30)]
        await simulator.operator.ask("Press by hand to 700 N.", ("done",))
        assert one.world.force_N() == 0
        await simulator.attended(None, "A1").ask("Press by hand to 700 N.", ("done",))
        assert one.world.force_N() == pytest.approx(700, abs=30)

    told(SimulatedBench("LYC", 3, fixture="spring", instruments=entries, cells=cells), story)


def test_a_run_has_the_press_of_its_own_place_pumped(tmp_path: Path) -> None:
    jig = {"driver": "manual_press", "port": "none", "capacity": "5 kN"}
    channel = {"driver": "palmsens", "port": "simulated", "f_max": "1 MHz"}
    file = {
        "bench": "two jigs",
        "instruments": {"c1": channel, "c2": channel, "jig 1": jig, "jig 2": jig},
        "fixture": {"die": "10 mm", "kind": "spring", "at most": "5 kN"},
        "cells": {
            "A1": {"card": "LYC_PMMA", "channel": "c1", "press": "jig 1"},
            "A2": {"card": "LYC_PMMA", "channel": "c2", "press": "jig 2"},
        },
    }
    (tmp_path / "bench.yaml").write_text(json.dumps(file))
    protocol = tmp_path / "press.yaml"
    protocol.write_text(
        "cellbench: 1\nname: A test\ncell: LYC_PMMA\nparameters: {p: 2 MPa}\nsteps:\n"
        "  - press: {to: $p, ramp: 1 MPa/s, by hand: allowed}\n  - rest: 1 min\n"
    )

    async def pressed(store: Store) -> list[float]:
        async with Owner(tmp_path / "bench.yaml", store, seed=7) as owner:
            requests = [
                RunRequest(str(protocol), place, sets=(f"p={pressure} MPa",))
                for place, pressure in (("A1", 2), ("A2", 4))
            ]
            ends = await all_at_once({each.place: owner.run(each) for each in requests})
            return [
                RunReader(store.run_path(end.run.id)).samples(jig)["force_N"][-1]
                for end, jig in zip(ends.values(), ("jig 1", "jig 2"), strict=True)
                if isinstance(end, RunEnd)
            ]

    with Store(tmp_path / "store") as store:
        one_N, two_N = run(pressed(store), virtual=True)
    assert one_N == pytest.approx(157, rel=0.05)
    assert two_N == pytest.approx(314, rel=0.05)
