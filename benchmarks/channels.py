"""Many channels recorded fast, in real time, by one ``cellbench run``: what is lost, late and used.

    python benchmarks/channels.py [--channels 100] [--seconds 60] [--rate 10] [--keep DIRECTORY]
    python benchmarks/channels.py --growth [--plot docs/images/channels.svg]

Potentiostats (PalmSens) are emulated in other processes and reached over TCP; each charges a cell
of NMC811 with a constant current and prints a row every 0.1 s by its own clock. What is missing is
told by those times, what is late by when a row was handed to the store, beside the row of the same
run that was handed over soonest. Processor time and memory are those of the time in which all
channels record. Ctrl-C ends the runs, and tells of what there is until then.

``--growth`` does 10 to 200 channels for half a minute each, and draws what they cost.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from watched import arrivals, commits

from cellbench.store import Store
from cellbench.store.reader import RunReader

_CELL = "NMC811_LYC_PMMA_Li"
_PROTOCOL = f"""
cellbench: 1
name: Charge at C/10, recorded fast
cell: {_CELL}
parameters: {{length: 1 h, every: 0.1 s}}
steps:
  - charge: {{at: 18 mA/g, for: $length, record: {{every: $every, sample: $every}}}}
"""
_STEP = "charge"
_GROWTH = (10, 25, 50, 100, 150, 200)
#: Channels that one process emulates.
_EMULATED = 100
#: Between two looks at the processes.
_LOOK_S = 1.0
#: So long after the last run has begun, and before the first ends, all are at work and no more.
_MARGIN_S = 1.0
#: What runs that begin one after the other are given for each, so that there is such a time.
_BEGIN_S = 0.3
#: What runs that were interrupted may take to end and to be reported.
_ENDED_S = 300.0
_BY_ITSELF = "by itself"
_KINDS = ("owner's loop", "owner's other threads", "guard", "emulators")


def channels(*, quick: bool) -> list[dict[str, Any]]:
    return [measured(5, 3.0, 10.0)] if quick else [measured(100, 60.0, 10.0)]


def measured(
    count: int, seconds: float, rate_Hz: float, keep: Path | None = None
) -> dict[str, Any]:
    """Record so many channels for so long, all at once, and return what is to be told."""
    length_s = seconds + _BEGIN_S * count
    with _directory(keep) as directory, _emulated(directory, count) as (emulators, bench):
        looks, ended = _recorded(directory, bench, emulators, length_s, rate_Hz)
        programmed = {"ended": ended, "rows_programmed": round(count * length_s * rate_Hz)}
        return _told(directory, looks, count, rate_Hz) | programmed


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
    else:
        keep.mkdir(parents=True)
        yield keep


# --- Processes ------------------------------------------------------------------------------------


@contextmanager
def _emulated(directory: Path, count: int) -> Iterator[tuple[list[psutil.Process], dict[str, Any]]]:
    """Emulate channels; yields their processes, and the bench file to reach all of them."""
    servers = [
        _server(directory, range(first, min(first + _EMULATED, count)))
        for first in range(0, count, _EMULATED)
    ]
    try:
        benches = [_described(each) for each in servers]
        bench = {
            **benches[0],
            "instruments": {n: entry for b in benches for n, entry in b["instruments"].items()},
            "cells": {name: place for each in benches for name, place in each["cells"].items()},
        }
        yield [psutil.Process(each.pid) for each in servers], bench
    finally:
        for each in servers:
            _end(each)


def _server(directory: Path, numbers: Sequence[int]) -> subprocess.Popen[str]:
    path = directory / f"served {numbers[0]}.yaml"
    entry = {"driver": "palmsens", "port": "simulated", "f_max": "1 MHz"}
    bench = {
        "bench": "channels",
        "instruments": {f"c{number}": entry for number in numbers},
        "cells": {f"A{number}": {"card": _CELL, "channel": f"c{number}"} for number in numbers},
    }
    path.write_text(json.dumps(bench), encoding="utf-8")
    command = [sys.executable, "-m", "cellbench", "sim", "serve", "--port", "0", "--json"]
    return subprocess.Popen(
        [*command, "--bench", str(path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _described(server: subprocess.Popen[str]) -> dict[str, Any]:
    assert server.stdout is not None
    text = ""
    for line in server.stdout:
        text += line
        if line.startswith("}"):
            break
    bench: dict[str, Any] = json.loads(text)["bench"]
    return bench


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process that was started here, politely if it lets us."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass
class Look:
    """Processor time (s) and memory (bytes) of each kind of process, at a moment (s, monotonic)."""

    at_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    all_cpu_s: float = 0.0


def _recorded(
    directory: Path,
    bench: Mapping[str, Any],
    emulators: Sequence[psutil.Process],
    length_s: float,
    rate_Hz: float,
) -> tuple[list[Look], str]:
    """Run the protocol at all places; returns looks at it, and how it ended."""
    (directory / "bench.yaml").write_text(json.dumps(bench), encoding="utf-8")
    (directory / "protocol.yaml").write_text(_PROTOCOL, encoding="utf-8")
    command = [
        *(sys.executable, str(Path(__file__).parent / "watched.py"), str(directory)),
        *("run", str(directory / "protocol.yaml"), "--bench", str(directory / "bench.yaml")),
        *("--cell", ",".join(bench["cells"]), "--store", str(directory / "store"), "--json"),
        *("--set", f"length={length_s:g} s", "--set", f"every={1 / rate_Hz:g} s"),
    ]
    looks: list[Look] = []
    ended = _BY_ITSELF
    with (directory / "owner.txt").open("wb") as said:
        owner = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            while owner.poll() is None:
                looks += _look(psutil.Process(owner.pid), emulators)
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            ended = "interrupted"
            print("interrupted: the runs end now", file=sys.stderr)
            owner.send_signal(signal.SIGINT)
            owner.wait(timeout=_ENDED_S)
        finally:
            _end(owner)
    return looks, ended


def _look(owner: psutil.Process, emulators: Sequence[psutil.Process]) -> list[Look]:
    """Look at all processes; at none where one has just ended."""
    look = Look(time.monotonic())
    try:
        guards = owner.children()
        threads = {each.id: each.user_time + each.system_time for each in owner.threads()}
        loop_s = threads.get(owner.pid, next(iter(threads.values())))
        cpu_s = (loop_s, _cpu_s([owner]) - loop_s, _cpu_s(guards), _cpu_s(emulators))
        look.cpu_s = dict(zip(_KINDS, cpu_s, strict=True))
        of = {"owner": [owner], "guard": guards, "emulators": emulators}
        look.bytes = {name: sum(p.memory_info().rss for p in of[name]) for name in of}
    except psutil.NoSuchProcess:
        return []
    busy = psutil.cpu_times()
    look.all_cpu_s = busy.user + busy.system + busy.nice + getattr(busy, "softirq", 0.0)
    return [look]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


# --- What came of it ------------------------------------------------------------------------------


def _told(directory: Path, looks: Sequence[Look], count: int, rate_Hz: float) -> dict[str, Any]:
    with Store(directory / "store") as store:
        paths = [store.run_path(run.id) for run in store.runs()]
    rows = [times_s for path in paths if len(times_s := _times_s(path)) > 1]
    arrived, made = arrivals(directory), commits(directory)
    if not rows or not len(arrived):
        said = (directory / "owner.txt").read_text("utf-8", "replace")
        raise SystemExit(f"no row was recorded: {said[-2000:]}")
    begin_s, end_s = _steady_s(arrived)
    steady = [each for each in looks if begin_s <= each.at_s <= end_s]
    expected = sum(_expected(each, rate_Hz) for each in rows)
    stored = sum(map(len, rows))
    late_s = _late_s(arrived[_within(arrived, begin_s, end_s)])
    steady_commits = made[_within(made, begin_s, end_s)]
    return {
        "channels": count,
        "recorded": len(rows),
        "s": round(end_s - begin_s, 1),
        "rows_expected": expected,
        "rows_stored": stored,
        "rows_missing": expected - stored,
        "commits_per_s": round(len(steady_commits) / max(end_s - begin_s, 1e-9)),
        "commit_ms": _spread_ms(steady_commits["commit_s"]),
        "commit_with_rows_ms": _spread_ms(steady_commits["write_s"]),
        "sampling_jitter_ms": _spread_ms(np.concatenate([_jitter_s(t, rate_Hz) for t in rows])),
        "arrival_late_ms": _spread_ms(late_s),
        **_used(steady, count),
    }


def _times_s(path: Path) -> NDArray[np.float64]:
    """Times of a run's rows, in the order in which they were recorded."""
    reader = RunReader(path)
    step = next((n for n, (step_path, _) in reader.steps.items() if _STEP in step_path), None)
    rows = [] if step is None else reader.rows_of_step(step, reader.sources())
    return np.array([row[0] for row in rows])


