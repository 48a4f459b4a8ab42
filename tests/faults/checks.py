"""What must be true of every scenario, whatever went wrong in it.

Looked at from outside: on the physics, on the wires, and in the run's file. Each check yields what
it finds wrong, as a person reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from tests.faults.checks_guard import demanded, guard_violations
from tests.faults.generate import BENCHES, FULL
from tests.faults.injector import Imposed
from tests.faults.lab import Played
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
    Short,
    StuckValve,
    WrongForce,
    name_of,
)

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.engine.causes import RunState
from cellbench.engine.run import RunEnd
from cellbench.engine.technique import SKIPPED
from cellbench.errors import CellbenchError
from cellbench.instruments.readings import Flag
from cellbench.store import JournalEntry

#: Instruments' accuracy, as a part of the charge that went through and per second of the run.
CHARGE_PART, CHARGE_A, CHARGE_C = 3e-3, 2e-7, 2e-4
#: Time that a spectrum takes besides its points, with the cell open or not.
SPECTRUM_S = 1.0
#: A source's compliance lies a little beyond the limit, which the host then sees crossed.
COMPLIANCE = 1.05
#: A trip by the host is an open cell within this, where the channel can be reached.
REACTION_S = 3.0
#: Recorded rows of a step may lie so much further apart than its longest interval.
_SLACK_S = 1.0
#: Instruments tell times as single-precision numbers.
_TIME_S = 1e-3
_VISIBLE = {"gap", "resumed", "interrupted", "held", "went on", "attached", "trouble", "overcome"}


def violations(played: Played) -> list[str]:
    """Everything that is wrong with a scenario that was played."""
    return [
        *_bench(played),
        *_commands(played),
        *_ending(played),
        *_reaction(played),
        *_steps(played),
        *_charge(played),
        *_times(played),
        *_visible(played),
        *_goes_on(played),
        *guard_violations(played),
    ]


# --- The bench ----------------------------------------------------------------------------------


def _bench(played: Played) -> Iterator[str]:
    if played.bench_error:
        yield f"the bench broke: {played.bench_error}"
    for text in played.unhandled:
        yield f"nobody looked at: {text}"
    if played.stalled:
        yield "the run came to a standstill"
    for each in played.hosts.ends:
        if isinstance(each, Exception) and not isinstance(each, CellbenchError):
            yield f"a host ended with {type(each).__name__}: {each}"
        elif isinstance(each, RunEnd) and each.reason.startswith("internal error"):
            yield each.reason


def _commands(played: Played) -> Iterator[str]:
    """No command outside limits is ever issued; bounds are in force before energising."""
    limits = played.session.program.limits
    most_A = limits.current_max_A * COMPLIANCE
    for each, until_s in _imposed(played):
        if until_s <= each.time_s:
            continue  # a reset, and what follows it in one message
        if each.kind == "current" and abs(each.value) > most_A:
            yield f"{each.value:g} A was driven at {each.time_s:g} s, limit {most_A:g} A"
        window = limits.voltage_min_V - 0.01 <= each.value <= limits.voltage_max_V + 0.01
        if each.kind == "voltage" and not window:
            yield f"{each.value:g} V was applied at {each.time_s:g} s"
    highest_Pa = limits.pressure_max_Pa
    if highest_Pa is not None:
        most_N = highest_Pa * played.session.card.stack_area_m2 * 1.001
        for force_N in played.seen.forces_N:
            if force_N > most_N:
                yield f"the press was told {force_N:g} N, limit {most_N:g} N"
    yield from played.seen.unbounded


def _imposed(played: Played) -> Iterator[tuple[Imposed, float]]:
    """What was imposed on the cell, each until when."""
    imposed = played.seen.imposed
    for each, after in pairwise(imposed):
        yield each, after.time_s
    if imposed:
        yield imposed[-1], math.inf


def _ending(played: Played) -> Iterator[str]:
    """After the end the cell is at open circuit, or the outcome says unknown."""
    end = played.end
    if end is None or not isinstance(played.hosts.ends[-1], RunEnd):
        return
    channels = set(_channels(played))
    known = all(each.confirmed for each in end.outcomes if each.instrument in channels)
    if known and not played.open_at_end:
        yield "the cell is energised after the end of the run, which says that it is not"


def _reaction(played: Played) -> Iterator[str]:
    """After a trip the cell is open within the reaction time."""
    channels = _channels(played)
    for entry in _journal(played):
        if entry.kind != "trip":
            continue
        at_s = played.hosts.started_s + entry.time_s
        if any(_is_near(fault, at_s, channels) for fault in played.scenario.faults):
            continue
        if (demand := demanded(played, at_s + REACTION_S)) != "open":
            told = f"{REACTION_S:g} s after the trip at {entry.time_s:g} s"
            yield f"{told}: the cell is under {demand}"


def _is_near(fault: Fault, at_s: float, channels: Sequence[str]) -> bool:
    """Whether a fault may keep a channel from being reached around a time of the run."""
    if isinstance(fault, Kill | DeafGuard):
        return True  # the run's time is another one then
    if not isinstance(fault, Line) or fault.target not in (*channels, "multiplexer"):
        return False
    return fault.at_s - 1.0 <= at_s <= fault.at_s + fault.duration_s + 60.0


# --- The run's file -----------------------------------------------------------------------------


def _steps(played: Played) -> Iterator[str]:
    """Each planned step has one terminal entry, in order, none left out before the last."""
    end = played.end
    if end is None:
        return
    endings: dict[str, list[str]] = {}
    starts: list[str] = []
    for entry in _journal(played):
        if entry.kind == "step started" and entry.step not in starts:
            starts.append(entry.step)
        if entry.kind == "step ended":
            endings.setdefault(entry.step, []).append(entry.data["ending"])
    terminal = [path for path, found in endings.items() if found[-1] != INTERRUPTED]
    for path, found in endings.items():
        again = [each for each in found[:-1] if each != INTERRUPTED]
        if again:
            yield f"{path} has ended more than once: {found}"
    own = [path for path in terminal if "/every[" not in path]
    unknown = [path for path in own if path not in played.planned]
    if unknown:
        yield f"steps that nobody planned: {unknown}"
        return
    if own != sorted(own, key=played.planned.index):
        yield f"steps ended out of their order: {own}"
    wanted = _without_passes(played.planned, own)
    if end.state is RunState.COMPLETED and own != wanted:
        yield f"left out: {[path for path in wanted if path not in own]}"
    elif own != wanted[: len(own)]:
        yield f"a step before the last was left out: {own}"
    if end.state is RunState.COMPLETED:
        yield from _left_open(endings)


def _left_open(endings: dict[str, list[str]]) -> Iterator[str]:
    """What was interrupted is taken up, but within a step that was skipped."""
    open_within = [path for path, found in endings.items() if found[-1] == INTERRUPTED]
    skipped = {path for path, found in endings.items() if found[-1] == SKIPPED}
    for path in open_within:
        if path.partition("/every[")[0] not in skipped:
            yield f"{path} was interrupted and never taken up"


_PASS = re.compile(r"^(.*)\[(\d+)\]/")


def _without_passes(planned: Sequence[str], own: Sequence[str]) -> list[str]:
    """What is planned, without the passes that loops with a condition did not come to."""
    had: dict[str, int] = {}
    for path in own:
        found = _PASS.match(path)
        if found:
            had[found[1]] = max(had.get(found[1], 0), int(found[2]))
    kept = []
    for path in planned:
        found = _PASS.match(path)
        if found and int(found[2]) > had.get(found[1], 10**6):
            continue
        kept.append(path)
    return kept


def _charge(played: Played) -> Iterator[str]:
    """What the journal counts, gaps between their bounds, encloses what physically passed."""
    if played.end is None or played.reader is None:
        return
    rows: Sequence[Any] = played.reader.all_rows  # type: ignore[attr-defined]
    channels = _channels(played)
    journal = _journal(played)
    low = high = through = 0.0
    open_steps: dict[str, JournalEntry] = {}
    last_of: dict[str, tuple[float, float, float]] = {}
    number_of = {number: path for number, (path, _) in played.reader.steps.items()}
    for row in rows:
        if row[1] in channels and row[5] is not None:
            last_of[number_of.get(row[2], "")] = (row[0], row[4] or 0.0, row[5])
    for entry in journal:
        if entry.kind == "step started":
            open_steps[entry.step] = entry
        elif entry.kind == "step ended":
            charge_C = entry.data["results"].get("charge_C", 0.0)
            low, high, through = low + charge_C, high + charge_C, through + abs(charge_C)
            open_steps.pop(entry.step, None)
        elif entry.kind == "gap":
            data = entry.data
            low += data["charge_min_C"] - data["charge_C"]
            high += data["charge_max_C"] - data["charge_C"]
            if entry.step in open_steps:
                open_steps[entry.step].data["gap_C"] = (
                    open_steps[entry.step].data.get("gap_C", 0.0) + data["charge_C"]
                )
    for path in open_steps:
        if path in last_of and not any(path.startswith(f"{each}/") for each in open_steps):
            _, last_A, charge_C = last_of[path]
            unseen_C = abs(last_A) * (2 * _usual_interval_s(played, path) + REACTION_S)
            low += charge_C - unseen_C
            high += charge_C + unseen_C
            through += abs(charge_C)
    slack_C = CHARGE_PART * through + CHARGE_A * played.ended_s + CHARGE_C
    if not low - slack_C <= played.passed_C <= high + slack_C:
        slack_C += _between_rows_C(rows, channels) + _in_spectra_C(played, last_of)
    if not low - slack_C <= played.passed_C <= high + slack_C:
        yield (
            f"{played.passed_C * 1e3:.4g} mC have passed, the run says {low * 1e3:.4g} to "
            f"{high * 1e3:.4g} mC (accuracy {slack_C * 1e3:.2g} mC)"
        )


def _between_rows_C(rows: Sequence[Any], channels: Sequence[str]) -> float:
    """What nobody can know of rows: between two of them the current was somewhere between."""
    unknown_C = 0.0
    last: dict[tuple[str, int], tuple[float, float]] = {}
    for time_s, source, step, _, current_A, *_ in rows:
        if source not in channels or current_A is None:
            continue
        before_s, before_A = last.get((source, step), (time_s, current_A))
        unknown_C += 0.5 * abs(current_A - before_A) * (time_s - before_s)
        last[source, step] = time_s, current_A
    return unknown_C


def _in_spectra_C(played: Played, last_of: Mapping[str, tuple[float, float, float]]) -> float:
    """What nobody measures: how long exactly a hold's current went on through its spectra."""
    holds = [each.step.partition("/every[")[0] for each in _journal(played)
             if each.kind == "spectrum" and "/every[" in each.step]  # fmt: skip
    return sum(abs(last_of[path][1]) * SPECTRUM_S for path in holds if path in last_of)


