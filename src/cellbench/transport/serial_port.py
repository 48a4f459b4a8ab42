"""A serial port as a byte stream: pyserial, with a thread that reads and one that writes.

pyserial blocks, and asyncio cannot wait for a serial port on Windows. The reader thread hands each
chunk to the event loop as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import serial
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from cellbench.errors import TransportClosed
from cellbench.transport.settings import SerialSettings
from cellbench.transport.stream import Stream

T = TypeVar("T")

#: The reader looks this often whether the port was closed.
_POLL_S = 0.1
_WRITE_S = 5.0


class SerialStream(Stream):
    """A port made by `open_serial`; nobody else can open it meanwhile."""

    def __init__(self, name: str, settings: SerialSettings) -> None:
        super().__init__()
        self._name, self._settings = name, settings
        self._loop = asyncio.get_running_loop()
        self._opened: _OpenPort | None = None

    async def close(self) -> None:
        """Close the port; somebody else can open it once this returns."""
        await super().close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.closing.set()
            await asyncio.to_thread(opened.finish)

    async def _open_anew(self) -> None:
        try:
            port = await asyncio.to_thread(_open, self._name, self._settings)
        except (serial.SerialException, OSError, ValueError) as error:
            raise TransportClosed(f"{self._name}: {error}") from error
        self._opened = _OpenPort(port, self)

    async def _send(self, data: bytes) -> None:
        if self._opened is None:
            raise TransportClosed("not open")
        try:
            await self._loop.run_in_executor(self._opened.writer, self._opened.port.write, data)
        except (serial.SerialException, OSError, RuntimeError) as error:
            failure = TransportClosed(str(error))
            self.fail(failure)
            raise failure from error


class _OpenPort:
    """One opening of the port, with its two threads."""

    def __init__(self, port: serial.Serial, stream: SerialStream) -> None:
        self.port = port
        self.writer = ThreadPoolExecutor(1, thread_name_prefix=f"write {port.port}")
        self.closing = threading.Event()
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._reader = threading.Thread(target=self._read, name=f"read {port.port}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self.closing.is_set():
            try:
                data = self.port.read(max(1, self.port.in_waiting))
            except (serial.SerialException, OSError, TypeError) as error:
                # TypeError: pyserial on POSIX when the port vanishes within a read.
                self._hand_over(self._stream.fail, TransportClosed(str(error)))
                return
            if data:
                self._hand_over(self._stream.feed, data)

    def _hand_over(self, method: Callable[[T], None], argument: T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(method, argument)

    def finish(self) -> None:
        """Wait for the threads and close the port; what they handed over is already on the loop."""
        self._reader.join()
        self.writer.shutdown()
        self.port.close()


async def open_serial(port: str, settings: SerialSettings) -> SerialStream:
    """Open a serial port, exclusively.

    Raises:
        TransportClosed: There is no such port, or someone else has it.
    """
    stream = SerialStream(port, settings)
    await stream.reopen()
    return stream


def _open(port: str, settings: SerialSettings) -> serial.Serial:
    return serial.serial_for_url(
        port,
        baudrate=settings.baudrate,
        bytesize=settings.bytesize,
        parity=settings.parity,
        stopbits=settings.stopbits,
        xonxoff=settings.xonxoff,
        rtscts=settings.rtscts,
        timeout=_POLL_S,
        write_timeout=_WRITE_S,
        exclusive=True,
    )


def ports() -> dict[str, str]:
    """Serial ports of this computer by name, with what their hardware says of itself.

    That is its name, and for USB ``[vendor:product, serial number]``.
    """
    return {port.device: _described(port) for port in list_ports.comports()}


def _described(port: ListPortInfo) -> str:
    named = "" if port.description in {None, "n/a", port.name} else port.description
    if port.vid is None:
        return named
    ids = f"{port.vid:04X}:{port.pid:04X}"
    return f"{named} [{ids}, {port.serial_number}]" if port.serial_number else f"{named} [{ids}]"
