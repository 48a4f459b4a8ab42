"""Every registered driver against its emulator, on a wire on which things go wrong.

Sessions are short: connect, read or run something, quiet, close. At one or two of their exchanges
something happens to the bytes, the connection or the instrument. What comes of it is a typed error
or a recovery, in bounded time; no reading that is accepted is wrong; no cell stays energised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.drivers.bad_wire import BadWire, Kind, Trouble
from tests.drivers.test_conformance import BENCHES

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Flag, Outcome
from cellbench.instruments.registry import load_driver
from cellbench.instruments.techniques import ConstantCurrent
from cellbench.testing import Amounts, DummyCell
from cellbench.transport import Stream
from cellbench_sim.emulators import Emulator, Timebase
from cellbench_sim.emulators.registry import emulator_class
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.physics.fixture import FIXTURES
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

T = TypeVar("T")

#: Not on a wire: a person works the one, a vendor's library speaks for the other.
NO_WIRE = ("manual_press", "biologic")
SETS = [
    (driver, each) for driver, sets in BENCHES.items() if driver not in NO_WIRE for each in sets
]

#: Framing of those that speak Modbus.
MODBUS = {
    "eurotherm": "rtu",
    "load_cell_transmitter-laumas": "rtu",
    "load_cell_transmitter-seneca": "tcp",
    "plc_press": "tcp",
    "rmc75e": "tcp",
}
#: Those whose replies carry a checksum: no flipped bit, no inserted byte gets past it.
CHECKED = frozenset({"eurotherm", "keller", "load_cell_transmitter-laumas"})
#: What no driver of the others could know: a digit that is another digit, and makes sense. Where
#: that happens, readings are not compared with the truth; everything else is demanded all the same.
#: (Of these, TCP's own checksum guards the instruments on Ethernet.)
UNKNOWABLE = frozenset({Kind.FLIPPED, Kind.ANY_BYTES})
#: In binary frames without a checksum every byte belongs to some number.
UNKNOWABLE_BINARY = UNKNOWABLE | {Kind.NOISE}

#: What comes too late, or once more, is an answer to the same question like any other, where
#: replies carry no number of their request: a force may then be one of earlier in the session.
UNKNOWABLE_AGE = frozenset({Kind.LATE, Kind.ECHOED_LATE})
#: What is no failure to recover, by what it says: a person has to act at the instrument.
NEEDS_A_PERSON = {
    # A set point that was lost on its way is missed by the circulator's watchdog (30 s) before the
    # next one is due (option watchdog, 20 s); it stops, and does not start again from the host.
    "julabo-watchdog": "WATCHDOG TIME-OUT",
}

#: Rows that say of themselves that they are not of their time.
_NO_VALUE = Flag.STALE | Flag.MISSING | Flag.LATE
_CALL_S = 400.0
_LOOKS = 5
_PAUSE_S = 1.0
#: By then the latest of late replies has come.
_ALL_IS_IN_S = 10.0
_MINUTE_S = 60.0


@dataclass
class Bench:
    """An instrument that is on, the truth about it, and a wire to it."""

    name: str
    options: Mapping[str, Any]
    kind: Any
    timebase: Timebase
    world: World
    cell: DummyCell
    device: Emulator = field(init=False)
    driver: Any = field(init=False)
    wire: BadWire = field(init=False)

    def __post_init__(self) -> None:
        self.switch_on()

    def switch_on(self) -> None:
        named = {key.replace(" ", "_"): value for key, value in self.options.items()}
        wired = cast("World", self.cell) if self.kind.role == "channel" else self.world
        self.device = emulator_class(self.name).from_bench(
            "instrument", self.timebase, wired, seed=7, options=named
        )

    def reset(self) -> None:
        """Take its power away and give it back: it lets go of the cell, and knows nothing more."""
        old = self.device
        old.hang_up()
        old._fault = old._fault or _SwitchedOff()
        now_s = self.timebase.now()
        self.cell.advance_to(now_s)
        self.cell.open_circuit()
        self.world.advance_to(now_s)
        self.switch_on()

    async def connect(self) -> Stream:
        return self.device.connect()

    def force_N(self) -> float:
        self.world.advance_to(self.timebase.now())
        return self.world.force_N()

    def temperature_K(self) -> float:
        self.world.advance_to(self.timebase.now())
        return self.world.air_temperature_K


class _SwitchedOff(Exception):
    """What keeps an emulator without power from acting."""


@asynccontextmanager
async def bench(name: str, each: str, folder: Path) -> AsyncIterator[Bench]:
    options = {
        key: str(folder) if value == "STEPS" else value
        for key, value in BENCHES[name][each].items()
    }
    timebase = Timebase()
    timebase.start()
    world = World(
        load_preset("LYC_PMMA"),
        seed=7,
        fixture=FIXTURES["servo"],
        chamber=ChamberSettings(set_point_K=298.15),
    )
    made = Bench(name, options, load_driver(name), timebase, world, DummyCell())
    modbus = MODBUS.get(name) or MODBUS.get(f"{name}-{each}")
    made.wire = BadWire(await made.connect(), made.connect, made.reset, modbus)
    made.driver = made.kind("instrument", made.wire, options)
    try:
        yield made
        if made.device._fault is not None:
            raise made.device._fault
    finally:
        await made.wire.close()
        timebase.stop()


# --- Sessions -----------------------------------------------------------------------------------


class Session:
    """A short session on a bench; what is wrong is an AssertionError.

    Attributes:
        knowable: Whether readings are compared with the truth.
        errors: What was told.
    """

    def __init__(self, on: Bench, due: Sequence[Trouble] = (), *, knowable: bool = True) -> None:
        self.on = on
        self.knowable = knowable
        self._aged = any(each.kind in UNKNOWABLE_AGE for each in due)
        #: True forces of this session: a press starts with none.
        self._earlier = [0.0]
        self.errors: list[InstrumentError] = []

    async def whole(self) -> None:
        """Connect, work, be quiet."""
        if await self.attempt(self.on.driver.connect) is not None:
            await self.work()
        await self.quiet()

    async def afterwards(self, needs_a_person: str | None) -> None:
        """When nothing more goes wrong: quiet is confirmed, and everything works again."""
        self._aged = False
        self.on.wire.spare()
        self.errors.clear()
        await asyncio.sleep(_ALL_IS_IN_S)
        outcome = await self.quiet()
        if needs_a_person is not None and needs_a_person in outcome.state:
            return
        # A press or chamber may have to be told anew what it was told, and say so until then.
        told_anew = self.on.kind.role in {"press", "chamber"}
        assert outcome.confirmed or told_anew, f"quiet is still not confirmed: {outcome}"
        if await self.attempt(self.on.driver.connect) is None:
            raise AssertionError(f"does not connect any more: {self.errors[-1]}")
        await self.work(again=True)
        assert not self.errors, f"does not recover: {self.errors}"
        outcome = await self.quiet()
        assert outcome.confirmed, f"quiet is still not confirmed: {outcome}"

    async def work(self, *, again: bool = False) -> None:
        """What an instrument of this role does all day, a little of it."""
        await getattr(self, f"_{self.on.kind.role}")(again)

    async def attempt(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return what a call returns, None where it says by a typed error that it failed."""
        try:
            async with asyncio.timeout(_CALL_S):
                return await call()
        except TimeoutError as error:
            raise AssertionError(f"{call} says nothing for {_CALL_S:g} s") from error
        except InstrumentError as error:
            self.errors.append(error)
            return None

    async def quiet(self) -> Outcome:
        outcome: Outcome | None = await self.attempt(self.on.driver.quiet)
        assert outcome is not None, f"quiet raises {self.errors[-1]!r}"
        if outcome.confirmed:
            self._require_safe(outcome)
        return outcome

    def _require_safe(self, outcome: Outcome) -> None:
        match self.on.kind.role:
            case "channel":
                assert not self.on.cell.energised, f"energised after quiet: {outcome}"
            case "switch":
                closed = self._positions_closed()
                assert not closed, f"closed after quiet: {closed}, {outcome}"
            case "press":
                assert not self.on.world.press.moving, f"moves after quiet: {outcome}"

    # --- By role --------------------------------------------------------------------------------

    async def _gauge(self, again: bool) -> None:
        able, press = self.on.driver.capabilities, self.on.world.press
        for look in range(_LOOKS):
            press.ramp_to(0.05 * able.force_max_N * (1 + (look + again) % 4), able.force_max_N)
            while press.moving:
                await asyncio.sleep(_PAUSE_S)
                self.on.force_N()
            before_N = self._force_N()
            reading = await self.attempt(self.on.driver.read)
            if reading is not None and not reading.flags & _NO_VALUE:
                off_N = 0.01 * able.force_max_N + 2 * able.resolution_N
                self._near(reading.force_N, before_N, off_N + abs(self.on.force_N() - before_N))

    async def _press(self, again: bool) -> None:
        able = self.on.driver.capabilities
        force_N = max(2 * able.force_min_N, 0.2 * able.force_max_N) / (1 + again)
        rate = able.rate_max_N_per_s / 2
        driver = self.on.driver
        if again:
            await self.attempt(lambda: driver.release(rate))
            await asyncio.sleep(_MINUTE_S)
        await self.attempt(lambda: driver.ramp_to(force_N, rate, able.force_max_N))
        for _ in range(_LOOKS):
            before_N = self._force_N()
            state = await self.attempt(driver.read)
            if state is not None:
                off_N = 0.02 * able.force_max_N + abs(self.on.force_N() - before_N)
                self._near(state.force_N, before_N, off_N)
            await asyncio.sleep(_PAUSE_S)
        most_N = 1.1 * force_N + 0.02 * able.force_max_N
        if not again and self.knowable:
            assert self.on.force_N() <= most_N, f"{self.on.force_N():g} N, told {force_N:g} N"

    async def _chamber(self, again: bool) -> None:
        driver = self.on.driver
        before_K, target_K = 298.15, 303.15 + 2 * again
        told = await self.attempt(partial(_done, driver.set_temperature, target_K))
        for _ in range(_LOOKS):
            state = await self.attempt(driver.read)
            if state is not None:
                self._near(state.temperature_K, self.on.temperature_K(), 1.5)
                known = {target_K} if told else {target_K, before_K, state.set_point_K * again}
                if Kind.RESET in self.on.wire.struck and state.set_point_K:
                    known.add(state.set_point_K)
                assert not self.knowable or any(
                    abs(state.set_point_K - each) < 0.11 for each in known
                ), f"shows a set point of {state.set_point_K:g} K, told {target_K:g} K"
            await asyncio.sleep(5 * _PAUSE_S)

    def _positions_closed(self) -> set[str]:
        return {name for name, is_on in cast("Any", self.on.device).positions.items() if is_on}

    async def _switch(self, again: bool) -> None:
        del again
        driver = self.on.driver
        for position in driver.capabilities.positions:
            if await self.attempt(partial(_done, driver.select, position)):
                closed = self._positions_closed()
                right = closed == {position} or not self.knowable
                assert right, f"{position} selected, closed {closed}"

    async def _channel(self, again: bool) -> None:
        del again
        amounts = Amounts()
        able = self.on.driver.capabilities
        technique = ConstantCurrent(
            current_A=amounts.current_A,
            duration_s=5.0,
            interval_s=max(amounts.interval_s, able.interval_min_s),
        )

        async def runs() -> bool:
            start_V = self.on.cell.terminals()[0]
            async with self.on.driver.run(technique, amounts.limits) as running:
                async for block in running:
                    self._rows(block, running.started_s, start_V)
            return True

        if await self.attempt(runs):
            assert not self.on.cell.energised, "the technique is left, the cell energised"

    def _rows(self, block: Any, started_s: float, start_V: float) -> None:
        """Rows are those of a constant current through the dummy cell, or of a cell at rest."""
        cell, current_A = self.on.cell, Amounts().current_A
        now_s = asyncio.get_running_loop().time()
        rows = zip(
            block.time_s, block.columns["voltage_V"], block.columns["current_A"], block.flags,
            strict=True,
        )  # fmt: skip
        for time_s, voltage_V, found_A, flags in rows:
            if flags & _NO_VALUE or not self.knowable:
                continue
            passed_s = time_s - started_s
            assert -1.0 <= passed_s <= now_s + 1.0 - started_s, f"a row of {passed_s:g} s"
            expected_V = start_V + current_A * (passed_s / cell.capacitance_F + cell.resistance_ohm)
            driven = (
                abs(found_A - current_A) < 0.05 * current_A and abs(voltage_V - expected_V) < 0.03
            )
            resting = abs(found_A) < 0.05 * current_A and (
                abs(voltage_V - start_V) < 0.03 or abs(voltage_V - expected_V) < 0.13
            )
            assert driven or resting, (
                f"{voltage_V:g} V, {found_A:g} A after {passed_s:g} s, expected {expected_V:g} V"
            )

    def _force_N(self) -> float:
        """The force, which a late answer may tell later on."""
        self._earlier.append(self.on.force_N())
        return self._earlier[-1]

    def _near(self, found: float, true: float, off: float) -> None:
        possible = [*self._earlier, true] if self._aged else [true]
        near = any(abs(found - each) <= off for each in possible)
        assert near or not self.knowable, f"shows {found:g}, it is {true:g}"


