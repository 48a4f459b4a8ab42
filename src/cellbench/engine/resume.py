"""Going on with a run after its host was lost, or after it ended early.

The program is walked again from its start: what the journal holds is taken from there, what was
under way goes on by the rule of its kind, and the rest is carried out. Before anything is
energised, every instrument is asked what it is doing, a cycler that went on by itself is attached
to, and a cell that changed meanwhile needs somebody's consent.
"""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.analysis.stored import channel_names, environment, stored_dataset
from cellbench.bench import Bench, parse_bench
from cellbench.engine.causes import RunState
from cellbench.engine.gap import GAP, charge_bounds_C
from cellbench.engine.history import RESUMED, History, OpenList
from cellbench.engine.interpreter import Interpreter
from cellbench.engine.journal import Journal
from cellbench.engine.recorded import recording_of
from cellbench.engine.replay import program_of
from cellbench.engine.run import Conducting, RunEnd
from cellbench.engine.safe_state import QUIET_DEADLINE_S, attempt
from cellbench.engine.screening import PATH, expected_open_circuit_V, open_circuit_V
from cellbench.engine.session import Session, read_bench, with_folders
from cellbench.engine.status import Forecast
from cellbench.engine.step_list import OVER
from cellbench.engine.trips import Undone
from cellbench.errors import InputError, InstrumentError, OtherTest
from cellbench.instruments.roles import Cycler
from cellbench.protocol.plan import Plan
from cellbench.protocol.source import document_of, load
from cellbench.quantities import format_quantity
from cellbench.store import Run, RunReader, RunWriter, Store, data_directory

#: An open circuit this far outside of what the run has seen is another cell's.
UNEXPECTED_V = 0.05
#: A stack pressure that differs by more than this fraction, and this much, has changed.
CHANGED_FRACTION = 0.1
CHANGED_PA = 0.3e6


def session_of(store: Store, run: Run, bench: Path | None = None) -> Session:
    """Return the program and the bench of a run.

    Args:
        store: Where the run is kept.
        run: The run.
        bench: Its bench file, where that is not as it was at the run's start.

    Raises:
        InputError: It has completed, or its bench cannot be reached any more.
    """
    if run.state == RunState.COMPLETED:
        raise InputError(f"run {run.id} has completed: there is nothing to go on with")
    reader = RunReader(store.run_path(run.id))
    documents = reader.documents
    directory = environment(reader).get("bench_directory")
    beside = Path(directory) if directory else data_directory()
    if bench is not None:
        file, document = read_bench(bench)
        beside = bench.parent
    else:
        document = document_of(documents["bench"], f"the bench of run {run.id}")
        file = with_folders(parse_bench(load(document)), beside)
    if run.simulated:
        raise InputError(
            f"run {run.id} was on a simulated bench in its own process, which went with it; only a "
            "bench that outlives its host can be gone on with (cellbench sim serve)"
        )
    program = program_of(recording_of(run, reader, needs_wire=False))
    return Session(program, documents["cell"], file, document.text, None, None, beside)


def age_of(run: Run, speed: float = 1.0) -> float:
    """Return how long ago a run began, by the computer's clock, in the time of its bench."""
    started = run.started.replace(tzinfo=UTC)
    return speed * (datetime.now(UTC) - started).total_seconds()


