"""The Mark-10 driver: readings with and without units, endings, and the stand in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.instruments.roles import Gauge
from cellbench.transport import pipe
from cellbench_drivers.mark10 import Mark10

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]

Exchange = tuple[bytes, "Answer"]


def played(
    scripted: Scripted,
    act: Callable[[Mark10], Awaitable[Any]],
    *exchanges: Exchange,
    **options: Any,
) -> Any:
    async def scenario() -> Any:
        async with scripted(*exchanges) as instrument:
            return await act(Mark10("gauge", instrument.stream, options))

    return run(scenario(), virtual=True)


async def read(gauge: Mark10) -> GaugeReading:
    return await gauge.read()


def test_it_plays_the_role_of_a_gauge() -> None:
    assert isinstance(Mark10("gauge", pipe()[0], {}), Gauge)


@pytest.mark.parametrize(
    ("answer", "newtons"),
    [
        (b"12.345 N", 12.345),
        (b"  -12.5 N  ", -12.5),
        (b"1.25kN", 1250.0),
        (b"250 mN", 0.25),
        (b"10.0 lbF", 44.482216),
        (b"+ 2.000 kgF", 19.6133),
        (b".5 N", 0.5),
    ],
)
def test_readings_are_in_newtons_whatever_the_unit(
    scripted: Scripted, answer: bytes, newtons: float
) -> None:
    reading = played(scripted, read, (b"?\r\n", answer + b"\r\n"))
    assert reading.force_N == pytest.approx(newtons)
    assert reading.flags == 0


def test_a_unit_that_is_not_sent_is_an_option(scripted: Scripted) -> None:
    assert played(scripted, read, (b"?\r\n", b"2.0\r\n"), unit="kN").force_N == 2000.0


def test_a_missing_unit_says_what_would_be_right(scripted: Scripted) -> None:
    async def act(gauge: Mark10) -> None:
        with pytest.raises(InstrumentError, match="without a unit: give the option unit"):
            await gauge.connect()

    played(scripted, act, (b"?\r\n", b"2.0\r\n"))


def test_an_unknown_unit_is_refused(scripted: Scripted) -> None:
    async def act(gauge: Mark10) -> None:
        with pytest.raises(InstrumentError, match='measures in "Nm", which is none of mN, N'):
            await gauge.connect()

    played(scripted, act, (b"?\r\n", b"2.0 Nm\r\n"))
    with pytest.raises(InputError, match="unit"):
        Mark10("gauge", pipe()[0], {"unit": "psi"})


@pytest.mark.parametrize(("option", "ending"), [("CR", b"\r"), ("LF", b"\n"), ("CR LF", b"\r\n")])
def test_endings_are_options(scripted: Scripted, option: str, ending: bytes) -> None:
    options = {"request_ends": option, "reply_ends": option}
    assert played(scripted, read, (b"?" + ending, b"1 N" + ending), **options).force_N == 1.0


def test_through_the_stand_it_is_wrapped(scripted: Scripted) -> None:
    exchange = (b"/?\\\r\n", b"7.5 N\r\n")
    assert played(scripted, read, exchange, through_stand=True).force_N == 7.5


def test_compression_counts_positive_whatever_the_gauge_says(scripted: Scripted) -> None:
    exchange = (b"?\r\n", b"-7.5 N\r\n")
    assert played(scripted, read, exchange, compression="negative").force_N == 7.5


def test_connecting_tells_what_it_reads(scripted: Scripted) -> None:
    async def act(gauge: Mark10) -> Identity:
        return await gauge.connect()

    identity = played(scripted, act, (b"?\r\n", b"1.5 N\r\n"))
    assert identity.remarks == ("found at 1.5 N", "never tried on a gauge of this maker")


def test_tare_is_kept_by_the_host(scripted: Scripted) -> None:
    async def act(gauge: Mark10) -> float:
        await gauge.tare()
        return (await gauge.read()).force_N

    assert played(scripted, act, (b"?\r\n", b"1.5 N\r\n"), (b"?\r\n", b"100.0 N\r\n")) == 98.5


def test_a_reading_at_capacity_is_a_bound_even_with_a_tare(scripted: Scripted) -> None:
    async def act(gauge: Mark10) -> int:
        await gauge.tare()
        return (await gauge.read()).flags

    exchanges = [(b"?\r\n", b"5 N\r\n"), (b"?\r\n", b"100 N\r\n")]
    assert played(scripted, act, *exchanges, capacity="100 N") == Flag.SATURATED


@pytest.mark.parametrize("garbage", [b"*10\r\n", b"1.2.3 N\r\n", b"\xff\xfe\r\n", b"\r\n"])
def test_after_garbage_it_is_asked_again(scripted: Scripted, garbage: bytes) -> None:
    reading = played(scripted, read, (b"?\r\n", garbage), (b"?\r\n", b"1.0 N\r\n"))
    assert reading.force_N == 1.0


def test_a_late_answer_is_not_taken_for_the_next(scripted: Scripted) -> None:
    late: Exchange = (b"?\r\n", [(0.55, b"9.0 N\r\n")])
    assert played(scripted, read, late, (b"?\r\n", b"1.0 N\r\n")).force_N == 1.0


def test_a_silent_gauge_is_an_error_and_quiet_says_so() -> None:
    async def scenario() -> Outcome:
        gauge = Mark10("gauge", pipe()[0], {})
        with pytest.raises(InstrumentError, match="does not answer"):
            await gauge.read()
        return await gauge.quiet()

    assert not run(scenario(), virtual=True).confirmed
