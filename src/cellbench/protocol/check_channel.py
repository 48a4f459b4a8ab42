"""Checks of what a channel is asked to do: limits of cell and protocol, the instrument's ranges."""

from __future__ import annotations

from collections.abc import Iterator

from cellbench.instruments.capabilities import ChannelCapabilities, ImpedanceBand
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    Impedance,
    Rest,
    Sweep,
)
from cellbench.protocol.abilities import clipped
from cellbench.protocol.errors import Problem
from cellbench.protocol.program import ChannelStep, EisStep, Limits, Program
from cellbench.quantities import format_quantity

#: The voltage of an empty or full cell crosses its whole window within this part of the charge that
#: it is given at most, and may cross this part of it before the host has reacted.
_STEEP_OF_LIMIT, _OVERSHOOT = 0.01, 0.1


def check_channel(
    step: ChannelStep, program: Program, able: ChannelCapabilities
) -> Iterator[Problem]:
    """Check a technique against the limits and the instrument."""
    technique, limits = step.technique, program.limits
    if technique.technique not in able.techniques:
        yield step.source.problem(f"{able.model} cannot do a {technique.technique}")
    match technique:
        case ConstantCurrent(current_A=current_A):
            yield from _current(step, current_A, program, able)
        case ConstantVoltage(voltage_V=voltage_V):
            yield from _voltage(step, voltage_V, program, able)
            yield from _both_ways(step, technique, able)
        case Sweep():
            yield from _sweep(step, technique, program, able)
        case Rest():
            pass
    for cut_off in technique.cut_offs:
        yield from _cut_off(step, cut_off, limits)
    yield from _interval(step, able)
    yield from _interrupted(step, able)
    yield from _charge(step, program)


def check_bounded(
    step: ChannelStep | EisStep, able: ChannelCapabilities, instrument: str, accepted: bool
) -> Iterator[Problem]:
    """Refuse to energise a cell that nobody switches off when the computer dies."""
    energises = not isinstance(step.technique, Rest)
    if energises and not able.bounded_without_host and not accepted:
        yield step.source.problem(
            f"{able.model} goes on when its computer dies: nothing that it was told ends this step",
            "Give it its watchdog in the bench file if it has one (cellbench drivers), use another "
            f'instrument, or accept it in the bench file: "accepts unbounded: [{instrument}]".',
        )


def _current(
    step: ChannelStep, current_A: float, program: Program, able: ChannelCapabilities
) -> Iterator[Problem]:
    magnitude, limit_A = abs(current_A), program.limits.current_max_A
    shown = _amperes(magnitude)
    yield from _overshoot(step, magnitude, program, able)
    if magnitude > limit_A * (1 + 1e-9):
        yield _at(
            step,
            f"{_asked(step)}{shown} is beyond the limit of {_amperes(limit_A)} for "
            f"{program.card.cell}",
            _density(program, limit_A),
        )
    elif magnitude > able.current_max_A * (1 + 1e-9):
        yield _at(
            step,
            f"{_asked(step)}{shown} is beyond the range of {able.model}, "
            f"{_amperes(able.current_max_A)}",
            _density(program, able.current_max_A),
        )
    elif magnitude < able.current_min_A:
        yield _at(
            step,
            f"{_asked(step)}{shown} is below what {able.model} resolves, "
            f"{_amperes(able.current_min_A)}",
        )


def _both_ways(
    step: ChannelStep, technique: ConstantVoltage, able: ChannelCapabilities
) -> Iterator[Problem]:
    if technique.rest_V == technique.voltage_V and not able.holds_both_ways:
        yield _at(
            step,
            f"a hold of {able.model} takes current in one direction only, and a cell that rests at "
            f"{technique.voltage_V:g} V needs either to be held there",
            'Let it come there by itself ("rest"), or use a potentiostat.',
        )


def _overshoot(
    step: ChannelStep, current_A: float, program: Program, able: ChannelCapabilities
) -> Iterator[Problem]:
    """How far an empty or full cell's voltage runs while the host reacts."""
    charge_C = program.limits.charge_max_C
    if "voltage" in able.on_device or charge_C is None:
        return
    reaction_s = able.reaction.of_rows(getattr(step.technique, "interval_s", 0.0))
    steep_C = _STEEP_OF_LIMIT * charge_C
    if current_A * reaction_s > _OVERSHOOT * steep_C:
        longest_A = _OVERSHOOT * steep_C / reaction_s
        yield _at(
            step,
            f"at {_amperes(current_A)} a full cell passes its limits before the computer can react "
            f"({format_quantity(reaction_s, 'time')})",
            f"{able.model} does not watch the voltage itself: sample more often, or at most "
            f"{_amperes(longest_A)}.",
        )


