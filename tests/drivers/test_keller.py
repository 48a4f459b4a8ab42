"""The pressure transmitter's driver: golden frames of the Keller bus, echoes, refusals, garbage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, InstrumentTimeout
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.instruments.roles import Gauge
from cellbench.transport import pipe
from cellbench_drivers.keller import Keller, framed

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]

Exchange = tuple[bytes, "Answer"]


def exchange(request: str, reply: str) -> tuple[bytes, bytes]:
    return bytes.fromhex(request), bytes.fromhex(reply)


def echoing(request: bytes, reply: bytes) -> tuple[bytes, bytes]:
    return request, request + reply


#: The manual's golden frames, to the letter.
WAKE = exchange("01 30 34 00", "01 30 05 14 14 1E 05 01 F4 26")
SERIAL = exchange("01 45 D3 C1", "01 45 00 01 E2 40 95 D4")
READ = exchange("01 49 01 50 D6", "01 49 43 9C 40 00 00 D2 6F")
#: 10 cm2: 312.5 bar are 31.25 kN.
OPTIONS = {"piston_area": "10 cm2", "echo": False}
AREA_M2 = 1e-3


def bar(reading: bytes, status: int = 0) -> bytes:
    return framed(b"\x01\x49" + reading + bytes([status]))


def refusal(function: int, code: int) -> bytes:
    return framed(bytes([1, function | 0x80, code]))


def played(
    scripted: Scripted,
    act: Callable[[Keller], Awaitable[Any]],
    *exchanges: Exchange,
    **options: Any,
) -> Any:
    async def scenario() -> Any:
        async with scripted(*exchanges) as instrument:
            return await act(Keller("oil pressure", instrument.stream, {**OPTIONS, **options}))

    return run(scenario(), virtual=True)


async def connect(gauge: Keller) -> Identity:
    return await gauge.connect()


async def read(gauge: Keller) -> GaugeReading:
    return await gauge.read()


def test_it_plays_the_role_of_a_gauge() -> None:
    assert isinstance(Keller("oil pressure", pipe()[0], OPTIONS), Gauge)


def test_the_piston_must_be_told() -> None:
    with pytest.raises(InputError, match="piston_area"):
        Keller("oil pressure", pipe()[0], {})


def test_an_exception_of_the_manual_is_framed_so() -> None:
    assert framed(bytes.fromhex("01 A0 01")) == bytes.fromhex("01 A0 01 C0 99")


def test_connecting_wakes_it_first_and_tells_who_it_is(scripted: Scripted) -> None:
    identity = played(scripted, connect, WAKE, SERIAL, READ)
    assert (identity.model, identity.serial) == ("Keller 5.20", "123456")
    assert identity.firmware == "20.30"
    assert identity.remarks[0] == "found at 312.500 bar"


def test_the_force_is_that_of_the_oil_on_the_piston(scripted: Scripted) -> None:
    reading = played(scripted, read, READ)
    assert reading.force_N == pytest.approx(312.5e5 * AREA_M2)
    assert reading.flags == 0


def test_the_full_scale_is_that_of_the_transmitter_on_the_piston() -> None:
    gauge = Keller("oil pressure", pipe()[0], {**OPTIONS, "pressure_max": "60 MPa"})
    assert gauge.capabilities.force_max_N == pytest.approx(60e3)


@pytest.mark.parametrize("echo", [True, None])
def test_an_adapter_that_hands_requests_back_is_seen_through(
    scripted: Scripted, *, echo: bool | None
) -> None:
    async def act(gauge: Keller) -> float:
        await gauge.connect()
        return (await gauge.read()).force_N

    exchanges = [echoing(*each) for each in (WAKE, SERIAL, READ, READ)]
    assert played(scripted, act, *exchanges, echo=echo) == pytest.approx(31250)


def test_one_that_does_not_is_found_out_too(scripted: Scripted) -> None:
    assert played(scripted, connect, WAKE, SERIAL, READ, echo=None).serial == "123456"


def test_a_missing_echo_is_told(scripted: Scripted) -> None:
    async def act(gauge: Keller) -> None:
        with pytest.raises(InstrumentError, match="instead of the request's echo"):
            await gauge.read()

    played(scripted, act, READ, READ, echo=True)


def test_noise_in_the_first_exchange_does_not_decide_about_the_echo(scripted: Scripted) -> None:
    noise = (WAKE[0], b"\x00\x30\x05\x14\x14")
    exchanges = [noise, *(echoing(*each) for each in (WAKE, SERIAL, READ))]
    assert played(scripted, connect, *exchanges, echo=None).serial == "123456"


def test_one_that_was_switched_off_meanwhile_is_woken(scripted: Scripted) -> None:
    asleep = (READ[0], refusal(73, 32))
    assert played(scripted, read, asleep, WAKE, READ).force_N == pytest.approx(31250)


@pytest.mark.parametrize(
    ("code", "text"),
    [(1, "illegal function"), (2, "illegal parameter"), (3, "illegal value"), (77, "unknown")],
)
def test_refusals_have_names_and_are_not_repeated(scripted: Scripted, code: int, text: str) -> None:
    async def act(gauge: Keller) -> None:
        with pytest.raises(InstrumentError, match=f"function 73 with code {code}, {text}"):
            await gauge.read()

    played(scripted, act, (READ[0], refusal(73, code)))


@pytest.mark.parametrize(
    "garbage",
    [
        READ[1][:-2] + READ[1][:-3:-1],  # the CRC in Modbus's order
        framed(b"\x02" + READ[1][1:-2]),  # another transmitter
        framed(b"\x01\x4a" + READ[1][2:-2]),  # another function
        b"\xff" * 20,
    ],
)
def test_after_garbage_it_is_asked_again(scripted: Scripted, garbage: bytes) -> None:
    assert played(scripted, read, (READ[0], garbage), READ).force_N == pytest.approx(31250)


def test_a_frame_in_pieces_is_put_together(scripted: Scripted) -> None:
    pieces = [(0.02, READ[1][at : at + 1]) for at in range(len(READ[1]))]
    assert played(scripted, read, (READ[0], pieces)).force_N == pytest.approx(31250)


def test_a_late_reply_is_not_taken_for_the_next(scripted: Scripted) -> None:
    late: Exchange = (READ[0], [(0.32, bar(bytes.fromhex("42 C8 00 00")))])
    assert played(scripted, read, late, READ).force_N == pytest.approx(31250)


def test_a_cancelled_exchange_leaves_the_line_in_step(scripted: Scripted) -> None:
    async def act(gauge: Keller) -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gauge.read(), 0.1)
        return (await gauge.read()).force_N

    late: Exchange = (READ[0], [(0.12, bar(bytes.fromhex("42 C8 00 00")))])
    assert played(scripted, act, late, READ) == pytest.approx(31250)


def test_a_status_or_a_pressure_beyond_full_scale_is_a_bound(scripted: Scripted) -> None:
    flagged = (READ[0], bar(bytes.fromhex("43 9C 40 00"), status=2))
    assert played(scripted, read, flagged).flags == Flag.SATURATED
    assert played(scripted, read, READ, pressure_max="300 kPa").flags == Flag.SATURATED


def test_a_pressure_that_there_is_not_is_no_reading(scripted: Scripted) -> None:
    async def act(gauge: Keller) -> None:
        with pytest.raises(InstrumentError, match="has no pressure on P1"):
            await gauge.read()

    played(scripted, act, (READ[0], bar(bytes.fromhex("7F C0 00 00"), status=2)))


def test_tare_is_kept_by_the_host(scripted: Scripted) -> None:
    async def act(gauge: Keller) -> float:
        await gauge.tare()
        return (await gauge.read()).force_N

    empty = (READ[0], bar(bytes.fromhex("3F 00 00 00")))
    assert played(scripted, act, empty, READ) == pytest.approx(312.0e5 * AREA_M2)


def test_a_doubtful_pressure_is_no_zero(scripted: Scripted) -> None:
    async def act(gauge: Keller) -> None:
        with pytest.raises(InstrumentError, match="status is 0x02"):
            await gauge.tare()

    played(scripted, act, (READ[0], bar(bytes.fromhex("3F 00 00 00"), status=2)))


def test_address_250_reaches_one_whatever_its_own(scripted: Scripted) -> None:
    request = framed(bytes.fromhex("FA 49 01"))
    for answer in (READ[1], framed(b"\xfa" + READ[1][1:-2])):
        reading = played(scripted, read, (request, answer), address=250)
        assert reading.force_N == pytest.approx(31250)


def test_a_silent_transmitter_is_an_error_and_quiet_says_so() -> None:
    async def scenario() -> Outcome:
        gauge = Keller("oil pressure", pipe()[0], OPTIONS)
        with pytest.raises(InstrumentTimeout):
            await gauge.connect()
        return await gauge.quiet()

    assert not run(scenario(), virtual=True).confirmed
