"""The owner of a bench: one process, one loop, and in it as many runs as the bench has places.

Each run has its own journal, file and way to the safe state, and fails alone. What several places
share is connected once and leased (`cellbench.engine.lending`); one guard watches over all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cellbench.analysis import available
from cellbench.bench import BenchFile
from cellbench.engine.control import ControlServer
from cellbench.engine.gate import Gate, gate_of
from cellbench.engine.guard.keeper import Keeper, guarded
from cellbench.engine.guard.piped import GuardOfMany
from cellbench.engine.leases import Lease
from cellbench.engine.lending import LeasedStake, Needs, Pool, needs_of
from cellbench.engine.named_bench import read_bench
from cellbench.engine.places import Places
from cellbench.engine.prompts import Prompts
from cellbench.engine.resume import age_of, session_of, taken_up
from cellbench.engine.run import Conducting, Conductor, RunEnd
from cellbench.engine.safe_state import to_the_end
from cellbench.engine.session import Session, prepare
from cellbench.engine.side_thread import SideThread
from cellbench.errors import InputError
from cellbench.protocol import check, plan
from cellbench.protocol.plan import Plan
from cellbench.protocol.program import Program
from cellbench.store import Store

if TYPE_CHECKING:
    from cellbench.engine.orders import Order

#: Stands beside each run while it lasts: the live view, telemetry.
Witness = Callable[[Conducting, Gate], AbstractContextManager[object]]


K = TypeVar("K")

#: Runs that connect at once: beginning takes the loop for a while each time, and whoever waits for
#: an instrument's answer meanwhile would not hear it in time if all of a large bench did.
_BEGINNING_MAX = 4

#: How a run ended, or why it has not begun.
Ended = RunEnd | BaseException


@dataclass(frozen=True)
class RunRequest:
    """What is to be run where.

    Attributes:
        protocol: A file, or the name of a shipped protocol.
        place: Of the bench file; empty on a bench with one cell.
        cell: Its card, a file or a name; by default the place's, then the protocol's.
        sets: Parameters as ``name=value``.
        campaign: Name of the campaign that it belongs to.
        replicate: 1, 2, 3 ... within the campaign, 0 where it is none.
    """

    protocol: str
    place: str = ""
    cell: str | None = None
    sets: tuple[str, ...] = ()
    campaign: str = ""
    replicate: int = 0


@dataclass(frozen=True)
class Prepared:
    """A request that was checked: nothing is connected yet."""

    request: RunRequest
    session: Session
    planned: Plan
    needs: Needs


def nobody(_conducting: Conducting, _gate: Gate) -> AbstractContextManager[object]:
    """Nobody stands beside a run."""
    return nullcontext()


async def in_company(
    conducting: Conducting,
    *,
    guard: Keeper,
    side: SideThread,
    prompts: Prompts | None = None,
    witness: Witness = nobody,
) -> RunEnd:
    """Conduct a run to its end; its guard, commands and witness hear of it meanwhile."""
    guard.watch_over(conducting)
    conducting.commands.prompts = prompts
    gate = gate_of(conducting)
    async with ControlServer(conducting.run.id, conducting.writer.path, side, gate):
        with witness(conducting, gate):
            return await conducting.conduct()


class Owner:
    """Holds the instruments of a bench and runs many runs on it; an async context manager.

    An instrument is taken when the first run needs it: one that a place has for itself for that
    run, one that several share until the owner ends.

    Args:
        bench: The bench file, or the name of a simulated bench.
        store: Where the runs are kept.
        seed: Of the simulated bench.
        sim_cell: The simulated cell of places that name none.
        cards: By place, cards that stand for those of the bench file.
        witness: Stands beside each run.

    Attributes:
        file: The bench file.

    Raises:
        InputError: It is no bench file.
    """

    def __init__(
        self,
        bench: Path,
        store: Store,
        *,
        seed: int = 0,
        sim_cell: str | None = None,
        cards: Mapping[str, str] | None = None,
        witness: Witness = nobody,
    ) -> None:
        named = read_bench(bench)
        self.file = named.file
        self._bench, self._store, self._witness = bench, store, witness
        self._seed, self._sim_cell = seed, sim_cell
        self._places = (
            Places(named, seed=seed, sim_cell=sim_cell, cards=cards) if self.file.cells else None
        )
        self._prepared: dict[RunRequest, Prepared] = {}
        self._busy: dict[str, asyncio.Task[Any] | None] = {}
        self._guards, self._side = GuardOfMany(), SideThread()
        self._beginning = asyncio.Semaphore(_BEGINNING_MAX)
        self._pool = Pool(self.file, named.beside)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._side)
        if self._places is not None and self._places.simulator is not None:
            await self._stack.enter_async_context(self._places.simulator)
        await self._stack.enter_async_context(self._pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        left = [task for task in self._busy.values() if task is not None]
        for task in left:
            task.cancel()
        await to_the_end(_settled(left), lambda _: None)
        await self._stack.aclose()

    # --- Runs -----------------------------------------------------------------------------------

    def prepare(self, request: RunRequest) -> Prepared:
        """Load and check what is to be run; nothing is connected, nothing energised.

        Raises:
            InputError: It cannot be run there, and why.
        """
        if request not in self._prepared:
            places = self._places
            self._prepared[request] = (
                self._alone(request) if places is None else self._at_place(places, request)
            )
        return self._prepared[request]

    def conflicts(self, requests: Sequence[RunRequest]) -> Sequence[str]:
        """Tell which requests cannot run at once, and why."""
        wanted = [Lease(each.place, self.prepare(each).needs.whole) for each in requests]
        return [
            f"{one.who} and {other.who} run one after the other: {', '.join(sorted(both))}"
            for one, other in combinations(wanted, 2)
            if (both := one.conflicts(other))
        ]

    async def run(self, request: RunRequest) -> RunEnd:
        """Run a request to its end, however it ends; several may run at once.

        Raises:
            InputError: It cannot be run there, or a run is under way at its place.
            InstrumentError: An instrument of the place cannot be had; nothing was energised.
            StoreError: The run cannot be kept.
        """
        prepared = self.prepare(request)
        del self._prepared[request]  # the same request again has a bench of its own
        return await self.carry_out(prepared)

    async def carry_out(self, prepared: Prepared, order: Order | None = None) -> RunEnd:
        """Run what was prepared, as `run` does; a job that has ordered it hears of it first."""
        request, session = prepared.request, prepared.session
        with self._alone_at(request.place):
            async with AsyncExitStack() as stack:
                guard = await stack.enter_async_context(guarded(session, self._guards.start))
                prompts = Prompts(None) if session.simulator is None else None
                stake = self._stake(request.place, session, prepared.needs)
                async with self._beginning:
                    bench = await stack.enter_async_context(session.bench(prompts, stake=stake))
                    conductor = Conductor(
                        session.program,
                        bench,
                        self._store,
                        documents=session.documents(bench) | (order.documents if order else {}),
                        seed=session.seed,
                        campaign=request.campaign,
                        replicate=request.replicate,
                        planned=prepared.planned,
                    )
                if order is not None:
                    await order.begins(conductor, self._store)
                return await self._conduct(conductor, guard, prompts)

    async def resume(self, run_id: str, *, accept: bool = False) -> RunEnd:
        """Go on with a run of this bench; see `cellbench.engine.resume`.

        Args:
            run_id: The run.
            accept: Whether somebody consents to a cell that changed meanwhile.

        Raises:
            InputError: There is nothing to go on with, or a run is under way at its place.
            InstrumentError: An instrument of the place cannot be had, or does something else.
        """
        run = self._store.find(run_id)
        found = session_of(self._store, run)
        session = replace(found, shared=self._pool.names & frozenset(found.file.instruments))
        planned = plan(session.program, session.declared())
        needs = self._needs(session, planned)
        purpose = f"resume {run.id}"
        with self._alone_at(run.place):
            async with AsyncExitStack() as stack:
                guard = await stack.enter_async_context(guarded(session, self._guards.start))
                prompts = Prompts(None)
                stake = self._stake(run.place, session, needs, take_over=purpose)
                connecting = session.bench(prompts, take_over=purpose, stake=stake)
                async with self._beginning:
                    bench = await stack.enter_async_context(connecting)
                    age_s = age_of(run, session.file.speed)
                    resumption = await taken_up(
                        session, bench, self._store, run,
                        age_s=age_s, accepted=accept, planned=planned,
                    )  # fmt: skip
                return await self._conduct(resumption, guard, prompts)

    async def _conduct(
        self, conducting: Conducting, guard: Keeper, prompts: Prompts | None
    ) -> RunEnd:
        return await in_company(
            conducting, guard=guard, side=self._side, prompts=prompts, witness=self._witness
        )

    @contextmanager
    def _alone_at(self, place: str) -> Iterator[None]:
        if place in self._busy:
            raise InputError(f"{self.file.bench}: a run is under way at {place or 'its cell'}")
        self._busy[place] = asyncio.current_task()
        try:
            yield
        finally:
            del self._busy[place]

    # --- Preparing ------------------------------------------------------------------------------

    def _alone(self, request: RunRequest) -> Prepared:
        """A bench with one cell: nothing is shared."""
        if request.place:
            self.file.of_place(request.place)
        session = prepare(
            request.protocol,
            cell=request.cell,
            sim_cell=self._sim_cell,
            bench=self._bench,
            sets=request.sets,
            seed=self._seed,
        )
        planned = _checked(session)
        return Prepared(request, session, planned, self._needs(session, planned))

    def _at_place(self, places: Places, request: RunRequest) -> Prepared:
        session = places.session(
            request.protocol,
            request.place,
            card=request.cell,
            sets=request.sets,
            shared=self._pool.names,
        )
        return self._of_place(request, session)

    def put(self, request: RunRequest, program: Program, card_text: str) -> Prepared:
        """Prepare a program that was loaded elsewhere, for a place; errors as of `prepare`."""
        assert self._places is not None  # noqa: S101 (a bench with places)
        session = self._places.put(program, card_text, request.place, self._pool.names)
        return self._of_place(request, session)

    def _of_place(self, request: RunRequest, session: Session) -> Prepared:
        planned = _checked(session)
        needs = self._needs(session, planned)
        return Prepared(request, _without(session, needs.unused), planned, needs)

    def _needs(self, session: Session, planned: Plan) -> Needs:
        needs = needs_of(session.program, planned, session.file, session.shared, session.beside)
        if (
            needs.unused
            and check(
                session.program, _without(session, needs.unused).declared(), available()
            ).problems
        ):
            return needs.with_all()
        return needs

    def _stake(
        self, place: str, session: Session, needs: Needs, take_over: str | None = None
    ) -> LeasedStake | None:
        if not self.file.cells:
            return None
        return LeasedStake(self._pool, place, session.file, needs, take_over=take_over)


def _checked(session: Session) -> Plan:
    declared = session.declared()
    check(session.program, declared, available()).raise_problems()
    return plan(session.program, declared)


def _without(session: Session, names: frozenset[str]) -> Session:
    """Leave instruments of a place to others."""
    if not names:
        return session
    file: BenchFile = session.file.without(names)
    return replace(session, file=file, bench_text=file.text(), shared=session.shared - names)


async def _settled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def all_at_once(runs: Mapping[K, Coroutine[Any, Any, RunEnd]]) -> Mapping[K, Ended]:
    """Conduct runs to their ends; cancelled, all of them come to their safe state first.

    Returns:
        How each ended, or the error for which it has not begun.
    """
    tasks = {each: asyncio.create_task(run) for each, run in runs.items()}
    try:
        await asyncio.wait(tasks.values())
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await to_the_end(_settled(list(tasks.values())), lambda _: None)
    return {each: _ended(task) for each, task in tasks.items()}


def _ended(task: asyncio.Task[RunEnd]) -> Ended:
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()
