"""Techniques of BioLogic's OEM library: what their parameters mean, and what a channel can do.

Identifiers and the bits of a test are those of the manual of the vendor's development package
(section 7). Whatever it forbids or does not know is misuse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from cellbench_sim.emulators.biologic_abi import ErrorCode, Misuse
from cellbench_sim.emulators.biologic_parameters import VERTICES, Family, Parameters, misuse

#: Full scales (A) by the code of an I range; 11 is a booster, which is not emulated.
I_RANGES_A = {code: 10.0 ** (code - 10) for code in range(11)}
I_RANGE_AUTO, KEEP = 12, -1
#: Full scales (V) by the code of an E range.
E_RANGES_V = {0: 2.5, 1: 5.0, 2: 10.0}
E_RANGE_AUTO = 3
_SLACK = 1 + 1e-6
IDENTIFIERS = {
    "ocv": 100, "ca": 101, "cp": 102, "cv": 103, "peis": 104, "geis": 107, "cplimit": 155,
    "calimit": 157,
}  # fmt: skip
#: Techniques that control a current, and so need one range for it.
GALVANOSTATIC = frozenset({"cp", "cplimit", "geis"})


class Exit(IntEnum):
    """What follows when the tests of a step hold."""

    NEXT_STEP = 0
    NEXT_TECHNIQUE = 1
    STOP = 2


@dataclass(frozen=True)
class Limits:
    """What a channel can do.

    Attributes:
        smallest_range: Code of the smallest I range.
        largest_range: Code of the largest one.
    """

    family: Family
    smallest_range: int
    largest_range: int
    bandwidths: int
    frequency_max_Hz: float
    current_max_A: float
    voltage_max_V: float
    frequency_min_Hz: float = 10e-6
    spectra: bool = True


@dataclass(frozen=True)
class Hardware:
    """What a technique says of the channel's input stages."""

    i_range: int
    e_range: int
    timebase_s: float


@dataclass(frozen=True)
class Comparison:
    """One test of a reading; ``joins_with_and`` says how the next one is joined to it."""

    of_current: bool
    above: bool
    joins_with_and: bool
    value: float

    def holds(self, voltage_V: float, current_A: float) -> bool:
        """Whether a reading is at or beyond the value."""
        reading = current_A if self.of_current else voltage_V
        return reading >= self.value if self.above else reading <= self.value


@dataclass(frozen=True)
class Step:
    """One period at one set point; None for a rest."""

    level: float | None
    vs_initial: bool
    duration_s: float
    tests: tuple[Comparison, ...] = ()
    exit: Exit = Exit.NEXT_STEP

    def ends(self, voltage_V: float, current_A: float) -> bool:
        """Whether its tests hold: the first joined with the second, and that with the third."""
        if not self.tests:
            return False
        held = self.tests[0].holds(voltage_V, current_A)
        for before, test in pairwise(self.tests):
            this = test.holds(voltage_V, current_A)
            held = held and this if before.joins_with_and else held or this
        return held


@dataclass(frozen=True)
class Recording:
    """When a row is kept: after a time, or after a change; 0 for never on that account."""

    every_s: float
    change: float
    of_current: bool = False


@dataclass(frozen=True)
class Technique:
    """A technique as it was loaded."""

    name: str
    hardware: Hardware
    parameters: Parameters

    @property
    def identifier(self) -> int:
        """The number that data say it has."""
        return IDENTIFIERS[self.name]

    @property
    def controls_current(self) -> bool:
        """Whether it is a current that it sets."""
        return self.name in GALVANOSTATIC


@dataclass(frozen=True)
class Steps(Technique):
    """Periods one after the other: ocv, cp, ca, cplimit, calimit."""

    steps: tuple[Step, ...]
    recording: Recording
    repeats: int = 0


@dataclass(frozen=True)
class Voltammetry(Technique):
    """A triangle of potential: cv. Rates are those towards each vertex."""

    vertices_V: tuple[float, ...]
    vs_initial: tuple[bool, ...]
    rates_V_per_s: tuple[float, ...]
    record_V: float
    averages: bool
    window: tuple[float, float]
    repeats: int


@dataclass(frozen=True)
class Spectrum(Technique):
    """A period at a bias, then a spectrum at it: peis, geis."""

    bias: Step
    recording: Recording
    frequencies_Hz: tuple[float, ...]
    amplitude: float
    averages: int
    waiting_periods: float


