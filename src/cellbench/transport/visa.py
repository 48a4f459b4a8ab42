"""A VISA session as a byte stream: pyvisa in one worker thread.

Byte-oriented resources (TCPIP SOCKET, ASRL) are read all the time. Message-based ones (GPIB,
VXI-11, USB) are read only while somebody waits for an answer: an instrument that is addressed to
talk and has nothing to say enters an error (SCPI -420). A VISA read that times out loses what it
had read so far, so that the worker asks for single bytes where that can happen. pyvisa-py does not
tell that the other end of a socket closed, it is only silent: where there is a choice, a ``tcp://``
address is better.

An instrument behind a Prologix adapter is written as the adapter's resource, a blank, and its own.
pyvisa-py knows the adapter by its board number and cannot keep apart the answers of two instruments
behind one: each adapter has one instrument here, and a number of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pyvisa
from pyvisa.constants import InterfaceType, Parity, SerialTermination, StatusCode, StopBits
from pyvisa.resources import MessageBasedResource, SerialInstrument

from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream

if TYPE_CHECKING:
    from cellbench.transport.settings import SerialSettings

T = TypeVar("T")

_POLL_MS = 10
#: While nobody waits for an answer of a message-based resource, what is to be sent is looked for.
_IDLE_S = 0.002
_CHUNK_BYTES = 4096
_BYTE_ORIENTED = ("SOCKET", "ASRL")
_ADAPTER = re.compile(r"PRLGX-(?:TCPIP|ASRL)(\d*)::.+::INTFC", re.IGNORECASE)
#: How long a Prologix adapter waits for an instrument to talk. pyvisa-py asks it once per answer: a
#: slower one is lost, and a command that follows a read in vain waits for so long.
_ADAPTER_WAIT_MS = 1000
_PARITIES = {"N": Parity.none, "E": Parity.even, "O": Parity.odd}
_STOP_BITS = {1: StopBits.one, 1.5: StopBits.one_and_a_half, 2: StopBits.two}


class VisaStream(Stream):
    """A session made by `open_visa`."""

    def __init__(self, name: str, settings: SerialSettings | None, backend: str) -> None:
        super().__init__()
        self._name, self._settings, self._backend = name, settings, backend
        self._session: _Session | None = None

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for bytes at this moment."""
        return self._waiter is not None

    async def close(self) -> None:
        """Close the session; it can be opened by somebody else once this returns."""
        await super().close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open_anew(self) -> None:
        try:
            opened, adapter = await asyncio.to_thread(
                _open, self._name, self._settings, self._backend
            )
        except (pyvisa.Error, OSError, ValueError) as error:
            raise TransportClosed(f"{self._name}: {error}") from error
        self._session = _Session(opened, adapter, self)
        try:
            await self._session.opened()
        except TransportClosed as error:
            raise TransportClosed(f"{self._name}: {error}") from error

    async def _send(self, data: bytes) -> None:
        if self._session is None:
            raise TransportClosed("not open")
        await self._session.write(data)


