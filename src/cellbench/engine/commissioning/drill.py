"""A safety drill: each limit is tripped once on a dummy cell, to see that the output goes off.

A dummy cell is a resistor, or a cell that nobody will miss: small currents flow through it, first a
known one, from whose voltage all else follows. Every limit is then set between nothing and what
flows, and crossed twice: once with the instrument alone to act, where it claims to, and once with
the host's own watch alone. Either way the output is read back as off. Times are from the moment at
which the technique took hold of the cell (with a resistor, that of the crossing) until the output
was known to be off.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cellbench.engine.commissioning.installation import Installation
from cellbench.engine.limits import VOLTAGE_TOLERANCE_V, LimitWatch
from cellbench.engine.safe_state import (
    CHANNEL_DEADLINE_S,
    QUIET_DEADLINE_S,
    attempt,
    to_the_end,
)
from cellbench.engine.trips import Trip
from cellbench.errors import CellbenchError, InputError, InstrumentError
from cellbench.instruments.changeover import ByOperator, ThroughSwitch
from cellbench.instruments.readings import Ending, EndingKind, Identity, Outcome
from cellbench.instruments.roles import Channel, Operator, Running, Switch
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Impedance,
    Technique,
)
from cellbench.protocol.program import Limits
from cellbench.quantities import parse
from cellbench.wiring import BY_OPERATOR

#: Length of a technique that is to be tripped, at least and in declared reaction times: it ends by
#: itself where nothing trips it.
TRIPPED_S = 5.0
TRIPPED_REACTIONS = 3.0
TIMED_S = 3.0
PROBE_S = 2.0
#: The host falls silent during a technique of this length, and comes back so long after its end.
SILENT_S = 6.0
SILENCE_MARGIN_S = 5.0
#: Where a limit lies between nothing (0) and what flows (1).
_LIMIT_AT = 0.5
#: The smallest answer of a dummy cell that stands out from noise, in multiples of the noise.
_NOISES = 50
#: The watch allows for the accuracy of instruments, which must not hide a crossing.
_RISE_MIN_V = 6 * VOLTAGE_TOLERANCE_V
#: The part of the bounds that a test current or voltage may use.
_HEADROOM = 0.8
#: A slow spectrum: whoever stops it within its second point waits for a period of one second.
_SLOW_SPECTRUM_Hz = (1.0, 0.5)
_SPECTRUM_AMPLITUDE_V = 0.01


@dataclass(frozen=True)
class Trial:
    """One limit, and what came of crossing it.

    Attributes:
        passed: Whether the output went off (or the limit was never passed); None where it was not
            tried, ``told`` saying why.
        reaction_s: From the crossing until the output was known to be off, which can be later than
            it was off; of the trial of durations, how late. None where it is not known.
        by: Who acted: ``instrument`` or ``host``.
        told: What happened, for a person.
    """

    what: str
    passed: bool | None
    told: str
    by: str = ""
    reaction_s: float | None = None


@dataclass(frozen=True)
class Dummy:
    """The cell that is drilled on, as it answered to a known current."""

    open_circuit_V: float
    current_A: float
    voltage_V: float

    @property
    def rise_V(self) -> float:
        """What the current adds to the voltage."""
        return self.voltage_V - self.open_circuit_V

    @property
    def resistance_ohm(self) -> float:
        """Its resistance."""
        return self.rise_V / self.current_A


@dataclass
class Drilled:
    """A drill: the dummy cell, every trial, and the state in which the channel was left."""

    channel: str
    dummy: Dummy | None
    trials: list[Trial]
    left: str
    confirmed: bool

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and the output is off."""
        return self.confirmed and all(trial.passed is not False for trial in self.trials)


