"""Load-cell transmitters: registers of the manual, word orders, tares, pymodbus's own server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.framer import FramerRTU
from pymodbus.server import ModbusTcpServer

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, InstrumentTimeout
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.instruments.roles import Gauge
from cellbench.transport import pipe
from cellbench.transport.tcp import open_tcp
from cellbench_drivers.load_cell_transmitter import LoadCellTransmitter

if TYPE_CHECKING:
    from tests.drivers.conftest import RegisterBank, ScriptedInstrument

    Bank = type[RegisterBank]

LAUMAS = {"profile": "laumas_tlb4", "capacity": "20 kN"}
SENECA = {"profile": "seneca_z_sg", "capacity": "20 kN", "force unit": "N"}
CUSTOM = {
    "profile": "custom",
    "weight register": 40101,
    "weight type": "float32",
    "word order": "lsw first",
    "force unit": "kN",
}
KILOGRAM_N = 9.80665


def words(kind: str, value: float) -> list[int]:
    """High word first."""
    data = struct.pack(f">{kind}", value)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def show(bank: RegisterBank, register: int, values: list[int]) -> None:
    bank.registers.update({register - 40001 + at: value for at, value in enumerate(values)})


def played(
    register_bank: Bank,
    act: Callable[[LoadCellTransmitter, RegisterBank], Awaitable[Any]],
    options: dict[str, Any],
    framing: str = "rtu",
) -> Any:
    async def scenario() -> Any:
        async with register_bank(framing) as bank:
            show(bank, 40001, [17, 4])
            show(bank, 40010, words("i", 500))
            show(bank, 40064, words("f", 1234.5))
            show(bank, 40101, words("f", 1.5)[::-1])
            gauge = LoadCellTransmitter("load cell", bank.stream, {**options, "framing": framing})
            return await act(gauge, bank)

    return run(scenario(), virtual=True)


async def read(gauge: LoadCellTransmitter, bank: RegisterBank) -> GaugeReading:
    return await gauge.read()


async def connect(gauge: LoadCellTransmitter, bank: RegisterBank) -> Identity:
    return await gauge.connect()


def test_it_plays_the_role_of_a_gauge() -> None:
    assert isinstance(LoadCellTransmitter("load cell", pipe()[0], LAUMAS), Gauge)


def test_the_frames_that_read_a_seneca(scripted: type[ScriptedInstrument]) -> None:
    def rtu(text: str) -> bytes:
        data = bytes.fromhex(text)
        return data + FramerRTU.compute_CRC(data).to_bytes(2, "big")

    # 40064 is register 63 on the wire; 1234.5 is 0x449A5000.
    exchange = (rtu("01 03 00 3F 00 02"), rtu("01 03 04 44 9A 50 00"))

    async def scenario() -> float:
        async with scripted(exchange) as instrument:
            gauge = LoadCellTransmitter("load cell", instrument.stream, SENECA)
            return (await gauge.read()).force_N

    assert run(scenario(), virtual=True) == 1234.5


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
@pytest.mark.parametrize(
    ("options", "force_N"),
    [
        (LAUMAS, 500 * KILOGRAM_N),
        ({**LAUMAS, "scale": 0.1}, 50 * KILOGRAM_N),
        (SENECA, 1234.5),
        (CUSTOM, 1500.0),
        ({**SENECA, "compression": "negative"}, -1234.5),
    ],
)
def test_each_profile_reads_its_registers(
    register_bank: Bank, options: dict[str, Any], force_N: float, framing: str
) -> None:
    reading = played(register_bank, read, options, framing)
    assert reading.force_N == pytest.approx(force_N)
    assert reading.flags == 0


@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [("int16", "h", -321), ("uint16", "H", 40000), ("int32", "i", -70000), ("uint32", "I", 70000)],
)
def test_a_map_of_ones_own_has_any_type(
    register_bank: Bank, kind: str, code: str, value: int
) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> float:
        show(bank, 40101, words(code, value))
        return (await gauge.read()).force_N

    options = {**CUSTOM, "weight type": kind, "word order": "msw first", "force unit": "N"}
    assert played(register_bank, act, {**options, "scale": 0.1}) == pytest.approx(value / 10)


def test_an_option_stands_over_its_profile(register_bank: Bank) -> None:
    options = {**LAUMAS, "weight register": 40101, "weight type": "float32"}
    options |= {"word order": "lsw first"}
    assert played(register_bank, read, options).force_N == pytest.approx(1.5 * KILOGRAM_N)


def test_a_map_of_ones_own_must_be_whole() -> None:
    with pytest.raises(InputError, match="needs weight register, weight type and word order"):
        LoadCellTransmitter("load cell", pipe()[0], {"profile": "custom"})
    with pytest.raises(InputError, match="needs the option command register"):
        LoadCellTransmitter("load cell", pipe()[0], {**CUSTOM, "tare command": 7})
    with pytest.raises(InputError, match="profile"):
        LoadCellTransmitter("load cell", pipe()[0], {})


def test_connecting_tells_the_identity_and_writes_nothing(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> Identity:
        identity = await gauge.connect()
        assert not bank.written
        return identity

    identity = played(register_bank, act, LAUMAS)
    assert identity.model == "Laumas TLB4"
    assert identity.remarks[:2] == ("firmware 17, type 4", "found at 4903.3 N")


@pytest.mark.parametrize(
    ("options", "other"),
    [(LAUMAS, "lsw first"), (SENECA, "lsw first"), (CUSTOM, "msw first")],
)
def test_the_wrong_word_order_is_noticed_and_the_other_one_told(
    register_bank: Bank, options: dict[str, Any], other: str
) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match=rf'"{other}"(;| would be|: are its words)'):
            await gauge.connect()
        assert not bank.written

    played(register_bank, act, {**options, "word order": other})


def test_a_small_number_with_its_words_swapped_is_noticed_below_capacity(
    register_bank: Bank,
) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> None:
        show(bank, 40010, [5, 0])
        with pytest.raises(InstrumentError, match="are its words the other way round"):
            await gauge.connect()

    played(register_bank, act, {**LAUMAS, "scale": 0.001})


def test_a_zero_proves_no_word_order_and_that_is_said(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> tuple[str, ...]:
        show(bank, 40010, [0, 0])
        return (await gauge.connect()).remarks

    remarks = played(register_bank, act, LAUMAS)
    assert "zero reads the same in either word order: msw first is not proven" in remarks


def test_a_reading_at_capacity_or_with_a_fault_is_a_bound(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> int:
        show(bank, 40007, [0x0105])
        return (await gauge.read()).flags

    assert played(register_bank, act, {**LAUMAS, "capacity": "4 kN"}) == Flag.SATURATED
    watched = {**LAUMAS, "status register": 40007}
    assert played(register_bank, act, watched) == Flag.SATURATED
    assert played(register_bank, act, {**watched, "fault bits": 0x0002}) == 0


def test_tare_is_one_command_and_is_read_back(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> Any:
        bank.on_write = lambda *_: show(bank, 40010, words("i", -1))
        await gauge.tare()
        return bank.written, (await gauge.read()).force_N

    written, force_N = played(register_bank, act, LAUMAS)
    assert written == [(5, [7])]
    assert force_N == pytest.approx(-KILOGRAM_N)


def test_a_tare_that_does_nothing_is_an_error_and_not_repeated(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> Any:
        with pytest.raises(InstrumentError, match=r"reads 4903\.3 N after it was told to tare"):
            await gauge.tare()
        return bank.written

    assert played(register_bank, act, LAUMAS) == [(5, [7])]


@pytest.mark.parametrize("options", [SENECA, {**LAUMAS, "tare command": 0}])
def test_without_a_command_the_zero_is_kept_by_the_host(
    register_bank: Bank, options: dict[str, Any]
) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> float:
        await gauge.tare()
        assert not bank.written
        return (await gauge.read()).force_N

    assert played(register_bank, act, options) == 0.0


def test_reading_never_writes(register_bank: Bank) -> None:
    async def act(gauge: LoadCellTransmitter, bank: RegisterBank) -> set[int]:
        await gauge.connect()
        for _ in range(20):
            await gauge.read()
        await gauge.quiet()
        return set(bank.functions)

    assert played(register_bank, act, LAUMAS) == {3}


def test_a_silent_transmitter_is_an_error_and_quiet_says_so() -> None:
    async def scenario() -> Outcome:
        gauge = LoadCellTransmitter("load cell", pipe()[0], SENECA)
        with pytest.raises(InstrumentTimeout):
            await gauge.connect()
        return await gauge.quiet()

    assert not run(scenario(), virtual=True).confirmed


async def test_it_works_with_a_server_that_is_not_ours_and_comes_back_with_it() -> None:
    registers = [0] * 200
    registers[63:65] = words("f", 1234.5)
    registers[9:11] = words("i", 500)
    block = ModbusSequentialDataBlock(1, registers)  # type: ignore[no-untyped-call]
    context = ModbusServerContext(devices=ModbusDeviceContext(hr=block), single=True)

    async def listening(port: int) -> tuple[ModbusTcpServer, int]:
        server = ModbusTcpServer(context, address=("127.0.0.1", port))
        await server.listen()
        transport: Any = server.transport
        return server, transport.sockets[0].getsockname()[1]

    server, port = await listening(0)
    try:
        stream = await open_tcp("127.0.0.1", port)
        seneca = LoadCellTransmitter("load cell", stream, {**SENECA, "framing": "tcp"})
        await seneca.connect()
        assert (await seneca.read()).force_N == 1234.5
        await server.shutdown()  # type: ignore[no-untyped-call]
        with pytest.raises(InstrumentError):
            await asyncio.wait_for(seneca.read(), 10.0)
        server, _ = await listening(port)
        assert (await seneca.read()).force_N == 1234.5
        laumas = LoadCellTransmitter("load cell", stream, {**LAUMAS, "framing": "tcp"})
        assert (await laumas.read()).force_N == pytest.approx(500 * KILOGRAM_N)
        await seneca.close()
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
