"""A pneumatic press on an Alicat dual-valve pressure controller (serial, 19200 8N1).

Lines of ASCII that end in a carriage return and begin with the unit's letter. A look ``A`` is
answered ``A +014.62 +021.89``, pressure and set point, and then words of status; ``AS15.44`` sets
the set point and is answered alike; ``A$$H`` closes both valves and traps the pressure, ``A$$C``
gives control back; ``ASR 5 4`` is the fastest ramp; ``AR122`` tells what is controlled; ``?`` is a
refusal. Source: the PyPI package ``alicat``.

The force is that of the pressure over the atmosphere on the piston, times an efficiency: it is told
and not measured, so that the stack wants a load cell of its own. The controller has no watchdog and
no limit of force: it keeps its set point, or its trapped pressure, whoever is listening. Never
verified: how ``ASR`` and ``AR122`` are answered, beyond the number that they hold.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Flag, Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import (
    Area,
    Duration,
    Force,
    ForceRate,
    Options,
    Pressure,
    parse_options,
)
from cellbench_drivers.lines import Lines
from cellbench_drivers.presses import NO_FORCE_FRACTION, bounded_rate, check_reach, held

_PASCALS = {"psi": 6894.757293168361, "kPa": 1e3, "bar": 1e5, "MPa": 1e6}
_CONTROLLED = {34: "absolute", 38: "gauge"}
#: Units of time of a ramp: code and seconds. The finest in which a rate is no tiny number is used.
_RAMP_UNITS = ((4, 1.0), (5, 60.0), (6, 3600.0))
_RATE_LEAST = 0.1

_HOLD = "HLD"
_ALARMS = {"OPL": "over its pressure limit", "EXH": "exhausting"}
_OVER_RANGE = "POV"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")
_AT_TARGET_FRACTION = 0.005
_HOLD_LOOK_S = 0.5


class AlicatOptions(Options):
    """Options in the bench file.

    Attributes:
        unit: Letter of the controller on its line.
        piston_area: On which the pressure acts.
        efficiency: Part of the force that reaches the stack.
        pressure_unit: Unit in which the controller speaks.
        reference: Whether it controls absolute or gauge pressure; asked if left out.
        atmosphere: Pressure outside, where it controls absolute pressure.
        decimals: Digits after the point of its set point.
        capacity: Largest force of the press.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp.
        timeout: How long a reply may take.
    """

    unit: str = Field(default="A", pattern="^[A-Z]$")
    piston_area: Area = Field(gt=0)
    efficiency: float = Field(default=1.0, gt=0, le=1)
    pressure_unit: Literal["psi", "kPa", "bar", "MPa"] = "psi"
    reference: Literal["absolute", "gauge"] | None = None
    atmosphere: Pressure = Field(default=101325.0, gt=0)
    decimals: int = Field(default=2, ge=0, le=5)
    capacity: Force = Field(default=2e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=200.0, gt=0)
    timeout: Duration = Field(default=0.5, gt=0)


class _Frame(NamedTuple):
    """One answer: pressure and set point in the controller's unit, and words of status."""

    pressure: float
    set_point: float
    words: frozenset[str]