@dataclass(frozen=True)
class _Run:
    """What one technique did: how it ended, who ended it, when, and what was largest."""

    ending: Ending | None
    trip: str
    began_s: float
    off_s: float
    rows: int
    voltage_V: float
    current_A: float
    voltage_max_V: float
    voltage_min_V: float
    magnitude_max_A: float

    @property
    def reaction_s(self) -> float:
        return self.off_s - self.began_s

    @property
    def extremes(self) -> str:
        if not self.rows:
            return "nothing was measured"
        return (
            f"at most {self.magnitude_max_A * 1e3:.4g} mA, {self.voltage_min_V:.4g} V to "
            f"{self.voltage_max_V:.4g} V"
        )


async def drill(
    installation: Installation,
    name: str,
    current_A: float,
    voltage_max_V: float,
    *,
    operator: Operator | None = None,
    report: Callable[[Trial], None],
    say: Callable[[str], None],
) -> Drilled:
    """Trip every limit of a channel once; the channel is quiet when this returns.

    Args:
        installation: The bench.
        name: The channel's instrument.
        current_A: The test current.
        voltage_max_V: Largest voltage that the dummy cell is to see, either sign.
        operator: Moves the leads, where the cell is shared by hand.
        report: Told of each trial as it is over.
        say: Told what becomes of the channel when the drill is broken off.

    Raises:
        InputError: There is no such channel, or the current is no use on this dummy cell.
        InstrumentError: The channel cannot be reached, or another process has it.
    """
    if installation.driver(name).role != "channel":
        raise InputError(f"{name} drives no cell; a drill is for: {_names(installation)}")
    with installation.owned("bench drill"):
        async with installation.switched_on(), _cell_given(installation, name, operator) as switch:
            drilled = await _Drill(installation, name, current_A, voltage_max_V, report, say).run()
        if switch is not None and switch.outcome is not None:
            drilled.left += f"; {switch.outcome.instrument}: {switch.outcome.state}"
            drilled.confirmed = drilled.confirmed and switch.outcome.confirmed
        return drilled


@dataclass
class _Contacts:
    """What became of the contacts through which the cell was reached, once they were opened."""

    outcome: Outcome | None = None


@asynccontextmanager
async def _cell_given(
    installation: Installation, name: str, person: Operator | None
) -> AsyncIterator[_Contacts | None]:
    """See that the dummy cell is on one instrument, where several share it."""
    shared = installation.wiring_of(name)
    if shared is None:
        yield None
        return
    cell, wiring = shared
    await _quieten(installation, wiring.impedance if name == wiring.cycling else wiring.cycling)
    if wiring.changeover == BY_OPERATOR:
        patience_s = parse(wiring.patience, "time")
        changeover = ByOperator(installation.answering(person), patience_s)
        await changeover.give(cell, name, "")
        yield None
        return
    switch, contacts = await installation.instrument(wiring.changeover), _Contacts()
    try:
        if not isinstance(switch, Switch):
            raise InputError(f"{wiring.changeover} is no switch (nor {BY_OPERATOR})")
        await switch.connect()
        through = ThroughSwitch(switch, (wiring.cycling, wiring.impedance))
        try:
            await through.give(cell, name, "")
            yield contacts
        finally:
            contacts.outcome = await to_the_end(
                attempt(through, "open", through.quiet, QUIET_DEADLINE_S), lambda _: None
            )
    finally:
        await switch.close()


async def _quieten(installation: Installation, name: str) -> None:
    """See that the other instrument of the cell drives nothing while contacts move.

    Raises:
        InstrumentError: That could not be confirmed.
    """
    other = await installation.instrument(name)
    try:
        await other.connect()
        outcome = await attempt(other, "quiet", other.quiet, CHANNEL_DEADLINE_S)
    finally:
        await other.close()
    if not outcome.confirmed:
        raise InstrumentError(name, f"shares the cell: {outcome.state}")


def _names(installation: Installation) -> str:
    return ", ".join(installation.channels()) or "channels, and this bench has none"


