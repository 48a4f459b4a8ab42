"""What a driver's call costs on a real wire, beside the bare exchange of the same bytes.

The load cell's emulator runs in a process of its own, on a pseudo-terminal and a TCP port. One
reading is one exchange (``w``, answered by a value). References: pyserial or pyvisa alone, which
block; and the same blocking exchange handed to a thread and awaited, which is the least that any
driver pays that keeps blocking libraries off its event loop. The kinds alternate, so that a noisy
moment meets them all.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyvisa
import serial

from cellbench.transport.address import open_stream
from cellbench_drivers.loadstar import Loadstar

sys.path.append(str(Path(__file__).parents[1]))
from tests.serving import served

_REQUEST = b"w\r"
_WARM_UP = 20
_ROUND = 10
Exchange = Callable[[], bytes]


def calls(count: int) -> list[dict[str, Any]]:
    """Compare `count` readings of each kind, by the median."""
    with served() as bench:
        addresses = bench["addresses"]
        host, port = addresses["load cell"][0].removeprefix("tcp://").split(":")
        socket = f"TCPIP::{host}::{port}::SOCKET"
        ways = {f"pyvisa-py, {socket.partition('::')[0]} socket": (f"visa:{socket}", _pyvisa)}
        if sys.platform != "win32":
            ways["pyserial, pseudo-terminal"] = (addresses["load cell"][1], _pyserial)
        return [
            {"wire": name} | _compared(address, bare, count)
            for name, (address, bare) in ways.items()
        ]


def _pyserial(address: str) -> tuple[Exchange, Callable[[], None]]:
    port = serial.Serial(address, 230400, timeout=1.0)

    def exchange() -> bytes:
        port.write(_REQUEST)
        return port.read_until(b"\n")

    return exchange, port.close


def _pyvisa(address: str) -> tuple[Exchange, Callable[[], None]]:
    resource: Any = pyvisa.ResourceManager("@py").open_resource(address.removeprefix("visa:"))
    resource.read_termination, resource.write_termination = "\n", ""

    def exchange() -> bytes:
        resource.write_raw(_REQUEST)
        line: bytes = resource.read_raw()
        return line

    return exchange, resource.close


def _compared(
    address: str, bare: Callable[[str], tuple[Exchange, Callable[[], None]]], count: int
) -> dict[str, Any]:
    """Medians of the three kinds, some readings of each in turn; one host at a time."""
    bare_s: list[float] = []
    hop_s: list[float] = []
    driver_s: list[float] = []
    rounds = max(1, count // (_ROUND * 10))
    for _ in range(rounds):
        exchange, close = bare(address)
        for number in range(_WARM_UP + _ROUND * 10):
            started = time.perf_counter()
            exchange()
            if number >= _WARM_UP:
                bare_s.append(time.perf_counter() - started)
        hop_s += asyncio.run(_hopped(exchange))
        close()
        driver_s += asyncio.run(_driven(address))
    plain, hop, driver = map(statistics.median, (bare_s, hop_s, driver_s))
    return {
        "bare_us": round(plain * 1e6),
        "thread_hop_us": round(hop * 1e6),
        "driver_us": round(driver * 1e6),
        "driver_over_hop": round(driver / hop, 2),
        "promised_below": 1.2,
        "driver_minus_bare_ms": round((driver - plain) * 1e3, 3),
        "promised_at_most_ms": 0.3,
    }


async def _hopped(exchange: Exchange) -> list[float]:
    loop, seconds = asyncio.get_running_loop(), []
    with ThreadPoolExecutor(1) as thread:
        for number in range(_WARM_UP + _ROUND * 10):
            started = time.perf_counter()
            await loop.run_in_executor(thread, exchange)
            if number >= _WARM_UP:
                seconds.append(time.perf_counter() - started)
    return seconds


async def _driven(address: str) -> list[float]:
    gauge = Loadstar("load cell", await open_stream(address, Loadstar.serial), {})
    await gauge.connect()
    seconds = []
    for number in range(_WARM_UP + _ROUND * 10):
        started = time.perf_counter()
        await gauge.read()
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - started)
    await gauge.close()
    return seconds
