"""The closing lines of a run: what it found, what was not as planned, whether all is safe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cellbench.analysis.dataset import Dataset, Result
from cellbench.places import WITHIN
from cellbench.report.conditions import mean_and_range, measured_interval_s
from cellbench.report.record import Record
from cellbench.report.wording import clock, count, described, title_of
from cellbench.store import IMPORTED, Run, RunReader


def result_lines(
    run: Run,
    reader: RunReader,
    dataset: Dataset,
    results: Mapping[str, Result],
    report: Path | None = None,
) -> list[str]:
    """What a person reads when a run has ended.

    Args:
        run: The run's entry in the catalogue.
        reader: Its file.
        dataset: Its data.
        results: What the analyses returned, by name.
        report: Where the HTML report is, named at the end.
    """
    record = Record(reader, run)
    lines = _stopped(record)
    heading, findings = _findings(dataset, results)
    lines += [f"{run.protocol} of {record.layout}" + (f"   {heading}" if heading else "")]
    lines += [f"  {line}" for line in findings]
    return [*lines, _closing(record, report)]


def _stopped(record: Record) -> list[str]:
    """What ended a run before its time, and what became of each instrument; else nothing."""
    if record.run.state in {"completed", "running", IMPORTED}:
        return []
    trip = record.trip
    where = f" at {clock(record.duration_s)}"
    if trip is not None:
        where = f" at {clock(trip.time_s)}" + (f" in {trip.step}" if trip.step else "")
    states = [
        f"  {entry.text}: {'confirmed' if entry.data.get('confirmed') else 'NOT CONFIRMED'}"
        for entry in record.safe_states
    ]
    return [f"{record.run.state}{where}: {record.run.reason}", *states]


def _findings(dataset: Dataset, results: Mapping[str, Result]) -> tuple[str, list[str]]:
    """The conditions for the heading, and the lines under it."""
    heading, lines = "", []
    for name, result in results.items():
        told = list(described(name, result))
        if name == "ccd" and told:  # its first line says the conditions that its verdict hangs on
            heading, *told = told
        if WITHIN in name:
            lines.append(f"{title_of(name)}:")
        lines += told
    return heading or _conditions(dataset), lines


def _conditions(dataset: Dataset) -> str:
    interval_s, samples = measured_interval_s(dataset), dataset.samples
    pressure_Pa = mean_and_range(samples.stack_pressure, interval_s)
    temperature_K = mean_and_range(samples.temperature, interval_s)
    parts = []
    if pressure_Pa is not None:
        mean, low, high = (value / 1e6 for value in pressure_Pa)
        steady = high - low <= 0.1 * abs(mean)
        parts.append(f"{mean:.1f} MPa" if steady else f"{low:.1f} to {high:.1f} MPa")
    if temperature_K is not None:
        parts.append(f"{temperature_K[0] - 273.15:.1f} °C")
    return "   ".join(parts)


def _closing(record: Record, report: Path | None) -> str:
    parts = [count(len(record.deviations), "deviation")]
    if record.warnings:
        parts.append(count(len(record.warnings), "warning"))
    if record.gaps:
        parts.append(f"{count(len(record.gaps), 'gap')} ({record.unseen_s:.3g} s not seen)")
    parts += [f"{record.counts.missing} samples missing", _safety(record)]
    ends = [", ".join(parts) + ".", f"cellbench show {record.run.id}"]
    if report is not None:
        ends.insert(1, str(report))
    return "   ".join(ends)


def _safety(record: Record) -> str:
    if record.run.state == "running":
        return "still running"
    if record.run.state == IMPORTED:
        return f"imported {record.run.reason}"
    if record.safe:
        return "everything in its safe state"
    unknown = [entry.text for entry in record.safe_states if not entry.data.get("confirmed")]
    return f"NOT CONFIRMED SAFE ({'; '.join(unknown) or 'no safe state was entered'})"
