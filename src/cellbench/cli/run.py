"""``cellbench run``: check, plan, run, analyse, report."""

from __future__ import annotations

import asyncio
import os
import signal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told

if TYPE_CHECKING:
    from rich.text import Text

    from cellbench.engine.run import Conductor, RunEnd
    from cellbench.engine.session import Session
    from cellbench.protocol.plan import Plan
    from cellbench.store import Store


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
    seed: options.Seed = 0,
    speed: Annotated[Speed, typer.Option(help="Simulated seconds per second.")] = Speed.MAX,
    store: options.StorePath = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Where the report goes (else: the store).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a protocol to its end and report.

    Exit codes: 0 the protocol came to an end that it foresees, 1 a safety limit or a failure ended
    it, 2 wrong input, 3 instrument trouble, 130 interrupted.
    """
    with told():
        from cellbench.engine.session import prepare
        from cellbench.protocol import check, plan
        from cellbench.store import Store

        session = prepare(
            protocol,
            cell=cell,
            sim_cell=sim_cell,
            bench=bench,
            sets=sets or [],
            seed=seed,
        )
        declared = session.declared()
        check(session.program, declared).raise_problems()
        planned = plan(session.program, declared)
        with Store(store) as opened:
            end = _run(session, opened, planned, speed, as_json=as_json)
            _tell(session, opened, end, report, as_json=as_json)
    raise typer.Exit(end.exit_code)


def _run(session: Session, store: Store, planned: Plan, speed: Speed, *, as_json: bool) -> RunEnd:
    from cellbench import clock

    factor = None if speed is Speed.MAX else float(speed)
    coroutine = _conduct(session, store, planned, as_json=as_json)
    return clock.run(coroutine, virtual=session.simulator is not None, speed=factor)


async def _conduct(session: Session, store: Store, planned: Plan, *, as_json: bool) -> RunEnd:
    from rich.console import Console

    from cellbench.cli.live import watching
    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.run import Conductor

    # With --json nothing but the answer goes to standard output.
    console = Console(stderr=as_json, quiet=as_json and not os.isatty(2))
    operator = ConsoleOperator(console) if console.is_terminal and not as_json else None
    async with session.bench(operator) as bench:
        conductor = Conductor(
            session.program,
            bench,
            store,
            documents=session.documents(bench),
            seed=session.seed,
        )
        conductor.status.steps_planned = len(planned.rows)
        conductor.status.planned_end_s = planned.duration_max_s
        with _stopping(conductor), watching(conductor, _banner(session, conductor), console):
            return await conductor.conduct()


class _stopping:  # noqa: N801 (used like a function)
    """Ctrl-C and SIGTERM end the run through its safe state, as often as they come."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._asked)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)


def _banner(session: Session, conductor: Conductor) -> Text:
    from rich.text import Text

    cell = f"cell {session.card.cell}   run {conductor.run.id}"
    if session.simulator is None:
        return Text(f"{session.file.bench}   {cell}", style="bold")
    text = f"SIMULATED BENCH (seed {session.seed}): no instrument is connected.   "
    return Text.assemble((text, "bold black on yellow"), f" {cell}")


def _tell(
    session: Session, store: Store, end: RunEnd, report: Path | None, *, as_json: bool
) -> None:
    from cellbench.engine.evaluation import evaluate, write_report

    evaluation = evaluate(store, end.run, session.card)
    path = write_report(evaluation, report)
    if as_json:
        print_json(evaluation.answer())
        return
    for line in evaluation.lines(path):
        typer.echo(line)
