"""Commands of the Keithley 2400, the older dialect: several functions at once, one fixed buffer.

Sources: user's manual of the 2400 series: SCPI command reference, status structure, output-off
states. After a reset a reading has all five elements (voltage, current, resistance, time, status);
what is neither measured nor sourced reads +9.91E37, beyond the range +9.9E37. While readings are
made, other commands than ``:ABORt``, ``:TRIGger:CLEar`` and common ones wait for their end.

Not emulated: sweeps and source memory, limit tests, filters across readings, binary formats.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellbench_sim.emulators.scpi import Call, Event, Handler, ScpiError, Steps
from cellbench_sim.emulators.scpi_device import Settings
from cellbench_sim.emulators.source_measure import (
    CURRENT,
    OVERFLOW,
    RESISTANCE,
    VOLTAGE,
    Sense,
    Source,
    covering,
)

if TYPE_CHECKING:
    from cellbench_sim.emulators.keithley import KeithleyEmulator

NOT_A_NUMBER = 9.91e37
_ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
_OUTPUT_OFF = (802, "Not permitted with OUTPUT off")
_STALE = (-230, "Data corrupt or stale")
_CYCLES_MAX, _DELAY_MAX_S = 2500, 999.9999
_PROTECTION_V = (20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 160.0)
#: Bits of the status word of a reading.
_OVERFLOWED, _FILTERED, _FRONT, _COMPLIANCE, _PROTECTED, _REMOTE = 0, 1, 2, 3, 4, 22
_MEASURED = {VOLTAGE: 11, CURRENT: 12, RESISTANCE: 13}
_SOURCED = {VOLTAGE: 14, CURRENT: 15}
#: Bits of the measurement event register.
_READING_AVAILABLE, _READING_OVERFLOWED = 1 << 6, 1 << 7
_BUFFER_AVAILABLE, _BUFFER_FULL, _IN_COMPLIANCE = 1 << 8, 1 << 9, 1 << 14
_STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "MEAN": statistics.fmean,
    "SDEV": lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
    "MAX": max,
    "MIN": min,
}
_FUNCTIONS = "(VOLTage|CURRent|RESistance)[:DC]"


@dataclass(frozen=True)
class Reading:
    """One reading, element by element; the time is the unit's own."""

    voltage_V: float
    current_A: float
    resistance_ohm: float
    time_s: float
    status: int

    def shown(self, element: str, since_s: float) -> str:
        """Return an element as replies hold it."""
        value = {
            "VOLT": self.voltage_V,
            "CURR": self.current_A,
            "RES": self.resistance_ohm,
            "TIME": self.time_s - since_s,
            "STAT": float(self.status),
        }[element]
        return f"{value:+.6E}"


