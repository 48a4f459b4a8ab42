"""Parameters of the techniques of BioLogic's OEM library: which there are, and how they are read.

Labels, types, ranges and time bases are those of the manual of the vendor's development package
(section 7), where the firmware checks little: "wrong parameters can generate faulty operations".
Here whatever it forbids or does not know is misuse.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from cellbench_sim.emulators.biologic_abi import EccParam, EccParams, ErrorCode, Misuse

#: A period lasts at most this many time bases.
_MOST_TICKS = 2**31
_SLACK = 1 + 1e-6


class Family(IntEnum):
    """Series of instruments, by the type of their channel boards."""

    VMP3 = 1
    SP300 = 2

    @property
    def suffix(self) -> str:
        """How the names of technique files end."""
        return ".ecc" if self is Family.VMP3 else "4.ecc"


class Kind(IntEnum):
    """Types of a parameter."""

    INTEGER = 0
    BOOLEAN = 1
    SINGLE = 2


@dataclass(frozen=True)
class Label:
    """One parameter of a technique.

    Attributes:
        per: ``step``, or how many there are of it.
    """

    kind: Kind
    per: str | int = 1
    lowest: float = -math.inf
    highest: float = math.inf
    required: bool = True


def _single(lowest: float = -math.inf, highest: float = math.inf) -> Label:
    return Label(Kind.SINGLE, lowest=lowest, highest=highest)


def _integer(lowest: int, highest: float = math.inf) -> Label:
    return Label(Kind.INTEGER, lowest=lowest, highest=highest)


def _optional(kind: Kind, per: str | int = 1) -> Label:
    return Label(kind, per, required=False)


_PER_STEP_BOOLEAN = Label(Kind.BOOLEAN, "step")
_PER_STEP_SINGLE = Label(Kind.SINGLE, "step")
_HARDWARE = {
    "I_Range": _optional(Kind.INTEGER),
    "E_Range": _optional(Kind.INTEGER),
    "Bandwidth": _optional(Kind.INTEGER),
    "tb": Label(Kind.SINGLE, lowest=1e-6, required=False),
}


def _stepped(quantity: str, recorded: str, last_step: int) -> dict[str, Label]:
    return {
        quantity: _PER_STEP_SINGLE,
        "vs_initial": _PER_STEP_BOOLEAN,
        "Duration_step": Label(Kind.SINGLE, "step", lowest=0.0),
        "Step_number": _integer(0, last_step),
        "Record_every_dT": _single(0.0),
        recorded: _single(0.0),
        "N_Cycles": _integer(0),
    }


def _tests() -> dict[str, Label]:
    labels = {"Exit_Cond": Label(Kind.INTEGER, "step", 0, 2, required=False)}
    for number in (1, 2, 3):
        labels[f"Test{number}_Config"] = _optional(Kind.INTEGER, "step")
        labels[f"Test{number}_Value"] = _optional(Kind.SINGLE, "step")
    return labels


def _spectrum(quantity: str, recorded: str) -> dict[str, Label]:
    return {
        "vs_initial": Label(Kind.BOOLEAN),
        "vs_final": _optional(Kind.BOOLEAN),
        f"Initial_{quantity}_step": _single(),
        f"Final_{quantity}_step": _optional(Kind.SINGLE),
        "Duration_step": _single(0.0),
        "Step_number": Label(Kind.INTEGER, lowest=0, highest=0, required=False),
        "Record_every_dT": _single(0.0),
        recorded: _single(0.0),
        "Initial_frequency": _single(),
        "Final_frequency": _single(),
        "sweep": Label(Kind.BOOLEAN),
        f"Amplitude_{quantity}": _single(0.0),
        "Frequency_number": _integer(1),
        "Average_N_times": _integer(1),
        "Correction": Label(Kind.BOOLEAN),
        "Wait_for_steady": _single(0.0),
    }


VERTICES = 5
_LABELS: dict[str, dict[str, Label]] = {
    "ocv": {
        "Rest_time_T": _single(0.0),
        "Record_every_dE": _single(0.0),
        "Record_every_dT": _single(0.0),
    },
    "cp": _stepped("Current_step", "Record_every_dE", 98),
    "ca": _stepped("Voltage_step", "Record_every_dI", 98),
    "cplimit": _stepped("Current_step", "Record_every_dE", 19) | _tests(),
    "calimit": _stepped("Voltage_step", "Record_every_dI", 19) | _tests(),
    "cv": {
        "vs_initial": Label(Kind.BOOLEAN, VERTICES),
        "Voltage_step": Label(Kind.SINGLE, VERTICES),
        "Scan_Rate": Label(Kind.SINGLE, VERTICES, lowest=0.0),
        "Scan_number": _integer(2, 2),
        "Record_every_dE": _single(0.0),
        "Average_over_dE": Label(Kind.BOOLEAN),
        "N_Cycles": _integer(0),
        "Begin_measuring_I": _single(0.0, 1.0),
        "End_measuring_I": _single(0.0, 1.0),
    },
    "peis": _spectrum("Voltage", "Record_every_dI"),
    "geis": _spectrum("Current", "Record_every_dE"),
}
#: Time bases in s, of the VMP3 and of the SP-300 family (that of cplimit as calimit's).
_TIME_BASES_S = {
    "ocv": (20e-6, 20e-6), "cp": (21e-6, 21e-6), "ca": (24e-6, 21e-6), "cplimit": (50e-6, 34e-6),
    "calimit": (50e-6, 34e-6), "cv": (40e-6, 45e-6), "peis": (24e-6, 24e-6), "geis": (24e-6, 24e-6),
}  # fmt: skip


def misuse(text: str) -> Misuse:
    """Return what is wrong with a parameter, to be raised."""
    return Misuse(ErrorCode.INVALIDPARAMETERS, text)


def technique_of(file: bytes, family: Family) -> str:
    """Return the technique that a file's name stands for.

    Raises:
        Misuse: There is no such file, or it belongs to the other family.
    """
    name = file.decode("ascii", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    for known in _LABELS:
        if name == known + family.suffix:
            return known
        if name in {known + other.suffix for other in Family}:
            text = f'"{name}" is not for this family, whose file is "{known}{family.suffix}"'
            raise Misuse(ErrorCode.INCOMPATIBLEECC, text)
    raise Misuse(ErrorCode.ECCFILENOTEXISTS, f'there is no technique file "{name}"')


class Parameters:
    """The parameters of one technique, checked against what it takes.

    Args:
        technique: Its name.
        values: By label and index.
    """

    def __init__(
        self, technique: str, values: Mapping[tuple[str, int], float], *, timebase_s: float
    ) -> None:
        self.technique = technique
        self.values = dict(values)
        self.timebase_s = values.get(("tb", 0), timebase_s)
        self.steps = int(values.get(("Step_number", 0), 0)) + 1
        self._check()

    def one(self, label: str) -> float:
        """Return a parameter that there is only one of."""
        return self.values[label, 0]

    def flag(self, label: str, index: int = 0) -> bool:
        """Return whether a parameter is true."""
        return bool(self.values[label, index])

    def whole(self, label: str, default: int, index: int = 0) -> int:
        """Return an integer, or what it is where it was not given."""
        return int(self.values.get((label, index), default))

    def all_of(self, label: str, count: int) -> tuple[float, ...]:
        """Return a parameter of each index."""
        return tuple(self.values[label, index] for index in range(count))

    def _check(self) -> None:
        labels = _LABELS[self.technique] | _HARDWARE
        for (name, index), value in self.values.items():
            label = labels[name]
            if not label.lowest <= value <= label.highest:
                self._object(
                    f"{name}[{index}] is {value:g}, not {label.lowest:g} to {label.highest:g}"
                )
            if not 0 <= index < self._count(label):
                self._object(f"{name} has an index {index}; there are {self._count(label)}")
        for name, label in labels.items():
            for index in range(self._count(label) if label.required else 0):
                if (name, index) not in self.values:
                    self._object(f"{name}[{index}] is missing")
        self._check_durations()

    def _check_durations(self) -> None:
        longest_s = self.timebase_s * _MOST_TICKS
        for (name, index), value in self.values.items():
            if name in {"Duration_step", "Rest_time_T"} and value > longest_s * _SLACK:
                self._object(
                    f"{name}[{index}] is {value:g} s, beyond the {longest_s:g} s (2^31 time bases) "
                    "that one period can last"
                )

    def _count(self, label: Label) -> int:
        return self.steps if label.per == "step" else int(label.per)

    def _object(self, text: str) -> None:
        raise misuse(f"{self.technique}: {text}")


def default_timebase_s(technique: str, family: Family) -> float:
    """Return the time base that a technique has where nothing else is asked for."""
    return _TIME_BASES_S[technique][family - 1]


def decode(params: EccParams, technique: str) -> dict[tuple[str, int], float]:
    """Return the values of a caller's array of parameters, by label and index.

    Raises:
        Misuse: A label that the technique does not have, another type than it has, a value that
            is none of that type, or something given twice.
    """
    known = _LABELS[technique] | _HARDWARE
    values: dict[tuple[str, int], float] = {}
    for entry in _entries(params):
        name = bytes(entry.ParamStr).decode("ascii", "replace")
        if name not in known:
            raise misuse(f'{technique} has no parameter "{name}"')
        key = name, int(entry.ParamIndex)
        if key in values:
            raise misuse(f"{technique}: {name}[{key[1]}] is given twice")
        if entry.ParamType != known[name].kind:
            raise misuse(
                f"{technique}: {name} is {known[name].kind.name.lower()}, and given with type "
                f"{entry.ParamType}"
            )
        values[key] = _value(name, known[name].kind, entry.ParamVal)
    return values


def _entries(params: EccParams) -> Iterator[EccParam]:
    if params.len < 1 or not params.pParams:
        raise misuse(f"{params.len} parameters, and a pointer that is {bool(params.pParams)}")
    address = ctypes.cast(params.pParams, ctypes.c_void_p).value
    # Walked with our own structure: the caller's was compared with it when it was filled.
    yield from (EccParam * params.len).from_address(address or 0)


def _value(name: str, kind: Kind, bits: int) -> float:
    if kind is Kind.INTEGER:
        return bits
    if kind is Kind.BOOLEAN:
        if bits not in {0, 1}:
            raise misuse(f"{name} is a boolean, not {bits}")
        return bits
    value = float(struct.unpack("<f", struct.pack("<i", bits))[0])
    if not math.isfinite(value):
        raise misuse(f"{name} is {value}")
    return value
