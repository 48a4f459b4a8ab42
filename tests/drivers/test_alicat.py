"""The Alicat driver against a controller that keeps what it is told; lines of the manual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.drivers.line_instrument import LineInstrument

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Flag, Outcome, PressState
from cellbench.instruments.roles import Press
from cellbench.transport import pipe
from cellbench_drivers.alicat import Alicat

#: 10 N for each kPa.
OPTIONS = {"piston area": "0.01 m2", "pressure unit": "kPa", "capacity": "2 kN"}


class Controller:
    """Reaches its set point at once, unless its valves are closed."""

    def __init__(self, pressure: float = 50.0) -> None:
        self.pressure = self.set_point = pressure
        self.words: list[str] = []
        self.controls = 38
        self.lag = 0.0

    def answer(self, line: str) -> str | None:
        if not line.startswith("A"):
            return None
        command = line[1:]
        if command == "R122":
            return f"A   122 = {self.controls}"
        if command == "VE":
            return "A   8v17.0-R23"
        if command.startswith("SR "):
            value, unit = command[3:].split()
            return f"A {value} {unit} kPa/s"
        if command.startswith("S"):
            self.set_point = float(command[1:])
        elif command == "$$H":
            self.words.append("HLD")
        elif command == "$$C":
            self.words.remove("HLD")
        elif command:
            return "?"
        if "HLD" not in self.words:
            self.pressure = self.set_point - self.lag
        return " ".join([f"A {self.pressure:+07.2f} {self.set_point:+07.2f}", *self.words])


def played(
    act: Callable[[Alicat, Controller, LineInstrument], Awaitable[Any]],
    options: dict[str, Any] | None = None,
) -> Any:
    async def scenario() -> Any:
        behind = Controller()
        async with LineInstrument(behind.answer, ends="\r", replies_end="\r") as line:
            press = Alicat("press", line.stream, OPTIONS | (options or {}))
            return await act(press, behind, line)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press() -> None:
    assert isinstance(Alicat("press", pipe()[0], OPTIONS), Press)


def test_without_the_area_of_its_piston_there_is_no_force() -> None:
    with pytest.raises(InputError, match="piston_area: Field required"):
        Alicat("press", pipe()[0], {})


def test_connecting_asks_and_sets_nothing() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> Any:
        identity = await press.connect()
        assert line.heard == ["A", "AR122", "AVE", "A"]
        return identity

    identity = played(act)
    assert identity.firmware == "8v17.0-R23"
    assert identity.remarks[0] == "found at 0.500 kN, by gauge pressure"


def test_the_line_of_the_manual_in_absolute_psi() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> PressState:
        controller.controls = 34
        await press.connect()
        line.answer = lambda _: "A +014.62 +021.89"
        return await press.read()

    options = {"pressure unit": "psi", "atmosphere": "0.9 bar", "efficiency": 0.9}
    state = played(act, options)
    assert state.force_N == pytest.approx((14.62 * 6894.757 - 90e3) * 0.01 * 0.9)
    assert state.set_point_N == pytest.approx((21.89 * 6894.757 - 90e3) * 0.01 * 0.9)
    assert state.moving


def test_a_ramp_is_set_before_the_set_point() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> list[str]:
        await press.ramp_to(1000, 50, 1500)
        assert (await press.read()).at_target
        return line.commands("AS")

    assert played(act) == ["ASR 5 4", "AS100.00"]


def test_a_slow_ramp_is_given_in_minutes_or_hours() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> list[str]:
        await press.ramp_to(1000, 0.5, 1500)
        await press.ramp_to(1000, 0.01, 1500)
        return line.commands("ASR")

    assert played(act) == ["ASR 3 5", "ASR 3.6 6"]


def test_valves_that_were_closed_open_on_the_pressure_that_they_trapped() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> list[str]:
        assert (await press.quiet()).confirmed
        controller.pressure = 47.0
        await press.ramp_to(1000, 50, 1500)
        return line.commands("AS", "A$")

    assert played(act) == ["A$$H", "AS47.00", "A$$C", "ASR 5 4", "AS100.00"]


def test_release_goes_to_the_atmosphere() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> PressState:
        controller.controls = 34
        await press.connect()
        await press.release(50)
        assert line.commands("AS")[-1] == "AS101.33"
        return await press.read()

    state = played(act)
    assert state.force_N == pytest.approx(0.0, abs=0.1)
    assert not state.moving


def test_quiet_traps_the_pressure() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> Outcome:
        controller.lag = 8.0
        outcome = await press.quiet()
        assert "HLD" in controller.words
        state = await press.read()
        assert not state.moving
        assert not state.at_target
        return outcome

    assert played(act) == Outcome("press", "holds 0.420 kN", confirmed=True)


def test_quiet_leaves_a_press_alone_that_was_told_to_let_go() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> list[str]:
        await press.release(50)
        assert (await press.quiet()).confirmed
        return line.commands("A$")

    assert played(act) == []


def test_valves_that_do_not_close_are_told() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> Outcome:
        answer = controller.answer
        line.answer = lambda heard: answer("A" if heard == "A$$H" else heard)
        return await press.quiet()

    outcome = played(act)
    assert not outcome.confirmed
    assert "does not close its valves" in outcome.state


@pytest.mark.parametrize(
    ("word", "text"), [("OPL", "over its pressure limit"), ("EXH", "exhausting")]
)
def test_words_of_status_are_alarms(word: str, text: str) -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> None:
        controller.words = [word, "LCK"]
        with pytest.raises(InstrumentError, match=f"does not move: {text}"):
            await press.ramp_to(1000, 50, 1500)
        assert not line.commands("AS")

    played(act)


def test_a_pressure_over_range_is_a_bound_and_not_a_value() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> int:
        controller.words = ["POV", "TOV"]
        return (await press.read()).flags

    assert played(act) == Flag.SATURATED


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("?", 'refuses "A"'),
        ("B +014.62 +021.89", "to unit A"),
        ("A +014.62", "not pressure and set point"),
        ("A +014.62 +02x.89", "not pressure and set point"),
        ("A +014.70 +025.00 +000.00 +000.00 +000.00 Air", "flow controller"),
    ],
)
def test_what_is_no_answer_is_an_error_and_the_next_look_is_sound(reply: str, text: str) -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> float:
        line.answer = lambda _: reply
        with pytest.raises(InstrumentError, match=text):
            await press.read()
        line.answer = controller.answer
        return (await press.read()).force_N

    assert played(act) == pytest.approx(500)


def test_a_controller_of_flow_is_refused() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> None:
        controller.controls = 37
        with pytest.raises(InstrumentError, match="control point to 34 or 38"):
            await press.connect()

    played(act)


def test_a_set_point_that_is_not_kept_is_an_error() -> None:
    async def act(press: Alicat, controller: Controller, line: LineInstrument) -> None:
        answer = controller.answer
        line.answer = lambda heard: answer("A" if heard.startswith("AS1") else heard)
        with pytest.raises(InstrumentError, match="keeps a set point of 50 instead of 100 kPa"):
            await press.ramp_to(1000, 50, 1500)

    played(act)


def test_quiet_of_a_dead_press_is_unknown() -> None:
    async def scenario() -> Outcome:
        return await Alicat("press", pipe()[0], OPTIONS).quiet()

    assert not run(scenario(), virtual=True).confirmed
