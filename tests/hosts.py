"""Computers on a simulated bench that outlives them, in virtual time.

A host is its tasks, its wires and its store handle. Killing it cuts the wires and the store first
and then drops the tasks, so that no clean-up of the dead host reaches the bench. What was not on
disk yet is lost: here that is all since the last entry that was awaited, whatever the disk does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.bench import Bench, InstrumentEntry, connected
from cellbench.engine.guard.keeper import Keeper, StartGuard
from cellbench.engine.resume import taken_up
from cellbench.engine.run import Conducting, Conductor, RunEnd
from cellbench.engine.session import Session, identity_of, prepare
from cellbench.errors import InstrumentError
from cellbench.instruments.registry import Driver
from cellbench.store import Run, RunReader, Store
from cellbench.transport import Stream
from cellbench.transport.identity import identified
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.device import Wire


class Host:
    """One computer, from being switched on to its end or its death.

    Args:
        session: What it is to run, on which bench.
        store: Where.
        start_guard: Starts its guard, None for none.

    Attributes:
        on_kill: Called when it dies.
    """

    def __init__(
        self, session: Session, store: Store, start_guard: StartGuard | None = None
    ) -> None:
        self.session, self.store = session, store
        self.on_kill: list[Callable[[], None]] = []
        self._keeper = Keeper(session, start_guard)
        self.conducting: Conducting | None = None
        self.conducts = asyncio.Event()
        self._wires: list[Wire] = []
        self._task: asyncio.Task[RunEnd] | None = None
        self._dead = False

    def run(self) -> asyncio.Task[RunEnd]:
        """Begin the run."""
        return self._begin(self._conductor)

    def resume(self, run: Run, **options: Any) -> asyncio.Task[RunEnd]:
        """Go on with a run."""

        async def resumption(bench: Bench) -> Conducting:
            return await taken_up(self.session, bench, self.store, run, **options)

        return self._begin(resumption)

    def kill(self) -> None:
        """Let it die at this very moment."""
        self._dead = True
        for tell in self.on_kill:
            tell()
        for wire in self._wires:
            wire.sever()
        if self.conducting is not None:
            self.conducting.writer.sever()
        if self._task is not None:
            self._task.cancel()

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
            self._keeper.watch_over(self.conducting)
            self.conducts.set()
            return await self.conducting.conduct()

    async def _conductor(self, bench: Bench) -> Conducting:
        documents = self.session.documents(bench)
        return Conductor(
            self.session.program, bench, self.store, documents=documents, seed=self.session.seed
        )

    async def _open_stream(self, name: str, _entry: InstrumentEntry, _: Driver) -> Stream:
        assert self.session.simulator is not None
        if self._dead:
            raise InstrumentError(name, "this host is dead")
        wire = self.session.simulator.connect(name)
        assert isinstance(wire, Wire)
        self._wires.append(wire)
        return wire


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
        loop = asyncio.get_running_loop()
        async with simulator:
            host, started_s = Host(session, store), loop.time()
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
                host = Host(session, store)
                task = host.resume(run, age_s=loop.time() - started_s)

    with Store(directory) as store:
        end = clock.run(main(store), virtual=True)
        return Ended(end, RunReader(store.run_path(end.run.id)), simulator, kills)