def _charge(step: ChannelStep, program: Program) -> Iterator[Problem]:
    """More charge than the cell is to be given would trip the run before the step ends."""
    limit_C, technique = program.limits.charge_max_C, step.technique
    if limit_C is None:
        return
    asked_C = step.charge_max_C
    ends_early = step.until or technique.cut_offs
    if isinstance(technique, ConstantCurrent) and asked_C is None and not ends_early:
        asked_C = abs(technique.current_A) * technique.duration_s
    if asked_C is not None and asked_C > limit_C * (1 + 1e-9) and not ends_early:
        yield _at(
            step,
            f"{_asked(step)}{format_quantity(asked_C, 'charge')} are beyond the limit of "
            f"{format_quantity(limit_C, 'charge')} for {program.card.cell}: the run would trip",
            'Correct the card\'s loading or "nominal capacity", or write "charge" under "limits".',
        )


def _density(program: Program, current_A: float) -> str:
    density = format_quantity(current_A / program.card.area_m2, "current density")
    return f"On this cell that is at most {density}."


def _asked(step: ChannelStep | EisStep) -> str:
    shown = ", ".join(f"{name} = {text}" for name, text in step.bindings.items())
    return f"with {shown}: " if shown else ""


def _voltage(
    step: ChannelStep, voltage_V: float, program: Program, able: ChannelCapabilities
) -> Iterator[Problem]:
    limits = program.limits
    if not limits.voltage_min_V <= voltage_V <= limits.voltage_max_V:
        yield _at(
            step,
            f"{_asked(step)}{voltage_V:.4g} V at the terminals is outside the limits, "
            f"{_window(limits)}",
            f"The limits are those of the card of {program.card.cell} and of the protocol, the "
            "tighter of both.",
        )
    elif not able.voltage_min_V <= voltage_V <= able.voltage_max_V:
        yield _at(
            step,
            f"{_asked(step)}{voltage_V:.4g} V at the terminals is beyond {able.model}, "
            f"{able.voltage_min_V:g} V to {able.voltage_max_V:g} V",
        )


def _sweep(
    step: ChannelStep, sweep: Sweep, program: Program, able: ChannelCapabilities
) -> Iterator[Problem]:
    for voltage_V in sweep.voltages_V[step.from_rest :]:
        yield from _voltage(step, voltage_V, program, able)
    overshoot_V = sweep.rate_V_per_s * able.reaction.of_rows(sweep.interval_s)
    window_V = program.limits.voltage_max_V - program.limits.voltage_min_V
    if "voltage" not in able.on_device and overshoot_V > 0.1 * window_V:
        yield _at(
            step,
            f"at {format_quantity(sweep.rate_V_per_s, 'voltage rate')} the voltage moves by "
            f"{overshoot_V:.3g} V before the host can react",
            f"{able.model} does not watch the voltage itself: sweep more slowly.",
        )


def _cut_off(step: ChannelStep, cut_off: CutOff, limits: Limits) -> Iterator[Problem]:
    value = cut_off.value
    if cut_off.quantity == "current":
        if cut_off.above and value > limits.current_max_A:
            yield _at(
                step,
                f"the cut-off of {_amperes(value)} is beyond the limit of "
                f"{_amperes(limits.current_max_A)}: the step would trip before it ends",
            )
        return
    beyond = value > limits.voltage_max_V if cut_off.above else value < limits.voltage_min_V
    if beyond:
        yield _at(
            step,
            f"the cut-off of {value:.4g} V at the terminals is outside the limits, "
            f"{_window(limits)}: the step would trip before it ends",
        )


def _interval(step: ChannelStep, able: ChannelCapabilities) -> Iterator[Problem]:
    interval_s = getattr(step.technique, "interval_s", able.interval_min_s)
    if interval_s < able.interval_min_s:
        yield _at(
            step,
            f"a sample each {format_quantity(interval_s, 'time')} is faster than {able.model} can",
            f"Its shortest interval is {format_quantity(able.interval_min_s, 'time')}.",
        )


def ends_by_itself(step: ChannelStep, able: ChannelCapabilities) -> bool:
    """Whether an instrument ends a step without the computer, whichever of its ends comes first.

    A current needs an end by its voltage for that, a voltage one by its current.
    """
    technique = step.technique
    by_charge = step.charge_max_C is not None and not isinstance(technique, ConstantCurrent)
    if step.until or step.stop_if or step.every is not None or by_charge:
        return False  # the computer judges that
    needed = {"duration", *(cut_off.quantity for cut_off in technique.cut_offs)}
    if not isinstance(technique, Rest):
        needed.add("voltage" if isinstance(technique, ConstantCurrent) else "current")
    return able.bounded_without_host and needed <= able.on_device


