"""Addresses of a bench file: what they open, and what is said of those that open nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cellbench.errors import InputError, InstrumentError
from cellbench.transport import SerialSettings, serial_port
from cellbench.transport.address import open_stream

if TYPE_CHECKING:
    from tests.transport.conftest import Serving

SETTINGS = SerialSettings(9600)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await reader.read()


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:{port}",
        "127.0.0.1:{port}",
        " 127.0.0.1 ",
        "visa:TCPIP::127.0.0.1::{port}::SOCKET",
    ],
)
async def test_every_way_to_write_a_tcp_address_reaches_the_instrument(
    address: str, serving: Serving
) -> None:
    async with serving(_echo) as port:
        stream = await open_stream(address.format(port=port), tcp_port=port)
        await stream.write(b"hello\n")
        assert await stream.read_until(b"\n", 5.0) == b"hello\n"
        await stream.close()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://192.0.2.1:80", "is no address"),
        ("192.0.2.1:99999", "is no address"),
        ("[::1", "is no address"),
        ("", "is no address"),
        ("some press", "is no address"),
        ("192.0.2.1", "needs a port"),
        ("COM7", "is a serial port, but this instrument has none"),
    ],
)
async def test_what_is_no_address_is_an_error_of_the_bench_file(address: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        await open_stream(address)


async def test_a_missing_port_says_what_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "ports", lambda: {"COM3": "EmStat4 HR (COM3)"})
    with pytest.raises(InstrumentError, match=r"Serial ports here: COM3 \(EmStat4 HR"):
        await open_stream("/dev/ttyNOTHING", SETTINGS)
    with pytest.raises(InstrumentError, match=r"no DI-1000U is connected.*COM3"):
        await open_stream("usb:DI-1000U", SETTINGS)


async def test_a_name_that_fits_two_ports_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "ports", lambda: {"COM3": "Nexus", "COM4": "Nexus"})
    with pytest.raises(InstrumentError, match="2 serial ports are called nexus"):
        await open_stream("usb:nexus", SETTINGS)


async def test_a_usb_name_finds_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "ports", lambda: {"/dev/ttyNOTHING": "EmStat4"})
    with pytest.raises(InstrumentError, match="could not open port /dev/ttyNOTHING"):
        await open_stream("usb:emstat4", SETTINGS)


async def test_an_instrument_that_is_off_is_an_instrument_error() -> None:
    with pytest.raises(InstrumentError, match=r"127\.0\.0\.1:1: cannot be opened"):
        await open_stream("127.0.0.1:1")


def test_a_tcp_bench_imports_neither_serial_nor_visa() -> None:
    program = (
        "import sys, cellbench.transport.address;"
        "assert not {'serial', 'pyvisa', 'pymodbus'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