def build(parameters: Parameters, limits: Limits, *, rate_unit_V_per_s: float) -> Technique:
    """Return a technique of checked parameters.

    Args:
        parameters: What was given.
        limits: What the channel can do.
        rate_unit_V_per_s: What a scan rate of 1 is.

    Raises:
        Misuse: It asks for more than the channel can do.
    """
    hardware = _hardware(parameters, limits)
    match parameters.technique:
        case "cv":
            technique: Technique = _voltammetry(parameters, hardware, rate_unit_V_per_s)
        case "peis" | "geis":
            technique = _spectrum_of(parameters, hardware, limits)
        case _:
            technique = _steps(parameters, hardware)
    _check_levels(technique, limits)
    return technique


def _hardware(parameters: Parameters, limits: Limits) -> Hardware:
    name, keeps = parameters.technique, limits.family is Family.SP300
    i_range = parameters.whole("I_Range", I_RANGE_AUTO)
    e_range = parameters.whole("E_Range", E_RANGE_AUTO)
    bandwidth = parameters.whole("Bandwidth", 1)
    if name in GALVANOSTATIC and i_range == I_RANGE_AUTO:
        raise misuse(f"{name}: I_Range is missing or auto, and a current is controlled")
    known = limits.smallest_range <= i_range <= limits.largest_range or i_range == I_RANGE_AUTO
    if not known and not (keeps and i_range == KEEP):
        raise misuse(f"{name}: this channel has no I_Range {i_range}")
    if e_range not in {*E_RANGES_V, E_RANGE_AUTO}:
        raise misuse(f"{name}: there is no E_Range {e_range}")
    if not 1 <= bandwidth <= limits.bandwidths and not (keeps and bandwidth == KEEP):
        raise misuse(f"{name}: this channel has no Bandwidth {bandwidth}")
    return Hardware(i_range, e_range, parameters.timebase_s)


def _steps(parameters: Parameters, hardware: Hardware) -> Steps:
    name = parameters.technique
    if name == "ocv":
        rest = Step(None, vs_initial=False, duration_s=parameters.one("Rest_time_T"))
        recording = _recording(parameters, "Record_every_dE")
        return Steps(name, hardware, parameters, (rest,), recording)
    current = name in GALVANOSTATIC
    steps = tuple(
        Step(
            parameters.values["Current_step" if current else "Voltage_step", index],
            parameters.flag("vs_initial", index),
            parameters.values["Duration_step", index],
            _tests_of(parameters, index),
            Exit(parameters.whole("Exit_Cond", 0, index)),
        )
        for index in range(parameters.steps)
    )
    if parameters.one("N_Cycles") > 0 and not any(step.duration_s for step in steps):
        raise misuse(f"{name}: steps of no duration are repeated")
    recording = _recording(parameters, "Record_every_dE" if current else "Record_every_dI")
    return Steps(name, hardware, parameters, steps, recording, int(parameters.one("N_Cycles")))


def _recording(parameters: Parameters, changes: str) -> Recording:
    every_s, change = parameters.one("Record_every_dT"), parameters.one(changes)
    return Recording(every_s, change, of_current=changes == "Record_every_dI")


def _tests_of(parameters: Parameters, step: int) -> tuple[Comparison, ...]:
    name, tests = parameters.technique, list[Comparison]()
    for number in (1, 2, 3):
        config = parameters.whole(f"Test{number}_Config", 0, step)
        if not config & 1:
            continue
        if len(tests) != number - 1:
            raise misuse(f"{name}: Test{number} of step {step} is active, and one before is not")
        if config & 0b11000 or config >> 5 not in {0, 3}:
            raise misuse(f"{name}: Test{number}_Config {config} compares neither E nor I")
        if (f"Test{number}_Value", step) not in parameters.values:
            raise misuse(f"{name}: Test{number}_Value[{step}] is missing")
        if ("Exit_Cond", step) not in parameters.values:
            raise misuse(f"{name}: Exit_Cond[{step}] is missing")
        value = parameters.values[f"Test{number}_Value", step]
        tests.append(Comparison(config >> 5 == 3, bool(config & 4), bool(config & 2), value))
    return tuple(tests)


