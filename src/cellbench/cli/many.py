"""Several runs in one process, as ``cellbench run --cell A1,A2,A3`` starts them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cellbench.cli.output import ExitCode, exit_code, print_error, print_json
from cellbench.cli.stopping import Stopping
from cellbench.errors import CellbenchError, InputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

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
    from rich.console import Console

    from cellbench.engine.owner import Owner
    from cellbench.store import Store

    if bench is None:
        raise InputError("--cell names several places: say with --bench on which bench")
    console = Console(stderr=as_json)
    stopping = Stopping()
    with Store(store) as opened, _Beside(opened, telemetry, stopping, console) as beside:
        owner = Owner(bench, opened, seed=seed, sim_cell=sim_cell, witness=beside.witness)
        requests = _requests(protocol, cells, sets)
        for request in requests:
            owner.prepare(request)
        ended = _run(owner, requests, stopping, speed)
        return _tell(opened, owner, ended, as_json=as_json)


def _requests(protocol: str, cells: str, sets: Sequence[str]) -> list[RunRequest]:
    from cellbench.engine.owner import RunRequest
    from cellbench.engine.session import place_and_card

    named = [place_and_card(each) for each in cells.split(",")]
    places = [place for place, _ in named]
    if twice := {each for each in places if places.count(each) > 1}:
        raise InputError(f"--cell names {', '.join(sorted(twice))} twice: a place has one run")
    return [
        RunRequest(protocol, place, card, tuple(sets), replicate=number)
        for number, (place, card) in enumerate(named, start=1)
    ]


def _run(
    owner: Owner, requests: Sequence[RunRequest], stopping: Stopping, speed: float | None
) -> Mapping[RunRequest, Ended]:
    from cellbench import clock
    from cellbench.engine.owner import run_all

    async def main() -> Mapping[RunRequest, Ended]:
        async with owner:
            with stopping.cancels_this_task():
                return await run_all(owner, requests)

    try:
        return clock.run(main(), **owner.clock(speed))
    except asyncio.CancelledError as error:
        print_error("interrupted before a run began: nothing was energised")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


# --- While they run -----------------------------------------------------------------------------


class _Beside:
    """Shows the runs, each on a line of its own, and tells people of them."""

    def __init__(
        self, store: Store, telemetry: Path | None, stopping: Stopping, console: Console
    ) -> None:
        self._store, self._chosen, self._stopping = store, telemetry, stopping
        self._console = console
        self._runs: list[Conducting] = []
        self._stack = ExitStack()

    def __enter__(self) -> _Beside:
        from cellbench.cli.live import ManyView, is_live

        if is_live(self._console):
            from rich.live import Live

            view = ManyView(lambda: self._runs)
            live = Live(view, console=self._console, refresh_per_second=4)
            self._stack.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _beside(self, run: Conducting, gate: Gate) -> Iterator[None]:
        from cellbench.cli.live import is_live, plain
        from cellbench.cli.telling import telling

        self._runs.append(run)
        if not is_live(self._console):
            run.journal.listeners.append(plain(self._console, run.bench.place))
        with telling(self._chosen, self._store, self._stopping) as telemetry:
            if telemetry is not None:
                telemetry.follow(run, gate)
            yield

    def witness(self, run: Conducting, gate: Gate) -> AbstractContextManager[None]:
        """See `cellbench.engine.owner.Witness`."""
        return self._beside(run, gate)


# --- When they have ended -----------------------------------------------------------------------


def _tell(store: Store, owner: Owner, ended: Mapping[RunRequest, Ended], *, as_json: bool) -> int:
    """Evaluate and report each run, and put them together; returns the exit code."""
    from cellbench.engine.run import RunEnd
    from cellbench.report.benchmark import benchmark_record, describe

    codes = [_code(each) for each in ended.values()]
    cells = []
    for request, end in ended.items():
        if isinstance(end, RunEnd):
            cells.append(_report(store, owner, request, end, as_json=as_json))
        elif isinstance(end, CellbenchError):
            print_error(f"{request.place}: {end}")
        elif isinstance(end, asyncio.CancelledError):
            print_error(f"{request.place}: interrupted before it began")
        else:
            raise end
    record = benchmark_record(cells) if len(cells) > 1 else None
    if as_json:
        answers = [each.answer() | {"place": each.run.place} for each in cells]
        print_json({"runs": answers, "replicates": record})
    elif record is not None:
        for line in describe(record):
            typer.echo(line)
    return worst(codes)


def _report(
    store: Store, owner: Owner, request: RunRequest, end: RunEnd, *, as_json: bool
) -> Evaluation:
    from cellbench.engine.evaluation import evaluate, write_report

    evaluation = evaluate(store, end.run, owner.prepare(request).session.card)
    path: Path | None = None
    try:
        path = write_report(evaluation)
    except OSError as error:
        print_error(f"{error.filename}: the report cannot be written: {error.strerror}")
    if not as_json:
        typer.echo(f"--- {request.place}")
        for line in evaluation.lines(path):
            typer.echo(line)
    return evaluation


def _code(end: Ended) -> int:
    from cellbench.engine.run import RunEnd

    if isinstance(end, RunEnd):
        return end.exit_code
    return exit_code(end) if isinstance(end, CellbenchError) else ExitCode.INTERRUPTED


def worst(codes: Sequence[int]) -> int:
    """The exit code of several runs: an interruption, then instrument trouble, then a stop."""
    order = [
        ExitCode.INTERRUPTED,
        ExitCode.INSTRUMENT_TROUBLE,
        ExitCode.WRONG_INPUT,
        ExitCode.STOPPED,
    ]
    return next((each for each in order if each in codes), ExitCode.FORESEEN_END)
