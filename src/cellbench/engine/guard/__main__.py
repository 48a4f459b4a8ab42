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

import psutil

from cellbench import clock
from cellbench.bench import BenchFile, parse_bench
from cellbench.engine.guard.guarding import Reaction, guard
from cellbench.engine.guard.handover import asked
from cellbench.engine.guard.ledger import Kind, Ledger
from cellbench.engine.guard.messages import Message, Watch, from_line
from cellbench.engine.guard.processes import ProcessId, end, outlive_terminal
from cellbench.engine.reach import ReachableBench, Site
from cellbench.engine.session import places, with_folders
from cellbench.errors import CellbenchError
from cellbench.protocol.source import document_of, load

_STANDARD_INPUT = 0
_PIECE = 65536


class EngineProcess:
    """The engine, as a process of this computer.

    It is looked up while it is sure to be there: ids are given away again.
    """

    def __init__(self, watch: Watch) -> None:
        self._pid = watch.pid
        self._process: psutil.Process | None = ProcessId(watch.pid, watch.process_started).find()

    async def end(self) -> str:
        """End it for good, if it is still there; returns what became of it."""
        return await end(self._process, self._pid)


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
    """Who asks for the bench: a process by a file, or somebody by a polite kill."""

    def __init__(self, file: BenchFile, beside: Path | None) -> None:
        self._file, self._beside = file, beside
        self._where: list[str] = []
        self.killed = False

    def __call__(self) -> str | None:
        if self.killed:
            return "whoever sent a signal to end"
        if not self._where:
            try:
                self._where = list(places(self._file, self._beside).values())
            except CellbenchError:
                return None  # a host without an address for now: nobody else has it either
        return asked(self._where)


def _lines_of(pipe: int) -> Iterator[bytes]:
    """Yield the lines of a pipe; no buffered file, whose lock would outlive this program."""
    begun = b""
    while piece := os.read(pipe, _PIECE):
        *lines, begun = (begun + piece).split(b"\n")
        yield from lines


def main() -> None:
    """Guard one engine."""
    lines = _lines_of(_STANDARD_INPUT)
    killed: list[bool] = []
    outlive_terminal(lambda: killed.append(True))
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
        pace = {"virtual": scaled, "speed": watch.speed if scaled else None}
        clock.run(_guard(watch, lines, ledger, killed), **pace)  # type: ignore[arg-type]
    except Exception:
        ledger.enter(Kind.ENDED, f"the guard failed: {traceback.format_exc()}")
        raise


async def _guard(watch: Watch, lines: Iterator[bytes], ledger: Ledger, killed: list[bool]) -> None:
    beside = Path(watch.beside) if watch.beside else None
    document = document_of(watch.bench, f"the bench of run {watch.run}")
    file = parse_bench(load(document))
    if beside is not None:
        file = with_folders(file, beside)
    engine = EngineProcess(watch)
    is_asked = _Asked(file, beside)

    def asks() -> str | None:
        is_asked.killed = bool(killed)
        return is_asked()

    await guard(
        PipeMessages(lines),
        engine,
        lambda: ReachableBench(Site(file, f"guard of run {watch.run}", beside, yields=True)),
        ledger,
        Reaction(watch.silence_s, watch.electrical),
        asks,
    )


if __name__ == "__main__":
    main()
