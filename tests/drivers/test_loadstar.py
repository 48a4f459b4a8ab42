"""The load-cell driver against scripted exchanges: the golden lines of the manual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.instruments.roles import Gauge
from cellbench.transport import pipe
from cellbench_drivers.loadstar import Loadstar

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]

Exchange = tuple[bytes, "Answer"]
READY: list[Exchange] = [(b"\r", b"A\r\n"), (b"\r", b"A\r\n")]
KILOGRAMS: list[Exchange] = [
    *READY,
    (b"model\r", b"DI-1000U\r\n"),
    (b"id\r", b"F230A\r\n"),
    (b"unit\r", b"Kg\r\n"),
    (b"lc\r", b"2000\r\n"),
]


def read(scripted: Scripted, *exchanges: Exchange) -> GaugeReading:
    async def scenario() -> GaugeReading:
        async with scripted(*KILOGRAMS, *exchanges) as instrument:
            gauge = Loadstar("load cell", instrument.stream, {})
            await gauge.connect()
            return await gauge.read()

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_gauge() -> None:
    assert isinstance(Loadstar("load cell", pipe()[0], {}), Gauge)


def test_connecting_asks_for_model_serial_unit_and_capacity(scripted: Scripted) -> None:
    async def scenario() -> tuple[Identity, float]:
        async with scripted(*KILOGRAMS) as instrument:
            gauge = Loadstar("load cell", instrument.stream, {})
            identity = await gauge.connect()
            return identity, gauge.capabilities.force_max_N

    identity, force_max_N = run(scenario(), virtual=True)
    assert identity == Identity("Loadstar DI-1000U", "F230A", "")
    assert force_max_N == pytest.approx(19613.3)


def test_a_stream_of_readings_is_ended_when_connecting(scripted: Scripted) -> None:
    streaming: list[Exchange] = [
        (b"\r", [(0.0, b"0.0\r\n0."), (0.05, b"1\r\n0.2\r\nA\r\n")]),
        (b"\r", b"A\n"),
    ]

    async def scenario() -> Identity:
        async with scripted(*streaming, *KILOGRAMS[2:]) as instrument:
            return await Loadstar("load cell", instrument.stream, {}).connect()

    assert run(scenario(), virtual=True).serial == "F230A"


@pytest.mark.parametrize(("unit", "newtons"), [("LB", 4.4482216), ("Kg", 9.80665), ("N", 1.0)])
def test_readings_are_in_newtons_whatever_the_unit(
    scripted: Scripted, unit: str, newtons: float
) -> None:
    exchanges = [*KILOGRAMS, (b"w\r", b"12.345\r\n")]
    exchanges[4] = (b"unit\r", f"{unit}\r\n".encode())

    async def scenario() -> GaugeReading:
        async with scripted(*exchanges) as instrument:
            gauge = Loadstar("load cell", instrument.stream, {})
            await gauge.connect()
            return await gauge.read()

    reading = run(scenario(), virtual=True)
    assert reading.force_N == pytest.approx(12.345 * newtons)
    assert reading.flags == 0


def test_a_reading_at_capacity_is_a_bound_not_a_value(scripted: Scripted) -> None:
    assert read(scripted, (b"w\r", b"2000.0\r\n")).flags == Flag.SATURATED
    assert read(scripted, (b"w\r", b"-2001.0\r\n")).flags == Flag.SATURATED


@pytest.mark.parametrize("garbage", [b"1.2.3\r\n", b"\xff\xfe\r\n", b"nan\r\n", b"E\r\n"])
def test_after_garbage_it_is_asked_again(scripted: Scripted, garbage: bytes) -> None:
    reading = read(scripted, (b"w\r", garbage), *READY, (b"w\r", b"1.0\r\n"))
    assert reading.force_N == pytest.approx(9.80665)


def test_a_late_answer_is_not_taken_for_the_next(scripted: Scripted) -> None:
    late: Exchange = (b"w\r", [(1.05, b"7.0\r\n")])
    reading = read(scripted, late, (b"\r", b"A\r\n"), (b"\r", b"A\r\n"), (b"w\r", b"1.0\r\n"))
    assert reading.force_N == pytest.approx(9.80665)


def test_an_unknown_unit_is_refused(scripted: Scripted) -> None:
    exchanges = [*KILOGRAMS[:4], (b"unit\r", b"psi\r\n")]

    async def scenario() -> None:
        async with scripted(*exchanges) as instrument:
            await Loadstar("load cell", instrument.stream, {}).connect()

    with pytest.raises(InstrumentError, match="psi"):
        run(scenario(), virtual=True)


def test_tare_waits_for_its_answer(scripted: Scripted) -> None:
    async def scenario() -> None:
        async with scripted((b"tare\r", [(1.2, b"Tared\r\n")])) as instrument:
            await Loadstar("load cell", instrument.stream, {}).tare()

    run(scenario(), virtual=True)


def test_a_silent_gauge_is_an_error_and_quiet_says_so() -> None:
    async def scenario() -> Outcome:
        gauge = Loadstar("load cell", pipe()[0], {})
        with pytest.raises(InstrumentError, match="does not answer"):
            await gauge.read()
        return await gauge.quiet()

    assert not run(scenario(), virtual=True).confirmed
