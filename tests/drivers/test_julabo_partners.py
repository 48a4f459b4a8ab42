"""The JULABO driver against two simulators that nobody of this project wrote.

``JulaboCF`` of the packages sinstruments and julabo runs in a process of its own, on TCP and on a
pseudo-terminal; the one of labmcp-julabo, which refuses what a circulator refuses, on TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cellbench.errors import InstrumentError
from cellbench.transport.address import open_stream
from cellbench_drivers.julabo import Julabo

_CIRCULATOR = """
import sys
from sinstruments.simulator import Server

transports = [{"type": "tcp", "url": ["127.0.0.1", int(sys.argv[1])]}]
transports += [{"type": "serial", "url": link} for link in sys.argv[2:]]
circulator = {
    "name": "circulator",
    "class": "JulaboCF",
    "package": "julabo.simulator",
    "transports": transports,
    # It is in manual mode until it is told to start, which no circulator in manual mode takes.
    "STATUS": "02 REMOTE STOP",
}
server = Server(devices=[circulator])
server.start()
print("ready", flush=True)
server.serve_forever()
"""


def _until_it_listens(port: int) -> None:
    """Its server says that it has started a little before it listens."""
    deadline_s = time.monotonic() + 20.0
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)


@pytest.fixture
def sinstruments(tmp_path: Path) -> Iterator[list[str]]:
    """Addresses of a JulaboCF: a TCP port, and where there are any, a pseudo-terminal."""
    for package in ("sinstruments", "gevent", "julabo"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    link = tmp_path / "circulator"
    command = [sys.executable, "-W", "ignore", "-c", _CIRCULATOR, str(port), str(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        _until_it_listens(port)
        yield [f"tcp://127.0.0.1:{port}", str(link)]
        server.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="sinstruments needs pseudo-terminals to import")
async def test_a_circulator_of_sinstruments_is_driven_on_tcp_and_serial(
    sinstruments: list[str],
) -> None:
    for address, celsius in zip(sinstruments, (55.5, -12.25), strict=True):
        stream = await open_stream(address, Julabo.serial)
        chamber = Julabo("circulator", stream, {"temperature min": "-20 degC", "watchdog": "20 s"})
        identity = await chamber.connect()
        assert identity.model == "JULABO CRYOCOMPACT CF31"
        assert identity.firmware == "5.0"
        await chamber.set_temperature(celsius + 273.15)
        state = await chamber.read()
        assert state.set_point_K == pytest.approx(celsius + 273.15)
        assert state.temperature_K == pytest.approx(29.45 + 273.15)
        assert state.alarm == ""
        outcome = await chamber.quiet()
        assert outcome.confirmed
        assert outcome.state.startswith("holds")
        await chamber.close()


def _simulator() -> Any:
    """The class of labmcp-julabo; the server framework around it is not needed to run it."""
    pytest.importorskip("labmcp_julabo")
    framework = ModuleType("labmcp")
    framework.__dict__["LineSimulator"] = object
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "labmcp", framework)
        return importlib.import_module("labmcp_julabo.simulator").JulaboSimulator


@asynccontextmanager
async def _served(simulator: Any) -> AsyncIterator[Julabo]:
    connections: list[asyncio.Task[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while True:
                line = (await reader.readuntil(b"\r")).decode()
                if (reply := simulator.handle(line)) is not None:
                    writer.write(f"{reply}\r\n".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    chamber = Julabo(
        "circulator", await open_stream(f"127.0.0.1:{port}"), {"temperature max": "190 degC"}
    )
    try:
        yield chamber
    finally:
        await chamber.close()
        server.close()
        await asyncio.gather(*connections)


@pytest.mark.parametrize("small", [False, True], ids=["MAGIO", "CORIO CD"])
async def test_a_circulator_of_labmcp_warms_to_its_set_point(*, small: bool) -> None:
    simulator = _simulator()(time_scale=600.0, corio_cd=small)
    async with _served(simulator) as chamber:
        identity = await chamber.connect()
        assert identity.model == ("JULABO CORIO CD-200F" if small else "JULABO MAGIO MS-1000F")
        assert not simulator.running
        await chamber.set_temperature(333.15)
        assert simulator.running
        warm = await chamber.read()
        await asyncio.sleep(1.0)
        warmer = await chamber.read()
        assert warm.set_point_K == pytest.approx(333.15)
        assert warm.temperature_K < warmer.temperature_K < 335.0
        assert warmer.alarm == ""
        simulator.raise_alarm("-01 LOW LEVEL ALARM")
        assert (await chamber.read()).alarm == "low level (-01 LOW LEVEL ALARM)"
        assert not (await chamber.quiet()).confirmed


async def test_a_circulator_of_labmcp_refuses_what_it_refuses() -> None:
    simulator = _simulator()()
    async with _served(simulator) as chamber:
        simulator.handle("nonsense")  # of another host, before us
        await chamber.connect()
        with pytest.raises(InstrumentError, match="its own temperature limits"):
            await chamber.set_temperature(453.15)
        simulator.range_c = (0.0, 50.0)
        with pytest.raises(InstrumentError, match="too large"):
            await chamber.set_temperature(333.15)
        simulator.remote = False
        with pytest.raises(InstrumentError, match="set it to remote"):
            await chamber.set_temperature(303.15)
        assert not simulator.running