def _interrupted(step: ChannelStep, able: ChannelCapabilities) -> Iterator[Problem]:
    if step.when_interrupted == "continue" and not ends_by_itself(step, able):
        yield _at(
            step,
            f'"when interrupted: continue" is not safe: {able.model} does not end this step by '
            "itself",
            'Write "when interrupted: quiet".',
        )


# --- Spectra ------------------------------------------------------------------------------------


def check_eis(step: EisStep, program: Program, able: ChannelCapabilities) -> Iterator[Problem]:
    """Check a spectrum against the instrument's band and the limits."""
    band = able.impedance
    if band is None:
        return
    yield from _band(step, band, able)
    technique = step.technique
    if technique.galvanostatic and not band.galvanostatic:
        yield _at(step, f"{able.model} measures no galvanostatic impedance")
    if not technique.galvanostatic and not band.potentiostatic:
        yield _at(step, f"{able.model} measures no potentiostatic impedance")
    yield from _amplitude(step, technique, program)
    if technique.amplitude_A is not None and technique.amplitude_A < able.current_min_A:
        yield _at(
            step,
            f"an amplitude of {_amperes(technique.amplitude_A)} is below what {able.model} "
            f"resolves, {_amperes(able.current_min_A)}",
        )


def _band(step: EisStep, band: ImpedanceBand, able: ChannelCapabilities) -> Iterator[Problem]:
    asked, possible = step.technique, clipped(step.technique, band)
    if possible == asked:
        return
    limits = f"{_hertz(band.frequency_max_Hz)} to {_hertz(band.frequency_min_Hz)}"
    message = (
        f"the spectrum from {_hertz(asked.frequency_max_Hz)} to {_hertz(asked.frequency_min_Hz)} "
        f"is beyond {able.model}, {limits}"
    )
    if possible is None:
        yield _at(step, message)
        return
    sweep = f"{_hertz(possible.frequency_max_Hz)} to {_hertz(possible.frequency_min_Hz)}"
    yield _at(
        step,
        message,
        f'It can do {sweep}: write that, or "band: as available" to take what it can.',
    )


def _amplitude(step: EisStep, technique: Impedance, program: Program) -> Iterator[Problem]:
    limits = program.limits
    if technique.amplitude_V is not None and technique.bias_V is not None:
        reach = (
            technique.bias_V - technique.amplitude_V,
            technique.bias_V + technique.amplitude_V,
        )
        if reach[0] < limits.voltage_min_V or reach[1] > limits.voltage_max_V:
            yield _at(step, f"bias and amplitude leave the limits, {_window(limits)}")
    elif technique.amplitude_V is not None:
        if technique.amplitude_V > (limits.voltage_max_V - limits.voltage_min_V) / 2:
            yield _at(step, f"the amplitude is larger than the limits allow, {_window(limits)}")
    elif (technique.amplitude_A or 0.0) + abs(technique.bias_A) > limits.current_max_A:
        yield _galvanostatic(step, technique, program)


def _galvanostatic(step: EisStep, technique: Impedance, program: Program) -> Problem:
    place = step.source.child("amplitude") or step.source
    limit_A, amplitude_A = program.limits.current_max_A, technique.amplitude_A or 0.0
    density = format_quantity(limit_A / program.card.area_m2, "current density")
    bias = f" and a bias of {_amperes(technique.bias_A)}" if technique.bias_A else ""
    return place.problem(
        f"the amplitude is a current, so that the spectrum is galvanostatic; "
        f"{_amperes(amplitude_A)}{bias} exceeds the limit of {_amperes(limit_A)} ({density})",
        f'Did you mean a voltage, "{amplitude_A * 1e3:.4g} mV"?',
    )


def _at(step: ChannelStep | EisStep, message: str, cure: str = "") -> Problem:
    """Return a problem at the step's set point, where it has one, else at the step."""
    place = step.source.child("at") or step.source
    return place.problem(message, cure)


def _window(limits: Limits) -> str:
    return f"{limits.voltage_min_V:g} V to {limits.voltage_max_V:g} V"


def _amperes(current_A: float) -> str:
    return format_quantity(current_A, "current")


def _hertz(frequency_Hz: float) -> str:
    return format_quantity(frequency_Hz, "frequency")
