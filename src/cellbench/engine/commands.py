"""What people may ask of a run while it runs, and how it is done.

Each command acts at once on what the walk obeys (`Steering`), and is entered in the journal with
who asked, before anything that follows from it. What people ask for twice is done once.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Protocol

from cellbench.clock import VirtualLoop
from cellbench.engine.journal import Journal
from cellbench.engine.prompts import Prompts
from cellbench.engine.requests import (
    Abort,
    Answer,
    Command,
    Continue,
    Note,
    Pause,
    Reply,
    Skip,
    Stop,
    Who,
)
from cellbench.engine.status import Status
from cellbench.engine.steering import PAUSE, EndAfter, Steering
from cellbench.engine.trips import Aborted, SafeState
from cellbench.errors import StoreError

#: An answer waits so long for the disk; what was asked for is done before.
KEPT_S = 5.0


class Commanded(Protocol):
    """What a run offers to whoever commands it.

    Attributes:
        ending: Why it is on the way to its safe state, empty while it is not.
    """

    steering: Steering
    journal: Journal
    status: Status
    ending: str

    def abort(self, why: Aborted) -> None:
        """End the run through its safe state."""


class _NotDone(Exception):
    """Why a command changes nothing."""


class _DoneBefore(Exception):
    """What was asked for is so already."""


@dataclass(frozen=True)
class _Done:
    """What was done: as it is answered, and as it is entered."""

    answer: str
    entry: str
    kind: str = "command"


class Commands:
    """Obeys commands to one run, in its loop.

    Args:
        run: What is commanded.
        prompts: Takes answers to its questions; None where nobody but the bench itself answers.
    """

    def __init__(self, run: Commanded, prompts: Prompts | None = None) -> None:
        self.prompts = prompts
        self._run = run
        self._pace = _HumanPace()

    async def obey(self, command: Command, who: Who) -> Reply:
        """Do what is asked, or say why not.

        Everything is done, and its entry on its way, before this first waits; it then waits for the
        entry to be on the disk.
        """
        # On the way to its safe state a run may ask a person to unload a press by hand.
        if self._run.ending and not isinstance(command, Answer):
            return Reply(accepted=False, text=f"the run is ending: {self._run.ending}")
        try:
            done = self._do(command, who)
        except _NotDone as error:
            return Reply(accepted=False, text=str(error))
        except _DoneBefore as error:
            return Reply(accepted=True, text=f"{error} already")
        return Reply(accepted=True, text=done.answer + await self._enter(command, who, done))

    def tell(self, text: str) -> None:
        """Enter something that a technician should know of the way in."""
        if not self._run.ending:
            self._run.journal.enter_soon("command channel", text=text)

    def release(self) -> None:
        """The run ends: whatever a person held is over."""
        self._pace.end()

    # --- Each command ---------------------------------------------------------------------------

    def _do(self, command: Command, who: Who) -> _Done:
        match command:
            case Pause():
                return self._pause(command, who)
            case Continue():
                return self._continue(who)
            case Abort(reason=reason, release=release):
                why = f"aborted by {who}{_because(reason)}"
                self._run.abort(Aborted(why, SafeState.RELEASED if release else SafeState.QUIET))
                self._pace.end()
                # Its text is that of the entry that follows: once is enough for a person.
                return _Done(f"{why}; on the way to the safe state", "")
            case Skip():
                return self._skip(who)
            case Stop():
                return self._stop(command, who)
            case Answer(text=text):
                return self._answer(text, who)
            case Note(text=text):
                return _Done("noted", f"{text} ({who})", kind="note")

    def _pause(self, command: Pause, who: Who) -> _Done:
        steering = self._run.steering
        if PAUSE in steering.holds:
            raise _DoneBefore(steering.holds[PAUSE])
        now = self._run.journal.utc_now.astimezone()
        paused = f"paused by {who}"
        steering.hold(PAUSE, f"{paused} since {now:%a %H:%M}{_because(command.reason)}")
        self._pace.begin()
        answer = "paused: what is under way is interrupted, or ends first where it cannot be"
        return _Done(answer, f"{paused}{_because(command.reason)}")

    def _continue(self, who: Who) -> _Done:
        steering = self._run.steering
        if PAUSE not in steering.holds:
            raise _NotDone(f"it is not paused{_held(steering)}")
        steering.let_go(PAUSE)
        self._pace.end()
        return _Done(f"the pause is over{_held(steering)}", f"continued by {who}")

    def _skip(self, who: Who) -> _Done:
        steering = self._run.steering
        if steering.skip_wanted:
            raise _DoneBefore(f"skips {steering.skipped}")
        step = steering.under_way
        if not step:
            raise _NotDone("it is between two steps: nothing is skipped")
        steering.skip()
        return _Done(f"skips {step}", f"{step} skipped by {who}")

    def _stop(self, command: Stop, who: Who) -> _Done:
        path = self._step()
        if command.after == "step":
            end, what = EndAfter.STEP, path
        else:
            end, what = EndAfter.CYCLE, _pass_of(path)
            if not what:
                raise _NotDone(f"{path} is in no cycle; --after step ends the run after it")
        if self._run.steering.end_after is end:
            raise _DoneBefore(f"ends after {what}")
        self._run.steering.end_after = end
        return _Done(f"ends after {what}", f"to end after {what}, by {who}")

    def _answer(self, text: str, who: Who) -> _Done:
        question = None if self.prompts is None else self.prompts.question
        if self.prompts is None or question is None:
            raise _NotDone("no question is open")
        if question.objection(text):
            raise _NotDone(f'{question.objection(text)}. The question is: "{question.prompt}"')
        self.prompts.answer(text)
        return _Done(f'answered "{text}" to "{question.prompt}"', f'"{text}" answered by {who}')

    def _step(self) -> str:
        path = self._run.status.step_path
        if not path:
            raise _NotDone("no step is under way yet")
        return path

    # --- The journal ----------------------------------------------------------------------------

    async def _enter(self, command: Command, who: Who, done: _Done) -> str:
        """Enter what was done; what to add to the answer where that could not be kept."""
        journal, data = self._run.journal, _data(command, who)
        step = self._run.status.step_path
        try:
            async with asyncio.timeout(KEPT_S):
                await journal.enter(done.kind, step=step, text=done.entry, **data)
        except TimeoutError:
            return " (but the disk has not taken the entry of it yet)"
        except StoreError as error:
            return f" (but it cannot be entered in the journal: {error})"
        return ""


class _HumanPace:
    """While a person holds a run, time that jumps passes as it does for them."""

    def __init__(self) -> None:
        self._loop: VirtualLoop | None = None

    def begin(self) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop) and loop.jumps:
            self._loop = loop
            loop.pace(1.0)

    def end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.pace(None)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _held(steering: Steering) -> str:
    """What still holds a run, as the end of a sentence."""
    return "".join(f"; it is held: {why}" for why in steering.holds.values())


def _pass_of(path: str) -> str:
    """The pass of the innermost loop that a step is in, by its path; empty where it is in none."""
    inside = re.match(r"(.*\[\d+\])/", path)
    return inside[1] if inside else ""


def _data(command: Command, who: Who) -> dict[str, Any]:
    asked = command.model_dump(mode="json")
    return {"command": asked.pop("command"), "asked": asked, "by": who.model_dump(mode="json")}
