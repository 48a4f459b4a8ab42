"""The multiplexer: channel lists, the time of relays, refusals, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.scpi_switch import ScpiSwitchEmulator
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

POSITIONS = {"cell 1": "101,102", "cell 2": "(@103:104)"}


class Host:
    """A host on the multiplexer."""

    def __init__(self, device: ScpiSwitchEmulator) -> None:
        self.device, self.stream = device, device.connect()

    async def write(self, message: str) -> None:
        await self.stream.write(f"{message}\n".encode())

    async def ask(self, message: str) -> str:
        await self.write(message)
        return (await self.stream.read_until(b"\n", 10)).decode().rstrip("\n")


def tell(story: Callable[[Host], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = ScpiSwitchEmulator(
            "switch", timebase, **{"seed": 1, "positions": POSITIONS, **options}
        )
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(device.watch())
            await story(Host(device))
            watch.cancel()

    run(main(), virtual=True)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("*IDN?", "KEITHLEY INSTRUMENTS INC.,MODEL 2700,1000001,B09  /A02"),
        ("SYST:ERR?", '0,"No error"'),
        ("ROUT:CLOS?", "(@)"),
        ("ROUT:CLOS (@101,102);*OPC?;:ROUT:CLOS?", "1;(@101,102)"),
        ("ROUTE:CLOSE (@103:101);:ROUTE:CLOSE?", "(@101,102,103)"),
        ("ROUT:CLOS (@101:104);:ROUT:OPEN (@102);:ROUT:CLOS?", "(@101,103,104)"),
        ("ROUT:CLOS (@107);:ROUT:CLOS:STAT? (@101,104,107,102)", "0,0,1,0"),
        ("ROUT:CLOS (@107);:ROUT:CLOS? (@107)", "1"),
        ("ROUT:CLOS (@107);:ROUT:OPEN? (@107,108)", "0,1"),
        ("ROUT:MULT:CLOS (@107);:ROUT:OPEN:ALL;:ROUT:MULT:CLOS?", "(@)"),
        ("ROUT:CLOS (@107);*RST;:ROUT:CLOS?", "(@)"),
        ("CLOS (@107);CLOS? (@107)", "1"),
    ],
)
def test_each_request_has_its_reply(request_: str, reply: str) -> None:
    async def story(host: Host) -> None:
        assert await host.ask(request_) == reply

    tell(story)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("ROUT:CLOS (@199)", '-222,"Parameter data out of range"'),
        ("ROUT:CLOS 101", '-171,"Invalid expression"'),
        ("ROUT:CLOS", '-109,"Missing parameter"'),
        ("ROUT:SHUT (@101)", '-113,"Undefined header"'),
    ],
)
def test_each_refusal_has_its_number_and_moves_nothing(request_: str, error: str) -> None:
    async def story(host: Host) -> None:
        await host.write(request_)
        assert await host.ask("SYST:ERR?") == error
        assert await host.ask("ROUT:CLOS?") == "(@)"

    tell(story)


def test_relays_take_milliseconds_and_then_somebody_is_told() -> None:
    told: list[tuple[float, frozenset[str]]] = []

    def listen(closed: frozenset[str]) -> None:
        told.append((asyncio.get_running_loop().time(), closed))

    async def story(host: Host) -> None:
        await host.write("ROUT:CLOS (@101,102)")
        assert host.device.closed == frozenset()
        assert await host.ask("*OPC?") == "1"
        assert host.device.positions == {"cell 1": True, "cell 2": False}
        await host.write("ROUT:CLOS (@101)")
        await host.ask("*OPC?")
        await host.write("ROUT:OPEN:ALL")
        await host.ask("*OPC?")

    tell(story, on_change=listen)
    assert [closed for _, closed in told] == [frozenset({"101", "102"}), frozenset()]
    assert [at_s for at_s, _ in told] == pytest.approx([0.003, 0.006])


def test_a_position_is_connected_when_all_its_channels_are_closed() -> None:
    async def story(host: Host) -> None:
        await host.ask("ROUT:CLOS (@101,103,104);*OPC?")
        assert host.device.positions == {"cell 1": False, "cell 2": True}

    tell(story)


def test_relays_keep_their_state_without_a_host() -> None:
    async def story(host: Host) -> None:
        await host.write("ROUT:CLOS (@101)")
        await host.stream.close()
        await asyncio.sleep(1)
        assert await Host(host.device).ask("ROUT:CLOS?") == "(@101)"

    tell(story)


def test_positions_come_from_the_bench_file() -> None:
    world = World(load_preset("LYC_PMMA"), seed=1)

    def make(positions: Any) -> ScpiSwitchEmulator:
        return ScpiSwitchEmulator.from_bench(
            "switch", Timebase(), world, seed=1, options={"positions": positions, "port": "x"}
        )

    async def story(host: Host) -> None:
        assert await host.ask("ROUT:CLOS (@301);:ROUT:CLOS?") == "(@301)"

    tell(story, positions={"far": "301"})
    assert make({"cell 1": 101}).positions == {"cell 1": False}
    assert make(None).positions == {}
    with pytest.raises(InputError, match="position cell 1"):
        make({"cell 1": "left"})
    with pytest.raises(InputError, match="names and channels"):
        make("101,102")
