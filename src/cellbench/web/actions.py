"""What operators do to a run from a browser: each confirmed, and in the journal with who did it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from cellbench.engine.afar import reach
from cellbench.engine.control_client import Unreachable, ask, this_person
from cellbench.engine.overview import summary
from cellbench.engine.requests import (
    NAME_MAX,
    TEXT_MAX,
    Abort,
    Answer,
    Command,
    Continue,
    Note,
    Pause,
    Person,
    Skip,
    Stop,
)
from cellbench.errors import CellbenchError, InputError
from cellbench.store import Run
from cellbench.system import own_group
from cellbench.web.looking import run_of
from cellbench.web.rights import SignedIn, TheSite
from cellbench.web.sessions import Session
from cellbench.web.site import Site

router = APIRouter(prefix="/api/runs/{run}", tags=["actions"])

#: For a run to take a command; it says itself within ten seconds that it could not.
_ANSWER_S = 15.0
#: The same in an emergency: a run that is well answers at once.
_EMERGENCY_S = 5.0
#: For the way to the safe state of a bench whose engine does not answer.
_RELEASE_S = 180.0
_EMERGENCY = "emergency stop"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    if not line.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return line


_Text = Annotated[str, StringConstraints(max_length=TEXT_MAX), AfterValidator(_one_line)]
_Said = Annotated[_Text, StringConstraints(min_length=1, pattern=r"\S")]


class Confirmed(BaseModel):
    """An action that somebody means."""

    model_config = ConfigDict(extra="forbid")

    confirm: Literal[True] = Field(description="That it is meant.")


class WithReason(Confirmed):
    """An action, and why, for the journal."""

    reason: _Text = ""


class OfStep(Confirmed):
    """An action on the step that is under way.

    Attributes:
        step: Its path, as it was shown; where another one is under way by now, nothing is done.
    """

    step: str | None = Field(None, max_length=TEXT_MAX)


class Ending(Confirmed):
    """After what the run is to end."""

    after: Literal["step", "cycle"] = "step"


class Answering(Confirmed):
    """An answer to the question that is open.

    Attributes:
        prompt: The question's id, as it was shown; another question is not answered.
    """

    prompt: str = Field(max_length=100)
    text: _Said


class Remark(Confirmed):
    """A remark for the journal."""

    text: _Said


class Done(BaseModel):
    """What was done."""

    done: str


@router.post("/pause")
async def pause(run: str, body: WithReason, site: TheSite, who: SignedIn, request: Request) -> Done:
    """Hold a run, with its cell at open circuit, until it is continued."""
    return await _asked(site, run, _by(who, request), Pause(reason=body.reason))


@router.post("/continue")
async def go_on(run: str, body: Confirmed, site: TheSite, who: SignedIn, request: Request) -> Done:  # noqa: ARG001
    """Go on with a run that was paused."""
    return await _asked(site, run, _by(who, request), Continue())


@router.post("/skip")
async def skip(run: str, body: OfStep, site: TheSite, who: SignedIn, request: Request) -> Done:
    """End the step that is under way, and go on with the next one."""
    if body.step is not None:
        page = site.pages.of(await asyncio.to_thread(run_of, site, run))
        shown = await asyncio.to_thread(page.whole)
        if shown["step_path"] != body.step:
            raise HTTPException(409, f"nothing was done: {shown['step_path']} is under way by now")
    return await _asked(site, run, _by(who, request), Skip())


@router.post("/stop")
async def stop(run: str, body: Ending, site: TheSite, who: SignedIn, request: Request) -> Done:
    """End a run early: after the step, or the cycle, that is under way."""
    return await _asked(site, run, _by(who, request), Stop(after=body.after))


@router.post("/abort")
async def abort(run: str, body: WithReason, site: TheSite, who: SignedIn, request: Request) -> Done:
    """End a run now, through its safe state."""
    return await _asked(site, run, _by(who, request), Abort(reason=body.reason))


@router.post("/answer")
async def answer(run: str, body: Answering, site: TheSite, who: SignedIn, request: Request) -> Done:
    """Answer the question that a run asks."""

    def shown() -> str | None:
        prompt = summary(site.store, site.store.find(run)).prompt
        return None if prompt is None else prompt.id

    if await asyncio.to_thread(run_of, site, run) and await asyncio.to_thread(shown) != body.prompt:
        raise HTTPException(409, "nothing was answered: this question is not open any more")
    return await _asked(site, run, _by(who, request), Answer(text=body.text))


@router.post("/note")
async def note(run: str, body: Remark, site: TheSite, who: SignedIn, request: Request) -> Done:
    """Keep a remark in a run's journal."""
    return await _asked(site, run, _by(who, request), Note(text=body.text))