class Alicat:
    """A pneumatic cylinder behind an Alicat pressure controller with two valves."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Pneumatic presses on an Alicat dual-valve pressure controller"
    serial: ClassVar[SerialSettings | None] = SerialSettings(19200)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, AlicatOptions, options)
        self._lines = Lines(
            name, stream, ends="\r", replies_end="\r", timeout_s=self._options.timeout
        )
        self._outside = 0.0
        #: Newtons for each unit of pressure.
        self._newtons = (
            _PASCALS[self._options.pressure_unit]
            * self._options.piston_area
            * self._options.efficiency
        )
        self.capabilities = PressCapabilities(
            model="Alicat pressure controller",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=None,
            reaction=ReactionTime(sample_s=0.5, transport_s=0.05, command_s=0.1),
        )

    async def connect(self) -> Identity:
        """Ask what it controls and whether it is a pressure controller; moves nothing.

        Raises:
            InstrumentError: It is a flow controller, or controls no pressure.
        """
        async with self._lines.lock:
            await self._look()
            controlled = self._options.reference or await self._controlled()
            firmware = await self._ask("VE")
        if controlled == "absolute":
            self._outside = self._options.atmosphere / _PASCALS[self._options.pressure_unit]
        state = await self.read()
        remarks = [
            f"found at {state.force_N / 1e3:.3f} kN, by {controlled} pressure",
            "its force is told from the pressure; it has no over-force trip of its own",
        ]
        if state.alarm:
            remarks.append(f"found {state.alarm}")
        return Identity(self.capabilities.model, "", firmware, tuple(remarks))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Approach the pressure of a force on the controller's ramp, and keep the pressure.

        ``force_max_N`` is checked against the force that is asked for; the controller is not told.

        Raises:
            InstrumentError: It is out of reach, or the controller has an alarm.
        """
        check_reach(self.name, self.capabilities, force_N, rate_N_per_s, force_max_N)
        state = await self.read()
        if state.alarm:
            raise InstrumentError(self.name, f"does not move: {state.alarm}")
        await self._ramp(force_N, rate_N_per_s)

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp to the pressure of the atmosphere and stay there."""
        await self._ramp(0.0, bounded_rate(self.capabilities, rate_N_per_s))

    async def read(self) -> PressState:
        """Look at the controller."""
        async with self._lines.lock:
            frame = await self._look()
        force_N, set_point_N = self._force_N(frame.pressure), self._force_N(frame.set_point)
        arrived = abs(force_N - set_point_N) <= _AT_TARGET_FRACTION * self._options.capacity
        shut = _HOLD in frame.words
        return PressState(
            time_s=asyncio.get_running_loop().time(),
            force_N=force_N,
            set_point_N=set_point_N,
            moving=not shut and not arrived,
            at_target=not shut and arrived,
            alarm=", ".join(text for word, text in _ALARMS.items() if word in frame.words),
            flags=int(Flag.SATURATED) if _OVER_RANGE in frame.words else 0,
        )

    async def heartbeat(self) -> None:
        """Nothing to tell: the controller does not care whether its host lives."""

    async def quiet(self) -> Outcome:
        """Close both valves, so that the pressure of this moment is trapped, and see that it stays.

        A controller that was told to let go is left to it.
        """
        try:
            state = await self.read()
            if state.set_point_N > NO_FORCE_FRACTION * self._options.capacity:
                await self._shut()
            return await held(self.name, self.capabilities, self.read, _HOLD_LOOK_S)
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)

    async def close(self) -> None:
        """Give up the connection; the controller keeps what it keeps."""
        await self._lines.close()

    # --- Orders ---------------------------------------------------------------------------------

    async def _ramp(self, force_N: float, rate_N_per_s: float) -> None:
        async with self._lines.lock:
            frame = await self._look()
            if _HOLD in frame.words:
                # Valves that open again must find the pressure that they have trapped.
                await self._set(frame.pressure)
                if _HOLD in (await self._command("$$C")).words:
                    raise InstrumentError(self.name, "keeps its valves closed")
            await self._set_rate(rate_N_per_s / self._newtons)
            await self._set(self._outside + force_N / self._newtons)

    async def _set(self, pressure: float) -> None:
        wanted = round(pressure, self._options.decimals)
        frame = await self._command(f"S{wanted:.{self._options.decimals}f}")
        if abs(frame.set_point - wanted) > 0.6 * 10**-self._options.decimals:
            message = f"keeps a set point of {frame.set_point:g} instead of {wanted:g}"
            raise InstrumentError(self.name, f"{message} {self._options.pressure_unit}")

    async def _set_rate(self, rate_per_s: float) -> None:
        """Limit the ramp, given in the controller's unit of pressure per second."""
        code, seconds = next(
            (each for each in _RAMP_UNITS if rate_per_s * each[1] >= _RATE_LEAST), _RAMP_UNITS[-1]
        )
        wanted = f"{rate_per_s * seconds:.4g}"
        answer = await self._ask(f"SR {wanted} {code}")
        found = _NUMBER.search(answer)
        if found is None or abs(float(found[0]) / float(wanted) - 1.0) > 0.01:
            raise InstrumentError(self.name, f'answers "{answer}" to a ramp of {wanted}')

    async def _shut(self) -> None:
        async with self._lines.lock:
            if _HOLD not in (await self._command("$$H")).words:
                raise InstrumentError(self.name, "does not close its valves")

    # --- The line -------------------------------------------------------------------------------

    def _force_N(self, pressure: float) -> float:
        return (pressure - self._outside) * self._newtons

    async def _controlled(self) -> str:
        answer = await self._ask("R122")
        numbers = _NUMBER.findall(answer)
        code = int(float(numbers[-1])) if numbers else -1
        if code not in _CONTROLLED:
            raise InstrumentError(
                self.name,
                f'controls no absolute or gauge pressure (register 122 is "{answer}"); '
                "set its control point to 34 or 38",
            )
        return _CONTROLLED[code]

    async def _look(self) -> _Frame:
        return await self._command("")

    async def _command(self, command: str) -> _Frame:
        """Give a command that is answered by pressure, set point and words of status."""
        answer = await self._ask(command)
        fields = answer.split()
        numbers = [field for field in fields if _NUMBER.fullmatch(field)]
        if len(numbers) > 2 and fields[: len(numbers)] == numbers:
            raise InstrumentError(self.name, f"\"{answer}\" is a flow controller's, not a press's")
        if len(numbers) != 2 or fields[:2] != numbers:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{answer}", not pressure and set point')
        return _Frame(float(numbers[0]), float(numbers[1]), frozenset(fields[2:]))

    async def _ask(self, command: str) -> str:
        """Return what follows the unit's letter; the caller holds the line."""
        unit = self._options.unit
        reply = await self._lines.ask(unit + command)
        if reply == "?":
            raise InstrumentError(self.name, f'refuses "{unit}{command}"')
        letter, _, rest = reply.partition(" ")
        if letter != unit:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{reply}" to unit {unit}')
        return rest.strip()
