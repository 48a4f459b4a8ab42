"""Which emulator plays which instrument, by the name of its driver in a bench file.

They are loaded when a bench has one: most benches have four instruments, and there are many more.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from cellbench.errors import InputError
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.world import World

_CLASSES = {
    "alicat": "alicat:AlicatEmulator",
    "biologic": "biologic:BiologicEmulator",
    "eurotherm": "eurotherm:EurothermEmulator",
    "instron": "instron:InstronEmulator",
    "julabo": "julabo:JulaboEmulator",
    "keithley": "keithley:KeithleyEmulator",
    "keller": "keller:KellerEmulator",
    "load_cell_transmitter": "load_cell_transmitter:LoadCellTransmitterEmulator",
    "loadstar": "loadstar:LoadstarEmulator",
    "maccor": "maccor:MaccorEmulator",
    "mark10": "mark10_gauge:Mark10GaugeEmulator",
    "mark10_stand": "mark10_stand:Mark10StandEmulator",
    "memmert": "memmert:MemmertEmulator",
    "neware": "neware:NewareEmulator",
    "palmsens": "palmsens:PalmSensEmulator",
    "plc_press": "plc_press:PlcPressEmulator",
    "rmc75e": "rmc75e:Rmc75eEmulator",
    "scpi_switch": "scpi_switch:ScpiSwitchEmulator",
}


class EmulatorClass(Protocol):
    """How the bench builds an emulator."""

    def from_bench(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        options: Mapping[str, Any],
    ) -> Emulator:
        """Build what a bench file's options describe; those that are not its own are ignored."""


def emulated_drivers() -> tuple[str, ...]:
    """Names of the drivers whose instruments can be emulated."""
    return tuple(sorted(_CLASSES))


def emulator_class(driver: str) -> EmulatorClass:
    """Return the emulator of the instruments that a driver speaks to.

    Raises:
        InputError: There is none.
    """
    if driver not in _CLASSES:
        raise InputError(
            f'no instrument of driver "{driver}" can be simulated; those of these can: '
            + ", ".join(emulated_drivers())
        )
    module, name = _CLASSES[driver].split(":")
    found: EmulatorClass = getattr(import_module(f"cellbench_sim.emulators.{module}"), name)
    return found
