"""Attaching to a step list that a cycler went on with while its host was lost.

Every row that was missed is fetched by its number into the same run's file, steps that ended
meanwhile are entered, and the list is followed to its end. What the program has after it is not
gone on with: the run then ends in the safe state, and says what remains.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from cellbench.analysis.stored import environment
from cellbench.bench import Bench, BenchFile, parse_bench
from cellbench.engine.journal import Journal
from cellbench.engine.run import Conducting
from cellbench.engine.session import Session, read_bench, with_folders
from cellbench.engine.step_list import StepListRun
from cellbench.engine.technique import StepEnd
from cellbench.engine.trips import Undone
from cellbench.engine.unfinished import Unfinished
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.roles import Cycler, Running
from cellbench.protocol.lists import step_list
from cellbench.protocol.program import ChannelStep
from cellbench.protocol.source import Document, document_of, load
from cellbench.quantities import format_quantity
from cellbench.store import RunReader, RunWriter, Store, data_directory


def session_of(found: Unfinished, bench: Path | None) -> Session:
    """Return the bench that a run is on.

    Args:
        found: The run.
        bench: Its bench file, where that is not as it was at the run's start.

    Raises:
        InputError: It cannot be reached any more.
    """
    file, document, beside = bench_of(found.reader, found.run.id, bench)
    if file.is_simulated:
        raise InputError(
            f"run {found.run.id} was on a simulated bench in its own process, which went with it; "
            "only a bench that outlives its host can be attached to (cellbench sim serve)"
        )
    cell = found.reader.documents["cell"]
    return Session(found.program, cell, file, document.text, None, None, beside)


def bench_of(
    reader: RunReader, run_id: str, bench: Path | None = None
) -> tuple[BenchFile, Document, Path]:
    """Return the bench file that a run was on, as it was then, and its directory.

    Args:
        reader: The run's file.
        run_id: The run.
        bench: The bench file, where that is not as it was.

    Raises:
        InputError: It is no bench file.
    """
    if bench is not None:
        return *read_bench(bench), bench.parent
    directory = environment(reader).get("bench_directory")
    beside = Path(directory) if directory else data_directory()
    document = document_of(reader.documents["bench"], f"the bench of run {run_id}")
    return with_folders(parse_bench(load(document)), beside), document, beside


@asynccontextmanager
async def attached(
    found: Unfinished, bench: Bench, store: Store, speed: float = 1.0
) -> AsyncIterator[Attachment]:
    """Ask the cycler for the list, and take the run up; nothing is changed where that fails.

    Args:
        found: The run.
        bench: Its instruments, connected.
        store: Where it is kept.
        speed: Seconds per second of a simulated bench.

    Raises:
        InstrumentError: The cycler does something else, or is none.
    """
    channel = bench.channel
    if not isinstance(channel, Cycler):
        name = "bench" if channel is None else channel.name
        raise InstrumentError(name, "runs no lists of steps: is it the bench of this run?")
    steps = step_list(found.steps)
    async with channel.attach(steps, found.test, found.place.after_row) as running:
        yield Attachment(found, bench, store, running, speed)


class Attachment(Conducting):
    """A run that is taken up where its host was lost, to the end of the list under way."""

    def __init__(
        self, found: Unfinished, bench: Bench, store: Store, running: Running, speed: float
    ) -> None:
        run, path = found.run, store.run_path(found.run.id)
        if bench.ownership is not None:
            bench.ownership.tell(f"run {run.id}")
        writer = RunWriter(path, durable=not bench.simulated, again=True)
        started = run.started.replace(tzinfo=UTC)
        age_s = speed * (datetime.now(UTC) - started).total_seconds()
        # Its clock never runs backwards, whatever became of the computer's.
        self._away_s = max(0.0, age_s - found.reader.journal[-1].time_s)
        journal = Journal(
            writer,
            started,
            first=found.next_entry,
            age_s=found.reader.journal[-1].time_s + self._away_s,
        )
        super().__init__(
            found.program, bench, store, run, writer, journal, first_step=found.next_step
        )
        self._found, self._running = found, running
        self._runner.watch.pressed = found.pressed

    async def _open(self) -> None:
        row = self._found.place.after_row
        away = format_quantity(self._away_s, "time")
        text = f"attached again after {away}: what follows row {row} is fetched"
        await self.journal.enter(
            "attached", text=text, test=self._found.test, after_row=row, away_s=self._away_s
        )

    async def _walk(self) -> None:
        found = self._found
        listed = StepListRun(
            self._runner, found.steps, found.test, announce=self._announce, ended=self._noted
        )
        listed.take_up(found.place)
        with listed.continuing():
            await listed.follow(self._running)
        if not found.is_end:
            raise Undone(self._undone())

    def _announce(self, step: ChannelStep, start_s: float) -> None:
        status = self.status
        status.step_path, status.step_what, status.step_started_s = step.path, step.what, start_s
        status.step_duration_s = step.technique.duration_s

    async def _noted(self, position: int, end: StepEnd) -> None:
        """Nothing waits for a step of it but the next one."""

    def _undone(self) -> str:
        left, last = self._found.steps_left, self._found.steps[-1].path
        count = "" if left is None else f" (of the plan, {left} steps at most)"
        return f"its list of steps is done; not done is what follows {last}{count}"
