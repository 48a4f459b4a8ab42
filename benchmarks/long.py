"""The longest tests, as whole processes: plating and stripping for 1400 h, a hundred cycles at 1C.

Protocol, drivers, wire, engine, store, analysis and report, with pressure and temperature read as
often as the cell. The reference is a bare Python loop, timed just before: the ratio says how many
of its turns one sample costs, whatever else the machine is doing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from cellbench.store import RunReader

_CYCLES_AT_1C = """
cellbench: 1
name: Cycles at 1C
cell: NMC811_LYC_PMMA_Li
parameters: {cycles: 100}
conditions: {every: 10 s}
define:
  rows: {every: 10 s, sample: 10 s}
  most: 1.3 of nominal capacity
steps:
  - press: {to: 5 MPa, ramp: 0.5 MPa/s, settle: {within: 0.2 MPa, for: 1 min}}
  - repeat: $cycles
    steps:
      - charge: {at: 1C, until: potential >= 4.3 V vs Li+/Li, at most: $most, record: $rows}
      - discharge: {at: 1C, until: potential <= 3 V vs Li+/Li, at most: $most, record: $rows}
  - press: release
analyses: [capacity]
"""
#: Name, protocol (None: the text above), cycles in full and quick, the promise in seconds.
_CASES = (
    ("1400 h of plating and stripping, every 10 s", "symmetric_cycling", 1400, 14, 60.0),
    ("100 cycles at 1C, every 10 s", None, 100, 2, 30.0),
)
_TURNS = 5_000_000
_LOOK_EVERY_S = 0.1


def long(*, quick: bool) -> list[dict[str, Any]]:
    return [_measure(*case, quick=quick) for case in _CASES]


def _measure(
    name: str, protocol: str | None, full: int, short: int, promised_s: float, *, quick: bool
) -> dict[str, Any]:
    cycles = short if quick else full
    with tempfile.TemporaryDirectory() as directory:
        if protocol is None:
            path = Path(directory) / "cycles.yaml"
            path.write_text(_CYCLES_AT_1C, encoding="utf-8")
            protocol = str(path)
        command = ["run", protocol, "--set", f"cycles={cycles}", "--store", directory]
        turn_s = _turn_s()
        cpu_s, wall_s, peak = _watched([sys.executable, "-m", "cellbench", *command])
        samples, report = _samples(directory), next(Path(directory).glob("runs/*.html"))
        report_MB = report.stat().st_size / 1e6
    return {
        "case": name,
        "cycles": cycles,
        "samples": samples,
        "cpu_s": round(cpu_s, 1),
        "wall_s": round(wall_s, 1),
        "promised_s": None if quick else promised_s,
        "samples_per_cpu_s": round(samples / cpu_s),
        "turns_of_a_loop_per_sample": round(cpu_s / samples / turn_s),
        "peak_MB": round(peak / 1e6),
        "report_MB": round(report_MB, 2),
    }


def _turn_s() -> float:
    """What one turn of the bare loop takes, in CPU time."""
    started, total = time.process_time(), 0
    for number in range(_TURNS):
        total += number
    return (time.process_time() - started) / _TURNS


def _watched(command: list[str]) -> tuple[float, float, float]:
    """CPU time, wall time and peak resident memory (bytes) of a process."""
    started = time.perf_counter()
    cpu_s = peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                used = watched.cpu_times()
                cpu_s, peak = used.user + used.system, max(peak, watched.memory_info().rss)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                break
            time.sleep(_LOOK_EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return cpu_s, time.perf_counter() - started, peak


def _samples(directory: str) -> int:
    """How many samples of the channel the only run of a store has."""
    (path,) = Path(directory).glob("runs/*.sqlite")
    return len(RunReader(path).samples("potentiostat")["time_s"])