async def _done(call: Callable[..., Awaitable[None]], *arguments: Any) -> bool:
    await call(*arguments)
    return True


# --- Properties ---------------------------------------------------------------------------------

_NOISE = st.binary(min_size=1, max_size=6).map(lambda data: bytes(0x80 | byte for byte in data))


def troubles() -> st.SearchStrategy[list[Trouble]]:
    def of(kind: Kind) -> st.SearchStrategy[Trouble]:
        return st.builds(
            Trouble,
            st.just(kind),
            st.floats(0, 1),
            st.floats(0, 1),
            st.floats(0.01, 8.0),
            st.binary(min_size=1, max_size=6) if kind is Kind.ANY_BYTES else _NOISE,
        )

    return st.lists(st.sampled_from(Kind).flatmap(of), min_size=1, max_size=2)


_messages: dict[tuple[str, str], int] = {}


def messages_of(name: str, each: str, folder: Path) -> int:
    """Return how many messages a session has on a good wire."""

    async def story() -> int:
        async with bench(name, each, folder) as on:
            session = Session(on)
            await session.whole()
            assert not session.errors
            return on.wire.sent

    if (name, each) not in _messages:
        _messages[name, each] = run(story(), virtual=True)
    return _messages[name, each]


def _unknowable(name: str, each: str) -> frozenset[Kind]:
    if CHECKED.intersection({name, f"{name}-{each}"}):
        return frozenset()
    binary = {name, f"{name}-{each}"} & MODBUS.keys()
    return UNKNOWABLE_BINARY if binary else UNKNOWABLE