def _times(played: Played) -> Iterator[str]:
    """Times never run backwards."""
    journal = _journal(played)
    for before, after in pairwise(journal):
        if after.time_s < before.time_s or after.seq != before.seq + 1:
            told = f"entry {after.seq} at {after.time_s:g} s follows {before.seq}"
            yield f"{told} at {before.time_s:g} s"
    # The time of a technique is that of its first reply, which nobody can tell to be late.
    late_s = {fault.target: fault.duration_s for fault in played.scenario.faults
              if isinstance(fault, Line) and fault.kind is Kind.LATE}  # fmt: skip
    latest: dict[str, float] = {}
    for row in played.reader.all_rows if played.reader else ():  # type: ignore[attr-defined]
        time_s, source = row[0], row[1]
        if time_s < latest.get(source, -1.0) - _TIME_S - late_s.get(source, 0.0):
            yield f"{source}: a row of {time_s:.3f} s follows one of {latest[source]:.3f} s"
            latest[source] = time_s
        latest[source] = max(time_s, latest.get(source, -1.0))


def _visible(played: Played) -> Iterator[str]:
    """Where rows are missing, the run's file says so."""
    if played.reader is None:
        return
    journal = _journal(played)
    told_s = [entry.time_s for entry in journal if entry.kind in _VISIBLE]
    edges = [entry for entry in journal if entry.kind in {"step started", "step ended"}]
    told_s += [entry.time_s for entry in edges if "/every[" in entry.step]
    last: dict[tuple[str, int], float] = {}
    channels = _channels(played)
    for row in played.reader.all_rows:  # type: ignore[attr-defined]
        time_s, source, step_id, flags = row[0], row[1], row[2], row[8]
        if source not in channels:
            continue
        before_s = last.get((source, step_id))
        last[source, step_id] = time_s
        path = played.reader.steps.get(step_id, ("", ""))[0]
        if before_s is None or flags & (Flag.MISSING | Flag.LATE):
            continue
        if time_s - before_s > 1.6 * _interval_s(played) + _SLACK_S and not any(
            before_s - 1.0 <= each <= time_s + 1.0 for each in told_s
        ):
            yield f"{path}: nothing from {before_s:.1f} to {time_s:.1f} s, and nothing says so"


