"""Every registered driver against its emulator, through the conformance kit.

`BENCHES` says with which options; a driver that has no emulator, or no options here, fails. All
checks run in memory, in virtual time; a few of them again over a real transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from cellbench.clock import run
from cellbench.instruments.registry import driver_names, load_driver
from cellbench.testing import (
    Amounts,
    Check,
    DummyCell,
    NotApplicable,
    Rig,
    Subject,
    carry_out,
    checks_for,
)
from cellbench.transport import Stream, pipe
from cellbench.transport.address import open_stream
from cellbench_sim.emulators import Emulator, Timebase
from cellbench_sim.emulators.registry import emulator_class
from cellbench_sim.operator import Hands, SimulatedOperator
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.physics.fixture import FIXTURES
from cellbench_sim.presets import load_preset
from cellbench_sim.serve import serve
from cellbench_sim.world import World

#: Options of a bench file by driver; several sets where instruments differ that much.
BENCHES: dict[str, dict[str, dict[str, Any]]] = {
    "alicat": {"": {"piston area": "20 cm2", "capacity": "1 kN", "efficiency": 0.97}},
    "biologic": {
        "VMP3": {"host": "USB0", "model": "VMP3", "current max": "400 mA"},
        "SP-300": {"host": "192.0.2.4", "model": "SP-300", "f max": "1 MHz"},
    },
    "eurotherm": {"": {}},
    "instron": {
        "": {"capacity": "5 kN"},
        "negative": {"capacity": "5 kN", "compression": "negative"},
    },
    "julabo": {"": {}, "watchdog": {"watchdog": "20 s"}},
    "keithley": {"2450": {"model": "2450"}, "2400": {"model": "2400"}},
    "keller": {
        "": {"piston area": "10 cm2", "pressure max": "400 bar"},
        "echo": {"piston area": "10 cm2", "echo": True, "address": 7},
    },
    "load_cell_transmitter": {
        "laumas": {"profile": "laumas_tlb4", "capacity": "5 kN", "scale": 0.1},
        "seneca": {"profile": "seneca_z_sg", "capacity": "5 kN", "framing": "tcp", "unit": 3},
    },
    "loadstar": {"": {"capacity": "5 kN"}},
    "maccor": {"": {"channel": 1, "watchdog": "30 s"}},
    "manual_press": {"": {"capacity": "5 kN", "tolerance": 0.05}},
    "mark10": {
        "": {"capacity": "1.5 kN", "unit": "N"},
        "negative": {"capacity": "1.5 kN", "unit": "N", "compression": "negative"},
    },
    "mark10_stand": {
        "": {"capacity": "1.5 kN", "band": "40 N", "speed command": "e0.5", "reach": "5 min"}
    },
    "memmert": {"": {}},
    "neware": {"": {"channel": "21-1-2", "steps folder": "STEPS"}},
    "palmsens": {
        "nexus": {"model": "nexus"},
        "emstat4_hr": {"model": "emstat4 hr"},
    },
    "plc_press": {
        "": {"capacity": "5 kN", "force min": "5 N"},
        "another map": {"capacity": "5 kN", "unit": 2, "word order": "msw first"},
    },
    "rmc75e": {
        "": {"capacity": "5 kN"},
        "heartbeat": {
            "capacity": "5 kN",
            "force unit": "1 N",
            "ramp command": 42,
            "ramp takes": "force, time",
            "heartbeat register": "%MD56.0",
        },
    },
    "scpi_switch": {
        commands: {"positions": {"cell 1": "101,102", "cell 2": "103"}, "commands": commands}
        for commands in ("scpi", "keithley 2700")
    },
}
BY_HAND = "manual_press"
SETS = [(driver, each) for driver, sets in BENCHES.items() for each in sets]
#: Of the moments at which something can go wrong, each so many-th is tried: all would take minutes.
STRIDE = 5


#: How a rig gets at its emulator: a connection in memory, or an address on this machine.
Via = Callable[[Emulator], AbstractAsyncContextManager[Callable[[], Awaitable[Stream]]]]


@asynccontextmanager
async def in_memory(device: Emulator) -> AsyncIterator[Callable[[], Awaitable[Stream]]]:
    async def connect() -> Stream:
        return device.connect()

    yield connect


def subject_of(
    driver: str, options: Mapping[str, Any], folder: Path, via: Via = in_memory
) -> Subject:
    options = {key: str(folder) if value == "STEPS" else value for key, value in options.items()}
    kind = load_driver(driver)

    @asynccontextmanager
    async def rig() -> AsyncIterator[Rig]:
        timebase = Timebase()
        timebase.start()
        world = World(
            load_preset("LYC_PMMA"),
            seed=7,
            fixture=FIXTURES["servo"],
            chamber=ChamberSettings(set_point_K=298.15),
        )
        cell = DummyCell()
        wired = cast("World", cell) if kind.role == "channel" else world
        named = {key.replace(" ", "_"): value for key, value in options.items()}
        # A press that a person works is played by the operator, and the bench's gauge.
        device = emulator_class("loadstar" if driver == BY_HAND else driver).from_bench(
            "instrument", timebase, wired, seed=7, options=named
        )
        try:
            async with via(device) as connect:
                found = _rig(connect, device, timebase, world, cell)
                if driver == BY_HAND:
                    found.connect = _nowhere
                    found.prepare = _by_hand(device, SimulatedOperator(Hands(timebase, world)))
                yield found
            if device._fault is not None:
                raise device._fault
        finally:
            timebase.stop()

    return Subject(kind, options, rig, Amounts(stride=STRIDE))


def _by_hand(device: Emulator, operator: SimulatedOperator) -> Callable[[Any], Awaitable[None]]:
    async def prepare(press: Any) -> None:
        gauge = cast("Any", load_driver("loadstar")("load cell", device.connect(), {}))
        await gauge.connect()
        press.operator, press.gauge = operator, gauge

    return prepare


async def _nowhere() -> Stream:
    return pipe()[0]


def _rig(
    connect: Callable[[], Awaitable[Stream]],
    device: Emulator,
    timebase: Timebase,
    world: World,
    cell: DummyCell,
) -> Rig:
    def now() -> World:
        world.advance_to(timebase.now())
        return world

    def closed() -> frozenset[str]:
        positions: dict[str, bool] = cast("Any", device).positions
        return frozenset(name for name, is_on in positions.items() if is_on)

    return Rig(
        connect,
        energised=lambda: cell.energised,
        impedance_ohm=lambda frequency_Hz: complex(cell.impedance(frequency_Hz)),
        force_N=lambda: now().force_N(),
        temperature_K=lambda: now().air_temperature_K,
        closed=closed,
    )


def cases() -> list[Any]:
    return [
        pytest.param(driver, each, check, id=f"{driver}-{each or 'default'}-{check}")
        for driver, each in SETS
        for check in checks_for(load_driver(driver).role)
    ]


@pytest.mark.parametrize("driver", driver_names())
def test_every_driver_is_checked(driver: str) -> None:
    assert driver in BENCHES, f"{driver} has no options in BENCHES"
    if driver != BY_HAND:
        emulator_class(driver)


@pytest.mark.long  # on the other Pythons every driver works over its transport, below
@pytest.mark.parametrize(("driver", "each", "check"), cases())
def test_conformance(driver: str, each: str, check: Check, tmp_path: Path) -> None:
    # What an instrument does not claim to do cannot be checked, and is nothing left out.
    with contextlib.suppress(NotApplicable):
        carry_out(check, subject_of(driver, BENCHES[driver][each], tmp_path))


#: Drivers by the transport that fits their instrument.
ON_TCP = (
    "instron", "keithley", "load_cell_transmitter", "maccor", "memmert", "neware", "plc_press",
    "rmc75e", "scpi_switch",
)  # fmt: skip
ON_SERIAL = (
    "alicat", "eurotherm", "julabo", "keller", "loadstar", "mark10", "mark10_stand", "palmsens"
)  # fmt: skip
ON_VISA = ("instron", "keithley", "scpi_switch")
BY_LIBRARY = "biologic"


def test_every_driver_has_its_transport() -> None:
    assert {*ON_TCP, *ON_SERIAL, *ON_VISA, BY_HAND, BY_LIBRARY} == set(BENCHES)


def served(driver: str, form: str, *, ptys: bool = False) -> Via:
    """Serve an emulator on this machine; ``form`` makes its address of host and port, or path."""

    @asynccontextmanager
    async def via(device: Emulator) -> AsyncIterator[Callable[[], Awaitable[Stream]]]:
        kind = load_driver(driver)
        async with serve([device], ptys=ptys) as addresses:
            at = urlsplit(addresses[device.name][0])
            path = addresses[device.name][-1]
            address = form.format(host=at.hostname, port=at.port, path=path)

            async def connect() -> Stream:
                return await open_stream(address, kind.serial, kind.tcp_port)

            yield connect

    return via


def work_over(drivers: Sequence[str], folder: Path, form: str, *, ptys: bool = False) -> None:
    """Put each driver through its work at the same time, in real time; all failures are told."""
    (check,) = (each for each in checks_for("gauge") if str(each) == "works_and_is_quiet")

    async def one(driver: str) -> None:
        options = list(BENCHES[driver].values())[-1]
        subject = subject_of(driver, options, folder, served(driver, form, ptys=ptys))
        try:
            await check.carry_out(subject)
        except Exception as error:
            error.add_note(f"driver {driver}")
            raise

    async def main() -> None:
        found = await asyncio.gather(*(one(each) for each in drivers), return_exceptions=True)
        if faults := [each for each in found if isinstance(each, Exception)]:
            raise ExceptionGroup("drivers that do not work over this transport", faults)

    run(main())


def test_over_tcp(tmp_path: Path) -> None:
    work_over(ON_TCP, tmp_path, "tcp://{host}:{port}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_over_serial_ports(tmp_path: Path) -> None:
    work_over(ON_SERIAL, tmp_path, "{path}", ptys=True)


@pytest.mark.long
def test_over_visa(tmp_path: Path) -> None:
    work_over(ON_VISA, tmp_path, "visa:TCPIP::{host}::{port}::SOCKET")
