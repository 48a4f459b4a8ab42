"""BioLogic instruments that can be emulated: codes, series, reach; and their channel boards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cellbench_sim.emulators.analog import GALVANOSTAT
from cellbench_sim.emulators.biologic_channel import POTENTIOSTAT, BiologicChannel
from cellbench_sim.emulators.biologic_parameters import Family
from cellbench_sim.emulators.biologic_techniques import E_RANGES_V, I_RANGES_A, Limits
from cellbench_sim.emulators.profiles import Profile, Range

_VOLTAGE_MAX_V = 10.0


class Firmware(IntEnum):
    """What is loaded on a channel: nothing, that of the EC-Lab software, that of the library."""

    NONE = 0
    EC_LAB = 1
    KERNEL = 5


@dataclass(frozen=True)
class Model:
    """One kind of instrument, with a standard board in each slot.

    Attributes:
        code: What BL_Connect says it is.
        smallest_range: Code of the smallest I range; the largest is that of 1 A.
        current_max_A: What the board can drive in that.
        converter_bits: Of its converters (assumed).
    """

    code: int
    family: Family
    slots: int
    frequency_max_Hz: float
    smallest_range: int
    current_max_A: float
    converter_bits: int

    @property
    def limits(self) -> Limits:
        """What each channel can do."""
        return Limits(
            self.family,
            self.smallest_range,
            max(I_RANGES_A),
            7 if self.family is Family.VMP3 else 9,
            self.frequency_max_Hz,
            self.current_max_A,
            _VOLTAGE_MAX_V,
        )

    @property
    def profile(self) -> Profile:
        """The data of its output stage and converters."""
        codes = range(self.smallest_range, max(I_RANGES_A) + 1)
        return Profile(
            device_id="",
            firmware="",
            serial="",
            script_version="",
            potential_min_V=-_VOLTAGE_MAX_V,
            potential_max_V=_VOLTAGE_MAX_V,
            current_max_A=self.current_max_A,
            frequency_max_Hz=self.frequency_max_Hz,
            modes=frozenset({POTENTIOSTAT, GALVANOSTAT}),
            current_ranges=tuple(Range(code, I_RANGES_A[code]) for code in codes),
            potential_ranges=tuple(Range(code, scale) for code, scale in E_RANGES_V.items()),
            converter_bits=self.converter_bits,
        )


def _vmp3(code: int, slots: int) -> Model:
    return Model(code, Family.VMP3, slots, 1e6, 5, 0.4, 16)


def _sp300(code: int, slots: int) -> Model:
    return Model(code, Family.SP300, slots, 7e6, 1, 0.5, 18)


MODELS = {
    "VMP3": _vmp3(5, 16),
    "VSP": _vmp3(6, 8),
    "SP-150": _vmp3(14, 1),
    "SP-200": _sp300(21, 1),
    "SP-300": _sp300(16, 2),
    "VSP-300": _sp300(20, 6),
    "VMP-300": _sp300(12, 16),
}


@dataclass
class Slot:
    """A channel board: what runs on it, its firmware, and how it is connected."""

    channel: BiologicChannel
    firmware: Firmware
    connection: int = 0
    ground: int = 0
