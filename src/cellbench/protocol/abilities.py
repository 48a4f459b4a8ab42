"""What planning needs to know of a bench, and fitting single steps to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from cellbench.errors import InputError
from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    ChannelCapabilities,
    GaugeCapabilities,
    ImpedanceBand,
    PressCapabilities,
)
from cellbench.instruments.techniques import Impedance, Rest, Technique
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    PressStep,
    PromptStep,
    TemperatureStep,
)
from cellbench.quantities import format_quantity, parse

C_co = TypeVar("C_co", covariant=True)


class Able(Protocol[C_co]):
    """An instrument that says what it can do."""

    name: str

    @property
    def capabilities(self) -> C_co:
        """What it can do."""


class FixtureLike(Protocol):
    """What holds the stack, as the bench file says it."""

    @property
    def die(self) -> str:
        """Inner diameter of the die, e.g. ``10 mm``."""

    @property
    def kind(self) -> str:
        """One of the `FixtureKind`."""

    @property
    def at_most(self) -> str:
        """Largest force, e.g. ``25 kN``."""


class BenchLike(Protocol):
    """A bench: who plays which role; None where nobody does."""

    @property
    def simulated(self) -> bool:
        """Whether there is no hardware, and nobody whose hands could press."""

    @property
    def accepts_unbounded(self) -> Collection[str]:
        """Instruments that may energise a cell although nothing ends it when their host dies."""

    @property
    def channel(self) -> Able[ChannelCapabilities] | None:
        """The potentiostat or cycler."""

    @property
    def press(self) -> Able[PressCapabilities] | None:
        """The press."""

    @property
    def gauge(self) -> Able[GaugeCapabilities] | None:
        """The force gauge."""

    @property
    def chamber(self) -> Able[ChamberCapabilities] | None:
        """The temperature chamber."""

    @property
    def fixture(self) -> FixtureLike | None:
        """What holds the stack."""


def able_for(technique: Technique, bench: BenchLike) -> ChannelCapabilities | None:
    """Return what the instrument can do that would run a technique; None if there is none."""
    channel = bench.channel
    if isinstance(channel, WiredChannel):
        return channel.serving(technique).capabilities
    return None if channel is None else channel.capabilities


def accepted_for(technique: Technique, bench: BenchLike) -> tuple[str, bool]:
    """Return which instrument would run a technique, and whether it may do so unbounded."""
    channel = bench.channel
    if isinstance(channel, WiredChannel):
        channel = channel.serving(technique)
    name = "" if channel is None else channel.name
    return name, name in bench.accepts_unbounded


def objections(step: ChannelStep | EisStep, bench: BenchLike) -> str:
    """Return why none of the instruments that share a cell can run a step; empty if one can."""
    channel = bench.channel
    if not isinstance(channel, WiredChannel):
        return ""
    found = channel.objections(step.technique)
    return "; ".join(f"{instrument} {reason}" for instrument, reason in found.items())


_ROLE_NAMES = {
    "channel": "potentiostat or cycler",
    "impedance": "instrument that measures impedance",
    "press": "press",
    "chamber": "temperature chamber",
    "gauge": "press or force gauge",
}


def missing_role(step: AnyStep, bench: BenchLike) -> str:
    """Return what the bench lacks for a step, as a person calls it; empty if nothing."""
    match step:
        case EisStep() if bench.channel is None or bench.channel.capabilities.impedance is None:
            return _ROLE_NAMES["impedance"]
        case ChannelStep() if bench.channel is None:
            return _ROLE_NAMES["channel"]
        case CheckStep():
            return _missing_eye(step, bench)
        case PressStep() if bench.press is None:
            return _ROLE_NAMES["press"]
        case TemperatureStep() if bench.chamber is None:
            return _ROLE_NAMES["chamber"]
    return ""


def _missing_eye(step: CheckStep, bench: BenchLike) -> str:
    """Return what the bench lacks to look at what is checked."""
    channel = bench.channel
    if step.contact_ohm and (channel is None or channel.capabilities.impedance is None):
        return _ROLE_NAMES["impedance"]
    if step.voltage and channel is None:
        return _ROLE_NAMES["channel"]
    if step.pressure and bench.press is None and bench.gauge is None:
        return _ROLE_NAMES["gauge"]
    return _ROLE_NAMES["chamber"] if step.temperature and bench.chamber is None else ""


def adapt(step: AnyStep, bench: BenchLike) -> tuple[AnyStep | None, Sequence[str]]:
    """Fit a step to a bench: leave it out, or clip a spectrum's band, where the step allows it.

    Returns:
        The step as it can be run, None if it is left out, and the deviations for the record.
    """
    if isinstance(step, PressStep) and step.by_hand and not bench.simulated:
        return (step, []) if _press_can(step, bench) else _by_hand(step)
    missing = missing_role(step, bench)
    if missing and not step.required:
        return None, [f"{step.what}: left out, the bench has no {missing}"]
    if isinstance(step, EisStep) and not missing and not step.band_exact and bench.channel:
        able = able_for(step.technique, bench)
        band = able.impedance if able else None
        return (step, []) if band is None else _clip_step(step, band)
    if isinstance(step, ChannelStep) and step.every is not None:
        fitted = [adapt(each, bench) for each in step.every.steps]
        inner = tuple(each for each, _ in fitted if each is not None)
        every = replace(step.every, steps=inner) if inner else None
        texts = [text for _, texts in fitted for text in texts]
        return replace(step, every=every), [*texts, *_rests_for_spectra(step, inner, bench)]
    return step, []


def _rests_for_spectra(
    step: ChannelStep, inner: Sequence[AnyStep], bench: BenchLike
) -> Sequence[str]:
    """Say that a cell cannot stay on through spectra that another instrument takes."""
    channel = bench.channel
    if not isinstance(channel, WiredChannel) or isinstance(step.technique, Rest):
        return ()
    driving = channel.serving(step.technique)
    others = {
        channel.serving(each.technique).name: None for each in inner if isinstance(each, EisStep)
    }
    others.pop(driving.name, None)
    return [
        f"{step.what}: {other} takes its spectra: {channel.name} goes there and back "
        f"{channel.changeover.means}, and rests at open circuit meanwhile"
        for other in others
    ]


def _press_can(step: PressStep, bench: BenchLike) -> bool:
    """Whether the bench's press and fixture reach the force of a step."""
    if bench.press is None:
        return False
    force_N, fixture_N = step.force_N or 0.0, fixture_force_max_N(bench.fixture)
    able = bench.press.capabilities
    gauge = bench.gauge.capabilities.force_max_N if bench.gauge else force_N
    reach_N = min(able.force_max_N, gauge, force_N if fixture_N is None else fixture_N)
    return force_N <= reach_N