def _voltammetry(
    parameters: Parameters, hardware: Hardware, rate_unit_V_per_s: float
) -> Voltammetry:
    rates = parameters.all_of("Scan_Rate", VERTICES)
    vertices = parameters.all_of("Voltage_step", VERTICES)
    window = parameters.one("Begin_measuring_I"), parameters.one("End_measuring_I")
    if 0.0 in rates[1:]:
        raise misuse(f"cv: a scan rate of 0 leads nowhere: {rates}")
    if window[0] >= window[1]:
        raise misuse(f"cv: the current is measured from {window[0]:g} to {window[1]:g} of a step")
    if parameters.one("Record_every_dE") <= 0:
        raise misuse("cv: Record_every_dE of 0 would record nothing")
    return Voltammetry(
        "cv",
        hardware,
        parameters,
        vertices,
        tuple(parameters.flag("vs_initial", index) for index in range(VERTICES)),
        tuple(rate * rate_unit_V_per_s for rate in rates),
        parameters.one("Record_every_dE"),
        parameters.flag("Average_over_dE"),
        window,
        int(parameters.one("N_Cycles")),
    )


def _spectrum_of(parameters: Parameters, hardware: Hardware, limits: Limits) -> Spectrum:
    name = parameters.technique
    quantity = "Current" if name in GALVANOSTATIC else "Voltage"
    first, last = parameters.one("Initial_frequency"), parameters.one("Final_frequency")
    if not limits.spectra:
        raise Misuse(ErrorCode.INVALIDCONF, f"{name}: this board measures no impedance")
    for frequency_Hz in (first, last):
        if not limits.frequency_min_Hz / _SLACK <= frequency_Hz <= limits.frequency_max_Hz * _SLACK:
            raise misuse(f"{name}: this channel does not reach {frequency_Hz:g} Hz")
    for begin, end in (
        (f"Initial_{quantity}_step", f"Final_{quantity}_step"), ("vs_initial", "vs_final")
    ):  # fmt: skip
        if parameters.values.get((end, 0), parameters.one(begin)) != parameters.one(begin):
            raise misuse(f"{name}: {end} is another than {begin}")
    amplitude = parameters.one(f"Amplitude_{quantity}")
    if amplitude <= 0:
        raise misuse(f"{name}: an amplitude of {amplitude:g}")
    bias = Step(
        parameters.one(f"Initial_{quantity}_step"),
        parameters.flag("vs_initial"),
        parameters.one("Duration_step"),
    )
    recorded = "Record_every_dE" if quantity == "Current" else "Record_every_dI"
    count = int(parameters.one("Frequency_number"))
    return Spectrum(
        name,
        hardware,
        parameters,
        bias,
        _recording(parameters, recorded),
        _frequencies(first, last, count, linear=parameters.flag("sweep")),
        amplitude,
        int(parameters.one("Average_N_times")),
        parameters.one("Wait_for_steady"),
    )


def _frequencies(first: float, last: float, count: int, *, linear: bool) -> tuple[float, ...]:
    if count == 1:
        return (first,)
    parts = [index / (count - 1) for index in range(count)]
    if linear:
        return tuple(first + part * (last - first) for part in parts)
    return tuple(first * (last / first) ** part for part in parts)


def _check_levels(technique: Technique, limits: Limits) -> None:
    """Raise Misuse for set points beyond the ranges; those that are relative show at run time."""
    hardware = technique.hardware
    match technique:
        case Steps():
            levels = [step.level for step in technique.steps if not step.vs_initial]
        case Voltammetry():
            pairs = zip(technique.vertices_V, technique.vs_initial, strict=True)
            levels = [vertex for vertex, relative in pairs if not relative]
        case Spectrum():
            levels = [None if technique.bias.vs_initial else technique.bias.level]
            _check_amplitude(technique)
        case _:
            levels = []
    if technique.controls_current:
        range_A = I_RANGES_A.get(hardware.i_range, math.inf)
        largest, unit = min(range_A, limits.current_max_A), "A"
    else:
        largest, unit = E_RANGES_V.get(hardware.e_range, limits.voltage_max_V), "V"
    for level in levels:
        if level is not None and abs(level) > largest * _SLACK:
            raise misuse(
                f"{technique.name}: {level:g} {unit} is beyond the range {largest:g} {unit}"
            )


def _check_amplitude(technique: Spectrum) -> None:
    range_A = I_RANGES_A.get(technique.hardware.i_range, math.inf)
    if technique.controls_current and technique.amplitude > 0.5 * range_A * _SLACK:
        raise misuse(
            f"{technique.name}: an amplitude of {technique.amplitude:g} A is more than half of the "
            f"range {range_A:g} A"
        )
