"""Where a campaign stands that was submitted to the laboratory: as its jobs say, on all benches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellbench.campaign.outline import Outline, Trial, Turn
from cellbench.campaign.standing import Progress, Standing, State
from cellbench.engine.causes import RunState
from cellbench.errors import InputError
from cellbench.laboratory.queue import Job
from cellbench.store import Run

_STATES = {
    "waiting": State.TO_COME, "taken": State.TO_COME, "running": State.UNDER_WAY,
    "done": State.COMPLETED, "failed": State.FAILED, "cancelled": State.INTERRUPTED,
}  # fmt: skip


def submitted(name: str, jobs: Sequence[Job], runs: Sequence[Run]) -> tuple[Outline, Progress]:
    """How far a campaign is, as it was last submitted.

    Args:
        name: Of the campaign.
        jobs: All of the laboratory, as they were submitted.
        runs: All of the laboratory.

    Raises:
        InputError: None of that name was submitted.
    """
    of_name = [job for job in jobs if job.fact("campaign") == name]
    if not of_name:
        known = dict.fromkeys(job.fact("campaign") for job in jobs if job.fact("campaign"))
        names = ", ".join(f'"{each}"' for each in known) or "none yet"
        raise InputError(f'no campaign "{name}" was submitted; submitted were: {names}')
    last = _token(of_name[-1])
    by_id = {run.id: run for run in runs}
    standings = [_standing(job, by_id) for job in of_name if _token(job) == last]
    turns = tuple(each.turn for each in standings)
    each_cell = len({(each.line, each.cell) for each in turns}) < len(turns)
    outline = Outline(name=name, file="", each_cell=each_cell, turns=turns, trials=())
    return outline, Progress(name, standings, [])


def _standing(job: Job, runs: Mapping[str, Run]) -> Standing:
    run = runs.get(f"{job.bench}.{job.run}") if job.run else None
    state, why = _STATES[job.state], job.text
    if state is State.TO_COME and not why:
        why = "; ".join(f"{bench}: {each}" for bench, each in job.refusals.items())
    if run is not None and run.state == RunState.STOPPED:
        state = State.STOPPED
    elif not job.run and state is State.INTERRUPTED:
        state = State.NOT_BEGUN
    elif job.run and (run is None or run.ended is None) and not job.is_open:
        state, why = State.UNDER_WAY, f"{job.state}; its bench has not copied it to its end yet"
    return Standing(_turn(job), _trial(job, run), state, run, why)


def _turn(job: Job) -> Turn:
    cell, replicate = job.fact("cell"), _number(job.fact("replicate"))
    several = _number(job.fact("replicates")) > 1
    return Turn(
        line=_line(job),
        cell=cell,
        place=job.place,
        replicate=replicate,
        specimen=job.fact("place") or (f"{cell} {replicate}" if several else cell),
        stage=0,
    )


def _trial(job: Job, run: Run | None) -> Trial:
    sets = job.facts.get("sets")
    settings = [str(each).partition("=") for each in sets] if isinstance(sets, list) else []
    return Trial(
        line=_line(job),
        cell=job.fact("cell"),
        protocol=job.fact("title"),
        card=job.fact("cell") if run is None else run.cell,
        parameters={name.strip(): value.strip() for name, _, value in settings},
    )


def _token(job: Job) -> str:
    return job.fact("submission").partition(" ")[0]


def _line(job: Job) -> int:
    return _number(job.fact("submission").partition(" ")[2])


def _number(text: str) -> int:
    # What a job says is validated where it is taken; a wrong one must not hide the others.
    return int(text) if text.isdecimal() else 0
