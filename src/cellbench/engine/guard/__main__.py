"""``python -m cellbench.engine.guard``: the guard as a process, which an engine starts.

What the engine says comes in on standard input. It needs no database and, beside the instruments'
ports, no network.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import filelock  # noqa: F401 (when it is needed it is in a hurry)

from cellbench import clock
from cellbench.bench import parse_bench
from cellbench.engine.guard.guarding import Reaction, guard
from cellbench.engine.guard.handover import asked
from cellbench.engine.guard.ledger import Kind, Ledger, errors_path, forget_empty
from cellbench.engine.guard.messages import Message, Watch, from_line
from cellbench.engine.guard.processes import ProcessId
from cellbench.engine.named_bench import with_folders
from cellbench.engine.reach import Reachable, ReachableBench, Site
from cellbench.engine.session import places
from cellbench.protocol.source import document_of, load
from cellbench.system import outlive_terminal

_STANDARD_INPUT = 0
_PIECE = 65536


class Posted:
    """What the engine says of one run, as it comes in."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._over = False

    def put(self, message: Message | None) -> None:
        """Take in a message; None when the engine's end is closed."""
        self._queue.put_nowait(message)

    async def next(self) -> Message | None:
        """Wait for the next message; see `Messages`."""
        if self._over:
            return None
        message = await self._queue.get()
        self._over = message is None
        return message


class _Asked:
    """Who asks for a bench: a process by a file, or somebody by a polite kill.

    A polite kill counts only once the guard has begun to act: what shuts a computer or a service
    down sends one to everybody, and the engine may yet be lost on its way out.
    """

    def __init__(self) -> None:
        self._is_killed = self._acts = False
        outlive_terminal(self._kill)

    def _kill(self) -> None:
        self._is_killed = self._acts

    def for_one_of(self, where: Sequence[str]) -> Callable[[], str | None]:
        """Return what tells who asks for one of the instruments at these places."""

        def is_asked() -> str | None:
            self._acts = True
            if self._is_killed:
                return "whoever sent it a signal to end"
            return asked(where)

        return is_asked


def _lines_of(pipe: int) -> Iterator[bytes]:
    """Yield the lines of a pipe; no buffered file, whose lock would outlive this program."""
    begun = b""
    while piece := os.read(pipe, _PIECE):
        *lines, begun = (begun + piece).split(b"\n")
        yield from lines


class Guards:
    """The guards of all runs of one engine, each with a ledger of its own.

    Args:
        first: The first run that there is to be guarded.
        lines: What comes after it.
        is_asked: Who asks for a bench.
    """

    def __init__(self, first: Watch, lines: Iterator[bytes], is_asked: _Asked) -> None:
        self._lines, self._is_asked = lines, is_asked
        self._posts: dict[str, Posted] = {}
        self._shared: dict[str, Reachable] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._begin(first)
        # A thread reads: no event loop waits for a pipe on every system.
        threading.Thread(target=self._read, name="messages", daemon=True).start()

    async def guard(self) -> None:
        """Guard them until none is left; raises what went wrong with the first that failed."""
        failures: list[BaseException] = []
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= done
            failures += [failure for each in done if (failure := each.exception()) is not None]
        if failures:
            raise failures[0]

    def _read(self) -> None:
        with suppress(RuntimeError):  # the loop has ended: there is nobody left to be guarded
            for line in self._lines:
                self._loop.call_soon_threadsafe(self._take, *from_line(line))
            self._loop.call_soon_threadsafe(self._end)

    def _take(self, run: str, message: Message) -> None:
        if isinstance(message, Watch):
            self._begin(message)
        elif run in self._posts:
            self._posts[run].put(message)

    def _end(self) -> None:
        for post in self._posts.values():
            post.put(None)

    def _begin(self, watch: Watch) -> None:
        ledger = Ledger(Path(watch.ledger))
        ledger.enter(
            Kind.WATCHING,
            f"process {os.getpid()} guards process {watch.pid} (run {watch.run})",
            pid=os.getpid(),
            engine_pid=watch.pid,
            run=watch.run,
        )
        posted = self._posts[watch.run] = Posted()
        work = self._guard(watch, posted, ledger)
        self._tasks.add(self._loop.create_task(work, name=f"guard of {watch.run}"))

    async def _guard(self, watch: Watch, posted: Posted, ledger: Ledger) -> None:
        try:
            beside = Path(watch.beside) if watch.beside else None
            file = parse_bench(load(document_of(watch.bench, f"the bench of run {watch.run}")))
            if beside is not None:
                file = with_folders(file, beside)
            site = Site(file, f"guard of run {watch.run}", beside, yields=True)
            mine = places(file.without(watch.shared), beside)
            await guard(
                posted,
                ProcessId(watch.pid, watch.process_started),
                ReachableBench(site, self._shared, watch.shared),
                ledger,
                Reaction(watch.silence_s, watch.electrical),
                self._is_asked.for_one_of(list(mine.values())),
            )
        except Exception:
            ledger.enter(Kind.ENDED, f"the guard failed: {traceback.format_exc()}")
            raise
        finally:
            del self._posts[watch.run]


def main() -> None:
    """Guard one engine."""
    is_asked = _Asked()
    lines = _lines_of(_STANDARD_INPUT)
    line = next(lines, None)
    if line is None:
        return
    _, first = from_line(line)
    if not isinstance(first, Watch):
        raise TypeError(f"told {first} before whom to watch")
    clock.run(_guard_all(first, lines, is_asked), **clock.at_speed(first.speed))
    forget_empty(errors_path(Path(first.ledger)))


async def _guard_all(first: Watch, lines: Iterator[bytes], is_asked: _Asked) -> None:
    await Guards(first, lines, is_asked).guard()


if __name__ == "__main__":
    main()
