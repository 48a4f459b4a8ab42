"""Scenarios from whole numbers: the same number is the same scenario for ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.scenario import (
    Ask,
    BrokenSensor,
    DeafGuard,
    Fault,
    FullDisk,
    Kill,
    Kind,
    Leak,
    Line,
    Scenario,
    Short,
    StuckValve,
    Victim,
    WrongForce,
)


@dataclass(frozen=True)
class BenchKind:
    """A bench on which scenarios are played.

    Attributes:
        shipped: Its name among those that ship; empty for the usual one.
        channels: Its instruments on the cell.
        others: The others that have a line.
        spectra: Whether one of them takes spectra.
        sweeps: Whether what cycles the cell can sweep its voltage.
        holds: Whether it holds any voltage; a cycler does so from where the cell was before.
        lists: Whether it takes lists of steps, with which it goes on without a host.
        bytes: Whether what goes to its channels are bytes, and no calls of a library.
        share: Of all scenarios.
    """

    shipped: str
    channels: tuple[str, ...]
    others: tuple[str, ...]
    spectra: bool = False
    sweeps: bool = False
    holds: bool = False
    lists: bool = False
    bytes: bool = True
    share: float = 0.1


_ROOM = ("press", "load cell", "chamber")
_RELAYS = ("multiplexer", *_ROOM)
BENCHES = {
    "default": BenchKind(
        "", ("potentiostat",), _ROOM, spectra=True, sweeps=True, holds=True, share=0.34
    ),
    "keithley": BenchKind(
        "keithley", ("source-measure unit",), _ROOM, sweeps=True, holds=True, share=0.14
    ),
    "neware": BenchKind("neware", ("cycler",), _ROOM, lists=True, share=0.16),
    "maccor": BenchKind("maccor", ("cycler",), _ROOM, share=0.08),
    "biologic": BenchKind(
        "biologic", ("potentiostat",), _ROOM, spectra=True, sweeps=True, holds=True, bytes=False,
        share=0.08,
    ),
    "two on a switch": BenchKind(
        "two_on_a_switch", ("source-measure unit", "potentiostat"), _RELAYS, spectra=True,
        sweeps=True, holds=True, share=0.1,
    ),
    "neware with palmsens": BenchKind(
        "neware_with_palmsens", ("cycler", "potentiostat"), _RELAYS, spectra=True, lists=True,
    ),
}  # fmt: skip
SYMMETRIC, FULL = "LYC_PMMA", "NMC811_LYC_PMMA_Li"
_FULL_SHARE = 0.2

_LINE_KINDS = tuple(Kind)
#: What can happen on the line of an instrument behind a library.
_LIBRARY_KINDS = (Kind.SILENT, Kind.PULLED, Kind.RESET)
#: Weights of what goes wrong: lines most of all, and hosts.
_WEIGHTS: tuple[tuple[str, float], ...] = (
    ("line", 6.0), ("kill", 4.0), ("pause", 1.0), ("skip", 0.6), ("disk", 1.0), ("force", 0.7),
    ("sensor", 0.3), ("leak", 0.5), ("valve", 0.3), ("short", 0.4), ("deaf", 0.2),
)  # fmt: skip
#: Hosts that have a guard: of those that are to die, and of others.
_GUARDED, _GUARDED_FOR_NOTHING = 0.7, 0.1


def scenario(seed: int) -> Scenario:
    """Return the scenario of a number."""
    rng = random.Random(seed)  # noqa: S311 (no secret)
    bench = rng.choices([*BENCHES], [each.share for each in BENCHES.values()])[0]
    cell = FULL if rng.random() < _FULL_SHARE else SYMMETRIC
    steps, duration_s = _steps(rng, BENCHES[bench], full=cell == FULL)
    found = [fault(rng, BENCHES[bench], duration_s) for _ in range(_count(rng))]
    dies = any(isinstance(each, Kill | DeafGuard) for each in found)
    guarded = rng.random() < (_GUARDED if dies else _GUARDED_FOR_NOTHING)
    if guarded:
        found += _met_by_guard(rng, BENCHES[bench], found)
    limits = rng.choice(
        ("", "", "stack pressure: 0.8 MPa to 12 MPa", "temperature: 18 degC to 40 degC")
    )
    return Scenario(
        seed,
        bench,
        tuple(steps),
        tuple(sorted(found, key=lambda each: each.at_s)),
        limits,
        cell,
        rng.choice((4, 5, 8)),
        guarded,
    )


def _count(rng: random.Random) -> int:
    return rng.choices((0, 1, 2, 3, 4), (0.03, 0.5, 0.25, 0.15, 0.07))[0]


def _met_by_guard(rng: random.Random, bench: BenchKind, found: list[Fault]) -> list[Fault]:
    """What goes wrong while a guard is at it: its lines, itself."""
    more: list[Fault] = []
    for death in (each for each in found if isinstance(each, Kill)):
        if death.victim is Victim.GUARD or rng.random() < 0.7:
            continue
        at_s = round(death.at_s + rng.uniform(0.0, 4.0), 2)
        if rng.random() < 0.7:
            more.append(_line(rng, bench, at_s, rng.choice((2.0, 8.0, 30.0))))
        else:
            more.append(Kill(at_s, rng.choice((0, 1, 3, 8)), victim=Victim.GUARD))
    return more


# --- Protocols ----------------------------------------------------------------------------------


def _steps(rng: random.Random, bench: BenchKind, *, full: bool) -> tuple[list[str], float]:
    """Return the steps of a protocol and about how long it takes."""
    writer = _Writer(rng, bench, full=full)
    steps = [f"press: {{to: {rng.choice((2, 3, 5))} MPa, ramp: 1 MPa/s, "
             "settle: {within: 0.3 MPa, for: 8 s, at most: 20 min}}"]  # fmt: skip
    writer.duration_s += 20
    steps.append(writer.rest())
    while writer.count < 9:
        steps.append(writer.top())
    if rng.random() < 0.7:
        steps.append("press: release")
        writer.duration_s += 10
    return steps, writer.duration_s


class _Writer:
    """Writes steps for a cell.

    Args:
        rng: Decides.
        bench: What it can do.
        full: Whether the cell has a cathode: it is charged first, and held within its window.
    """

    def __init__(self, rng: random.Random, bench: BenchKind, *, full: bool) -> None:
        self.rng, self.bench, self.full = rng, bench, full
        self.duration_s = 0.0
        self.count = 1
        self.loops = 0
        self.charged = 0.0

    def top(self) -> str:
        """One item of the protocol's list."""
        rng = self.rng
        if rng.random() < 0.35:
            return self.loop()
        kinds: list[tuple[Callable[[], str], float]] = [
            (self.rest, 2), (self.current, 4), (self.wait, 0.7),
            (self.temperature, 0.5), (self.press, 0.7), (self.interrupted, 1), (self.mark, 0.3),
        ]  # fmt: skip
        if self.bench.spectra:
            kinds.append((self.eis, 2))
        if self.bench.holds and not self.full:
            kinds.append((self.hold, 2))
            if self.bench.spectra:
                kinds.append((self.hold_with_spectra, 1.5))
        if self.bench.sweeps and not self.full:
            kinds.append((self.sweep, 1))
        return rng.choices([each for each, _ in kinds], [weight for _, weight in kinds])[0]()

    def loop(self) -> str:
        rng = self.rng
        passes = rng.choice((2, 2, 3))
        before_s, before = self.duration_s, self.count
        inner = [self.current(), self.rest()] + ([self.current(-1)] if rng.random() < 0.6 else [])
        if self.bench.spectra and rng.random() < 0.3:
            inner.append(self.eis())
        self.duration_s += (self.duration_s - before_s) * (passes - 1)
        self.count += (self.count - before) * (passes - 1)
        self.loops += 1
        until = ""
        if rng.random() < 0.4:
            passes += 1
            until = f", until: time > {rng.choice((50, 90, 150))} s"
        listed = ", ".join(f"{{{step}}}" for step in inner)
        return f"{{repeat: {passes}, name: loop{self.loops}{until}, steps: [{listed}]}}"

    def _takes(self, time_s: float) -> None:
        self.duration_s += time_s
        self.count += 1

    def _record(self) -> str:
        return f"record: {{every: {self.rng.choice((1, 2, 2, 5))} s}}"

    def rest(self) -> str:
        time_s = self.rng.choice((5, 10, 20, 40))
        self._takes(time_s)
        return f"rest: {{for: {time_s} s, {self._record()}}}"

    def current(self, sign: int = 1) -> str:
        rng = self.rng
        time_s = rng.choice((10, 20, 30, 60, 90))
        density = sign * rng.choice((0.1, 0.2, 0.4))
        self._takes(time_s)
        until, length = "", f"for: {time_s} s"
        if self.full:
            if self.charged + 2.0 * density * time_s < 0.0:
                density = -density
            self.charged += density * time_s
        elif rng.random() < 0.25:
            until = f", until: charge > {rng.choice((0.3, 0.6, 1.2))} uAh"
            length = f"at most: {time_s} s"
        kept = ", when interrupted: restart" if rng.random() < 0.1 else ""
        return f"current: {{at: {density} mA/cm2, {length}{until}, {self._record()}{kept}}}"

    def hold(self) -> str:
        time_s = self.rng.choice((20, 40, 80))
        self._takes(time_s)
        level = self.rng.choice((-20, 10, 20))
        return f"hold: {{at: {level} mV, for: {time_s} s, {self._record()}}}"

    def hold_with_spectra(self) -> str:
        time_s, interval_s = self.rng.choice(((60, 20), (90, 40)))
        self._takes(time_s + 5)
        level = self.rng.choice((10, 20))
        spectrum = (
            "{eis: {from: 1 MHz, to: 10 kHz, points: 3 per decade, amplitude: 10 mV, "
            f"bias: {level} mV}}}}"
        )
        return (
            f"hold: {{at: {level} mV, for: {time_s} s, {self._record()}, "
            f"every: {{interval: {interval_s} s, do: [{spectrum}]}}}}"
        )

    def interrupted(self) -> str:
        time_s, after_s = self.rng.choice(((60, 20), (90, 40)))
        self._takes(time_s + 20)
        kind = self.rng.choice(("after", "interval"))
        return (
            f"current: {{at: 0.2 mA/cm2, for: {time_s} s, {self._record()}, "
            f"every: {{{kind}: {after_s} s, "
            "do: [{rest: {for: 6 s, record: {every: 1 s}}}]}}"
        )

    def eis(self) -> str:
        self._takes(4)
        lowest = self.rng.choice(("10 kHz", "1 kHz"))
        return f"eis: {{from: 1 MHz, to: {lowest}, points: 3 per decade, amplitude: 10 mV}}"

    def sweep(self) -> str:
        self._takes(20)
        return "sweep: {from: 0 mV, to: 20 mV, rate: 1 mV/s}"

    def wait(self) -> str:
        self._takes(15)
        return "wait: 15 s"

    def mark(self) -> str:
        self._takes(0)
        return "mark: here"

    def press(self) -> str:
        self._takes(20)
        level = self.rng.choice((2, 3, 4, 5))
        settle = "{within: 0.3 MPa, for: 8 s, at most: 20 min}"
        return f"press: {{to: {level} MPa, ramp: 1 MPa/s, settle: {settle}}}"

    def temperature(self) -> str:
        self._takes(0)
        return f"temperature: {{to: {self.rng.choice((25, 26, 28))} degC}}"


