"""JULABO circulators: lines of ASCII, ``IN_`` commands asked, ``OUT_`` commands believed to no one.

Requests end in a carriage return, replies in CR LF. An ``OUT_`` command has no reply, and is taken
in remote mode only: each one is followed by a look at ``STATUS`` and by reading back what it set.
The circulator wants 250 ms after a command and 10 ms after a query, and hears nothing meanwhile.
They count from when it has the line's last byte, which is later than we have sent it: a little is
added, and what it did not hear is asked once more. ``STATUS`` is 00 or 01 in manual mode (stopped,
running), 02 or 03 in remote mode; a negative number is a fault.

Where the circulator's watchdog is switched on, it wants its set point again every 30 s at the
latest: the option ``watchdog`` has it sent when the circulator is read, which must then happen that
often. The accuracy with which a model keeps a set point (0.01 or 0.1 K) was never verified.

Sources: the PyPI package ``julabo``, and JULABO's manuals of CORIO, MAGIO and DYNEO, chapter 11.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError, InstrumentTimeout
from cellbench.instruments.capabilities import ChamberCapabilities
from cellbench.instruments.readings import ChamberState, Flag, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.chambers import ZERO_CELSIUS_K, check_set_point
from cellbench_drivers.common import (
    Duration,
    Options,
    Temperature,
    TemperatureRate,
    parse_options,
)
from cellbench_drivers.lines import Lines

#: The pauses of the manual, from when the last byte has arrived.
_AFTER_COMMAND_S, _AFTER_QUERY_S = 0.25, 0.01
#: Until then: some 20 bytes at 4800 baud, 7E1, and the latency of a USB adapter.
_ON_THE_WAY_S = 0.06
_REMOTE_STOP, _REMOTE_START = 2, 3
_SENSOR_FAULT = -5
#: Names of faults; where there is none, the circulator's own words stand alone.
_FAULTS = {
    -1: "low level",
    -3: "above its high-temperature warning limit",
    -4: "below its low-temperature warning limit",
    _SENSOR_FAULT: "temperature sensor failed",
    -14: "excess temperature",
    -33: "protection sensor failed",
    -38: "external sensor's signal is missing",
    -40: "level",
    -41: "level",
    -60: "internal fault",
    -61: "internal fault (CAN bus)",
    -62: "internal fault (CAN bus)",
    -63: "watchdog: no set point came in time",
    -1501: "watchdog: no set point came in time",
}
#: With these it goes on running, and a new set point may be what takes them away.
_WARNINGS = frozenset({-3, -4})
#: What it says, once, of the command before.
_REFUSALS = {
    -8: "does not know the command",
    -9: "does not take it in this mode: set it to remote at its panel",
    -10: "finds the value too small",
    -11: "finds the value too large",
    -13: "finds the value outside its own temperature limits",
}
_SOURCES = {"bath": "IN_PV_00", "external": "IN_PV_02"}
#: Half of the coarsest last digit, and a bit.
_SAME_K = 0.06
_MINUTE_S = 60.0


class JulaboOptions(Options):
    """Options in the bench file.

    Attributes:
        sensor: Which temperature counts: of the bath, or of the external Pt100.
        temperature_min: Lowest set point of the chamber.
        temperature_max: Highest set point of the chamber.
        rate_max: How fast it warms at most, for planning.
        watchdog: How often the set point is sent again, where the circulator's watchdog (30 s) is
            switched on; without it, it is sent once.
        timeout: How long a reply may take.
    """

    sensor: Literal["bath", "external"] = "bath"
    temperature_min: Temperature = 278.15
    temperature_max: Temperature = 373.15
    rate_max: TemperatureRate = Field(default=2.0 / _MINUTE_S, gt=0)
    watchdog: Duration | None = Field(default=None, gt=0, le=25.0)
    timeout: Duration = Field(default=1.0, gt=0)


@dataclass(frozen=True, slots=True)
class _Status:
    code: int
    text: str

    @property
    def fault(self) -> str:
        """What is wrong, or nothing."""
        if self.code >= 0:
            return ""
        name = _FAULTS.get(self.code)
        return f"{name} ({self.text})" if name else self.text

    @property
    def stops_it(self) -> bool:
        """Whether it does not run with this."""
        return self.code < 0 and self.code not in _WARNINGS


class Julabo:
    """A chamber, jacket or bath that a JULABO circulator keeps at temperature."""

    role: ClassVar[str] = "chamber"
    summary: ClassVar[str] = "JULABO circulators (serial)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(
        4800, bytesize=7, parity="E", rtscts=True
    )
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, JulaboOptions, options)
        self._lines = Lines(
            name, stream, ends="\r", replies_end="\n", timeout_s=self._options.timeout
        )
        self._line_free_s = 0.0
        self._running = self._started = False
        self._feed_due_s = 0.0
        self.capabilities = ChamberCapabilities(
            model="JULABO",
            temperature_min_K=self._options.temperature_min,
            temperature_max_K=self._options.temperature_max,
            rate_max_K_per_s=self._options.rate_max,
        )

    async def connect(self) -> Identity:
        """See that it is a JULABO in remote mode; neither starts nor stops it."""
        async with self._lines.lock:
            version = await self._ask("VERSION")
            if "JULABO" not in version.upper():
                message = f'is no JULABO circulator: it answers "{version}" to VERSION'
                raise InstrumentError(self.name, message)
            status = await self._standing()
            if not status.fault:
                self._require_remote(status)
            temperature_C = await self._number(_SOURCES[self._options.sensor])
        model, _, firmware = version.partition(" VERSION")
        remarks = [f"found at {temperature_C:.2f} degC, {status.fault or status.text}"]
        remarks.append("model and firmware never tried with this driver")
        return Identity(model.strip(), "", firmware.strip(), tuple(remarks))

    async def set_temperature(self, temperature_K: float) -> None:
        """Give it a set point and have it run; both are read back.

        Raises:
            InstrumentError: It is out of range, or the circulator refuses it or has a fault.
        """
        check_set_point(self.name, self.capabilities, temperature_K)
        async with self._lines.lock:
            status = await self._standing()
            if status.stops_it:
                raise InstrumentError(self.name, f"takes no set point: {status.fault}")
            if not status.fault:
                self._require_remote(status)
            await self._order(temperature_K - ZERO_CELSIUS_K)
            if await self._ask("IN_MODE_05") != "1":
                await self._start()
            self._started = True

    async def read(self) -> ChamberState:
        """Look at it; its watchdog is fed when that is due."""
        async with self._lines.lock:
            status = await self._standing()
            temperature_C = await self._number(_SOURCES[self._options.sensor])
            set_point_C = await self._number("IN_SP_00")
            self._running = status.code == _REMOTE_START or status.code in _WARNINGS
            if self._running:
                await self._feed(set_point_C)
        return ChamberState(
            time_s=asyncio.get_running_loop().time(),
            temperature_K=temperature_C + ZERO_CELSIUS_K,
            set_point_K=set_point_C + ZERO_CELSIUS_K,
            alarm=self._alarm(status),
            flags=int(Flag.SATURATED) if status.code == _SENSOR_FAULT else 0,
        )

    async def quiet(self) -> Outcome:
        """Hold: the circulator keeps its set point by itself; read that back."""
        try:
            state = await self.read()
        except InstrumentError as error:
            return Outcome(self.name, f"temperature unknown: {error}", confirmed=False)
        celsius = state.set_point_K - ZERO_CELSIUS_K
        doing = f"holds {celsius:.1f} degC" if self._running else "is stopped"
        alarm = f", {state.alarm}" if state.alarm else ""
        return Outcome(self.name, doing + alarm, confirmed=not alarm)

    async def close(self) -> None:
        """Give up the connection; the circulator goes on, until its watchdog misses us."""
        await self._lines.close()

    async def _order(self, celsius: float) -> None:
        """Send a set point and read it back."""
        await self._tell(f"OUT_SP_00 {celsius:.2f}")
        found_C = await self._number("IN_SP_00")
        if abs(found_C - celsius) > _SAME_K:
            message = f"keeps a set point of {found_C:g} degC instead of {celsius:.2f} degC"
            raise InstrumentError(self.name, message)

    async def _start(self) -> None:
        status = await self._tell("OUT_MODE_05 1")
        running = await self._ask("IN_MODE_05")
        if running != "1" or not (status.fault or status.code == _REMOTE_START):
            message = f'does not start: IN_MODE_05 is "{running}", STATUS is "{status.text}"'
            raise InstrumentError(self.name, message)

    async def _feed(self, celsius: float) -> None:
        """Send the set point that it has once more, so that its watchdog knows that we live."""
        now_s = asyncio.get_running_loop().time()
        if self._options.watchdog is None or now_s < self._feed_due_s:
            return
        self._feed_due_s = now_s + self._options.watchdog
        await self._tell(f"OUT_SP_00 {celsius:.2f}")

    def _alarm(self, status: _Status) -> str:
        if not status.fault and self._started and status.code != _REMOTE_START:
            return f"was taken out of remote operation ({status.text})"
        return status.fault

    def _require_remote(self, status: _Status) -> None:
        if status.code not in {_REMOTE_STOP, _REMOTE_START}:
            message = f'is in manual mode ("{status.text}"): set it to remote at its panel'
            raise InstrumentError(self.name, message)

    async def _standing(self) -> _Status:
        """Return its status, past what it may still have to say of a command of someone else."""
        status = await self._status()
        return await self._status() if status.code in _REFUSALS else status

    async def _status(self) -> _Status:
        text = await self._ask("STATUS")
        found = re.match(r"[+-]?\d+", text)
        if found is None:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{text}" to STATUS')
        return _Status(int(found[0]), text)

    async def _tell(self, command: str) -> _Status:
        """Send a command, once, and return the status that follows it.

        Raises:
            InstrumentError: It was refused, or the circulator has a fault.
        """
        await sleep_until(self._line_free_s)
        try:
            await self._lines.tell(command)
        finally:
            self._line_free_s = asyncio.get_running_loop().time() + _AFTER_COMMAND_S + _ON_THE_WAY_S
        status = await self._status()
        if status.code in _REFUSALS:
            message = f'refuses "{command}": {_REFUSALS[status.code]} ({status.text})'
            raise InstrumentError(self.name, message)
        if status.stops_it:
            raise InstrumentError(self.name, f'after "{command}": {status.fault}')
        return status

    async def _number(self, query: str) -> float:
        text = await self._ask(query)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{text}" to {query} instead of a number')
        return value

    async def _ask(self, query: str) -> str:
        """Ask; once more where it answers nothing, for it may not have heard us."""
        try:
            return await self._ask_once(query)
        except InstrumentTimeout:
            return await self._ask_once(query)

    async def _ask_once(self, query: str) -> str:
        await sleep_until(self._line_free_s)
        try:
            return await self._lines.ask(query)
        finally:
            self._line_free_s = asyncio.get_running_loop().time() + _AFTER_QUERY_S