class Resumption(Conducting):
    """A run that is gone on with.

    Args:
        session: Its program and bench.
        bench: The instruments, connected.
        store: Where it is kept.
        run: The run.
        age_s: How long ago it began; its clock never runs backwards, whatever became of others.
        accepted: Whether somebody consents to a cell that changed meanwhile.
        planned: The program's plan.
    """

    def __init__(
        self,
        session: Session,
        bench: Bench,
        store: Store,
        run: Run,
        *,
        age_s: float,
        accepted: bool = False,
        planned: Plan | None = None,
    ) -> None:
        path = store.run_path(run.id)
        self._reader = RunReader(path)
        self._history = history = History(self._reader)
        self._ended_before, self._accepted = run.reason, accepted
        self._lost_list: OpenList | None = None
        if bench.ownership is not None:
            bench.ownership.tell(f"run {run.id}", path)
        self._away_s = max(0.0, age_s - history.last_s)
        #: A clock that was set back does not tell how long nobody was there.
        self._clock_tells = age_s >= history.last_s
        store.reopen(run)
        writer = RunWriter(path, durable=not bench.simulated, again=True)
        journal = Journal(
            writer,
            run.started.replace(tzinfo=UTC),
            first=history.next_entry,
            age_s=history.last_s + self._away_s,
        )
        super().__init__(
            session.program, bench, store, run, writer, journal, first_step=history.next_step
        )
        self._interpreter = Interpreter(session.program, self._runner, Forecast(planned), history)

    async def conduct(self) -> RunEnd:
        """Go on with the run to its end."""
        opened = self._history.open_list
        try:
            return await super().conduct()
        finally:
            if opened is not None:
                with suppress(InstrumentError):  # what became of the cell was read back before
                    await opened.let_go()

    async def _open(self) -> None:
        away = format_quantity(self._away_s, "time")
        why = f" (it ended: {self._ended_before})" if self._ended_before else ""
        if not self._clock_tells:
            away = "an unknown time (the computer's clock was set back)"
        text = f"resumed after {away}{why}"
        await self.journal.enter(RESUMED, text=text, away_s=self._away_s)
        opened = self._history.open_list
        if self._lost_list is not None:
            await self._enter_lost(self._lost_list)
        if opened is not None:
            row = opened.place.after_row
            text = f"attached again: what follows row {row} is fetched"
            await self.journal.enter("attached", text=text, test=opened.test, after_row=row)
        for entry in self._history.interrupting():
            verb = entry.data["verb"]
            self.journal.enter_soon(
                "step ended", step=entry.step, verb=verb, ending=INTERRUPTED, results={}
            )

    async def _enter_lost(self, lost: OpenList) -> None:
        """Enter that a cycler does not have a list; what it can have done after the step under way.

        What can have passed in that step itself is bounded with it.
        """
        place = lost.place
        text = "the cycler has not begun the list of steps that it was to be given"
        if not math.isnan(place.list_began_s):
            text = "the cycler has lost its list of steps: what it did of it unseen is not known"
            bounds_C = [
                bound_C
                for technique in [*lost.steps.expanded][place.position + 1 :]
                for bound_C in charge_bounds_C(technique, self.program.limits.current_max_A)
            ]
            self.journal.enter_soon(
                GAP,
                step=lost.first,
                text="steps that it may have begun are carried out all the same",
                from_s=place.handed_s,
                to_s=self.journal.now_s,
                charge_C=0.0,
                charge_min_C=sum(each for each in bounds_C if each < 0),
                charge_max_C=sum(each for each in bounds_C if each > 0),
            )
        rows = place.after_row
        await self.journal.enter(OVER, step=lost.first, text=text, test=lost.test, rows=rows)

    async def _walk(self) -> None:
        opened = self._history.open_list
        if opened is None:
            await self._come_to_quiet()
            await self._require_the_cell()
        dataset = stored_dataset(self._reader, self.program.card)
        self._runner.verdicts.restore(dataset)
        await self._interpreter.walk()

    async def attach(self) -> None:
        """Where a cycler had a list of steps under way: ask it for that; changes nothing.

        Raises:
            InstrumentError: The cycler does something else, or does not have it.
        """
        opened, cycler = self._history.open_list, self.bench.channel
        if opened is None or not isinstance(cycler, Cycler):
            return
        try:
            await opened.attach(cycler)
        except OtherTest as error:
            has_begun = not math.isnan(opened.place.list_began_s)
            if has_begun and not self._accepted:
                text = str(error).removeprefix(f"{error.instrument}: ")
                raise InstrumentError(
                    error.instrument,
                    f"{text} any more: what it did after row {opened.place.after_row} is unknown. "
                    f"Look at the cell, then: cellbench resume {self.run.id} --accept",
                ) from error
            # Else the host was lost between saying that it would hand it over, and doing so.
            self._lost_list, self._history.open_list = opened, None

    async def _come_to_quiet(self) -> None:
        """Bring the cell to open circuit, and take note of since when it is."""
        for channel in self.bench.channels():
            outcome = await attempt(channel, "quiet", channel.quiet, QUIET_DEADLINE_S)
            if not outcome.confirmed:
                raise InstrumentError(channel.name, outcome.state)
            text = f"{channel.name}: {outcome.state}"
            await self.journal.enter("outcome", text=text, instrument=channel.name, confirmed=True)
        known_s = self._history.open_circuit_s([each.name for each in self.bench.channels()])
        seen_s = self.journal.now_s if self._clock_tells else math.inf
        self._interpreter.open_since_s = seen_s if known_s is None else known_s

    # --- Is it still the cell that was left? ----------------------------------------------------

    async def _require_the_cell(self) -> None:
        """Compare open circuit and pressure with what the run has seen.

        Raises:
            Undone: Something changed, and nobody has consented to that.
        """
        changes = [each for each in (await self._voltage(), await self._pressure()) if each]
        if not changes:
            return
        if self._accepted:
            await self.journal.enter("remark", text=f"accepted: {'; '.join(changes)}")
            return
        raise Undone(
            f"{'; '.join(changes)}. Look at the cell, then: cellbench resume {self.run.id} --accept"
        )

    async def _voltage(self) -> str:
        expected = self._expected_V()
        if self.bench.channel is None or expected is None:
            return ""
        runner = self._runner
        runner.recorder.enter_step(PATH, "rest")
        limits = self.program.limits.electrical
        voltage_V = await open_circuit_V(self.bench, limits, runner.recorder, self.journal)
        text = f"open circuit: {voltage_V * 1e3:.4g} mV"
        await self.journal.enter("screening", step=PATH, text=text, voltage_V=voltage_V)
        low_V, high_V = expected
        if low_V <= voltage_V <= high_V:
            return ""
        return f"the cell rests at {voltage_V:.4g} V, not between {low_V:.4g} and {high_V:.4g} V"

    def _expected_V(self) -> tuple[float, float] | None:
        by_card = expected_open_circuit_V(self.program.card)
        if by_card is None or self.program.card.kind == "symmetric":
            return by_card
        seen = self._reader.samples(*channel_names(environment(self._reader)))["voltage_V"]
        if not len(seen):
            return by_card
        low_V, high_V = float(seen.min()), float(seen.max())
        if self._history.open_paths():
            # What was under way may have taken it anywhere within its window.
            window_V = self.program.card.voltage_window_V
            low_V, high_V = min(low_V, window_V[0]), max(high_V, window_V[1])
        return low_V - UNEXPECTED_V, high_V + UNEXPECTED_V

    async def _pressure(self) -> str:
        before_Pa = self._pressure_before()
        source = self.bench.gauge or self.bench.press
        if before_Pa is None or source is None:
            return ""
        pressure_Pa = (await source.read()).force_N / self.program.card.stack_area_m2
        if abs(pressure_Pa - before_Pa) <= max(CHANGED_PA, CHANGED_FRACTION * abs(before_Pa)):
            return ""
        return (
            f"the stack pressure is {pressure_Pa / 1e6:.3g} MPa, it was {before_Pa / 1e6:.3g} MPa"
        )

    def _pressure_before(self) -> float | None:
        roles = environment(self._reader)["roles"]
        source = roles.get("gauge") or roles.get("press")
        if source is None:
            return None
        forces_N = self._reader.samples(source)["force_N"]
        return float(forces_N[-1]) / self.program.card.stack_area_m2 if len(forces_N) else None
