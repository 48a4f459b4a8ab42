"""The check step: what has to be true of a cell before anything is energised.

The open-circuit voltage is measured with the cell open; the contact by a spectrum of a few points
at high frequency and 10 mV around that voltage, which passes no net charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellbench.engine.screening import open_circuit_V
from cellbench.engine.trips import StepFailed, Trip
from cellbench.instruments.readings import EndingKind
from cellbench.instruments.techniques import Impedance
from cellbench.protocol.program import CheckStep
from cellbench.quantities import Interval, format_quantity

if TYPE_CHECKING:
    from cellbench.engine.steps import StepRunner

#: Where the contact is measured, as far as the instrument's band goes.
CONTACT_HZ = 100e3
CONTACT_V = 10e-3


async def check_sanity(step: CheckStep, runner: StepRunner) -> dict[str, float]:
    """Look at all that a check step names; returns what was seen.

    Raises:
        StepFailed: Something is not as it should be; nothing was energised.
    """
    seen: dict[str, float] = {}
    wrong: list[str] = []
    for name, words, dimension, allowed in (
        ("stack_pressure_Pa", "stack pressure", "pressure", step.pressure),
        ("temperature_K", "temperature", "temperature", step.temperature),
        ("voltage_V", "open circuit", "voltage", step.voltage),
        ("contact_ohm", "contact", "resistance", step.contact_ohm),
    ):
        if allowed is None or (name == "contact_ohm" and wrong):
            continue
        value = await _look(name, runner)
        if value is not None:
            seen[name] = value
        if value is None or not _within(value, allowed):
            wrong.append(f"{words} is {_shown(value, dimension)}, not {_span(allowed, dimension)}")
    text = ", ".join(
        f"{name.rpartition('_')[0].replace('_', ' ')} {value:.4g} {name.rpartition('_')[2]}"
        for name, value in seen.items()
    )
    await runner.journal.enter("screening", step=step.path, text=f"checked: {text}", **seen)
    if wrong:
        raise StepFailed(f"{'; '.join(wrong)}. Nothing was energised.")
    return seen


async def _look(name: str, runner: StepRunner) -> float | None:
    if name == "contact_ohm":
        return await _contact_ohm(runner)
    if name == "voltage_V":
        limits = runner.watch.limits.electrical
        return await open_circuit_V(runner.bench, limits, runner.recorder, runner.journal)
    return runner.status.value(name)


async def _contact_ohm(runner: StepRunner) -> float | None:
    """Magnitude of the impedance at high frequency."""
    channel = runner.bench.channel
    assert channel is not None  # noqa: S101 (checked before the run)
    band = channel.capabilities.impedance
    assert band is not None  # noqa: S101
    highest_Hz = min(CONTACT_HZ, band.frequency_max_Hz)
    technique = Impedance(
        frequency_max_Hz=highest_Hz,
        frequency_min_Hz=highest_Hz / 10,
        points_per_decade=2,
        amplitude_V=CONTACT_V,
    )
    magnitudes: list[float] = []
    async with channel.run(technique, runner.watch.limits.electrical) as running:
        async for block in running:
            real, imag = block.columns["impedance_real_ohm"], block.columns["impedance_imag_ohm"]
            magnitudes += [abs(complex(a, b)) for a, b in zip(real, imag, strict=True)]
    if running.ending is not None and running.ending.kind is EndingKind.TRIPPED:
        raise Trip(
            "cell", f"the instrument ended the check of the contact: {running.ending.detail}"
        )
    return magnitudes[0] if magnitudes else None


def _within(value: float, allowed: Interval) -> bool:
    return (allowed.low is None or value >= allowed.low) and (
        allowed.high is None or value <= allowed.high
    )


def _shown(value: float | None, dimension: str) -> str:
    return "unknown" if value is None else format_quantity(value, dimension)


def _span(allowed: Interval, dimension: str) -> str:
    if allowed.low is None:
        return f"at most {_shown(allowed.high, dimension)}"
    if allowed.high is None:
        return f"at least {_shown(allowed.low, dimension)}"
    return f"{_shown(allowed.low, dimension)} to {_shown(allowed.high, dimension)}"
