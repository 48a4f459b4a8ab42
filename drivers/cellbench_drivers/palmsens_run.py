"""A script under way on a PalmSens instrument: its lines, turned into blocks and an ending."""

from __future__ import annotations

import asyncio
import math

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench.instruments.techniques import ElectricalLimits, Rest, Technique
from cellbench_drivers.channels import ENDED_BY_HOST, TechniqueRun, crossing
from cellbench_drivers.methodscript import VOLTAGE, decode_package
from cellbench_drivers.palmsens_link import Link
from cellbench_drivers.palmsens_scripts import Script

#: A line or two can be hit by noise; more in a row are not our protocol.
_GARBLED_MAX = 3
#: A gap of more intervals than this between two rows has swallowed at least one.
_GAP_INTERVALS = 1.5
#: A loop that ends by itself earlier than this part of its length was ended by something.
_WHOLE = 0.98
#: How a potentiostatic spectrum announces itself.
_SPECTRUM = "000D"


class ScriptRun(TechniqueRun):
    """Blocks of one technique, a row each; ``ending`` is there once they are exhausted.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage before a spectrum, nan until it is known.
        started_s: Loop time at which the (last) loop began, nan until its first row.
    """

    def __init__(
        self,
        link: Link,
        lock: asyncio.Lock,
        script: Script,
        technique: Technique,
        limits: ElectricalLimits,
    ) -> None:
        super().__init__()
        self._link = link
        self._lock = lock
        self._script = script
        self._technique = technique
        self._limits = limits
        self._at_rest = isinstance(technique, Rest)
        self._pending: Ending | None = None
        self._in_loop = False
        self._loop = script
        self._rows = 0
        self._garbled = 0
        self._flags_next = 0
        self._zero_s = math.nan
        self._loop_began_s = 0.0
        self._last_s = 0.0

    async def _advance(self) -> Block | None:
        """Wait for the next row, or the end."""
        # Without the frames of "async with": this is done for each row.
        await self._lock.acquire()
        try:
            while self.ending is None:
                line = await self._link.line(self._loop.timeout_s(self._rows))
                if not line.startswith("P"):
                    await self._note(line)
                elif (block := self._row(line)) is not None:
                    return block
        finally:
            self._lock.release()
        return None

    def patience_s(self) -> float:
        """How long the sample under way may still take."""
        return self._loop.timeout_s(self._rows)

    def _row(self, line: str) -> Block | None:
        try:
            if self._in_loop:
                values, flags = decode_package(line, self._loop.layout)
                return self._block(values, flags)
            self.open_circuit_V = decode_package(line, (VOLTAGE,))[0][0]
        except ValueError as error:
            self._count_garbled(error)
        return None

    def _block(self, values: list[float], flags: int) -> Block:
        loop, elapsed_s = self._loop, values.pop()
        if not elapsed_s >= self._last_s:  # a NaN compares false
            raise ValueError(f"the instrument's clock goes from {self._last_s} to {elapsed_s} s")
        flags |= self._flags_next
        if elapsed_s - self._last_s > _GAP_INTERVALS * loop.interval_s and self._rows:
            flags |= Flag.MISSING
        if math.isnan(self._zero_s):
            self._zero_s = self._now() - elapsed_s
        self.started_s = self._zero_s + self._loop_began_s
        self._rows += 1
        self._garbled = self._flags_next = 0
        self._last_s = elapsed_s
        columns = {name: (value,) for name, value in zip(loop.columns, values, strict=True)}
        if self._at_rest:
            # The cell relay is open: no current flows, by construction.
            columns["current_A"] = (0.0,)
        return Block((self._zero_s + elapsed_s,), columns, (flags,))

    def _count_garbled(self, error: ValueError) -> None:
        self._garbled += 1
        self._flags_next = Flag.MISSING
        if self._garbled > _GARBLED_MAX:
            raise InstrumentError(self._link.name, str(error)) from error

    async def _note(self, line: str) -> None:
        """Take in a line that is no package."""
        if line.startswith("M"):
            self._begin_loop(line[1:])
        elif line.startswith("T"):
            self._pending = self._pending or self._told(line[1:])
        elif line.startswith("Z"):
            self._pending = self._pending or ENDED_BY_HOST
        elif not line:
            self.ending = self._pending or self._finished()
        elif line.startswith("!"):
            raise await self._link.refusal("e", line, self._script.text)

    def _begin_loop(self, technique: str) -> None:
        """The packages that follow are of a spectrum within the technique, or its own."""
        self._in_loop = True
        within = self._script.within
        if within is None:
            return
        self._loop = within if technique == _SPECTRUM else self._script
        self._loop_began_s, self._rows = self._last_s, 0

    def _told(self, text: str) -> Ending | None:
        """The ending that a ``send_string`` of our scripts announces."""
        verb, _, what = text.partition(" ")
        cut_offs = () if self._technique.technique == "impedance" else self._technique.cut_offs
        if verb == "CUT" and what.isdecimal() and int(what) < len(cut_offs):
            return Ending(EndingKind.CUT_OFF, crossing(cut_offs[int(what)]))
        if verb == "TRIP":
            return Ending(EndingKind.TRIPPED, f"{what}, limits are {self._limits_text()}")
        return None

    def _limits_text(self) -> str:
        limits = self._limits
        voltages = f"{limits.voltage_min_V:g} V to {limits.voltage_max_V:g} V"
        return f"{voltages}, {limits.current_max_A:g} A"

    def _finished(self) -> Ending:
        """The ending of a script that ended without a word: complete only if it is."""
        script = self._script
        if script.duration_s is None:
            whole = self._rows + self._garbled >= script.rows
            progress = f"{self._rows} of {script.rows} points"
        else:
            whole = self._last_s >= _WHOLE * script.duration_s - 2 * script.interval_s
            progress = f"{self._last_s:.6g} s of {script.duration_s:.6g} s"
        if whole and self._in_loop:
            return Ending(EndingKind.COMPLETED)
        return Ending(EndingKind.ABORTED, f"the instrument ended after {progress}, saying nothing")
