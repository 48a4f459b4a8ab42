"""A host that is killed: nothing that it would still do reaches the bench."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from cellbench import clock
from cellbench.errors import TransportClosed
from cellbench.transport.stream import ClosedForGood
from cellbench_sim.bench import LOAD_CELL, SimulatedBench
from cellbench_sim.host import Host


def played(work: Coroutine[Any, Any, None]) -> None:
    clock.run(work, virtual=True)


class Counted:
    """Counts what an instrument hears."""

    def __init__(self, bench: SimulatedBench, name: str) -> None:
        device = bench.instruments[name]
        self._receive, self.messages = device.receive, 0
        device.receive = self.receive  # type: ignore[method-assign]

    def receive(self, data: bytes) -> None:
        self.messages += 1
        self._receive(data)


async def talk(host: Host, done: list[str]) -> None:
    wire = host.connect(LOAD_CELL)

    async def helper() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            done.append("helper's clean-up")
            await wire.write(b"W\r")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(helper())
            while True:
                async with asyncio.timeout(3):
                    await wire.write(b"W\r")
                    await asyncio.sleep(1)
    finally:
        done.append("clean-up")
        await wire.write(b"W\r")


def test_no_clean_up_of_a_killed_host_reaches_the_bench() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC_PMMA", 1) as bench:
            counted, done = Counted(bench, LOAD_CELL), list[str]()
            host = Host(bench)
            host.on_kill.append(lambda: done.append("killed"))
            task = host.run(talk(host, done))
            await asyncio.sleep(10.5)
            assert counted.messages == 11
            host.kill()
            host.kill()
            await asyncio.sleep(10_000)
            assert counted.messages == 11
            assert done == ["killed"]
            assert not task.done()
            await host.bury()
            assert counted.messages == 11
            assert done == ["killed", "helper's clean-up", "clean-up"]
            assert task.done()

    played(main())


def test_another_host_lives_on() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC_PMMA", 1) as bench:
            dead, other = Host(bench), Host(bench)
            dead.run(talk(dead, []))
            await asyncio.sleep(5)
            dead.kill()

            async def ask() -> bytes:
                wire = other.connect(LOAD_CELL)
                await wire.write(b"W\r")
                return await wire.read_until(b"\n", 5.0)

            assert await other.run(ask())
            await dead.bury()

    played(main())


def test_a_severed_wire_is_not_mended() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC_PMMA", 1) as bench:
            host = Host(bench)
            wire = host.connect(LOAD_CELL)
            host.kill()
            with pytest.raises(TransportClosed):
                await wire.write(b"W\r")
            with pytest.raises(ClosedForGood):
                await wire.reopen()

    played(main())


def test_a_host_that_hangs_keeps_its_wires() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC_PMMA", 1) as bench:
            counted, host = Counted(bench, LOAD_CELL), Host(bench)
            host.run(talk(host, []))
            await asyncio.sleep(5.5)
            host.hang()
            await asyncio.sleep(100)
            assert counted.messages == 6
            assert bench.instruments[LOAD_CELL]._sink is not None
            await host.bury()
            assert bench.instruments[LOAD_CELL]._sink is None

    played(main())
