"""Plays scenarios: hosts on a simulated bench, what goes wrong, and what is left of it all."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.faults import direct_writer
from tests.faults.bounds import watch_of
from tests.faults.computer import Computer, Record
from tests.faults.generate import BENCHES
from tests.faults.injector import Injector, Seen
from tests.faults.scenario import Ask, DeafGuard, FullDisk, Kill, Scenario

from cellbench import bench as bench_files
from cellbench import clock
from cellbench.engine.guard import GuardReport, ledger_path, read_ledger
from cellbench.engine.run import RunEnd
from cellbench.engine.session import Session, prepare
from cellbench.protocol.check import adapt
from cellbench.protocol.program import PassEnded
from cellbench.protocol.walk import Walk
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench

#: A scenario that lasts longer than this has come to a standstill.
PATIENCE_S, NIGHT_S = 24 * 3600.0, 90 * 24 * 3600.0


@dataclass
class Played:
    """What is left of a scenario.

    Attributes:
        hosts: What became of engine and guard.
        open_at_end: Whether the cell was at open circuit after the last host's end.
        planned: Paths of all steps that the program can have, in order.
        ledger: What its guards say.
    """

    scenario: Scenario
    session: Session
    seen: Seen
    hosts: Record = field(default_factory=Record)
    stalled: bool = False
    open_at_end: bool = True
    passed_C: float = 0.0
    planned: list[str] = field(default_factory=list)
    ended_s: float = 0.0
    reader: RunReader | None = None
    ledger: GuardReport = field(default_factory=lambda: GuardReport([], watched=False))
    bench_error: str = ""
    unhandled: list[str] = field(default_factory=list)

    @property
    def end(self) -> RunEnd | None:
        """How the run ended, None if it never began."""
        return next((each for each in reversed(self.hosts.ends) if isinstance(each, RunEnd)), None)


@lru_cache
def _bench_text(shipped: str) -> str:
    return SimulatedBench.benches()[shipped]


@contextmanager
def remembered() -> Iterator[None]:
    """Look only once for what is installed."""
    slow = _BENCH_FILES.entry_points
    _BENCH_FILES.entry_points = _entry_points
    try:
        yield
    finally:
        _BENCH_FILES.entry_points = slow


_BENCH_FILES: Any = bench_files
_entry_points = lru_cache(_BENCH_FILES.entry_points)


def play(scenario: Scenario) -> Played:
    """Play a scenario to its end, in virtual time."""
    shm = Path("/dev/shm")  # noqa: S108 (a directory of our own is made in it)
    directory = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    try:
        with direct_writer.installed(), remembered():
            return _Lab(scenario, directory).play()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Lab:
    played: Played
    simulator: SimulatedBench
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
                played.ledger = read_ledger(ledger_path(played.reader.path))
        return played

    async def _main(self, store: Store, options: dict[str, Any]) -> None:
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        async with self.simulator:
            injector = Injector(self.simulator, options, self._scenario.seed % 1000)
            computer = Computer(
                self.played.session, store, injector, guarded=self._scenario.guarded
            )
            self._injector, self._computer = injector, computer
            self.played.seen, self.played.hosts = injector.seen, computer.record
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
                    await computer.run()
            except TimeoutError:
                self.played.stalled = True
            finally:
                await computer.off()
            world = self.simulator.world
            world.advance_to(injector.now_s)
            self.played.open_at_end = world._demand == "open"
            self.played.passed_C = world.cell.passed_C
            self.played.ended_s = injector.now_s

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something failed that nobody awaits: the clean-up of dead hosts, or a mistake."""
        if not self.played.hosts.kills:
            error = context.get("exception")
            self.played.unhandled.append(f"{context['message']}: {error!r}")

    def _plan_own(self) -> None:
        """Plan what is done to processes and stores, and what people ask."""
        actions: dict[type, Callable[[Any], None]] = {
            Kill: self._computer.kill_soon,
            DeafGuard: self._computer.deafen,
            Ask: self._computer.ask,
            FullDisk: self._fill,
        }
        for fault in self._scenario.faults:
            if (action := actions.get(type(fault))) is not None:
                self.simulator._timebase.call_at(fault.at_s, action, fault)

    def _fill(self, fault: FullDisk) -> None:
        self._injector.strikes(fault)
        self._disk_is_full_until_s = self._injector.now_s + fault.duration_s


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
