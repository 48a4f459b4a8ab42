"""The simulated bench: a world for each place, and the instruments that are wired to them.

By default there is one, with a potentiostat, a press, a load cell and a chamber; a bench file can
name others, and each is then played by the emulator of its driver's instruments.

A host connects to an instrument as it would plug in a cable, and speaks its real protocol. The
bench outlives its hosts: instruments go on with what they are doing while nobody is connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib import resources
from operator import attrgetter
from types import TracebackType
from typing import Any, Literal, Self, cast

from cellbench.errors import CellbenchError, InputError
from cellbench.transport.stream import Stream
from cellbench_sim.emulators import (
    Emulator,
    EurothermEmulator,
    LoadstarEmulator,
    PalmSensEmulator,
    PlcPressEmulator,
    Timebase,
)
from cellbench_sim.emulators.profiles import PROFILES
from cellbench_sim.emulators.registry import emulated_drivers, emulator_class
from cellbench_sim.emulators.scpi_switch import ScpiSwitchEmulator
from cellbench_sim.leads import Leads
from cellbench_sim.operator import (
    BY_OPERATOR,
    Asked,
    AttendedOperator,
    SimulatedOperator,
    hands_of,
)
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.physics.fixture import FIXTURES
from cellbench_sim.places import Standing, acts_on, alone, known_cell, known_fixture, places_of
from cellbench_sim.presets import preset_names, preset_text
from cellbench_sim.serve import serve
from cellbench_sim.world import World

#: The port of an instrument that a person works.
BY_HAND = "none"
#: The port of an instrument of this bench that is served nowhere.
SIMULATED = "simulated"
POTENTIOSTAT, PRESS, LOAD_CELL, CHAMBER = "potentiostat", "press", "load cell", "chamber"


def cell_names() -> tuple[str, ...]:
    """Names of the cells that can be simulated."""
    return preset_names()


class SimulatedBench:
    """A bench whose instruments are emulated; an async context manager that switches it on.

    Args:
        cell: Name of the simulated cell, one of `cell_names`.
        seed: Seed of everything random: two benches of one seed behave identically.
        instruments: Entries of a bench file by name, each with its ``driver``; the emulators of
            those replace the usual four, and the arguments about these have no effect.
        wiring: Of the cell to several of those instruments, by the cell's name: ``cycling``,
            ``impedance`` and ``changeover`` (``operator``, or the name of a switch). Their leads
            are off the cell at first; without a wiring they are always on it.
        cells: The places of a bench with many cells, by name: what each is wired to, as in a bench
            file, and as ``cell`` the simulated one that is there, else `cell`.
            Each has a world and a seed of its own, which no other place changes.
        potentiostat: Kind of potentiostat, a key of `PROFILES`.
        fixture: What holds the stack, a key of `FIXTURES`: a servo press or a spring up to 5 kN,
            a screw jig of constant gap up to 25 kN, a laboratory press from 2 to 147 kN.
        temperature_K: Chamber temperature at the start; None for a chamber that is off.
        chamber_protocol: What the chamber's controller speaks.
        load_cell_unit: Native unit of the load cell.
        clock_drift: How much faster the potentiostat's clock runs, as a fraction.
        polarity: -1 with the potentiostat's leads reversed.
        connected: False with a broken wire to the cell.

    Raises:
        InputError: There is no such cell or fixture.
    """

    def __init__(
        self,
        cell: str,
        seed: int,
        *,
        instruments: Mapping[str, Mapping[str, Any]] | None = None,
        wiring: Mapping[str, Mapping[str, str]] | None = None,
        cells: Mapping[str, Mapping[str, Any]] | None = None,
        potentiostat: str = "nexus",
        fixture: str = "servo",
        temperature_K: float | None = 298.15,
        chamber_protocol: Literal["modbus", "bisynch"] = "modbus",
        load_cell_unit: Literal["N", "LB", "Kg"] = "N",
        clock_drift: float = 0.0,
        polarity: Literal[1, -1] = 1,
        connected: bool = True,
    ) -> None:
        self.cell_name, self.seed = known_cell(cell), seed
        self._fixture = known_fixture(fixture)
        held_by = FIXTURES[fixture]
        self._timebase = timebase = Timebase()
        self._tasks: asyncio.TaskGroup | None = None
        self._entries, self._wiring, self._cells = instruments, wiring or {}, cells or {}
        self._on = Standing(cell, fixture, seed, ChamberSettings(set_point_K=temperature_K))
        self.places = (
            places_of(self._cells, self._on) if cells else {"": alone(self._wiring, self._on)}
        )
        for place in self.places.values():
            place.world.polarity, place.world.connected = polarity, connected
        self._hands = hands_of(timebase, self.places)
        self.operator = SimulatedOperator(self._hands)
        if instruments is not None:
            self.instruments = self._emulators(instruments)
            self._wire()
            return
        world = self.world
        self.potentiostat = PalmSensEmulator(
            POTENTIOSTAT, timebase, world, seed=seed, profile=potentiostat, clock_drift=clock_drift
        )
        self.press = PlcPressEmulator(PRESS, timebase, world, seed=seed)
        self.load_cell = LoadstarEmulator(
            LOAD_CELL,
            timebase,
            world,
            seed=seed,
            capacity_N=held_by.max_force_N,
            unit=load_cell_unit,
        )
        self.chamber = EurothermEmulator(
            CHAMBER, timebase, world, seed=seed, protocol=chamber_protocol
        )
        devices: tuple[Emulator, ...] = (
            self.potentiostat, self.press, self.load_cell, self.chamber
        )  # fmt: skip
        self.instruments = {device.name: device for device in devices}

    @property
    def world(self) -> World:
        """The world of a bench with one place."""
        (place,) = self.places.values()
        return place.world

    @property
    def leads(self) -> Mapping[str, Leads]:
        """The leads of instruments that share the cell of a bench with one place, by name."""
        (place,) = self.places.values()
        return place.leads

    def _emulators(self, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Emulator]:
        """Build the emulators of a bench file's instruments; a press that is pumped has none."""
        made: dict[str, Emulator] = {}
        devices: dict[str, Emulator] = {}
        for name, entry in entries.items():
            if entry.get("port") == BY_HAND:
                continue
            driver = str(entry["driver"])
            # What an instrument acts on has as much of a world as its kind uses.
            on = cast(World, self._acts_on(name))
            options = {key.replace(" ", "_").lower(): value for key, value in entry.items()}
            device = devices.get(driver)
            channel = device and device.another_channel(name, on, seed=self.seed, options=options)
            made[name] = channel or emulator_class(driver).from_bench(
                name, self._timebase, on, seed=self.seed, options=options
            )
            devices.setdefault(driver, made[name])
        return made

    def _acts_on(self, name: str) -> object:
        if self._cells:
            return acts_on(name, self.places.values(), self._on)
        return self.leads.get(name, self.world)

    def _wire(self) -> None:
        """Let switches connect the leads of the instruments that their positions are named after.

        Raises:
            InputError: What a cell is said to be switched by is no switch.
        """
        for place in self.places.values():
            by = place.instruments.get("changeover", BY_OPERATOR)
            switch = self.instruments.get(by)
            if isinstance(switch, ScpiSwitchEmulator):
                switch.on_change = partial(self._connect_leads, switch)
                self._connect_leads(switch)
            elif by != BY_OPERATOR:
                raise InputError(f"{place.name}: {by} is no switch of this bench")

    def _connect_leads(self, switch: ScpiSwitchEmulator, _closed: object = None) -> None:
        """Connect the leads at every place as the switch has its positions."""
        for place in self.places.values():
            if place.instruments.get("changeover") == switch.name:
                place.connect(switch.positions)

    def attended(self, person: Asked | None, place: str = "") -> Asked:
        """Return who is asked, and does on this bench what was asked, at one place of many.

        Args:
            person: Who answers; None for the simulated operator.
            place: Where they work; without one it is where a prompt says.
        """
        hands = self._hands.at(place)
        if person is not None:
            return AttendedOperator(person, hands)
        return SimulatedOperator(hands) if place else self.operator

    async def __aenter__(self) -> Self:
        """Switch the bench on, in the running loop."""
        self._timebase.start()
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._watches = [
            self._tasks.create_task(device.watch(), name=f"emulator of {name}")
            for name, device in self.instruments.items()
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Switch the bench off; raise what went wrong inside an emulator."""
        tasks, self._tasks = self._tasks, None
        for watch in self._watches:
            if not watch.done():
                watch.cancel()
        try:
            if tasks is not None:
                await tasks.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            # What the host did wrong is no news of the bench: let it pass as it is.
            if group.exceptions != (error,):
                raise
        finally:
            self._timebase.stop()

    def connect(self, name: str) -> Stream:
        """Plug a cable into an instrument; whoever was connected to it finds the link closed.

        Raises:
            InputError: The bench has no such instrument.
            CellbenchError: The bench is not switched on.
        """
        if name not in self.instruments:
            raise InputError(
                f"the simulated bench has no {name!r}; it has: {', '.join(self.instruments)}"
            )
        if self._tasks is None:
            raise CellbenchError("the simulated bench is not switched on")
        return self.instruments[name].connect()

    cells = staticmethod(cell_names)
    drivers = staticmethod(emulated_drivers)

    @staticmethod
    def benches() -> dict[str, str]:
        """Texts of the bench files in ``benches/``, by name."""
        folder = resources.files("cellbench_sim") / "benches"
        files = sorted(folder.iterdir(), key=attrgetter("name"))
        return {file.name.removesuffix(".yaml"): file.read_text("utf-8") for file in files}

    @staticmethod
    def cell_text(name: str) -> str:
        """What a simulated cell is made of, every value with its source.

        Raises:
            InputError: There is no such cell.
        """
        try:
            return preset_text(name)
        except LookupError as error:
            raise InputError(str(error)) from error

    def serve(
        self, base_port: int = 0, *, ptys: bool = False
    ) -> AbstractAsyncContextManager[dict[str, list[str]]]:
        """Serve the instruments to other programs; see `cellbench_sim.serve.serve`."""
        return serve(self.instruments.values(), base_port=base_port, ptys=ptys)

    def description(self, addresses: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Return what a bench file of this bench would say.

        Args:
            addresses: Where the instruments are served; by default they are in this process.
        """
        ports = {name: addresses[name][0] if addresses else SIMULATED for name in self.instruments}
        if self._entries is not None:
            return self._as_written(self._entries, ports)
        f_max_Hz = self.potentiostat.profile.frequency_max_Hz
        fixture = FIXTURES[self._fixture]
        capacity = f"{fixture.max_force_N / 1e3:g} kN"
        return {
            "bench": f"simulated {self.cell_name}, fixture: {self._fixture}",
            "instruments": {
                POTENTIOSTAT: {
                    "driver": "palmsens",
                    "port": ports[POTENTIOSTAT],
                    "f_max": f"{f_max_Hz / 1e3:g} kHz" if f_max_Hz < 1e6 else "1 MHz",
                },
                PRESS: {
                    "driver": "plc_press",
                    "port": ports[PRESS],
                    "capacity": capacity,
                    "force_min": f"{fixture.least_force_N:g} N",
                },
                LOAD_CELL: {
                    "driver": "loadstar",
                    "port": ports[LOAD_CELL],
                    "capacity": capacity,
                },
                CHAMBER: {"driver": "eurotherm", "port": ports[CHAMBER]},
            },
            "fixture": {"die": "10 mm", "kind": self._fixture, "at most": capacity},
        }

    def _as_written(
        self, entries: Mapping[str, Mapping[str, Any]], ports: Mapping[str, str]
    ) -> dict[str, Any]:
        capacity_N = FIXTURES[self._fixture].max_force_N
        what = f"{len(self._cells)} places" if self._cells else self.cell_name
        return {
            "bench": f"simulated {what}, fixture: {self._fixture}",
            "instruments": {
                name: {**entry, "port": ports.get(name, BY_HAND)} for name, entry in entries.items()
            },
            "fixture": {
                "die": "10 mm",
                "kind": self._fixture,
                "at most": f"{capacity_N / 1e3:g} kN",
            },
            **({"wiring": dict(self._wiring)} if self._wiring else {}),
            **({"cells": self._places_as_written()} if self._cells else {}),
        }

    def _places_as_written(self) -> dict[str, dict[str, Any]]:
        """What a bench file says of the places: nothing of the simulated cells there."""
        return {
            name: {
                key: value for key, value in entry.items() if key != "cell" and value is not None
            }
            for name, entry in self._cells.items()
        }


__all__ = ["PROFILES", "SimulatedBench", "cell_names"]
