"""The engine's end of its guard: starts it, tells it that the engine lives, replaces it.

Everything is sent from the engine's own loop, and never waited for: a loop that hangs is silent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cellbench.engine.guard.guarding import ONCE_S
from cellbench.engine.guard.ledger import ledger_path
from cellbench.engine.guard.messages import Beat, Message, Over, Step, Watch
from cellbench.engine.guard.piped import GuardGone, PipedGuard
from cellbench.engine.guard.processes import ProcessId
from cellbench.engine.heart import Heart
from cellbench.errors import InputError
from cellbench.quantities import parse

if TYPE_CHECKING:
    from cellbench.engine.run import Conducting
    from cellbench.engine.session import Session
    from cellbench.store import JournalEntry

#: How often the engine is heard, whatever its watch does.
BEAT_S = 1.0
#: A shorter silence is none: the computer may be busy.
SILENCE_MIN_S = 3.0
#: A watch whose next look is overdue by so long hangs, even if the loop turns: no beat then. An
#: instrument that does not answer is given up well before.
WATCH_HANGS_S = 60.0
#: A guard that ended within this time of its start is not replaced at once, but after so long.
_SHORT_LIFE_S = 10.0


class Guarding(Protocol):
    """A guard, as its engine sees it; see `cellbench.engine.guard.piped.PipedGuard`.

    Attributes:
        name: For people.
    """

    name: str

    def send(self, message: Message) -> None:
        """Tell it something, without waiting; raises GuardGone."""

    def check(self) -> None:
        """See that it is there; raises GuardGone."""

    async def end(self, busy_s: float) -> None:
        """Wait until it has ended, having been told that all is over.

        Args:
            busy_s: How long it still has something to do.
        """


StartGuard: TypeAlias = Callable[[Watch], Guarding]


@asynccontextmanager
async def guarded(session: Session, start: StartGuard = PipedGuard) -> AsyncIterator[Keeper]:
    """Keep a guard for a run, from `Keeper.watch_over` until the bench has been left.

    Enter it before the bench's own context: it is to end after that. The simulated bench, which
    goes with this process, has none.

    Args:
        session: Whose bench is guarded.
        start: Starts a guard.
    """
    keeper = Keeper(session, start if session.simulator is None else None)
    try:
        yield keeper
    finally:
        await keeper.over()


class Keeper(Heart):
    """Keeps a guard for one run.

    Args:
        session: Whose bench is guarded.
        start: Starts a guard; None: the run has none.

    Raises:
        InputError: Its bench file declares a silence that cannot be told from a busy moment.
    """

    def __init__(self, session: Session, start: StartGuard | None) -> None:
        self._session, self._start_guard = session, start
        self._silence_s = parse(session.file.guard.silence, "time")
        if self._silence_s < SILENCE_MIN_S:
            raise InputError(
                f"{session.file.bench}: guard: silence: {session.file.guard.silence} is too short: "
                f"the engine is heard every {BEAT_S:g} s; write {SILENCE_MIN_S:g} s or more"
            )
        self._conducting: Conducting | None = None
        self._guard: Guarding | None = None
        self._started_s = self._retry_s = 0.0
        self._said = ""
        self._step, self._declared_s = Step(""), 0.0
        self._unknown: list[str] = []
        self._hangs_s = math.inf  # when the watch counts as hung, loop time
        self._beating: asyncio.Task[None] | None = None

    def watch_over(self, conducting: Conducting) -> None:
        """Have a run guarded from its beginning on."""
        if self._start_guard is None:
            return
        self._conducting = conducting
        conducting.heard_by(self)
        conducting.journal.listeners.append(self._entered)

    # --- What the engine tells ------------------------------------------------------------------

    def begun(self) -> None:
        """See `Heart`."""
        self._start()
        self._beating = asyncio.create_task(self._beat_on(), name="heartbeat")

    def passed(self, within_s: float) -> None:
        """See `Heart`."""
        self._hangs_s = _now_s() + within_s + WATCH_HANGS_S
        self._tell(Beat())

    def watch_ended(self) -> None:
        """See `Heart`."""
        self._hangs_s = math.inf

    def declare(self, continues: Mapping[str, float]) -> None:
        """See `Heart`."""
        self._say_step(Step(self._step.path, continues))

    def left(self, unknown: Sequence[str]) -> None:
        """See `Heart`."""
        self._unknown = list(unknown)

    async def over(self) -> None:
        """Tell the guard that the bench was left, and see it end; it may try once what failed."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        self._tell(Over(self._unknown))
        self._conducting = None
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.end(ONCE_S if self._unknown else 0.0)

    def _entered(self, entry: JournalEntry) -> None:
        """Called with each entry of the journal, before the disk has it."""
        if entry.kind == "step started":
            self._say_step(Step(entry.step, self._step_now().continues))

    def _say_step(self, step: Step) -> None:
        self._step, self._declared_s = step, _now_s()
        self._tell(step)

    def _step_now(self) -> Step:
        """The step under way, with the bounds of what continues as they are by now."""
        passed_s = _now_s() - self._declared_s
        left_s = {name: at_most_s - passed_s for name, at_most_s in self._step.continues.items()}
        return Step(self._step.path, left_s)

    async def _beat_on(self) -> None:
        while True:
            self._see_that_it_is_there()
            if _now_s() < self._hangs_s:
                self._tell(Beat())
            await asyncio.sleep(BEAT_S)

    # --- The guard ------------------------------------------------------------------------------

    def _start(self) -> None:
        conducting, start = self._conducting, self._start_guard
        assert conducting is not None  # noqa: S101 (it has begun)
        assert start is not None  # noqa: S101 (else it is not heard)
        self._started_s = _now_s()
        try:
            guard = self._guard = start(self._watch(conducting))
            guard.send(self._step_now())
        except GuardGone as error:
            self._lost(f"the guard {error}")
        else:
            self._say(
                f"guarded by {guard.name}: it brings the bench to quiet should this process be lost"
            )

    def _watch(self, conducting: Conducting) -> Watch:
        session, me = self._session, ProcessId.mine()
        paced = session.file.speed != 1.0
        return Watch(
            run=conducting.run.id,
            pid=me.pid,
            process_started=me.started,
            ledger=str(ledger_path(conducting.writer.path).absolute()),
            bench=session.bench_text,
            beside=None if session.beside is None else str(session.beside.absolute()),
            limits=conducting.program.limits.electrical.model_dump(),
            # Paced time stands still while a person is asked: silence says nothing then.
            silence_s=None if paced else self._silence_s,
            speed=session.file.speed,
            shared=sorted(session.shared),
        )

    def _see_that_it_is_there(self) -> None:
        if self._guard is None:
            if _now_s() >= self._retry_s:
                self._start()
            return
        try:
            self._guard.check()
        except GuardGone as error:
            self._lost(f"the guard, {self._guard.name}, {error}")

    def _tell(self, message: Message) -> None:
        if self._guard is None:
            return
        try:
            self._guard.send(message)
        except GuardGone as error:
            self._lost(f"the guard, {self._guard.name}, {error}")

    def _lost(self, how: str) -> None:
        self._guard = None
        self._say(f"{how}: a new one is started", alert="trouble")
        short = _now_s() - self._started_s < _SHORT_LIFE_S
        self._retry_s = _now_s() + (_SHORT_LIFE_S if short else 0.0)

    def _say(self, text: str, **data: str) -> None:
        """Enter it in the journal, once; not awaited: a full disk is no reason to be silent."""
        if self._conducting is not None and text != self._said:
            self._said = text
            self._conducting.journal.enter_soon("guard", text=text, **data)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
