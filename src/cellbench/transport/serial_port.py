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

from cellbench.errors import TransportClosed
from cellbench.transport.settings import SerialSettings
from cellbench.transport.stream import Stream

T = TypeVar("T")

#: The reader looks this often whether the port was closed.
_POLL_S = 0.1
_WRITE_S = 5.0


class SerialStream(Stream):
    """An open port; nobody else can open it meanwhile."""

    def __init__(self, port: serial.Serial) -> None:
        super().__init__()
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"write {port.port}")
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"read {port.port}", daemon=True)
        self._reader.start()

    async def close(self) -> None:
        """Close the port; it can be opened again once this returns."""
        await super().close()
        if not self._closing.is_set():
            self._closing.set()
            await asyncio.to_thread(self._finish)

    async def _send(self, data: bytes) -> None:
        try:
            await self._loop.run_in_executor(self._writer, self._port.write, data)
        except (serial.SerialException, OSError, RuntimeError) as error:
            failure = TransportClosed(str(error))
            self.fail(failure)
            raise failure from error

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except (serial.SerialException, OSError, TypeError) as error:
                # TypeError: pyserial on POSIX when the port vanishes within a read.
                self._hand_over(self.fail, TransportClosed(str(error)))
                return
            if data:
                self._hand_over(self.feed, data)

    def _hand_over(self, method: Callable[[T], None], argument: T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(method, argument)

    def _finish(self) -> None:
        self._reader.join()
        self._writer.shutdown()
        self._port.close()


async def open_serial(port: str, settings: SerialSettings) -> SerialStream:
    """Open a serial port, exclusively.

    Raises:
        TransportClosed: There is no such port, or someone else has it.
    """
    try:
        opened = await asyncio.to_thread(_open, port, settings)
    except (serial.SerialException, OSError, ValueError) as error:
        raise TransportClosed(f"{port}: {error}") from error
    return SerialStream(opened)


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
    """Serial ports of this computer by name, with what their hardware says of itself."""
    return {port.device: port.description or "" for port in list_ports.comports()}
