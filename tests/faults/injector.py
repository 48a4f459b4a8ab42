"""Makes things go wrong on a simulated bench, and watches it from outside.

Each instrument's line is taken hold of at the emulator: what comes in and what goes out passes
here, is counted, and is hit by what is due. Physics is disturbed at the world itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tests.faults.scenario import (
    BrokenSensor,
    Fault,
    Kind,
    Leak,
    Line,
    Short,
    StuckValve,
    WrongForce,
)
from tests.hosts import Plugs

from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators import Emulator
from cellbench_sim.emulators.biologic import LibraryStream
from cellbench_sim.emulators.registry import emulator_class
from cellbench_sim.emulators.scpi_switch import ScpiSwitchEmulator

_NOISE = b"\xfe\xff"
_LOOK_S = 5.0
#: Drivers of what is clipped to the cell.
_ON_THE_CELL = {"palmsens", "keithley", "neware", "maccor", "biologic"}


class _SwitchedOff(Exception):
    """What keeps an emulator without power from acting."""


@dataclass(frozen=True)
class Imposed:
    """What was imposed on the cell, and when."""

    time_s: float
    kind: str
    value: float


@dataclass(frozen=True)
class Look:
    """The physics at one moment."""

    time_s: float
    force_N: float
    air_K: float
    kind: str


@dataclass
class Seen:
    """What was seen from outside.

    Attributes:
        imposed: On the cell, each change.
        forces_N: That the press was told.
        looks: At the physics, every few seconds.
        requests: Number of messages to each instrument.
        struck: Faults that struck, and when.
        unbounded: Programs that energised the cell without bounds in force.
    """

    imposed: list[Imposed] = field(default_factory=list)
    forces_N: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    struck: list[tuple[float, Fault]] = field(default_factory=list)
    unbounded: list[str] = field(default_factory=list)


class TappedLine:
    """The line of one emulator, on which faults strike."""

    def __init__(self, device: Emulator, injector: Injector) -> None:
        self.device = device
        self._injector = injector
        self._receive, self._send = device.receive, device._send
        self._due: list[Line] = []
        self._silent_until_s = -1.0
        self._delivered_s = 0.0
        hooked = cast("Any", device)
        hooked.receive, hooked._send = self.receive, self.send

    def arm(self, fault: Line) -> None:
        """Have the next message hit."""
        match fault.kind:
            case Kind.SILENT:
                self._fall_silent(fault)
            case Kind.PULLED:
                self._fall_silent(fault)
                self.device.hang_up()
            case _:
                self._due.append(fault)

    def _fall_silent(self, fault: Line) -> None:
        self._silent_until_s = max(self._silent_until_s, self._injector.now_s + fault.duration_s)
        self._injector.strikes(fault)
        # What is behind a library hears no bytes that could be kept from it here.
        self.device.line.silent = True
        self._injector.after(fault.duration_s, self._speak)

    def _speak(self) -> None:
        # An instant is not told to the last nanosecond.
        self.device.line.silent = self._injector.now_s < self._silent_until_s - 1e-3

    def receive(self, data: bytes) -> None:
        injector = self._injector
        name = self.device.name
        injector.seen.requests[name] = injector.seen.requests.get(name, 0) + 1
        injector.on_message(name)
        if self._silent:
            return
        bounds = injector.bounds.get(name)
        if bounds is not None:
            bounds.heard(data)
        lost = next((each for each in self._due if each.kind is Kind.REQUEST_LOST), None)
        if lost is not None:
            self._due.remove(lost)
            injector.strikes(lost)
            return
        self._receive(data)

    def send(self, data: bytes) -> None:
        if self._silent:
            return
        fault = next((each for each in self._due if each.kind is not Kind.REQUEST_LOST), None)
        delay_s, again = 0.0, False
        if fault is not None:
            self._due.remove(fault)
            self._injector.strikes(fault)
            at = round(fault.where * (len(data) - 1))
            match fault.kind:
                case Kind.REPLY_LOST:
                    return
                case Kind.LATE:
                    delay_s = fault.duration_s
                case Kind.DUPLICATED:
                    again = True
                case Kind.TRUNCATED:
                    data = data[:at]
                case Kind.NOISE:
                    data = data[:at] + _NOISE + data[at:]
                case Kind.FLIPPED:
                    bit = 1 << (len(data) % 8)
                    data = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        self._deliver(data + data if again else data, delay_s)

    @property
    def _silent(self) -> bool:
        return self._injector.now_s < self._silent_until_s

    def _deliver(self, data: bytes, delay_s: float) -> None:
        now_s = self._injector.now_s
        due_s = max(now_s + delay_s, self._delivered_s)
        if due_s <= now_s:
            self._send(data)
            return
        self._delivered_s = due_s
        sink = self.device._sink
        self.device._timebase.call_at(due_s, self._send_late, data, sink)

    def _send_late(self, data: bytes, sink: object) -> None:
        if not self._silent and self.device._sink is sink:
            self._send(data)


class Injector:
    """Faults on a bench that is switched on, each at its moment.

    Args:
        simulator: The bench.
        faults: Those that are of the bench itself; others are left alone.
        options: What the bench file says of each instrument.
        seed: Of an instrument that is switched on again.
    """

    def __init__(self, simulator: SimulatedBench, options: dict[str, Any], seed: int) -> None:
        self.simulator, self.seen = simulator, Seen()
        self.plugs: list[Plugs] = []
        self.on_message: Callable[[str], None] = lambda _: None
        self.bounds: dict[str, Any] = {}
        self._options, self._seed = options, seed
        self._lines = {
            name: TappedLine(device, self) for name, device in simulator.instruments.items()
        }
        self._observe()

    @property
    def now_s(self) -> float:
        """Time of the bench."""
        return self.simulator._timebase.now()

    def strikes(self, fault: Fault) -> None:
        """Take note that a fault struck."""
        self.seen.struck.append((self.now_s, fault))

    def plan(self, faults: tuple[Fault, ...]) -> None:
        """Have faults strike at their moments; those of hosts and stores are left alone."""
        for fault in faults:
            action = self._action(fault)
            if action is not None:
                self.simulator._timebase.call_at(fault.at_s, action)

    def _action(self, fault: Fault) -> Callable[[], None] | None:
        match fault:
            case Line(kind=Kind.RESET):
                return lambda: self._reset(fault)
            case Line():
                return lambda: self._lines[fault.target].arm(fault)
            case WrongForce():
                return lambda: self._wrong_force(fault)
            case BrokenSensor():
                return lambda: self._broken_sensor(fault)
            case Leak():
                return lambda: self._leak(fault)
            case StuckValve():
                return lambda: self._stuck(fault)
            case Short():
                return lambda: self._short(fault)
            case _:
                return None

    def after(self, time_s: float, action: Callable[[], None]) -> None:
        self.simulator._timebase.call_at(self.now_s + time_s, action)

    # --- What goes wrong ------------------------------------------------------------------------

    def _reset(self, fault: Line) -> None:
        """Take its power away and give it back: it lets go of the cell, and knows nothing more."""
        self.strikes(fault)
        simulator, name = self.simulator, fault.target
        old = cast("Any", simulator.instruments[name])
        old.hang_up()
        old._fault = _SwitchedOff()
        world, timebase = simulator.world, old._timebase
        world.advance_to(timebase.now())
        leads = simulator.leads.get(name)
        entry = self._options[name]
        if entry["driver"] in _ON_THE_CELL:
            (world if leads is None else leads).open_circuit()
        if entry["driver"] == "plc_press":
            world.press.max_force_N = world.press._fixture.max_force_N  # it forgets the run's
        new = emulator_class(entry["driver"]).from_bench(
            name,
            timebase,
            cast("Any", world if leads is None else leads),
            seed=self._seed,
            options={key.replace(" ", "_").lower(): value for key, value in entry.items()},
        )
        simulator.instruments[name] = new
        if isinstance(new, ScpiSwitchEmulator):
            simulator._wire()
            simulator._connect_leads(new, frozenset())
        self._lines[name] = TappedLine(new, self)
        for wire in (each for plugs in self.plugs for each in plugs.wires.get(name, ())):
            if wire._device is old:
                wire._device = new
                if isinstance(wire, LibraryStream):
                    cast("Any", wire.library)._instrument = new

    def _wrong_force(self, fault: WrongForce) -> None:
        devices = self.simulator.instruments.values()
        gauge = next((each for each in devices if hasattr(each, "cell")), None)
        if gauge is None:
            return
        self.strikes(fault)
        cell = cast("Any", gauge).cell
        right = cell.reading_N
        stuck_N = right()

        def wrong() -> float:
            return float(stuck_N if fault.factor is None else right() * fault.factor)

        cell.reading_N = wrong
        self.after(fault.duration_s, lambda: setattr(cell, "reading_N", right))

    def _broken_sensor(self, fault: BrokenSensor) -> None:
        chamber = cast("Any", self.simulator.instruments["chamber"])
        self.strikes(fault)
        chamber.sensor_broken = True
        self.after(fault.duration_s, self._mend_sensor)

    def _mend_sensor(self) -> None:
        cast("Any", self.simulator.instruments["chamber"]).sensor_broken = False

    def _leak(self, fault: Leak) -> None:
        press = self._press()
        self.strikes(fault)
        tight = press._fixture
        press._fixture = replace(tight, leak_per_s=fault.per_s, stroke_N=0.0)
        self.after(fault.duration_s, lambda: self._tight(tight))

    def _tight(self, fixture: object) -> None:
        self._press()._fixture = fixture

    def _stuck(self, fault: StuckValve) -> None:
        press = self._press()
        self.strikes(fault)
        press._follow_ramp = lambda _: None
        self.after(fault.duration_s, self._free_valve)

    def _free_valve(self) -> None:
        press = self._press()
        if "_follow_ramp" in vars(press):
            del press._follow_ramp

    def _press(self) -> Any:
        world = self.simulator.world
        world.advance_to(self.now_s)
        world._settle()
        return world.press

    def _short(self, fault: Short) -> None:
        world = self.simulator.world
        world.advance_to(self.now_s)
        world._settle()
        shunt = world.cell.shunt
        if shunt is None:
            return
        self.strikes(fault)
        shunt.collapse.conductance_S = 1.0 / fault.resistance_ohm
        world.cell._set_shunt()
        world._pass_on_demand()

    # --- Watching -------------------------------------------------------------------------------

    def _observe(self) -> None:
        world = cast("Any", self.simulator.world)
        impose, ramp_to = world._impose, world.press.ramp_to

        def imposed(kind: str, value: float) -> None:
            self.seen.imposed.append(Imposed(world.time_s, kind, value))
            impose(kind, value)

        def ramped(force_N: float, rate_N_per_s: float) -> None:
            self.seen.forces_N.append(force_N)
            ramp_to(force_N, rate_N_per_s)

        world._impose, world.press.ramp_to = imposed, ramped

    def look(self) -> None:
        """Look at the physics now, and again every few seconds."""
        world = self.simulator.world
        world.advance_to(self.now_s)
        self.seen.looks.append(
            Look(self.now_s, world.force_N(), world.air_temperature_K, world._demand)
        )
        self.after(_LOOK_S, self.look)


def turns_later(turns: int, action: Callable[[], None]) -> None:
    """Act so many turns of the loop later."""
    if turns <= 0:
        action()
    else:
        asyncio.get_running_loop().call_soon(turns_later, turns - 1, action)
