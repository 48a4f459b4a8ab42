"""The press that a person works, against a person of a few answers and a gauge that follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.capabilities import GaugeCapabilities
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.instruments.roles import ByHand, Press
from cellbench.transport import pipe
from cellbench_drivers.manual_press import ManualPress

AREA_M2 = 7.85e-5
OPTIONS: dict[str, Any] = {"capacity": "5 kN"}


class Gauge:
    """Reads ``force_N``; fails while ``fault`` is set."""

    name = "load cell"
    capabilities = GaugeCapabilities("Gauge", 5e3, 0.5, 0.02)

    def __init__(self) -> None:
        self.force_N = 0.0
        self.fault = ""

    async def connect(self) -> Identity:
        return Identity("Gauge", "", "")

    async def read(self) -> GaugeReading:
        await asyncio.sleep(0.01)
        if self.fault:
            raise InstrumentError(self.name, self.fault)
        return GaugeReading(asyncio.get_running_loop().time(), self.force_N)

    async def tare(self) -> None:
        self.force_N = 0.0

    async def quiet(self) -> Outcome:
        return Outcome(self.name, "reads", confirmed=True)

    async def close(self) -> None:
        pass


class Person:
    """Answers one thing after the other, a minute each; forces set what the gauge reads."""

    def __init__(self, *answers: str | float, gauge: Gauge | None = None) -> None:
        self._answers = list(answers)
        self._gauge = gauge
        self.asked: list[str] = []

    async def ask(self, prompt: str, _choices: Sequence[str] = ()) -> str:
        self.asked.append(prompt)
        await asyncio.sleep(60.0)
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            return answer
        assert self._gauge is not None
        self._gauge.force_N = answer
        return "done"


class Nobody:
    """Is never there."""

    async def ask(self, _prompt: str, _choices: Sequence[str] = ()) -> str:
        await asyncio.sleep(1e9)
        return ""


def played(
    act: Callable[[ManualPress], Awaitable[Any]],
    person: Any,
    gauge: Gauge | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    async def scenario() -> Any:
        press = ManualPress("press", pipe()[0], OPTIONS | (options or {}))
        press.operator, press.gauge, press.stack_area_m2 = person, gauge, AREA_M2
        await press.connect()
        return await act(press)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press_that_a_person_works() -> None:
    press = ManualPress("press", pipe()[0], {})
    assert isinstance(press, Press)
    assert isinstance(press, ByHand)
    assert not press.capabilities.own_loop


def test_with_nobody_to_ask_it_does_not_connect() -> None:
    async def scenario() -> None:
        with pytest.raises(InstrumentError, match="nobody to ask: run it from a terminal"):
            await ManualPress("press", pipe()[0], {}).connect()

    run(scenario(), virtual=True)


def test_the_operator_is_asked_in_pressure_on_the_cell_and_the_unit_of_the_press() -> None:
    gauge = Gauge()
    person = Person(1727.0, gauge=gauge)
    played(lambda press: press.ramp_to(1727.0, 40.0, 4000.0), person, gauge)
    assert person.asked == [
        "Press by hand to 22 MPa on the cell = 1.727 kN, in about 43.17 s, never beyond 4 kN. "
        "Then confirm."
    ]


def test_a_dial_may_show_tonnes_or_the_pressure_of_the_oil() -> None:
    gauge = Gauge()
    person = Person(1961.33, 1961.33, gauge=gauge)
    played(lambda press: press.ramp_to(1961.33, 40.0, 4e3), person, gauge, {"dial": "t"})
    options = {"dial": "bar", "piston area": "10 cm2"}
    played(lambda press: press.ramp_to(1961.33, 40.0, 4e3), person, gauge, options)
    assert "24.99 MPa on the cell = 0.2 t," in person.asked[0]
    assert "24.99 MPa on the cell = 19.61 bar on the dial (1.961 kN)," in person.asked[1]


def test_the_gauge_has_to_agree_for_a_while() -> None:
    gauge = Gauge()

    async def act(press: ManualPress) -> float:
        await press.ramp_to(1000, 40, 4000)
        state = await press.read()
        assert (state.force_N, state.set_point_N, state.at_target) == (1010, 1000, True)
        return asyncio.get_running_loop().time()

    assert played(act, Person(1010.0, gauge=gauge), gauge) == pytest.approx(65, abs=1.5)


def test_a_force_that_is_off_is_asked_for_again_with_what_the_gauge_reads() -> None:
    gauge = Gauge()
    person = Person(800.0, 1010.0, gauge=gauge)
    played(lambda press: press.ramp_to(1000, 40, 4000), person, gauge)
    assert person.asked[1].endswith("load cell reads 0.8 kN: correct it, then confirm.")


def test_without_a_gauge_the_reading_is_typed_with_its_unit() -> None:
    async def act(press: ManualPress) -> list[tuple[float, int]]:
        await press.ramp_to(1000, 40, 4000)
        fresh = await press.read()
        await asyncio.sleep(10)
        stale = await press.read()
        return [(state.force_N, state.flags) for state in (fresh, stale)]

    person = Person("1.01 kN")
    assert played(act, person) == [(1010, 0), (1010, Flag.STALE)]
    assert person.asked[0].endswith("Then type what it shows, like 1 kN:")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("done", "not a number with a unit"),
        ("1.01", "has no unit"),
        ("13 MPa", "what is needed is a force"),
        ("1,01 kN", "decimal comma"),
        ("10.1 kN", "beyond the press, 0 to 5 kN"),
        ("-1 kN", "beyond the press"),
        ("0.8 kN", "It shows 0.8 kN: correct it"),
    ],
)
def test_what_cannot_be_or_is_off_is_asked_again(typed: str, told: str) -> None:
    person = Person(typed, "1010 N")
    played(lambda press: press.ramp_to(1000, 40, 4000), person)
    assert told in person.asked[1]
    assert len(person.asked) == 2


def test_a_dial_of_pressure_is_typed_in_pressure() -> None:
    async def act(press: ManualPress) -> float:
        await press.ramp_to(1000, 40, 4000)
        return (await press.read()).force_N

    person = Person("1 kN", "10.1 bar")
    options = {"dial": "bar", "piston area": "10 cm2"}
    assert played(act, person, options=options) == pytest.approx(1010)
    assert "what is needed is a pressure" in person.asked[1]


def test_release_is_over_when_the_gauge_reads_no_force_confirmed_or_not() -> None:
    gauge = Gauge()
    gauge.force_N = 1000.0

    async def act(press: ManualPress) -> float:
        asyncio.get_running_loop().call_later(20.0, setattr, gauge, "force_N", 1.0)
        await press.release(100.0)
        return asyncio.get_running_loop().time()

    person = Person(gauge=gauge)
    assert played(act, person, gauge) == pytest.approx(20, abs=2)
    assert person.asked[0].startswith("Unload the press by hand to 0 Pa on the cell = 0 kN")
    assert person.asked[0].endswith("load cell reads 1 kN.")


def test_nothing_is_asked_to_release_what_is_not_under_force() -> None:
    person = Person()
    played(lambda press: press.release(100.0), person, Gauge())
    assert not person.asked


def test_a_force_that_is_still_there_after_a_confirmation_is_asked_away_again() -> None:
    gauge = Gauge()
    gauge.force_N = 1000.0
    person = Person(300.0, 0.0, gauge=gauge)
    played(lambda press: press.release(100.0), person, gauge)
    assert "load cell reads 0.3 kN" in person.asked[1]


def test_with_a_dead_gauge_unloading_is_confirmed_by_word() -> None:
    gauge = Gauge()

    async def act(press: ManualPress) -> tuple[float, Outcome]:
        await press.ramp_to(1000, 40, 4000)
        gauge.fault = "does not answer"
        await press.release(100.0)
        return (await press.read()).force_N, await press.quiet()

    person = Person(1000.0, "0 kN", gauge=gauge)
    force_N, outcome = played(act, person, gauge)
    assert force_N == 0
    assert not outcome.confirmed
    assert "(load cell: does not answer.) Then type what it shows" in person.asked[1]


def test_after_a_deadline_it_says_what_force_is_left() -> None:
    gauge = Gauge()
    gauge.force_N = 1727.0

    async def act(press: ManualPress) -> None:
        with pytest.raises(InstrumentError, match=r"nobody has done it in 3 min: .* 1\.727 kN on"):
            await press.release(100.0)

    played(act, Nobody(), gauge, {"patience": "3 min"})


def test_quiet_is_the_press_as_it_was_left_and_only_a_gauge_confirms_it() -> None:
    gauge = Gauge()
    gauge.force_N = 1727.0
    left = played(lambda press: press.quiet(), Nobody(), gauge)
    assert left == Outcome("press", "left as it is, 1.727 kN", confirmed=True)
    assert played(lambda press: press.quiet(), Nobody()) == Outcome(
        "press", "left as it is, 0 N when it was last told", confirmed=False
    )
    gauge.fault = "does not answer"
    assert not played(lambda press: press.quiet(), Nobody(), gauge).confirmed


def test_what_is_out_of_reach_is_not_asked() -> None:
    async def act(press: ManualPress) -> None:
        with pytest.raises(InstrumentError, match="force 6000 is outside 0 to 5000"):
            await press.ramp_to(6000, 40, 9000)

    person = Person()
    played(act, person)
    assert not person.asked


@pytest.mark.parametrize(
    ("options", "text"),
    [({"dial": "bar"}, "needs the .piston area."), ({"dial": "mm"}, "force or pressure, not")],
)
def test_a_dial_that_makes_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ManualPress("press", pipe()[0], options)
