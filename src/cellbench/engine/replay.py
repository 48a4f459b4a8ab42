"""Repeating a recorded run against its wire log, in virtual time: where does it first differ?

Everything is the run's own (protocol, cell card, bench, parameters, ids and dates); only the code
is today's. Drivers and engine do not know that nobody is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.bench import Bench, BenchFile, InstrumentEntry, connected, parse_bench
from cellbench.cell import CellCard
from cellbench.engine.named_bench import with_folders
from cellbench.engine.operator import OPERATOR, ReplayedOperator
from cellbench.engine.recorded import LedgerEntry, Recording, ledger_of
from cellbench.engine.run import Conductor, RunEnd
from cellbench.errors import CellbenchError, InputError, TransportClosed
from cellbench.instruments.registry import Driver, load_driver
from cellbench.protocol.loading import load_protocol, parse_card, parse_settings
from cellbench.protocol.program import Program
from cellbench.protocol.source import document_of, load
from cellbench.store import RunReader, Store, data_directory
from cellbench.transport.identity import WireIdentity, identified
from cellbench.transport.recording import events_of
from cellbench.transport.replaying import Divergence, RecordedWire, Replay
from cellbench.transport.stream import Stream

#: How much earlier or later than recorded something may be sent: where both times are virtual and
#: the code says the same, and where the one has the jitter of real time or the code may differ.
BOUND_STRICT_S = 1e-3
BOUND_S = 10.0
#: How often a replay looks for what has not been sent, at most and at least in all.
_CHECK_EVERY_S = 10.0
_CHECKS = 5000


@dataclass(frozen=True)
class Found:
    """Where a replay first differs.

    Attributes:
        divergence: On the wire; None where the wire is the same and the ledger of steps differs.
        time_s: When, since the start of the run; negative while the bench is being connected.
        step: The step that the replay was in.
        expected_s, expected_step: The same of the recording.
        text: What differs, where it is not the wire.
    """

    divergence: Divergence | None
    time_s: float
    step: str
    expected_s: float | None
    expected_step: str
    text: str = ""


@dataclass(frozen=True)
class Replayed:
    """What came of a replay.

    Attributes:
        found: The first divergence, None if there is none.
        cut_off_s: Where the log ends, if it was cut off there (the process was killed).
        span_s: How long the recorded run took.
        wall_s: How long its replay took.
        earliest_s, latest_s: How much earlier and later than recorded things were sent.
        left_out, added: Routine requests, sent less or more often than recorded.
    """

    run: str
    by_meaning: bool
    found: Found | None
    cut_off_s: float | None
    frames: int
    connections: int
    span_s: float
    wall_s: float
    earliest_s: float
    latest_s: float
    left_out: int
    added: int


def replay(
    recording: Recording,
    *,
    by_meaning: bool | None = None,
    bound_s: float | None = None,
    protocol: Path | None = None,
    sets: Sequence[str] = (),
    drivers: Path | None = None,
) -> Replayed:
    """Repeat a recorded run against its wire log.

    Args:
        recording: The run.
        by_meaning: Compare frames by their meaning; else bytes. By default as suits the run: by
            meaning if it was in real time.
        bound_s: How much earlier or later than recorded something may be sent; by default
            `BOUND_STRICT_S` for bytes of a run in virtual time, else `BOUND_S`.
        protocol: Another protocol than the run's own.
        sets: Parameters that differ from the run's own, as ``name=value``.
        drivers: Where driver files are that the bench file names.

    Raises:
        InputError: The program cannot be made again, or a driver is missing.
        StoreError: The wire log is damaged.
    """
    in_virtual_time = recording.facts["time"] == "virtual"
    if by_meaning is None:
        by_meaning = not in_virtual_time
    if bound_s is None:
        exact = in_virtual_time and not by_meaning
        bound_s = BOUND_STRICT_S if exact else BOUND_S
    program = program_of(recording, protocol, sets)
    wire = RecordedWire.of(events_of(recording.wire))
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        _OneRun(Path(directory), recording.run.id) as store,
    ):
        repeating = _Repeating(recording, program, store, drivers)
        return clock.run(repeating.repeat(wire, bound_s, started, by_meaning), virtual=True)


def program_of(
    recording: Recording, protocol: Path | None = None, sets: Sequence[str] = ()
) -> Program:
    """Make the program of a recorded run again, or that of another protocol for the same cell.

    Raises:
        InputError: It cannot be made.
    """
    card = parse_card(recording.documents["cell"], f"the card of run {recording.run.id}")
    if protocol is not None:
        return _resolved(recording, protocol, card, sets, kept=False)
    prefix, main = "protocol/", recording.documents["protocol"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        path = Path(directory) / "protocol.yaml"
        for document, text in recording.documents.items():
            if document.startswith(prefix):
                kept = Path(directory) / Path(document.removeprefix(prefix)).name
                kept.write_text(text, encoding="utf-8")
                path = kept if text == main else path
        path.write_text(main, encoding="utf-8")
        return _resolved(recording, path, card, sets, kept=True)


def _resolved(
    recording: Recording, path: Path, card: CellCard, sets: Sequence[str], *, kept: bool
) -> Program:
    """Load a protocol with the parameters that the run had been given, and others on top."""
    plain = load_protocol(path, card, kept=kept)
    given: Mapping[str, str] = recording.environment["parameters"]
    changed = {
        name: given[name]
        for name, parameter in plain.parameters.items()
        if name in given and given[name] != parameter.text
    }
    wanted = changed | parse_settings(sets)
    return load_protocol(path, card, wanted, kept=kept) if wanted else plain


def bench_file(recording: Recording) -> BenchFile:
    """The bench file of a recorded run."""
    text = recording.documents["bench"]
    file = parse_bench(load(document_of(text, f"the bench of run {recording.run.id}")))
    return with_folders(file, data_directory())


class _OneRun(Store):
    """A store for one run, which keeps the id that it had: ids may go over the wire."""

    def __init__(self, directory: Path, run_id: str) -> None:
        super().__init__(directory)
        self._id = run_id

    def _next_id(self, started: datetime) -> str:  # noqa: ARG002 (the store's signature)
        return self._id


class _Repeating:
    """One replay under way."""

    def __init__(
        self, recording: Recording, program: Program, store: Store, drivers: Path | None
    ) -> None:
        self._recording = recording
        self._program = program
        self._store = store
        self._drivers = drivers
        self._conductor: Conductor | None = None
        self._run_s = 0.0
        self._step = ""

    async def repeat(
        self, wire: RecordedWire, bound_s: float, started: float, by_meaning: bool
    ) -> Replayed:
        await clock.sleep_until(self._recording.facts.get("origin_s", 0.0))
        self._replay = Replay(wire, by_meaning=by_meaning, bound_s=bound_s)
        self._replay.over.add_done_callback(self._note_step)
        loop = asyncio.get_running_loop()
        if self._recording.facts["time"] == "real" and isinstance(loop, clock.VirtualLoop):
            loop.delay_timers(self._replay.served_at)
        found = await self._first_divergence()
        cut_off = found is None and self._replay.over.done()
        replay = self._replay
        return Replayed(
            run=self._recording.run.id,
            by_meaning=by_meaning,
            found=found,
            cut_off_s=wire.last_s if cut_off else None,
            frames=wire.frames,
            connections=sum(bool(each.exchanges) for each in wire.connections),
            span_s=wire.last_s,
            wall_s=time.perf_counter() - started,
            earliest_s=replay.earliest_s,
            latest_s=replay.latest_s,
            left_out=replay.left_out,
            added=replay.added,
        )

    async def _first_divergence(self) -> Found | None:
        facts, over = self._recording.facts, self._replay.over
        identity = WireIdentity(facts["seed"], datetime.fromisoformat(facts["date"]))
        try:
            with identified(identity):
                async with await self._bench() as bench:
                    end = await self._conduct(bench)
            self._replay.finish()
        except InputError:
            raise
        except CellbenchError:
            # Once the replay is over nobody answers any more, and everything may fail.
            if not over.done():
                raise
        if over.done():
            divergence = over.result()
            return None if divergence is None else self._on_wire(divergence)
        return self._in_ledger(end)

    async def _bench(self) -> contextlib.AbstractAsyncContextManager[Bench]:
        recorded = self._recording
        operator = None
        if any(each.name == OPERATOR for each in self._replay.wire.connections):
            operator = ReplayedOperator(await self._replay.open(OPERATOR))
        self._check_drivers()
        return connected(
            bench_file(recorded),
            self._open_stream,
            simulated=recorded.run.simulated,
            operator=operator,
            beside=self._drivers,
        )

    def _check_drivers(self) -> None:
        for name, entry in bench_file(self._recording).instruments.items():
            try:
                load_driver(entry.driver, self._drivers)
            except InputError as error:
                hint = "; say where driver files are with --drivers DIR"
                hint = hint if ".py:" in entry.driver else ""
                raise InputError(f"{name}: {error}{hint}") from error

    async def _open_stream(self, name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        decoder = getattr(driver, "decoder", None)
        return await self._replay.open(name, decoder and decoder(name, entry.options))

    async def _conduct(self, bench: Bench) -> RunEnd:
        run = self._recording.run
        if self._replay.wire.run_s is not None:
            await self._replay.reach(self._replay.wire.run_s)  # schedules count from there
        self._conductor = conductor = Conductor(
            self._program,
            bench,
            self._store,
            documents={},
            seed=run.seed,
            acknowledged=self._replay.kept,
        )
        self._run_s = self._replay.now_s
        conducting = asyncio.create_task(conductor.conduct())
        checking = asyncio.create_task(self._check())
        interrupting = None
        if run.interrupted_s is not None:
            loop = asyncio.get_running_loop()
            interrupting = loop.call_later(run.interrupted_s, conducting.cancel)
        ends: set[asyncio.Future[Any]] = {conducting, self._replay.over}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        checking.cancel()
        if interrupting is not None:
            interrupting.cancel()
        if not conducting.done():
            conducting.cancel()
        return await conducting

    async def _check(self) -> None:
        """Look from time to time for what was recorded and is not sent."""
        every_s = max(_CHECK_EVERY_S, self._replay.wire.last_s / _CHECKS)
        with contextlib.suppress(TransportClosed):  # found, and kept where the replay ends
            while True:
                await asyncio.sleep(every_s)
                self._replay.check()

    # --- What was found -------------------------------------------------------------------------

    def _note_step(self, _: object) -> None:
        if self._conductor is not None:
            self._step = self._conductor.status.step_path

    def _on_wire(self, divergence: Divergence) -> Found:
        run_s = self._replay.wire.run_s
        expected_s = divergence.expected_s
        if expected_s is not None and run_s is not None:
            expected_s -= run_s
        return Found(
            divergence,
            divergence.time_s - (self._run_s or run_s or 0.0),
            self._step,
            expected_s,
            "" if expected_s is None else _step_at(self._recording.ledger, expected_s),
        )

    def _in_ledger(self, end: RunEnd) -> Found | None:
        """The wire is the same; the ledger of steps must be too, and how the run ended."""
        ledger = ledger_of(RunReader(self._store.run_path(end.run.id)).journal)
        recorded = self._recording.ledger
        for before, now in zip(recorded, ledger, strict=False):
            if _said(before) != _said(now):
                text = f"{_told(before)} was recorded, {_told(now)} came"
                return Found(None, now.started_s, now.path, before.started_s, before.path, text)
        if len(recorded) != len(ledger):
            text = f"{len(recorded)} steps were recorded, {len(ledger)} came"
            last = max(recorded or ledger, key=lambda each: each.started_s)
            return Found(None, last.started_s, last.path, last.started_s, last.path, text)
        run = self._recording.run
        if (end.state, end.reason) != (run.state, run.reason):
            text = f"ended {run.state} ({run.reason}), now {end.state} ({end.reason})"
            return Found(None, self._replay.now_s - self._run_s, self._step, None, "", text)
        return None


def _said(entry: LedgerEntry) -> tuple[Any, ...]:
    return entry.path, entry.verb, entry.ending


def _told(entry: LedgerEntry) -> str:
    return f'{entry.path}, {entry.verb}, "{entry.ending or "not ended"}"'


def _step_at(ledger: Sequence[LedgerEntry], time_s: float) -> str:
    begun = [entry.path for entry in ledger if entry.started_s <= time_s]
    return begun[-1] if begun else ""
