"""Make the recordings beside this file anew: short runs on emulators served by another process.

    python tests/recordings/remake.py [--speed 20] [NAME]...

``cellbench sim serve`` runs the emulators at a multiple of real time, the host runs at the same
one, and what goes over TCP ports and pseudo-terminals between them has the jitter of real time.
POSIX.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellbench.clock import RealLoop
from cellbench.engine.evaluation import evaluate
from cellbench.engine.recorded import recording_of, write_recording
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conducted
from cellbench.store import Store

sys.path.append(str(Path(__file__).parents[2]))
from tests.serving import served

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Wanted:
    """A run to record; ``terminals`` are the instruments that are reached by pseudo-terminal."""

    protocol: str
    cell: str
    sets: Sequence[str]
    terminals: Sequence[str] = ()


RUNS = {
    "ccd_tcp": Wanted(
        "ccd",
        "LYC_PMMA",
        ("currents=0.1, 0.5, 2, 5 mA/cm2", "half_cycle=30 s", "rest=20 s", "relax=10 s"),
    ),
    "pellet_conductivity_pty": Wanted(
        "pellet_conductivity",
        "LYC_PMMA_blocking",
        ("equilibrate=2 min",),
        ("potentiostat", "load cell", "chamber"),
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--speed", type=float, default=20.0)
    arguments.add_argument("names", nargs="*", default=list(RUNS))
    chosen = arguments.parse_args()
    for name in chosen.names:
        path = HERE / f"{name}.recording"
        record(RUNS[name], chosen.speed, path)
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB\n")


def record(wanted: Wanted, speed: float, path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        served("--cell", wanted.cell, "--speed", str(speed)) as answer,
        Store(Path(directory)) as store,
    ):
        bench = answer["bench"]
        for name, instrument in bench["instruments"].items():
            places = answer["addresses"][name]
            instrument["port"] = places[1] if name in wanted.terminals else places[0]
        bench_path = Path(directory) / "bench.yaml"
        bench_path.write_text(json.dumps(bench, indent=2))
        session = prepare(wanted.protocol, bench=bench_path, sets=wanted.sets)
        with asyncio.Runner(loop_factory=lambda: RealLoop(speed)) as runner:
            end = runner.run(conducted(session, store, record=True))
        if end.exit_code:
            raise SystemExit(f"{wanted.protocol} ended: {end.reason}")
        evaluation = evaluate(store, end.run, session.card)
        write_recording(recording_of(end.run, evaluation.reader, evaluation.results), path)


if __name__ == "__main__":
    main()
