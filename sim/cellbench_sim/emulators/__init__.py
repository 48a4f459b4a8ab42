"""Emulators of instruments: what a manual says, on the wire, acting on the simulated world."""

from cellbench_sim.emulators.device import Emulator, LineFaults, Timebase, Wire
from cellbench_sim.emulators.eurotherm import EurothermEmulator
from cellbench_sim.emulators.loadstar import LoadstarEmulator
from cellbench_sim.emulators.palmsens import PalmSensEmulator
from cellbench_sim.emulators.plc_press import PlcPressEmulator

__all__ = [
    "Emulator",
    "EurothermEmulator",
    "LineFaults",
    "LoadstarEmulator",
    "PalmSensEmulator",
    "PlcPressEmulator",
    "Timebase",
    "Wire",
]
