"""The Instron driver against a frame that keeps what it is told, in computer control only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.drivers.line_instrument import LineInstrument

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Outcome, PressState
from cellbench.instruments.roles import Press
from cellbench.transport import pipe
from cellbench_drivers.instron import Instron

SCALE = 100e3
REFUSAL = "Not in the correct control mode to execute that command!"
OPTIONS = {"capacity": "25 kN", "rate max": "1 kN/s"}


class Frame:
    """Values by query; a command ``C4,2,x`` is what ``Q4,2`` answers from then on."""

    def __init__(self, *, refuses_refresh: bool = False) -> None:
        self.values = {
            "Q1": "0", "Q22": "7680", "Q23": "1", "Q300": "2", "Q909": "0", "Q904": "2",
            "Q2,2": "0", "Q4,2": "0.05", "Q86,2": "1", "Q134,2,0": "0.05",
            "Q308,2": str(SCALE), "Q341,2": "78.5",
        }  # fmt: skip
        self.deaf: set[str] = set()
        self._refuses_refresh = refuses_refresh

    def answer(self, line: str) -> str | None:
        if line.startswith("Q"):
            return self.values.get(line, "?")
        if line.startswith("P909,"):
            self.values["Q909"] = line[-1]
            return None
        if self.values["Q909"] != "1" and (line != "C904,0" or self._refuses_refresh):
            return REFUSAL
        if line not in self.deaf:
            self._take(*line[1:].split(","))
        return None

    def _take(self, number: str, *arguments: str) -> None:
        *channel, value = arguments
        self.values[",".join(["Q" + number, *channel])] = value
        if number == "1":
            self.values["Q1"] = {"0": "0", "1": "1", "2": "2", "3": "1"}[value]


def played(
    act: Callable[[Instron, Frame, LineInstrument], Awaitable[Any]],
    frame: Frame | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    async def scenario() -> Any:
        behind = frame or Frame()
        async with LineInstrument(behind.answer) as line:
            press = Instron("press", line.stream, OPTIONS | (options or {}))
            return await act(press, behind, line)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press() -> None:
    assert isinstance(Instron("press", pipe()[0], {}), Press)


def test_connecting_takes_no_control(  # the watchdog's refresh is what goes with polling
) -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> tuple[str, ...]:
        identity = await press.connect()
        assert line.commands("P", "C") == ["C904,0"]
        return identity.remarks

    remarks = played(act)
    assert remarks[0] == "found at 5.000 kN, in stress control"
    assert any("never verified" in remark for remark in remarks)


def test_a_look_tells_force_set_point_and_state_in_newtons() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> list[PressState]:
        states = [await press.read()]
        frame.values |= {"Q1": "1", "Q4,2": "0.08"}
        return [*states, await press.read()]

    still, moving = played(act)
    assert (still.force_N, still.set_point_N, still.at_target) == (5000, 5000, True)
    assert (moving.set_point_N, moving.moving, moving.at_target) == (8000, True, False)
    assert moving.time_s - still.time_s >= 1.0


def test_every_order_goes_in_the_mandatory_sequence_a_second_apart() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> LineInstrument:
        frame.values["Q300"] = "1"
        await press.ramp_to(8000, 500, 9000)
        return line

    line = played(act)
    orders = ["C300,2", "C2,2,3", "C4,2,0.080000000", "C86,2,6.000000000", "C1,1"]
    assert [each for each in line.commands("C") if each != "C904,0"] == orders
    for order in orders:
        at = line.heard.index(order)
        assert line.heard[at - 2 : at + 2] == ["P909,1", "C904,0", order, "P909,0"]
    starts = [
        time_s for heard, time_s in zip(line.heard, line.times_s, strict=True) if heard == "P909,1"
    ]
    assert all(b - a >= 0.999 for a, b in itertools.pairwise(starts))


def test_a_frame_that_holds_is_stopped_before_it_is_started_again() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> list[str]:
        frame.values["Q1"] = "1"
        await press.ramp_to(2000, 500, 9000)
        return line.commands("C1,")

    assert played(act) == ["C1,2", "C1,0", "C1,1"]


@pytest.mark.parametrize(
    ("deaf", "text"),
    [
        ("C4,2,0.080000000", "keeps 0.05 instead of 0.08"),
        ("C300,2", "stays in position control"),
        ("C2,2,3", "keeps waveform 0"),
    ],
)
def test_nothing_moves_where_the_frame_does_not_keep_what_it_is_told(deaf: str, text: str) -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> None:
        frame.values["Q300"] = "1"
        frame.deaf.add(deaf)
        with pytest.raises(InstrumentError, match=text):
            await press.ramp_to(8000, 500, 9000)
        assert not line.commands("C1,")

    played(act)


def test_a_refusal_is_told_and_leaves_the_line_in_step() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> float:
        answer = frame.answer

        def sulk(heard: str) -> str | None:
            return None if heard == "P909,1" else answer(heard)

        line.answer = sulk
        with pytest.raises(InstrumentError, match='refuses "C2,2,3": Not in the correct'):
            await press.ramp_to(8000, 500, 9000)
        line.answer = answer
        return (await press.read()).force_N

    assert played(act) == 5000


def test_a_watchdog_that_needs_no_refresh_is_left_alone_after_its_first_refusal() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> int:
        assert (await press.read()).force_N == 5000
        assert (await press.read()).force_N == 5000
        return line.heard.count("C904,0")

    assert played(act, Frame(refuses_refresh=True)) == 1
    assert played(act, Frame()) == 2


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (3 << 9, "emergency stop"),
        (11 << 9, "oil pressure low"),
        (5 << 9, "status code 5"),
        (7680 | 8, "actuator off"),
        (6 << 9 | 8, "emergency stop, actuator off"),
    ],
)
def test_a_frame_with_an_alarm_does_not_ramp(status: int, text: str) -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> None:
        frame.values["Q22"] = str(status)
        with pytest.raises(InstrumentError, match=f"does not move: {text}"):
            await press.ramp_to(8000, 500, 9000)
        assert not line.commands("P")

    played(act)


def test_release_ramps_to_zero_even_with_hot_oil() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> list[str]:
        frame.values["Q22"] = str(7 << 9)
        await press.release(500)
        return line.commands("C4,", "C86,", "C1,")

    assert played(act) == ["C4,2,0.000000000", "C86,2,10.000000000", "C1,1"]


def test_a_force_that_cannot_be_taken_away_is_told() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> None:
        frame.values["Q22"] = str(7680 | 8)
        with pytest.raises(InstrumentError, match="cannot let go: actuator off"):
            await press.release(500)

    played(act)


def test_quiet_holds_a_ramp_under_way_and_sees_that_the_force_stays() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> tuple[Outcome, list[str]]:
        frame.values |= {"Q1": "1", "Q134,2,0": "0.0412"}
        return await press.quiet(), line.commands("C1,")

    assert played(act) == (Outcome("press", "holds 4.120 kN", confirmed=True), ["C1,2"])


def test_quiet_gives_no_order_to_a_frame_that_holds_already() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> Outcome:
        outcome = await press.quiet()
        assert not line.commands("P")
        return outcome

    assert played(act).confirmed


def test_quiet_says_that_a_position_and_not_the_force_is_kept() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> Outcome:
        frame.values["Q300"] = "1"
        return await press.quiet()

    assert played(act) == Outcome("press", "holds 5.000 kN, but in position control", False)


def test_quiet_of_a_dead_frame_is_unknown_and_in_time() -> None:
    async def scenario() -> Outcome:
        return await Instron("press", pipe()[0], {}).quiet()

    outcome = run(scenario(), virtual=True)
    assert not outcome.confirmed
    assert "force unknown" in outcome.state


def test_compression_may_have_the_other_sign() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> tuple[float, list[str]]:
        frame.values |= {"Q134,2,0": "-0.05", "Q4,2": "-0.05"}
        force_N = (await press.read()).force_N
        await press.ramp_to(8000, 500, 9000)
        return force_N, line.commands("C4,")

    assert played(act, options={"compression": "negative"}) == (5000, ["C4,2,-0.080000000"])


def test_polling_faster_than_the_rig_bears_is_no_option() -> None:
    with pytest.raises(InputError, match="interval"):
        Instron("press", pipe()[0], {"interval": "0.1 s"})


def test_garbage_is_an_error_and_the_next_look_is_sound() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> float:
        frame.values["Q134,2,0"] = "0.0.5"
        with pytest.raises(InstrumentError, match=r'answers "0.0.5" to Q134,2,0'):
            await press.read()
        frame.values["Q134,2,0"] = "0.06"
        return (await press.read()).force_N

    assert played(act) == 6000


def test_a_ramp_that_is_cancelled_leaves_the_frame_under_its_panel() -> None:
    async def act(press: Instron, frame: Frame, line: LineInstrument) -> Outcome:
        ramp = asyncio.create_task(press.ramp_to(8000, 500, 9000))
        await asyncio.sleep(2.5)
        ramp.cancel()
        await asyncio.wait([ramp])
        assert "C1,1" not in line.heard
        assert frame.values["Q909"] == "0"
        return await press.quiet()

    assert played(act).confirmed
