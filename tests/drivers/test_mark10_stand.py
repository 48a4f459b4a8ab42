"""The stand's driver against a screw on a stiff stack, and a gauge that reads what it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.drivers.line_instrument import LineInstrument

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.instruments.roles import Press
from cellbench.transport import pipe
from cellbench_drivers.mark10_stand import Mark10Stand

OPTIONS: dict[str, Any] = {"capacity": "1.5 kN", "rate max": "100 N/s", "band": "5 N"}
READING = "/?\\"


class Stand:
    """A screw whose travel beyond the touch is a force; it moves 50 N in a second."""

    def __init__(self, force_N: float = 0.0) -> None:
        self.travel_N = force_N
        self.direction = "S"
        self.chatty = False
        self.gauge = "{:.1f} N"
        self.speed_N_per_s = 50.0
        self._since_s = 0.0

    @property
    def force_N(self) -> float:
        now_s = asyncio.get_running_loop().time()
        sign = {"D": 1.0, "U": -1.0, "S": 0.0}[self.direction]
        self.travel_N += sign * self.speed_N_per_s * (now_s - self._since_s)
        self._since_s = now_s
        return max(0.0, self.travel_N)

    def answer(self, line: str) -> str | None:
        force_N = self.force_N
        if line in {READING, "/?C\\"}:
            return self.gauge.format(force_N)
        if line == "p":
            return f"{self.direction}M"
        self.direction = {"d": "D", "u": "U", "s": "S"}.get(line, self.direction)
        return "ok" if self.chatty else None


def played(
    act: Callable[[Mark10Stand, Stand, LineInstrument], Awaitable[Any]],
    options: dict[str, Any] | None = None,
    force_N: float = 0.0,
) -> Any:
    async def scenario() -> Any:
        stand = Stand(force_N)
        async with LineInstrument(stand.answer) as line:
            press = Mark10Stand("press", line.stream, OPTIONS | (options or {}))
            result = await act(press, stand, line)
            await press.close()
            await asyncio.sleep(1.0)
            assert stand.direction == "S", "the stand was left moving"
            return result

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press_without_a_loop_of_its_own() -> None:
    press = Mark10Stand("press", pipe()[0], {})
    assert isinstance(press, Press)
    assert not press.capabilities.own_loop


def test_connecting_moves_nothing_and_says_who_keeps_the_force() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> Identity:
        identity = await press.connect()
        assert line.heard == ["p", READING]
        return identity

    assert "kept by this host alone" in played(act).remarks[0]


def test_a_stand_that_is_found_moving_is_stopped() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> tuple[str, ...]:
        stand.direction = "D"
        return (await press.connect()).remarks

    assert "found moving (D), and stopped" in played(act)


@pytest.mark.parametrize("chatty", [False, True])
def test_the_loop_reaches_a_force_at_the_rate_and_keeps_it(chatty: bool) -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> None:
        stand.chatty = chatty
        await press.ramp_to(300, 10, 400)
        await asyncio.sleep(15)
        assert stand.force_N == pytest.approx(150, abs=25)
        assert (await press.read()).moving
        await asyncio.sleep(25)
        state = await press.read()
        assert state.force_N == pytest.approx(300, abs=15)
        assert not state.moving
        assert state.at_target
        stand.travel_N = 250.0  # the stack gives way
        await asyncio.sleep(10)
        assert stand.force_N == pytest.approx(300, abs=15)
        stand.travel_N = 350.0
        await asyncio.sleep(10)
        assert stand.force_N == pytest.approx(300, abs=15)

    played(act)


def test_the_ramp_begins_where_the_stand_touches_the_stack() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> None:
        await press.ramp_to(300, 10, 400)
        await asyncio.sleep(21)  # 20 s of travel, and one under force
        assert stand.force_N == pytest.approx(15, abs=15)
        await asyncio.sleep(35)
        assert (await press.read()).at_target

    played(act, force_N=-1000.0)


def test_over_force_stops_the_stand_and_is_an_alarm() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> PressState:
        await press.ramp_to(300, 10, 320)
        await asyncio.sleep(40)
        stand.travel_N = 400.0
        await asyncio.sleep(1)
        assert stand.direction == "S"
        with pytest.raises(InstrumentError, match="does not move: press: over-force"):
            await press.ramp_to(200, 10, 320)
        return await press.read()

    assert "over-force: 400 N, and stopped" in played(act).alarm


def test_a_force_that_is_never_reached_is_given_up() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> PressState:
        stand.speed_N_per_s = 0.0
        await press.ramp_to(300, 10, 400)
        await asyncio.sleep(95)
        return await press.read()

    assert "does not get to 300 N (it is at 0 N), and stopped" in played(act).alarm


def test_release_takes_the_force_away_and_stops_there() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> PressState:
        await press.ramp_to(300, 50, 400)
        await asyncio.sleep(20)
        await press.release(50)
        await asyncio.sleep(10)
        assert stand.direction == "S"
        return await press.read()

    state = played(act)
    assert state.force_N <= 3.0
    assert not state.moving


def test_quiet_ends_the_loop_and_sees_that_the_stand_stands() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> Outcome:
        await press.ramp_to(300, 10, 400)
        await asyncio.sleep(10)
        outcome = await press.quiet()
        assert stand.direction == "S"
        heard = len(line.heard)
        await asyncio.sleep(60)
        assert len(line.heard) == heard
        return outcome

    outcome = played(act)
    assert outcome.confirmed
    assert outcome.state.startswith("holds 0.1")


def test_a_stand_that_does_not_stop_is_told() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> Outcome:
        answer = stand.answer
        line.answer = lambda heard: "DM" if heard == "p" else answer(heard)
        return await press.quiet()

    assert played(act) == Outcome("press", "does not stop (D)", confirmed=False)


def test_a_gauge_that_falls_silent_stops_the_stand_and_is_an_alarm() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> str:
        answer = stand.answer
        await press.ramp_to(300, 10, 400)
        await asyncio.sleep(10)
        line.answer = lambda heard: None if heard == READING else answer(heard)
        await asyncio.sleep(5)
        assert stand.direction == "S"
        line.answer = answer
        return (await press.read()).alarm

    assert "does not answer" in played(act)


def test_leaving_in_the_middle_of_a_ramp_stops_the_stand() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> None:
        await press.ramp_to(300, 100, 400)
        await asyncio.sleep(1)
        assert stand.direction == "D"

    played(act)


@pytest.mark.parametrize(
    ("gauge", "newtons"),
    [("{} N", 12.5), ("{:+} lbF", 55.6027), ("{} KGF", 122.583), ("{}", 12500), ("-{} kN", -12500)],
)
def test_readings_have_the_unit_of_the_gauge(gauge: str, newtons: float) -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> float:
        stand.gauge = gauge
        return (await press.read()).force_N

    found = played(act, {"gauge unit": "kN"}, force_N=12.5)
    assert found == pytest.approx(newtons, rel=1e-4)


def test_garbage_of_the_gauge_is_asked_again_and_then_an_error() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> None:
        replies = ["1.2.3 N", "7 N", "7 psi", "7 psi"]
        line.answer = lambda _: replies.pop(0)
        assert (await press.read()).force_N == 7
        with pytest.raises(InstrumentError, match='its gauge answers "7 psi"'):
            await press.read()
        line.answer = stand.answer

    played(act)


def test_what_was_never_verified_is_an_option() -> None:
    async def act(press: Mark10Stand, stand: Stand, line: LineInstrument) -> list[str]:
        stand.gauge = "-{:.1f} N"
        await press.ramp_to(20, 10, 400)
        await asyncio.sleep(1)
        return line.heard

    heard = played(
        act, {"presses": "up", "compression": "negative", "speed command": "e5", "gauge asks": "?C"}
    )
    assert heard[:4] == ["/?C\\", "e5", "/?C\\", "u"]
