"""Why an instrument cannot run a technique, in a few words: to choose among several of them.

The checks of a protocol say more, with limits and cures; this looks at the instrument alone.
"""

from __future__ import annotations

from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    Impedance,
    Sweep,
    Technique,
)
from cellbench.quantities import format_quantity

#: What a set point may exceed a range by: the rounding of a unit.
_SLACK = 1 + 1e-9


def objection(technique: Technique, able: ChannelCapabilities) -> str:
    """Return what keeps an instrument from running a technique; empty if nothing does."""
    if isinstance(technique, Impedance):
        return _of_spectrum(technique, able)
    if technique.technique not in able.techniques:
        return f"does no {technique.technique}"
    if technique.interval_s < able.interval_min_s:
        return f"samples each {format_quantity(able.interval_min_s, 'time')} at most"
    match technique:
        case ConstantCurrent(current_A=current_A):
            return _of_current(abs(current_A), able)
        case ConstantVoltage(voltage_V=voltage_V, rest_V=rest_V):
            if voltage_V == rest_V and not able.holds_both_ways:
                return f"holds {voltage_V:g} V with current in one direction only"
            return _of_voltages((voltage_V,), able)
        case Sweep():
            return _of_voltages(technique.voltages_V, able)
    return ""


def _of_current(magnitude_A: float, able: ChannelCapabilities) -> str:
    if magnitude_A > able.current_max_A * _SLACK:
        return f"goes to {format_quantity(able.current_max_A, 'current')}"
    if magnitude_A < able.current_min_A:
        return f"resolves {format_quantity(able.current_min_A, 'current')}"
    return ""


def _of_voltages(voltages_V: tuple[float, ...], able: ChannelCapabilities) -> str:
    if min(voltages_V) < able.voltage_min_V or max(voltages_V) > able.voltage_max_V:
        return f"reaches {able.voltage_min_V:g} V to {able.voltage_max_V:g} V"
    return ""


def _of_spectrum(technique: Impedance, able: ChannelCapabilities) -> str:
    band = able.impedance
    if band is None:
        return "measures no impedance"
    if technique.galvanostatic and not band.galvanostatic:
        return "measures no galvanostatic impedance"
    if not technique.galvanostatic and not band.potentiostatic:
        return "measures no potentiostatic impedance"
    if (
        technique.frequency_min_Hz >= band.frequency_max_Hz
        or technique.frequency_max_Hz <= band.frequency_min_Hz
    ):
        lowest, highest = (
            format_quantity(each, "frequency")
            for each in (band.frequency_min_Hz, band.frequency_max_Hz)
        )
        return f"measures impedance from {highest} to {lowest}"
    amplitude_A = technique.amplitude_A
    return "" if amplitude_A is None else _of_current(amplitude_A, able)