# --- What goes wrong ----------------------------------------------------------------------------


def fault(rng: random.Random, bench: BenchKind, duration_s: float) -> Fault:
    at_s = round(rng.uniform(6.0, 1.05 * duration_s + 10.0), 2)
    lasts_s = round(rng.choice((2.0, 8.0, 30.0, 200.0)) * rng.uniform(0.5, 1.5), 2)
    kind = rng.choices([each for each, _ in _WEIGHTS], [weight for _, weight in _WEIGHTS])[0]
    match kind:
        case "line":
            return _line(rng, bench, at_s, lasts_s)
        case "kill":
            return kill(rng, bench, at_s)
        case "deaf":
            return DeafGuard(at_s, rng.choice((5.0, 30.0)))
        case "pause":
            return Ask(at_s, "pause", lasts_s)
        case "skip":
            return Ask(at_s, "skip")
        case "disk":
            return FullDisk(at_s, lasts_s)
        case "force":
            return WrongForce(at_s, lasts_s * 3, rng.choice((None, 0.5, 1.3, 3.0)))
        case "sensor":
            return BrokenSensor(at_s, lasts_s)
        case "leak":
            return Leak(at_s, lasts_s, rng.choice((1e-4, 1e-3, 1e-2)))
        case "valve":
            return StuckValve(at_s, lasts_s)
        case _:
            return Short(at_s, rng.choice((1.0, 20.0)))


