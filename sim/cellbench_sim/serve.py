"""The simulated bench for other people's programs: TCP ports, and pseudo-terminals on POSIX.

Time is the running loop's: real time on an ordinary loop, or a fixed multiple of it on a virtual
loop with a speed. A loop that jumps to whatever is due next would leave no time to other programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from typing import cast

from cellbench.errors import InputError
from cellbench_sim.emulators import Emulator

if sys.platform != "win32":
    from cellbench_sim.emulators.pseudoterminal import PseudoTerminal

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def serve(
    devices: Iterable[Emulator], host: str = LOOPBACK, base_port: int = 0, *, ptys: bool = False
) -> AsyncIterator[dict[str, list[str]]]:
    """Serve the instruments of a bench that is switched on, until the context ends.

    Each instrument has one host at a time, the one that came last; it can come and go. One that
    serves several, as the computer of a cycler does, has one address for all its channels.

    Args:
        devices: The instruments.
        host: Address to listen on; this machine alone unless told otherwise.
        base_port: Port of the first instrument, the others follow; 0 for any that are free.
        ptys: Whether to open pseudo-terminals too.

    Yields:
        Addresses by instrument: ``tcp://host:port``, then the path of its terminal.

    Raises:
        InputError: A port is taken, or pseudo-terminals were asked for on Windows.
    """
    if ptys and sys.platform == "win32":
        raise InputError("Windows has no pseudo-terminals; serve the bench on TCP ports")
    with contextlib.ExitStack() as stack:
        addresses: dict[str, list[str]] = {}
        ports: dict[int, str] = {}
        for device in devices:
            if id(device.at) not in ports:
                port = base_port + len(ports) if base_port else 0
                ports[id(device.at)] = await _listen(device, host, port, stack)
            addresses[device.name] = [ports[id(device.at)]]
            if sys.platform != "win32" and ptys:
                terminal = PseudoTerminal(device)
                stack.callback(terminal.close)
                addresses[device.name].append(terminal.path)
        yield addresses


async def _listen(device: Emulator, host: str, port: int, stack: contextlib.ExitStack) -> str:
    connections: set[asyncio.Transport] = set()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(device.for_new_host(), connections), host, port
        )
    except OSError as error:
        raise InputError(
            f"port {port} of {host} cannot be listened on for the {device.name}: {error.strerror}"
        ) from error
    stack.callback(_hang_up, connections)
    stack.callback(server.close)
    return f"tcp://{host}:{server.sockets[0].getsockname()[1]}"


def _hang_up(connections: set[asyncio.Transport]) -> None:
    for connection in connections:
        connection.abort()


class _Connection(asyncio.Protocol):
    """A program that has connected to one instrument."""

    def __init__(self, device: Emulator, connections: set[asyncio.Transport]) -> None:
        self._device = device
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)
        self._device.attach(self._transport.write, self._transport.close)

    def data_received(self, data: bytes) -> None:
        self._device.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._connections.discard(self._transport)
        self._device.detach(self._transport.write)
