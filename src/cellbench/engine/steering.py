"""What reaches a run from outside its program: holds, a skipped step, an early end.

While anything *holds* a run, its cell is at open circuit and its walk waits: a person who paused
it, a disk that is full, an instrument that is waited for. What a hold interrupts goes on afterwards
by the rule of its kind. Who steers does not wait for the walk; the walk takes note where it can:
between two steps, and within what is `interruptible`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum, auto

#: What holds a run that a person paused, by name.
PAUSE = "pause"


class EndAfter(Enum):
    """The place in the program after which a run is to end."""

    STEP = auto()
    CYCLE = auto()  #: the pass of the innermost loop that is under way


class Interruption:
    """Whether what ran in `Steering.interruptible` was interrupted."""

    happened: bool = False


class Steering:
    """The holds on one run, and what else was asked of it.

    Attributes:
        end_after: Where the run is to end before its program does, None for nowhere.
        under_way: Path of the step that can be skipped, empty between two steps.
        skipped: Path of the one that is to be skipped, empty for none.
        waits_for: Tells what of other runs this one waits for, within what it does; empty: nothing.
    """

    def __init__(self) -> None:
        self.end_after: EndAfter | None = None
        self.under_way = self.skipped = ""
        self.waits_for: Callable[[], str] = str
        self._holds: dict[str, str] = {}
        self._free = asyncio.Event()
        self._free.set()
        self._scopes: list[tuple[asyncio.Timeout, bool]] = []

    @property
    def holds(self) -> dict[str, str]:
        """What holds the run, and why, as a person reads it."""
        return dict(self._holds)

    def hold(self, what: str, why: str) -> None:
        """Hold the run until ``what`` lets go of it; twice is once."""
        self._holds[what] = why
        self._free.clear()
        self._interrupt()

    def let_go(self, what: str) -> None:
        """End a hold, if there is one of that name; the run goes on when the last one ended."""
        self._holds.pop(what, None)
        if not self._holds:
            self._free.set()

    @property
    def skip_wanted(self) -> bool:
        """Whether a step is to be skipped."""
        return bool(self.skipped)

    def skip(self) -> None:
        """End the step that is under way, as if it were over; between two steps do nothing."""
        self.skipped = self.under_way
        if self.skipped:
            self._interrupt(skipping=True)

    @contextmanager
    def step(self, path: str) -> Iterator[None]:
        """While the context lasts a step can be skipped; one within it, instead of it."""
        outer, self.under_way = self.under_way, path
        try:
            yield
        finally:
            self.under_way = outer
            if f"{self.skipped}/".startswith(f"{path}/"):
                self.skipped = ""

    async def wait(self) -> None:
        """Return when nothing holds the run."""
        await self._free.wait()

    @asynccontextmanager
    async def interruptible(self, *, holds: bool = True) -> AsyncIterator[Interruption]:
        """Do what a hold or a skip interrupts: it is cancelled, and the context says so.

        Args:
            holds: Whether a hold interrupts it, or a skip alone.
        """
        interruption = Interruption()
        scope = asyncio.timeout(None)
        entry = (scope, holds)
        try:
            async with scope:
                self._scopes.append(entry)
                if self.skip_wanted or (holds and self._holds):
                    _expire(scope)
                yield interruption
        except TimeoutError:
            if not scope.expired():
                raise
            interruption.happened = True
        finally:
            if entry in self._scopes:
                self._scopes.remove(entry)

    def _interrupt(self, *, skipping: bool = False) -> None:
        for entry in list(self._scopes):
            scope, holds = entry
            if holds or skipping:
                self._scopes.remove(entry)  # one interruption is enough for it
                _expire(scope)


def _expire(scope: asyncio.Timeout) -> None:
    scope.reschedule(asyncio.get_running_loop().time())
