"""The thread beside a run's loop in which it is told of: a run never waits for a network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

from cellbench.store import JournalEntry, Run, Store
from cellbench.telemetry.commands import Commands
from cellbench.telemetry.configuration import Telemetry
from cellbench.telemetry.follow import follow
from cellbench.telemetry.watched import Picture, Watched

#: How often who waits for the thread looks whether it is wanted elsewhere.
_SLICE_S = 0.2
#: What telling may take when somebody has ended the run: broker and channels that are there.
_HURRIED_S = 10.0
#: More than telling takes at the end of a run, by its own limits.
_MARGIN_S = 30.0


class Journal(Protocol):
    """What is needed of a run's journal."""

    listeners: list[Callable[[JournalEntry], None]]

    def enter_soon(self, kind: str, *, step: str = "", text: str = "", **data: Any) -> None:
        """Enter one fact without waiting."""


class Conducted(Protocol):
    """What is needed of a run under way."""

    run: Run

    @property
    def journal(self) -> Journal:
        """Its journal."""

    @property
    def status(self) -> Picture:
        """What it looks like."""


class Beside:
    """Tells of a run, in a thread of its own, until the context ends.

    Args:
        telemetry: To whom.
        directory: Of the store that the run is kept in.
        outside: Takes what telemetry has to say when the run's journal is closed.
        impatient: Whether nobody wants to wait any longer for what is left to be told.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        directory: Path,
        *,
        outside: Callable[[str], None],
        impatient: Callable[[], bool] = lambda: False,
    ) -> None:
        self._telemetry, self._directory = telemetry, directory
        self._outside, self._impatient = outside, impatient
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._ready = threading.Event()
        self._over = self._gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        thread = self._thread
        if thread is None:
            return
        self._over = True
        self._ready.wait(_MARGIN_S)
        if self._loop is not None and self._leave is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._leave.set)
        # Whoever ends a run does not wait long; the others hear of it all the same.
        hurried = self._impatient()
        limit_s = _HURRIED_S if hurried else self._telemetry.alerts.patience_s + _MARGIN_S
        for _ in range(round(limit_s / _SLICE_S)):
            thread.join(_SLICE_S)
            if not thread.is_alive() or (self._impatient() and not hurried):
                break
        # A daemon: what hangs in it now ends with the process. What it did not tell, it tells next.

    def follow(self, conducted: Conducted, commands: Commands | None = None) -> None:
        """Begin to tell of a run; on its loop, before its first entry.

        Args:
            conducted: The run.
            commands: Carries out what comes through the broker, on the thread's loop.
        """
        path = self._directory / "runs" / f"{conducted.run.id}.sqlite"
        begun_after = Watched(conducted.run, path).end()
        watched = Watched(conducted.run, path, conducted.status, begun_after=begun_after)

        def listen(entry: JournalEntry) -> None:
            self._over = self._over or entry.kind == "run ended"
            if not self._gone:
                watched.put(entry)

        conducted.journal.listeners.append(listen)
        runs_loop, journal = asyncio.get_running_loop(), conducted.journal

        def say(kind: str, text: str, /, **data: Any) -> None:
            def enter() -> None:
                if self._over:
                    self._outside(text)
                else:
                    journal.enter_soon(kind, text=text, **data)

            try:
                runs_loop.call_soon_threadsafe(enter)
            except RuntimeError:  # the run's loop is closed
                self._outside(text)

        def work() -> None:
            # The MQTT client watches sockets, which Windows' usual loop cannot.
            try:
                with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                    runner.run(self._tell(watched, say, commands))
            finally:
                self._gone = True

        self._thread = threading.Thread(target=work, name="telemetry", daemon=True)
        self._thread.start()

    async def _tell(
        self, watched: Watched, say: Callable[..., None], commands: Commands | None
    ) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        try:
            with Store(self._directory, make=False) as store:
                await follow(
                    watched,
                    self._telemetry,
                    store,
                    say=say,
                    commands=commands,
                    leave=self._leave,
                )
        except Exception as error:  # noqa: BLE001 (whatever it is, the run goes on)
            say("telling", f"nobody is told of this run: {type(error).__name__}: {error}")
