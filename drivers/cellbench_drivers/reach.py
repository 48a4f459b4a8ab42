"""What is within a channel's reach, by its own capabilities: checked before anything is sent."""

from __future__ import annotations

import math

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    Impedance,
    Sweep,
    Technique,
)

_ROUNDING = 1 + 1e-9


def check_technique(name: str, able: ChannelCapabilities, technique: Technique) -> None:
    """Raise InstrumentError for a technique that the channel says it cannot do.

    Intervals of a sweep are not looked at: they follow from its steps, which instruments enlarge.
    """
    if isinstance(technique, Impedance):
        _check_band(name, able, technique)
        return
    if technique.technique not in able.techniques:
        raise InstrumentError(name, f"cannot do {technique.technique}")
    match technique:
        case ConstantCurrent(current_A=current_A):
            _check(name, "current", current_A, -able.current_max_A, able.current_max_A, "A")
        case ConstantVoltage(voltage_V=voltage_V, spectra=spectra):
            if spectra is not None:
                _check_band(name, able, spectra)
            _check(name, "voltage", voltage_V, able.voltage_min_V, able.voltage_max_V, "V")
        case Sweep(voltages_V=voltages_V):
            for voltage_V in voltages_V:
                _check(name, "voltage", voltage_V, able.voltage_min_V, able.voltage_max_V, "V")
    if not isinstance(technique, Sweep):
        _check(name, "interval", technique.interval_s, able.interval_min_s, math.inf, "s")


def _check_band(name: str, able: ChannelCapabilities, spectrum: Impedance) -> None:
    band = able.impedance
    if band is None:
        raise InstrumentError(name, "measures no impedance")
    if spectrum.galvanostatic and not band.galvanostatic:
        raise InstrumentError(name, "takes no galvanostatic spectra")
    for frequency_Hz in (spectrum.frequency_max_Hz, spectrum.frequency_min_Hz):
        _check(name, "frequency", frequency_Hz, band.frequency_min_Hz, band.frequency_max_Hz, "Hz")


def _check(name: str, what: str, value: float, lowest: float, highest: float, unit: str) -> None:
    slack = (_ROUNDING - 1) * max(abs(lowest), abs(value))
    if not lowest - slack <= value <= highest + slack:
        bounds = f"{lowest:g} {unit} to {highest:g} {unit}"
        raise InstrumentError(name, f"{what} {value:g} {unit} is outside {bounds}")