def _expected(times_s: NDArray[np.float64], rate_Hz: float) -> int:
    """Rows that the instrument has taken, by its own clock: from its first to its last."""
    return round(float(times_s[-1] - times_s[0]) * rate_Hz) + 1


def _jitter_s(times_s: NDArray[np.float64], rate_Hz: float) -> NDArray[np.float64]:
    """How far each row lies from its place on the run's grid."""
    off_s = times_s - np.round((times_s - times_s[0]) * rate_Hz) / rate_Hz
    return np.asarray(np.abs(off_s - np.median(off_s)))


def _steady_s(arrived: NDArray[Any]) -> tuple[float, float]:
    """From when on, and until when, rows of all runs came in.

    All the time, where there was no such: of a computer that is too slow, or an early interruption.
    """
    runs = [arrived["at_s"][arrived["run"] == run] for run in np.unique(arrived["run"])]
    begin_s = max(each[0] for each in runs) + _MARGIN_S
    end_s = min(each[-1] for each in runs) - _MARGIN_S
    if begin_s < end_s:
        return begin_s, end_s
    return float(arrived["at_s"].min()), float(arrived["at_s"].max())


def _within(noted: NDArray[Any], begin_s: float, end_s: float) -> NDArray[np.bool_]:
    return np.asarray((noted["at_s"] >= begin_s) & (noted["at_s"] <= end_s))


