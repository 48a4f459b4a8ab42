"""``cellbench quiet`` and ``cellbench release``: a bench to its safe state, whoever had it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, print_json, told
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellbench.bench import BenchFile
    from cellbench.engine.trips import SafeState
    from cellbench.instruments.readings import Outcome

RunOfBench = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]", help="The run whose bench it is: its id, the end of one, or last."
    ),
]
ItsBench = Annotated[Path | None, typer.Option("--bench", help="The bench file, instead of a run.")]
Force = Annotated[
    bool, typer.Option("--force", help="End another process that has the bench first.")
]


def quiet(
    run: RunOfBench = "last",
    bench: ItsBench = None,
    force: Force = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Bring a bench to quiet: the cell at open circuit, the press holding, the chamber holding.

    Takes the bench over from the guard of a run that was lost. Exit codes: 0 every instrument's
    state was read back, 2 wrong input, 3 not every one, or the bench is in use.
    """
    from cellbench.engine.trips import SafeState

    _bring(SafeState.QUIET, run, bench, store, force=force, as_json=as_json)


def release(
    run: RunOfBench = "last",
    bench: ItsBench = None,
    force: Force = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Bring a bench to quiet, then take the force off the stack; otherwise as quiet."""
    from cellbench.engine.trips import SafeState

    _bring(SafeState.RELEASED, run, bench, store, force=force, as_json=as_json)


def _bring(
    target: SafeState,
    run: str,
    bench: Path | None,
    store: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    with told(as_json=as_json):
        from cellbench import clock

        file, beside = _bench(run, bench, store)
        Stopping()  # on the way to its safe state nothing stops it
        bringing = _each_brought(file, beside, target, force=force, as_json=as_json)
        outcomes = clock.run(bringing, **file.clock())
        confirmed = all(outcome.confirmed for outcome in outcomes)
        if as_json:
            rows = [
                {"instrument": each.instrument, "state": each.state, "confirmed": each.confirmed}
                for each in outcomes
            ]
            print_json({"bench": file.bench, "confirmed": confirmed, "outcomes": rows})
        elif confirmed:
            typer.echo(f"{file.bench}: {target}, everything confirmed")
        if not confirmed:
            print_error(f"{file.bench}: NOT everything is confirmed; look at it yourself")
    raise typer.Exit(ExitCode.FORESEEN_END if confirmed else ExitCode.INSTRUMENT_TROUBLE)


def _bench(run: str, bench: Path | None, store: Path | None) -> tuple[BenchFile, Path]:
    """The bench file that is meant, and its directory."""
    from cellbench.engine.named_bench import read_bench
    from cellbench.errors import InputError

    if bench is not None:
        named = read_bench(bench)
        file, beside = named.file, named.beside
    else:
        from cellbench.engine.resume import bench_of
        from cellbench.store import RunReader, Store

        try:
            with Store(store, make=False) as opened:
                found = opened.find(run)
                file, _, beside = bench_of(RunReader(opened.run_path(found.id)), found.id)
        except InputError as error:
            raise InputError(f"{error}. Name the bench by its file: --bench FILE") from error
    if file.is_simulated:
        raise InputError(
            f"{file.bench} is a simulated bench, which is gone with the process that had it: there "
            "is nothing to bring to its safe state. A real bench is named with --bench FILE."
        )
    return file, beside


async def _each_brought(
    file: BenchFile, beside: Path, target: SafeState, *, force: bool, as_json: bool
) -> Sequence[Outcome]:
    """Bring every place of a bench there, one after the other: they share instruments."""
    outcomes: list[Outcome] = []
    for place in file.cells or [""]:
        view = file.of_place(place)
        outcomes += await _brought(view, beside, target, force=force, as_json=as_json)
    return outcomes


async def _brought(
    file: BenchFile, beside: Path, target: SafeState, *, force: bool, as_json: bool
) -> Sequence[Outcome]:
    from rich.console import Console

    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.guard.handover import taking_over
    from cellbench.engine.reach import ReachableBench, Site
    from cellbench.engine.safe_state import make_safe, to_the_end
    from cellbench.engine.session import places

    console = Console(stderr=as_json)
    operator = ConsoleOperator(console) if console.is_terminal and not as_json else None

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tell(outcome: Outcome) -> None:
        confirmed = "confirmed" if outcome.confirmed else "NOT CONFIRMED"
        say(f"{outcome.instrument}: {outcome.state}: {confirmed}")

    purpose = f"cellbench {'quiet' if target == 'quiet' else 'release'}"
    async with taking_over(places(file, beside), purpose, force=force) as done:
        for each in done:
            say(each)
        bench = ReachableBench(Site(file, purpose, beside, operator=operator))
        try:
            return await to_the_end(make_safe(bench, target, tell), say)
        finally:
            await bench.give_up()
