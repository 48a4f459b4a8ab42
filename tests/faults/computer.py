"""The computer of a simulated lab: an engine and its guard, what they die of, who comes back when.

Engine and guard are hosts of their own on one bench: each dies by itself, or both at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tests.faults.injector import Injector, turns_later
from tests.faults.scenario import Ask, DeafGuard, Kill, Victim
from tests.hosts import GuardHost, Host, Plugs

from cellbench.engine.causes import RunState
from cellbench.engine.guard.handover import LET_GO_S, LOOK_S
from cellbench.engine.guard.keeper import Guarding, StartGuard
from cellbench.engine.guard.messages import Message, Step, Watch
from cellbench.engine.guard.piped import GuardGone
from cellbench.engine.requests import Command, Continue, Pause, Skip, Who
from cellbench.engine.run import Conducting, RunEnd
from cellbench.engine.session import Session
from cellbench.errors import CellbenchError
from cellbench.store import Store

#: A person looks after a run that ended early after this time, so often at most.
LOOKS_AFTER_S = 900.0
MOST_RESUMES = 3
#: Silence that a guard takes for the end of its engine, and how finely it listens.
SILENCE_S, TICK_S = 10.0, 1.0
_WHO = Who(user="scenario", via="test")
_ASK_AGAIN_S = 5.0


@dataclass
class Death:
    """An engine that died in the middle of a run, and what its guard has to do about it.

    Attributes:
        at_s: When, in the bench's time.
        notices_s: When the guard notices at the latest; infinite where none lives.
        left_alone: Instruments that the engine had declared to go on by themselves, until when.
        guard_s: When the guard died in its turn, infinite if it did not.
        back_s: When somebody asked for the bench.
        clock_is_right: Whether the clock of the computer could be believed.
    """

    at_s: float
    notices_s: float
    left_alone: Mapping[str, float]
    clock_is_right: bool
    guard_s: float = math.inf
    back_s: float = math.inf


@dataclass
class Record:
    """What hosts came to.

    Attributes:
        ends: How each engine's part ended; what was raised in place of an end.
        deaths: Of engines.
        guards_lost_s: When a guard died whose engine lived, and when there was one again.
        guard_reached: What a guard connected to, and when.
        wrong: What must never be, as a person reads it.
        started_s: Bench time at which the run began.
    """

    ends: list[RunEnd | Exception] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    guards_lost_s: list[tuple[float, float]] = field(default_factory=list)
    guard_reached: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    resumes: int = 0
    started_s: float = 0.0


class WatchedGuard(GuardHost):
    """A guard, and what it was told last of the step under way.

    Attributes:
        told, told_s: That, and at which loop time.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told, self.told_s = Step(""), 0.0

    def send(self, message: Message) -> None:
        """Tell it something; what it was told in vain counts for nothing."""
        super().send(message)
        if isinstance(message, Step) and not self.deaf:
            self.told, self.told_s = message, asyncio.get_running_loop().time()


