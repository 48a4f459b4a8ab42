"""``cellbench run``: check, plan, run, analyse, report."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, print_json, told, writable_output
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from cellbench.engine.orders import Order
    from cellbench.engine.run import RunEnd
    from cellbench.engine.session import Session
    from cellbench.protocol.plan import Plan
    from cellbench.store import Store
    from cellbench.telemetry import Beside


class Speed(StrEnum):
    """How fast simulated time passes."""

    MAX = "max"
    REAL = "1"
    MINUTE_PER_SECOND = "60"


def run(
    protocol: options.Protocol,
    cell: options.Cell = None,
    bench: options.BenchPath = None,
    sets: options.Sets = None,
    sim_cell: options.SimCell = None,
    fixture: options.Fixture = None,
    seed: options.Seed = 0,
    speed: Annotated[Speed, typer.Option(help="Simulated seconds per second.")] = Speed.MAX,
    record: Annotated[
        bool, typer.Option("--record", help="Keep all that goes over the wire, for replay.")
    ] = False,
    store: options.StorePath = None,
    telemetry: options.TelemetryPath = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Where the report goes (else: the store).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a protocol to its end and report.

    Exit codes: 0 the protocol came to an end that it foresees, 1 a safety limit or a failure ended
    it, 2 wrong input, 3 instrument trouble, 130 interrupted.
    """
    with told(as_json=as_json):
        from cellbench import library
        from cellbench.analysis import available
        from cellbench.cli.copying import copied_store
        from cellbench.cli.many import run_many
        from cellbench.cli.telling import telling
        from cellbench.engine.session import prepare
        from cellbench.errors import InputError
        from cellbench.protocol import check, plan

        if cell is not None and "," in cell and library.with_suffix(Path(cell)) is None:
            if record or report is not None or fixture is not None:
                raise InputError("--record, --report and --fixture are for one cell at a time")
            code = run_many(
                protocol,
                cell,
                bench,
                sets=sets or [],
                sim_cell=sim_cell,
                seed=seed,
                speed=None if speed is Speed.MAX else float(speed),
                store=store,
                telemetry=telemetry,
                as_json=as_json,
            )
            raise typer.Exit(code)
        if report is not None:
            writable_output(report, ".html")
        session = prepare(
            protocol,
            cell=cell,
            sim_cell=sim_cell,
            fixture=fixture,
            bench=bench,
            sets=sets or [],
            seed=seed,
        )
        declared = session.declared()
        check(session.program, declared, available()).raise_problems()
        planned = plan(session.program, declared)
        stopping = Stopping()
        with copied_store(store) as opened, telling(telemetry, opened, stopping) as told_of:
            end = conducted(
                session, opened, planned, speed, stopping, told_of, record=record, as_json=as_json
            )
            tell(session, opened, end, report, as_json=as_json)
    raise typer.Exit(end.exit_code)


def conducted(
    session: Session,
    store: Store,
    planned: Plan,
    speed: Speed,
    stopping: Stopping,
    telemetry: Beside | None,
    *,
    as_json: bool,
    record: bool = False,
    order: Order | None = None,
) -> RunEnd:
    """Conduct a run to its end; a job that has ordered it hears of it first."""
    from cellbench import clock

    factor = None if speed is Speed.MAX else float(speed)
    coroutine = _conduct(
        session,
        store,
        planned,
        stopping,
        telemetry,
        record=record,
        as_json=as_json,
        order=order,
    )
    try:
        return clock.run(coroutine, **session.file.clock(factor))
    except asyncio.CancelledError as error:
        print_error("interrupted before the run began: nothing was energised")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


async def _conduct(
    session: Session,
    store: Store,
    planned: Plan,
    stopping: Stopping,
    telemetry: Beside | None,
    *,
    record: bool,
    as_json: bool,
    order: Order | None,
) -> RunEnd:
    from cellbench.cli.company import company
    from cellbench.engine.run import Conductor
    from cellbench.errors import StoreError
    from cellbench.store.runfile import keep_rest_of_wire
    from cellbench.transport.recording import WireLog

    wire = WireLog() if record else None
    async with AsyncExitStack() as stack:
        # Instruments are let go of outside: a late Ctrl-C must not cut that short.
        beside = await stack.enter_async_context(company(session, telemetry, as_json=as_json))
        with stopping.cancels_this_task():
            bench = await stack.enter_async_context(session.bench(beside.prompts, wire))
            conductor = Conductor(
                session.program,
                bench,
                store,
                documents=session.documents(bench) | (order.documents if order else {}),
                seed=session.seed,
                planned=planned,
                wire=wire,
                **(order.work.kept if order else {}),
            )
            if order is not None:
                await order.begins(conductor, store)
            end = await beside.conduct(conductor)
    if wire is not None:
        try:
            keep_rest_of_wire(store.run_path(end.run.id), wire)
        except StoreError as error:
            print_error(str(error))  # the run counts; its replay ends where the log does
    return end


def tell(
    session: Session, store: Store, end: RunEnd, report: Path | None, *, as_json: bool
) -> None:
    """Evaluate a run that has ended, write its report, and say what came of it."""
    from cellbench.engine.evaluation import evaluate, write_report

    evaluation = evaluate(store, end.run, session.card)
    path: Path | None = None
    try:
        path = write_report(evaluation, report)
    except OSError as error:
        # The run counts, whatever became of the place for its report: `cellbench report` makes one.
        print_error(f"{error.filename}: the report cannot be written: {error.strerror}")
    if as_json:
        print_json(evaluation.answer())
        return
    for line in evaluation.lines(path):
        typer.echo(line)
