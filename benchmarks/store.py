"""The store at size: a long run compacted, read, expanded, backed up; each beside a reference.

    python benchmarks/store.py [--quick] [--json]

The reference of a size is the run's SQLite file; of reading, the same from that file; of a backup,
a plain copy of the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cellbench.store import JournalEntry, Run, RunReader, RunWriter, SampleRow, Store
from cellbench.store.backup import backup
from cellbench.store.check import check
from cellbench.store.compact import compact, expand, size_of
from cellbench.web.traces import Overview

_ROWS_AT_ONCE = 20_000


def store(*, quick: bool) -> list[dict[str, Any]]:
    rows = 100_000 if quick else 1_000_000
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Store(Path(directory) / "store") as opened,
    ):
        run = _long_run(opened, rows)
        path = opened.run_path(run.id)
        plain_B = size_of(path)
        before = _read(path)
        compact_s = _timed(lambda: compact(opened, run))
        small_B = size_of(path)
        after = _read(path)
        check_s = _timed(lambda: list(check(opened)))
        expand_s = _timed(lambda: expand(opened, run))
        copy_s = _timed(lambda: shutil.copyfile(path, Path(directory) / "copy"))
        backup_s = _timed(lambda: backup(opened, Path(directory) / "backup"))
        again_s = _timed(lambda: backup(opened, Path(directory) / "backup"))
    size = {"run of rows": rows, "what": "size, SQLite : Parquet", "MB": round(plain_B / 1e6, 1)}
    return [
        size | {"compacted_MB": round(small_B / 1e6, 1), "ratio": round(plain_B / small_B, 1)},
        *(_told(rows, f"{what}, compacted", after[what], before[what]) for what in _READERS),
        _told(rows, "compact", compact_s, before["all columns"]),
        _told(rows, "expand", expand_s, before["all columns"]),
        _told(rows, "check, compacted", check_s, before["all columns"]),
        _told(rows, "backup, beside a plain copy", backup_s, copy_s),
        _told(rows, "backup again", again_s, copy_s),
    ]


def _told(rows: int, what: str, seconds: float, reference_s: float) -> dict[str, Any]:
    ms, ratio = round(1e3 * seconds, 1), round(seconds / reference_s, 2)
    return {"run of rows": rows, "what": what, "cpu_ms": ms, "ratio_to_reference": ratio}


_READERS: dict[str, Callable[[Path], object]] = {
    "all columns": lambda path: RunReader(path).samples("potentiostat"),
    "block by block": lambda path: sum(1 for _ in RunReader(path).blocks()),
    "first view of a page": lambda path: Overview(path).cut(None, None, 750),
    "spark": lambda path: RunReader(path).spark("voltage_V", 60),
}


def _read(path: Path) -> dict[str, float]:
    return {what: _timed(partial(read, path)) for what, read in _READERS.items()}


def _timed(work: Callable[[], object]) -> float:
    """Processor seconds: whatever else the computer does is not in them, nor waiting for a disk."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _long_run(opened: Store, rows: int) -> Run:
    run = opened.register(protocol="long", cell="c", bench="b", simulated=True, seed=1)

    async def main() -> None:
        writer = RunWriter(opened.run_path(run.id), durable=False)
        writer.add_step(1, "cycle", "current")
        await writer.add_documents(dict.fromkeys(("cell", "environment", "protocol"), "{}"))
        made = _samples(rows)
        while block := list(islice(made, _ROWS_AT_ONCE)):
            writer.add_samples(block)
            await writer.flush()
        kinds, data = ("run started", "run ended"), {"state": "completed"}
        await writer.add_entries(
            JournalEntry(seq=seq, time_s=float(rows * seq), utc=run.started, kind=kind, data=data)
            for seq, kind in enumerate(kinds)
        )
        await writer.close()

    asyncio.run(main())
    opened.finish(run, "completed", "every step has ended")
    return run


def _samples(rows: int) -> Iterator[SampleRow]:
    """Cycles of an hour each, with an instrument's noise and steps: one row a second."""
    noise = random.Random(1)  # noqa: S311 (no secret)
    charge_C = 0.0
    for second in range(rows):
        time_s = round(second + 1e-2 * noise.random(), 3)
        if second % 10 == 8:
            yield time_s, "load cell", 1, None, None, None, 390 + noise.gauss(0, 0.2), None, 0, None
        elif second % 10 == 9:
            kelvin = 298 + round(noise.gauss(0, 0.1), 1)
            yield time_s, "chamber", 1, None, None, None, None, kelvin, 0, None
        else:
            within = second % 3600 / 3600
            current_A = (1e-3 if second // 3600 % 2 else -1e-3) + round(noise.gauss(0, 1e-7), 9)
            charge_C = current_A * 3600 * within
            volts = round(3.7 + 1.2 * charge_C + noise.gauss(0, 2e-5), 6)
            yield time_s, "potentiostat", 1, volts, current_A, charge_C, None, None, 0, None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="100,000 rows")
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    chosen = arguments.parse_args()
    results = store(quick=chosen.quick)
    if chosen.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
        return
    for row in results:
        print("  " + "   ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