def carry_out(name: str, each: str, folder: Path, due: Sequence[Trouble]) -> None:
    """Have a session with these troubles, and another one afterwards, without any."""
    messages = messages_of(name, each, folder)
    unknowable = _unknowable(name, each)
    knowable = not any(trouble.kind in unknowable for trouble in due)

    async def story() -> None:
        async with bench(name, each, folder) as on:
            on.wire.plan(due, messages)
            session = Session(on, due, knowable=knowable)
            await session.whole()
            await session.afterwards(NEEDS_A_PERSON.get(f"{name}-{each}"))

    run(story(), virtual=True)


USUAL = settings(
    max_examples=20,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.long  # what was found once is tried on every Python, below
@pytest.mark.parametrize(("name", "each"), SETS)
@USUAL
@given(due=troubles())
def test_bad_wires(name: str, each: str, tmp_path: Path, due: list[Trouble]) -> None:
    carry_out(name, each, tmp_path, due)


def _trouble(kind: Kind, at: float, delay_s: float = 4.0) -> Trouble:
    return Trouble(kind, at, 0.5, delay_s, bytes([0xFF]))


#: What was found by these tests at first, one of each sort.
FOUND = [
    # The second copy was taken for the answer to the next question, and so on for ever.
    ("alicat", "", [_trouble(Kind.ECHOED_LATE, 0.584)]),
    ("eurotherm", "", [_trouble(Kind.DUPLICATED, 0.729)]),
    ("instron", "", [_trouble(Kind.ECHOED_LATE, 0.867, 0.7)]),
    ("keller", "", [_trouble(Kind.DUPLICATED, 0.603)]),
    ("load_cell_transmitter", "laumas", [_trouble(Kind.DUPLICATED, 0.616)]),
    ("loadstar", "", [_trouble(Kind.DUPLICATED, 0.789)]),
    ("mark10", "", [_trouble(Kind.ECHOED_LATE, 0.655)]),
    # A technique began when its first reading came, however late that was.
    ("maccor", "", [_trouble(Kind.LATE, 0.474)]),
    # Errors without the number of a request were taken for those of the next one.
    ("maccor", "", [_trouble(Kind.REFUSED, 0.988), _trouble(Kind.DISCONNECTED, 0.894)]),
    # Current was read as voltage, or another quantity sourced, after a command that was lost.
    ("keithley", "2450", [_trouble(Kind.REQUEST_LOST, 0.237)]),
    *(("keithley", "2400", [_trouble(Kind.REQUEST_LOST, at / 55)]) for at in range(8, 24)),
    # Where connecting had failed, quiet did not look at all.
    ("neware", "", [_trouble(Kind.REPLY_LOST, 0.058)]),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "each", "due"), FOUND)
def test_what_was_found(name: str, each: str, due: list[Trouble], tmp_path: Path) -> None:
    carry_out(name, each, tmp_path, due)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "each"), SETS)
@settings(USUAL, max_examples=300)
@given(due=troubles())
def test_bad_wires_at_length(name: str, each: str, tmp_path: Path, due: list[Trouble]) -> None:
    carry_out(name, each, tmp_path, due)
