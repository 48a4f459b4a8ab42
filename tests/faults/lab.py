"""Plays scenarios: hosts on a simulated bench, what goes wrong, and what is left of it all."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.faults import direct_writer
from tests.faults.bounds import watch_of
from tests.faults.generate import BENCHES
from tests.faults.injector import Injector, Seen, turns_later
from tests.faults.scenario import Ask, FullDisk, Kill, Scenario
from tests.hosts import Host

from cellbench import clock
from cellbench.engine.causes import RunState
from cellbench.engine.requests import Continue, Pause, Skip, Who
from cellbench.engine.run import RunEnd
from cellbench.engine.session import Session, prepare
from cellbench.errors import CellbenchError
from cellbench.protocol.check import adapt
from cellbench.protocol.program import PassEnded
from cellbench.protocol.walk import Walk
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench

#: A scenario that lasts longer than this has come to a standstill.
PATIENCE_S, NIGHT_S = 24 * 3600.0, 90 * 24 * 3600.0
#: A person looks after a run that ended early after this time, so often at most.
LOOKS_AFTER_S = 900.0
MOST_RESUMES = 3
_WHO = Who(user="scenario", via="test")


@dataclass
class Played:
    """What is left of a scenario.

    Attributes:
        ends: How each host's part ended; what was raised in place of an end.
        open_at_end: Whether the cell was at open circuit after the last host's end.
        planned: Paths of all steps that the program can have, in order.
        cut_s: Bench times between which no host was there.
        started_s: Bench time at which the run began.
    """

    scenario: Scenario
    session: Session
    seen: Seen
    ends: list[RunEnd | Exception] = field(default_factory=list)
    resumes: int = 0
    kills: int = 0
    stalled: bool = False
    open_at_end: bool = True
    passed_C: float = 0.0
    planned: list[str] = field(default_factory=list)
    away_s: list[tuple[float, float]] = field(default_factory=list)
    started_s: float = 0.0
    ended_s: float = 0.0
    reader: RunReader | None = None
    bench_error: str = ""
    unhandled: list[str] = field(default_factory=list)

    @property
    def end(self) -> RunEnd | None:
        """How the run ended, None if it never began."""
        return next((each for each in reversed(self.ends) if isinstance(each, RunEnd)), None)


@lru_cache
def _bench_text(shipped: str) -> str:
    return SimulatedBench.benches()[shipped]


def play(scenario: Scenario) -> Played:
    """Play a scenario to its end, in virtual time."""
    shm = Path("/dev/shm")  # noqa: S108 (a directory of our own is made in it)
    directory = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    try:
        with direct_writer.installed():
            return _Lab(scenario, directory).play()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Lab:
    played: Played
    simulator: SimulatedBench
    _host: Host | None
    _disk_is_full_until_s: float

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        self._scenario, self._directory = scenario, directory
        protocol = directory / "night.yaml"
        protocol.write_text(scenario.text, encoding="utf-8")
        bench: Path | None = None
        shipped = BENCHES[scenario.bench].shipped
        if shipped:
            bench = directory / "bench.yaml"
            bench.write_text(_bench_text(shipped), encoding="utf-8")
        session = prepare(str(protocol), seed=scenario.seed % 1000, bench=bench)
        simulator = session.simulator
        assert isinstance(simulator, SimulatedBench)
        self.simulator = simulator
        self.played = Played(scenario, session, Seen())
        self._host = None
        self._death: asyncio.Event
        self._dying: Kill | None = None
        self._disk_is_full_until_s = -1.0

    def play(self) -> Played:
        played, session = self.played, self.played.session
        declared = session.declared()
        played.planned = [
            item.path
            for item in Walk(session.program, planning=True)
            if not isinstance(item, PassEnded) and adapt(item, declared)[0] is not None
        ]
        options = {
            name: entry.model_dump(by_alias=True, exclude_none=True)
            for name, entry in session.file.instruments.items()
        }
        with Store(self._directory / "store") as store:
            try:
                clock.run(self._main(store, options), virtual=True)
            except (BaseExceptionGroup, clock.VirtualTimeError, RuntimeError) as error:
                played.bench_error = _told(error)
            runs = store.runs()
            if runs:
                played.reader = RunReader(store.run_path(runs[0].id))
                _read_all(played.reader)
        return played

    async def _main(self, store: Store, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self._death = asyncio.Event()
        loop.set_exception_handler(self._unhandled)
        async with self.simulator:
            injector = Injector(self.simulator, options, self._scenario.seed % 1000)
            self._injector, self.played.seen = injector, injector.seen
            for name, entry in options.items():
                injector.bounds[name] = watch_of(
                    entry["driver"],
                    self.played.session.program.limits,
                    injector.seen.unbounded.append,
                    self._directory,
                )
            injector.plan(self._scenario.faults)
            direct_writer.LoopThread.is_full = staticmethod(
                lambda: injector.now_s < self._disk_is_full_until_s
            )
            injector.look()
            self._plan_own()
            try:
                async with asyncio.timeout(NIGHT_S if self._scenario.protocol else PATIENCE_S):
                    await self._hosts(store, loop)
            except TimeoutError:
                self.played.stalled = True
                if self._host is not None:
                    self._host.kill()
            world = self.simulator.world
            world.advance_to(injector.now_s)
            self.played.open_at_end = world._demand == "open"
            self.played.passed_C = world.cell.passed_C
            self.played.ended_s = injector.now_s

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something failed that nobody awaits: the clean-up of dead hosts, or a mistake."""
        if not self.played.kills:
            error = context.get("exception")
            self.played.unhandled.append(f"{context['message']}: {error!r}")

    # --- Hosts ----------------------------------------------------------------------------------

    async def _hosts(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        played, accepted, step_s = self.played, False, 0.0
        while True:
            self._death.clear()
            host = self._host = _WatchedHost(played.session, store, self._injector)
            runs = store.runs()
            if not runs:
                task = host.run()
                began_s = loop.time()
                played.started_s = self._injector.now_s
            else:
                age_s = loop.time() - began_s + step_s
                task = host.resume(runs[0], age_s=age_s, accepted=accepted)
            dying = asyncio.ensure_future(self._death.wait())
            await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if self._dying is not None:
                kill, self._dying = self._dying, None
                host.kill()
                played.kills += 1
                away_s, step_s = kill.away_s, kill.clock_step_s
                self._injector.strikes(kill)
                await asyncio.wait({task})
                self._host = None
                if not task.cancelled():
                    task.exception()
            else:
                ended = task.exception() or task.result()
                played.ends.append(ended)  # type: ignore[arg-type]
                self._host, step_s = None, 0.0
                if isinstance(ended, RunEnd):
                    if ended.state is RunState.COMPLETED or played.resumes >= MOST_RESUMES:
                        return
                elif not isinstance(ended, CellbenchError) or played.resumes >= 3 * MOST_RESUMES:
                    return
                played.resumes += 1
                accepted, away_s = True, LOOKS_AFTER_S
            gone_s = self._injector.now_s
            await asyncio.sleep(away_s)
            played.away_s.append((gone_s, self._injector.now_s))

    def _plan_own(self) -> None:
        """Plan what is done to hosts and stores, and what people ask."""
        timebase = self.simulator._timebase
        for fault in self._scenario.faults:
            match fault:
                case Kill():
                    timebase.call_at(fault.at_s, self._kill_soon, fault)
                case FullDisk():
                    timebase.call_at(fault.at_s, self._fill, fault)
                case Ask():
                    timebase.call_at(fault.at_s, self._ask, fault)
                case _:
                    pass

    def _kill_soon(self, kill: Kill) -> None:
        """Let the host die so many turns after the next message on a wire."""

        def heard(_: str) -> None:
            self._injector.on_message = lambda _: None
            turns_later(kill.turns, lambda: self._kill(kill))

        self._injector.on_message = heard

    def _kill(self, kill: Kill) -> None:
        host = self._host
        if host is None:
            return  # nobody is there
        self._dying = kill
        # At once: nothing that would come later in this turn reaches bench or disk.
        for wire in host._wires:
            wire.sever()
        if host.conducting is not None:
            host.conducting.writer.sever()
        self._death.set()

    def _fill(self, fault: FullDisk) -> None:
        self._injector.strikes(fault)
        self._disk_is_full_until_s = self._injector.now_s + fault.duration_s

    def _ask(self, fault: Ask) -> None:
        conducting = None if self._host is None else self._host.conducting
        if conducting is None or conducting.ending:
            return
        self._injector.strikes(fault)
        command = Pause(command="pause") if fault.what == "pause" else Skip(command="skip")
        task = asyncio.get_running_loop().create_task(conducting.commands.obey(command, _WHO))
        task.add_done_callback(lambda each: each.cancelled() or each.exception())
        if fault.what == "pause":
            self._injector.after(fault.duration_s, self._continue)

    def _continue(self) -> None:
        conducting = None if self._host is None else self._host.conducting
        if conducting is None or conducting.ending:
            return
        command = Continue(command="continue")
        task = asyncio.get_running_loop().create_task(conducting.commands.obey(command, _WHO))
        task.add_done_callback(lambda each: each.cancelled() or each.exception())


class _WatchedHost(Host):
    """A host whose wires are known, and at whose side time does not slow down for people."""

    def __init__(self, session: Session, store: Store, injector: Injector) -> None:
        super().__init__(session, store)
        self._injector = injector
        asyncio.get_running_loop().call_soon(self._no_pace)

    def _no_pace(self) -> None:
        if self.conducting is not None:
            self.conducting.commands._pace = _NoPace()  # type: ignore[assignment]
        elif self._task is not None and not self._task.done():
            asyncio.get_running_loop().call_later(0.05, self._no_pace)

    async def _open_stream(self, *args: Any) -> Any:
        wire = await super()._open_stream(*args)
        self._injector.wires.append(wire)  # type: ignore[arg-type]
        return wire


class _NoPace:
    """Time jumps though a person has paused the run."""

    def begin(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def _read_all(reader: RunReader) -> None:
    """Read what is looked at later, while the file is there."""
    _ = reader.journal, reader.steps, reader.documents
    reader.all_rows = reader._rows(  # type: ignore[attr-defined]
        "SELECT time_s, source, step, voltage_V, current_A, charge_C, force_N, temperature_K, "
        "flags, row FROM sample ORDER BY rowid"
    )


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"