def _late_s(arrived: NDArray[Any]) -> NDArray[np.float64]:
    """How much later than the soonest of its run each row was handed to the store."""
    after_s = arrived["at_s"] - arrived["time_s"]
    runs = (after_s[arrived["run"] == run] for run in np.unique(arrived["run"]))
    return np.concatenate([each - each.min() for each in runs])


def _spread_ms(values_s: NDArray[Any]) -> dict[str, float]:
    if not len(values_s):
        return {}
    parts = {"p50": 0.5, "p99": 0.99, "worst": 1.0}
    return {name: round(float(np.quantile(values_s, q)) * 1e3, 2) for name, q in parts.items()}


def _used(looks: Sequence[Look], count: int) -> dict[str, Any]:
    """Cores that each kind of process takes, and what of them falls on a channel."""
    if len(looks) < 2:
        return {}
    first, last = looks[0], looks[-1]
    passed_s = last.at_s - first.at_s
    cores = {kind: (last.cpu_s[kind] - first.cpu_s[kind]) / passed_s for kind in _KINDS}
    others = (last.all_cpu_s - first.all_cpu_s) / passed_s - sum(cores.values())
    longest_s = max(after.at_s - before.at_s for before, after in pairwise(looks))
    return {
        "cores": {kind: round(value, 3) for kind, value in cores.items()},
        "cores_of_others": round(others, 2),
        "ms_per_channel_and_s": {k: round(v / count * 1e3, 2) for k, v in cores.items()},
        "MB": {name: round(value / 1e6) for name, value in last.bytes.items()},
        "kB_per_channel": {n: round(value / count / 1e3) for n, value in last.bytes.items()},
        "longest_between_looks_s": round(longest_s, 2),
    }


