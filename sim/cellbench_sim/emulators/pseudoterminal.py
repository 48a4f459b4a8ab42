"""An emulator behind a pseudo-terminal, which other programs open as a serial port (POSIX only)."""

from __future__ import annotations

import asyncio
import os
import pty
import tty

from cellbench_sim.emulators.device import Emulator

_CHUNK = 4096
#: Output that nobody reads is kept up to here, then lost, as on a port without a listener.
_UNREAD_MAX = 1 << 20


class PseudoTerminal:
    """A pseudo-terminal whose far end is an emulator; must be made in the running loop.

    Attributes:
        path: The device that a program opens, as often as it likes.
    """

    def __init__(self, device: Emulator) -> None:
        self._device = device
        self._loop = asyncio.get_running_loop()
        # The near end stays open here too: the last program to close it must not hang up the line.
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self.path = os.ttyname(self._far)
        self._unread = bytearray()
        self._plugged_in = False
        self._loop.add_reader(self._near, self._on_readable)

    def close(self) -> None:
        """Remove the terminal."""
        self._device.detach(self._write)
        self._loop.remove_reader(self._near)
        self._loop.remove_writer(self._near)
        os.close(self._near)
        os.close(self._far)

    def _on_readable(self) -> None:
        data = os.read(self._near, _CHUNK)
        if not self._plugged_in:
            # A terminal cannot tell who opens it: whoever speaks has the instrument.
            self._device.attach(self._write, self._unplug)
            self._plugged_in = True
        self._device.receive(data)

    def _unplug(self) -> None:
        self._plugged_in = False

    def _write(self, data: bytes) -> None:
        if len(self._unread) + len(data) > _UNREAD_MAX:
            return
        self._unread += data
        self._on_writable()

    def _on_writable(self) -> None:
        try:
            del self._unread[: os.write(self._near, self._unread)]
        except BlockingIOError:
            self._loop.add_writer(self._near, self._on_writable)
            return
        if self._unread:
            self._loop.add_writer(self._near, self._on_writable)
        else:
            self._loop.remove_writer(self._near)
