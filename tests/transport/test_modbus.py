"""Modbus exchanges: golden frames, and every way in which a line goes wrong."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    WriteMultipleRegistersRequest,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterRequest,
    WriteSingleRegisterResponse,
)
from pymodbus.server import ModbusTcpServer

from cellbench.clock import run
from cellbench.errors import TransportTimeout
from cellbench.transport import Stream, pipe
from cellbench.transport.modbus import (
    Framing,
    GarbledReply,
    ModbusError,
    ModbusMaster,
    WordOrder,
    float_from,
    float_registers,
)
from cellbench.transport.tcp import open_tcp

READ_PV = bytes.fromhex("01 03 00 01 00 01 D5 CA")
PV_IS_ZERO = bytes.fromhex("01 03 02 00 00 B8 44")


def rtu(text: str) -> bytes:
    data = bytes.fromhex(text)
    return data + FramerRTU.compute_CRC(data).to_bytes(2, "big")


def against(
    framing: Framing,
    device: Callable[[Stream], Awaitable[None]],
    master: Callable[[ModbusMaster], Awaitable[Any]],
) -> Any:
    """What a master gets from a device that acts on the other end of a pipe."""

    async def scenario() -> Any:
        ours, theirs = pipe()
        task = asyncio.create_task(_run(device, theirs))
        result = await master(ModbusMaster(ours, 1, framing))
        await task
        return result

    return run(scenario(), virtual=True)


async def _run(device: Callable[[Stream], Awaitable[None]], end: Stream) -> None:
    await device(end)


async def read_one(master: ModbusMaster) -> list[int]:
    return await master.read_registers(1, 1)


def test_the_golden_read_of_an_rtu_device() -> None:
    async def device(end: Stream) -> None:
        assert await end.read_exactly(8, 1.0) == READ_PV
        await end.write(PV_IS_ZERO)

    assert against("rtu", device, read_one) == [0]


def test_the_golden_write_of_an_rtu_device() -> None:
    frame = bytes.fromhex("01 06 00 02 02 58 28 90")

    async def device(end: Stream) -> None:
        assert await end.read_exactly(8, 1.0) == frame
        await end.write(frame)

    async def write(master: ModbusMaster) -> None:
        await master.write_register(2, 600)

    against("rtu", device, write)


def test_tcp_frames_carry_growing_transaction_numbers() -> None:
    async def device(end: Stream) -> None:
        for number in (1, 2):
            assert await end.read_exactly(12, 1.0) == struct.pack(
                ">HHHBBHH", number, 0, 6, 1, 3, 1, 1
            )
            await end.write(struct.pack(">HHHBBBH", number, 0, 5, 1, 3, 2, 40 + number))

    async def twice(master: ModbusMaster) -> list[int]:
        return await read_one(master) + await read_one(master)

    assert against("tcp", device, twice) == [41, 42]


@given(
    framing=st.sampled_from(["tcp", "rtu"]),
    address=st.integers(0, 0xFFFF),
    values=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=120),
)
def test_frames_are_those_of_pymodbus(framing: Framing, address: int, values: list[int]) -> None:
    framer = (FramerSocket if framing == "tcp" else FramerRTU)(DecodePDU(is_server=False))
    requests: list[ModbusPDU] = [
        ReadHoldingRegistersRequest(address=address, count=len(values)),
        WriteMultipleRegistersRequest(address=address, registers=values),
        WriteSingleRegisterRequest(address=address, registers=values[:1]),
    ]
    replies: list[ModbusPDU] = [
        ReadHoldingRegistersResponse(registers=values),
        WriteMultipleRegistersResponse(address=address, count=len(values)),
        WriteSingleRegisterResponse(address=address, registers=values[:1]),
    ]

    async def device(end: Stream) -> None:
        for number, (request, reply) in enumerate(zip(requests, replies, strict=True), 1):
            for pdu in (request, reply):
                pdu.dev_id, pdu.transaction_id = 1, number
            frame = framer.buildFrame(request)
            assert await end.read_exactly(len(frame), 1.0) == frame
            await end.write(framer.buildFrame(reply))

    async def all_three(master: ModbusMaster) -> list[int]:
        registers = await master.read_registers(address, len(values))
        await master.write_registers(address, values)
        await master.write_register(address, values[0])
        return registers

    assert against(framing, device, all_three) == values


def test_a_reply_in_single_bytes_is_put_together() -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(8, 1.0)
        for byte in PV_IS_ZERO:
            await end.write(bytes([byte]))
            await asyncio.sleep(0.01)

    assert against("rtu", device, read_one) == [0]


@pytest.mark.parametrize(
    "garbage",
    [
        bytes.fromhex("01 03 02 00 00 B8 45"),  # checksum
        bytes.fromhex("02 03 02 00 00 FC 44"),  # another device
        rtu("01 06 00 02 02 58"),  # another function
        b"\x00" * 20,
    ],
)
def test_a_read_is_repeated_once_after_garbage(garbage: bytes) -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(8, 5.0)
        await end.write(garbage)
        await end.read_exactly(8, 5.0)
        await end.write(PV_IS_ZERO)

    assert against("rtu", device, read_one) == [0]


def test_garbage_twice_is_an_error() -> None:
    async def device(end: Stream) -> None:
        for _ in range(2):
            await end.read_exactly(12, 5.0)
            await end.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(GarbledReply, match="garbled reply 48 54"):
        against("tcp", device, read_one)


def test_a_write_is_never_repeated() -> None:
    heard = []

    async def device(end: Stream) -> None:
        heard.append(await end.read_exactly(13 + 2, 5.0))
        with pytest.raises(TransportTimeout):
            await end.read_exactly(1, 30.0)

    async def write(master: ModbusMaster) -> None:
        with pytest.raises(TransportTimeout):
            await master.write_registers(100, [3])

    against("tcp", device, write)
    assert len(heard) == 1


def test_a_late_reply_is_not_taken_for_the_next() -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(8, 1.0)
        await asyncio.sleep(1.01)
        await end.write(rtu("01 03 02 00 07"))
        await end.read_exactly(8, 5.0)
        await end.write(rtu("01 03 02 00 08"))

    assert against("rtu", device, read_one) == [8]


def test_a_late_tcp_reply_is_told_by_its_number() -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(12, 1.0)
        await end.read_exactly(12, 5.0)
        await end.write(struct.pack(">HHHBBBH", 1, 0, 5, 1, 3, 2, 7))
        await end.write(struct.pack(">HHHBBBH", 2, 0, 5, 1, 3, 2, 8))

    assert against("tcp", device, read_one) == [8]


def test_a_cancelled_exchange_leaves_the_line_in_step() -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(8, 1.0)
        await asyncio.sleep(0.22)
        await end.write(rtu("01 03 02 00 07"))
        await end.read_exactly(8, 5.0)
        await end.write(rtu("01 03 02 00 08"))

    async def cancelled(master: ModbusMaster) -> list[int]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_one(master), 0.2)
        return await read_one(master)

    assert against("rtu", device, cancelled) == [8]


def test_a_refusal_is_told_in_words_and_not_repeated() -> None:
    async def device(end: Stream) -> None:
        await end.read_exactly(8, 1.0)
        await end.write(rtu("01 83 02"))

    async def refused(master: ModbusMaster) -> int:
        with pytest.raises(ModbusError, match="exception 2, no such register") as caught:
            await read_one(master)
        return caught.value.code

    assert against("rtu", device, refused) == 2


def test_two_tasks_take_turns() -> None:
    async def device(end: Stream) -> None:
        for value in (5, 6):
            await end.read_exactly(8, 1.0)
            await asyncio.sleep(0.1)
            await end.write(rtu(f"01 03 02 00 0{value}"))

    async def both(master: ModbusMaster) -> list[list[int]]:
        return list(await asyncio.gather(read_one(master), read_one(master)))

    assert against("rtu", device, both) == [[5], [6]]


@pytest.mark.parametrize("order", ["lsw first", "msw first"])
@given(value=st.floats(width=32, allow_nan=False))
def test_floats_survive_in_either_word_order(order: WordOrder, value: float) -> None:
    assert float_from(float_registers(value, order), order) == value


def test_floats_have_the_golden_words() -> None:
    assert float_registers(123.5, "lsw first") == [0, 17143]
    assert float_registers(123.5, "msw first") == [17143, 0]


async def test_it_works_with_a_server_that_is_not_ours() -> None:
    block = ModbusSequentialDataBlock(1, list(range(200)))  # type: ignore[no-untyped-call]
    context = ModbusServerContext(devices=ModbusDeviceContext(hr=block), single=True)
    server = ModbusTcpServer(context, address=("127.0.0.1", 0))
    await server.listen()
    listening: Any = server.transport
    port = listening.sockets[0].getsockname()[1]
    try:
        stream = await open_tcp("127.0.0.1", port)
        master = ModbusMaster(stream, 1, "tcp")
        assert await master.read_registers(10, 3) == [10, 11, 12]
        await master.write_registers(101, float_registers(123.5, "lsw first"))
        await master.write_register(100, 3)
        assert await master.read_registers(100, 3) == [3, 0, 17143]
        with pytest.raises(ModbusError, match="no such register"):
            await master.read_registers(5000, 1)
        await stream.close()
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
