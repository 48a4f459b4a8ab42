"""Addresses of instruments as a bench file writes them, and the streams that they stand for.

=============================  ===================================================================
``tcp://192.0.2.20:502``       a TCP port; ``192.0.2.20:502`` and ``192.0.2.20`` (the driver's
                               usual port) are the same
``COM7``, ``/dev/ttyUSB0``     a serial port
``usb:DI-1000U``               the serial port whose hardware calls itself so: a word of its name,
                               its USB ids (``usb:0483:A1AD``) or its serial number
``visa:ASRL4::INSTR``          a VISA resource, through pyvisa-py; ``visa@ivi:...`` through the
                               installed VISA library
``visa:TCPIP::192.0.2.7::gpib0,5::INSTR``
                               address 5 of the GPIB behind a VXI-11 gateway
``visa:PRLGX-TCPIP::192.0.2.7::1234::INTFC GPIB::5::INSTR``
                               address 5 of the GPIB behind a Prologix adapter: the adapter, a
                               blank, the instrument
=============================  ===================================================================

Serial ports and VISA are imported with the first address that needs them.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cellbench.errors import InputError, InstrumentError, TransportClosed
from cellbench.system import serial_port_name
from cellbench.transport.stream import Stream
from cellbench.transport.tcp import open_tcp

if TYPE_CHECKING:
    from cellbench.transport.settings import SerialSettings

_SERIAL = re.compile(r"COM\d+|/.+|\\\\\.\\.+", re.IGNORECASE)
_VISA = re.compile(r"visa(?:@(\w+))?:(.+)", re.IGNORECASE)
_VISA_SOCKET = re.compile(r"TCPIP\d*::([^:]+)::(\d+)::SOCKET", re.IGNORECASE)
_VISA_SERIAL = re.compile(r"ASRL([^:]+)(?:::INSTR)?", re.IGNORECASE)
_USB = re.compile(r"usb:\s*(.+)", re.IGNORECASE)


async def open_stream(
    address: str, serial: SerialSettings | None = None, tcp_port: int | None = None
) -> Stream:
    """Open the connection that an address stands for.

    Args:
        address: As in the table above.
        serial: Settings of the port, where it is a serial one.
        tcp_port: Port of a TCP address that gives none.

    Raises:
        InputError: It is no address, or lacks a port or settings.
        InstrumentError: Nothing can be reached there; says what is connected instead.
    """
    address = address.strip()
    try:
        if matched := _VISA.fullmatch(address):
            return await _open_visa(matched[2], serial, matched[1] or "py")
        if matched := _USB.fullmatch(address):
            port = await asyncio.to_thread(_port_called, matched[1])
            return await _open_serial(address, port, serial)
        if _SERIAL.fullmatch(address):
            return await _open_serial(address, address, serial)
        return await open_tcp(*host_and_port(address, tcp_port))
    except TransportClosed as error:
        raise InstrumentError(address, f"cannot be opened: {error}") from error


def check_address(
    address: str, serial: SerialSettings | None = None, tcp_port: int | None = None
) -> None:
    """Check how an address is written, without looking for what is there; arguments as above.

    Raises:
        InputError: It is no address, or lacks a port or settings.
    """
    if _USB.fullmatch(address) or _SERIAL.fullmatch(address):
        if serial is None:
            raise InputError(f'"{address}" is a serial port, but this instrument has none')
    elif matched := _VISA.fullmatch(address):
        for resource in matched[2].split():
            _visa_canonical(resource)
    else:
        host_and_port(address, tcp_port)


def host_and_port(address: str, tcp_port: int | None) -> tuple[str, int]:
    """Split a TCP address; ``tcp_port`` is its port where it gives none.

    Raises:
        InputError: It is no address, or lacks a port.
    """
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        port = parts.port or tcp_port
    except ValueError as error:
        raise InputError(f'"{address}" is no address: {error}') from error
    if parts.scheme != "tcp" or not parts.hostname or " " in address:
        raise InputError(f'"{address}" is no address: write tcp://host:port, COM7 or visa:...')
    if port is None:
        raise InputError(f'"{address}" needs a port: write tcp://{parts.hostname}:port')
    return parts.hostname, port


def place_of(address: str, tcp_port: int | None = None) -> str:
    """What an address leads to, the same text for every way to write it.

    ``serial`` and a device, ``tcp`` with an IP address and a port, or ``visa`` and a resource. It
    may have to ask for the address of a host.

    Raises:
        InputError: It is no address.
    """
    address = address.strip()
    if matched := _VISA.fullmatch(address):
        return _visa_place(matched[2])
    if matched := _USB.fullmatch(address):
        try:
            return _serial_place(_port_called(matched[1]))
        except TransportClosed:  # whoever opens it will say so
            return f"serial {address}"
    if _SERIAL.fullmatch(address):
        return _serial_place(address)
    return _tcp_place(*host_and_port(address, tcp_port))


def _serial_place(port: str) -> str:
    return f"serial {serial_port_name(port)}"


def _tcp_place(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:  # whoever connects will say so
        return f"tcp {host.lower()}:{port}"
    # A host has many addresses: the first of its IPv4 ones stands for it.
    numbers = sorted((family != socket.AF_INET, str(where[0])) for family, *_, where in found)
    return f"tcp {numbers[0][1]}:{port}"


def _visa_place(resource: str) -> str:
    if matched := _VISA_SOCKET.fullmatch(resource):
        return _tcp_place(matched[1], int(matched[2]))
    if matched := _VISA_SERIAL.fullmatch(resource):
        named = matched[1]
        return _serial_place(f"COM{named}" if named.isdigit() else named)
    # Behind a Prologix adapter there is one instrument: the adapter stands for it.
    return f"visa {_visa_canonical(resource.split(maxsplit=1)[0])}"


def _visa_canonical(resource: str) -> str:
    from pyvisa import rname  # noqa: PLC0415 - a quarter of a second

    try:
        return rname.to_canonical_name(resource).upper()
    except rname.InvalidResourceName as error:
        raise InputError(f'"visa:{resource}" is no address: {error}') from error


async def _open_serial(address: str, port: str, settings: SerialSettings | None) -> Stream:
    from cellbench.transport import serial_port  # noqa: PLC0415 - TCP benches need no pyserial

    if settings is None:
        raise InputError(f'"{address}" is a serial port, but this instrument has none')
    try:
        return await serial_port.open_serial(port, settings)
    except TransportClosed as error:
        there = await asyncio.to_thread(_ports_text)
        raise TransportClosed(f"{error}. {there}") from error


async def _open_visa(resource: str, settings: SerialSettings | None, backend: str) -> Stream:
    from cellbench.transport.visa import open_visa  # noqa: PLC0415 - a quarter of a second

    return await open_visa(resource, settings, backend)


def _port_called(name: str) -> str:
    from cellbench.transport import serial_port  # noqa: PLC0415 - as above

    ports = serial_port.ports()
    found = [port for port, text in ports.items() if name.lower() in text.lower()]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} serial ports are called {name}" if found else f"no {name} is connected"
    raise TransportClosed(f"{problem}. {_ports_text()}")


def _ports_text() -> str:
    from cellbench.transport import serial_port  # noqa: PLC0415 - as above

    ports = serial_port.ports()
    listed = ", ".join(f"{port} ({text})" for port, text in sorted(ports.items()))
    return f"Serial ports here: {listed or 'none'}"
