"""A guard as a process of its own, from the engine's side: started, and told through a pipe.

Nothing here waits: a guard that does not listen hangs nobody.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from cellbench.engine.guard.ledger import errors_path, forget_empty
from cellbench.engine.guard.messages import Message, Watch, to_line
from cellbench.engine.guard.processes import start_apart
from cellbench.system import never_wait

#: How long a guard may take to end when there is nothing left to guard.
_END_S = 10.0
_LOOK_S = 0.02


class GuardGone(Exception):
    """A guard has ended, or does not listen; the message says how, as the end of a sentence."""


class PipedGuard:
    """A guard's process.

    Args:
        watch: What it is told first.

    Attributes:
        name: For people.

    Raises:
        GuardGone: It cannot be started.
    """

    def __init__(self, watch: Watch) -> None:
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

    def send(self, message: Message) -> None:
        """Tell it something.

        Raises:
            GuardGone: It will not hear it; its process is ended by now.
        """
        line = to_line(message)
        try:
            is_taken = os.write(self._pipe.fileno(), line) == len(line)
        except BlockingIOError:
            is_taken = False
        except OSError as error:
            self.kill()
            raise GuardGone(f"has ended (exit code {self._process.returncode})") from error
        if not is_taken:  # the pipe is full
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