class _Session:
    """One opening of the resource, used by its worker thread alone."""

    def __init__(
        self,
        resource: MessageBasedResource,
        adapter: MessageBasedResource | None,
        stream: VisaStream,
    ) -> None:
        self._resource = resource
        self._adapter = adapter
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        name = resource.resource_name.upper()
        self._talks_unasked = any(kind in name for kind in _BYTE_ORIENTED)
        self._count = 1 if self._talks_unasked or adapter is not None else _CHUNK_BYTES
        self._closing = threading.Event()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._worker = threading.Thread(target=self._work, name=f"visa {name}", daemon=True)
        self._worker.start()

    async def opened(self) -> None:
        """Wait for the first read: only then pyvisa-py knows whether a socket is connected.

        Raises:
            TransportClosed: It is not.
        """
        await self._opened

    async def close(self) -> None:
        """Stop the worker, which closes the resource."""
        self._closing.set()
        await asyncio.to_thread(self._worker.join)

    async def write(self, data: bytes) -> None:
        """Have ``data`` written."""
        written = self._loop.create_future()
        self._outgoing.put((data, written))
        await written

    def _work(self) -> None:
        try:
            if self._talks_unasked:
                self._read_some()
            self._hand_over(_finish, self._opened)
            while not self._closing.is_set():
                self._write_all()
                if self._talks_unasked or self._stream.awaited:
                    self._read_some()
                else:
                    self._closing.wait(_IDLE_S)
        except (pyvisa.Error, OSError) as error:
            self._hand_over(_fail, (self._opened, TransportClosed(str(error))))
            self._hand_over(self._stream.fail, TransportClosed(str(error)))
        finally:
            self._refuse_rest()
            for each in (self._resource, self._adapter):
                with contextlib.suppress(pyvisa.Error, OSError):  # it may be gone already
                    if each is not None:
                        each.close()

    def _write_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                data, written = self._outgoing.get_nowait()
                try:
                    self._resource.write_raw(data)
                except (pyvisa.Error, OSError) as error:
                    self._hand_over(_fail, (written, TransportClosed(str(error))))
                    raise
                self._hand_over(_finish, written)

    def _read_some(self) -> None:
        data = bytearray()
        try:
            while len(data) < _CHUNK_BYTES and not (data and self._outgoing.qsize()):
                data += self._read()
                self._resource.timeout = 0 if self._count == 1 else _POLL_MS
        except pyvisa.VisaIOError as error:
            if error.error_code != StatusCode.error_timeout:
                raise
        finally:
            if data:
                self._hand_over(self._stream.feed, bytes(data))
                self._resource.timeout = _POLL_MS

    def _read(self) -> bytes:
        if self._count == 1:
            return self._resource.read_bytes(1)
        return self._resource.read_raw(self._count)

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                _, written = self._outgoing.get_nowait()
                self._hand_over(_fail, (written, TransportClosed("closed")))

    def _hand_over(self, method: Callable[[T], None], argument: T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(method, argument)


def _finish(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)


def _fail(failed: tuple[asyncio.Future[None], Exception]) -> None:
    written, error = failed
    if not written.done():
        written.set_exception(error)


async def open_visa(
    resource: str, settings: SerialSettings | None = None, backend: str = "py"
) -> VisaStream:
    """Open a resource.

    Args:
        resource: e.g. ``TCPIP::192.0.2.7::5025::SOCKET`` or ``ASRL/dev/ttyUSB0::INSTR``; with a
            Prologix adapter ``PRLGX-TCPIP::192.0.2.7::1234::INTFC GPIB::5::INSTR``.
        settings: Settings of the port, for ASRL resources.
        backend: The VISA library, as pyvisa names it after the ``@``.

    Raises:
        TransportClosed: It cannot be opened.
    """
    stream = VisaStream(resource, settings, backend)
    await stream.reopen()
    return stream


def _open(
    names: str, settings: SerialSettings | None, backend: str
) -> tuple[MessageBasedResource, MessageBasedResource | None]:
    adapter_name, _, resource = names.strip().rpartition(" ")
    manager = pyvisa.ResourceManager(f"@{backend}")
    adapter = _open_adapter(manager, adapter_name.strip()) if adapter_name else None
    try:
        opened = _open_resource(manager, resource)
        if adapter is None:  # an adapter's instrument takes its settings from the adapter
            _set(opened, settings)
    except BaseException:
        if adapter is not None:
            adapter.close()
        raise
    return opened, adapter


def _open_adapter(manager: pyvisa.ResourceManager, name: str) -> MessageBasedResource:
    from pyvisa_py.prologix import _PrologixIntfcSession  # noqa: PLC0415 - benches without have it not

    matched = _ADAPTER.fullmatch(name)
    if matched is None:
        raise TransportClosed(f"{name} is no adapter: write PRLGX-TCPIP::host::1234::INTFC")
    board = matched[1] or "0"
    if board in _PrologixIntfcSession.boards:
        raise TransportClosed(
            f"{name}: adapter {board} is open already. Each has one instrument here; number a "
            f"second adapter: PRLGX-TCPIP1::...::INTFC GPIB1::..."
        )
    opened: Any = manager.open_resource(name)
    opened.timeout = _POLL_MS
    opened.write_raw(f"++read_tmo_ms {_ADAPTER_WAIT_MS}\n".encode())
    adapter: MessageBasedResource = opened
    return adapter


def _open_resource(manager: pyvisa.ResourceManager, resource: str) -> MessageBasedResource:
    opened: Any = manager.open_resource(resource)
    if not isinstance(opened, MessageBasedResource):
        opened.close()
        raise TransportClosed(f"{resource}: carries no messages")
    opened.timeout = _POLL_MS
    opened.write_termination = ""
    return opened


def _set(opened: MessageBasedResource, settings: SerialSettings | None) -> None:
    opened.read_termination = None
    if isinstance(opened, SerialInstrument):
        opened.end_input = SerialTermination.none
        if settings is not None:
            _set_port(opened, settings)


def _set_port(port: SerialInstrument, settings: SerialSettings) -> None:
    port.baud_rate = settings.baudrate
    port.data_bits = settings.bytesize
    port.parity = _PARITIES[settings.parity]
    port.stop_bits = _STOP_BITS[settings.stopbits]


def resources(*, network: bool) -> list[str]:
    """Resources on USB and GPIB that pyvisa-py finds; serial ports are found without it.

    Args:
        network: Whether to ask the whole network too (VXI-11 and mDNS broadcasts).
    """
    from pyvisa_py.sessions import Session  # noqa: PLC0415 - it loads every kind of session

    pyvisa.ResourceManager("@py")
    kinds = {InterfaceType.usb, InterfaceType.gpib} | ({InterfaceType.tcpip} if network else set())
    found: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which optional package would find more
        for (kind, _), session in Session.iter_valid_session_classes():
            if kind in kinds:
                found.update(session.list_resources())
    return sorted(found)
