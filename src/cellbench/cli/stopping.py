"""Ctrl-C and its like, for commands that must leave a bench in its safe state."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cellbench.system import stopping_signals


class Stopping:
    """Ctrl-C and its like end what runs through its safe state, however often they come.

    They stay caught until the process has ended: once the bench is safe nothing is left to stop,
    and an impatient second one must not cost the report.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._wanted = False
        for number in stopping_signals():
            signal.signal(number, self._asked)

    @property
    def wanted(self) -> bool:
        """Whether somebody wants to leave."""
        return self._wanted

    @contextmanager
    def cancels_this_task(self) -> Iterator[None]:
        """While the context lasts, a signal cancels the task that entered it."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._wanted:
            raise asyncio.CancelledError
        try:
            yield
        finally:
            self._task = None

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self._wanted = True
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
