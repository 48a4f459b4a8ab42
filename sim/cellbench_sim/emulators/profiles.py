"""Data of the PalmSens instruments that can be emulated: limits, ranges, bands, noise.

Sources: range indices and limits as tabulated by the vendor's code; the upper frequencies are the
families' usual ones and belong to no particular unit; noise and accuracy are assumed, of the class
that data sheets of such instruments state.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Reply to ``CM`` of a full instrument: MethodSCRIPT commands 1..137 but for a few, one bit each.
_ALL_COMMANDS = sum(1 << bit for bit in set(range(1, 138)) - {22, 104, 105, 106, 108, 118})
_GALVANOSTATIC = sum(1 << bit for bit in (67, 68, 69, 70))


@dataclass(frozen=True)
class Range:
    """One range: the index that metadata show, and its full scale in A or V."""

    index: int
    full_scale: float


@dataclass(frozen=True)
class Profile:
    """What one instrument can do.

    Attributes:
        device_id: Six characters at the start of the reply to ``t``.
        modes: Potentiostat modes that ``set_pgstat_mode`` accepts.
        galvanostat_offset: Added to a current range's index in galvanostat mode.
    """

    device_id: str
    firmware: str
    serial: str
    script_version: str
    potential_min_V: float
    potential_max_V: float
    current_max_A: float
    frequency_max_Hz: float
    modes: frozenset[int]
    current_ranges: tuple[Range, ...]
    potential_ranges: tuple[Range, ...]
    galvanostat_offset: int = 0
    frequency_min_Hz: float = 10e-6
    interval_min_s: float = 5e-4
    commands: int = _ALL_COMMANDS
    #: Converter steps over the whole potential window and over +- one current range.
    converter_bits: int = 18
    potential_noise_V: float = 10e-6
    #: Noise of the current, as a fraction of the range in use.
    current_noise: float = 1e-5


def _ladder(*pairs: tuple[int, float]) -> tuple[Range, ...]:
    return tuple(Range(index, full_scale) for index, full_scale in pairs)


_EMSTAT4_POTENTIAL = _ladder((2, 0.05), (3, 0.1), (4, 0.2), (5, 0.5), (6, 1.0))
_EMSTAT4_CURRENT = _ladder((9, 1e-7), (12, 1e-6), (15, 1e-5), (18, 1e-4), (21, 1e-3), (24, 1e-2))

PROFILES: dict[str, Profile] = {
    "nexus": Profile(
        device_id="nexus1",
        firmware="1107#Mar 12 2026 14:28:01",
        serial="NEXUS26C0017",
        script_version="01.09.00",
        potential_min_V=-10.0,
        potential_max_V=10.0,
        current_max_A=1.0,
        frequency_max_Hz=1e6,
        modes=frozenset({2, 3, 4, 6}),
        current_ranges=_ladder(
            (0, 1e-9), (1, 1e-8), (2, 1e-7), (3, 1e-6), (4, 1e-5), (5, 1e-4),
            (8, 1e-3), (9, 1e-2), (10, 1e-1), (11, 1.0),
        ),
        potential_ranges=_ladder((3, 1e-3), (2, 1e-2), (1, 1e-1), (0, 1.0)),
        galvanostat_offset=32,
        converter_bits=20,
    ),
    "emstat4_hr": Profile(
        device_id="es4_hr",
        firmware="1500#Mar 12 2026 14:28:01",
        serial="ES4HR20B0004",
        script_version="01.09.00",
        potential_min_V=-6.0,
        potential_max_V=6.0,
        current_max_A=0.1,
        frequency_max_Hz=200e3,
        modes=frozenset({2, 3, 4, 6}),
        current_ranges=(*_EMSTAT4_CURRENT, Range(27, 0.1)),
        potential_ranges=_EMSTAT4_POTENTIAL,
    ),
    "emstat4_lr": Profile(
        device_id="es4_lr",
        firmware="1500#Mar 12 2026 14:28:01",
        serial="ES4LR20B0008",
        script_version="01.09.00",
        potential_min_V=-3.0,
        potential_max_V=3.0,
        current_max_A=0.01,
        frequency_max_Hz=200e3,
        modes=frozenset({2, 3, 4, 6}),
        current_ranges=(Range(3, 1e-9), Range(6, 1e-8), *_EMSTAT4_CURRENT),
        potential_ranges=_EMSTAT4_POTENTIAL,
    ),
    "pico": Profile(
        device_id="espico",
        firmware="1600#Sep 30 2025 12:00:00",
        serial="ESP20A0001",
        script_version="01.06.00",
        potential_min_V=-1.7,
        potential_max_V=2.0,
        current_max_A=5e-3,
        frequency_max_Hz=200e3,
        modes=frozenset({2, 3, 4}),
        current_ranges=_ladder(
            (0, 1e-7), (1, 2e-6), (2, 4e-6), (3, 8e-6), (4, 16e-6), (5, 32e-6), (6, 63e-6),
            (7, 125e-6), (8, 250e-6), (9, 500e-6), (10, 1e-3), (11, 5e-3),
        ),
        potential_ranges=_ladder((0, 2.0)),
        commands=_ALL_COMMANDS & ~_GALVANOSTATIC,
        converter_bits=16,
    ),
}  # fmt: skip

#: Reply to ``CC``: the communication commands of the golden reply that are emulated here.
COMMUNICATION_COMMANDS = sum(
    1 << bit for bit in (1, 32, 33, 34, 35, 36, 37, 38, 48, 49, 60, 96, 97, 98, 99)
)