@router.post("/emergency")
async def emergency(
    run: str, body: WithReason, site: TheSite, who: SignedIn, request: Request
) -> Done:
    """End the run now, and take the force off; a bench whose run does not answer, likewise."""
    reason = f"{_EMERGENCY}: {body.reason}" if body.reason else _EMERGENCY
    by = _by(who, request)
    found = await asyncio.to_thread(run_of, site, run)
    try:
        command = Abort(reason=reason, release=True)
        return await _asked(site, found.id, by, command, _EMERGENCY_S)
    except (InputError, Unreachable, HTTPException) as error:
        if found.ended is not None:
            raise
        trouble = str(getattr(error, "detail", error))
    except CellbenchError as error:
        trouble = str(error)
    site.say(f"{_EMERGENCY} of run {found.id} by {by.user} at {by.host}: {trouble}")
    return await asyncio.to_thread(_release, site, found, trouble)


def _by(who: Session, request: Request) -> Person:
    host = request.client.host if request.client is not None else ""
    local = this_person().host
    name = local if host in {"127.0.0.1", "::1", ""} else host
    return Person(user=who.name[:NAME_MAX], host=name[:NAME_MAX], via="web")


async def _asked(
    site: Site, run_id: str, by: Person, command: Command, patience_s: float = _ANSWER_S
) -> Done:
    """Have a run obey; says what it said.

    Raises:
        HTTPException: There is no such run (404), or it refuses (409).
        CellbenchError: It does not answer, or takes no commands.
    """

    def asked() -> tuple[bool, str, str]:
        run, control = reach(site.store, run_of(site, run_id).id)
        reply = ask(control, command, patience_s=patience_s, by=by)
        return reply.accepted, reply.text, run.id

    accepted, text, name = await asyncio.to_thread(asked)
    site.say(f"{command.command} of run {name} by {by.user} at {by.host}: {text}")
    if not accepted:
        raise HTTPException(409, text)
    return Done(done=text)


def _release(site: Site, run: Run, trouble: str) -> Done:
    """Have ``cellbench release`` see to a bench whose run does not answer."""
    command = [sys.executable, "-m", "cellbench", "release", run.id, "--force", "--json"]
    store = ["--store", str(site.directory)]
    try:
        done = subprocess.run(  # noqa: S603 (our own command, of a run that there is)
            [*command, *store],
            capture_output=True,
            timeout=_RELEASE_S,
            check=False,
            **own_group(),
        )
    except subprocess.TimeoutExpired:
        raise HTTPException(
            504,
            f"{trouble}. cellbench release {run.id} takes longer than {_RELEASE_S:g} s: go there",
        ) from None
    return _outcome(done, trouble)


def _outcome(done: subprocess.CompletedProcess[bytes], trouble: str) -> Done:
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"error": done.stderr.decode(errors="replace").strip()}
    if "error" in answer:
        raise HTTPException(409, f"{trouble}. {answer['error']}")
    rows = [
        f"{each['instrument']}: {each['state']}: "
        f"{'confirmed' if each['confirmed'] else 'NOT CONFIRMED'}"
        for each in answer["outcomes"]
    ]
    return Done(done=f"{trouble}. {answer['bench']} was released: {'; '.join(rows)}")