class _Drill:
    def __init__(
        self,
        installation: Installation,
        name: str,
        current_A: float,
        voltage_max_V: float,
        report: Callable[[Trial], None],
        say: Callable[[str], None],
    ) -> None:
        self._installation = installation
        self._name = name
        self._current_A = current_A
        self._voltage_max_V = voltage_max_V
        self._report = report
        self._say = say
        self._trials: list[Trial] = []
        self._dummy: Dummy | None = None
        self._now = asyncio.get_running_loop().time

    async def run(self) -> Drilled:
        async with self._connected() as (channel, _):
            left = await self._guarded(channel, self._all(channel))
        if self._dummy is not None and left[1]:
            left = await self._silence(channel, left)
        return Drilled(self._name, self._dummy, self._trials, *left)

    async def _guarded(
        self, channel: Channel, trials: Coroutine[Any, Any, None]
    ) -> tuple[str, bool]:
        """Carry out trials, and leave the channel quiet whatever becomes of them."""
        try:
            await trials
        except BaseException:
            state, off = await to_the_end(self._quiet(channel), self._say)
            self._say(f"{self._name}: {state}: {'confirmed' if off else 'NOT CONFIRMED'}")
            raise
        return await to_the_end(self._quiet(channel), self._say)

    async def _quiet(self, channel: Channel) -> tuple[str, bool]:
        outcome = await attempt(channel, "quiet", channel.quiet, CHANNEL_DEADLINE_S)
        return outcome.state, outcome.confirmed

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Channel, Identity]]:
        instrument = await self._installation.instrument(self._name)
        try:
            if not isinstance(instrument, Channel):
                raise InputError(f"{self._name} is no channel, though its driver says so")
            yield instrument, await instrument.connect()
        finally:
            await instrument.close()

    async def _all(self, channel: Channel) -> None:
        able = channel.capabilities
        dummy = self._dummy = await self._probe(channel)
        interval_s = max(0.1, able.interval_min_s)
        tripped_s = max(TRIPPED_S, TRIPPED_REACTIONS * able.reaction.total_s)
        charge = ConstantCurrent(
            current_A=dummy.current_A, duration_s=tripped_s, interval_s=interval_s
        )
        discharge = charge.model_copy(update={"current_A": -dummy.current_A})
        hold = ConstantVoltage(
            voltage_V=dummy.voltage_V,
            duration_s=tripped_s,
            interval_s=interval_s,
            current_range_A=dummy.current_A,
        )
        upper_V = dummy.open_circuit_V + _LIMIT_AT * dummy.rise_V
        lower_V = dummy.open_circuit_V - _LIMIT_AT * dummy.rise_V
        wide = self._wide(channel)
        current_limit_A = _LIMIT_AT * dummy.current_A
        for what, quantity, technique, limits in (
            ("upper voltage limit", "voltage", charge, _with(wide, voltage_max_V=upper_V)),
            ("lower voltage limit", "voltage", discharge, _with(wide, voltage_min_V=lower_V)),
            ("current limit", "current", hold, _with(wide, current_max_A=current_limit_A)),
        ):
            if technique.technique not in able.techniques:
                self._add(Trial(what, None, f"the channel does no {technique.technique}"))
                continue
            if quantity in able.on_device:
                await self._device_limit(channel, what, technique, limits)
            await self._host_limit(channel, what, technique, limits)
        await self._duration(channel, charge.model_copy(update={"duration_s": TIMED_S}), wide)
        await self._order(channel, "order of the host", charge, wide)
        await self._spectrum(channel, dummy, wide)

    # --- The dummy cell -------------------------------------------------------------------------

    def _wide(self, channel: Channel) -> ElectricalLimits:
        """Bounds that nothing here should reach."""
        able = channel.capabilities
        return ElectricalLimits(
            voltage_min_V=max(-self._voltage_max_V, able.voltage_min_V),
            voltage_max_V=min(self._voltage_max_V, able.voltage_max_V),
            current_max_A=min(2 * self._current_A, able.current_max_A),
        )

    async def _probe(self, channel: Channel) -> Dummy:
        """Find the voltage at rest and under the test current.

        Raises:
            InputError: The answer is too small or too large for a drill.
        """
        able = channel.capabilities
        wide = self._wide(channel)
        if not able.current_min_A <= self._current_A <= _HEADROOM * able.current_max_A:
            raise InputError(
                f"{self._name} can do {able.current_min_A:g} A to {able.current_max_A:g} A: choose "
                "another --current"
            )
        # The voltage at rest is between those of two opposite currents; some cyclers log nothing
        # while a cell rests.
        probe = ConstantCurrent(
            current_A=self._current_A,
            duration_s=PROBE_S,
            interval_s=max(0.1, able.interval_min_s),
        )
        loaded = await self._run(channel, probe, wide, wide)
        reverse = probe.model_copy(update={"current_A": -self._current_A})
        unloaded = await self._run(channel, reverse, wide, wide)
        for run in (loaded, unloaded):
            if run.trip or run.ending is None or run.ending.kind is not EndingKind.COMPLETED:
                raise InputError(self._no_dummy(run, wide))
        rest_V = (loaded.voltage_V + unloaded.voltage_V) / 2
        dummy = Dummy(rest_V, self._current_A, loaded.voltage_V)
        if not dummy.rise_V > max(_NOISES * able.voltage_noise_V, _RISE_MIN_V):
            raise InputError(
                f"{self._name}: {self._current_A:g} A raises the voltage by {dummy.rise_V:.3g} V "
                "only: choose a larger --current, or check the wires"
            )
        return dummy

    def _no_dummy(self, run: _Run, wide: ElectricalLimits) -> str:
        why = run.trip or (run.ending.detail if run.ending else "no ending")
        cure = "choose a smaller --current or a larger --voltage"
        if wide.voltage_min_V >= 0:
            cure += "; a channel that has no negative voltages needs a charged cell as its dummy"
        return (
            f"{self._name}: {self._current_A:g} A cannot be driven through this dummy cell both "
            f"ways within {wide.voltage_min_V:g} V to {wide.voltage_max_V:g} V ({why}): {cure}"
        )

    # --- Trials ---------------------------------------------------------------------------------

    def _add(self, trial: Trial) -> None:
        self._trials.append(trial)
        self._report(trial)

    async def _device_limit(
        self, channel: Channel, what: str, technique: Technique, limits: ElectricalLimits
    ) -> None:
        """Cross a limit that the instrument knows, with a host that would let it pass."""

        async def cross() -> Trial:
            # A capacitive cell draws a first rush of current, on which the host must not act.
            patient = _with(self._wide(channel), current_max_A=channel.capabilities.current_max_A)
            run = await self._run(channel, technique, limits, patient)
            state, off = await self._quiet(channel)
            ending = run.ending
            if ending is not None and ending.kind is EndingKind.TRIPPED:
                told = f"{ending.detail or 'switched off'}; {state}"
                return Trial(what, off, told, "instrument", run.reaction_s)
            # One that cannot be driven beyond its limit holds it there, and has no need to trip.
            kept = run.rows > 0 and not run.trip and _kept_within(run, limits)
            told = "held there" if kept else "let it pass"
            return Trial(what, off and kept, f"{told}: {run.extremes}; {state}", "instrument")

        await self._attempt(what, cross())

    async def _host_limit(
        self, channel: Channel, what: str, technique: Technique, limits: ElectricalLimits
    ) -> None:
        """Cross a limit that the host alone knows."""

        async def cross() -> Trial:
            run = await self._run(channel, technique, self._wide(channel), limits)
            state, off = await self._quiet(channel)
            declared_s = channel.capabilities.reaction.total_s
            told = f"{run.trip or 'let it pass: ' + run.extremes}; {state}"
            if run.trip and run.reaction_s > declared_s:
                told = f"known off later than the declared {declared_s:.3g} s: {told}"
            return Trial(what, off and bool(run.trip), told, "host", run.reaction_s)

        await self._attempt(what, cross())

    async def _duration(
        self, channel: Channel, technique: ConstantCurrent, limits: ElectricalLimits
    ) -> None:
        what = "duration"

        async def wait() -> Trial:
            run = await self._run(channel, technique, limits, limits)
            state, off = await self._quiet(channel)
            completed = run.ending is not None and run.ending.kind is EndingKind.COMPLETED
            by = "instrument" if completed and run.ending and run.ending.on_device else "host"
            told = f"asked for {technique.duration_s:g} s; {state}"
            late_s = max(0.0, run.reaction_s - technique.duration_s)
            return Trial(what, off and completed, told, by, late_s)

        await self._attempt(what, wait())

    async def _order(
        self, channel: Channel, what: str, technique: Technique, limits: ElectricalLimits
    ) -> None:
        """Leave a technique early, as the host does on whatever it decides itself."""

        async def order() -> Trial:
            async with channel.run(technique, limits) as running:
                await anext(aiter(running), None)
                ordered_s = self._now()
            reaction_s = self._now() - ordered_s
            state, off = await self._quiet(channel)
            return Trial(what, off, f"stopped after its first reading; {state}", "host", reaction_s)

        await self._attempt(what, order())

    async def _spectrum(self, channel: Channel, dummy: Dummy, limits: ElectricalLimits) -> None:
        what, band = "order within a spectrum", channel.capabilities.impedance
        highest_Hz, lowest_Hz = _SLOW_SPECTRUM_Hz
        if band is None or not band.potentiostatic or band.frequency_min_Hz > lowest_Hz:
            self._add(Trial(what, None, "the channel takes no slow spectra"))
            return
        amplitude_V = min(_SPECTRUM_AMPLITUDE_V, _LIMIT_AT * dummy.rise_V)
        spectrum = Impedance(
            frequency_max_Hz=highest_Hz,
            frequency_min_Hz=lowest_Hz,
            points_per_decade=3,
            amplitude_V=amplitude_V,
        )
        await self._order(channel, what, spectrum, limits)

    async def _silence(self, channel: Channel, left: tuple[str, bool]) -> tuple[str, bool]:
        """Hang up in the middle of a technique, and see whether it ended by itself.

        Args:
            channel: What it can do; its connection is closed.
            left: The state of the channel before.

        Returns:
            Its state afterwards.
        """
        what = "silence of the host"
        if not channel.capabilities.bounded_without_host:
            self._add(Trial(what, None, "the channel does not claim to end anything by itself"))
            return left
        if not self._installation.has_wire(self._name):
            self._add(Trial(what, None, "there is no line to cut: pull the cable, and look"))
            return left
        technique = ConstantCurrent(
            current_A=self._current_A,
            duration_s=SILENT_S,
            interval_s=max(0.1, channel.capabilities.interval_min_s),
        )
        try:
            try:
                await self._hang_up(technique, self._wide(channel))
                await asyncio.sleep(technique.duration_s + SILENCE_MARGIN_S)
            finally:
                found, left = await to_the_end(self._come_back(), self._say)
        except CellbenchError as error:
            self._add(Trial(what, False, str(error)))
            return str(error), False
        self._add(_after_silence(what, found, left))
        return left

    async def _hang_up(self, technique: ConstantCurrent, limits: ElectricalLimits) -> None:
        stream = await self._installation.stream(self._name)
        entry = self._installation.entry(self._name)
        instrument = self._installation.driver(self._name)(self._name, stream, entry.options)
        assert isinstance(instrument, Channel)  # noqa: S101 (it was, a moment ago)
        try:
            await instrument.connect()
            async with instrument.run(technique, limits) as running:
                await anext(aiter(running), None)
                await stream.close()
        except InstrumentError:
            # What the driver says of the connection that was cut here is no news.
            if not stream.lost:
                raise
        finally:
            await instrument.close()

    async def _come_back(self) -> tuple[bool | None, tuple[str, bool]]:
        """Connect anew; whether the channel was still active, and its state from now on."""
        async with self._connected() as (channel, identity):
            return identity.found_active, await self._quiet(channel)

    async def _attempt(self, what: str, trial: Coroutine[Any, Any, Trial]) -> None:
        """Carry out a trial; an instrument that fails it has not passed."""
        try:
            self._add(await trial)
        except CellbenchError as error:
            self._add(Trial(what, False, str(error).removeprefix(f"{self._name}: ")))

    async def _run(
        self,
        channel: Channel,
        technique: Technique,
        limits: ElectricalLimits,
        watched: ElectricalLimits,
    ) -> _Run:
        """Run a technique to its end, or to the first trip of the engine's own watch.

        Args:
            channel: Where.
            technique: What.
            limits: What the instrument is told.
            watched: What the host watches.
        """
        rows = _Rows(LimitWatch(_limits(watched)))
        entered_s, trip = self._now(), ""
        async with channel.run(technique, limits) as running:
            try:
                await rows.take_all(running)
                off_s = self._now()
            except Trip as tripped:
                trip = str(tripped)
        if trip:
            off_s = self._now()  # the way out of the technique has read it back
        began_s = entered_s if math.isnan(running.started_s) else running.started_s
        return _Run(
            running.ending,
            trip,
            began_s,
            off_s,
            rows.count,
            rows.voltage_V,
            rows.current_A,
            rows.voltage_max_V,
            rows.voltage_min_V,
            rows.magnitude_max_A,
        )


