"""Processes as the guard needs them: who is who, ending one for sure, starting one apart.

All that differs between operating systems is here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import psutil

#: A process that was told to end is looked for so often, and so long.
_LOOK_S = 0.01
_GONE_S = 10.0
#: Two looks at when one process started differ by less: by a clock that was set between them.
_SAME_START_S = 5.0


@dataclass(frozen=True)
class ProcessId:
    """One process for good: an id alone is given to another process some day.

    Attributes:
        started: When it was started, in s since 1970.
    """

    pid: int
    started: float

    @classmethod
    def mine(cls) -> ProcessId:
        """This process."""
        return cls(os.getpid(), psutil.Process().create_time())

    @classmethod
    def of_holder(cls, pid: int, since: datetime) -> ProcessId:
        """The process that has held something since then, which it was started before."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:
            started = since.timestamp()
        return cls(pid, min(started, since.timestamp()))

    @property
    def lives(self) -> bool:
        """Whether it is there, and not only waited for by its parent."""
        return self.find() is not None

    def find(self) -> psutil.Process | None:
        """Return it while it lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S
        except psutil.Error:
            return None
        return process if same and _lives(process) else None

    async def end(self) -> str:
        """End it at once, whatever state it is in; returns what became of it."""
        return await end(self.find(), self.pid)


async def end(process: psutil.Process | None, pid: int) -> str:
    """End a process at once; returns what became of it, for people.

    Args:
        process: It, found while it was sure to be the one; None if it is gone.
        pid: Its id.
    """
    name = f"process {pid}"
    if process is None or not _lives(process):
        return f"{name} was gone already"
    try:
        process.kill()  # SIGKILL, or TerminateProcess: a process that hangs hears nothing else
    except psutil.NoSuchProcess:
        return f"{name} was gone already"
    except psutil.Error as error:
        return f"{name} cannot be ended: {error}"
    try:
        async with asyncio.timeout(_GONE_S):
            while _lives(process):
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return f"{name} was told to end, but has not within {_GONE_S:g} s"
    return f"{name} was ended"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # it is there, and somebody else's


# --- Starting a process apart ---------------------------------------------------------------------


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
            **_apart(sys.platform),
        )


def _apart(platform: str) -> dict[str, Any]:
    if platform == "win32":
        # A console of its own, without a window: events of ours are not sent to its processes.
        flags = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
        return {"creationflags": sum(getattr(subprocess, each) for each in flags)}
    return {"start_new_session": True}


def never_wait(pipe: int) -> None:
    """Have writing to a pipe fail rather than wait when it is full."""
    if sys.platform == "win32":
        _never_wait_on_windows(pipe)
    else:
        os.set_blocking(pipe, False)


def _never_wait_on_windows(pipe: int) -> None:
    # os.set_blocking takes pipes there from Python 3.12 on, and does just this.
    import ctypes  # noqa: PLC0415 (its windll exists on Windows alone)
    import msvcrt  # noqa: PLC0415

    handle = getattr(msvcrt, "get_osfhandle")(pipe)  # noqa: B009 (unknown to type checkers here)
    nowait = ctypes.c_ulong(1)
    windll = getattr(ctypes, "windll")  # noqa: B009
    windll.kernel32.SetNamedPipeHandleState(
        ctypes.c_void_p(handle), ctypes.byref(nowait), None, None
    )


def outlive_terminal(asked: Callable[[], None]) -> None:
    """Let no signal end this process; a polite kill only asks it to.

    Args:
        asked: Called by a polite kill.
    """
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)  # each system has some of them
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: asked())
