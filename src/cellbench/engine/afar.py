"""Runs that other processes conduct: which one is meant, whether it is alive, what it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellbench.engine.causes import RunState
from cellbench.engine.control_client import ANSWER_S, Unreachable, ask
from cellbench.engine.control_file import ControlFile, active, place, read
from cellbench.engine.guard import ledger_path, read_ledger
from cellbench.engine.requests import Look
from cellbench.errors import CellbenchError, InputError
from cellbench.report.wording import as_utc
from cellbench.store import JournalEntry, Run, RunReader, Store

#: Last journal entries that are told of a run that is gone.
_ENTRIES = 6


def reach(store: Store, run_id: str | None) -> tuple[Run, ControlFile]:
    """Return a run that is under way, and where it takes commands.

    Args:
        store: Where it is kept.
        run_id: Its name; None for the one run that is under way.

    Raises:
        InputError: There is none, several could be meant, it has ended, or it is another user's.
    """
    run = _meant(store, run_id)
    control = read(place(store.run_path(run.id)))
    if control is not None and control.is_alive:
        return run, control
    if run.ended is not None:
        raise InputError(f"run {run.id} has ended ({run.state}): {run.reason}")
    if control is None:
        raise InputError(f"run {run.id} takes no commands: {_gone(run)}")
    raise InputError(f"run {run.id} has lost its process ({control.pid}): {_gone(run)}")


def look(store: Store, run_id: str | None, *, patience_s: float = ANSWER_S) -> dict[str, Any]:
    """Return what a run does now, as `cellbench.engine.snapshot` says; or how it was left.

    Args:
        store: Where it is kept.
        run_id: Its name; None for the one run that is under way.
        patience_s: How long to wait for its answer.

    Raises:
        InputError: There is none, several could be meant, or it is another user's.
        CellbenchError: It does not answer.
    """
    run = _meant(store, run_id)
    control = read(place(store.run_path(run.id)))
    if control is not None and control.is_alive:
        try:
            reply = ask(control, Look(), patience_s=patience_s)
        except Unreachable:
            run = store.find(run.id)  # it has ended meanwhile
        else:
            if reply.data is None:
                raise CellbenchError(f"run {run.id}: {reply.text}")
            return reply.data | {"pid": control.pid}
    return _left(store, run)


def _meant(store: Store, run_id: str | None) -> Run:
    if run_id is not None:
        return store.find(run_id)
    under_way = [found.run for found in active(store.directory / "runs")]
    if len(under_way) > 1:
        runs = [store.find(each) for each in under_way]
        listed = "\n".join(f"  {each.id}   {each.protocol} on {each.cell_at}" for each in runs)
        raise InputError(f"several runs are under way; say which one:\n{listed}")
    return store.find(under_way[0] if under_way else "last")


def _gone(run: Run) -> str:
    resume = _resume(run)
    goes_on = f", {resume} goes on with it" if resume else ""
    return f"nobody conducts it any more. cellbench status {run.id} shows how it was left{goes_on}"


def _resume(run: Run) -> str | None:
    """The command that goes on with a run; a simulated bench went with its process."""
    done = run.simulated or run.state == RunState.COMPLETED
    return None if done else f"cellbench resume {run.id}"


def _left(store: Store, run: Run) -> dict[str, Any]:
    """How a run was left by its process, from its file."""
    path = store.run_path(run.id)
    journal = RunReader(path).journal
    last = journal[-1] if journal else None
    return {
        "run": run.id,
        "state": "lost" if run.ended is None else run.state,
        "reason": run.reason,
        "protocol": run.protocol,
        "cell": run.cell,
        "bench": run.bench,
        "place": run.place,
        "simulated": run.simulated,
        "time_s": 0.0 if last is None else last.time_s,
        "utc": None if last is None else as_utc(last.utc).isoformat(),
        "step": next((entry.step for entry in reversed(journal) if entry.step), None),
        "safe_state": _safe_state(journal) if run.ended else _guarded(path),
        "messages": [
            {"time_s": entry.time_s, "text": entry.text} for entry in journal if entry.text
        ][-_ENTRIES:],
        "resume": _resume(run),
    }


def _guarded(path: Path) -> list[dict[str, Any]]:
    """What the guard of a lost run has read back of each instrument."""
    act = read_ledger(ledger_path(path)).last
    outcomes = [] if act is None else act.outcomes.values()
    return [
        {"text": f"{each.instrument}: {each.state}, by the guard", "confirmed": each.confirmed}
        for each in outcomes
    ]


def _safe_state(journal: Sequence[JournalEntry]) -> list[dict[str, Any]]:
    """What was read back of each instrument when the run ended last."""
    return [
        {"text": entry.text, "confirmed": entry.data["confirmed"]}
        for entry in journal
        if entry.kind == "safe state"
    ]
