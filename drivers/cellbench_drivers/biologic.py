r"""BioLogic potentiostats of the VMP3 and SP-300 families, through the EC-Lab OEM library.

There is no public wire protocol: the vendor's EClib64.dll (Windows) is the interface, so that the
bench file says ``port: library``. Techniques are loaded into a channel, which runs them by itself
and keeps its rows until they are fetched; cut-offs and limits of a constant current or voltage are
tests on the device. Sweeps, rests and spectra have no tests: there the host watches the rows. A
technique is always bounded in time by its own parameters, whatever becomes of the host.

A technique that a dead host left running is stopped when the driver connects. The instrument could
be attached to instead (it tells that it runs, and still has the rows that nobody fetched), but rows
are handed over once only and carry no number, so that nobody could say which are missing.

Never verified on hardware: packing of structures, unit of the scan rate of ``cv`` and of phases
(options); whether amplitudes are peak or rms; that a current in a test has its sign; that a channel
that has stopped measures the open circuit, and the times of a chain. The first rows of a sweep are
checked against its rate. Standard boards only measure up to some 0.4 A: see the option
``current max``. The MTZ-35 has no public interface.

Sources: the guide of the OEM library, and public programs that use it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import PureWindowsPath
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field

from cellbench.errors import InstrumentError, InstrumentTimeout
from cellbench.instruments.capabilities import ChannelCapabilities, ImpedanceBand, ReactionTime
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Running
from cellbench.instruments.techniques import ElectricalLimits, Technique
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.biologic_abi import (
    BOARD_SP300,
    BOARD_SP300_P,
    BOARD_VMP3,
    FIRMWARE_OF_EC_LAB,
    FIRMWARE_OF_LIBRARY,
    RUNNING,
    STOPPED,
    ChannelInfo,
    CurrentValues,
    DeviceInfo,
    Library,
    Packing,
)
from cellbench_drivers.biologic_data import PhaseUnit, is_spectrum, spectrum_rows, time_rows
from cellbench_drivers.biologic_library import LibraryError, Session, load
from cellbench_drivers.biologic_program import BOOSTER, RANGES_A, Program, Settings
from cellbench_drivers.biologic_run import Batch, BiologicRun
from cellbench_drivers.biologic_techniques import program_for
from cellbench_drivers.channels import opening_cell
from cellbench_drivers.common import Current, Frequency, Options, parse_options, to_the_end, wire
from cellbench_drivers.reach import check_technique

T = TypeVar("T")

#: Names of the devices by their codes.
_DEVICES = {
    0: "VMP", 1: "VMP2", 2: "MPG", 3: "BiStat", 4: "MCS-200", 5: "VMP3", 6: "VSP", 7: "HCP-803",
    8: "EPP-400", 9: "EPP-4000", 10: "BiStat 2", 11: "FCT-150S", 12: "VMP-300", 13: "SP-50",
    14: "SP-150", 15: "FCT-50S", 16: "SP-300", 17: "CLB-500", 18: "HCP-1005", 19: "CLB-2000",
    20: "VSP-300", 21: "SP-200", 22: "MPG-2", 27: "SP-240", 28: "MPG-205", 29: "MPG-210",
    30: "MPG-220", 31: "MPG-240", 32: "BP-300", 33: "VMP-3e", 34: "VSP-3e", 35: "SP-50e",
    36: "SP-150e",
}  # fmt: skip
_SP300_FAMILY = {12, 16, 20, 21, 27, 32}
#: What the names of technique files end in, by the type of the board.
_SUFFIXES = {BOARD_VMP3: "", BOARD_SP300: "4", BOARD_SP300_P: "5"}
_CURRENT_MAX_A = {BOARD_VMP3: 0.4, BOARD_SP300: 0.5, BOARD_SP300_P: 0.5}
_FREQUENCY_MIN_HZ, _FREQUENCY_MAX_HZ = 10e-6, 1e6
_VOLTAGE_MAX_V = 10.0
#: The smallest range of a channel without a low-current board: 10 uA.
_RANGE_MIN = 5
_RESOLUTION = 1e-4
_INTERVAL_MIN_S = 1e-3
#: Beyond the library's own time-out a call hangs; loading a firmware takes long.
_HUNG_S, _CONNECT_S = 10.0, 180.0
_STOP_S, _STOP_POLL_S = 10.0, 0.5
#: Buffers that a stopped channel may still have from the technique before.
_OLD_BUFFERS_MAX = 10_000


class BiologicOptions(Options):
    r"""Options in the bench file.

    Attributes:
        host: Address of the instrument, e.g. ``192.109.209.128``, or ``USB0``.
        channel: Number of the channel, from 1 as on its front.
        library: Path of the DLL, e.g. ``C:\EC-Lab Development Package\lib\EClib64.dll``.
        techniques_folder: Where the technique files are; without it, beside the library.
        model: Plan for this device, e.g. ``VMP3``, and refuse another.
        timeout: Time-out of the library in whole seconds.
        current_max: Largest current of the channel and its amplifier, from the data sheet.
        f_max: Highest frequency of its impedance board, from the data sheet.
        bandwidth: Number of the control loop's bandwidth, 1 (slow) to 7, or 9 on an SP-300.
        scan_rate_unit: In what the library takes scan rates; it depends on its version.
        phase_unit: In what it tells phases.
        packing: To how many bytes its structures are aligned.
    """

    host: str = Field(pattern=r"^[!-~]+$")
    channel: int = Field(default=1, ge=1, le=16)
    library: str = "EClib64.dll"
    techniques_folder: str = ""
    model: str | None = None
    timeout: int = Field(default=5, ge=1, le=60)
    current_max: Current | None = Field(default=None, gt=0)
    f_max: Frequency | None = Field(default=None, gt=0)
    bandwidth: int = Field(default=5, ge=1, le=9)
    scan_rate_unit: Literal["V/s", "mV/s"] = "V/s"
    phase_unit: PhaseUnit = "rad"
    packing: Packing = 4


class Biologic:
    """One channel of a BioLogic potentiostat."""

    role: ClassVar[str] = "channel"
    summary: ClassVar[str] = "BioLogic VMP3 and SP-300 families (EC-Lab OEM library, port: library)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = None

    capabilities: ChannelCapabilities

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, BiologicOptions, options)
        self._stream = stream
        self._thread: ThreadPoolExecutor | None = None
        self._session: Session | None = None
        self._run: BiologicRun | None = None
        self._suffix = ""
        self._settings = self._set(BOARD_VMP3, None)
        model = f"BioLogic {self._options.model or 'VMP3'}"
        self.capabilities = self._able(model, impedance=True)

    async def connect(self) -> Identity:
        """Connect, see that the channel has the library's firmware, and stop what it is doing."""
        await self._hang_up()
        library = await self._library()
        session = Session(library, self._options.channel - 1, self._options.packing)
        device, channel = await self._do(partial(self._opened, session), within_s=_CONNECT_S)
        model = self._checked_model(device)
        board = session.board or (BOARD_SP300 if device.DeviceCode in _SP300_FAMILY else BOARD_VMP3)
        self._suffix = _SUFFIXES.get(board, "")
        self._settings = self._set(board, channel)
        self.capabilities = self._able(f"BioLogic {model}", impedance=bool(channel.Zboard))
        remarks = [f"never verified on hardware: firmware {channel.FirmwareVersion}"]
        was_running = channel.State != STOPPED
        if was_running:
            values = await self._stop()
            lost = f", {values.MemFilled} bytes of its rows given up" if values.MemFilled else ""
            remarks.append(f"a technique was running: stopped{lost}")
        firmware = f"{channel.FirmwareVersion}, communication {device.FirmwareVersion}"
        serial = f"board {channel.BoardSerialNumber}"
        return Identity(f"BioLogic {model}", serial, firmware, tuple(remarks), was_running)

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Load a technique into the channel and run it.

        Raises:
            InstrumentError: The channel or the limits do not allow it.
        """
        return self._running(technique, limits)

    async def quiet(self) -> Outcome:
        """Stop the channel; says honestly when that could not be confirmed."""
        try:
            values = await self._stop()
        except InstrumentError as error:
            return Outcome(self.name, f"cell state unknown: {error}", confirmed=False)
        if self._run is not None:
            self._run.end()
        return Outcome(self.name, f"stopped, cell open ({values.Ewe:.4g} V)", confirmed=True)

    async def close(self) -> None:
        """Give up the connection."""
        await self._hang_up()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None
        await self._stream.close()

    # --- Techniques -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AsyncIterator[Running]:
        session = self._connected()
        check_technique(self.name, self.capabilities, technique)
        at_rest = await self._at_rest()
        try:
            program = program_for(technique, limits, self._settings, at_rest.Ewe)
        except ValueError as error:
            raise InstrumentError(self.name, f"{technique.technique}: {error}") from error
        await self._do(partial(self._load, session, program))
        fetch = partial(self._do, partial(self._fetched, session, program))
        run = BiologicRun(self.name, program, at_rest.Ewe, fetch=fetch, stop=self._stop)
        self._run = run
        try:
            await self._do(session.start)
            run.begin()
            yield run
        finally:
            await to_the_end(self._leave(run))

    async def _leave(self, run: BiologicRun) -> None:
        """See that the cell is open after a technique, however it ended."""
        self._run = None
        if run.ended_by_itself:
            return  # the channel has said that it stopped
        with opening_cell(self.name):
            await self._stop()
        run.end()

    async def _at_rest(self) -> CurrentValues:
        """What the channel shows before a technique, without rows of the one before.

        Raises:
            InstrumentError: It is doing something.
        """
        session = self._connected()
        values = await self._do(session.values)
        if values.State != STOPPED:
            raise InstrumentError(self.name, "its channel already runs a technique: stop it first")
        if values.MemFilled > 0:
            await self._do(partial(_discard_rows, session))
        return values

    def _load(self, session: Session, program: Program) -> None:
        last = len(program.techniques) - 1
        for position, each in enumerate(program.techniques):
            file = self._technique_file(each.file)
            session.load(file, each.parameters, first=position == 0, last=position == last)

    def _technique_file(self, stem: str) -> str:
        file = f"{stem}{self._suffix}.ecc"
        folder = self._options.techniques_folder
        if not folder:
            beside = PureWindowsPath(self._options.library).parent
            folder = "" if beside == PureWindowsPath() else str(beside)
        return str(PureWindowsPath(folder) / file) if folder else file

    def _fetched(self, session: Session, program: Program) -> Batch:
        """Take rows out of the channel's memory, as numbers."""
        rows = session.data()
        techniques = program.techniques
        if rows.words and not 0 <= rows.technique_index < len(techniques):
            raise LibraryError(
                f"a row is of technique {rows.technique_index + 1} of {len(techniques)}: the "
                "channel runs something else"
            )
        batch = partial(
            Batch,
            start_s=rows.start_s,
            skipped=rows.skipped,
            fetched=bool(rows.words),
            values=rows.values,
        )
        if not rows.words:
            return batch(0, rows=[])
        position = rows.technique_index
        file = techniques[position].file
        if is_spectrum(file, rows):
            points = spectrum_rows(file, rows, session.single, self._options.phase_unit)
            return batch(position, rows=points)
        return batch(position, rows=time_rows(file, rows, session.single))

    # --- Safe state -----------------------------------------------------------------------------

    async def _stop(self) -> CurrentValues:
        """Stop the channel and read back that it has.

        It is told again while it has not, and a call that fails is made again until the deadline.
        """
        session, now = self._connected(), asyncio.get_running_loop().time
        deadline_s = now() + _STOP_S
        while True:
            fault = "it still runs"
            try:
                await self._do(session.stop)
            except InstrumentError as error:
                fault = str(error).removeprefix(f"{self.name}: ")
            try:
                values = await self._do(session.values)
                if values.State == STOPPED:
                    return values
            except InstrumentError as error:
                fault = str(error).removeprefix(f"{self.name}: ")
            if now() >= deadline_s:
                raise InstrumentError(self.name, f"was told to stop: {fault}")
            await asyncio.sleep(_STOP_POLL_S)

    # --- The library ----------------------------------------------------------------------------

    async def _library(self) -> Library:
        """The DLL with a thread for its calls; or the library that a simulated connection carries.

        That one is called on the event loop, and answers at once.
        """
        carried: Library | None = getattr(self._stream, "library", None)
        if carried is not None:
            return carried
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        return await self._do(partial(load, self._options.library, self._options.packing))

    async def _do(self, work: Callable[[], T], within_s: float = 0.0) -> T:
        """Do blocking work in the instrument's own thread, one piece after the other.

        Work that was begun goes on when nobody waits for it any more; a stop comes after it.
        """
        within_s = within_s or self._options.timeout + _HUNG_S
        with wire(self.name):
            if self._thread is None:
                return work()
            try:
                async with asyncio.timeout(within_s):
                    return await asyncio.get_running_loop().run_in_executor(self._thread, work)
            except TimeoutError as error:
                raise InstrumentTimeout(
                    self.name, f"its library has not answered for {within_s:g} s"
                ) from error

    async def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            # Whether the device hears of it or is gone already: the connection is over.
            with contextlib.suppress(InstrumentError):
                await self._do(session.disconnect)

    def _connected(self) -> Session:
        if self._session is None:
            raise InstrumentError(self.name, "is not connected")
        return self._session

    def _opened(self, session: Session) -> tuple[DeviceInfo, ChannelInfo]:
        """Connect, and make the channel ready for techniques."""
        options = self._options
        device = session.connect(options.host, options.timeout)
        self._session = session
        plugged = session.plugged()
        if options.channel - 1 not in plugged:
            there = ", ".join(str(each + 1) for each in plugged) or "none at all"
            raise LibraryError(f"there is no channel {options.channel}; there are: {there}")
        try:
            channel = session.channel_info()
        except LibraryError:
            pass  # a channel without a firmware cannot tell what it is
        else:
            if channel.FirmwareCode == FIRMWARE_OF_EC_LAB and channel.State == RUNNING:
                raise LibraryError("EC-Lab runs an experiment on this channel: it is not touched")
            if channel.FirmwareCode == FIRMWARE_OF_LIBRARY:
                return device, channel
        session.load_firmware()
        return device, session.channel_info()

    # --- What it can do -------------------------------------------------------------------------

    def _checked_model(self, device: DeviceInfo) -> str:
        model = _DEVICES.get(device.DeviceCode)
        if model is None:
            raise InstrumentError(
                self.name, f"is a device of code {device.DeviceCode}, which cellbench does not know"
            )
        wanted = self._options.model
        if wanted is not None and wanted.lower() != model.lower():
            raise InstrumentError(self.name, f"is a {model}, the bench says {wanted}")
        return model

    def _set(self, board: int, channel: ChannelInfo | None) -> Settings:
        """What of a channel goes into techniques; without one, what most have."""
        highest = len(RANGES_A) - 1 if channel is None else min(channel.MaxIRange, BOOSTER)
        lowest = _RANGE_MIN if channel is None else channel.MinIRange
        usual_A = _CURRENT_MAX_A.get(board, _CURRENT_MAX_A[BOARD_VMP3])
        if highest < BOOSTER:
            usual_A = min(usual_A, RANGES_A[max(highest, 0)])
        return Settings(
            range_min=lowest,
            range_max=highest,
            current_max_A=self._options.current_max or usual_A,
            bandwidth=self._options.bandwidth,
            scan_rate_unit=self._options.scan_rate_unit,
        )

    def _able(self, model: str, *, impedance: bool) -> ChannelCapabilities:
        settings, f_max = self._settings, self._options.f_max
        band = ImpedanceBand(_FREQUENCY_MIN_HZ, f_max or _FREQUENCY_MAX_HZ, galvanostatic=True)
        techniques = {"rest", "constant current", "constant voltage", "sweep"}
        smallest_A = RANGES_A[min(max(settings.range_min, 0), len(RANGES_A) - 1)]
        recalled = [
            "smallest current and noise: from the data sheet of the unit",
            "whether amplitudes are peak or rms",
            "the sign of currents in tests on the device",
        ]
        if self._options.current_max is None:
            recalled.append("current_max")
        if f_max is None:
            recalled.append("f_max")
        return ChannelCapabilities(
            model=model,
            voltage_min_V=-_VOLTAGE_MAX_V,
            voltage_max_V=_VOLTAGE_MAX_V,
            current_max_A=settings.current_max_A,
            current_min_A=smallest_A * _RESOLUTION,
            interval_min_s=_INTERVAL_MIN_S,
            techniques=frozenset(techniques | ({"impedance"} if impedance else set())),
            impedance=band if impedance else None,
            # Currents only in a constant voltage; in a sweep the host watches them.
            on_device=frozenset({"duration", "voltage"}),
            bounded_without_host=True,
            reaction=ReactionTime(1.0, 0.1, _STOP_POLL_S),
            voltage_noise_V=_VOLTAGE_MAX_V / 2 * _RESOLUTION,
            unverified=tuple(recalled),
        )


def _discard_rows(session: Session) -> None:
    """Take rows of a technique that was given up out of the channel's memory."""
    for _ in range(_OLD_BUFFERS_MAX):
        if not session.data().words:
            return
    raise LibraryError("its memory does not become empty")
