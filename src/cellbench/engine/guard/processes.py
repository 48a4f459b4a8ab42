"""Processes as the guard needs them: who is who, ending one for sure, starting one apart."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from cellbench.system import own_console, process_start

#: A process that was told to end is looked for so often, and so long.
_LOOK_S = 0.01
_GONE_S = 10.0


@dataclass(frozen=True)
class ProcessId:
    """One process for good: an id alone is given to another process some day.

    Attributes:
        started: When it was started, see `cellbench.system.process_start`; None: it is gone.
    """

    pid: int
    started: float | None

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has an id now."""
        return cls(pid, process_start(pid))

    @classmethod
    def mine(cls) -> ProcessId:
        """This process."""
        return cls.of(os.getpid())

    @property
    def lives(self) -> bool:
        """Whether it is there, and not only waited for by its parent."""
        return self.started is not None and process_start(self.pid) == self.started

    async def end(self) -> str:
        """End it at once, whatever state it is in; returns what became of it, for people."""
        name = f"process {self.pid}"
        if not self.lives:
            return f"{name} was gone already"
        try:
            # SIGKILL, or TerminateProcess: a process that hangs hears nothing else.
            psutil.Process(self.pid).kill()
        except psutil.NoSuchProcess:
            return f"{name} was gone already"
        except psutil.Error as error:
            return f"{name} cannot be ended: {error}"
        try:
            async with asyncio.timeout(_GONE_S):
                while self.lives:
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            return f"{name} was told to end, but has not within {_GONE_S:g} s"
        return f"{name} was ended"


def start_apart(command: Sequence[str], errors: Path) -> subprocess.Popen[bytes]:
    """Start a process that Ctrl-C in this one's terminal, or closing it, does not reach.

    Args:
        command: What to start; its standard input is a pipe from this process.
        errors: File to which what it writes to standard error is appended.
    """
    with ExitStack() as stack:
        file: BinaryIO | int = subprocess.DEVNULL
        with suppress(OSError):  # a full disk is no reason to do without
            file = stack.enter_context(errors.open("ab"))
        return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=file,
            bufsize=0,
            **own_console(),
        )
