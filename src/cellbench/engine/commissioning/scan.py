"""What is connected to this computer, and which drivers may be for it.

Only what announces itself is listed: serial ports and USB devices are asked nothing, and of hosts
only those that somebody names (and this computer) are tried, a handful of ports each. What another
process has is left alone: some instruments drop whoever they talk to when somebody else connects.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cellbench.bench import LIBRARY, NO_PORT, BenchFile
from cellbench.errors import InputError
from cellbench.instruments.registry import driver_names, load_driver
from cellbench.transport import serial_port, visa
from cellbench.transport.address import host_and_port, place_of
from cellbench.transport.ownership import owner_of

LOOPBACK = "127.0.0.1"
#: Services that lead to instruments without being one.
_GATEWAYS = {
    111: "VXI-11 gateway or instrument (visa:TCPIP::host::inst0::INSTR, ::gpib0,5::INSTR)",
    1234: "Prologix adapter (visa:PRLGX-TCPIP::host::1234::INTFC GPIB::5::INSTR)",
    4880: "HiSLIP instrument (visa:TCPIP::host::hislip0::INSTR)",
}
#: Where ``cellbench sim serve`` puts its instruments.
_SERVED = range(15000, 15008)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]+\]?")
_ANSWERS_WITHIN_S = 1.0


@dataclass(frozen=True)
class Found:
    """Something that could be an instrument.

    Attributes:
        kind: ``serial``, ``visa`` or ``tcp``.
        address: As a bench file writes it.
        what: What it says of itself, or is known for.
        drivers: Drivers that fit, none where nothing tells.
        owner: The process that has it, empty if none.
    """

    kind: str
    address: str
    what: str
    drivers: tuple[str, ...] = ()
    owner: str = ""


async def scan(
    hosts: Iterable[str] = (), benches: Iterable[BenchFile] = (), *, network: bool = False
) -> list[Found]:
    """List serial ports, VISA resources and TCP services.

    Args:
        hosts: Names or addresses of hosts, each with a port if only that one is meant.
        benches: Bench files, whose hosts and ports are tried too.
        network: Whether to ask the whole network for VISA instruments, by broadcast.

    Raises:
        InputError: A host is no host: ranges of addresses are not scanned.
    """
    known = _Known()
    here = [(LOOPBACK, port) for port in known.ports_of(LOOPBACK)]
    places = _named(hosts, known) + _written(benches) + here
    tcp = asyncio.gather(*(_tried(host, port, known) for host, port in dict.fromkeys(places)))
    return [
        *await asyncio.to_thread(_serial_ports, known),
        *await asyncio.to_thread(_visa_resources, known, network),
        *(found for found in await tcp if found is not None),
    ]


class _Known:
    """What the installed drivers say of their instruments' connections."""

    def __init__(self) -> None:
        drivers = {name: load_driver(name) for name in driver_names()}
        self._usb = {name: getattr(driver, "usb", ()) for name, driver in drivers.items()}
        self._ports = {name: driver.tcp_port for name, driver in drivers.items()}

    def on_usb(self, described: str) -> tuple[str, ...]:
        """Drivers whose instruments describe themselves so."""
        text = described.lower()
        return tuple(
            name for name, marks in self._usb.items() if any(mark.lower() in text for mark in marks)
        )

    def on_port(self, port: int) -> tuple[str, ...]:
        """Drivers whose instruments listen on a port."""
        return tuple(name for name, usual in self._ports.items() if usual == port)

    def ports_of(self, host: str) -> list[int]:
        """Ports that are tried on a host."""
        served = _SERVED if host == LOOPBACK else ()
        usual = (port for port in self._ports.values() if port is not None)
        return sorted({*usual, *_GATEWAYS, *served})


def _serial_ports(known: _Known) -> list[Found]:
    return [
        Found("serial", port, text, known.on_usb(text), owner_of(place_of(port)) or "")
        for port, text in sorted(serial_port.ports().items())
    ]


def _visa_resources(known: _Known, network: bool) -> list[Found]:
    found = []
    for resource in visa.resources(network=network):
        address = f"visa:{resource}"
        owner = owner_of(place_of(address)) or ""
        found.append(Found("visa", address, "", known.on_usb(_ids(resource)), owner))
    return found


def _ids(resource: str) -> str:
    """The USB ids of a VISA resource as serial ports have them: 05E6:2450."""
    numbers = re.fullmatch(r"USB\d*::([0-9A-Fx]+)::([0-9A-Fx]+)::.*", resource, re.IGNORECASE)
    if numbers is None:
        return ""
    vendor, product = (int(number, 0) for number in numbers.groups())
    return f"{vendor:04X}:{product:04X}"


def _named(hosts: Iterable[str], known: _Known) -> list[tuple[str, int]]:
    places: list[tuple[str, int]] = []
    for named in hosts:
        host, _, port = named.removeprefix("tcp://").rpartition(":")
        if not (host and port.isdigit()) or ":" in host.strip("[]"):
            host, port = named.removeprefix("tcp://"), ""
        if not _HOST.fullmatch(host):
            raise InputError(f'"{named}" is no host: name them one by one, ranges are not scanned')
        places += [(host, each) for each in ([int(port)] if port else known.ports_of(host))]
    return places


def _written(benches: Iterable[BenchFile]) -> list[tuple[str, int]]:
    places = []
    for bench in benches:
        for entry in bench.instruments.values():
            if entry.port in {NO_PORT, LIBRARY} or entry.is_simulated:
                continue
            if place_of(entry.port, _tcp_port(entry.driver)).startswith("tcp "):
                places.append(host_and_port(entry.port, _tcp_port(entry.driver)))
    return places


def _tcp_port(driver: str) -> int | None:
    # A driver of the laboratory's own is not looked for here.
    return None if ".py:" in driver else load_driver(driver).tcp_port


async def _tried(host: str, port: int, known: _Known) -> Found | None:
    address = f"tcp://{host}:{port}"
    what = _GATEWAYS.get(port, "a simulated bench, served" if port in _SERVED else "")
    owner = await asyncio.to_thread(_owner, address)
    if owner is None and not await _answers(host, port):
        return None
    return Found("tcp", address, what, known.on_port(port), owner or "")


def _owner(address: str) -> str | None:
    return owner_of(place_of(address))


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
