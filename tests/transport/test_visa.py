"""VISA sessions through pyvisa-py, on a real socket and a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from cellbench.errors import TransportClosed, TransportTimeout
from cellbench.transport import SerialSettings
from cellbench.transport.visa import open_visa

if TYPE_CHECKING:
    from tests.transport.conftest import Serving


async def _answer_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        for piece in (b"KEITHLEY INSTR", b"UMENTS,MODEL 2450", b"\n"):
            writer.write(piece)
            await asyncio.sleep(0.03)


async def test_no_byte_is_lost_when_a_read_times_out_in_the_middle(serving: Serving) -> None:
    async with serving(_answer_in_pieces) as port:
        stream = await open_visa(f"TCPIP::127.0.0.1::{port}::SOCKET")
        for _ in range(3):
            await stream.write(b"*IDN?\n")
            with pytest.raises(TransportTimeout):
                await stream.read_until(b"\n", 0.02)
            reply = await stream.read_until(b"\n", 5.0)
            assert reply == b"KEITHLEY INSTRUMENTS,MODEL 2450\n"
        await stream.close()


async def test_all_bytes_of_a_long_reply_arrive(serving: Serving) -> None:
    sent = bytes(range(256)) * 100

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(sent)
        await reader.read()

    async with serving(serve) as port:
        stream = await open_visa(f"TCPIP::127.0.0.1::{port}::SOCKET")
        await stream.write(b"go\n")
        assert await stream.read_exactly(len(sent), 10.0) == sent
        await stream.close()
        with pytest.raises(TransportClosed):
            await stream.write(b"go\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
async def test_a_serial_resource_is_set_and_used() -> None:
    import pty
    import tty

    device, theirs = pty.openpty()
    tty.setraw(device)
    tty.setraw(theirs)
    stream = await open_visa(f"ASRL{os.ttyname(theirs)}::INSTR", SerialSettings(9600, parity="N"))
    await stream.write(b"\n\x00\xffw\r")
    assert await asyncio.to_thread(os.read, device, 5) == b"\n\x00\xffw\r"
    os.write(device, b"1\n2\r\n\xff")
    assert await stream.read_exactly(6, 5.0) == b"1\n2\r\n\xff"
    await stream.close()
    os.close(device)
    os.close(theirs)


async def test_a_resource_that_is_not_there_is_told_by_name() -> None:
    with pytest.raises(TransportClosed, match=r"TCPIP::127\.0\.0\.1::1::SOCKET"):
        await open_visa("TCPIP::127.0.0.1::1::SOCKET")


async def test_a_session_is_opened_again_in_place(serving: Serving) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper() + b"rest of it")

    async with serving(serve) as port:
        stream = await open_visa(f"TCPIP::127.0.0.1::{port}::SOCKET")
        for _ in range(3):
            await stream.write(b"hello\n")
            assert await stream.read_until(b"\n", 5.0) == b"HELLO\n"
            await stream.reopen()
        await stream.close()
        with pytest.raises(TransportClosed, match="closed"):
            await stream.reopen()
