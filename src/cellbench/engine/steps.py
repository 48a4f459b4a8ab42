"""Carrying out one step: a technique on the channel, a spectrum, an order, a wait, a question."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel

from cellbench.analysis.dataset import INTERRUPTED, Setting, Spectrum, StepData
from cellbench.analysis.kramers_kronig import residual_percent
from cellbench.bench import Bench
from cellbench.engine.detection import Detection
from cellbench.engine.environment import ATTENTIVE_INTERVAL_S, Environment
from cellbench.engine.gap import Bounds, StepLeft
from cellbench.engine.heart import Heart
from cellbench.engine.journal import Journal
from cellbench.engine.limits import LimitWatch
from cellbench.engine.passes import Passes
from cellbench.engine.recorder import Recorder, blob
from cellbench.engine.sanity import check_sanity
from cellbench.engine.status import Status
from cellbench.engine.steering import Steering
from cellbench.engine.technique import (
    CAPPED,
    SKIPPED,
    SpectrumUnderWay,
    StepEnd,
    Technique,
    numbered,
    require_own_end,
    told,
)
from cellbench.engine.trips import StepFailed, Trip
from cellbench.engine.trouble import Trouble
from cellbench.engine.verdicts import Verdicts
from cellbench.engine.view import StepView
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block
from cellbench.instruments.techniques import Impedance
from cellbench.instruments.wired import serving, take
from cellbench.protocol.conditions import Condition, describe, first_met
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    LaterStep,
    MarkStep,
    PressStep,
    PromptStep,
    TemperatureStep,
    WaitStep,
)
from cellbench.quantities import format_quantity

#: An impedance at the top of the band beyond which no cell is there: stray capacitance alone.
NO_CELL_OHM = 1e7


@dataclass
class StepRunner:
    """What steps are carried out with."""

    bench: Bench
    environment: Environment
    recorder: Recorder
    journal: Journal
    watch: LimitWatch
    verdicts: Verdicts
    detection: Detection
    status: Status
    alarm: Callable[[Trip], None]
    passes: Passes
    steering: Steering
    trouble: Trouble
    heart: Heart = field(default_factory=Heart)

    async def run(
        self,
        step: AnyStep,
        under_way: SpectrumUnderWay | None = None,
        left: StepLeft | None = None,
    ) -> StepEnd:
        """Carry out a step to its end, or until it has to begin anew (ending `INTERRUPTED`).

        Args:
            step: The step.
            under_way: The step itself, where the instrument has begun it within another.
            left: What a lost host has left of it.

        Raises:
            Trip: A limit was crossed.
            StepFailed: The step did not reach what it was for.
            InstrumentError: An instrument failed it.
        """
        match step:
            case ChannelStep():
                return await self._technique(step, left)
            case EisStep():
                return await self._spectrum(step, under_way)
            case PressStep():
                return StepEnd("completed", await self.environment.press(step))
            case TemperatureStep():
                return StepEnd("completed", await self.environment.temperature(step))
            case WaitStep():
                return await self._wait(step)
            case CheckStep():
                seen = await self.trouble.insist(lambda: check_sanity(step, self))
                return StepEnd("completed", seen or {})
            case PromptStep():
                return await self._prompt(step)
            case MarkStep(text=text):
                await self.journal.enter("mark", step=step.path, text=text)
                return StepEnd("completed")
            case LaterStep():
                raise StepFailed(f"its values are not known: {', '.join(step.uses)}")

    def guard(self, voltage_V: float, current_A: float, flags: int) -> None:
        """Check one reading against the limits; the alarm goes before the step's own clean-up.

        Raises:
            Trip: It is beyond them.
        """
        try:
            self.watch.electrical(voltage_V, current_A, flags)
        except Trip as trip:
            self.alarm(trip)
            raise

    # --- Techniques -----------------------------------------------------------------------------

    async def perform(
        self,
        step: AnyStep,
        under_way: SpectrumUnderWay | None = None,
        left: StepLeft | None = None,
    ) -> StepEnd:
        """Carry out a step and enter its start and end; arguments and errors as of `run`.

        What cannot go on where it was cut off begins anew, once nothing holds the run any more.
        """
        if under_way is not None:  # whoever wants to skip it skips what it is part of
            return await self._performed(step, under_way, left)
        with self.steering.step(step.path):
            return await self._performed(step, under_way, left)

    async def _performed(
        self, step: AnyStep, under_way: SpectrumUnderWay | None, left: StepLeft | None
    ) -> StepEnd:
        while True:
            if under_way is None:
                await self.held(step)
                if isinstance(step, ChannelStep | EisStep):
                    # Before the step begins: the time that it takes is none of the step's.
                    await self.taken(step)
            start_s = self.journal.now_s
            if left is None:
                await self.enter_start(step)
            end = await self.run(step, under_way, left)
            if end.ending != INTERRUPTED:
                break
            self.enter_interrupted(step, end.results)
            left = None
        self.enter_end(step, end, (start_s, self.journal.now_s))
        return end

    def enter_cut_off(self, step: ChannelStep, left: StepLeft) -> None:
        """Enter what a lost host has left of a step that begins anew."""
        gap = left.gap(step, self.gap_bounds(step))
        gap.enter(self.journal, step.path)
        for within in () if step.every is None else numbered(step.every, left.interruptions):
            if isinstance(within, ChannelStep) and within.path in left.within:
                self.enter_cut_off(within, left.within[within.path])
        self.enter_interrupted(step, {"charge_C": left.charge_C + gap.charge_C})

    def gap_bounds(self, step: ChannelStep) -> Bounds:
        """What the instrument of a step can pass while nobody sees it."""
        assert self.bench.channel is not None  # noqa: S101 (checked before the run)
        able = serving(self.bench.channel, step.technique).capabilities
        return Bounds.of(self.watch.limits.current_max_A, able)

    async def held(self, step: AnyStep) -> float:
        """Wait, with the cell at open circuit, while anything holds the run; return how long."""
        held_s = self.journal.now_s
        while holds := self.steering.holds:
            why = "; ".join(holds.values())
            self.journal.enter_soon("held", step=step.path, text=f"held: {why}", holds=holds)
            await self.steering.wait()
            away_s = self.journal.now_s - held_s
            text = f"goes on after {format_quantity(away_s, 'time')}"
            await self.journal.enter("went on", step=step.path, text=text, held_s=away_s)
        return self.journal.now_s - held_s

    async def taken(self, step: ChannelStep | EisStep) -> None:
        """Give the cell to the instrument for a step, where it is not there already."""
        await self.trouble.insist(lambda: take(self.bench.channel, step.technique))

    def enter_interrupted(self, step: AnyStep, results: Mapping[str, float] | None = None) -> None:
        """Enter that a step was cut off and begins anew, and what it measured till then."""
        self.journal.enter_soon(
            "step ended",
            step=step.path,
            verb=step.verb,
            ending=INTERRUPTED,
            results=dict(results or {}),
        )

    async def enter_start(self, step: AnyStep, **data: Any) -> None:
        """Enter the start of a step: from now on samples are of it."""
        self.enter_start_soon(step, **data)
        await self.journal.durable()

    def enter_start_soon(self, step: AnyStep, **data: Any) -> None:
        """The same of a step that an instrument has begun by itself: nothing waits for the disk."""
        self.recorder.enter_step(step.path, step.verb)
        self.journal.enter_soon(
            "step started",
            step=step.path,
            what=step.what,
            verb=step.verb,
            settings=settings_of(step),
            **data,
        )

    def enter_end(
        self, step: AnyStep, end: StepEnd, times_s: tuple[float, float], **data: Any
    ) -> None:
        """Enter the end of a step, which ran from one time to the other.

        Durable, with its samples, before the next entry that is awaited: the next step's start.
        """
        self.journal.enter_soon(
            "step ended",
            step=step.path,
            verb=step.verb,
            ending=end.ending,
            results=dict(end.results),
            extremes=None if end.extremes is None else end.extremes.stored(),
            **data,
        )
        self.verdicts.step_ended(
            StepData(step.path, step.verb, *times_s, settings_of(step), end.ending),
            self.status.value("temperature_K"),
        )

    async def _technique(self, step: ChannelStep, left: StepLeft | None) -> StepEnd:
        technique = Technique(self, step, self._interrupting)
        if left is not None:
            technique.take_up(left)
        self.passes.begin(step.path, self.journal.now_s)
        end = await technique.run()
        if end.ending != INTERRUPTED:
            self.passes.end(step.path, end.extremes, end.results["charge_C"])
        return end

    async def _interrupting(
        self, step: AnyStep, under_way: SpectrumUnderWay | None, left: StepLeft | None
    ) -> StepEnd:
        """Carry out a step that interrupts another, and show it meanwhile."""
        shown, self.status.step_what = self.status.step_what, step.what
        end = await self.perform(step, under_way, left)
        self.status.step_what = shown
        return end

    # --- Spectra --------------------------------------------------------------------------------

    async def _spectrum(self, step: EisStep, under_way: SpectrumUnderWay | None) -> StepEnd:
        start_s = self.journal.now_s
        points = _SpectrumPoints(self, step.technique)
        open_circuit_V = math.nan
        if under_way is None:
            try:
                async with self.steering.interruptible() as interruption:
                    open_circuit_V = await self._measure_spectrum(step, points)
            except InstrumentError as error:
                await self.trouble.overcome(error, anew=True)
                return StepEnd(INTERRUPTED)
            if interruption.happened:
                return StepEnd(SKIPPED if self.steering.skip_wanted else INTERRUPTED)
        else:
            async for block in under_way.blocks(len(step.technique.frequencies_Hz)):
                points.take(block, open_circuit_V)
        if not points.frequency_Hz or all(math.isnan(each) for each in points.real_ohm):
            raise StepFailed("the instrument returned no point of the spectrum")
        bias_V = step.technique.bias_V
        if bias_V is None and not math.isnan(open_circuit_V):
            bias_V = open_circuit_V
        spectrum = self._store_spectrum(step, start_s, points, bias_V)
        results = await self._judge_spectrum(step, spectrum)
        self.verdicts.spectrum(spectrum)
        self.detection.spectrum(spectrum)
        return StepEnd("completed", results)

    async def _measure_spectrum(self, step: EisStep, points: _SpectrumPoints) -> float:
        """Take a spectrum; returns the open-circuit voltage before it, nan where nobody knows."""
        channel = self.bench.channel
        assert channel is not None  # noqa: S101 (checked before the run)
        async with channel.run(step.technique, self.watch.limits.electrical) as running:
            async for block in running:
                points.take(block, running.open_circuit_V)
        source = serving(channel, step.technique).name
        require_own_end(running.ending, source)
        told(running.ending)
        open_circuit_V = running.open_circuit_V
        self.detection.compare(source, self.journal.now_s, open_circuit_V)
        return open_circuit_V

    async def _judge_spectrum(self, step: EisStep, spectrum: Spectrum) -> dict[str, float]:
        """Enter a spectrum with its Kramers-Kronig residual; one without a cell is a failure."""
        real, frequency_Hz = spectrum.impedance_ohm.real, spectrum.frequency_Hz
        results = {"R_high_ohm": float(real[0]), "R_low_ohm": float(real[-1])}
        text = f"spectrum: {_at(real[0], frequency_Hz[0])}, {_at(real[-1], frequency_Hz[-1])}"
        residual = residual_percent(spectrum)
        if residual is not None:
            results["kramers_kronig_residual_percent"] = residual
            text += f", Kramers-Kronig residual {residual:.1g} %"
        await self.journal.enter("spectrum", step=step.path, text=text, **results)
        if abs(spectrum.impedance_ohm[0]) > NO_CELL_OHM:
            raise StepFailed(f"the spectrum shows no cell ({text}): are the leads connected?")
        return results

    def _store_spectrum(
        self, step: EisStep, start_s: float, points: _SpectrumPoints, bias_V: float | None
    ) -> Spectrum:
        row = {
            "time_s": start_s,
            "step": self.recorder.step_id,
            "temperature_K": self.status.value("temperature_K"),
            "stack_pressure_Pa": self.status.value("stack_pressure_Pa"),
            "bias_V": bias_V,
        }
        self.recorder.writer.add_spectrum(
            row
            | {
                "frequency_Hz": blob(points.frequency_Hz),
                "impedance_real_ohm": blob(points.real_ohm),
                "impedance_imag_ohm": blob(points.imag_ohm),
                "point_time_s": blob(points.time_s),
                "flags": blob(points.flags),
            }
        )
        return Spectrum(
            time_s=start_s,
            step=step.path,
            frequency_Hz=np.array(points.frequency_Hz),
            impedance_ohm=np.array(points.real_ohm) + 1j * np.array(points.imag_ohm),
            temperature_K=self.status.value("temperature_K"),
            stack_pressure_Pa=self.status.value("stack_pressure_Pa"),
            bias_V=bias_V,
        )

    # --- Waiting and asking ---------------------------------------------------------------------

    async def _wait(self, step: WaitStep) -> StepEnd:
        view = StepView(step.until, self.status, self.verdicts.holds)
        start_s = self.journal.now_s
        met: Condition | None = None
        # A hold leaves it alone: the cell is at open circuit all the same.
        async with self.steering.interruptible(holds=False) as interruption:
            while (elapsed_s := self.journal.now_s - start_s) < step.timeout_s - 1e-6:
                view.update(elapsed_s)
                met = first_met(step.until, view)
                if met is not None:
                    return StepEnd(describe(met))
                await asyncio.sleep(min(ATTENTIVE_INTERVAL_S, step.timeout_s - elapsed_s))
        if interruption.happened:
            return StepEnd(SKIPPED)
        if not step.capped:
            return StepEnd("completed")
        await self.journal.enter("warning", step=step.path, text=f"{step.what}: {CAPPED}")
        return StepEnd(CAPPED)

    async def _prompt(self, step: PromptStep) -> StepEnd:
        operator = self.bench.operator
        if operator is None:
            raise StepFailed("there is nobody to ask: run it from a terminal")
        await self.journal.enter("prompt", step=step.path, text=step.prompt)
        async with self.steering.interruptible(holds=False) as interruption:
            answer = await operator.ask(step.prompt, step.choices)
        if interruption.happened:
            return StepEnd(SKIPPED)
        await self.journal.enter("answer", step=step.path, text=answer)
        return StepEnd(f"answered: {answer}")


class _SpectrumPoints:
    """The points of a spectrum as they come in."""

    def __init__(self, runner: StepRunner, technique: Impedance) -> None:
        self._runner = runner
        self._technique = technique
        self.frequency_Hz: list[float] = []
        self.real_ohm: list[float] = []
        self.imag_ohm: list[float] = []
        self.time_s: list[float] = []
        self.flags: list[float] = []

    def take(self, block: Block, open_circuit_V: float) -> None:
        """Keep points as they come, around the voltage at which the cell rested."""
        since_start = self._runner.journal.since_start
        self.time_s.extend(since_start(time_s) for time_s in block.time_s)
        self.frequency_Hz.extend(block.columns["frequency_Hz"])
        self.real_ohm.extend(block.columns["impedance_real_ohm"])
        self.imag_ohm.extend(block.columns["impedance_imag_ohm"])
        self.flags.extend(float(flag) for flag in block.flags)
        self._runner.status.reading("frequency_Hz", self.time_s[-1], self.frequency_Hz[-1])
        self._check(block, open_circuit_V)

    def _check(self, block: Block, open_circuit_V: float) -> None:
        """An amplitude on an impedance is a swing of voltage and current; both have limits."""
        technique, columns = self._technique, block.columns
        limits = self._runner.watch.limits
        middle_V = 0.5 * (limits.voltage_min_V + limits.voltage_max_V)
        centre_V = open_circuit_V if technique.bias_V is None else technique.bias_V
        if math.isnan(centre_V):
            return  # nobody knows around which voltage it swings
        for real_ohm, imag_ohm, flags in zip(
            columns["impedance_real_ohm"], columns["impedance_imag_ohm"], block.flags, strict=True
        ):
            modulus_ohm = math.hypot(real_ohm, imag_ohm)
            if technique.amplitude_A is not None:
                swing = technique.amplitude_A * modulus_ohm, technique.amplitude_A
            else:
                amplitude_V = technique.amplitude_V or 0.0
                swing = amplitude_V, amplitude_V / modulus_ohm if modulus_ohm else math.inf
            # Of the swing's two ends the outer one: within the limits, so is the other.
            outer_V = centre_V + math.copysign(swing[0], centre_V - middle_V)
            self._runner.guard(outer_V, swing[1], flags)


def _at(resistance_ohm: float, frequency_Hz: float) -> str:
    return f"{resistance_ohm:.4g} Ω at {format_quantity(float(frequency_Hz), 'frequency')}"


def settings_of(step: AnyStep) -> dict[str, Setting]:
    """What a step asks for, as the journal keeps it: the technique's numbers, or the step's own."""
    technique = getattr(step, "technique", None)
    if isinstance(technique, BaseModel):
        return technique.model_dump(mode="json", exclude={"cut_offs"}, exclude_none=True)
    names = ("kind", "pressure_Pa", "force_N", "rate_N_per_s", "hold_s", "temperature_K",
             "timeout_s", "prompt", "text")  # fmt: skip
    values = {name: getattr(step, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}
