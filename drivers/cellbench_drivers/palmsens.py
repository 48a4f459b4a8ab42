"""PalmSens potentiostats that run MethodSCRIPT: EmStat4, MultiEmStat4, Nexus, EmStat Pico.

A technique becomes a script that runs on the instrument, with its cut-offs and limits in it; the
host only reads what the script prints. The instrument has no watchdog, and a runtime error leaves
the cell on: after each end that was not clean a script that opens the cell is run and checked.

Sources: the MethodSCRIPT manual 1.8, the communication protocols of EmStat4 (1.3), EmStat Pico
(1.6) and Nexus, the vendor's examples and SDK. Never verified on an instrument: what
``capabilities`` calls unverified, and whether amplitudes are rms or peak.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Running
from cellbench.instruments.techniques import ElectricalLimits, Technique
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.channels import opening_cell
from cellbench_drivers.common import Duration, Frequency, Options, parse_options, to_the_end
from cellbench_drivers.palmsens_link import Link
from cellbench_drivers.palmsens_models import MODEL_OF_ID, MODELS, Model, ModelName, capabilities
from cellbench_drivers.palmsens_run import ScriptRun
from cellbench_drivers.palmsens_scripts import script_for
from cellbench_drivers.reach import check_technique

#: Bits of the ``CC`` reply: load and run a script, abort it.
_CC_NEEDED = {38: "e", 98: "Z"}


class PalmSensOptions(Options):
    """Options in the bench file.

    Attributes:
        model: Plan for this instrument, and refuse another; without it the one that answers.
        f_max: Highest frequency of the unit, from its data sheet.
        abort_within: How long a script that this program did not start may take to give way.
    """

    model: ModelName | None = None
    f_max: Frequency | None = Field(default=None, gt=0)
    abort_within: Duration = Field(default=180.0, gt=0)


class PalmSens:
    """One channel of a MethodSCRIPT instrument."""

    role: ClassVar[str] = "channel"
    usb: ClassVar[tuple[str, ...]] = ("EmStat4", "Nexus", "ESPicoDev")
    summary: ClassVar[str] = "PalmSens EmStat4, MultiEmStat4, Nexus, EmStat Pico (MethodSCRIPT)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(921600)
    tcp_port: ClassVar[int | None] = None

    capabilities: ChannelCapabilities

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, PalmSensOptions, options)
        self._link = Link(name, stream)
        self._lock = asyncio.Lock()
        self._run: ScriptRun | None = None
        self._model = self._modelled(self._options.model or "nexus")
        self.capabilities = capabilities(self._model)

    async def connect(self) -> Identity:
        """Abort what runs, open the cell, and find out which instrument it is."""
        async with self._lock:
            was_running = await self._link.abort_and_sync(self._options.abort_within)
            await self._link.cell_off()
            firmware = await self._link.command("t", b"*\n")
            serial = await self._link.command("i")
            remarks = ["a script was running: aborted"] if was_running else []
            remarks.append(await self._script_version())
            await self._take_capabilities(firmware)
        text = " ".join(firmware.removesuffix("\nR").split())
        return Identity(self._model.name, serial, text, tuple(remarks), was_running)

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Run a technique on the instrument.

        Raises:
            InstrumentError: The instrument or the limits do not allow it.
        """
        return self._running(technique, limits)

    async def quiet(self) -> Outcome:
        """Abort what runs and open the cell; says honestly when that could not be confirmed."""
        try:
            await self._interrupt()
        except InstrumentError as error:
            return Outcome(self.name, f"cell state unknown: {error}", confirmed=False)
        return Outcome(self.name, "cell off", confirmed=True)

    async def close(self) -> None:
        """Give up the connection."""
        await self._link.close()

    @asynccontextmanager
    async def _running(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AsyncIterator[Running]:
        check_technique(self.name, self.capabilities, technique)
        try:
            script = script_for(technique, limits, self._model)
        except ValueError as error:
            raise InstrumentError(self.name, f"{technique.technique}: {error}") from error
        run = self._run = ScriptRun(self._link, self._lock, script, technique, limits)
        try:
            async with self._lock:
                await self._link.start(script.text)
            yield run
        finally:
            await to_the_end(self._leave(run))

    async def _leave(self, run: ScriptRun) -> None:
        """See that the cell is off after a technique, however it ended."""
        if not run.ended_by_itself:
            with opening_cell(self.name):
                async with self._lock:
                    await self._open(run)
        self._run = None

    async def _interrupt(self) -> None:
        if self._run is not None and self._lock.locked():
            # Whoever waits for the next row holds the lock; the abort makes that wait short.
            await self._link.send("Z\n")
        async with self._lock:
            await self._open(self._run)

    async def _open(self, run: ScriptRun | None) -> None:
        patience_s = self._options.abort_within
        if run is not None:
            patience_s = min(patience_s, run.patience_s())
        await self._link.abort_and_sync(patience_s)
        if run is not None:
            run.end()
        await self._link.cell_off()

    async def _script_version(self) -> str:
        try:
            return f"MethodSCRIPT {await self._link.command('v')}"
        except InstrumentError:
            # Old firmware does not know the command; nothing depends on it.
            return "MethodSCRIPT version not told"

    async def _take_capabilities(self, firmware: str) -> None:
        model = MODEL_OF_ID.get(firmware[:6])
        if model is None:
            raise InstrumentError(
                self.name, f'is a "{firmware[:6]}", which cellbench does not know'
            )
        if self._options.model not in {None, model}:
            raise InstrumentError(self.name, f"is {model}, the bench says {self._options.model}")
        runtime = await self._bits("CC")
        missing = [name for bit, name in _CC_NEEDED.items() if not runtime >> bit & 1]
        if missing:
            raise InstrumentError(self.name, f"lacks the commands {', '.join(missing)}")
        self._model = self._modelled(model)
        self.capabilities = capabilities(self._model, await self._bits("CM"))

    async def _bits(self, command: str) -> int:
        answer = await self._link.command(command)
        try:
            return int(answer, 16)
        except ValueError as error:
            raise InstrumentError(self.name, f'answers "{answer}" to {command}') from error

    def _modelled(self, name: ModelName) -> Model:
        model, f_max = MODELS[name], self._options.f_max
        return model if f_max is None else model.with_frequency_max(f_max)
