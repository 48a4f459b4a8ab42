"""Neware battery testers behind the BTS Client 8, through its API (XML over TCP, port 502).

What a channel is to do becomes a step file with its cut-offs and limits, which the cycler runs by
itself, also while the client's computer is away. The file is written to a folder that this computer
and that of the BTS Client share. Rows are downloaded by number. The API has no heartbeat, and
nothing stops a test but its program, its protection or ``stop``.

Never verified on hardware: whether the protection's lower current is signed, whether
``Cycle_Count`` counts the first cycle, whether the log of a stopped or protected test ends in code
100001, and how soon after its start a test appears in ``inquiredf``. The units of current differ
between installations: cross-check them with a known resistor.

Sources: the PyPI packages ``aurora-neware``, which runs real testers, and ``aurora-unicycler``;
notes on version 1.19 of the API.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, ClassVar, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Running
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Rest,
    StepList,
    Technique,
)
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.channels import crossing, opening_cell
from cellbench_drivers.common import (
    Charge,
    Current,
    Duration,
    Options,
    Voltage,
    parse_options,
    to_the_end,
)
from cellbench_drivers.neware_bts import IDLE, Address, Bts, Live
from cellbench_drivers.neware_run import REFRESH_S, NewareRun
from cellbench_drivers.neware_steps import Program, is_expressible, program_of, step_file
from cellbench_drivers.reach import check_technique

#: Device types 20 to 27 are the families BTS78 to BTS85.
_FAMILIES = range(20, 28)
_FIRST_FAMILY = 78
_STOP_S, _STOP_POLL_S = 30.0, 1.0
#: Resolution of a channel, as part of its largest current and voltage.
_RESOLUTION = 1e-4
_INTERVAL_MIN_S = 0.1
#: The client talks to the cycler through a server of its own.
_TRANSPORT_S, _COMMAND_S = 1.0, 2.0
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_WINDOWS = re.compile(r"^([A-Za-z]:|\\\\)")


class NewareOptions(Options):
    r"""Options in the bench file.

    Attributes:
        channel: ``27-21-1-3``: device type, device, unit and channel, as the BTS Client shows
            them; the device type can be left out where it is not ambiguous (``21-1-3``).
        steps_folder: Folder for step files that this computer can write, also ``\\PC\share``; made
            where there is none yet.
        steps_folder_on_pc: The same folder as the computer of the BTS Client sees it, e.g.
            ``C:\cellbench``; without it, the same path.
        backup_folder_on_pc: Where that computer backs data up; without it, the same folder.
        units: In what the API tells currents; it depends on the installation.
        username: User of the API.
        password: Password of the API.
        nominal_capacity: Of the cells; written into step files.
        current_max: Largest current of the channel.
        voltage_max: Highest voltage of the channel.
        voltage_min: Lowest voltage of the channel.
        timeout: How long a reply may take.
    """

    channel: str = Field(pattern=r"^(\d+-)?\d+-\d+-\d+$")
    steps_folder: Path
    steps_folder_on_pc: str = ""
    backup_folder_on_pc: str = ""
    units: Literal["A", "mA", "A/Ah", "mA/mAh"] = "A"
    username: str = "admin"
    password: str = "neware"  # noqa: S105 (what every BTS Client comes with)
    nominal_capacity: Charge | None = Field(default=None, gt=0)
    current_max: Current = Field(default=0.1, gt=0)
    voltage_max: Voltage = Field(default=5.0, gt=0)
    voltage_min: Voltage = 0.0
    timeout: Duration = Field(default=30.0, gt=0)


class Neware:
    """One channel of a Neware battery tester."""

    role: ClassVar[str] = "channel"
    summary: ClassVar[str] = "Neware battery testers with BTS Client 8 (API over TCP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 502

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, NewareOptions, options)
        milli = self._options.units.startswith("mA")
        self._bts = Bts(name, stream, self._options.timeout, 1e-3 if milli else 1.0)
        self._found: Address | None = None
        self._runs = 0
        self._start_sent_s = -math.inf
        self.capabilities = _capabilities("Neware BTS", self._options)

    async def connect(self) -> Identity:
        """Log in, and find the channel; a test that runs there goes on, for `attach`."""
        await self._bts.log_in(self._options.username, self._options.password)
        channels, version = await self._bts.channels()
        self._found = self._chosen(channels)
        live = await self._bts.live(self._found)
        model = _model(self._found)
        self.capabilities = _capabilities(model, self._options)
        remarks = (
            [] if live.status in IDLE else [f'the channel is at "{live.status}": {live.barcode}']
        )
        active = live.status not in IDLE
        return Identity(model, self._found.key, version or "BTS 8", tuple(remarks), active)

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Run a technique as a test of its own, named after the instrument and a number.

        A cut-off that a step file cannot express is watched on the rows as they arrive.
        """
        if not isinstance(technique, Rest | ConstantCurrent | ConstantVoltage):
            raise InstrumentError(self.name, f"cannot do {technique.technique}")
        check_technique(self.name, self.capabilities, technique)
        self._runs += 1
        steps = StepList(steps=(technique,))
        return self._started(steps, limits, f"{self.name}-{self._runs}", as_list=False)

    def can_list(self, technique: Technique) -> bool:
        """Whether a step of the file can express it, all its cut-offs included."""
        return is_expressible(technique)

    def run_list(
        self, steps: StepList, limits: ElectricalLimits, test: str
    ) -> AbstractAsyncContextManager[Running]:
        """Hand over ``steps`` as one step file called ``test``, and start it."""
        return self._started(steps, limits, test, as_list=True)

    def attach(
        self, steps: StepList, test: str, after_row: int
    ) -> AbstractAsyncContextManager[Running]:
        """Go on reading ``test``, which is known by its barcode, whether it runs or is over.

        Rows of a test that is over are flagged late: nobody tells when they were taken.
        """
        return self._attached(steps, test, after_row)

    async def quiet(self) -> Outcome:
        """Stop the channel; says honestly when that could not be confirmed."""
        try:
            if self._found is None:
                await self.connect()
            state = await self._stop()
        except InstrumentError as error:
            return Outcome(self.name, f"cell state unknown: {error}", confirmed=False)
        return Outcome(self.name, f"open circuit ({state})", confirmed=True)

    async def close(self) -> None:
        """Give up the connection; a test goes on."""
        await self._bts.close()

    @asynccontextmanager
    async def _started(
        self, steps: StepList, limits: ElectricalLimits, test: str, *, as_list: bool
    ) -> AsyncIterator[Running]:
        at, barcode = self._address(), _barcode(test)
        program = self._program(steps, as_list=as_list)
        live = await self._idle(at)
        test_before = (await self._bts.last_test(at)).number
        path = await self._written(program, limits, barcode, live.voltage_V)
        run = NewareRun(self._bts, at, program, barcode, limits, as_list=as_list, stop=self._stop)
        try:
            self._start_sent_s = asyncio.get_running_loop().time()
            taken = await self._bts.start(at, barcode, path, self._backup_folder())
            if not taken:
                self._start_sent_s = -math.inf
                raise InstrumentError(self.name, f'refuses to start "{barcode}" from {path}')
            run.begin(live, test_before)
            yield run
        finally:
            await to_the_end(self._leave(run))

    @asynccontextmanager
    async def _attached(self, steps: StepList, test: str, after_row: int) -> AsyncIterator[Running]:
        at, barcode = self._address(), _barcode(test)
        program = self._program(steps, as_list=True)
        run = NewareRun(self._bts, at, program, barcode, None, as_list=True, stop=self._stop)
        await run.join(after_row)
        try:
            yield run
        finally:
            await to_the_end(self._leave(run))

    async def _leave(self, run: NewareRun) -> None:
        """See that the channel is at open circuit after a test, however it ended."""
        if run.ended_by_itself:
            return
        with opening_cell(self.name):
            await self._stop()
        run.end()

    async def _stop(self) -> str:
        """Stop the channel if it is not idle, and return the status that confirms it.

        Shortly after a start the client may still tell that the channel is idle: it is then stopped
        all the same, and not believed before it must have seen the start.
        """
        at, now = self._address(), asyncio.get_running_loop().time
        believed_s = self._start_sent_s + 2 * REFRESH_S
        deadline_s = max(now(), believed_s) + _STOP_S
        told_s = -math.inf
        while True:
            status = await self._bts.status(at)
            idle = status in IDLE
            if idle and now() >= believed_s:
                return status
            if now() >= deadline_s:
                raise InstrumentError(self.name, f'was told to stop, and is still at "{status}"')
            if now() >= told_s + REFRESH_S:
                told_s = now()
                await self._bts.stop(at)
            await asyncio.sleep(_STOP_POLL_S)

    async def _idle(self, at: Address) -> Live:
        """Return what the channel shows at rest.

        Raises:
            InstrumentError: Something runs there.
        """
        live = await self._bts.live(at)
        if live.status not in IDLE and await self._bts.status(at) in IDLE:
            # It has just ended, and what the client shows is older.
            await asyncio.sleep(REFRESH_S)
            live = await self._bts.live(at)
        if live.status not in IDLE:
            raise InstrumentError(
                self.name,
                f'is at "{live.status}" of the test "{live.barcode}": wait for its end, or stop it',
            )
        return live

    def _program(self, steps: StepList, *, as_list: bool) -> Program:
        program = program_of(steps)
        if as_list and program.host_cut_offs:
            raise InstrumentError(
                self.name,
                f'cannot by itself end a step on "{crossing(program.host_cut_offs[0])}": a step '
                "file ends a current on the voltage that it moves towards, and a voltage on a "
                "current that has fallen, both at once",
            )
        return program

    async def _written(
        self, program: Program, limits: ElectricalLimits, barcode: str, open_circuit_V: float
    ) -> str:
        """Write a step file and return its path on the computer of the BTS Client."""
        try:
            text = step_file(
                program,
                limits,
                barcode,
                open_circuit_V=open_circuit_V,
                capacity_C=self._options.nominal_capacity,
            )
        except ValueError as error:
            raise InstrumentError(self.name, str(error)) from error
        path = self._options.steps_folder / f"{barcode}.xml"
        try:
            await asyncio.to_thread(_write, path, text)
        except OSError as error:
            raise InstrumentError(
                self.name, f"the step file {path} cannot be written: {error.strerror or error}"
            ) from error
        return str(self._on_pc() / path.name)

    def _on_pc(self) -> PurePath:
        folder = self._options.steps_folder_on_pc or str(self._options.steps_folder)
        return PureWindowsPath(folder) if _WINDOWS.match(folder) else PurePath(folder)

    def _backup_folder(self) -> str:
        return self._options.backup_folder_on_pc or str(self._on_pc())

    def _address(self) -> Address:
        if self._found is None:
            raise InstrumentError(self.name, "is not connected")
        return self._found

    def _chosen(self, channels: list[Address]) -> Address:
        wanted = self._options.channel
        keys = [each for each in channels if wanted in {each.key, each.key.partition("-")[2]}]
        if len(keys) == 1:
            return keys[0]
        there = ", ".join(each.key for each in keys or channels) or "none at all"
        count = "is ambiguous" if keys else "is not there"
        raise InstrumentError(self.name, f"channel {wanted} {count}; there are: {there}")


