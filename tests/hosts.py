"""Computers on a simulated bench that outlives them, in virtual time.

A host is its tasks, its wires and its store handle. Killing it cuts the wires and the store first
and then drops the tasks, so that no clean-up of the dead host reaches the bench. What was not on
disk yet is lost: here that is all since the last entry that was awaited, whatever the disk does.
A guard is a host of its own beside the engine's: each can be killed alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cellbench import clock
from cellbench.bench import Bench, InstrumentEntry, connected
from cellbench.bench import SimulatedBench as AnyBench
from cellbench.engine.guard.keeper import Keeper, StartGuard
from cellbench.engine.guard.ledger import Kind, Ledger, Utc
from cellbench.engine.guard.simulated import SimulatedGuard, simulated_utc
from cellbench.engine.resume import taken_up
from cellbench.engine.run import Conducting, Conductor, RunEnd
from cellbench.engine.session import Session, identity_of, prepare
from cellbench.errors import InstrumentError, StoreError
from cellbench.instruments.registry import Driver
from cellbench.store import Run, RunReader, Store
from cellbench.transport import Stream
from cellbench.transport.identity import identified
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.device import Wire


class Plugs:
    """How one host reaches the instruments of a bench: through wires that can be cut.

    Args:
        simulator: The bench.
        on_connect: Told the name of each instrument before it is connected to.
    """

    def __init__(self, simulator: AnyBench, on_connect: Callable[[str], None]) -> None:
        self.wires: dict[str, list[Wire]] = {}
        self._simulator, self._on_connect = simulator, on_connect
        self._dead = False

    def connect(self, name: str) -> Wire:
        """Plug a cable in; raises InstrumentError when the host is dead."""
        if self._dead:
            raise InstrumentError(name, "this host is dead")
        self._on_connect(name)
        wire = self._simulator.connect(name)
        assert isinstance(wire, Wire)
        self.wires.setdefault(name, []).append(wire)
        return wire

    def holds(self, name: str | None = None) -> bool:
        """Whether it has an instrument (any, by default): its cable is in, dead or alive."""
        names = self.wires if name is None else [name]
        return any(wire._device is not None for each in names for wire in self.wires.get(each, ()))

    def cut(self) -> None:
        """Cut all wires for good."""
        self._dead = True
        for wires in self.wires.values():
            for wire in wires:
                wire.sever()


class StoreHandle:
    """A host's own handle of the store, which dies with it."""

    def __init__(self, store: Store) -> None:
        self._store, self._dead = store, False

    def __getattr__(self, name: str) -> Any:
        if self._dead:
            raise StoreError("this host is dead")
        return getattr(self._store, name)

    def cut(self) -> None:
        """Let nothing reach the store any more."""
        self._dead = True


class LedgerHandle(Ledger):
    """A guard's own handle of its ledger, which dies with it."""

    lives = True

    def enter(self, kind: Kind, text: str = "", **data: Any) -> None:
        """Enter one fact; the dead enter nothing."""
        if self.lives:
            super().enter(kind, text, **data)


def _nothing(_: str) -> None:
    """Nobody wants to hear of connections."""


class GuardHost(SimulatedGuard):
    """The guard's process, which can be killed while its engine lives.

    Args:
        session: What its engine runs, on which bench.
        end_engine: Kills the engine's host.
        on_connect: Told the name of each instrument before the guard connects to it.
        utc: What time its computer believes it is.
    """

    def __init__(
        self,
        session: Session,
        end_engine: Callable[[], Awaitable[str]],
        on_connect: Callable[[str], None] = _nothing,
        utc: Utc = simulated_utc,
    ) -> None:
        assert session.simulator is not None
        self.plugs = Plugs(session.simulator, on_connect)
        self._dead = False
        self._handles: list[LedgerHandle] = []
        super().__init__(session.file, cast("AnyBench", self.plugs), end_engine, utc)

    @property
    def lives(self) -> bool:
        """Whether it is at work."""
        return self.task is not None and not self.task.done() and not self._dead

    def kill(self) -> None:
        """Let it die at this very moment; its engine finds that nobody listens."""
        self._dead = True
        self.plugs.cut()
        for handle in self._handles:
            handle.lives = False
        if self.task is not None:
            self.task.cancel()

    def _ledger(self, path: Path) -> Ledger:
        handle = LedgerHandle(path, self._utc)
        self._handles.append(handle)
        return handle


