"""A press that a person works: no wire, an operator who is asked, and a gauge that confirms.

The operator is asked in the press's own unit and in pressure on the cell ("22 MPa on the cell =
1.73 kN"). Where the bench has a gauge, it has to read that force within a tolerance for a while;
where it has none, the operator types what the press shows, with its unit. What is off, out of
range or without a proper unit is asked again.

Nobody keeps the force afterwards: it follows the stack, and what was typed is flagged as stale a
few seconds later. The quiet state is the press as it was left; to let go, the operator is asked,
for as long as the option ``patience`` says, by word of mouth if the gauge has failed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from pydantic import Field, model_validator

from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Flag, Identity, Outcome, PressState
from cellbench.instruments.roles import Gauge, Operator
from cellbench.quantities import DIMENSIONS, format_quantity, parse, unit_of
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Area, Duration, Force, Options, parse_options
from cellbench_drivers.presses import NO_FORCE_FRACTION, check_reach

_LOOK_S = 1.0
#: For so long after it was typed, a reading is one.
_FRESH_S = 5.0
#: A dial may be read a little beyond the end of its scale.
_BEYOND_SCALE = 1.05


class ManualPressOptions(Options):
    """Options in the bench file.

    Attributes:
        model: What the press is called.
        dial: Unit in which it shows its force, or the pressure of its oil.
        piston_area: Area of the ram, for a dial that shows pressure.
        capacity: Largest force of the press.
        force_min: Smallest force other than none that can be set by hand.
        tolerance: How far from the force that was asked for counts as set, as a fraction of it.
        steady: How long the gauge has to agree.
        within: How long it has time to, before the operator is asked again.
        patience: How long the operator may take altogether.
    """

    model: str = "hand press"
    dial: str = "kN"
    piston_area: Area | None = Field(default=None, gt=0)
    capacity: Force = Field(default=25e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    tolerance: float = Field(default=0.03, gt=0, lt=1)
    steady: Duration = Field(default=5.0, gt=0)
    within: Duration = Field(default=60.0, gt=0)
    patience: Duration = Field(default=12 * 3600.0, gt=0)

    @model_validator(mode="after")
    def _dial_is_known(self) -> ManualPressOptions:
        if self.dial_shows == "pressure" and self.piston_area is None:
            raise ValueError(f'a dial in {self.dial} needs the "piston area"')
        return self

    @property
    def dial_shows(self) -> str:
        """Dimension of the dial: force or pressure."""
        exponents = unit_of(self.dial)[1]
        for dimension in ("force", "pressure"):
            if DIMENSIONS[dimension].exponents == exponents:
                return dimension
        raise ValueError(f'a dial shows force or pressure, not "{self.dial}"')

    @property
    def dial_N(self) -> float:
        """Force for each SI unit of what the dial shows."""
        return 1.0 if self.piston_area is None else self.piston_area


class ManualPress:
    """A press that a person works; the bench sets its operator, its gauge and the stack's area.

    Attributes:
        operator: Who is asked.
        gauge: What confirms; None where the operator tells what the press shows.
        stack_area_m2: Turns force into pressure on the cell; None where that is not known.
    """

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Presses that a person works (port: none)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self.operator: Operator | None = None
        self.gauge: Gauge | None = None
        self.stack_area_m2: float | None = None
        self._stream = stream
        self._options = parse_options(name, ManualPressOptions, options)
        self._told_N = 0.0
        self._asked_N = 0.0
        self._told_s = -math.inf
        self._under_way = False
        self._gauge_failed = False
        self.capabilities = PressCapabilities(
            model=self._options.model,
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.capacity,
            heartbeat_s=None,
            # A person who watches a dial stops within a second or two.
            reaction=ReactionTime(sample_s=1.0, transport_s=0.0, command_s=1.0),
            own_loop=False,
        )

    async def connect(self) -> Identity:
        """See that there is somebody to ask.

        Raises:
            InstrumentError: There is nobody.
        """
        self._person()
        return Identity(self._options.model, "", "", ("worked by hand; nothing keeps its force",))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Ask for a force, until it is there.

        Raises:
            InstrumentError: It is out of reach, or nobody has set it in time.
        """
        check_reach(self.name, self.capabilities, force_N, rate_N_per_s, force_max_N)
        if force_N == 0.0:
            await self.release(rate_N_per_s)
            return
        self._gauge_failed = False
        seconds = abs(force_N - (await self.read()).force_N) / rate_N_per_s
        most = format_quantity(force_max_N, "force")
        order = (
            f"Press by hand to {self._described(force_N)}, in about "
            f"{format_quantity(seconds, 'time')}, never beyond {most}."
        )
        async with self._patience(order):
            if self.gauge is None:
                await self._until_typed(order, force_N, self._options.tolerance * force_N)
            else:
                await self._until_set(self.gauge, order, force_N)
        self._asked_N = force_N

    async def release(self, rate_N_per_s: float) -> None:
        """Ask to take the force away, until it is gone.

        Raises:
            InstrumentError: Nobody has done it in time; says what force is left.
        """
        seconds = self._options.capacity / rate_N_per_s
        order = (
            f"Unload the press by hand to {self._described(0.0)}, slowly (its full force in "
            f"{format_quantity(seconds, 'time')})."
        )
        self._asked_N = 0.0
        none_N = NO_FORCE_FRACTION * self._options.capacity
        async with self._patience(order):
            if self.gauge is not None:
                try:
                    await self._until_gone(self.gauge, order, none_N)
                except InstrumentError as error:
                    order = f"{order} ({error}.)"
                    self._gauge_failed = True
                else:
                    return
            await self._until_typed(order, 0.0, none_N)

    async def read(self) -> PressState:
        """Tell what the gauge reads; without one, what was typed last, and soon stale."""
        if self.gauge is not None and not self._gauge_failed:
            reading = await self.gauge.read()
            time_s, force_N, flags = reading.time_s, reading.force_N, reading.flags
        else:
            time_s, force_N = asyncio.get_running_loop().time(), self._told_N
            flags = 0 if time_s - self._told_s <= _FRESH_S else int(Flag.STALE)
        off_N = abs(force_N - self._asked_N)
        return PressState(
            time_s=time_s,
            force_N=force_N,
            set_point_N=self._asked_N,
            moving=self._under_way,
            at_target=not self._under_way and off_N <= self._options.tolerance * self._asked_N,
            flags=flags,
        )

    async def heartbeat(self) -> None:
        """Nothing to tell: nothing listens."""

    async def quiet(self) -> Outcome:
        """Leave it as it is; only a gauge can tell what that is."""
        if self.gauge is None or self._gauge_failed:
            told = format_quantity(self._told_N, "force")
            return Outcome(self.name, f"left as it is, {told} when it was last told", False)
        try:
            force_N = max(0.0, (await self.read()).force_N)
        except InstrumentError as error:
            return Outcome(self.name, f"left as it is, force unknown: {error}", confirmed=False)
        return Outcome(self.name, f"left as it is, {format_quantity(force_N, 'force')}", True)

    async def close(self) -> None:
        """Nothing holds on to the press."""
        await self._stream.close()

    # --- Asking ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _patience(self, order: str) -> AsyncIterator[None]:
        """Bound the time that an order may take."""
        self._under_way = True
        try:
            async with asyncio.timeout(self._options.patience):
                yield
        except TimeoutError as error:
            patience = format_quantity(self._options.patience, "time")
            message = f"nobody has done it in {patience}: {order} {await self._left()}"
            raise InstrumentError(self.name, message) from error
        finally:
            self._under_way = False

    async def _until_typed(self, order: str, force_N: float, tolerance_N: float) -> None:
        example = self._on_dial(force_N)
        prompt = f"{order} Then type what it shows, like {example}:"
        while True:
            answer = await self._person().ask(prompt)
            try:
                told_N = self._understood(answer)
            except InputError as error:
                prompt = f"{order} {error}. Type what the press shows, like {example}:"
                continue
            self._told_N, self._told_s = told_N, asyncio.get_running_loop().time()
            if abs(told_N - force_N) <= tolerance_N:
                return
            prompt = f"{order} It shows {self._on_dial(told_N)}: correct it, and type it again:"

    async def _until_set(self, gauge: Gauge, order: str, force_N: float) -> None:
        """Ask until the gauge agrees."""
        prompt = f"{order} Then confirm."
        while True:
            await self._person().ask(prompt)
            seen_N = await self._disagreement(gauge, force_N)
            if seen_N is None:
                return
            shown = self._on_dial(seen_N)
            prompt = f"{order} {gauge.name} reads {shown}: correct it, then confirm."

    async def _until_gone(self, gauge: Gauge, order: str, none_N: float) -> None:
        """Ask until the gauge reads no force; that needs no confirmation."""
        asking: asyncio.Future[str] | None = None
        try:
            while (force_N := (await gauge.read()).force_N) > none_N:
                if asking is None or asking.done():
                    if asking is not None:
                        asking.result()
                    prompt = f"{order} {gauge.name} reads {self._on_dial(force_N)}."
                    asking = asyncio.ensure_future(self._person().ask(prompt))
                await asyncio.sleep(_LOOK_S)
        finally:
            if asking is not None:
                asking.cancel()

    async def _disagreement(self, gauge: Gauge, force_N: float) -> float | None:
        """Return None once the gauge has agreed for long enough, else what it reads in the end."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.within
        agreed_since_s: float | None = None
        while True:
            reading, now_s = await gauge.read(), loop.time()
            off_N = abs(reading.force_N - force_N)
            if reading.flags or off_N > self._options.tolerance * force_N:
                agreed_since_s = None
            elif agreed_since_s is None:
                agreed_since_s = now_s
            if agreed_since_s is not None and now_s - agreed_since_s >= self._options.steady:
                return None
            if now_s >= deadline_s:
                return reading.force_N
            await asyncio.sleep(_LOOK_S)

    def _understood(self, answer: str) -> float:
        """Return the force of what was typed.

        Raises:
            InputError: It has no unit, the wrong one, or is more than the press can show.
        """
        force_N = parse(answer, self._options.dial_shows) * self._options.dial_N
        if not 0.0 <= force_N <= _BEYOND_SCALE * self._options.capacity:
            full = self._on_dial(self._options.capacity)
            raise InputError(f'"{answer.strip()}" is beyond the press, 0 to {full}')
        return force_N

    async def _left(self) -> str:
        """Say what force is on the stack, as far as it is known."""
        try:
            force = format_quantity((await self.read()).force_N, "force")
        except InstrumentError as error:
            return f"The force is unknown ({error})."
        told = "as last told" if self.gauge is None or self._gauge_failed else "by the gauge"
        return f"{force} on the stack, {told}."

    def _described(self, force_N: float) -> str:
        """A force in pressure on the cell and in newtons, and as the dial shows it."""
        force = format_quantity(force_N, "force")
        text = self._on_dial(force_N)
        if self._options.dial_shows == "pressure":
            text = f"{text} on the dial ({force})"
        if self.stack_area_m2 is None:
            return text
        return f"{format_quantity(force_N / self.stack_area_m2, 'pressure')} on the cell = {text}"

    def _on_dial(self, force_N: float) -> str:
        shown = force_N / self._options.dial_N / unit_of(self._options.dial)[0]
        return f"{shown:.4g} {self._options.dial}"

    def _person(self) -> Operator:
        if self.operator is None:
            raise InstrumentError(
                self.name, "is worked by hand, and there is nobody to ask: run it from a terminal"
            )
        return self.operator