def _barcode(test: str) -> str:
    """A test's name as barcode and file name; one with other characters gets an id made of it."""
    if _PLAIN.fullmatch(test):
        return test
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", test)
    return f"{plain}-{uuid5(NAMESPACE_URL, test).hex[:8]}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _model(at: Address) -> str:
    if at.device_type in _FAMILIES:
        return f"Neware BTS{at.device_type - _FAMILIES.start + _FIRST_FAMILY}"
    return f"Neware device type {at.device_type}"


def _capabilities(model: str, options: NewareOptions) -> ChannelCapabilities:
    return ChannelCapabilities(
        model=model,
        voltage_min_V=options.voltage_min,
        voltage_max_V=options.voltage_max,
        current_max_A=options.current_max,
        current_min_A=options.current_max * _RESOLUTION,
        interval_min_s=_INTERVAL_MIN_S,
        techniques=frozenset({"rest", "constant current", "constant voltage"}),
        impedance=None,
        on_device=frozenset({"duration", "voltage", "current"}),
        bounded_without_host=True,
        reaction=ReactionTime(REFRESH_S, _TRANSPORT_S, _COMMAND_S),
        voltage_noise_V=options.voltage_max * _RESOLUTION,
        holds_both_ways=False,
        unverified=(
            "whether the API tells A or mA: cross-check with a known resistor",
            "smallest current and noise: from the data sheet of the unit",
        ),
    )
