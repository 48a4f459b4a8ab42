"""What journal and safety cost of a long run: the same run with them, and with neither.

Without them means: no entry is made or waited for, and no reading is compared with a limit, a
verdict or a second instrument. Everything else is the same, in turn, in one process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cellbench.engine.environment import Environment
from cellbench.engine.journal import Journal
from cellbench.engine.limits import LimitWatch
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.engine.verdicts import Verdicts
from cellbench.store import Store

_PROTOCOL = "symmetric_cycling"


def safety(*, quick: bool) -> list[dict[str, Any]]:
    cycles, repeats = (10, 1) if quick else (100, 5)
    _run(2)  # what the first run of a process costs is none of either
    seconds: dict[str, list[float]] = {"journal and safety": [], "neither": []}
    for _ in range(repeats):
        seconds["journal and safety"].append(_run(cycles))
        with _without():
            seconds["neither"].append(_run(cycles))
    whole, bare = (statistics.median(each) for each in seconds.values())
    return [
        {
            "run": f"{_PROTOCOL}, {cycles} cycles",
            "cpu_s": round(whole, 2),
            "without_s": round(bare, 2),
            "part_of_the_run_percent": round(100 * (whole - bare) / whole, 1),
        }
    ]


def _run(cycles: int) -> float:
    """CPU time of all threads for one run in virtual time."""
    session = prepare(_PROTOCOL, sets=[f"cycles={cycles}"])
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Store(Path(directory)) as store,
    ):
        started = time.process_time()
        end = conduct(session, store)
        seconds = time.process_time() - started
    if end.exit_code:
        raise SystemExit(f"{_PROTOCOL} ended with {end.reason}")
    return seconds


@contextmanager
def _without() -> Iterator[None]:
    def nothing(*_: object, **__: object) -> None:
        return

    async def nothing_soon(*_: object, **__: object) -> None:
        return

    with ExitStack() as stack:
        for owner, name in (
            (LimitWatch, "electrical"),
            (LimitWatch, "pressure"),
            (LimitWatch, "temperature"),
            (Environment, "_compare"),
            (Verdicts, "row"),
            (Verdicts, "step_ended"),
            (Journal, "enter_soon"),
        ):
            stack.enter_context(patch.object(owner, name, nothing))
        stack.enter_context(patch.object(Journal, "enter", nothing_soon))
        stack.enter_context(patch.object(Verdicts, "holds", lambda *_: False))
        yield
