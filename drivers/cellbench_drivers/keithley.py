"""Keithley source-measure units as potentiostats: 2450, 2460, 2461, and the 2400 series.

Direct current only. A 2450 gets a technique as a trigger model that runs on the instrument, with
cut-offs and limits in it; the host only fetches readings. The trigger model compares what is
measured, not what is controlled: a cut-off on the controlled quantity is the host's. A 2400 has no
such thing: the host takes every reading and ends every technique, and the compliance of the source
is all that bounds a cell whose host is dead.

Off means high impedance, the output relay open; in its normal off state a unit is a source of 0 V
that discharges the cell; so it is for an instant in the reset when it is connected. Disconnected
terminals cannot be measured, so that a rest is a source of 0 A, in the 1 uA range. Sources:
reference manuals 2450-901-01, 2461-901-01 and 2400S-900-01. No unit has been tried yet; the windows
of `_WINDOWS` are recalled.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Running
from cellbench.instruments.techniques import ElectricalLimits, Technique
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers import keithley_2400, keithley_2450
from cellbench_drivers.channels import opening_cell
from cellbench_drivers.common import Current, Duration, Options, Voltage, parse_options, to_the_end
from cellbench_drivers.keithley_program import Program, Reach, program_for
from cellbench_drivers.keithley_run import KeithleyRun, SteppedRun, TriggerModelRun
from cellbench_drivers.reach import check_technique
from cellbench_drivers.scpi import Scpi

ModelName = Literal["2450", "2460", "2461", "2400"]

#: Largest voltage and current of each model together. The power envelopes allow more of the one
#: with less of the other; above 42 V an interlock is needed.
_WINDOWS: dict[ModelName, tuple[float, float]] = {
    "2450": (20.0, 1.05),
    "2460": (10.0, 7.35),
    "2461": (10.0, 7.35),
    "2400": (20.0, 1.05),
}
_UNVERIFIED = ("voltage_max", "current_max", "current_min", "interval_min", "voltage_noise")
_SERIES_2400 = {"2400", "2401", "2410", "2420", "2425", "2430", "2440"}
_TERMINATORS = {"lf": "\n", "cr": "\r", "crlf": "\r\n"}
_INTERVAL_USUAL_S = 1.0
#: A period of the mains. A reading takes several: signal, reference, zero, and the source's own.
_CYCLE_S, _CYCLES_PER_READING = 0.02, 4.0
#: A limit or level that is read back may differ by so much: the instrument rounds.
_READ_BACK = 0.01
#: Volts or amperes that a source of none may show.
_NOTHING = 1e-9
_OFF_ATTEMPTS = 3
_ABORT_S, _ABORT_LOOK_S = 2.0, 0.1


class KeithleyOptions(Options):
    """Options in the bench file.

    Attributes:
        model: The instrument; another one that answers is refused.
        voltage_max: Largest voltage, either sign; without it that of the model.
        current_max: Largest current, either sign; without it that of the model.
        terminals: Which terminals the cell is on.
        sense: Whether the voltage is sensed at the cell, or at the terminals.
        timeout: How long a reply may take.
        terminator: What ends a line, as set on the instrument (2400 on a serial port: cr).
        buffer: Readings that the instrument's buffer is made for; longer techniques enlarge it.
        sweep_steps: Steps of the longest staircase; longer sweeps take larger steps.
    """

    model: ModelName = "2450"
    voltage_max: Voltage | None = Field(default=None, gt=0)
    current_max: Current | None = Field(default=None, gt=0)
    terminals: Literal["front", "rear"] = "front"
    sense: Literal["2-wire", "4-wire"] = "4-wire"
    timeout: Duration = Field(default=2.0, gt=0)
    terminator: Literal["lf", "cr", "crlf"] = "lf"
    buffer: int = Field(default=100_000, ge=10)
    sweep_steps: int = Field(default=keithley_2450.LIST_MAX, ge=10, le=keithley_2450.LIST_MAX)


class Keithley:
    """One source-measure unit on one cell."""

    role: ClassVar[str] = "channel"
    usb: ClassVar[tuple[str, ...]] = ("05E6:2450", "05E6:2460", "05E6:2461")
    summary: ClassVar[str] = "Keithley 2450, 2460, 2461 and 2400 source-measure units (SCPI)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(9600)
    tcp_port: ClassVar[int | None] = 5025

    capabilities: ChannelCapabilities

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = own = parse_options(name, KeithleyOptions, options)
        ends = _TERMINATORS[own.terminator]
        self._scpi = Scpi(name, stream, ends=ends, replies_end=ends, timeout_s=own.timeout)
        self._old = own.model == "2400"
        voltage_V, current_A = _WINDOWS[own.model]
        self._reach = Reach(
            own.voltage_max or voltage_V, own.current_max or current_A, own.sweep_steps
        )
        self._buffer = own.buffer
        self._run: KeithleyRun | None = None
        #: What a reading takes beyond the programmed pause, by its integration time; learned.
        self._spent_s: dict[float, float] = {}
        self.capabilities = _capabilities(own, self._reach)

    async def connect(self) -> Identity:
        """Identify the unit, switch its output off, and reset it to known settings."""
        async with self._scpi.lock:
            fields = [field.strip() for field in (await self._scpi.ask("*IDN?")).split(",")]
            model = self._require_model(fields)
            if not self._old:
                await self._require_language()
            was_on = await self._scpi.number(":OUTP?") != 0
            await self._off()
            await self._reset()
        remarks = [
            f"firmware {fields[3]} has never been tried with cellbench",
            f"sweeps of more than {self._reach.steps_max} steps take larger ones",
        ]
        if was_on:
            remarks.insert(0, "its output was on: switched off")
        return Identity(f"Keithley {model}", fields[2], fields[3], tuple(remarks), was_on)

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Run a technique.

        Raises:
            InstrumentError: The instrument or the limits do not allow it.
        """
        return self._running(technique, limits)

    async def quiet(self) -> Outcome:
        """Abort what runs and switch the output off; says honestly what could not be confirmed."""
        try:
            await self._interrupt()
        except InstrumentError as error:
            return Outcome(self.name, f"output unknown: {error}", confirmed=False)
        return Outcome(self.name, "output off, high impedance", confirmed=True)

    async def close(self) -> None:
        """Give up the connection."""
        await self._scpi.close()

    @asynccontextmanager
    async def _running(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AsyncIterator[Running]:
        check_technique(self.name, self.capabilities, technique)
        try:
            program = program_for(technique, limits, self._reach)
            delay_s = self._delay_s(program)
            commands = self._commands(program, delay_s)
        except ValueError as error:
            raise InstrumentError(self.name, f"{technique.technique}: {error}") from error
        run = self._run = self._new_run(program, delay_s)
        try:
            async with self._scpi.lock:
                await self._prepare(program, commands)
            await run.start()
            yield run
        finally:
            await to_the_end(self._leave(run, program))

    def _commands(self, program: Program, delay_s: float) -> list[str]:
        four_wire = self._options.sense == "4-wire"
        if self._old:
            return list(keithley_2400.setup_commands(program, four_wire=four_wire))
        return [
            *keithley_2450.setup_commands(program, four_wire=four_wire),
            *keithley_2450.trigger_commands(program, delay_s),
        ]

    def _new_run(self, program: Program, delay_s: float) -> KeithleyRun:
        if self._old:
            return SteppedRun(self.name, self._scpi, program, self._switch_off)
        return TriggerModelRun(self.name, self._scpi, program, self._switch_off, delay_s)

    def _delay_s(self, program: Program) -> float:
        """The pause between two readings that makes their interval, as far as it is known."""
        cycles = program.line_cycles
        spent_s = self._spent_s.get(cycles, cycles * _CYCLE_S * _CYCLES_PER_READING)
        return max(program.interval_s - spent_s, keithley_2450.DELAY_MIN_S)

    async def _prepare(self, program: Program, commands: list[str]) -> None:
        """Set the unit up with its output off, and read back what protects the cell."""
        if not self._old:
            await self._make_room(program.rows)
        await self._scpi.configure(commands)
        dialect = keithley_2400 if self._old else keithley_2450
        await self._require_kept(dialect.limit_header(program), program.limit)
        # A command that was lost on its way is no error in the queue: look at what it is to do.
        await self._require_functions(program)
        await self._require_kept(
            f":SOUR:{keithley_2450.SHORT[program.controls]}", program.levels[0]
        )

    async def _make_room(self, rows: int) -> None:
        if rows <= self._buffer:
            return
        buffer = keithley_2450.BUFFER
        await self._scpi.configure([f':TRAC:POIN {rows},"{buffer}"'])
        self._buffer = int(await self._scpi.number(f':TRAC:POIN? "{buffer}"'))
        if self._buffer < rows:
            message = f"its buffer holds {self._buffer} readings, not {rows}: sample less often"
            raise InstrumentError(self.name, message)

    async def _require_kept(self, header: str, value: float) -> None:
        found = await self._scpi.number(f"{header}?")
        if not math.isclose(found, value, rel_tol=_READ_BACK, abs_tol=_NOTHING):
            message = f"keeps {found:g} as {header} instead of {value:g}"
            raise InstrumentError(self.name, message)

    async def _require_functions(self, program: Program) -> None:
        """See that it sources and measures what it should."""
        sourced = keithley_2450.SHORT[program.controls]
        measured = keithley_2450.SHORT[program.measures]
        # The older unit measures both at once.
        for query, wanted in (
            (":SOUR:FUNC?", {sourced}),
            (":SENS:FUNC?", {measured, sourced} if self._old else {measured}),
        ):
            found = (await self._scpi.ask(query)).upper()
            if not all(function in found for function in wanted):
                self._scpi.out_of_step()
                message = f"answers {found!r} to {query}, not {' and '.join(sorted(wanted))}"
                raise InstrumentError(self.name, message)

    async def _leave(self, run: KeithleyRun, program: Program) -> None:
        """See that the output is off after a technique, however it ended."""
        try:
            with opening_cell(self.name):
                await self._switch_off(gently=run.ending is not None)
        finally:
            run.end()
            self._run = None
        if isinstance(run, TriggerModelRun) and not math.isnan(run.spent_s):
            self._spent_s[program.line_cycles] = max(0.0, run.spent_s)

    async def _interrupt(self) -> None:
        await self._switch_off()
        if self._run is not None:
            self._run.end()

    async def _switch_off(self, *, gently: bool = False) -> None:
        """Switch off, and see that it is; what has ended by itself is only looked at first."""
        async with self._scpi.lock:
            if not gently or await self._scpi.number(":OUTP?") != 0:
                await self._off()

    async def _off(self) -> None:
        """Abort and switch off with an open relay, read back; all of it again if need be.

        Raises:
            InstrumentError: It could not be confirmed.
        """
        for attempt in range(_OFF_ATTEMPTS):
            try:
                await self._try_off()
            except InstrumentError:
                if attempt + 1 == _OFF_ATTEMPTS:
                    raise
            else:
                return

    async def _try_off(self) -> None:
        modes = self._off_modes
        # High impedance first: switching off in another off state would load the cell.
        for command in (":ABOR", *(f"{mode} HIMP" for mode in modes), ":OUTP OFF"):
            await self._scpi.tell(command)
        if not self._old:
            await self._wait_for_idle()
        for mode in modes:
            found = await self._scpi.ask(f"{mode}?")
            if not found.upper().startswith("HIMP"):
                self._scpi.out_of_step()
                raise InstrumentError(self.name, f'answers "{found}" to {mode}?, not HIMP')
        if await self._scpi.number(":OUTP?", attempts=1) != 0:
            raise InstrumentError(self.name, "keeps its output on")

    async def _wait_for_idle(self) -> None:
        """Wait until no trigger model can touch the output any more."""
        now = asyncio.get_running_loop().time
        deadline_s = now() + _ABORT_S
        while state := await self._scpi.word(":TRIG:STAT?", keithley_2450.STATES, attempts=1):
            if state not in keithley_2450.ACTIVE:
                return
            if now() > deadline_s:
                raise InstrumentError(self.name, f"does not abort: its trigger model is {state}")
            await asyncio.sleep(_ABORT_LOOK_S)

    async def _reset(self) -> None:
        """Bring every setting to its default, and then those that differ."""
        buffer = keithley_2450.BUFFER
        terminals = "FRON" if self._options.terminals == "front" else "REAR"
        # In one message: a reset unit is a source of 0 V until it is told to open its relay.
        await self._scpi.tell(
            ";:".join(["*RST", *(f"{mode[1:]} HIMP" for mode in self._off_modes)])
        )
        if self._old:
            commands = ["*CLS"]
        else:
            # Whether a reset deletes the buffer or not: that there is none is no complaint.
            commands = [f':TRAC:DEL "{buffer}"', "*CLS"]
            commands.append(f':TRAC:MAKE "{buffer}",{self._options.buffer}')
        await self._scpi.configure([*commands, f":ROUT:TERM {terminals}"])
        found = await self._scpi.ask(":ROUT:TERM?")
        if not found.upper().startswith(terminals):
            message = f'answers "{found}" to :ROUT:TERM?, not {terminals}'
            raise InstrumentError(self.name, message)
        self._buffer = self._options.buffer

    @property
    def _off_modes(self) -> list[str]:
        """The commands of the output-off state."""
        return [":OUTP:SMOD"] if self._old else [":OUTP:VOLT:SMOD", ":OUTP:CURR:SMOD"]

    def _require_model(self, fields: list[str]) -> str:
        if len(fields) != 4 or not fields[0].upper().startswith("KEITHLEY"):
            raise InstrumentError(self.name, f'is no Keithley: answers "{",".join(fields)}"')
        model = fields[1].upper().removeprefix("MODEL").strip()
        wanted = _SERIES_2400 if self._old else {self._options.model}
        if model not in wanted:
            message = f"is a {model}, the bench says {self._options.model}"
            raise InstrumentError(self.name, message)
        return model

    async def _require_language(self) -> None:
        language = await self._scpi.ask("*LANG?")
        if language != "SCPI":
            message = f'its command set is "{language}": send *LANG SCPI, and switch it off and on'
            raise InstrumentError(self.name, message)


def _capabilities(options: KeithleyOptions, reach: Reach) -> ChannelCapabilities:
    old = options.model == "2400"
    # What is measured ends a technique on the instrument, what is controlled is bounded by itself.
    on_device = frozenset[str]() if old else frozenset({"duration", "voltage", "current"})
    known = {"voltage_max": options.voltage_max, "current_max": options.current_max}
    return ChannelCapabilities(
        model=f"Keithley {options.model}",
        voltage_min_V=-reach.voltage_max_V,
        voltage_max_V=reach.voltage_max_V,
        current_max_A=reach.current_max_A,
        current_min_A=1e-9,
        interval_min_s=0.2 if old else 0.02,
        techniques=frozenset({"rest", "constant current", "constant voltage", "sweep"}),
        impedance=None,
        on_device=on_device,
        bounded_without_host=not old,
        reaction=ReactionTime(_INTERVAL_USUAL_S, 0.1, 0.1),
        voltage_noise_V=20e-6,
        unverified=tuple(each for each in _UNVERIFIED if known.get(each) is None),
    )
