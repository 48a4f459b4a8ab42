"""Going on with a run after its host was lost, or after it ended early.

The program is walked again from its start: what the journal holds is taken from there, what was
under way goes on by the rule of its kind, and the rest is carried out. Before anything is
energised, every instrument is asked what it is doing, a cycler that went on by itself is attached
to, and a cell that changed meanwhile needs somebody's consent.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.analysis.stored import channel_names, environment, stored_dataset
from cellbench.bench import Bench, BenchFile, parse_bench
from cellbench.engine.age import SET_S, Tie, age_now, now_of_computer
from cellbench.engine.causes import Judgement, RunState
from cellbench.engine.gap import GAP, charge_bounds_C
from cellbench.engine.guard import GuardAct, ledger_path, read_ledger
from cellbench.engine.history import RESUMED, History, OpenList, stretches
from cellbench.engine.interpreter import Interpreter
from cellbench.engine.journal import Journal
from cellbench.engine.named_bench import read_bench, with_folders
from cellbench.engine.recorded import recording_of
from cellbench.engine.replay import program_of
from cellbench.engine.run import Conducting, RunEnd
from cellbench.engine.safe_state import QUIET_DEADLINE_S, attempt
from cellbench.engine.screening import PATH, expected_open_circuit_V, open_circuit_V
from cellbench.engine.session import Session
from cellbench.engine.status import Forecast
from cellbench.engine.steering import PAUSE
from cellbench.engine.step_list import OVER
from cellbench.engine.trips import Undone
from cellbench.errors import InputError, InstrumentError, OtherTest, StoreError
from cellbench.instruments.readings import Outcome
from cellbench.instruments.roles import Channel, Cycler
from cellbench.protocol.plan import Plan
from cellbench.protocol.source import Document, document_of, load
from cellbench.quantities import format_quantity
from cellbench.store import (
    IMPORTED,
    Run,
    RunReader,
    RunWriter,
    Store,
    data_directory,
    never_began,
)
from cellbench.store.archive import compacted

T = TypeVar("T")

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
    if run.state == IMPORTED:
        raise InputError(f"run {run.id} was imported {run.reason}: it ran elsewhere")
    path = store.run_path(run.id)
    if path.is_file() and never_began(path):
        raise InputError(
            f"run {run.id} was lost before it began: nothing was energised; start it again with run"
        )
    try:
        reader = RunReader(path)
    except StoreError as error:
        quiet = f"its bench {run.bench} comes to quiet by: cellbench quiet --bench FILE"
        raise StoreError(f"{error}; {quiet}") from error
    if reader.archived.keys() & {"sample", "spectrum"}:
        raise InputError(compacted(path))
    file, document, beside = bench_of(reader, run.id, bench)
    if run.simulated:
        raise InputError(
            f"run {run.id} was on a simulated bench in its own process, which went with it; only a "
            "bench that outlives its host can be gone on with (cellbench sim serve)"
        )
    program = program_of(recording_of(run, reader, needs_wire=False))
    cell = reader.documents["cell"]
    return Session(program, cell, file, document.text, None, None, beside)


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
        named = read_bench(bench)
        return named.file, named.document, named.beside
    directory = environment(reader).get("bench_directory")
    beside = Path(directory) if directory else data_directory()
    document = document_of(reader.documents["bench"], f"the bench of run {run_id}")
    return with_folders(parse_bench(load(document)), beside), document, beside


def age_of(run: Run, speed: float = 1.0, moment: datetime | None = None) -> float:
    """Return how old a run is at a moment (now) of the computer's clock, in its bench's time."""
    started = run.started.replace(tzinfo=UTC)
    return speed * ((moment or datetime.now(UTC)) - started).total_seconds()


async def taken_up(
    session: Session, bench: Bench, store: Store, run: Run, **options: Any
) -> Resumption:
    """Take a run up, arguments as of `Resumption`; nothing is changed where that fails.

    Raises:
        InstrumentError: A cycler had a list of its steps under way, and does something else now.
    """
    history = History(RunReader(store.run_path(run.id)))
    opened, cycler = history.open_list, bench.channel
    if opened is not None and isinstance(cycler, Cycler):
        try:
            await opened.attach(cycler)
        except OtherTest as error:
            if opened.place.has_begun and not options.get("accepted"):
                text = str(error).removeprefix(f"{error.instrument}: ")
                raise InstrumentError(
                    error.instrument,
                    f"{text} any more: what it did after row {opened.place.after_row} is unknown. "
                    f"Look at the cell, then: cellbench resume {run.id} --accept",
                ) from error
            # Else the host was lost between saying that it would hand it over, and doing so.
            history.lost_list, history.open_list = opened, None
    return Resumption(session, bench, store, run, history, **options)


class Resumption(Conducting):
    """A run that is gone on with.

    Args:
        session: Its program and bench.
        bench: The instruments, connected.
        store: Where it is kept.
        run: The run.
        history: What was done of it; a list that a cycler had under way is attached to.
        age_s: How long ago it began, by the computer's clock; its own never runs backwards.
        accepted: Whether somebody consents to a cell that changed meanwhile.
        planned: The program's plan.
    """

    def __init__(
        self,
        session: Session,
        bench: Bench,
        store: Store,
        run: Run,
        history: History,
        *,
        age_s: float,
        accepted: bool = False,
        planned: Plan | None = None,
    ) -> None:
        path = store.run_path(run.id)
        tie = None if bench.simulated else history.tie or Tie(0.0, "", 0.0)
        self._age = age_now(age_s, history.last_s, tie, session.file.speed)
        if history.open_list is not None:
            self._age = self._age.at_least(history.open_list.age_least_s)
        self._reader = RunReader(path)
        self._history = history
        self._ended_before, self._accepted = run.reason, accepted
        self._speed = session.file.speed
        if bench.ownership is not None:
            bench.ownership.tell(f"run {run.id}", path)
        self._away_s = self._age.age_s - history.last_s
        store.reopen(run)
        writer = RunWriter(path, durable=not bench.simulated, again=True)
        journal = Journal(
            writer,
            run.started.replace(tzinfo=UTC),
            first=history.next_entry,
            age_s=self._age.age_s,
        )
        super().__init__(
            session.program, bench, store, run, writer, journal, first_step=history.next_step
        )
        if history.paused:
            self.steering.hold(PAUSE, f"{history.paused}; cellbench continue lets it go on")
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

    async def _close(
        self, end: RunEnd, judgement: Judgement, cause: BaseException | None
    ) -> RunEnd:
        if self._history.open_list is None:
            self._enter_not_taken_up()
        return await super()._close(end, judgement, cause)

    def _enter_not_taken_up(self) -> None:
        """Bound what passed in a step that the run, as it ended before, has not come back to.

        Whoever goes on from here takes it up, and counts it then.
        """
        walk, most_A = self._interpreter, self.program.limits.current_max_A
        for path in set(self._history.energised_paths()) - walk.taken_up:
            left = self._history.left_of(path, walk.open_since_s, walk.open_latest_s)
            if left is None or self._history.open_after(path, left.last_s) is not None:
                continue
            to_s, latest_s = (
                self.journal.now_s if each is None or not math.isfinite(each) else each
                for each in (left.to_s, left.latest_s or left.to_s)
            )
            most_C = most_A * max(0.0, latest_s - left.last_s)
            self.journal.enter_soon(
                GAP,
                step=path,
                text="not seen, and not taken up again; what passed is not counted yet",
                from_s=left.last_s,
                to_s=to_s,
                charge_C=0.0,
                charge_min_C=-most_C,
                charge_max_C=most_C,
                taken_up=False,
            )

    async def _open(self) -> None:
        away = format_quantity(self._away_s, "time")
        why = f" (it ended: {self._ended_before})" if self._ended_before else ""
        text = f"resumed after {away}{self._age.told}{why}"
        tie = {} if self.bench.simulated else now_of_computer()
        await self.journal.enter(RESUMED, text=text, away_s=self._away_s, **tie)
        opened = self._history.open_list
        if self._history.lost_list is not None:
            await self._enter_lost(self._history.lost_list)
        if opened is not None:
            row = opened.place.after_row
            text = f"attached again: what follows row {row} is fetched"
            await self.journal.enter("attached", text=text, test=opened.test, after_row=row)
            self._let_go_on(opened)
        for entry in self._history.spectra_within():
            verb = entry.data["verb"]
            self.journal.enter_soon(
                "step ended", step=entry.step, verb=verb, ending=INTERRUPTED, results={}
            )

    async def _enter_lost(self, lost: OpenList) -> None:
        """Enter that a cycler does not have a list; what it can have done after the step under way.

        What can have passed in that step itself is bounded with it.
        """
        place = lost.place
        text = "the cycler has lost its list of steps: what it did of it unseen is not known"
        if not place.has_begun:
            text = "the cycler does not have the list of steps that it was to be given"
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

    def _let_go_on(self, opened: OpenList) -> None:
        """Have a guard leave the list alone from its first moment on, before it is followed."""
        channel = self.bench.channel
        if channel is not None and channel.capabilities.bounded_without_host:
            self._runner.heart.declare({channel.name: opened.at_most_s})

    async def _walk(self) -> None:
        opened = self._history.open_list
        if opened is None:
            await self._come_to_quiet()
            await self._require_the_cell()
        dataset = stored_dataset(self._reader, self.program.card)
        self._runner.verdicts.restore(dataset)
        self._runner.detection.restore(stretches(self._reader))
        await self._interpreter.walk()

    async def _come_to_quiet(self) -> None:
        """Bring the cell to open circuit, and take note of since when it is."""
        for channel in self.bench.channels():
            outcome = await self._insist(partial(self._open_cell, channel))
            text = f"{channel.name}: {outcome.state}"
            await self.journal.enter("outcome", text=text, instrument=channel.name, confirmed=True)
        known_s = await self._known_open_s()
        if known_s is None:
            self._interpreter.open_since_s = self.journal.now_s if self._age.known else math.inf
            # By a clock that may have been set it can have gone on for as long as it was told to.
            self._interpreter.open_latest_s = None if self._age.proven else math.inf
        else:
            self._interpreter.open_since_s = known_s

    async def _open_cell(self, channel: Channel) -> Outcome:
        outcome = await attempt(channel, "quiet", channel.quiet, QUIET_DEADLINE_S)
        if not outcome.confirmed:
            raise InstrumentError(channel.name, outcome.state)
        return outcome

    async def _insist(self, action: Callable[[], Awaitable[T]]) -> T:
        """Carry out an action although an instrument may fail at first."""
        result = await self._runner.trouble.insist(action, to_its_end=True)
        assert result is not None  # noqa: S101 (nothing skips it)
        return result

    async def _known_open_s(self) -> float | None:
        """Since when the cell is known to be at open circuit: by the run's own end, or a guard."""
        known_s = self._history.open_circuit_s([each.name for each in self.bench.channels()])
        act = self._guarded
        if known_s is not None or act is None:
            return known_s
        outcomes = [f"{name}: {each.state}" for name, each in act.outcomes.items()]
        confirmed = {name: each.confirmed for name, each in act.outcomes.items()}
        text = "; ".join([f"the guard: {act.why}", *outcomes])
        if act.open_circuit is not None and abs(self._age.shift_s) <= SET_S:
            known_s = self._age_at(act.open_circuit)
            if known_s < self._history.last_s:
                known_s = None  # the clock was set back meanwhile
        await self.journal.enter("guard", text=text, open_circuit_s=known_s, confirmed=confirmed)
        return known_s

    @property
    def _guarded(self) -> GuardAct | None:
        """What a guard did after the run's last entry, None if nothing."""
        act = read_ledger(ledger_path(self._reader.path)).last
        if act is None or self._age_at(act.noticed) < self._history.last_s:
            return None
        return act

    def _age_at(self, moment: datetime) -> float:
        return age_of(self.run, self._speed, moment)

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
        voltage_V = await self._insist(
            partial(open_circuit_V, self.bench, limits, runner.recorder, self.journal)
        )
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

        async def force_N() -> float:
            return (await source.read()).force_N

        pressure_Pa = await self._insist(force_N) / self.program.card.stack_area_m2
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