def kill(rng: random.Random, bench: BenchKind, at_s: float) -> Kill:
    """A process that dies about so late."""
    # A list that the cycler went on with has no place before a clock that is set back, as one is
    # too that was ahead once and is right again.
    step_s = 0.0 if bench.lists else rng.choice((0.0, 0.0, 0.0, 3600.0, -3600.0))
    return Kill(
        at_s,
        rng.choice((0, 1, 2, 3, 5, 8, 13, 30)),
        rng.choice((2.0, 30.0, 300.0)),
        step_s,
        rng.choices((*Victim,), (0.6, 0.15, 0.15, 0.1))[0],
        rng.choice((0.0, 0.0, 0.0, 3.0, 20.0)),
    )


def _line(rng: random.Random, bench: BenchKind, at_s: float, lasts_s: float) -> Line:
    kind = rng.choice(_LINE_KINDS)
    target = rng.choice(bench.channels if rng.random() < 0.5 else bench.others)
    if not bench.bytes and target in bench.channels and kind not in _LIBRARY_KINDS:
        kind = rng.choice(_LIBRARY_KINDS)
    duration_s = {Kind.SILENT: lasts_s, Kind.PULLED: lasts_s, Kind.LATE: 4.0}.get(kind, 0.0)
    return Line(kind, target, at_s, duration_s, round(rng.random(), 3))