class Dialect2400:
    """The commands and the buffer.

    Args:
        device: The unit.
    """

    def __init__(self, device: KeithleyEmulator) -> None:
        self._device, self._smu = device, device.smu
        self._buffer: list[Reading] = []
        self.points, self._feeds, self.timestamp = 100, False, "ABS"
        self.statistic, self.terminals = "MEAN", "FRON"
        self._readings: list[Reading] = []
        self._cycles: Generator[float, None, None] | None = None
        self._timer: asyncio.Handle | None = None
        self._since_s = 0.0
        self.event_register, self.event_enable = 0, 0
        self.enabled = {"QUES": 0, "OPER": 0}
        self._set_defaults()
        self._add_commands()

    def _set_defaults(self) -> None:
        self._measured = [CURRENT]
        self.concurrent, self.auto_off, self.auto_ohms = True, False, True
        self._elements = ["VOLT", "CURR", "RES", "TIME", "STAT"]
        self.trigger_count, self.arm_count, self.trigger_delay_s = 1, 1, 0.0
        self.format = "ASC"

    # ------------------------------------------------------------------ what the device asks

    def reset(self) -> None:
        """Stop, and forget all settings; the buffer keeps its readings."""
        self._abort()
        self._set_defaults()

    def busy(self) -> bool:
        """Whether readings are being made that INITiate has started."""
        return self._cycles is not None

    def on_limit(self) -> None:
        """Note that the source has come to its limit."""
        self.event_register |= _IN_COMPLIANCE

    def status_bits(self) -> int:
        """Return the bit of the status byte that sums up the measurement events."""
        return 1 if self.event_register & self.event_enable else 0

    def format_event(self, event: Event | None) -> str:
        """Return an event; the unit's own numbers have a sign."""
        if event is None:
            return '0,"No error"'
        return f'{event.code:+d},"{event.text}"'

    # ------------------------------------------------------------------ readings

    def _cycle(self) -> Generator[float, None, None]:
        """Make as many readings as the trigger model is set to."""
        for _ in range(self.arm_count * self.trigger_count):
            if self.auto_off:
                self._smu.switch(True)
            if self.trigger_delay_s > 0:
                yield self._device.now() + self.trigger_delay_s
            reading = yield from self._measure()
            if self.auto_off:
                self._smu.switch(False)
            self._readings.append(reading)
            self._keep(reading)

    def _measure(self) -> Generator[float, None, Reading]:
        smu = self._smu
        if smu.source.delay_s > 0 and not smu.source.auto_delay:
            yield self._device.now() + smu.source.delay_s
        measured = [name for name in (VOLTAGE, CURRENT) if name in self._measured]
        if RESISTANCE in self._measured:
            measured = [VOLTAGE, CURRENT]
        converted = yield from self._device.converted(*measured)
        values = dict(zip(measured, converted, strict=True))
        values.setdefault(smu.function, smu.source.level)
        volts, amperes = (values.get(name, NOT_A_NUMBER) for name in (VOLTAGE, CURRENT))
        ohms = NOT_A_NUMBER
        if RESISTANCE in self._measured:
            overflows = OVERFLOW in (volts, amperes) or amperes == 0
            ohms = OVERFLOW if overflows else volts / amperes
        return Reading(volts, amperes, ohms, self._device.clock_s(), self._status(converted))

    def _status(self, converted: list[float]) -> int:
        smu = self._smu
        bits = {
            _OVERFLOWED: OVERFLOW in converted,
            _FILTERED: smu.senses[VOLTAGE].averaging,
            _FRONT: self.terminals == "FRON",
            _COMPLIANCE: smu.limited,
            _PROTECTED: smu.protecting,
            _REMOTE: smu.senses[VOLTAGE].remote,
            _SOURCED[smu.function]: True,
        } | {_MEASURED[name]: True for name in self._measured}
        if OVERFLOW in converted:
            self.event_register |= _READING_OVERFLOWED
        return sum(1 << bit for bit, is_set in bits.items() if is_set)

    def _keep(self, reading: Reading) -> None:
        self.event_register |= _READING_AVAILABLE
        if not self._feeds:
            return
        self._buffer.append(reading)
        if len(self._buffer) > 1:
            self.event_register |= _BUFFER_AVAILABLE
        if len(self._buffer) >= self.points:
            self._feeds = False
            self.event_register |= _BUFFER_FULL

    def _check_output(self) -> None:
        if not (self._smu.output or self.auto_off):
            raise ScpiError(*_OUTPUT_OFF)

    def _initiate(self, _: Call) -> None:
        if self._cycles is not None:
            raise ScpiError(-213)
        self._check_output()
        self._readings = []
        self._cycles = self._cycle()
        self._step()

    def _step(self) -> None:
        """Do what is due of the readings, and set the timer for what comes next."""
        if self._cycles is None:
            return
        try:
            due_s = next(self._cycles)
        except StopIteration:
            self._cycles = self._timer = None
            self._device.wake()
        else:
            self._timer = self._device.call_at(due_s, self._step)

    def _abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._cycles is not None:
            self._cycles = self._timer = None
            self._device.wake()

    def _read(self, _: Call) -> Steps:
        self._check_output()
        self._readings = []
        yield from self._cycle()
        return self._shown(self._readings, self._since_s)

    def _fetch(self, _: Call) -> str:
        if not self._readings:
            raise ScpiError(*_STALE)
        return self._shown(self._readings, self._since_s)

    def _configure(self, call: Call) -> None:
        """Prepare a one-shot measurement; as the manual warns, this turns the output on."""
        if call.captured[0]:
            self._measured = [call.captured[0]]
        for sense in self._smu.senses.values():
            sense.nplc, sense.autozero, sense.averaging = 1.0, True, False
        for name in self._measured:
            self._smu.senses[name].auto_range = True
        self.trigger_count, self.arm_count, self.trigger_delay_s = 1, 1, 0.0
        self._smu.switch(True)

    def _configure_and_read(self, call: Call) -> Steps:
        self._configure(call)
        return self._read(call)

    def _shown(self, readings: list[Reading], since_s: float) -> str:
        return ",".join(
            reading.shown(element, since_s) for reading in readings for element in self._elements
        )

    # ------------------------------------------------------------------ commands

    def _add_commands(self) -> None:
        self._settings = Settings(self._device.commands, self._check_idle, self._smu.apply)
        self._add_source_commands()
        self._add_sense_commands()
        self._add_output_commands()
        self._add_trigger_commands()
        self._add_buffer_commands()
        self._add_system_commands()

    def _add(self, pattern: str, handler: Handler, least: int = 0, most: int | None = None) -> None:
        """Add a command that waits until readings are done."""

        def waits(call: Call) -> str | Steps | None:
            return self._afterwards(handler, call) if self.busy() else handler(call)

        self._device.commands.add(pattern, waits, least, most)

    def _afterwards(self, handler: Handler, call: Call) -> Steps:
        while self.busy():
            yield None
        outcome = handler(call)
        if isinstance(outcome, Generator):
            outcome = yield from outcome
        return outcome

    def _check_idle(self) -> None:
        if self.busy():
            raise ScpiError(-221)

    # ------------------------------------------------------------------ source

    def _add_source_commands(self) -> None:
        either = "SOURce[1]:(VOLTage|CURRent)"
        level = f"{either}[:LEVel][:IMMediate][:AMPLitude]"
        self._add("SOURce[1]:FUNCtion[:MODE]", self._choose_source, 1)
        self._add("SOURce[1]:FUNCtion[:MODE]?", lambda _: self._smu.function)
        self._add(f"{either}:MODE", self._only_fixed, 1)
        self._add(f"{either}:MODE?", lambda _: "FIX")
        self._add(level, self._set_level, 1)
        self._add(f"{level}?", lambda call: f"{self._source(call).level:+.6E}")
        self._add(f"{either}:RANGe", self._set_source_range, 1)
        self._add(f"{either}:RANGe?", self._source_range)
        self._settings.flag(f"{either}:RANGe:AUTO", self._source, "auto_range")
        self._add("SOURce[1]:VOLTage:PROTection[:LEVel]", self._protect, 1)
        self._add("SOURce[1]:VOLTage:PROTection[:LEVel]?", lambda _: self._protection())
        self._add("SOURce[1]:DELay", self._set_delay, 1)
        self._add("SOURce[1]:DELay?", lambda _: f"{self._smu.source.delay_s:+.6E}")
        self._add("SOURce[1]:DELay:AUTO", self._set_auto_delay, 1)
        self._add("SOURce[1]:DELay:AUTO?", lambda _: str(int(self._smu.source.auto_delay)))
        self._add("SOURce[1]:CLEar[:IMMediate]", lambda _: self._smu.switch(False))
        self._settings.flag("SOURce[1]:CLEar:AUTO", lambda _: self, "auto_off")

    def _source(self, call: Call) -> Source:
        return self._smu.sources[call.captured[0]]

    def _choose_source(self, call: Call) -> None:
        self._smu.choose_function(call.choice(0, "VOLTage", "CURRent"))

    def _only_fixed(self, call: Call) -> None:
        call.choice(0, "FIXed")

    def _largest(self, function: str) -> float:
        model = self._smu.model
        return model.voltage_max_V if function == VOLTAGE else model.current_max_A

    def _set_level(self, call: Call) -> None:
        function, source = call.captured[0], self._source(call)
        largest = self._largest(function) if source.auto_range else 1.05 * source.range
        source.level = call.number(0, -largest, largest, 0.0)
        self._smu.apply()

    def _set_source_range(self, call: Call) -> None:
        function, source = call.captured[0], self._source(call)
        largest = self._largest(function)
        wanted = abs(call.number(0, -largest, largest))
        source.range = covering(self._smu.ranges(function), wanted).full_scale
        source.auto_range = False
        self._smu.apply()

    def _source_range(self, call: Call) -> str:
        return f"{self._smu.source_range(call.captured[0]).full_scale:+.6E}"

    def _protect(self, call: Call) -> None:
        volts = math.inf
        if call.raw(0).upper() != "NONE":
            wanted = abs(call.number(0, -self._largest(VOLTAGE), self._largest(VOLTAGE)))
            volts = next((level for level in _PROTECTION_V if wanted <= level), math.inf)
        self._smu.sources[VOLTAGE].protection_V = volts
        self._smu.apply()

    def _protection(self) -> str:
        volts = self._smu.sources[VOLTAGE].protection_V
        return f"{self._largest(VOLTAGE) if math.isinf(volts) else volts:+.6E}"

    def _set_delay(self, call: Call) -> None:
        delay_s = call.number(0, 0.0, _DELAY_MAX_S, 0.0)
        for source in self._smu.sources.values():
            source.delay_s, source.auto_delay = delay_s, False

    def _set_auto_delay(self, call: Call) -> None:
        for source in self._smu.sources.values():
            source.auto_delay = call.boolean(0)

    # ------------------------------------------------------------------ measurement

    def _add_sense_commands(self) -> None:
        sense = f"SENSe[1]:{_FUNCTIONS}"
        self._add("SENSe[1]:FUNCtion[:ON]", self._switch_functions_on, 1, 3)
        self._add("SENSe[1]:FUNCtion[:ON]?", lambda _: self._functions())
        self._add("SENSe[1]:FUNCtion:OFF", self._switch_functions_off, 1, 3)
        self._add("SENSe[1]:FUNCtion:[ON:]ALL", lambda _: self._measure_all())
        self._add("SENSe[1]:FUNCtion:OFF:ALL", lambda _: self._measured.clear())
        self._settings.flag("SENSe[1]:FUNCtion:CONCurrent", lambda _: self, "concurrent")
        self._add("SENSe[1]:(VOLTage|CURRent)[:DC]:PROTection[:LEVel]", self._set_compliance, 1)
        self._add("SENSe[1]:(VOLTage|CURRent)[:DC]:PROTection[:LEVel]?", self._compliance)
        self._add(
            "SENSe[1]:(VOLTage|CURRent)[:DC]:PROTection:TRIPped?",
            self._is_limited,
        )
        self._add(f"{sense}:RANGe[:UPPer]", self._set_measure_range, 1)
        self._add(f"{sense}:RANGe[:UPPer]?", lambda call: f"{self._sense(call).range:+.6E}")
        self._settings.flag(f"{sense}:RANGe:AUTO", self._sense, "auto_range")
        self._add(f"{sense}:NPLCycles", self._set_cycles, 1)
        self._add(f"{sense}:NPLCycles?", lambda _: f"{self._smu.senses[VOLTAGE].nplc:+.6E}")
        self._add("SENSe[1]:AVERage[:STATe]", self._set_averaging, 1)
        self._add(
            "SENSe[1]:AVERage[:STATe]?", lambda _: str(int(self._smu.senses[VOLTAGE].averaging))
        )
        self._add("SENSe[1]:AVERage:COUNt", self._set_average_count, 1)
        self._add("SENSe[1]:AVERage:COUNt?", lambda _: str(self._smu.senses[VOLTAGE].average_count))
        self._add("SENSe[1]:AVERage:TCONtrol", self._set_average_control, 1)
        self._add("SENSe[1]:AVERage:TCONtrol?", lambda _: self._smu.senses[VOLTAGE].average_control)
        self._add("SENSe[1]:RESistance:MODE", self._set_ohms_mode, 1)
        self._add("SENSe[1]:RESistance:MODE?", lambda _: "AUTO" if self.auto_ohms else "MAN")

    def _sense(self, call: Call) -> Sense:
        return self._smu.senses[call.captured[0]]

    def _named_functions(self, call: Call) -> list[str]:
        return [
            call.choice(
                index, "VOLTage", "CURRent", "RESistance", "VOLTage:DC", "CURRent:DC"
            ).removesuffix(":DC")
            for index in range(len(call))
        ]

    def _switch_functions_on(self, call: Call) -> None:
        names = self._named_functions(call)
        if not self.concurrent:
            self._measured = names[-1:]
            return
        self._measured += [name for name in names if name not in self._measured]

    def _switch_functions_off(self, call: Call) -> None:
        names = self._named_functions(call)
        self._measured = [name for name in self._measured if name not in names]

    def _measure_all(self) -> None:
        self._measured = [VOLTAGE, CURRENT, RESISTANCE]

    def _functions(self) -> str:
        names = {VOLTAGE: '"VOLT:DC"', CURRENT: '"CURR:DC"', RESISTANCE: '"RES"'}
        return ",".join(names[name] for name in self._measured) or '""'

    def _limited_source(self, call: Call) -> Source:
        """Return the source whose limit is of the quantity that the command names."""
        return self._smu.sources[CURRENT if call.captured[0] == VOLTAGE else VOLTAGE]

    def _is_limited(self, call: Call) -> str:
        return str(int(self._device.is_limited() and self._smu.function != call.captured[0]))

    def _set_compliance(self, call: Call) -> None:
        largest = self._largest(call.captured[0])
        default = 21.0 if call.captured[0] == VOLTAGE else 1.05e-4
        self._limited_source(call).limit = abs(call.number(0, -largest, largest, default))
        self._smu.apply()

    def _compliance(self, call: Call) -> str:
        return f"{self._limited_source(call).limit:+.6E}"

    def _set_measure_range(self, call: Call) -> None:
        function, sense = call.captured[0], self._sense(call)
        largest = 210e6 if function == RESISTANCE else self._largest(function)
        wanted = abs(call.number(0, -largest, largest))
        if function != RESISTANCE:
            wanted = covering(self._smu.ranges(function), wanted).full_scale
        sense.range, sense.auto_range = wanted, False

    def _set_cycles(self, call: Call) -> None:
        for sense in self._smu.senses.values():
            sense.nplc = call.number(0, 0.01, 10.0, 1.0)

    def _set_averaging(self, call: Call) -> None:
        for sense in self._smu.senses.values():
            sense.averaging = call.boolean(0)

    def _set_average_count(self, call: Call) -> None:
        for sense in self._smu.senses.values():
            sense.average_count = call.integer(0, 1, 100, 10)

    def _set_average_control(self, call: Call) -> None:
        for sense in self._smu.senses.values():
            sense.average_control = call.choice(0, "REPeat", "MOVing")

    def _set_ohms_mode(self, call: Call) -> None:
        self.auto_ohms = call.choice(0, "MANual", "AUTO") == "AUTO"

    # ------------------------------------------------------------------ output

    def _add_output_commands(self) -> None:
        self._add("OUTPut[1][:STATe]", lambda call: self._smu.switch(call.boolean(0)), 1)
        self._add("OUTPut[1][:STATe]?", lambda _: str(int(self._smu.output)))
        self._add("OUTPut[1]:SMODe", self._choose_off_state, 1)
        self._add("OUTPut[1]:SMODe?", lambda _: self._smu.source.off_state)
        self._add("ROUTe:TERMinals", self._choose_terminals, 1)
        self._add("ROUTe:TERMinals?", lambda _: self.terminals)

    def _choose_off_state(self, call: Call) -> None:
        state = call.choice(0, "HIMPedance", "NORMal", "ZERO", "GUARd")
        for function in self._smu.sources:
            self._smu.choose_off_state(function, state)

    def _choose_terminals(self, call: Call) -> None:
        self._smu.switch(False)
        self.terminals = call.choice(0, "FRONt", "REAR")

    # ------------------------------------------------------------------ trigger model

    def _add_trigger_commands(self) -> None:
        commands, settings = self._device.commands, self._settings
        commands.add("INITiate[:IMMediate]", self._initiate)
        commands.add("ABORt", lambda _: self._abort())
        commands.add("TRIGger:CLEar", lambda _: self._abort())
        settings.integer("TRIGger:COUNt", lambda _: self, "trigger_count", (1, _CYCLES_MAX, 1))
        settings.integer("ARM:COUNt", lambda _: self, "arm_count", (1, _CYCLES_MAX, 1))
        settings.number(
            "TRIGger:DELay", lambda _: self, "trigger_delay_s", (0.0, _DELAY_MAX_S, 0.0)
        )
        for layer in ("TRIGger", "ARM"):
            self._add(f"{layer}:SOURce", self._only_immediate, 1)
            self._add(f"{layer}:SOURce?", lambda _: "IMM")
        self._add("READ?", self._read)
        self._add("FETCh?", self._fetch)
        self._add(f"CONFigure:{_FUNCTIONS}", self._configure)
        self._add("CONFigure?", lambda _: self._functions())
        self._add(f"MEASure[:{_FUNCTIONS}]?", self._configure_and_read)

    def _only_immediate(self, call: Call) -> None:
        call.choice(0, "IMMediate")

    # ------------------------------------------------------------------ buffer

    def _add_buffer_commands(self) -> None:
        root = "(TRACe|DATA)"
        self._add(f"{root}:DATA?", lambda _: self._buffered())
        self._add(f"{root}:CLEar", lambda _: self._buffer.clear())
        self._settings.integer(f"{root}:POINts", lambda _: self, "points", (1, _CYCLES_MAX, 100))
        self._add(f"{root}:POINts:ACTual?", lambda _: str(len(self._buffer)))
        self._add(f"{root}:FEED", self._only_raw, 1)
        self._add(f"{root}:FEED?", lambda _: "SENS1")
        self._add(f"{root}:FEED:CONTrol", self._control_feed, 1)
        self._add(f"{root}:FEED:CONTrol?", lambda _: "NEXT" if self._feeds else "NEV")
        self._settings.choice(
            f"{root}:TSTamp:FORMat", lambda _: self, "timestamp", "ABSolute", "DELTa"
        )
        self._add("FORMat:ELEMents[:SENSe[1]]", self._choose_elements, 1, 5)
        self._add("FORMat:ELEMents[:SENSe[1]]?", lambda _: ",".join(self._elements))
        self._settings.choice("FORMat[:DATA]", lambda _: self, "format", "ASCii")
        self._settings.choice(
            "CALCulate3:FORMat",
            lambda _: self,
            "statistic",
            "MEAN",
            "SDEViation",
            "MAXimum",
            "MINimum",
        )
        self._add("CALCulate3:DATA?", lambda _: self._statistics())

    def _only_raw(self, call: Call) -> None:
        call.choice(0, "SENSe", "SENSe1")

    def _control_feed(self, call: Call) -> None:
        self._feeds = call.choice(0, "NEXT", "NEVer") == "NEXT"
        if self._feeds:
            self._buffer.clear()

    def _choose_elements(self, call: Call) -> None:
        chosen = {call.choice(index, *_ELEMENTS) for index in range(len(call))}
        # Their order in replies is fixed, whatever the order in which they are named.
        self._elements = [
            name for name in ("VOLT", "CURR", "RES", "TIME", "STAT") if name in chosen
        ]

    def _buffered(self) -> str:
        """Return the buffer; its times count from its first reading, or from the one before."""
        if not self._buffer:
            raise ScpiError(*_STALE)
        first_s = self._buffer[0].time_s
        if self.timestamp == "ABS":
            return self._shown(self._buffer, first_s)
        earlier_s = [first_s, *(reading.time_s for reading in self._buffer)]
        return ",".join(
            self._shown([reading], since_s)
            for reading, since_s in zip(self._buffer, earlier_s, strict=False)
        )

    def _statistics(self) -> str:
        if not self._buffer:
            raise ScpiError(*_STALE)
        columns = (
            [reading.voltage_V for reading in self._buffer],
            [reading.current_A for reading in self._buffer],
            [reading.resistance_ohm for reading in self._buffer],
        )
        return ",".join(f"{self._of(column):+.6E}" for column in columns)

    def _of(self, values: list[float]) -> float:
        if NOT_A_NUMBER in values:
            return NOT_A_NUMBER
        return _STATISTICS[self.statistic](values)

    # ------------------------------------------------------------------ system

    def _add_system_commands(self) -> None:
        commands, settings = self._device.commands, self._settings
        self._add("SYSTem:RSENse", self._set_remote, 1)
        self._add("SYSTem:RSENse?", lambda _: str(int(self._smu.senses[VOLTAGE].remote)))
        self._add("SYSTem:AZERo[:STATe]", self._set_autozero, 1)
        self._add("SYSTem:AZERo[:STATe]?", lambda _: str(int(self._smu.senses[VOLTAGE].autozero)))
        self._add("SYSTem:TIME:RESet", lambda _: self._reset_time())
        self._add("SYSTem:LFRequency?", lambda _: f"{self._smu.line_Hz:g}")
        self._add("SYSTem:BEEPer[:IMMediate]", self._beep, 2)
        self._add("SYSTem:PRESet", lambda _: self._preset())
        commands.add("STATus:PRESet", lambda _: self._forget_enables())
        commands.add("STATus:MEASurement[:EVENt]?", lambda _: str(self._take_events()))
        commands.add("STATus:MEASurement:CONDition?", lambda _: str(self.event_register))
        settings.integer("STATus:MEASurement:ENABle", lambda _: self, "event_enable", (0, 65535, 0))
        for register in ("QUEStionable", "OPERation"):
            commands.add(f"STATus:({register}):ENABle", self._enable, 1)
            commands.add(
                f"STATus:({register}):ENABle?", lambda call: str(self.enabled[call.captured[0]])
            )

    def _set_remote(self, call: Call) -> None:
        for sense in self._smu.senses.values():
            sense.remote = call.boolean(0)

    def _set_autozero(self, call: Call) -> None:
        if call.raw(0).upper() == "ONCE":
            return
        for sense in self._smu.senses.values():
            sense.autozero = call.boolean(0)

    def _reset_time(self) -> None:
        self._since_s = self._device.clock_s()

    def _beep(self, call: Call) -> Steps:
        call.number(0, 65.0, 2e6)
        yield self._device.now() + call.number(1, 0.0, 7.9)
        return None

    def _preset(self) -> None:
        self.reset()
        self._smu.reset()

    def _take_events(self) -> int:
        events, self.event_register = self.event_register, 0
        return events

    def _forget_enables(self) -> None:
        self.event_enable, self.enabled = 0, dict.fromkeys(self.enabled, 0)

    def _enable(self, call: Call) -> None:
        self.enabled[call.captured[0]] = call.integer(0, 0, 65535)
