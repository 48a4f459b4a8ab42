"""Commands to a run that another process conducts: ``cellbench pause``, ``abort``, ``status``...

See docs/steering.md for what each does to a cell.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told

if TYPE_CHECKING:
    from cellbench.engine.requests import Command

_Run = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the end of one, or last; else the one that is under way.",
        show_default=False,
    ),
]
_Reason = Annotated[str, typer.Option("--reason", help="Why, for the journal.", show_default=False)]
_RunAndText = Annotated[
    list[str],
    typer.Argument(metavar="[RUN] TEXT", help="Text of several words goes into quotes."),
]


class After(StrEnum):
    """Where a run is to end early."""

    STEP = "step"
    CYCLE = "cycle"


def pause(
    run_id: _Run = None,
    reason: _Reason = "",
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Hold a run, with its cell at open circuit, until cellbench continue."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Pause

        _send(run_id, Pause(reason=_one_line(reason)), store, as_json=as_json)


def go_on(
    run_id: _Run = None, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """Go on with a run that was paused."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Continue

        _send(run_id, Continue(), store, as_json=as_json)


def skip(
    run_id: _Run = None, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """End the step that is under way, and go on with the next one."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Skip

        _send(run_id, Skip(), store, as_json=as_json)


def stop(
    run_id: _Run = None,
    after: Annotated[
        After, typer.Option("--after", help="The step, or the pass of its loop, under way.")
    ] = After.STEP,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """End a run early: after the step, or the cycle, that is under way."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Stop

        command = Stop(after="step" if after is After.STEP else "cycle")
        _send(run_id, command, store, as_json=as_json)


def abort(
    run_id: _Run = None,
    reason: _Reason = "",
    release: Annotated[
        bool, typer.Option("--release", help="Then take the force off the stack, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether this is meant.")] = False,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """End a run now, through its safe state; asks first on a terminal."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Abort

        # With --json the answer alone goes to standard output.
        asks = not yes and not as_json and sys.stdin.isatty()
        command = Abort(reason=_one_line(reason), release=release)
        _send(run_id, command, store, as_json=as_json, asks=asks)


def answer(
    words: _RunAndText, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """Answer the question that a run asks."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Answer

        run_id, text = _run_and_text(words)
        _send(run_id, Answer(text=text), store, as_json=as_json)


def note(
    words: _RunAndText, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """Keep a remark in a run's journal."""
    with told(as_json=as_json):
        from cellbench.engine.requests import Note

        run_id, text = _run_and_text(words)
        _send(run_id, Note(text=text), store, as_json=as_json)


def status(
    run_id: _Run = None, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """Show what a run does now; of one whose process is gone, the last that is known."""
    with told(as_json=as_json):
        from cellbench.cli.now import lines
        from cellbench.engine.afar import look
        from cellbench.store import Store

        with Store(store, make=False) as opened:
            found = look(opened, run_id)
        if as_json:
            print_json(found)
            return
        for line in lines(found):
            typer.echo(line)


def _send(
    run_id: str | None,
    command: Command,
    store: Path | None,
    *,
    as_json: bool,
    asks: bool = False,
) -> None:
    from cellbench.engine.afar import reach
    from cellbench.engine.control_client import ask
    from cellbench.store import Store

    with Store(store, make=False) as opened:
        run, control = reach(opened, run_id)
    if asks:
        typer.confirm(f"End run {run.id} ({run.protocol} on {run.cell_at}) now?", abort=True)
    reply = ask(control, command)
    if as_json:
        print_json({"run": run.id, "accepted": reply.accepted, "text": reply.text})
    else:
        typer.echo(f"run {run.id}: {reply.text}", err=not reply.accepted)
    if not reply.accepted:
        raise typer.Exit(ExitCode.STOPPED)


def _run_and_text(words: list[str]) -> tuple[str | None, str]:
    from cellbench.errors import InputError

    if len(words) > 2:
        raise InputError("write RUN, then the text in quotes: a text of several words is one")
    run_id, text = (words[0], words[1]) if len(words) == 2 else (None, words[0])
    text = _one_line(text)
    if not text:
        raise InputError("there is no text")
    return run_id, text


def _one_line(text: str) -> str:
    """A text as a run takes it: on one line, printable, and not too long."""
    from cellbench.engine.requests import TEXT_MAX
    from cellbench.errors import InputError

    line = " ".join(text.split())
    if not line.isprintable():
        raise InputError("the text holds characters that cannot be printed")
    if len(line) > TEXT_MAX:
        raise InputError(f"the text has {len(line)} characters; at most {TEXT_MAX} are kept")
    return line
