"""What it costs to record a run of ten hours, how large its log is, and how fast it replays.

The reference is the same run without a recording: the ratios are to it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from cellbench.engine.recorded import Recording, recording_of, write_recording
from cellbench.engine.replay import replay
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.store import RunReader, Store

_PROTOCOL = """
cellbench: 1
name: Ten hours, a sample each second
cell: LYC_PMMA
parameters: {duration: 5 h}
steps:
  - press: {to: 5 MPa, ramp: 0.5 MPa/s, settle: {within: 0.2 MPa, for: 1 min}}
  - current: {at: 0.1 mA/cm2, for: $duration, record: {every: 1 s}}
  - current: {at: -0.1 mA/cm2, for: $duration, record: {every: 1 s}}
  - press: release
"""
_PROMISED_S = 5.0


def replaying(*, quick: bool) -> list[dict[str, Any]]:
    hours = 0.5 if quick else 10.0
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory) / "store") as store:
        path = Path(directory) / "ten_hours.yaml"
        path.write_text(_PROTOCOL, encoding="utf-8")
        sets = [f"duration={hours / 2} h"]
        _run(path, sets, store, record=False)  # imports and caches
        plain_s, _ = _run(path, sets, store, record=False)
        recorded_s, recording = _run(path, sets, store, record=True)
        assert recording is not None
        file = Path(directory) / "run.recording"
        write_recording(recording, file)
        rows = []
        for mode, by_meaning in (("strict", False), ("lenient", True)):
            started = time.perf_counter()
            replayed = replay(recording, by_meaning=by_meaning)
            seconds = time.perf_counter() - started
            if replayed.found is not None:
                raise SystemExit(f"an unchanged run diverges: {replayed.found}")
            rows.append(
                {
                    "case": f"{hours:g} h, {mode}",
                    "frames": replayed.frames,
                    "replay_s": round(seconds, 2),
                    "promised_s": None if quick else _PROMISED_S,
                    "ratio_to_run": round(seconds / plain_s, 2),
                    "ratio_of_recording_to_run": round(recorded_s / plain_s, 2),
                    "exported_kB": round(file.stat().st_size / 1e3),
                }
            )
    return rows


def _run(
    path: Path, sets: list[str], store: Store, *, record: bool
) -> tuple[float, Recording | None]:
    session = prepare(str(path), sets=sets, seed=1)
    started = time.perf_counter()
    end = conduct(session, store, record=record)
    seconds = time.perf_counter() - started
    if end.exit_code:
        raise SystemExit(end.reason)
    if not record:
        return seconds, None
    return seconds, recording_of(end.run, RunReader(store.run_path(end.run.id)))


if __name__ == "__main__":
    for row in replaying(quick=False):
        print(row)
