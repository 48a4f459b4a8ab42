"""A guard on the simulated bench: the same coroutine, as a second host on the same loop.

Its engine is another host there, which can be killed; whoever kills it hangs up the guard's line.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cellbench.bench import BenchFile, SimulatedBench
from cellbench.engine.guard.guarding import Reaction, guard
from cellbench.engine.guard.ledger import Ledger, Utc
from cellbench.engine.guard.messages import Message, Watch
from cellbench.engine.guard.piped import GuardGone
from cellbench.engine.reach import ReachableBench, Site
from cellbench.engine.session import SIMULATED_DATE


def simulated_utc() -> datetime:
    """What time it is on the simulated bench."""
    return SIMULATED_DATE + timedelta(seconds=asyncio.get_running_loop().time())


class SimulatedGuard:
    """A guard's host. Make it outside of the engine's host, so that it does not end with that.

    Args:
        file: The bench file.
        simulator: The bench, or a host of its own on it.
        end_engine: Kills the engine's host.
        utc: What time its computer believes it is.

    Attributes:
        name: For people.
        asker: Who asks for the bench, None while nobody does.
        deaf: Whether nothing that the engine says arrives, as if its loop hung.
        task: The guard at work, once it is started.
    """

    def __init__(
        self,
        file: BenchFile,
        simulator: SimulatedBench,
        end_engine: Callable[[], Awaitable[str]],
        utc: Utc = simulated_utc,
    ) -> None:
        self.name = "a second host"
        self.asker: str | None = None
        self.deaf = False
        self.task: asyncio.Task[None] | None = None
        self._file, self._simulator, self._end_engine = file, simulator, end_engine
        self._utc = utc
        self._told: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_hung_up = False
        self._context = copy_context()

    def start(self, watch: Watch) -> SimulatedGuard:
        """Begin to listen; what a `Keeper` starts. Raises GuardGone for a host that is dead."""
        if self._is_hung_up:
            raise GuardGone("listens to nobody any more")
        work = guard(
            self,
            _Engine(self._end_engine),
            ReachableBench(Site(self._file, "guard", simulator=self._simulator)),
            self._ledger(Path(watch.ledger)),
            Reaction(watch.silence_s, watch.electrical),
            lambda: self.asker,
        )
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(work, name="guard", context=self._context)
        return self

    def _ledger(self, path: Path) -> Ledger:
        """What it writes in."""
        return Ledger(path, self._utc)

    # --- As the engine sees it ------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Tell it something; raises GuardGone."""
        self.check()
        if not self.deaf:
            self._told.put_nowait(message)

    def check(self) -> None:
        """See that it is there; raises GuardGone."""
        if self._is_hung_up or self.task is None or self.task.done():
            raise GuardGone("has ended")

    async def end(self, busy_s: float) -> None:  # noqa: ARG002 (as a process)
        """Wait until it has ended."""
        if self.task is not None and not self._is_hung_up:
            await self.task

    def hang_up(self, after_s: float = 0.0) -> None:
        """Close the engine's end of the pipe, as an operating system does when it is killed.

        Args:
            after_s: When the guard comes to notice; infinite for an engine that hangs for ever,
                whose pipe is silent and stays open.
        """
        self._is_hung_up = True
        if math.isfinite(after_s):
            loop = asyncio.get_running_loop()
            loop.call_later(after_s, self._told.put_nowait, None)

    # --- As it sees the engine ------------------------------------------------------------------

    async def next(self) -> Message | None:
        """See `cellbench.engine.guard.messages.Messages`."""
        return await self._told.get()


@dataclass(frozen=True)
class _Engine:
    """The engine's host, as something that can be ended."""

    end: Callable[[], Awaitable[str]]
