"""Press, gauge and chamber: standing orders that their own loops keep, sampled all the time.

A step sets an order; it stays in force through the steps that follow. Each instrument has one
polling task; a reading is recorded, checked against the limits and shown, whatever step is running.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cellbench.bench import Bench
from cellbench.clock import sleep_until
from cellbench.engine.heart import Heart
from cellbench.engine.journal import Journal
from cellbench.engine.limits import LimitWatch
from cellbench.engine.recorder import Recorder
from cellbench.engine.safe_state import LOOK_INTERVAL_S, UNLOADED_FRACTION, unloaded
from cellbench.engine.steering import Steering
from cellbench.engine.trips import SafeState, StepFailed, Trip
from cellbench.engine.trouble import Trouble, is_cut_off
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import ChamberState, GaugeReading, PressState
from cellbench.instruments.roles import ByHand, Chamber, Operator, Press
from cellbench.protocol.program import PressStep, Settle, TemperatureStep

#: How often press, gauge and chamber are read while a step waits for one of them.
ATTENTIVE_INTERVAL_S = 1.0
#: Readings missed running after which an instrument counts as lost: so old may a value be on which
#: a limit is in force.
LOST_AFTER = 3
#: But a gauge under force is waited for so long, however often it is read: connecting takes time.
LOST_AFTER_S = 10.0
#: A set point within this fraction of full scale, or this temperature, is the one that was given.
_SAME_FORCE, _SAME_K = 2e-3, 0.15
_ZERO_CELSIUS_K = 273.15
#: Two instruments that measure one force may differ by this fraction, plus this much of full scale.
DISAGREEMENT_FRACTION = 0.05
DISAGREEMENT_OF_FULL_SCALE = 0.02
DISAGREEMENT_READINGS = 3
_SETTLE_ROWS_KEPT = 4000
#: Ramp of a press whose protocol names none: full force in this time.
_DEFAULT_RAMP_S = 60.0

#: A stack pressure below this counts as none, and a gauge may be tared.
UNLOADED_PA = 0.2e6
#: After this, a press that was told to release does not.
RELEASE_TIMEOUT_S = 600.0


@dataclass
class _Poll:
    """One instrument that is looked at.

    Attributes:
        quantity: What a limit on it is watched by.
        missed: How often running it did not answer.
        since_s: Loop time of the first of these.
        error: What it said last.
        trouble: What is being done about it, None while all is well.
    """

    name: str
    quantity: str
    read: Callable[[], Awaitable[Any]]
    take: Callable[[Any], None]
    missed: int = 0
    since_s: float = 0.0
    error: InstrumentError | None = None
    trouble: asyncio.Task[None] | None = None


class _Remaining:
    """A time that is to pass, in several parts where it is interrupted."""

    def __init__(self, time_s: float) -> None:
        self._left_s = time_s

    async def pass_by(self) -> None:
        """Let it pass; what of it has passed when this is cancelled does not pass again."""
        now = asyncio.get_running_loop().time
        began_s = now()
        try:
            if self._left_s > 0:
                await asyncio.sleep(self._left_s)
        finally:
            self._left_s -= now() - began_s


class _Noted:
    """An operator whose prompts and answers are entered in the journal."""

    def __init__(self, operator: Operator, journal: Journal) -> None:
        self._operator = operator
        self._journal = journal

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        # Not awaited: a store that fails must not keep anybody from unloading a press.
        self._journal.enter_soon("prompt", text=prompt)
        answer = await self._operator.ask(prompt, choices)
        self._journal.enter_soon("answer", text=answer)
        return answer


class Environment:
    """The standing orders of one run and what is measured of them.

    Args:
        bench: Its press, gauge and chamber, where it has them.
        stack_area_m2: Area that turns force into stack pressure.
        watch: The limits that hold at all times.
        recorder: Where readings go.
        every_s: How often they are taken.
        steering: What is held while the stack is brought back to where it was.
        trouble: Takes care of an instrument that fails.

    Attributes:
        heart: Who hears of each look.
    """

    def __init__(
        self,
        bench: Bench,
        stack_area_m2: float,
        watch: LimitWatch,
        recorder: Recorder,
        every_s: float,
        steering: Steering,
        trouble: Trouble,
    ) -> None:
        self.heart = Heart()
        self._bench = bench
        self._steering = steering
        self._trouble = trouble
        self._area_m2 = stack_area_m2
        self._watch = watch
        self._recorder = recorder
        self._since_start = recorder.journal.since_start
        self._status = recorder.status
        self._every_s = self._interval_s = every_s
        self._press_force_N: float | None = None
        self._disagreements = 0
        self._pressing = False
        #: What the press and the chamber were last told that still holds.
        self._press_order: PressStep | None = None
        self._temperature_order: TemperatureStep | None = None
        #: The press step under way, and whether its order was sent.
        self._press_step: PressStep | None = None
        self._press_told = True
        #: Instruments that were lost, answer again, and are being brought back to where they were.
        self._back: set[str] = set()
        self._recent: dict[str, deque[tuple[float, float]]] = {
            "stack_pressure_Pa": deque(maxlen=_SETTLE_ROWS_KEPT),
            "temperature_K": deque(maxlen=_SETTLE_ROWS_KEPT),
        }
        press = bench.press
        if press is not None:
            trouble.restore[press.name] = self._restore_press
        if bench.chamber is not None:
            trouble.restore[bench.chamber.name] = self._restore_temperature
        if isinstance(press, ByHand):
            press.stack_area_m2 = stack_area_m2
            if press.operator is not None:
                press.operator = _Noted(press.operator, recorder.journal)

    # --- Watching -------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Poll every instrument until cancelled; raises `Trip` when a limit is crossed.

        They are asked one after the other: one that does not answer holds up the others for its
        time-out. After `LOST_AFTER` of them it counts as lost; the others are read on while what
        its policy says is done about it. Where a limit is in force on what it measures, the cell
        goes to open circuit meanwhile; a gauge that is lost while the stack is pressed is a trip.
        """
        polls = self._polls()
        if not polls:
            return
        now = asyncio.get_running_loop().time
        due_s = now()
        try:
            while True:
                for poll in polls:
                    await self._look(poll)
                    self.heart.passed(self._interval_s)
                # Absolute deadlines, so that sampling does not drift; slots missed are left out.
                due_s = max(due_s + self._interval_s, now())
                await sleep_until(due_s)
        finally:
            self.heart.watch_ended()

    def _polls(self) -> list[_Poll]:
        """The press first: a look at it also tells it that the host lives."""
        press, gauge, chamber = self._bench.press, self._bench.gauge, self._bench.chamber
        polls = []
        # A press that is worked by hand measures nothing: the gauge would only be read twice.
        if press is not None and not (gauge is not None and isinstance(press, ByHand)):
            quantity = "" if gauge is not None else "stack_pressure_Pa"
            polls.append(_Poll(press.name, quantity, press.read, self._take_press))
        if gauge is not None:
            polls.append(_Poll(gauge.name, "stack_pressure_Pa", gauge.read, self._take_gauge))
        if chamber is not None:
            polls.append(_Poll(chamber.name, "temperature_K", chamber.read, self._take_chamber))
        return polls

    async def _look(self, poll: _Poll) -> None:
        if self._in_trouble(poll):
            return
        try:
            poll.take(await poll.read())
            poll.missed = 0
        except InstrumentError as error:
            poll.missed, poll.error = poll.missed + 1, error
            if poll.missed == 1:
                poll.since_s = asyncio.get_running_loop().time()
                # Not awaited: the watch goes on while the disk is full.
                self._recorder.journal.enter_soon("warning", text=f"no reading: {error}")
            # A new connection may lead to an instrument that was switched off meanwhile, and has
            # to be told again what connecting tells it; a reading alone would not.
            if poll.missed >= LOST_AFTER or is_cut_off(error):
                self._lost(poll, error)

    def _in_trouble(self, poll: _Poll) -> bool:
        """Whether it is not to be read now; raises `Trip` when nothing more can be done."""
        trouble, error = poll.trouble, poll.error
        if trouble is None or error is None:
            # Somebody else may have found it lost: a step that gives it an order.
            if not self._press_told and poll.take == self._take_press:
                return True
            return self._trouble.is_under_way(poll.name) and poll.name not in self._back
        if not trouble.done():
            poll.missed += 1
            self._lost(poll, error)
            return poll.name not in self._back
        poll.missed, poll.trouble = 0, None
        failure = None if trouble.cancelled() else trouble.exception()
        if isinstance(failure, InstrumentError):
            target = SafeState.RELEASED if self._is_needed(poll) else SafeState.QUIET
            text = str(failure).removeprefix(f"{poll.name}: ")
            raise Trip(poll.name, text, target) from failure
        if failure is not None:
            raise failure
        return False

    def _lost(self, poll: _Poll, error: InstrumentError) -> None:
        """Have something done about an instrument; a limit on what is stale opens the cell."""
        gauge, press = self._bench.gauge, self._bench.press
        stale = poll.missed >= LOST_AFTER
        away_s = asyncio.get_running_loop().time() - poll.since_s
        if stale and away_s >= LOST_AFTER_S and self._is_needed(poll):
            message = f"silent for {LOST_AFTER} readings running ({error})"
            raise Trip(poll.name, message, SafeState.RELEASED) from error
        if press is not None and poll.name == press.name:
            self._press_force_N = None if gauge is not None else self._press_force_N
        blind = stale and self._watch.is_in_force(poll.quantity)
        poll.trouble = self._trouble.begin(error, blind=blind)

    def _is_needed(self, poll: _Poll) -> bool:
        """Whether it is the gauge of a stack that is pressed: nobody waits for that one."""
        gauge, press = self._bench.gauge, self._bench.press
        loaded = press is not None and (self._press_force_N or 0.0) > self._unloaded_N(press)
        return (self._pressing or loaded) and gauge is not None and poll.name == gauge.name

    def _take_press(self, state: PressState) -> None:
        press = self._bench.press
        assert press is not None  # noqa: S101 (it is the one that was read)
        time_s = self._since_start(state.time_s)
        self._recorder.slow(press.name, time_s, state.force_N, None, state.flags)
        self._press_force_N = state.force_N
        if self._bench.gauge is None:
            self._pressure(time_s, state.force_N, state.flags)
        if state.alarm:
            raise Trip(press.name, state.alarm, SafeState.RELEASED)

    def _take_gauge(self, reading: GaugeReading) -> None:
        gauge = self._bench.gauge
        assert gauge is not None  # noqa: S101 (it is the one that was read)
        time_s = self._since_start(reading.time_s)
        self._recorder.slow(gauge.name, time_s, reading.force_N, None, reading.flags)
        self._pressure(time_s, reading.force_N, reading.flags)
        self._compare(reading.force_N, gauge.capabilities.force_max_N)

    def _take_chamber(self, state: ChamberState) -> None:
        chamber = self._bench.chamber
        assert chamber is not None  # noqa: S101 (it is the one that was read)
        time_s = self._since_start(state.time_s)
        self._recorder.slow(chamber.name, time_s, None, state.temperature_K, state.flags)
        self._note("temperature_K", time_s, state.temperature_K)
        self._watch.temperature(state.temperature_K, state.flags)
        self._watch.runaway(time_s, state.temperature_K, state.set_point_K)
        if state.alarm:
            raise Trip(chamber.name, state.alarm)

    def _pressure(self, time_s: float, force_N: float, flags: int) -> None:
        pressure_Pa = force_N / self._area_m2
        self._note("stack_pressure_Pa", time_s, pressure_Pa)
        self._watch.pressure(pressure_Pa, flags)

    def _note(self, name: str, time_s: float, value: float) -> None:
        self._status.reading(name, time_s, value)
        self._recent[name].append((time_s, value))

    def _compare(self, gauge_N: float, full_scale_N: float) -> None:
        """Two instruments see one force: that they agree is part of trusting either."""
        if self._press_force_N is None or self._interval_s < self._every_s:
            return  # while the force moves, two readings apart in time differ
        allowed_N = DISAGREEMENT_FRACTION * abs(gauge_N) + DISAGREEMENT_OF_FULL_SCALE * full_scale_N
        if abs(self._press_force_N - gauge_N) <= allowed_N:
            self._disagreements = 0
            return
        self._disagreements += 1
        if self._disagreements >= DISAGREEMENT_READINGS:
            raise Trip(
                "stack pressure",
                f"the press reads {self._press_force_N:.0f} N and the gauge {gauge_N:.0f} N; "
                "one of them is wrong",
            )

    # --- Orders ---------------------------------------------------------------------------------

    async def press(self, step: PressStep) -> dict[str, float]:
        """Carry out a press step; returns what it came to.

        Raises:
            StepFailed: The pressure did not settle in time.
        """
        press = self._bench.press
        assert press is not None  # noqa: S101 (checked before the run)
        self._interval_s = min(ATTENTIVE_INTERVAL_S, self._every_s)
        self._press_step, self._press_order = step, None
        try:
            pressure_Pa = await self._ordered(press, step)
        finally:
            self._interval_s = self._every_s
            self._press_step, self._press_told = None, True
        return {} if pressure_Pa is None else {"stack_pressure_Pa": pressure_Pa}

    async def _ordered(self, press: Press, step: PressStep) -> float | None:
        """Carry an order out, again from its start after trouble; returns the pressure."""
        dwell, again = _Remaining(step.hold_s), False

        async def presses() -> None:
            nonlocal again
            match step.kind:
                case "to":
                    before, again = again, True
                    await self._approach(press, step, again=before)
                case "hold":
                    await self._hold(press, step)
            await dwell.pass_by()

        await self._trouble.insist(presses)
        pressure_Pa = self._status.value("stack_pressure_Pa")
        if step.kind == "release" or step.then_release:
            self._press_order = None
            release = partial(self._release, press, step)
            await self._trouble.insist(release, to_its_end=step.then_release)
        return pressure_Pa

    async def restore(self, order: PressStep | TemperatureStep) -> None:
        """See that a standing order of a run that is gone on with is in force.

        Raises:
            StepFailed: The pressure or the temperature did not settle in time.
        """
        if isinstance(order, TemperatureStep):
            await self.temperature(order)
        elif order.kind != "release" and not order.then_release:
            await self._press_again(order)

    async def _press_again(self, order: PressStep) -> None:
        press = self._bench.press
        assert press is not None  # noqa: S101 (it was pressed with)
        self._pressing = True
        wanted_N, force_N = order.force_N, (await press.read()).force_N
        allowed_N = DISAGREEMENT_OF_FULL_SCALE * press.capabilities.force_max_N
        if wanted_N is None or abs(force_N - wanted_N) <= (
            allowed_N + DISAGREEMENT_FRACTION * wanted_N
        ):
            self._watch.pressed = True
            self._press_order = None if wanted_N is None else order
            return
        text = f"{press.name}: {force_N:.0f} N instead of {wanted_N:.0f} N, approached again"
        await self._recorder.journal.enter("action", text=text, force_N=force_N)
        await self.press(replace(order, hold_s=0.0))

    async def _hold(self, press: Press, step: PressStep) -> None:
        held = await press.quiet()
        if not held.confirmed:
            raise StepFailed(f"{press.name}: {held.state}")
        force_N = (await press.read()).force_N
        self._press_order = replace(
            step, kind="to", force_N=force_N, pressure_Pa=force_N / self._area_m2
        )

    async def _release(self, press: Press, step: PressStep) -> None:
        self._watch.pressed = False
        await press.release(_rate_N_per_s(press, step))
        self._press_told = True
        await self._let_go(press)
        self._pressing = False

    async def _approach(self, press: Press, step: PressStep, *, again: bool = False) -> None:
        """Bring the stack to a pressure; an order that the press has is not given again."""
        assert step.force_N is not None  # noqa: S101 (every "to" has one)
        assert step.pressure_Pa is not None  # noqa: S101
        if not self._pressing:
            await self._tare(press)
        self._watch.pressed = False
        if not (again and await self._has_order(press, step)):
            self._pressing = True
            rate_N_per_s = _rate_N_per_s(press, step)
            await press.ramp_to(step.force_N, rate_N_per_s, self._force_max_N(press))
        self._press_told = True
        if step.settle is not None:
            await self._settle("stack_pressure_Pa", step.pressure_Pa, step.settle)
        self._watch.pressed = True
        self._press_order = step

    async def _has_order(self, press: Press, step: PressStep) -> bool:
        """Whether the press already keeps the force that it was told.

        While it moves it may tell another set point. Then it is told again, which moves nothing
        twice: the force is an absolute one, and the ramp goes on from the force there is.
        """
        state = await press.read()
        assert step.force_N is not None  # noqa: S101 (every "to" has one)
        off_N = abs(state.set_point_N - step.force_N)
        same = off_N <= _SAME_FORCE * press.capabilities.force_max_N
        return same and not state.alarm and (state.moving or state.at_target)

    # --- Restoring ------------------------------------------------------------------------------

    async def _restore_press(self) -> None:
        """Bring a press that was lost back to its standing order, which it may have given up.

        Raises:
            StepFailed: It does not get there.
            InstrumentError: It fails again.
        """
        press, order = self._bench.press, self._press_order
        assert press is not None  # noqa: S101 (it is the one that was lost)
        if self._press_step is not None:
            # Its step begins anew; until then what the press says of its lost host is no news.
            self._press_told = False
            return
        state = await press.read()
        if order is None:
            if state.alarm and state.force_N <= self._unloaded_N(press):
                # It let go because its host was lost, and says so until it is told something.
                await press.release(press.capabilities.force_max_N / _DEFAULT_RAMP_S)
            return
        if await self._has_order(press, order):
            return
        text = f"{press.name}: found at {state.force_N:.0f} N, back to its order: {order.what}"
        with self._restoring(press.name, text):
            await self._approach(press, order)
            await self._reached(press)

    async def _reached(self, press: Press) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                while not (await press.read()).at_target:
                    await asyncio.sleep(LOOK_INTERVAL_S)
        except TimeoutError as error:
            raise StepFailed(f"{press.name}: does not get back to its force") from error

    async def _restore_temperature(self) -> None:
        """Give a chamber that was lost its set point again, if it has another one."""
        chamber, order = self._bench.chamber, self._temperature_order
        assert chamber is not None  # noqa: S101 (it is the one that was lost)
        if order is None:
            return
        set_point_K = (await chamber.read()).set_point_K
        if abs(set_point_K - order.temperature_K) <= _SAME_K:
            return
        found = f"set to {set_point_K - _ZERO_CELSIUS_K:.1f} °C"
        text = f"{chamber.name}: found {found}, back to its order: {order.what}"
        with self._restoring(chamber.name, text):
            await self._bring_to(chamber, order)

    @contextmanager
    def _restoring(self, name: str, text: str) -> Iterator[None]:
        """Hold the run, with the cell at open circuit, while conditions are made good."""
        self._recorder.journal.enter_soon("action", text=text)
        hold = f"conditions of {name}"
        self._steering.hold(hold, f"waits until {name} is back where it was")
        self._back.add(name)
        try:
            yield
        finally:
            self._back.remove(name)
            self._steering.let_go(hold)

    async def _tare(self, press: Press) -> None:
        """Zero the gauge before the stack is loaded, as one does by hand; never under load."""
        gauge = self._bench.gauge
        if gauge is None or (await press.read()).force_N > self._unloaded_N(press):
            return
        before_N = (await gauge.read()).force_N
        text = f"{gauge.name}: tared on the unloaded stack (it read {before_N:.1f} N)"
        await self._recorder.journal.enter("action", text=text, tare_N=before_N)
        await gauge.tare()

    def _force_max_N(self, press: Press) -> float:
        """Where the press itself is to trip: the tightest limit that is known."""
        limit_Pa = self._watch.limits.pressure_max_Pa
        most_N = press.capabilities.force_max_N
        return most_N if limit_Pa is None else min(most_N, limit_Pa * self._area_m2)

    async def _let_go(self, press: Press) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await unloaded(press)
        except TimeoutError as error:
            raise StepFailed(f"{press.name}: the force does not go away") from error

    def _unloaded_N(self, press: Press) -> float:
        """A force that is none: small for the stack, or within what the press can resolve."""
        return max(UNLOADED_PA * self._area_m2, UNLOADED_FRACTION * press.capabilities.force_max_N)

    async def temperature(self, step: TemperatureStep) -> dict[str, float]:
        """Give the chamber its set point, and wait for it where the step says so.

        Raises:
            StepFailed: The temperature did not settle in time.
        """
        chamber: Chamber | None = self._bench.chamber
        assert chamber is not None  # noqa: S101 (checked before the run)
        self._temperature_order = None
        await self._trouble.insist(lambda: self._bring_to(chamber, step))
        self._temperature_order = step
        temperature_K = self._status.value("temperature_K")
        return {} if temperature_K is None else {"temperature_K": temperature_K}

    async def _bring_to(self, chamber: Chamber, step: TemperatureStep) -> None:
        await chamber.set_temperature(step.temperature_K)
        if step.settle is None:
            return
        self._interval_s = min(ATTENTIVE_INTERVAL_S, self._every_s)
        try:
            await self._settle("temperature_K", step.temperature_K, step.settle)
        finally:
            self._interval_s = self._every_s

    async def _settle(self, name: str, target: float, settle: Settle) -> None:
        journal = self._recorder.journal
        started_s = journal.now_s
        while not self._settled(name, target, settle, started_s):
            if journal.now_s - started_s > settle.timeout_s:
                raise StepFailed(_unsettled(name, target, self._status.value(name), settle))
            await sleep_until(asyncio.get_running_loop().time() + self._interval_s)

    def _settled(self, name: str, target: float, settle: Settle, since_s: float) -> bool:
        now_s = self._recorder.journal.now_s
        if now_s - since_s < settle.for_s:
            return False
        rows = [row for row in self._recent[name] if row[0] >= now_s - settle.for_s]
        if len(rows) < 2 or any(abs(value - target) > settle.within for _, value in rows):
            return False
        if settle.slope is None:
            return True
        slope = statistics.linear_regression(*zip(*rows, strict=True)).slope
        return abs(slope) <= settle.slope


def _rate_N_per_s(press: Press, step: PressStep) -> float:
    return step.rate_N_per_s or press.capabilities.force_max_N / _DEFAULT_RAMP_S


def _unsettled(name: str, target: float, value: float | None, settle: Settle) -> str:
    if name == "temperature_K":
        what, unit, scale, zero = "temperature", "°C", 1.0, _ZERO_CELSIUS_K
    else:
        what, unit, scale, zero = "stack pressure", "MPa", 1e6, 0.0
    measured = "unknown" if value is None else f"{(value - zero) / scale:.4g} {unit}"
    return (
        f"{what} did not settle at {(target - zero) / scale:.4g} {unit} within "
        f"{settle.timeout_s / 60:.3g} min (it is {measured})"
    )
