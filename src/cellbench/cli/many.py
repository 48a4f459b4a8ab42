"""Several runs in one process, as ``cellbench run --cell A1,A2,A3`` starts them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from cellbench.cli.output import ExitCode, exit_code, print_error, print_json
from cellbench.cli.stopping import Stopping
from cellbench.errors import CellbenchError, InputError

if TYPE_CHECKING:
    from rich.live import Live

    from cellbench.engine.evaluation import Evaluation
    from cellbench.engine.gate import Gate
    from cellbench.engine.owner import Ended, Owner, RunRequest
    from cellbench.engine.run import Conducting, RunEnd
    from cellbench.store import Store


def run_many(
    protocol: str,
    cells: str,
    bench: Path | None,
    *,
    sets: Sequence[str],
    sim_cell: str | None,
    seed: int,
    speed: float | None,
    store: Path | None,
    telemetry: Path | None,
    as_json: bool,
) -> int:
    """Run a protocol at several places at once, and report; returns the exit code: the worst.

    Raises:
        InputError: It cannot be run at one of them; nothing has begun.
    """
    from cellbench.cli.copying import copied_store
    from cellbench.engine.owner import Owner

    if bench is None:
        raise InputError("--cell names several places: say with --bench on which bench")
    requests = _requests(protocol, cells, sets)
    stopping = Stopping()
    with (
        copied_store(store) as opened,
        Presenter(opened, telemetry, stopping, as_json=as_json) as presenter,
    ):
        cards = {each.place: each.cell for each in requests if each.cell is not None}
        owner = Owner(
            bench, opened, seed=seed, sim_cell=sim_cell, cards=cards, witness=presenter.witness
        )
        for request in requests:
            owner.prepare(request)
        for conflict in owner.conflicts(requests):
            typer.echo(conflict, err=as_json)
        runs = {each.place: partial(owner.run, each) for each in requests}
        return presenter.tell(_conducted(owner, runs, stopping, speed))


def resume_many(
    run_ids: Sequence[str],
    bench: Path | None,
    *,
    accept: bool,
    store: Path | None,
    telemetry: Path | None,
    as_json: bool,
) -> int:
    """Go on with several runs of one bench, and report; returns the exit code: the worst.

    Raises:
        InputError: One of them cannot be gone on with, or the bench is not told.
    """
    from cellbench.cli.copying import copied_store
    from cellbench.engine.owner import Owner

    if bench is None:
        raise InputError("several runs share instruments: say with --bench of which bench they are")
    stopping = Stopping()
    with (
        copied_store(store, make=False) as opened,
        Presenter(opened, telemetry, stopping, as_json=as_json) as presenter,
    ):
        owner = Owner(bench, opened, witness=presenter.witness)
        ids = [opened.find(each).id for each in run_ids]
        runs = {each: partial(owner.resume, each, accept=accept) for each in ids}
        return presenter.tell(_conducted(owner, runs, stopping, None))


def _requests(protocol: str, cells: str, sets: Sequence[str]) -> list[RunRequest]:
    from cellbench.engine.owner import RunRequest
    from cellbench.engine.session import place_and_card

    named = [place_and_card(each) for each in cells.split(",")]
    places = [place for place, _ in named]
    if twice := {each for each in places if places.count(each) > 1}:
        raise InputError(f"--cell names {', '.join(sorted(twice))} twice: a place has one run")
    return [RunRequest(protocol, place, card, tuple(sets)) for place, card in named]


def _conducted(
    owner: Owner,
    runs: Mapping[str, Callable[[], Coroutine[Any, Any, RunEnd]]],
    stopping: Stopping,
    speed: float | None,
) -> Mapping[str, Ended]:
    """Conduct runs, by what people call them, to their ends."""
    from cellbench import clock
    from cellbench.engine.owner import all_at_once

    async def main() -> Mapping[str, Ended]:
        async with owner:
            with stopping.cancels_this_task():
                return await all_at_once({name: run() for name, run in runs.items()})

    try:
        return clock.run(main(), **owner.file.clock(speed))
    except asyncio.CancelledError as error:
        print_error("interrupted before a run began: nothing was energised")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


class Presenter:
    """Shows several runs, each on a line of its own, tells people of them, and reports their ends.

    Args:
        store: Where they are kept.
        telemetry: The telemetry file that was named, if one was.
        stopping: Who wants to leave.
        as_json: Whether nothing but the answer goes to standard output.
    """

    def __init__(
        self, store: Store, telemetry: Path | None, stopping: Stopping, *, as_json: bool
    ) -> None:
        from rich.console import Console

        self._store, self._chosen, self._stopping = store, telemetry, stopping
        self._as_json = as_json
        self._console = Console(stderr=as_json)
        self._runs: list[Conducting] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        from cellbench.cli.live import ManyView, is_live

        if is_live(self._console):
            view = ManyView(lambda: self._runs)
            self._live = Live(view, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @contextmanager
    def witness(self, run: Conducting, gate: Gate) -> Iterator[None]:
        """See `cellbench.engine.owner.Witness`."""
        from cellbench.cli.live import plain
        from cellbench.cli.telling import telling

        self._runs.append(run)
        if self._live is None:
            run.journal.listeners.append(plain(self._console, run.bench.place))
        with telling(self._chosen, self._store, self._stopping) as telemetry:
            if telemetry is not None:
                telemetry.follow(run, gate)
            yield

    # --- When they have ended -------------------------------------------------------------------

    def tell(self, ended: Mapping[str, Ended]) -> int:
        """Evaluate and report each run, and put them together; returns the exit code."""
        from cellbench.engine.run import RunEnd
        from cellbench.report.benchmark import benchmark_record, describe

        self._leave()
        for name, end in ended.items():
            if not isinstance(end, RunEnd):
                _say_why(name, end)
        cells = [self._report(each) for each in ended.values() if isinstance(each, RunEnd)]
        alike = len({each.run.protocol for each in cells}) == 1 and len(cells) > 1
        record = benchmark_record(cells) if alike else None
        if self._as_json:
            answers = [each.answer() | {"place": each.run.place} for each in cells]
            print_json({"runs": answers, "replicates": record})
        elif record is not None:
            for line in describe(record):
                typer.echo(line)
        return worst([_code(each) for each in ended.values()])

    def _report(self, end: RunEnd) -> Evaluation:
        from cellbench.engine.evaluation import evaluate, write_report

        (run,) = (each for each in self._runs if each.run.id == end.run.id)
        evaluation = evaluate(self._store, end.run, run.program.card)
        path: Path | None = None
        try:
            path = write_report(evaluation)
        except OSError as error:
            print_error(f"{error.filename}: the report cannot be written: {error.strerror}")
        if not self._as_json:
            typer.echo(f"--- {end.run.place or end.run.id}")
            for line in evaluation.lines(path):
                typer.echo(line)
        return evaluation


def _say_why(name: str, error: BaseException) -> None:
    """Say why a run has not begun; what nobody foresaw is raised."""
    if isinstance(error, asyncio.CancelledError):
        print_error(f"{name}: interrupted before it began")
    elif isinstance(error, CellbenchError):
        print_error(f"{name}: {error}")
    else:
        raise error


def _code(end: Ended) -> int:
    from cellbench.engine.run import RunEnd

    if isinstance(end, RunEnd):
        return end.exit_code
    return exit_code(end) if isinstance(end, CellbenchError) else ExitCode.INTERRUPTED


def worst(codes: Sequence[int]) -> int:
    """The exit code of several runs: an interruption, then instrument trouble, then a stop."""
    order = (
        ExitCode.INTERRUPTED,
        ExitCode.INSTRUMENT_TROUBLE,
        ExitCode.WRONG_INPUT,
        ExitCode.STOPPED,
    )
    return next((each for each in order if each in codes), ExitCode.FORESEEN_END)
