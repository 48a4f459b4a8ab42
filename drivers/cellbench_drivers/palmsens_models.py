"""What the instruments of the PalmSens MethodSCRIPT family can do, by the id that they give.

Ranges and windows follow the range tables of the vendor's public examples; what could not be
verified there is named in `UNVERIFIED` and shown with the capabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cellbench.instruments.capabilities import ChannelCapabilities, ImpedanceBand, ReactionTime

ModelName = Literal["nexus", "emstat4 hr", "emstat4 lr", "emstat pico"]

#: Recalled from data sheets: to be checked against the sheet of the unit.
UNVERIFIED = (
    "f_max",
    "f_min",
    "interval_min",
    "current_min",
    "voltage_noise",
    "amplitude (rms or peak)",
)

#: A range is taken only for currents that leave it this much headroom.
_RANGE_HEADROOM = 1.1
#: Autoranging in a spectrum stops here: the ranges below are slow.
_SPECTRUM_RANGE_MIN_A = 100e-9
_INTERVAL_USUAL_S = 1.0
#: With so much time for a sample, ranges down to this one settle.
_SLOW_S = 0.5
_SLOW_RANGE_MIN_A = 1e-9


@dataclass(frozen=True, slots=True)
class Model:
    """One instrument family: its window, its current ranges, its impedance band."""

    name: str
    voltage_min_V: float
    voltage_max_V: float
    current_ranges_A: tuple[float, ...]
    frequency_max_Hz: float
    voltage_noise_V: float
    frequency_min_Hz: float = 1e-3
    interval_min_s: float = 5e-4
    unverified: tuple[str, ...] = UNVERIFIED

    @property
    def current_max_A(self) -> float:
        """The largest current: the top of the highest range."""
        return self.current_ranges_A[-1]

    def with_frequency_max(self, frequency_Hz: float) -> Model:
        """Return the model with a highest frequency that is known."""
        unverified = tuple(each for each in self.unverified if each != "f_max")
        return replace(self, frequency_max_Hz=frequency_Hz, unverified=unverified)

    def range_for(self, expected_A: float) -> float:
        """Return the smallest range with headroom above a current, or else the highest."""
        wanted_A = _RANGE_HEADROOM * abs(expected_A)
        return next((top for top in self.current_ranges_A if top >= wanted_A), self.current_max_A)

    def slow_range_min(self, interval_s: float) -> float:
        """Return the lowest range that autoranging may use where a sample takes so long."""
        if interval_s < _SLOW_S:
            return self.spectrum_range_min()
        return next(top for top in self.current_ranges_A if top >= _SLOW_RANGE_MIN_A)

    def spectrum_range_min(self) -> float:
        """Return the lowest range that autoranging may use in a spectrum."""
        return next(top for top in self.current_ranges_A if top >= _SPECTRUM_RANGE_MIN_A)


def _decades(first: int, last: int) -> tuple[float, ...]:
    return tuple(float(f"1e{exponent}") for exponent in range(first, last + 1))


MODELS: dict[ModelName, Model] = {
    "nexus": Model("PalmSens Nexus", -10.0, 10.0, _decades(-10, 0), 1e6, 20e-6),
    "emstat4 hr": Model("PalmSens EmStat4 HR", -6.0, 6.0, (1e-9, *_decades(-7, -1)), 200e3, 100e-6),
    "emstat4 lr": Model("PalmSens EmStat4 LR", -3.0, 3.0, _decades(-9, -2), 200e3, 50e-6),
    "emstat pico": Model(
        "PalmSens EmStat Pico",
        -1.7,
        2.0,
        (1e-7, 2e-6, 4e-6, 8e-6, 16e-6, 32e-6, 63e-6, 125e-6, 250e-6, 500e-6, 1e-3, 5e-3),
        200e3,
        200e-6,
    ),
}

#: The six characters after ``t`` in the reply to ``t``.
MODEL_OF_ID: dict[str, ModelName] = {
    "nexus1": "nexus",
    "es4_hr": "emstat4 hr",
    "mes4hr": "emstat4 hr",
    "es4_lr": "emstat4 lr",
    "mes4lr": "emstat4 lr",
    "espico": "emstat pico",
    "senswb": "emstat pico",
}

_CM_BASE = {1, 16, 19, 21, 32, 33, 34, 35, 36, 38, 39, 40, 41, 62, 63, 64, 65}
#: Bits of the ``CM`` reply without which a technique cannot be scripted.
_CM_TECHNIQUES = {
    "rest": _CM_BASE | {30, 15},
    "constant current": _CM_BASE | {67, 68, 15},
    "constant voltage": _CM_BASE | {28, 9, 66, 15},
    "sweep": _CM_BASE | {23, 9, 66, 15},
    "impedance": _CM_BASE | {31, 9, 66},
}
_CM_GEIS = {68, 70}
#: Variables and loops, with which a script carries on a hold between spectra.
_CM_LOOPS = {3, 13, 14}
ALL_COMMANDS = (1 << 138) - 1


def capabilities(model: Model, commands: int = ALL_COMMANDS) -> ChannelCapabilities:
    """Say what a model can do whose ``CM`` reply was ``commands``."""
    present = {bit for bit in range(commands.bit_length()) if commands >> bit & 1}
    techniques = frozenset(name for name, bits in _CM_TECHNIQUES.items() if bits <= present)
    band = ImpedanceBand(
        model.frequency_min_Hz, model.frequency_max_Hz, galvanostatic=present >= _CM_GEIS
    )
    return ChannelCapabilities(
        model=model.name,
        voltage_min_V=model.voltage_min_V,
        voltage_max_V=model.voltage_max_V,
        current_max_A=model.current_max_A,
        current_min_A=model.current_ranges_A[0] / 100,
        interval_min_s=model.interval_min_s,
        techniques=techniques,
        impedance=band if "impedance" in techniques else None,
        on_device=frozenset({"duration", "voltage", "current"}),
        bounded_without_host=True,
        # Z is obeyed once the sample under way is finished: one interval, as the sample itself.
        reaction=ReactionTime(_INTERVAL_USUAL_S, 0.02, _INTERVAL_USUAL_S),
        voltage_noise_V=model.voltage_noise_V,
        spectra_in_hold=techniques >= {"constant voltage", "impedance"} and present >= _CM_LOOPS,
        unverified=model.unverified,
    )