# --- Growth ---------------------------------------------------------------------------------------


def growth(seconds: float, counts: Sequence[int] = _GROWTH) -> Iterator[dict[str, Any]]:
    """Measure with more and more channels; the last row tells how far that is from straight."""
    rows = []
    for count in counts:
        rows.append(measured(count, seconds, 10.0))
        yield rows[-1]
        if rows[-1]["ended"] != _BY_ITSELF:
            return
    yield {f"line: {name}": _line(rows, of) for name, of in _COSTS.items()}


def _cores(row: Mapping[str, Any], *kinds: str) -> float:
    return float(sum(row["cores"][kind] for kind in kinds))


#: What of a measurement is looked at as it grows.
_COSTS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "owner, cores": lambda row: _cores(row, *_KINDS[:2]),
    "its loop, cores": lambda row: _cores(row, _KINDS[0]),
    "guard, cores": lambda row: _cores(row, _KINDS[2]),
    "emulators, cores": lambda row: _cores(row, _KINDS[3]),
    "owner, MB": lambda row: float(row["MB"]["owner"]),
    "guard, MB": lambda row: float(row["MB"]["guard"]),
}


def _line(
    rows: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], float]
) -> dict[str, float]:
    """A straight line through a cost, and how far off the farthest is, as a part of the largest."""
    counts, costs = np.array([row["channels"] for row in rows]), np.array([of(row) for row in rows])
    slope, start = np.polyfit(counts, costs, 1)
    off = np.abs(costs - (start + slope * counts)).max() / costs.max()
    found = {"at_0": start, "per_100_channels": 100 * slope, "farthest_off": off}
    return {name: round(float(value), 4) for name, value in found.items()}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw costs over channels, each with its line."""
    from matplotlib.figure import Figure  # of the test extra

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    counts = np.array([row["channels"] for row in rows])
    for axes, unit in zip(figure.subplots(1, 2), ("cores", "MB"), strict=True):
        for name, of in _COSTS.items():
            what, _, in_unit = name.rpartition(", ")
            if in_unit == unit:
                line = _line(rows, of)
                (drawn,) = axes.plot(
                    counts, line["at_0"] + line["per_100_channels"] * counts / 100, linewidth=1
                )
                costs = [of(row) for row in rows]
                axes.plot(counts, costs, "o", color=drawn.get_color(), label=what)
        axes.set_xlabel("channels at 10 Hz")
        axes.set_ylabel("processor cores" if unit == "cores" else "memory / MB")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--channels", type=int, default=100)
    arguments.add_argument("--seconds", type=float, help="in which all record; 60, of a growth 30")
    arguments.add_argument("--rate", type=float, default=10.0, help="rows per second and channel")
    arguments.add_argument("--keep", type=Path, help="a directory to be made, for all files")
    arguments.add_argument("--quick", action="store_true", help="a few channels for a few seconds")
    arguments.add_argument("--growth", action="store_true", help="10 to 200 channels")
    arguments.add_argument("--plot", type=Path, help="draw the growth there: .svg, .png")
    chosen = arguments.parse_args()
    # Asked to end, it ends its runs and tells what it has; so do its processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if chosen.growth:
        rows = []
        for row in growth(chosen.seconds or 30.0):
            _print(row)
            rows.append(row)
        measurements = [row for row in rows if "channels" in row]
        if chosen.plot is not None and len(measurements) > 1:
            draw(measurements, chosen.plot)
    elif chosen.quick:
        _print(*channels(quick=True))
    else:
        _print(measured(chosen.channels, chosen.seconds or 60.0, chosen.rate, chosen.keep))


def _print(*rows: Mapping[str, Any]) -> None:
    for row in rows:
        for name, value in row.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            print(f"{name:<24}" + "   ".join(f"{part} {each}".strip() for part, each in parts))
        print(flush=True)


if __name__ == "__main__":
    main()
