"""``python -m cellbench.engine.guard``: the guard as a process, which an engine starts.

What the engine says comes in on standard input. It needs no database and, beside the instruments'
ports, no network.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import filelock  # noqa: F401 (when it is needed it is in a hurry)

from cellbench import clock
from cellbench.bench import BenchFile, parse_bench
from cellbench.engine.guard.guarding import Reaction, guard
from cellbench.engine.guard.handover import asked
from cellbench.engine.guard.ledger import Kind, Ledger, errors_path, forget_empty
from cellbench.engine.guard.messages import Message, Watch, from_line
from cellbench.engine.guard.processes import ProcessId
from cellbench.engine.reach import ReachableBench, Site
from cellbench.engine.session import places, with_folders
from cellbench.protocol.source import document_of, load
from cellbench.system import outlive_terminal

_STANDARD_INPUT = 0
_PIECE = 65536


class PipeMessages:
    """Messages that a thread reads from a pipe: no event loop waits for a pipe on every system."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._over = False
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in lines:
                loop.call_soon_threadsafe(self._queue.put_nowait, from_line(line))
            loop.call_soon_threadsafe(self._queue.put_nowait, None)

        threading.Thread(target=read, name="messages", daemon=True).start()

    async def next(self) -> Message | None:
        """Wait for the next message; see `Messages`."""
        if self._over:
            return None
        message = await self._queue.get()
        self._over = message is None
        return message


class _Asked:
    """Who asks for the bench: a process by a file, or somebody by a polite kill.

    A polite kill counts only once the guard has begun to act: what shuts a computer or a service
    down sends one to everybody, and the engine may yet be lost on its way out.
    """

    def __init__(self) -> None:
        self._where: list[str] = []
        self._acts = self._is_killed = False
        outlive_terminal(self._kill)

    def _kill(self) -> None:
        self._is_killed = self._acts

    def where(self, file: BenchFile, beside: Path | None) -> None:
        """Find out where the instruments are for which somebody may ask."""
        self._where = list(places(file, beside).values())

    def __call__(self) -> str | None:
        self._acts = True
        if self._is_killed:
            return "whoever sent it a signal to end"
        return asked(self._where)


def _lines_of(pipe: int) -> Iterator[bytes]:
    """Yield the lines of a pipe; no buffered file, whose lock would outlive this program."""
    begun = b""
    while piece := os.read(pipe, _PIECE):
        *lines, begun = (begun + piece).split(b"\n")
        yield from lines


def main() -> None:
    """Guard one engine."""
    is_asked = _Asked()
    lines = _lines_of(_STANDARD_INPUT)
    first = next(lines, None)
    if first is None:
        return
    watch = from_line(first)
    if not isinstance(watch, Watch):
        raise TypeError(f"told {watch} before whom to watch")
    ledger = Ledger(Path(watch.ledger))
    ledger.enter(
        Kind.WATCHING,
        f"process {os.getpid()} guards process {watch.pid} (run {watch.run})",
        pid=os.getpid(),
        engine_pid=watch.pid,
        run=watch.run,
    )
    try:
        scaled = watch.speed != 1.0
        clock.run(
            _guard(watch, lines, ledger, is_asked),
            virtual=scaled,
            speed=watch.speed if scaled else None,
        )
    except Exception:
        ledger.enter(Kind.ENDED, f"the guard failed: {traceback.format_exc()}")
        raise
    forget_empty(errors_path(Path(watch.ledger)))


async def _guard(watch: Watch, lines: Iterator[bytes], ledger: Ledger, is_asked: _Asked) -> None:
    beside = Path(watch.beside) if watch.beside else None
    file = parse_bench(load(document_of(watch.bench, f"the bench of run {watch.run}")))
    if beside is not None:
        file = with_folders(file, beside)
    bench = ReachableBench(Site(file, f"guard of run {watch.run}", beside, yields=True))
    is_asked.where(file, beside)
    await guard(
        PipeMessages(lines),
        ProcessId(watch.pid, watch.process_started),
        bench,
        ledger,
        Reaction(watch.silence_s, watch.electrical),
        is_asked,
    )


if __name__ == "__main__":
    main()
