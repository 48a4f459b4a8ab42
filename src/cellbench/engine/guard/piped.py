"""A guard as a process of its own, from the engine's side: started, and told through a pipe.

Nothing here waits: a guard that does not listen hangs nobody.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from cellbench.engine.guard.ledger import errors_path, forget_empty, is_closed
from cellbench.engine.guard.messages import Message, Over, Watch, to_line
from cellbench.engine.guard.processes import start_apart
from cellbench.system import never_wait

#: How long a guard may take to end when there is nothing left to guard.
_END_S = 10.0
_LOOK_S = 0.02
#: What waits for a guard to listen: it may be starting, while many runs begin.
_UNHEARD_BYTES_MAX = 1_000_000


class GuardGone(Exception):
    """A guard has ended, or does not listen; the message says how, as the end of a sentence."""


class PipedGuard:
    """A guard's process.

    Args:
        watch: What it is told first, of one run.

    Attributes:
        name: For people.

    Raises:
        GuardGone: It cannot be started.
    """

    def __init__(self, watch: Watch) -> None:
        self._run = watch.run
        self._unheard = bytearray()
        self._errors = errors_path(Path(watch.ledger))
        try:
            self._process = start_apart(
                [sys.executable, "-m", "cellbench.engine.guard"], self._errors
            )
        except OSError as error:
            raise GuardGone(f"cannot be started ({error.strerror or error})") from error
        self.name = f"process {self._process.pid}"
        assert self._process.stdin is not None  # noqa: S101 (it was asked for)
        self._pipe = self._process.stdin
        self.send(watch)
        never_wait(self._pipe.fileno())

    def send(self, message: Message, run: str = "") -> None:
        """Tell it something, of another run than its first where one is named.

        Raises:
            GuardGone: It will not hear it; its process is ended by now.
        """
        self._unheard += to_line(run or self._run, message)
        try:
            while self._unheard and (taken := os.write(self._pipe.fileno(), self._unheard)):
                del self._unheard[:taken]
        except BlockingIOError:
            pass  # the pipe is full
        except OSError as error:
            self.kill()
            raise GuardGone(f"has ended (exit code {self._process.returncode})") from error
        if len(self._unheard) > _UNHEARD_BYTES_MAX:
            self.kill()
            raise GuardGone("does not listen any more, and was ended")

    def check(self) -> None:
        """See that it is there; raises like `send`."""
        if self._process.poll() is not None:
            self.kill()
            raise GuardGone(f"has ended (exit code {self._process.returncode})")

    def kill(self) -> None:
        """End it at once: were the pipe closed alone, it would take this process for lost."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._pipe.close()

    async def end(self, busy_s: float) -> None:
        """Wait until it has ended; see `cellbench.engine.guard.keeper.Guarding`."""
        try:
            async with asyncio.timeout(busy_s + _END_S):
                while self._process.poll() is None:
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            pass  # it is ended all the same
        self.kill()
        forget_empty(self._errors)


class GuardOfMany:
    """One guard's process for all runs of an owner; `start` is what each run's `Keeper` starts."""

    def __init__(self) -> None:
        self._process: PipedGuard | None = None
        self._runs: set[str] = set()

    def start(self, watch: Watch) -> GuardOfOne:
        """Have a run guarded by the process that there is, or by a new one.

        Raises:
            GuardGone: There can be none.
        """
        process = self._process
        if process is not None:
            try:
                process.check()
                process.send(watch, watch.run)
            except GuardGone:
                process = None
        if process is None:
            self._runs.clear()
            process = self._process = PipedGuard(watch)
        self._runs.add(watch.run)
        return GuardOfOne(self, process, watch)

    def is_over(self, run: str, process: PipedGuard) -> bool:
        """Take note that a run has left its bench; returns whether the process has none left."""
        if process is self._process:
            self._runs.discard(run)
            if not self._runs:
                self._process = None
        return process is not self._process


class GuardOfOne:
    """The process that guards many, as one of its runs sees it."""

    def __init__(self, many: GuardOfMany, process: PipedGuard, watch: Watch) -> None:
        self.name = process.name
        self._many, self._process, self._watch = many, process, watch
        self._is_last = False

    def send(self, message: Message) -> None:
        """See `PipedGuard`."""
        self._process.send(message, self._watch.run)
        if isinstance(message, Over):
            self._is_last = self._many.is_over(self._watch.run, self._process)

    def check(self) -> None:
        """See `PipedGuard`."""
        self._process.check()

    async def end(self, busy_s: float) -> None:
        """Wait until it is done with this run."""
        if self._is_last:
            await self._process.end(busy_s)
            return
        ledger = Path(self._watch.ledger)
        with suppress(TimeoutError):
            async with asyncio.timeout(busy_s + _END_S):
                while not is_closed(ledger):
                    await asyncio.sleep(_LOOK_S)
