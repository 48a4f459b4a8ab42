"""What takes long to work out: done in a process of its own, bounded in time, kept for the next.

A fit, or a text that somebody has pasted, can neither block the server nor outlive its time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from cellbench.errors import CellbenchError, InputError

#: Processes at once, and how many may wait for their turn.
_AT_ONCE, _WAITING = 2, 16
_KEPT = 64
#: What was worked out of a run under way is good for so long, whatever has been added since.
FRESH_S = 15.0


class Busy(CellbenchError):
    """Too much is being worked out: come back later."""


@dataclass
class _Kept:
    task: asyncio.Task[Any]
    version: Hashable
    begun_s: float


class WorkedOut:
    """Works out jobs of `cellbench.web.jobs`, each once at a time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Hashable, ...], _Kept] = OrderedDict()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def of(self, job: str, *about: str, version: Hashable, most_s: float) -> Any:
        """What a job gives of a run; worked out again when the version is another.

        Raises:
            CellbenchError: What the job says, or that it takes too long.
        """
        key, now_s = (job, *about), time.monotonic()
        kept = self._kept.get(key)
        old = kept is None or (kept.version != version and now_s - kept.begun_s > FRESH_S)
        if kept is None or old or _failed(kept.task):
            task = asyncio.create_task(self.once(job, *about, most_s=most_s))
            task.add_done_callback(_failed)  # whoever has gone need not hear of it
            kept = self._kept[key] = _Kept(task, version, now_s)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        # Whoever asked may go away; others wait for the same.
        return await asyncio.shield(kept.task)

    async def once(self, job: str, *arguments: Any, most_s: float) -> Any:
        """What a job gives; errors as of `of`."""
        if self._waiting >= _WAITING:
            raise Busy("the server is busy with other work: try again in a moment")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(_run, job, arguments, most_s)
        finally:
            self._waiting -= 1


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _run(job: str, arguments: tuple[Any, ...], most_s: float) -> Any:
    try:
        done = subprocess.run(  # noqa: S603 (our own module)
            [sys.executable, "-m", "cellbench.web.jobs", job],
            input=json.dumps(arguments).encode(),
            capture_output=True,
            timeout=most_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"this takes longer than {most_s:g} s, and was given up") from None
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CellbenchError(f"{job} was not worked out: {text}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["done"]
