"""What must be true of a guard, whatever went wrong: looked at from outside, as in `checks`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tests.faults.computer import Death
from tests.faults.generate import BENCHES
from tests.faults.lab import Played
from tests.faults.scenario import Fault, Kind, Leak, Line, StuckValve, WrongForce

from cellbench.engine.history import RESUMED
from cellbench.store import JournalEntry

#: From the moment at which the guard notices to the open cell: it connects, and the channel aborts.
QUIET_S = {
    "palmsens": 2.0, "keithley": 2.0, "neware": 2.0, "maccor": 2.0, "biologic": 2.0
}  # fmt: skip
#: A guard that died is replaced within this time; one that lived shortly a little later.
REPLACED_S = 12.0
#: The time in the ledger is when the open cell was read back.
READ_BACK_S = 3.0
#: A press under a guard keeps its force, as far as its gauge can tell.
KEPT_N, KEPT_PART = 15.0, 0.05


def guard_violations(played: Played) -> Iterator[str]:
    """Everything that is wrong with what guards did."""
    yield from played.hosts.wrong
    for death in played.hosts.deaths:
        yield from _quiet(played, death)
        yield from _left_alone(played, death)
        yield from _pressed(played, death)
        yield from _folded(played, death)
    for lost_s, again_s in played.hosts.guards_lost_s:
        yield from _replaced(played, lost_s, again_s)


def _quiet(played: Played, death: Death) -> Iterator[str]:
    """The cell is open within the guard's stated time, unless the step goes on by itself."""
    if death.left_alone or math.isinf(death.notices_s):
        return
    driver = max(QUIET_S[each] for each in drivers(played))
    due_s = death.notices_s + driver
    targets = (*BENCHES[played.scenario.bench].channels, "multiplexer")
    if due_s >= min(death.back_s, death.guard_s) or unreachable(played, targets, death.at_s, due_s):
        return
    if (demand := demanded(played, due_s)) != "open":
        yield (
            f"the host died at {death.at_s:g} s, and the cell is under {demand} at {due_s:g} s"
            ", though there is a guard"
        )


def _left_alone(played: Played, death: Death) -> Iterator[str]:
    """What goes on by itself is not even connected to before its time."""
    for name, until_s in death.left_alone.items():
        end_s = min(until_s, death.back_s)
        touched = [
            time_s
            for time_s, reached in played.hosts.guard_reached
            if reached == name and death.at_s <= time_s < end_s
        ]
        if touched:
            yield f"the guard connected at {touched[0]:g} s to {name}, which goes on by itself"
    if death.left_alone and not all(driver == "neware" for driver in drivers(played)):
        can = {name for name, entry in played.session.file.instruments.items()
               if entry.driver == "neware"}  # fmt: skip
        if not set(death.left_alone) <= can:
            yield f"{', '.join(death.left_alone)}: was to go on by itself, and cannot"


def _pressed(played: Played, death: Death) -> Iterator[str]:
    """The press keeps its force as long as a guard is there."""
    end_s = min(death.back_s, death.guard_s, played.ended_s)
    from_s = death.notices_s + 10.0
    faults = played.scenario.faults
    if any(isinstance(each, Leak | StuckValve | WrongForce) for each in faults):
        return
    if unreachable(played, ("press",), death.at_s - 60.0, end_s):
        return
    looks = [each for each in played.seen.looks if from_s <= each.time_s <= end_s]
    if looks and abs(looks[-1].force_N - looks[0].force_N) > max(
        KEPT_N, KEPT_PART * looks[0].force_N
    ):
        yield (
            f"the press went from {looks[0].force_N:.0f} to {looks[-1].force_N:.0f} N "
            "though there is a guard"
        )