def _goes_on(played: Played) -> Iterator[str]:
    """A run that should go on does."""
    if played.end is not None and played.end.state is RunState.COMPLETED:
        return
    if all(_must_be_overcome(played, fault) for fault in played.scenario.faults):
        said = played.end.reason if played.end else f"{played.hosts.ends[-1:]}"
        yield f"it should have come to its end: {said}"


# --- Knowledge ----------------------------------------------------------------------------------


def _must_be_overcome(played: Played, fault: Fault) -> bool:
    """Whether a run that meets this fault (and a person who resumes it) comes to its end."""
    match fault:
        case Line(kind=Kind.FLIPPED | Kind.NOISE):
            return False  # a wrong number may make sense
        case Line():
            return True
        case Ask(what="skip") if played.scenario.cell == FULL:
            return False  # a charge that is left out is missing in the discharge
        case Kill() | DeafGuard() | Ask() | FullDisk():
            return True
        case BrokenSensor() | Leak() | StuckValve() | Short() | WrongForce():
            return False


def _channels(played: Played) -> Sequence[str]:
    return BENCHES[played.scenario.bench].channels


def _journal(played: Played) -> Sequence[JournalEntry]:
    return () if played.reader is None else played.reader.journal


_EVERY = re.compile(r"record: \{every: (\d+) s\}")


def _interval_s(played: Played) -> float:
    """The longest interval at which any step is recorded; nan for a shipped protocol."""
    found = [float(each) for each in _EVERY.findall(played.scenario.text)]
    return max(found, default=math.nan if played.scenario.protocol else 1.0)


def _usual_interval_s(played: Played, path: str) -> float:
    """The same of one step, by what mostly lies between two of its rows."""
    if not played.scenario.protocol:
        return _interval_s(played)
    assert played.reader is not None
    numbers = {number for number, (name, _) in played.reader.steps.items() if name == path}
    channels, rows = _channels(played), played.reader.all_rows  # type: ignore[attr-defined]
    times_s = [row[0] for row in rows if row[1] in channels and row[2] in numbers]
    return float(median([later - earlier for earlier, later in pairwise(times_s)] or [1.0]))


__all__ = ["name_of", "violations"]
