"""Serial ports, on a pseudo-terminal: the real pyserial on a device that the system made up."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from cellbench.errors import TransportClosed, TransportTimeout
from cellbench.transport import SerialSettings
from cellbench.transport.serial_port import open_serial, ports

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals on Windows", allow_module_level=True)

import pty
import tty


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    for end in (ours, theirs):
        try:
            os.close(end)
        except OSError:
            continue


async def test_bytes_go_both_ways(terminal: tuple[int, str]) -> None:
    device, name = terminal
    stream = await open_serial(name, SerialSettings(115200))
    await stream.write(b"w\r")
    assert await asyncio.to_thread(os.read, device, 2) == b"w\r"
    os.write(device, b"12.3")
    with pytest.raises(TransportTimeout):
        await stream.read_until(b"\n", 0.05)
    os.write(device, b"45\r\n")
    assert await stream.read_until(b"\n", 5.0) == b"12.345\r\n"
    await stream.close()


async def test_a_port_has_one_owner_and_can_be_opened_again(terminal: tuple[int, str]) -> None:
    _, name = terminal
    first = await open_serial(name, SerialSettings(9600))
    with pytest.raises(TransportClosed, match=name):
        await open_serial(name, SerialSettings(9600))
    await first.close()
    second = await open_serial(name, SerialSettings(9600))
    await second.close()


async def test_reading_from_a_closed_port_fails_and_no_thread_stays(
    terminal: tuple[int, str],
) -> None:
    _, name = terminal
    stream = await open_serial(name, SerialSettings(9600))
    await stream.close()
    await stream.close()
    with pytest.raises(TransportClosed):
        await stream.read_exactly(1, 1.0)
    assert not [thread for thread in threading.enumerate() if name in thread.name]


async def test_an_unplugged_device_is_noticed(terminal: tuple[int, str]) -> None:
    device, name = terminal
    stream = await open_serial(name, SerialSettings(9600))
    os.close(device)
    with pytest.raises(TransportClosed):
        await stream.read_exactly(1, 5.0)
    await stream.close()


async def test_a_port_that_does_not_exist_is_told_by_name() -> None:
    with pytest.raises(TransportClosed, match="ttyNOTHING"):
        await open_serial("/dev/ttyNOTHING", SerialSettings(9600))


def test_the_ports_of_this_computer_can_be_listed() -> None:
    assert isinstance(ports(), dict)


async def test_a_port_is_opened_again_in_place_and_forgets_what_had_arrived(
    terminal: tuple[int, str],
) -> None:
    device, name = terminal
    stream = await open_serial(name, SerialSettings(9600))
    os.write(device, b"old")
    await stream.read_exactly(1, 5.0)
    await stream.reopen()
    assert len([thread for thread in threading.enumerate() if name in thread.name]) == 1
    await stream.write(b"w\r")
    assert await asyncio.to_thread(os.read, device, 2) == b"w\r"
    os.write(device, b"new")
    assert await stream.read_exactly(3, 5.0) == b"new"
    await stream.close()
    with pytest.raises(TransportClosed, match="closed"):
        await stream.reopen()


async def test_a_port_that_went_away_says_so_when_it_is_opened_again() -> None:
    device, theirs = pty.openpty()
    name = os.ttyname(theirs)
    stream = await open_serial(name, SerialSettings(9600))
    os.close(device)
    os.close(theirs)
    with pytest.raises(TransportClosed):
        await stream.read_exactly(1, 5.0)
    with pytest.raises(TransportClosed, match=name):
        await stream.reopen()
    assert stream.lost
    await stream.close()