def _by_hand(step: PressStep) -> tuple[AnyStep, Sequence[str]]:
    """Return the press step as a question to the operator."""
    force = format_quantity(step.force_N or 0.0, "force")
    prompt = f"{step.what[0].upper()}{step.what[1:]} by hand ({force} on the stack), then confirm."
    asked = PromptStep(
        path=step.path,
        verb="prompt",
        what=f"ask: {prompt}",
        source=step.source,
        bindings=step.bindings,
        save_as=step.save_as,
        prompt=prompt,
    )
    return asked, [f"{step.what}: by hand, the bench's press does not reach {force}"]


def _clip_step(step: EisStep, band: ImpedanceBand) -> tuple[AnyStep | None, Sequence[str]]:
    technique = clipped(step.technique, band)
    if technique == step.technique or technique is None:
        return step, []
    deviations = []
    if technique.frequency_max_Hz != step.technique.frequency_max_Hz:
        deviations.append(
            f"band ends at {_hertz(technique.frequency_max_Hz)} "
            f"(asked for {_hertz(step.technique.frequency_max_Hz)})"
        )
    if technique.frequency_min_Hz != step.technique.frequency_min_Hz:
        deviations.append(
            f"band begins at {_hertz(technique.frequency_min_Hz)} "
            f"(asked for {_hertz(step.technique.frequency_min_Hz)})"
        )
    what = step.what.replace(_span(step.technique), _span(technique))
    return replace(step, technique=technique, what=what), deviations


def clipped(technique: Impedance, band: ImpedanceBand) -> Impedance | None:
    """Return the part of a spectrum that an instrument can do, None if there is none."""
    highest = min(technique.frequency_max_Hz, band.frequency_max_Hz)
    lowest = max(technique.frequency_min_Hz, band.frequency_min_Hz)
    if highest <= lowest:
        return None
    return technique.model_copy(update={"frequency_max_Hz": highest, "frequency_min_Hz": lowest})


def _span(technique: Impedance) -> str:
    return f"{_hertz(technique.frequency_max_Hz)} to {_hertz(technique.frequency_min_Hz)}"


def _hertz(frequency_Hz: float) -> str:
    return format_quantity(frequency_Hz, "frequency")


def fixture_force_max_N(fixture: FixtureLike | None) -> float | None:
    """Return the fixture's largest force. Raises InputError for a fixture that is wrong."""
    return None if fixture is None else _of_fixture(fixture.at_most, "at most", "force")


def fixture_die_m(fixture: FixtureLike | None) -> float | None:
    """Return the fixture's die. Raises InputError for a fixture that is wrong."""
    return None if fixture is None else _of_fixture(fixture.die, "die", "length")


def _of_fixture(text: str, key: str, dimension: str) -> float:
    try:
        return parse(text, dimension)
    except InputError as error:
        raise InputError(f"bench file, fixture, {key}: {error}") from error
