"""Commands of cellbench as processes of their own, which outlive whoever has started them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cellbench.system import ask_to_end, own_group

#: A run that is told to end brings its bench to its safe state first; a press may take minutes.
END_DEADLINE_S = 600.0
#: What systemd told this process alone.
_PRIVATE = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

Say = Callable[[str], None]


async def called(command: Sequence[str], log: Path, say: Say) -> int:
    """Run a command to its end, and return its exit code; one that is cut short ends in good order.

    Args:
        command: With its arguments.
        log: What it says is added there.
        say: Told how it ends, where it is cut short.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=inherited,
            **own_group(),
        )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        await _end(process, say)
        raise


async def _end(process: asyncio.subprocess.Process, say: Say) -> None:
    say("is told to end: its bench comes to its safe state")
    ask_to_end(process.pid)
    try:
        async with asyncio.timeout(END_DEADLINE_S):
            code = await process.wait()
    except TimeoutError:
        say(f"has not ended within {END_DEADLINE_S:g} s and is left to itself")
    else:
        say(f"has ended (exit code {code})")
