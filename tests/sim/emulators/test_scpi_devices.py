"""Whatever a host sends in the language of a SCPI instrument, the instrument stays up."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable

import pytest

from cellbench.clock import run
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.keithley import KeithleyEmulator
from cellbench_sim.emulators.scpi_device import ScpiEmulator
from cellbench_sim.emulators.scpi_switch import ScpiSwitchEmulator
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

Make = Callable[[Timebase, World], ScpiEmulator]

DEVICES: dict[str, Make] = {
    "2450": lambda timebase, world: KeithleyEmulator("smu", timebase, world, seed=1),
    "2400": lambda timebase, world: KeithleyEmulator("smu", timebase, world, seed=1, model="2400"),
    "switch": lambda timebase, world: ScpiSwitchEmulator("switch", timebase, world, seed=1),
}
PARAMETERS = (
    "1", "0", "2", "3", "10", "4.2", "-1e-3", "1e9", "ON", "OFF", "MAX", "MIN", "DEF", "INF",
    "NAN", "'VOLT'", "CURR", "HIMP", "ZERO", "'a'", "'defbuffer1'", "READ", "REL", "TIM1",
    "SLIM", "NOT1", "COMM", "ABOV", "IN", "WARN1", "ABOR", "'SimpleLoop'", "'DurationLoop'",
    "'Empty'", "NEXT", "PROT5", "(@101:103)", "(@1)",
)  # fmt: skip


def header(rng: random.Random, pattern: str) -> str:
    """Return one of the headers that a pattern stands for."""
    bare = pattern.removesuffix("?")
    while "[" in bare:
        bare = re.sub(r"\[([^\[\]]*)\]", lambda part: part[1] * rng.randint(0, 1), bare)
    bare = re.sub(r"\(([^()]*)\)", lambda part: rng.choice(part[1].split("|")), bare)
    bare = bare.replace("#", rng.choice(["", "1", "9"]))
    return bare + "?" * pattern.endswith("?")


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("seed", range(6))
def test_no_command_brings_the_instrument_down(name: str, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 (a test's choices)

    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = DEVICES[name](timebase, World(load_preset("LCO_InLi"), seed=1))
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(device.watch())
            stream = device.connect()
            for _ in range(150):
                pattern, least, most = rng.choice(device.commands.patterns)
                count = rng.randint(least, min(most, least + 3))
                parameters = ",".join(rng.choices(PARAMETERS, k=count))
                await stream.write(f"{header(rng, pattern)} {parameters}\n".encode())
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.choice([0.01, 0.3, 20.0]))
            stream = device.connect()
            await stream.write(b"*RST\n")
            await asyncio.sleep(2000)
            await stream.drain(1)
            await stream.write(b"*CLS;*IDN?\n")
            assert b"KEITHLEY" in await stream.read_until(b"\n", 1e6)
            watch.cancel()

    run(main(), virtual=True)
