"""Whole processes: start-up of each command, the ccd run, overhead per run, memory.

The reference of each is a bare script that imports the same libraries and does nothing: what is
above it is ours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

_HELP = "import typer, rich"
_CHECK = "import typer, rich, pydantic, pint, ruamel.yaml, numpy, pymodbus.pdu, serial"
_RUN = _CHECK + ", scipy.optimize, sqlmodel, jinja2"

_NOTHING_TO_DO = """
cellbench: 1
name: As short as a run can be
cell: LYC_PMMA
steps:
  - rest: 1 s
"""

#: Name, arguments of cellbench, the bare script beside it, the promise in seconds.
_COMMANDS = (
    ("cellbench --help", ["--help"], _HELP, 0.25),
    ("cellbench check ccd", ["check", "ccd"], _CHECK, 0.8),
    ("cellbench run, one second's rest", ["run", "{short}"], _RUN, None),
    ("cellbench run ccd", ["run", "ccd", "--seed", "7"], _RUN, 5.0),
)


def processes(repeats: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        short = Path(directory) / "short.yaml"
        short.write_text(_NOTHING_TO_DO)
        rows = []
        for name, arguments, bare, promise_s in _COMMANDS:
            filled = [argument.format(short=short) for argument in arguments]
            command = [sys.executable, "-m", "cellbench", *filled]
            ours, reference, memory = _paired(
                command, [sys.executable, "-c", bare], Path(directory), repeats
            )
            rows.append(
                {
                    "command": name,
                    "median_s": round(ours, 3),
                    "bare_script_s": round(reference, 3),
                    "ratio": round(ours / reference, 2),
                    "peak_MB": round(memory / 1e6),
                    "promised_s": promise_s,
                }
            )
        return rows


def _paired(
    command: list[str], reference: list[str], store: Path, repeats: int
) -> tuple[float, float, float]:
    """Median times of both, in turn so that a change of the machine's speed meets both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    memory = 0.0
    for index in range(repeats + 1):
        for place, each in enumerate((command, reference)):
            seconds, peak = _timed(each, store)
            memory = max(memory, peak if place == 0 else 0.0)
            if index:  # the first pass warms the caches
                times[place].append(seconds)
    return statistics.median(times[0]), statistics.median(times[1]), memory


def _timed(command: list[str], store: Path) -> tuple[float, float]:
    """Wall time and peak resident memory (bytes) of a process."""
    started = time.perf_counter()
    with subprocess.Popen(
        [*command], stdout=subprocess.DEVNULL, env=_environment(store)
    ) as process:
        watched = psutil.Process(process.pid)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(0.002)
        seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, peak


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0.0


def _environment(store: Path) -> dict[str, str]:
    import os

    return {**os.environ, "CELLBENCH_STORE": str(store)}