class Host:
    """One computer, from being switched on to its end or its death.

    Args:
        session: What it is to run, on which bench.
        store: Where.
        start_guard: Starts its guard, None for none.
        on_connect: Told the name of each instrument before it is connected to.

    Attributes:
        on_kill: Called when it dies.
        lives: Whether it has not been killed.
        began_s: Loop time at which the run began, nan until then; of a resumption as it was told.
    """

    def __init__(
        self,
        session: Session,
        store: Store,
        start_guard: StartGuard | None = None,
        on_connect: Callable[[str], None] = _nothing,
    ) -> None:
        self.session = session
        self.on_kill: list[Callable[[], None]] = []
        self.conducting: Conducting | None = None
        self.conducts = asyncio.Event()
        self.began_s = math.nan
        self.lives = True
        assert session.simulator is not None
        self.plugs = Plugs(session.simulator, on_connect)
        self._keeper = Keeper(session, start_guard)
        self._handle = StoreHandle(store)
        self.store = cast("Store", self._handle)
        self._task: asyncio.Task[RunEnd] | None = None

    def run(self) -> asyncio.Task[RunEnd]:
        """Begin the run."""
        return self._begin(self._conductor)

    def resume(
        self, run: Run, began_s: float, *, clock_step_s: float = 0.0, **options: Any
    ) -> asyncio.Task[RunEnd]:
        """Go on with a run.

        Args:
            run: The run.
            began_s: Loop time at which it began.
            clock_step_s: How wrong the clock of this host is.
            options: Of `taken_up`.
        """
        self.began_s = began_s

        async def resumption(bench: Bench) -> Conducting:
            age_s = asyncio.get_running_loop().time() - began_s + clock_step_s
            return await taken_up(self.session, bench, self.store, run, age_s=age_s, **options)

        return self._begin(resumption)

    def kill(self) -> None:
        """Let it die at this very moment."""
        self.cut()
        for tell in self.on_kill:
            tell()
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        """Let nothing of it reach the bench or the disk any more."""
        self.lives = False
        self.plugs.cut()
        self._handle.cut()
        if self.conducting is not None:
            self.conducting.writer.sever()

    def _begin(self, conducting: Callable[[Bench], Awaitable[Conducting]]) -> asyncio.Task[RunEnd]:
        self._task = asyncio.create_task(self._conduct(conducting))
        return self._task

    async def _conduct(self, conducting: Callable[[Bench], Awaitable[Conducting]]) -> RunEnd:
        session = self.session
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._keeper.over)
            stack.enter_context(identified(identity_of(session.seed)))
            assert session.simulator is not None
            bench = await stack.enter_async_context(
                connected(
                    session.file,
                    self._open_stream,
                    simulated=True,
                    operator=session.simulator.operator,
                    beside=session.beside,
                )
            )
            self.conducting = await conducting(bench)
            if math.isnan(self.began_s):
                self.began_s = asyncio.get_running_loop().time()
            self._keeper.watch_over(self.conducting)
            self.conducts.set()
            return await self.conducting.conduct()

    async def _conductor(self, bench: Bench) -> Conducting:
        documents = self.session.documents(bench)
        return Conductor(
            self.session.program, bench, self.store, documents=documents, seed=self.session.seed
        )

    async def _open_stream(self, name: str, _entry: InstrumentEntry, _: Driver) -> Stream:
        return self.plugs.connect(name)


@dataclass
class Ended:
    """A run of several hosts: how it ended, its file, the bench, and how often a host died."""

    end: RunEnd
    reader: RunReader
    simulator: SimulatedBench
    kills: int = 0
    log: list[str] = field(default_factory=list)


#: Decides when a host dies: called with the host and the count of hosts before it, awaited beside
#: the run; it returns when the host is to die, or never.
Fate = Callable[[Host, int], Awaitable[None]]


def run_with_kills(
    protocol: Path,
    directory: Path,
    fate: Fate,
    *,
    away_s: float = 0.0,
    most: int = 1000,
    **named: Any,
) -> Ended:
    """Run a protocol through the deaths of its hosts to its end, in virtual time.

    Args:
        protocol: Its file.
        directory: Where its store is made.
        fate: When a host dies.
        away_s: How long nobody is there after each death.
        most: Hosts that may die.
        named: For `prepare`.
    """
    session = prepare(str(protocol), **named)
    simulator = session.simulator
    assert isinstance(simulator, SimulatedBench)
    kills = 0

    async def main(store: Store) -> RunEnd:
        nonlocal kills
        async with simulator:
            host = Host(session, store)
            task = host.run()
            while True:
                dying = asyncio.ensure_future(fate(host, kills))
                await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
                if task.done() or kills >= most:
                    dying.cancel()
                    return await task
                host.kill()
                kills += 1
                await asyncio.wait({task})
                await asyncio.sleep(away_s)
                (run,) = store.runs()
                began_s = host.began_s
                host = Host(session, store)
                task = host.resume(run, began_s)

    with Store(directory) as store:
        end = clock.run(main(store), virtual=True)
        return Ended(end, RunReader(store.run_path(end.run.id)), simulator, kills)
