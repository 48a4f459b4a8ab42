"""A VISA session as a byte stream: pyvisa in one worker thread.

It is read only while somebody waits for an answer: an instrument that is addressed to talk (GPIB,
VXI-11, USB) and has nothing to say enters an error (SCPI -420). A VISA read that times out loses
what it had read so far, so that the worker asks for single bytes, except where nothing is lost: a
socket of pyvisa-py. pyvisa-py does not tell that the other end of a socket closed, it is only
silent: where there is a choice, a ``tcp://`` address is better.

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
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pyvisa
from pyvisa.constants import (
    InterfaceType,
    Parity,
    ResourceAttribute,
    SerialTermination,
    StatusCode,
    StopBits,
)
from pyvisa.resources import MessageBasedResource, SerialInstrument

from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream

if TYPE_CHECKING:
    from cellbench.transport.settings import SerialSettings

T = TypeVar("T")

_POLL_MS = 10
_WRITE_MS = 5000
_CHUNK_BYTES = 4096
_ANYTHING = (b"", _CHUNK_BYTES)
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
        self._wanted = _ANYTHING

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
        self._session = _Session(opened, adapter, self, whole=self._backend == "py")
        try:
            await self._session.opened()
        except TransportClosed as error:
            raise TransportClosed(f"{self._name}: {error}") from error

    async def _send(self, data: bytes) -> None:
        if self._session is None:
            raise TransportClosed("not open")
        self._session.orders.put(data)

    async def read_until(self, terminator: bytes, timeout_s: float) -> bytes:
        """Return the bytes up to and including ``terminator``; the worker stops there too."""
        with self._wanting(terminator[-1:], _CHUNK_BYTES):
            return await super().read_until(terminator, timeout_s)

    async def read_exactly(self, count: int, timeout_s: float) -> bytes:
        """Return the next ``count`` bytes."""
        with self._wanting(b"", count):
            return await super().read_exactly(count, timeout_s)

    @contextlib.contextmanager
    def _wanting(self, ends: bytes, most: int) -> Iterator[None]:
        """Tell the worker where a read may stop at once instead of waiting for more."""
        self._wanted = (ends, most)
        try:
            yield
        finally:
            self._wanted = _ANYTHING

    async def _more(self, timeout_s: float) -> float:
        session = self._session
        if session is None:
            return await super()._more(timeout_s)
        ends, most = self._wanted
        session.wanted = (ends, max(1, most - len(self._buffer)) if not ends else most)
        session.waits += 1
        session.awaited = session.waits
        session.orders.put(session.awaited)
        try:
            return await super()._more(timeout_s)
        finally:
            session.awaited = 0


class _Session:
    """One opening of the resource, used by its worker thread alone.

    The worker waits for orders, not for bytes: VISA cannot wait for both, and a request must not
    wait for a look at the line to end. It reads while somebody waits for bytes; until then the
    operating system or the VISA library keeps them.

    Attributes:
        orders: Bytes to be written, numbers of waits for bytes, None to close.
        waits: How often somebody has waited.
        awaited: The number of the wait that goes on, 0 if nobody waits.
        wanted: The byte at which a read may stop, if any, and how many are enough.
    """

    def __init__(
        self,
        resource: MessageBasedResource,
        adapter: MessageBasedResource | None,
        stream: VisaStream,
        *,
        whole: bool,
    ) -> None:
        self.orders: queue.SimpleQueue[bytes | int | None] = queue.SimpleQueue()
        self.waits = self.awaited = 0
        self.wanted = _ANYTHING
        self._resource = resource
        self._adapter = adapter
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        name = resource.resource_name.upper()
        # A read that times out keeps what has come: messages, and sockets of pyvisa-py.
        self._bytewise = "ASRL" in name or adapter is not None or ("SOCKET" in name and not whole)
        self._talks_unasked = "ASRL" in name or "SOCKET" in name
        self._ends = b""
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
        self.orders.put(None)
        await asyncio.to_thread(self._worker.join)

    def _work(self) -> None:
        try:
            # That there may be more than was asked for is no news.
            with self._resource.ignore_warning(StatusCode.success_max_count_read):
                if self._talks_unasked:
                    self._read_some()
                self._hand_over(_finish, self._opened)
                self._follow_orders()
        except (pyvisa.Error, OSError) as error:
            self._hand_over(_fail, (self._opened, TransportClosed(str(error))))
            self._hand_over(self._stream.fail, TransportClosed(str(error)))
        finally:
            for each in (self._resource, self._adapter):
                with contextlib.suppress(pyvisa.Error, OSError):  # it may be gone already
                    if each is not None:
                        each.close()

    def _follow_orders(self) -> None:
        while (order := self.orders.get()) is not None:
            if isinstance(order, bytes):
                # pyvisa-py gives up a write when its thread was kept waiting for so long.
                self._resource.timeout = _WRITE_MS
                self._resource.write_raw(order)
                self._resource.timeout = _POLL_MS
            else:
                self._read_for(order)

    def _read_for(self, wait: int) -> None:
        """Read until something has come, the reader gives up, or there is another order."""
        while wait == self.awaited and not self._read_some():
            if not self.orders.empty():
                self.orders.put(wait)  # after what came meanwhile
                return

    def _read_some(self) -> bool:
        """Hand over what has come; whether anything has."""
        ends, most = self.wanted
        data = self._read_bytes(ends, most) if self._bytewise else self._read_whole(ends, most)
        if data:
            self._hand_over(self._stream.feed, data)
        return bool(data)

    def _read_whole(self, ends: bytes, most: int) -> bytes:
        if ends != self._ends:
            self._ends = ends
            self._resource.read_termination = ends.decode("latin-1") or None
        return self._read(most)

    def _read_bytes(self, ends: bytes, most: int) -> bytes:
        data = self._read(1)
        if not data:
            return data
        self._resource.timeout = 0
        while len(data) < most and not (ends and data.endswith(ends)):
            byte = self._read(1)
            if not byte:
                break
            data += byte
        self._resource.timeout = _POLL_MS
        return data

    def _read(self, count: int) -> bytes:
        # Below pyvisa's own methods, whose settings and warnings cost more than a byte is worth.
        try:
            return self._resource.visalib.read(self._resource.session, count)[0]
        except pyvisa.VisaIOError as error:
            if error.error_code == StatusCode.error_timeout:
                return b""
            raise

    def _hand_over(self, method: Callable[[T], None], argument: T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(method, argument)


def _finish(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_result(None)


def _fail(failed: tuple[asyncio.Future[None], Exception]) -> None:
    opened, error = failed
    if not opened.done():
        opened.set_exception(error)


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
    if "SOCKET" in resource.upper():
        # What has come before a time-out is handed over, not dropped (pyvisa-py).
        opened.set_visa_attribute(ResourceAttribute.suppress_end_enabled, False)
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