def _after_silence(what: str, found: bool | None, left: tuple[str, bool]) -> Trial:
    if found is None:
        return Trial(what, None, "its driver does not tell what it finds")
    told = "was still on" if found else "had gone off by itself"
    back_s = SILENT_S + SILENCE_MARGIN_S
    state, off = left
    return Trial(
        what,
        off and not found,
        f"{told} when the host came back after {back_s:g} s; {state}",
        "instrument",
    )


class _Rows:
    """Every row of a technique: the latest, the extremes, and the watch over all of them."""

    def __init__(self, watch: LimitWatch) -> None:
        self._watch = watch
        self.count = 0
        self.voltage_V = self.current_A = math.nan
        self.voltage_max_V, self.voltage_min_V = -math.inf, math.inf
        self.magnitude_max_A = 0.0

    async def take_all(self, running: Running) -> None:
        """Take rows to the end. Raises Trip as `LimitWatch`."""
        async for block in running:
            voltages = block.columns["voltage_V"]
            currents = block.columns.get("current_A") or [0.0] * len(voltages)
            for voltage_V, current_A, flags in zip(voltages, currents, block.flags, strict=True):
                self.count += 1
                self.voltage_V, self.current_A = voltage_V, current_A
                self.voltage_max_V = max(self.voltage_max_V, voltage_V)
                self.voltage_min_V = min(self.voltage_min_V, voltage_V)
                self.magnitude_max_A = max(self.magnitude_max_A, abs(current_A))
                self._watch.electrical(voltage_V, current_A, flags)


def _with(limits: ElectricalLimits, **changed: float) -> ElectricalLimits:
    return limits.model_copy(update=changed)


def _limits(electrical: ElectricalLimits) -> Limits:
    return Limits(electrical.voltage_min_V, electrical.voltage_max_V, electrical.current_max_A)


def _kept_within(run: _Run, limits: ElectricalLimits) -> bool:
    watch = LimitWatch(_limits(limits))
    try:
        watch.electrical(run.voltage_min_V, 0.0)
        watch.electrical(run.voltage_max_V, run.magnitude_max_A)
    except Trip:
        return False
    return True
