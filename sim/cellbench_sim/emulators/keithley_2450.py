"""Commands of the Keithley 2450, 2460 and 2461 (their own SCPI, not the one of the 2400).

Sources: reference manuals 2450-901-01 and 2461-901-01: SCPI command reference, event numbers,
output-off states. Decided where they are silent: commands that would change source, measurement,
output or blocks are refused (-221) while the trigger model runs, ``:ABORt`` and ``*RST`` apart;
``:ABORt`` leaves the output as it is; readings past the end of a full buffer are lost (4915) and
the model runs on; ``:TRACe:DATA?`` of readings that are not there is refused (-222).

Not emulated: sweeps and source lists, limit tests, digital lines, contact check, binary formats.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from cellbench_sim.emulators.keithley_buffers import (
    FOUR_WIRE,
    FRONT,
    LIMITED,
    OUTPUT_ON,
    PROTECTED,
    QUESTIONABLE,
    READ_BACK,
    Reading,
    ReadingBuffer,
    date_of,
    elements_of,
    shown,
)
from cellbench_sim.emulators.keithley_trigger import TriggerModel
from cellbench_sim.emulators.keithley_trigger_commands import TriggerCommands
from cellbench_sim.emulators.scpi import Call, Event, Handler, ScpiError, Steps
from cellbench_sim.emulators.scpi_device import Settings
from cellbench_sim.emulators.source_measure import (
    CURRENT,
    OVERFLOW,
    RESISTANCE,
    VOLTAGE,
    Sense,
    Source,
)

if TYPE_CHECKING:
    from cellbench_sim.emulators.keithley import KeithleyEmulator

_DEFAULT_BUFFER = "defbuffer1"
_DEFAULT_CAPACITY, _CAPACITY_MIN, _CAPACITY_MAX = 100_000, 10, 6_000_000
_BUFFER_EXISTS = (1115, "Parameter error, TRACe:MAKE cannot take an existing reading buffer name")
_BUFFER_FULL = (4915, "Attempting to store past capacity of reading buffer")
_INTERLOCK_OPEN = (5074, "Output voltage limited by interlock")
_WARNED_ABOVE_V = 21.0
_PROTECTION_V = ("2", "5", "10", "20", "40", "60", "80", "100", "120", "140", "160", "180")
_LONGEST_DELAY_S = 10e3
_COUNT_MAX = 1_000_000
#: Levels that one command adds to a list, and that a list holds.
_LIST_LINE, _LIST_MAX = 100, 2500
_FUNCTIONS = "(VOLTage|CURRent|RESistance)[:DC]"


class Dialect2450:
    """The commands, the reading buffers and the trigger model.

    Args:
        device: The unit.

    Attributes:
        trigger: The trigger model.
        buffers: By name.
    """

    def __init__(self, device: KeithleyEmulator) -> None:
        self._device, self._smu = device, device.smu
        self.trigger = TriggerModel(self)
        self._set_defaults()
        self._add_commands()

    def _set_defaults(self) -> None:
        self.count, self.precision, self.terminals = 1, 0, "FRON"
        self.format, self.access = "ASC", "FULL"
        self.buffers = {
            name: ReadingBuffer(_DEFAULT_CAPACITY, continuous=True)
            for name in (_DEFAULT_BUFFER, "defbuffer2")
        }
        self._lists: dict[str, dict[str, list[tuple[str, Source] | tuple[str, Sense]]]] = {
            "SOUR": {},
            "SENS": {},
        }

    # ------------------------------------------------------------------ what the device asks

    def reset(self) -> None:
        """Stop the trigger model, forget its blocks, buffers of the user and settings."""
        self.trigger.abort()
        self.trigger.clear()
        self._set_defaults()

    def busy(self) -> bool:
        """Whether the trigger model runs."""
        return self.trigger.running

    def on_limit(self) -> None:
        """Let the event happen that the source has come to its limit."""
        self.trigger.post("SLIM")

    def status_bits(self) -> int:
        """Return bits of the status byte: none of its own."""
        return 0

    def format_event(self, event: Event | None) -> str:
        """Return an event with its kind and time."""
        if event is None:
            return '0,"No error;0,0,0"'
        moment = f"{date_of(event.time_s):%Y/%m/%d %H:%M:%S.%f}"[:-3]
        return f'{event.code},"{event.text};{event.kind};{moment}"'

    # ------------------------------------------------------------------ what blocks ask

    def now(self) -> float:
        """Return the bench's time."""
        return self._device.now()

    def call_at(self, time_s: float, action: Callable[[], None]) -> asyncio.Handle:
        """Call ``action`` at a time of the bench."""
        return self._device.call_at(time_s, action)

    def log(self, code: int, text: str, kind: int = 1) -> None:
        """Enter an event into the log."""
        self._device.log(code, text, kind)

    def wake(self) -> None:
        """The trigger model has ended."""
        self._device.wake()

    def clear_buffer(self, buffer: str) -> None:
        """Forget a buffer's readings."""
        self._buffer(buffer).clear()

    def switch_output(self, on: bool) -> None:
        """Switch the output."""
        smu = self._smu
        limit_V = self._smu.source.limit if smu.function == CURRENT else abs(smu.source.level)
        if on and not smu.interlock and limit_V > _WARNED_ABOVE_V:
            self.log(*_INTERLOCK_OPEN, kind=2)
        smu.switch(on)

    def recall(self, side: str, name: str, index: int) -> None:
        """Recall settings from a configuration list."""
        entries = self._list(side, name)
        if not 1 <= index <= len(entries):
            raise ScpiError(-222)
        function, settings = copy.deepcopy(entries[index - 1])
        if isinstance(settings, Source):
            self._smu.choose_function(function)
            self._smu.sources[function] = settings
            self._smu.apply()
        else:
            self._smu.measured = function
            self._smu.senses[function] = settings

    def list_length(self, side: str, name: str) -> int:
        """Return how many entries a configuration list has."""
        return len(self._list(side, name))

    def measure(self, buffer: str, count: int) -> Generator[float, None, Reading]:
        """Make readings into a buffer; return the last."""
        reading = yield from self._measure_once(buffer)
        for _ in range(count - 1):
            reading = yield from self._measure_once(buffer)
        return reading

    def _measure_once(self, buffer: str) -> Generator[float, None, Reading]:
        smu = self._smu
        reads_back = smu.output and smu.source.read_back and smu.function != smu.measured
        functions = (smu.measured, smu.function) if reads_back else (smu.measured,)
        values = yield from self._device.converted(*functions)
        sourced = values[0] if smu.function == smu.measured and smu.output else smu.source.level
        reading = Reading(
            function=smu.measured,
            value=values[0],
            source_function=smu.function,
            source_value=values[1] if reads_back else sourced,
            time_s=self._device.clock_s(),
            status=self._status(values[0]),
            source_status=self._source_status(),
        )
        if not self._buffer(buffer).add(reading):
            self.log(*_BUFFER_FULL)
        return reading

    def _status(self, value: float) -> int:
        front = FRONT if self.terminals == "FRON" else 0
        return front | (QUESTIONABLE if abs(value) >= OVERFLOW else 0)

    def _source_status(self) -> int:
        smu = self._smu
        bits = (
            (PROTECTED, smu.protecting), (READ_BACK, smu.source.read_back and smu.output),
            (LIMITED, smu.limited), (FOUR_WIRE, smu.remote), (OUTPUT_ON, smu.output),
        )  # fmt: skip
        return sum(bit for bit, is_set in bits if is_set)

    # ------------------------------------------------------------------ commands

    def _add_commands(self) -> None:
        settings = Settings(self._device.commands, self._check_idle, lambda: None)
        self._add_source_commands()
        self._add_sense_commands()
        self._add_output_commands()
        self._add_buffer_commands()
        self._add_list_commands()
        self._add_sweep_lists()
        TriggerCommands(self).add(settings, digitizes=self._device.model == "2461")
        self._add_system_commands()

    def add(self, pattern: str, handler: Handler, least: int = 0, most: int | None = None) -> None:
        """Add a command or a query, with so many parameters."""
        self._device.commands.add(pattern, handler, least, most)

    def add_change(
        self, pattern: str, handler: Handler, least: int = 0, most: int | None = None
    ) -> None:
        """Add what is refused while the trigger model runs."""

        def checked(call: Call) -> str | Steps | None:
            self._check_idle()
            return handler(call)

        self.add(pattern, checked, least, most)

    def _check_idle(self) -> None:
        if self.trigger.running:
            raise ScpiError(-221)

    # ------------------------------------------------------------------ source

    def _add_source_commands(self) -> None:
        settings = Settings(self._device.commands, self._check_idle, self._smu.apply)
        either = "SOURce[1]:(VOLTage|CURRent)"
        level = f"{either}[:LEVel][:IMMediate][:AMPLitude]"
        self.add_change("SOURce[1]:FUNCtion[:MODE]", self._choose_source, 1)
        self.add("SOURce[1]:FUNCtion[:MODE]?", lambda _: self._smu.function)
        self.add_change(level, self._set_level, 1)
        self.add(f"{level}?", lambda call: f"{self._source(call).level:+.6E}")
        self.add_change(f"{either}:RANGe", self._set_source_range, 1)
        self.add(f"{either}:RANGe?", self._source_range)
        settings.flag(f"{either}:RANGe:AUTO", self._source, "auto_range")
        self.add_change(f"{either}:DELay", self._set_delay, 1)
        self.add(f"{either}:DELay?", lambda call: f"{self._source(call).delay_s:+.6E}")
        settings.flag(f"{either}:DELay:AUTO", self._source, "auto_delay")
        settings.flag(f"{either}:READ:BACK", self._source, "read_back")
        self.add_change("SOURce[1]:(VOLTage):ILIMit[:LEVel]", self._set_limit, 1)
        self.add_change("SOURce[1]:(CURRent):VLIMit[:LEVel]", self._set_limit, 1)
        for limit in ("(VOLTage):ILIMit", "(CURRent):VLIMit"):
            self.add(f"SOURce[1]:{limit}[:LEVel]?", lambda call: f"{self._source(call).limit:+.6E}")
            self.add(f"SOURce[1]:{limit}[:LEVel]:TRIPped?", self._is_limited)
        self.add_change("SOURce[1]:VOLTage:PROTection[:LEVel]", self._protect, 1)
        self.add("SOURce[1]:VOLTage:PROTection[:LEVel]?", lambda _: self._protection())
        self.add(
            "SOURce[1]:VOLTage:PROTection[:LEVel]:TRIPped?",
            lambda _: str(int(self._smu.protecting)),
        )

    def _source(self, call: Call) -> Source:
        return self._smu.sources[call.captured[0]]

    def _choose_source(self, call: Call) -> None:
        self._smu.choose_function(call.choice(0, "VOLTage", "CURRent"))

    def _largest(self, function: str) -> float:
        model = self._smu.model
        return model.voltage_max_V if function == VOLTAGE else model.current_max_A

    def _set_level(self, call: Call) -> None:
        function, source = call.captured[0], self._source(call)
        largest = self._largest(function) if source.auto_range else 1.05 * source.range
        level = call.number(0, -largest, largest, 0.0)
        self._check_power(function, level, source.limit)
        source.level = level
        self._smu.apply()

    def _check_power(self, function: str, level: float, limit: float) -> None:
        """Refuse what no range of the output stage holds."""
        voltage_V, current_A = (level, limit) if function == VOLTAGE else (limit, level)
        if abs(current_A) > self._smu.model.current_at_A(voltage_V) * (1 + 1e-9):
            raise ScpiError(-221)

    def _set_source_range(self, call: Call) -> None:
        function, source = call.captured[0], self._source(call)
        largest = self._largest(function)
        source.range, source.auto_range = abs(call.number(0, -largest, largest)), False
        self._smu.apply()

    def _source_range(self, call: Call) -> str:
        return f"{self._smu.source_range(call.captured[0]).full_scale:+.6E}"

    def _set_delay(self, call: Call) -> None:
        source = self._source(call)
        source.delay_s, source.auto_delay = call.number(0, 0.0, _LONGEST_DELAY_S, 0.0), False

    def _set_limit(self, call: Call) -> None:
        function, source = call.captured[0], self._source(call)
        volts, amperes = self._smu.model.volts, self._smu.model.amperes
        if function == VOLTAGE:
            limits = amperes[0].full_scale / 10, self._smu.model.current_max_A, 1.05e-4
        else:
            limits = volts[0].full_scale, self._smu.model.voltage_max_V, 21.0
        limit = call.number(0, *limits)
        self._check_power(function, source.level, limit)
        source.limit = limit
        self._smu.apply()

    def _is_limited(self, call: Call) -> str:
        return str(int(self._device.is_limited() and self._smu.function == call.captured[0]))

    def _protect(self, call: Call) -> None:
        words = [f"PROT{volts}" for volts in _PROTECTION_V]
        word = call.choice(0, "NONE", *words)
        source = self._smu.sources[VOLTAGE]
        source.protection_V = math.inf if word == "NONE" else float(word.removeprefix("PROT"))
        self._smu.apply()

    def _protection(self) -> str:
        volts = self._smu.sources[VOLTAGE].protection_V
        return "NONE" if math.isinf(volts) else f"PROT{volts:g}"

    # ------------------------------------------------------------------ measurement

    def _add_sense_commands(self) -> None:
        settings = Settings(self._device.commands, self._check_idle, lambda: None)
        sense = f"SENSe[1]:{_FUNCTIONS}"
        self.add_change("SENSe[1]:FUNCtion[:ON]", self._choose_measurement, 1)
        self.add("SENSe[1]:FUNCtion[:ON]?", lambda _: self._measured())
        self.add_change(f"{sense}:RANGe[:UPPer]", self._set_measure_range, 1)
        self.add(f"{sense}:RANGe[:UPPer]?", lambda call: f"{self._sense(call).range:+.6E}")
        settings.flag(f"{sense}:RANGe:AUTO", self._sense, "auto_range")
        settings.number(f"{sense}:NPLCycles", self._sense, "nplc", (0.01, 10.0, 1.0))
        settings.flag(f"{sense}:RSENse", self._sense, "remote")
        settings.flag(f"{sense}:AZERo[:STATe]", self._sense, "autozero")
        settings.flag(f"{sense}:AVERage[:STATe]", self._sense, "averaging")
        settings.integer(f"{sense}:AVERage:COUNt", self._sense, "average_count", (1, 100, 10))
        settings.choice(
            f"{sense}:AVERage:TCONtrol", self._sense, "average_control", "REPeat", "MOVing"
        )
        settings.integer("SENSe[1]:COUNt", lambda _: self, "count", (1, 300_000, 1))
        self.add_change("SENSe[1]:AZERo:ONCE", lambda _: self._zero_once())
        self.add_change("READ?", self._read, 0, 16)
        self.add_change(f"MEASure[:{_FUNCTIONS}]?", self._measure_function, 0, 16)
        self.add("FETCh?", self._fetch, 0, 16)

    def _sense(self, call: Call) -> Sense:
        return self._smu.senses[call.captured[0]]

    def _choose_measurement(self, call: Call) -> None:
        self._smu.measured = call.choice(
            0, "VOLTage", "CURRent", "RESistance", "VOLTage:DC", "CURRent:DC"
        ).removesuffix(":DC")

    def _measured(self) -> str:
        return '"RES"' if self._smu.measured == RESISTANCE else f'"{self._smu.measured}:DC"'

    def _set_measure_range(self, call: Call) -> None:
        function, sense = call.captured[0], self._sense(call)
        largest = 210e6 if function == RESISTANCE else self._largest(function)
        wanted = abs(call.number(0, -largest, largest))
        if function != RESISTANCE:
            ranges = self._smu.ranges(function)
            wanted = next(
                (entry.full_scale for entry in ranges if wanted <= entry.full_scale * 1.05),
                ranges[-1].full_scale,
            )
        sense.range, sense.auto_range = wanted, False

    def _zero_once(self) -> Steps:
        yield self.now() + 2 * self._smu.senses[self._smu.measured].nplc / self._smu.line_Hz
        return None

    def _read(self, call: Call) -> Steps:
        buffer, elements = self._buffer_and_elements(call.parameters)
        reading = yield from self.measure(buffer, self.count)
        return self._shown(reading, buffer, elements)

    def _measure_function(self, call: Call) -> Steps:
        if call.captured[0]:
            self._smu.measured = call.captured[0]
        return self._read(call)

    def _fetch(self, call: Call) -> str:
        buffer, elements = self._buffer_and_elements(call.parameters)
        reading = self._buffer(buffer).last()
        if reading is None:
            raise ScpiError(-221)
        return self._shown(reading, buffer, elements)

    def _buffer_and_elements(self, parameters: tuple[str, ...]) -> tuple[str, list[str]]:
        named = Call((), parameters)
        buffer = named.text(0) if parameters else _DEFAULT_BUFFER
        self._buffer(buffer)
        return buffer, elements_of(parameters[1:] or ("READ",))

    def _shown(self, reading: Reading, buffer: str, elements: list[str]) -> str:
        first_s = self._buffer(buffer).first_s or 0.0
        return ",".join(shown(reading, name, first_s, self.precision) for name in elements)

    # ------------------------------------------------------------------ output

    def _add_output_commands(self) -> None:
        self.add_change("OUTPut[1][:STATe]", lambda call: self.switch_output(call.boolean(0)), 1)
        self.add("OUTPut[1][:STATe]?", lambda _: str(int(self._smu.output)))
        self.add_change("OUTPut[1][:(VOLTage|CURRent)]:SMODe", self._choose_off_state, 1)
        self.add("OUTPut[1][:(VOLTage|CURRent)]:SMODe?", self._off_state)
        self.add("OUTPut[1]:INTerlock:TRIPped?", lambda _: str(int(self._smu.interlock)))
        self.add_change("ROUTe:TERMinals", self._choose_terminals, 1)
        self.add("ROUTe:TERMinals?", lambda _: self.terminals)

    def _choose_off_state(self, call: Call) -> None:
        state = call.choice(0, "NORMal", "ZERO", "HIMPedance", "GUARd")
        for function in [call.captured[0]] if call.captured[0] else [VOLTAGE, CURRENT]:
            self._smu.choose_off_state(function, state)

    def _off_state(self, call: Call) -> str:
        return self._smu.sources[call.captured[0] or self._smu.function].off_state

    def _choose_terminals(self, call: Call) -> None:
        self._smu.switch(False)
        self.terminals = call.choice(0, "FRONt", "REAR")

    # ------------------------------------------------------------------ buffers

    def _add_buffer_commands(self) -> None:
        settings = Settings(self._device.commands, self._check_idle, lambda: None)
        self.add_change("TRACe:MAKE", self._make_buffer, 2, 3)
        self.add_change("TRACe:DELete", self._delete_buffer, 1)
        self.add("TRACe:CLEar", lambda call: self._named(call, 0).clear(), 0, 1)
        self.add("TRACe:ACTual?", lambda call: str(len(self._named(call, 0))), 0, 1)
        self.add("TRACe:ACTual:STARt?", lambda call: str(self._named(call, 0).start), 0, 1)
        self.add("TRACe:ACTual:END?", lambda call: str(self._named(call, 0).end), 0, 1)
        self.add("TRACe:DATA?", self._data, 2, 17)
        self.add_change("TRACe:POINts", self._resize, 1, 2)
        self.add("TRACe:POINts?", lambda call: str(self._named(call, 0).capacity), 0, 1)
        self.add_change("TRACe:FILL:MODE", self._set_fill_mode, 1, 2)
        self.add(
            "TRACe:FILL:MODE?",
            lambda call: "CONT" if self._named(call, 0).continuous else "ONCE",
            0,
            1,
        )
        self.add_change("TRACe:TRIGger", self._trigger_buffer, 0, 1)
        self.add(
            "TRACe:STATistics:(AVERage|MAXimum|MINimum|STDDev)?",
            lambda call: f"{self._named(call, 0).statistic(call.captured[0]):.6E}",
            0,
            1,
        )
        settings.choice("FORMat[:DATA]", lambda _: self, "format", "ASCii")
        settings.integer("FORMat:ASCii:PRECision", lambda _: self, "precision", (0, 16, 0))

    def _buffer(self, name: str) -> ReadingBuffer:
        if name not in self.buffers:
            raise ScpiError(-224)
        return self.buffers[name]

    def _named(self, call: Call, index: int) -> ReadingBuffer:
        return self._buffer(self._name(call, index))

    def _name(self, call: Call, index: int) -> str:
        return call.text(index) if len(call) > index else _DEFAULT_BUFFER

    def kept_name(self, call: Call, index: int) -> str:
        """Return the name of a buffer, which exists."""
        name = self._name(call, index)
        self._buffer(name)
        return name

    def _make_buffer(self, call: Call) -> None:
        name = call.text(0)
        capacity = call.integer(1, _CAPACITY_MIN, _CAPACITY_MAX)
        if len(call) > 2:
            call.choice(2, "COMPact", "STANdard", "FULL", "WRITable", "FULLWRITable")
        if name in self.buffers:
            raise ScpiError(*_BUFFER_EXISTS)
        self.buffers[name] = ReadingBuffer(capacity, continuous=False)

    def _delete_buffer(self, call: Call) -> None:
        name = call.text(0)
        if name.startswith("defbuffer") or name not in self.buffers:
            raise ScpiError(-224)
        del self.buffers[name]

    def _resize(self, call: Call) -> None:
        old = self._named(call, 1)
        capacity = call.integer(0, _CAPACITY_MIN, _CAPACITY_MAX)
        self.buffers[self._name(call, 1)] = ReadingBuffer(capacity, continuous=old.continuous)

    def _set_fill_mode(self, call: Call) -> None:
        mode = call.choice(0, "CONTinuous", "ONCE")
        self._named(call, 1).continuous = mode == "CONT"

    def _data(self, call: Call) -> str:
        first, last = (call.integer(index, 1, _CAPACITY_MAX) for index in (0, 1))
        buffer, elements = self._buffer_and_elements(call.parameters[2:])
        readings = self._buffer(buffer).between(first, last)
        return ",".join(self._shown(reading, buffer, elements) for reading in readings)

    def _trigger_buffer(self, call: Call) -> Steps:
        buffer = self._name(call, 0)
        self._buffer(buffer)
        yield from self.measure(buffer, self.count)
        return None

    # ------------------------------------------------------------------ configuration lists

    def _add_list_commands(self) -> None:
        lists = "(SOURce|SENSe)[1]:CONFiguration:LIST"
        self.add_change(f"{lists}:CREate", self._create_list, 1)
        self.add_change(f"{lists}:DELete", self._delete_list, 1, 2)
        self.add_change(f"{lists}:STORe", self._store, 1, 2)
        self.add_change(f"{lists}:RECall", self._recall_now, 1, 2)
        self.add(
            f"{lists}:SIZE?",
            lambda call: str(self.list_length(call.captured[0], call.text(0))),
            1,
        )

    def _add_sweep_lists(self) -> None:
        """Lists of levels, each kept as a configuration list that is named after its function."""
        values = "SOURce[1]:LIST:(VOLTage|CURRent)"
        self.add_change(values, lambda call: self._keep_levels(call, anew=True), 1, _LIST_LINE)
        self.add_change(f"{values}:APPend", self._keep_levels, 1, _LIST_LINE)

    def _keep_levels(self, call: Call, *, anew: bool = False) -> None:
        function = call.captured[0]
        source, lists = self._smu.sources[function], self._lists["SOUR"]
        largest = self._largest(function) if source.auto_range else 1.05 * source.range
        name = f"{function.capitalize()}CustomSweepList"
        entries = [] if anew else lists.get(name, [])
        if len(entries) + len(call) > _LIST_MAX:
            raise ScpiError(-224)
        for index in range(len(call)):
            level = call.number(index, -largest, largest)
            self._check_power(function, level, source.limit)
            entries.append((function, replace(source, level=level)))
        lists[name] = entries

    def _list(self, side: str, name: str) -> list[tuple[str, Source] | tuple[str, Sense]]:
        if name not in self._lists[side]:
            raise ScpiError(-224)
        return self._lists[side][name]

    def list_side(self, name: str) -> str:
        """Return whether a configuration list is of the source or of the measurement."""
        for side, lists in self._lists.items():
            if name in lists:
                return side
        raise ScpiError(-224)

    def _create_list(self, call: Call) -> None:
        lists = self._lists[call.captured[0]]
        if call.text(0) in lists:
            raise ScpiError(-224)
        lists[call.text(0)] = []

    def _delete_list(self, call: Call) -> None:
        entries = self._list(call.captured[0], call.text(0))
        if len(call) > 1:
            del entries[call.integer(1, 1, len(entries)) - 1]
        else:
            del self._lists[call.captured[0]][call.text(0)]

    def _store(self, call: Call) -> None:
        side, smu = call.captured[0], self._smu
        entries = self._list(side, call.text(0))
        entry: tuple[str, Source] | tuple[str, Sense]
        if side == "SOUR":
            entry = smu.function, copy.deepcopy(smu.source)
        else:
            entry = smu.measured, copy.deepcopy(smu.senses[smu.measured])
        index = call.integer(1, 1, len(entries) + 1) if len(call) > 1 else len(entries) + 1
        entries[index - 1 : index] = [entry]

    def _recall_now(self, call: Call) -> None:
        index = call.integer(1, 1, _COUNT_MAX) if len(call) > 1 else 1
        self.recall(call.captured[0], call.text(0), index)

    # ------------------------------------------------------------------ system

    def _add_system_commands(self) -> None:
        settings = Settings(self._device.commands, lambda: None, lambda: None)
        kinds = ("ERRor", "WARNing", "INFormational", "ALL")
        bits = {"ERR": 1, "WARN": 2, "INF": 4, "ALL": 7}

        def wanted(call: Call) -> int:
            chosen = {bits[call.choice(index, *kinds)] for index in range(len(call))}
            return sum(chosen) & 7 if chosen and 7 not in chosen else 7

        events = self._device.events
        self.add("*LANG?", lambda _: "SCPI")
        self.add(
            "SYSTem:EVENtlog:NEXT?",
            lambda call: self.format_event(events.next(wanted(call))),
            0,
            3,
        )
        self.add("SYSTem:EVENtlog:COUNt?", lambda call: str(events.count(wanted(call))), 0, 3)
        self.add("SYSTem:EVENtlog:POST", self._post, 1, 2)
        self.add("SYSTem:LFRequency?", lambda _: f"{self._smu.line_Hz:g}")
        self.add("SYSTem:BEEPer[:IMMediate]", self._beep, 2)
        self.add("STATus:PRESet", lambda _: None)
        settings.choice(
            "SYSTem:ACCess", lambda _: self, "access",
            "FULL", "EXCLusive", "PROTected", "LOCKout",
        )  # fmt: skip

    def _beep(self, call: Call) -> Steps:
        call.number(0, 20.0, 8000.0)
        yield self.now() + call.number(1, 0.001, 100.0)
        return None

    def _post(self, call: Call) -> None:
        kinds = {"ERR": 1, "WARN": 2, "INF": 4}
        word = call.choice(1, "ERRor", "WARNing", "INFormational") if len(call) > 1 else "INF"
        self.log(1003, f"User: {call.text(0)}", kinds[word])