def _folded(played: Played, death: Death) -> Iterator[str]:
    """What the guard has read back stands in the journal, and bounds the gap."""
    if played.reader is None or death.left_alone or not death.clock_is_right:
        return
    due_s = death.notices_s + max(QUIET_S[each] for each in drivers(played)) + READ_BACK_S
    targets = (*BENCHES[played.scenario.bench].channels, "multiplexer")
    if due_s >= min(death.back_s, death.guard_s) or unreachable(played, targets, death.at_s, due_s):
        return
    since = _resumption(played, death)
    if not any(each.kind == "outcome" for each in since):
        return  # it did not come so far
    told = [each for each in since if each.kind == "guard" and "open_circuit_s" in each.data]
    if not told:
        yield f"what the guard did after {death.at_s:g} s is not in the journal"
        return
    open_s = told[0].data["open_circuit_s"]
    if (
        open_s is None
        or not opened_s(played, death.at_s) - 0.5 <= (open_s + played.hosts.started_s) <= due_s
    ):
        yield f"the guard opened the cell before {due_s:g} s, the journal says {open_s} s"
        return
    for gap in (each for each in since if each.kind == "gap" and "to_s" in each.data):
        if gap.data["to_s"] > open_s + 1e-6 and gap.data["from_s"] < open_s:
            yield f"a gap lasts to {gap.data['to_s']:g} s, the cell is open since {open_s:g} s"


def _replaced(played: Played, lost_s: float, again_s: float) -> Iterator[str]:
    """A guard that died is replaced, if its engine is there to do it."""
    ended = [each.at_s for each in played.hosts.deaths if each.at_s >= lost_s]
    end_s = min([*ended, played.ended_s - 900.0])
    if end_s > lost_s + REPLACED_S and again_s > lost_s + REPLACED_S:
        yield f"the guard that died at {lost_s:g} s was not replaced"


# --- Knowledge ----------------------------------------------------------------------------------


def _resumption(played: Played, death: Death) -> Sequence[JournalEntry]:
    """The entries of the next host after a death; empty if it made none."""
    assert played.reader is not None
    number = [each.at_s for each in played.hosts.deaths].index(death.at_s)
    later = [each.at_s for each in played.hosts.deaths[number + 1 :]]
    end_s = min([*later, math.inf]) - played.hosts.started_s
    found: list[JournalEntry] = []
    for entry in played.reader.journal:
        if entry.kind == RESUMED:
            if found:
                break
            if entry.time_s + played.hosts.started_s >= death.back_s - 1.0:
                found.append(entry)
        elif found and entry.time_s <= end_s:
            found.append(entry)
    return found


def demanded(played: Played, time_s: float) -> str:
    """What is imposed on the cell at a time of the bench; no current is as good as none."""
    kind = "open"
    for each in played.seen.imposed:
        if each.time_s > time_s:
            break
        kind = "open" if (each.kind, each.value) == ("current", 0.0) else each.kind
    return kind


def opened_s(played: Played, since_s: float) -> float:
    """When the cell was first open after a time, or that time if it was."""
    if demanded(played, since_s) == "open":
        return since_s
    times = [each.time_s for each in played.seen.imposed
             if each.time_s > since_s and (each.kind == "open" or each.value == 0.0)]  # fmt: skip
    return min(times, default=math.inf)


def drivers(played: Played) -> list[str]:
    """The drivers of all that can energise the cell."""
    entries = played.session.file.instruments
    return [entries[name].driver for name in BENCHES[played.scenario.bench].channels]


def unreachable(played: Played, targets: Sequence[str], from_s: float, to_s: float) -> bool:
    """Whether a fault may keep one of some instruments from being reached in a time."""
    return any(_hits(each, targets, from_s, to_s) for each in played.scenario.faults)


def _hits(fault: Fault, targets: Sequence[str], from_s: float, to_s: float) -> bool:
    if not isinstance(fault, Line) or fault.target not in targets:
        return False
    # What hits one message waits for it; what takes the line away is over at its time.
    lasting = fault.kind in {Kind.SILENT, Kind.PULLED}
    return fault.at_s <= to_s and (not lasting or from_s <= fault.at_s + fault.duration_s + 60.0)
