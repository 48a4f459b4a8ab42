"""What a channel has to do: run what it lists, end it in time, lose nothing, open the cell."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Ending, EndingKind, Flag
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench.testing.checks import NonConformance, NotApplicable, check, demand
from cellbench.testing.common import require_quiet
from cellbench.testing.subject import Session, Subject

#: Looks at the truth, to see when the cell is let go.
_LOOK_S = 0.02
#: Rows that an instrument may be short of, or late by, at either end.
_ROWS_SLACK = 2
#: Without a host, an end by a watchdog has to come within this time.
_WATCHDOG_S = 900.0
#: Part of the usual current at which a taper ends; techniques that wait for an end are so much
#: longer than others.
_TAPER, _LONGER = 0.75, 6
#: A technique at the shortest interval takes so long, or so many rows.
_SHORT_S, _SHORT_ROWS = 0.5, 20
_COLUMNS = {"voltage": "voltage_V", "current": "current_A"}


@dataclass
class Record:
    """What a technique told, row by row, and the truth beside it.

    Attributes:
        time_s: Of each row.
        columns: Its values.
        ending: How it ended; None where the host had to end it.
        started_s: When it took hold of the cell.
        off_s: When the cell was let go, by the truth; nan where it is still held.
        open_circuit_V: Measured before the cell was closed, nan where it was not.
    """

    time_s: list[float] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    flags: list[int] = field(default_factory=list)
    ending: Ending | None = None
    started_s: float = math.nan
    off_s: float = math.nan
    open_circuit_V: float = math.nan

    def crossed_s(self, cut_offs: tuple[CutOff, ...]) -> float | None:
        """When a row first crossed one of the cut-offs, None if none did."""
        for at, time_s in enumerate(self.time_s):
            for cut_off in cut_offs:
                value = self.columns[_COLUMNS[cut_off.quantity]][at]
                value = abs(value) if cut_off.quantity == "current" else value
                if value >= cut_off.value if cut_off.above else value <= cut_off.value:
                    return time_s
        return None

    def take(self, block: Any) -> None:
        """Take a block, which has to be whole."""
        rows = len(block.time_s)
        demand(rows > 0, "a block without rows")
        demand(len(block.flags) == rows, f"{rows} rows with {len(block.flags)} flags")
        for name, values in block.columns.items():
            demand(len(values) == rows, f"{rows} rows with {len(values)} values of {name}")
            known = self.columns.setdefault(name, [math.nan] * len(self.time_s))
            known.extend(float(value) for value in values)
        steps = self.columns.get("step", [])
        for time_s in block.time_s:
            at = len(self.time_s)
            last_s = self.time_s[-1] if at else -math.inf
            # A cycler ends a step and begins the next at the same instant.
            turns = bool(steps) and at > 0 and steps[at] != steps[at - 1] and time_s == last_s
            demand(
                time_s > last_s or turns, f"a row at {time_s:.6g} s follows one at {last_s:.6g} s"
            )
            self.time_s.append(time_s)
        self.flags.extend(block.flags)


def interval_s(session: Session) -> float:
    """Interval of rows that the check asks for."""
    return max(session.amounts.interval_s, float(session.driver.capabilities.interval_min_s))


def direct_techniques(session: Session) -> dict[str, Technique]:
    """One mild technique of each kind that is not a spectrum."""
    amounts, each_s = session.amounts, interval_s(session)
    duration_s = max(amounts.duration_s, 10 * each_s)
    rest_V, change_V = amounts.rest_V, amounts.change_V
    return {
        "rest": Rest(duration_s=duration_s, interval_s=each_s),
        "constant current": ConstantCurrent(
            current_A=amounts.current_A, duration_s=duration_s, interval_s=each_s
        ),
        "constant voltage": ConstantVoltage(
            voltage_V=rest_V + change_V / 2,
            duration_s=duration_s,
            interval_s=each_s,
            current_range_A=10 * amounts.current_A,
        ),
        "sweep": Sweep(
            start_V=rest_V,
            vertices_V=(rest_V + change_V / 2,),
            end_V=rest_V,
            rate_V_per_s=change_V / duration_s,
            step_V=change_V / duration_s * each_s,
            current_range_A=10 * amounts.current_A,
        ),
    }


def spectrum(session: Session) -> Impedance:
    """A short spectrum within the band of the instrument."""
    highest, lowest = session.amounts.frequencies_Hz
    band = session.driver.capabilities.impedance
    if band is not None:
        highest, lowest = (
            min(highest, band.frequency_max_Hz), max(lowest, band.frequency_min_Hz)
        )  # fmt: skip
    return Impedance(
        frequency_max_Hz=highest, frequency_min_Hz=lowest, points_per_decade=3, amplitude_V=0.01
    )


@check("channel")
async def techniques_run_whole(subject: Subject) -> None:
    """Every technique listed runs to its end: rows in order, none lost, right, the cell open."""
    async with subject.session() as session:
        for name in direct_techniques(session):
            if name in session.driver.capabilities.techniques:
                await run_whole(session, name)


async def run_whole(session: Session, name: str) -> None:
    """Run one of the `direct_techniques`: its rows have to be whole and true."""
    technique = direct_techniques(session)[name]
    try:
        record = await record_of(session, technique)
        _require_whole(record, technique, interval_s(session))
        _require_true(record, technique, session)
    except (NonConformance, InstrumentError) as problem:
        raise NonConformance(f"{name}: {problem}") from problem


def _require_whole(record: Record, technique: Any, each_s: float) -> None:
    ending = record.ending
    demand(ending is not None, "its blocks end, and no ending says how")
    demand(
        ending is not None and ending.kind is EndingKind.COMPLETED, f"it did not complete: {ending}"
    )
    demand({"voltage_V", "current_A"} <= set(record.columns), f"columns {list(record.columns)}")
    duration_s, rows = technique.duration_s, len(record.time_s)
    demand(not math.isnan(record.started_s), "it does not say when it took hold of the cell")
    first_s, last_s = (record.time_s[at] - record.started_s for at in (0, -1))
    demand(-each_s <= first_s <= _ROWS_SLACK * each_s, f"its first row is from {first_s:.3g} s")
    demand(
        last_s >= duration_s - _ROWS_SLACK * each_s,
        f"its last row is from {last_s:.4g} s of {duration_s:.4g} s: the end is lost",
    )
    expected = duration_s / each_s
    demand(rows >= 0.9 * expected - _ROWS_SLACK, f"{rows} rows, not about {expected:.0f}")
    demand(not any(flag & Flag.MISSING for flag in record.flags), "rows are missing")
    demand(not math.isnan(record.off_s), "the cell is still energised after its end")
    if not isinstance(technique, Rest):
        held_s = record.off_s - record.started_s
        slack_s = _ROWS_SLACK * each_s + 1.0
        demand(
            abs(held_s - duration_s) <= slack_s,
            f"the cell is held {held_s:.4g} s, not {duration_s:.4g} s",
        )


def _require_true(record: Record, technique: Technique, session: Session) -> None:
    """Compare what was controlled with what was asked for."""
    amounts, able = session.amounts, session.driver.capabilities
    voltages, currents = record.columns["voltage_V"], record.columns["current_A"]
    off_A = amounts.exactness * abs(amounts.current_A) + 5 * able.current_min_A
    off_V = amounts.exactness * amounts.change_V + 5 * able.voltage_noise_V
    inner = slice(1, -1)  # at either end an instrument may show the cell before or after
    match technique:
        case Rest():
            demand(max(map(abs, currents)) <= off_A, "a current flows at rest")
            demand(abs(voltages[-1] - amounts.rest_V) <= off_V, f"it rests at {voltages[-1]:.4g} V")
        case ConstantCurrent():
            worst = max(currents[inner], key=lambda found: abs(found - technique.current_A))
            demand(
                abs(worst - technique.current_A) <= off_A,
                f"a current of {worst:.4g} A, not {technique.current_A:.4g} A",
            )
            demand(voltages[-1] > voltages[1], "a positive current lowers the voltage")
        case ConstantVoltage():
            worst = max(voltages[inner], key=lambda found: abs(found - technique.voltage_V))
            demand(
                abs(worst - technique.voltage_V) <= off_V,
                f"a voltage of {worst:.4g} V, not {technique.voltage_V:.4g} V",
            )
        case Sweep():
            turn_V = technique.vertices_V[0]
            step_V = technique.rate_V_per_s * technique.interval_s
            demand(
                abs(max(voltages) - turn_V) <= off_V + _ROWS_SLACK * step_V,
                f"it turns at {max(voltages):.4g} V, not {turn_V:.4g} V",
            )


@check("channel")
async def shortest_interval_is_kept(subject: Subject) -> None:
    """At the shortest interval that it claims, rows come that often, or say that they are late."""
    async with subject.session() as session:
        each_s = float(session.driver.capabilities.interval_min_s)
        technique = ConstantCurrent(
            current_A=session.amounts.current_A,
            duration_s=max(_SHORT_S, _SHORT_ROWS * each_s),
            interval_s=each_s,
        )
        record = await record_of(session, technique)
        demand(
            record.ending is not None and record.ending.kind is EndingKind.COMPLETED,
            f"it did not complete: {record.ending}",
        )
        rows, expected = len(record.time_s), technique.duration_s / each_s
        told = any(flag & (Flag.LATE | Flag.MISSING) for flag in record.flags)
        demand(told or rows >= 0.8 * expected, f"{rows} rows, not about {expected:.0f}, unflagged")


@check("channel")
async def unlisted_technique_is_refused(subject: Subject) -> None:
    """A technique that is not listed is refused before anything is sent."""
    async with subject.session() as session:
        able = session.driver.capabilities
        techniques: dict[str, Technique] = direct_techniques(session)
        techniques["impedance"] = spectrum(session)
        unlisted = [each for name, each in techniques.items() if name not in able.techniques]
        if not unlisted:
            raise NotApplicable("it lists every technique there is")
        for technique in unlisted:
            await require_refused(session, technique)


@check("channel")
async def out_of_range_is_refused(subject: Subject) -> None:
    """What is beyond its ranges is refused before anything is sent."""
    async with subject.session() as session:
        able, each_s = session.driver.capabilities, interval_s(session)
        beyond_V, beyond_A = 1.5 * able.voltage_max_V + 1, 1.5 * able.current_max_A
        below_V = able.voltage_min_V - 0.5 * abs(able.voltage_min_V) - 1
        wide = ElectricalLimits(
            voltage_min_V=2 * below_V, voltage_max_V=2 * beyond_V, current_max_A=2 * beyond_A
        )
        wrong: list[Technique] = [
            ConstantCurrent(current_A=beyond_A, duration_s=10, interval_s=each_s),
            ConstantCurrent(current_A=-beyond_A, duration_s=10, interval_s=each_s),
            ConstantVoltage(voltage_V=beyond_V, duration_s=10, interval_s=each_s),
            ConstantVoltage(voltage_V=below_V, duration_s=10, interval_s=each_s),
            Sweep(start_V=0, end_V=beyond_V, rate_V_per_s=1.0, step_V=each_s),
            Rest(duration_s=10, interval_s=able.interval_min_s / 10),
        ]
        for technique in wrong:
            if technique.technique in able.techniques:
                await require_refused(session, technique, wide)
        await require_quiet(session)


async def require_refused(
    session: Session, technique: Technique, limits: ElectricalLimits | None = None
) -> None:
    """Ask for something that must not be begun."""
    sent = session.line.sent
    try:
        async with session.driver.run(technique, limits or session.amounts.limits):
            raise NonConformance(f"it begins {technique!r}")
    except InstrumentError:
        demand(not session.energised(), f"the cell is on after the refusal of {technique!r}")
        demand(session.line.sent == sent, f"it sends something before it refuses {technique!r}")


@check("channel")
async def cut_off_voltage_ends_it(subject: Subject) -> None:
    """A cut-off on the voltage ends a constant current within the reaction time."""
    async with subject.session() as session:
        cut_off = _voltage_cut_off(session)
        record = await record_of(session, _long(session, "constant current", cut_off), (cut_off,))
        _require_ended(session, record, (cut_off,), EndingKind.CUT_OFF)


@check("channel")
async def cut_off_current_ends_it(subject: Subject) -> None:
    """A taper current ends a constant voltage within the reaction time."""
    async with subject.session() as session:
        cut_off = _taper(session)
        record = await record_of(session, _long(session, "constant voltage", cut_off), (cut_off,))
        _require_ended(session, record, (cut_off,), EndingKind.CUT_OFF)


@check("channel")
async def limit_trips(subject: Subject) -> None:
    """A voltage limit that is reached trips, or is not passed."""
    async with subject.session() as session:
        limit_V = session.amounts.rest_V + session.amounts.change_V / 2
        limits = session.amounts.limits.model_copy(update={"voltage_max_V": limit_V})
        technique = _long(session, "constant current")
        trip = CutOff(quantity="voltage", above=True, value=limit_V)
        record = await record_of(session, technique, (trip,), limits)
        ending = record.ending
        highest_V, slack_V = max(record.columns["voltage_V"]), _slack_V(session, record)
        demand(highest_V <= limit_V + slack_V, f"{highest_V:.4g} V over a limit of {limit_V:.4g} V")
        if ending is not None and ending.kind is not EndingKind.COMPLETED:
            demand(ending.kind is EndingKind.TRIPPED, f"a limit was reached, and it ends: {ending}")
        demand(not math.isnan(record.off_s), "the cell is energised after a trip")


def _slack_V(session: Session, record: Record) -> float:
    """How far the voltage gets within the reaction time, and what noise adds."""
    voltages, times = record.columns["voltage_V"], record.time_s
    able = session.driver.capabilities
    slope = abs(voltages[-1] - voltages[1]) / (times[-1] - times[1]) if len(times) > 2 else 0.0
    noise_V = 5 * able.voltage_noise_V + session.amounts.exactness * session.amounts.change_V
    return float(slope * (able.reaction.total_s + 2 * interval_s(session)) + noise_V)


@check("channel")
async def ends_without_its_host(subject: Subject) -> None:
    """What is claimed to end on the device does so while its host is silent."""
    async with subject.session() as session:
        able = session.driver.capabilities
        claims = sorted(able.on_device)
        if able.bounded_without_host and "duration" not in claims:
            claims.append("bounded")
    if not claims:
        raise NotApplicable("it claims to end nothing without its host")
    for claim in claims:
        await _require_end_alone(subject, claim)


async def _require_end_alone(subject: Subject, claim: str) -> None:
    """Run a technique twice, the second time in silence: the cell has to be let go as early."""
    async with subject.session() as session:
        technique, watched = _ended_by(claim, session)
        record = await record_of(session, technique, watched)
        within_s = record.off_s - record.started_s + 2 * interval_s(session)
        within_s += float(session.driver.capabilities.reaction.total_s)
    if claim == "bounded":
        within_s += _WATCHDOG_S
    async with subject.session() as session:
        async with session.driver.run(technique, session.amounts.limits) as running:
            async for _ in running:
                break
            session.line.silent = True
            await asyncio.sleep(within_s)
            held = session.energised()
            session.line.heal()
        demand(
            not held, f"{claim}: with a silent host the cell is still held after {within_s:.4g} s"
        )
        await require_quiet(session)


def _ended_by(claim: str, session: Session) -> tuple[Technique, tuple[CutOff, ...]]:
    match claim:
        case "voltage":
            cut_off = _voltage_cut_off(session)
            return _long(session, "constant current", cut_off), (cut_off,)
        case "current":
            cut_off = _taper(session)
            return _long(session, "constant voltage", cut_off), (cut_off,)
        case _:
            return direct_techniques(session)["constant current"], ()


def _voltage_cut_off(session: Session) -> CutOff:
    value_V = session.amounts.rest_V + session.amounts.change_V / 2
    return CutOff(quantity="voltage", above=True, value=value_V)


def _taper(session: Session) -> CutOff:
    return CutOff(quantity="current", above=False, value=_TAPER * session.amounts.current_A)


def _long(session: Session, name: str, *cut_offs: CutOff) -> Technique:
    """A technique that goes on until something ends it."""
    if name not in session.driver.capabilities.techniques:
        raise NotApplicable(f"it has no {name}")
    technique = direct_techniques(session)[name]
    assert not isinstance(technique, Sweep | Impedance)  # noqa: S101 (asked for by name)
    longer = {"duration_s": _LONGER * technique.duration_s, "cut_offs": cut_offs}
    return technique.model_copy(update=longer)


async def record_of(
    session: Session,
    technique: Technique,
    watched: tuple[CutOff, ...] = (),
    limits: ElectricalLimits | None = None,
) -> Record:
    """Run a technique as an engine does, which leaves it at the first row that crosses."""
    record = Record()
    watch = asyncio.ensure_future(_note_when_off(session, record))
    try:
        async with session.driver.run(technique, limits or session.amounts.limits) as running:
            async for block in running:
                record.take(block)
                if len(record.time_s) == len(block.time_s):
                    record.started_s = running.started_s
                if record.crossed_s(watched) is not None and not _ends_alone(session, watched):
                    break
            record.ending = running.ending
            record.open_circuit_V = running.open_circuit_V
    finally:
        watch.cancel()
    if math.isnan(record.off_s) and not session.energised():
        record.off_s = asyncio.get_running_loop().time()
    return record


def _ends_alone(session: Session, watched: tuple[CutOff, ...]) -> bool:
    return all(each.quantity in session.driver.capabilities.on_device for each in watched)


async def _note_when_off(session: Session, record: Record) -> None:
    """Look at the truth until the cell, once held, is let go."""
    now = asyncio.get_running_loop().time
    held = False
    while True:
        energised = session.energised()
        if held and not energised:
            record.off_s = now()
        elif energised:
            record.off_s = math.nan
        held = energised
        await asyncio.sleep(_LOOK_S)


def _require_ended(
    session: Session, record: Record, cut_offs: tuple[CutOff, ...], kind: EndingKind
) -> None:
    """See that it ended at a crossing, for that reason, and soon enough."""
    able, each_s = session.driver.capabilities, interval_s(session)
    demand(not math.isnan(record.off_s), "the cell is still energised after its end")
    crossed_s = record.crossed_s(cut_offs)
    if crossed_s is None:
        crossed_s = record.time_s[-1]
        demand(
            record.ending and record.ending.kind is kind, f"no row crosses, and: {record.ending}"
        )
    late_s = record.off_s - crossed_s
    allowed_s = float(able.reaction.total_s) + each_s
    demand(late_s <= allowed_s, f"the cell is let go {late_s:.3g} s late, not {allowed_s:.3g} s")
    if _ends_alone(session, cut_offs):
        demand(record.ending and record.ending.kind is kind, f"it ends otherwise: {record.ending}")
