"""Where a campaign stands that was submitted to the laboratory: as its jobs say, on all benches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellbench.campaign.outline import Outline, Trial, Turn
from cellbench.campaign.standing import Progress, Standing, State
from cellbench.errors import InputError
from cellbench.laboratory.queue import Job
from cellbench.store import Run


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
    of_name = [job for job in of_name if _token(job) == last]
    each_cell = len({(_line(job), job.fact("cell")) for job in of_name}) < len(of_name)
    by_id = {run.id: run for run in runs}
    standings = [_standing(job, by_id, each_cell=each_cell) for job in of_name]
    turns = tuple(each.turn for each in standings)
    outline = Outline(name=name, file="", each_cell=each_cell, turns=turns, trials=())
    return outline, Progress(name, standings, [])


def _standing(job: Job, runs: Mapping[str, Run], *, each_cell: bool) -> Standing:
    run = runs.get(f"{job.bench}.{job.run}") if job.run else None
    refusals = "; ".join(f"{bench}: {each}" for bench, each in job.refusals.items())
    return Standing(
        _turn(job, each_cell=each_cell),
        _trial(job, run),
        _state(job, run),
        run,
        job.text or refusals,
    )


def _state(job: Job, run: Run | None) -> State:
    """What the run says, where its bench has copied it to its end; else what the job says."""
    if run is not None and run.ended is not None:
        return State(run.state)
    if not job.run:
        return State.TO_COME if job.is_open else State.NOT_BEGUN
    # One that was cancelled while its bench was lost may never be told to its end.
    return State.INTERRUPTED if job.state == "cancelled" else State.UNDER_WAY


def _turn(job: Job, *, each_cell: bool) -> Turn:
    cell, replicate = job.fact("cell"), _number(job.fact("replicate"))
    return Turn(
        line=_line(job),
        cell=cell,
        place=job.place,
        replicate=replicate,
        specimen=job.fact("place") or (f"{cell} {replicate}" if each_cell else cell),
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