class Computer:
    """Runs a program through the deaths of its hosts, to its end or to nobody's interest in it.

    Args:
        session: What is run, on which bench.
        store: Where.
        injector: Of the bench.
        guarded: Whether there is a guard.
    """

    def __init__(
        self, session: Session, store: Store, injector: Injector, *, guarded: bool
    ) -> None:
        self.record = Record()
        self._session, self._store, self._injector = session, store, injector
        self._guarded = guarded
        self._host: Host | None = None
        self._guard: WatchedGuard | None = None
        self._guards: list[WatchedGuard] = []
        self._began_s = math.nan
        self._dying: Kill | None = None
        self._death, self._ended = asyncio.Event(), asyncio.Event()
        self._clock_step_s = 0.0
        self._wants_it_on = False
        self._asking: set[asyncio.Task[object]] = set()

    async def run(self) -> None:
        """Return when the run has ended, or nobody resumes it any more."""
        accepted = False
        while True:
            task = self._begin(accepted=accepted)
            dying = asyncio.ensure_future(self._death.wait())
            await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if self._dying is not None:
                away_s = await self._bury(task, self._dying)
            elif self._is_over(task):
                return
            else:
                self.record.resumes += 1
                accepted, away_s = True, LOOKS_AFTER_S
            await asyncio.sleep(away_s)
            await self._take_over()

    async def off(self) -> None:
        """Switch it off."""
        if self._host is not None:
            self._host.kill()
        guards = [each.task for each in self._guards if each.task is not None]
        for guard in self._guards:
            guard.kill()
        for task in self._asking:
            task.cancel()
        if self._asking or guards:
            await asyncio.wait({*self._asking, *guards})

    # --- The engine -----------------------------------------------------------------------------

    def _begin(self, *, accepted: bool) -> asyncio.Task[RunEnd]:
        self._death.clear()
        self._ended.clear()
        self._dying = None
        start: StartGuard | None = self._start_guard if self._guarded else None
        host = self._host = Host(self._session, self._store, start, self._engine_reaches)
        self._injector.plugs.append(host.plugs)
        asyncio.get_running_loop().call_soon(self._no_pace, host)
        runs = self._store.runs()
        if not runs:
            return host.run()
        return host.resume(
            runs[0], self._began_s, clock_step_s=self._clock_step_s, accepted=accepted
        )

    def _is_over(self, task: asyncio.Task[RunEnd]) -> bool:
        """Take note of how an engine ended by itself; whether that was the end of it all."""
        record = self.record
        self._note_beginning()
        self._host, self._clock_step_s = None, 0.0
        error = task.exception()
        ended = task.result() if error is None else error
        assert isinstance(ended, RunEnd | Exception)
        record.ends.append(ended)
        if isinstance(ended, RunEnd):
            return ended.state is RunState.COMPLETED or record.resumes >= MOST_RESUMES
        return not isinstance(ended, CellbenchError) or record.resumes >= 3 * MOST_RESUMES

    def _note_beginning(self) -> None:
        host = self._host
        if host is not None and math.isnan(self._began_s) and not math.isnan(host.began_s):
            self._began_s = host.began_s
            past_s = asyncio.get_running_loop().time() - host.began_s
            self.record.started_s = self._injector.now_s - past_s

    def _no_pace(self, host: Host) -> None:
        """Time does not slow down for people."""
        if host.conducting is not None:
            host.conducting.commands._pace = _NoPace()  # type: ignore[assignment]
            self._note_beginning()
            if self._wants_it_on:
                # Whoever resumes a run sees whether it is paused; a disk may not have taken it.
                self._begin_asking(self._let_go_on())
        elif host is self._host:
            asyncio.get_running_loop().call_later(0.05, self._no_pace, host)

    # --- Death ----------------------------------------------------------------------------------

    def kill_soon(self, kill: Kill) -> None:
        """Let a process die so many turns after the next message on a wire."""

        def heard(_: str) -> None:
            self._injector.on_message = lambda _: None
            turns_later(kill.turns, lambda: self._kill(kill))

        self._injector.on_message = heard

    def _kill(self, kill: Kill) -> None:
        guard_lives = self._guard is not None and self._guard.lives
        if kill.victim in {Victim.GUARD, Victim.BOTH} and guard_lives:
            self._kill_guard(kill)
        if kill.victim is not Victim.GUARD and self._engine_lives:
            self._injector.strikes(kill)
            self._kill_engine(kill)

    @property
    def _engine_lives(self) -> bool:
        return self._host is not None and self._host.lives

    def _kill_engine(self, kill: Kill) -> None:
        """At once: nothing that would come later in this turn reaches bench or disk."""
        host = self._host
        assert host is not None
        self._note_beginning()
        self._note_death(host, kill)
        host.cut()
        self._dying = kill
        self._death.set()

    def _note_death(self, host: Host, kill: Kill) -> None:
        now_s, guard = self._injector.now_s, self._guard
        if host.conducting is None or host.conducting.ending:
            return
        notices_s, left_alone = math.inf, {}
        if guard is not None and guard.lives:
            silent_s = SILENCE_S + 2 * TICK_S
            late_s = silent_s if kill.victim is Victim.HUNG else min(kill.late_s, silent_s)
            notices_s = now_s + late_s
            passed_s = asyncio.get_running_loop().time() - guard.told_s
            left_alone = {
                name: now_s - passed_s + at_most_s
                for name, at_most_s in guard.told.continues.items()
            }
        right = not self._clock_step_s and not kill.clock_step_s
        self.record.deaths.append(Death(now_s, notices_s, left_alone, right))

    async def _bury(self, task: asyncio.Task[RunEnd], kill: Kill) -> float:
        """Drop the tasks of an engine that died; returns how long nobody comes."""
        host, guard = self._host, self._guard
        assert host is not None
        died_s = self._injector.now_s
        if guard is not None:
            guard.hang_up(math.inf if kill.victim is Victim.HUNG else kill.late_s)
        host.kill()
        self.record.kills += 1
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        self._host = None
        if kill.victim is Victim.HUNG:
            await self._wait_for_end(guard)
        self._clock_step_s = kill.clock_step_s
        # What is left of its tasks takes time, which counts for nothing.
        return max(0.0, kill.away_s - (self._injector.now_s - died_s))

    async def _wait_for_end(self, guard: WatchedGuard | None) -> None:
        """A process that hangs is ended by its guard, or else by a person."""
        try:
            async with asyncio.timeout(LOOKS_AFTER_S):
                await self._ended.wait()
        except TimeoutError:
            if guard is not None:
                guard.hang_up()

    # --- The guard ------------------------------------------------------------------------------

    def _start_guard(self, watch: Watch) -> Guarding:
        host = self._host
        if host is None or not host.lives:
            raise GuardGone("cannot be started by the dead")
        guard = self._guard = WatchedGuard(
            self._session, partial(self._end_engine, host), self._guard_reaches, self._utc
        )
        self._guards.append(guard)
        self._injector.plugs.append(guard.plugs)
        lost = self.record.guards_lost_s
        if lost and math.isinf(lost[-1][1]):
            lost[-1] = lost[-1][0], self._injector.now_s
        guard.start(watch)
        return guard

    def _kill_guard(self, kill: Kill) -> None:
        guard, now_s = self._guard, self._injector.now_s
        assert guard is not None
        if kill.victim is Victim.GUARD:
            self._injector.strikes(kill)
        if not self._engine_lives and self.record.deaths:
            self.record.deaths[-1].guard_s = now_s
        elif self._engine_lives and kill.victim is Victim.GUARD:
            self.record.guards_lost_s.append((now_s, math.inf))
        guard.kill()

    async def _end_engine(self, host: Host) -> str:
        """What a guard does to the engine."""
        self._ended.set()
        if host is not self._host or not self._engine_lives:
            return "the host was gone already"
        self._kill_engine(Kill(self._injector.now_s))
        return "the host was ended"

    async def _take_over(self) -> None:
        """Have the guard let go of the bench, as `taking_over` does of real instruments."""
        guard = self._guard
        if guard is None:
            return
        guard.asker = "a resume"
        if self.record.deaths and math.isinf(self.record.deaths[-1].back_s):
            self.record.deaths[-1].back_s = self._injector.now_s
        try:
            async with asyncio.timeout(LET_GO_S):
                while guard.plugs.holds():
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            self.record.wrong.append(f"the guard has not let go of the bench in {LET_GO_S:g} s")
            guard.kill()

    def _utc(self) -> datetime:
        """What the clock of the computer says."""
        (run,) = self._store.runs()
        age_s = asyncio.get_running_loop().time() - self._began_s + self._clock_step_s
        return run.started + timedelta(seconds=age_s)

    def _guard_reaches(self, name: str) -> None:
        self.record.guard_reached.append((self._injector.now_s, name))
        self._one_has(name, () if self._host is None else (self._host.plugs,))

    def _engine_reaches(self, name: str) -> None:
        self._one_has(name, [each.plugs for each in self._guards])

    def _one_has(self, name: str, others: Iterable[Plugs]) -> None:
        if any(each.holds(name) for each in others):
            self.record.wrong.append(f"engine and guard have {name} at {self._injector.now_s:g} s")

    # --- People ---------------------------------------------------------------------------------

    def deafen(self, fault: DeafGuard) -> None:
        """Let the guard hear nothing for a while."""
        guard = self._guard
        if guard is None or not guard.lives or not self._engine_lives:
            return
        self._injector.strikes(fault)
        guard.deaf = True
        self._injector.after(fault.duration_s, lambda: setattr(guard, "deaf", False))

    def ask(self, fault: Ask) -> None:
        """Ask the run for something, if it runs."""
        conducting = self._conducting
        if conducting is None:
            return
        self._injector.strikes(fault)
        wanted = Pause(command="pause") if fault.what == "pause" else Skip(command="skip")
        self._begin_asking(self._obeyed(conducting, wanted))
        if fault.what == "pause":
            self._injector.after(fault.duration_s, self._pause_is_over)

    def _pause_is_over(self) -> None:
        self._wants_it_on = True
        self._begin_asking(self._let_go_on())

    def _begin_asking(self, asking: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _let_go_on(self) -> None:
        """Let a run go on that was paused: until it says, when it is there, that it is not."""
        while (conducting := self._conducting) is None or await self._obeyed(
            conducting, Continue(command="continue")
        ):
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _obeyed(self, conducting: Conducting, command: Command) -> bool:
        """Command something; whether the run takes it."""
        return (await conducting.commands.obey(command, _WHO)).accepted

    @property
    def _conducting(self) -> Conducting | None:
        """The run, while it is under way."""
        conducting = None if self._host is None else self._host.conducting
        return None if conducting is None or conducting.ending else conducting


class _NoPace:
    """Time jumps though a person has paused the run."""

    def begin(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
