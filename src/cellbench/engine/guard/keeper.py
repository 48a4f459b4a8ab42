"""The engine's end of its guard: starts it, tells it that the engine lives, replaces it.

Everything is sent from the engine's own loop, and never waited for: a loop that hangs is silent,
and a guard that does not listen hangs nobody.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cellbench.engine.guard.ledger import errors_path, forget_empty, ledger_path
from cellbench.engine.guard.messages import Beat, Message, Over, Step, Watch, to_line
from cellbench.engine.guard.processes import ProcessId, never_wait, start_apart
from cellbench.engine.heart import Heart
from cellbench.errors import InputError
from cellbench.quantities import parse

if TYPE_CHECKING:
    from cellbench.engine.run import Conducting
    from cellbench.engine.session import Session
    from cellbench.store import JournalEntry

#: How often the engine is heard, whatever its watch does.
BEAT_S = 1.0
#: A shorter silence is none: the computer may be busy.
SILENCE_MIN_S = 3.0
#: A watch that has looked at nothing for so long hangs, even if the loop turns: no beat then. An
#: instrument that does not answer is given up well before.
WATCH_HANGS_S = 60.0
#: A guard that ended within this time of its start is not replaced at once, but after so long.
_SHORT_LIFE_S = 10.0
#: How long a guard may take to end when there is nothing left to guard.
_END_S = 10.0
_LOOK_S = 0.02


@asynccontextmanager
async def guarded(session: Session) -> AsyncIterator[Keeper]:
    """Keep a guard for a run, from `Keeper.watch_over` until the bench has been left.

    Enter it before the bench's own context: it is to end after that.
    """
    keeper = Keeper(session)
    try:
        yield keeper
    finally:
        await keeper.over()


class Keeper(Heart):
    """Keeps a guard for one run; for the simulated bench, which goes with this process, none.

    Args:
        session: Whose bench is guarded.

    Raises:
        InputError: Its bench file declares a silence that cannot be told from a busy moment.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._silence_s = parse(session.file.guard.silence, "time")
        if self._silence_s < SILENCE_MIN_S:
            raise InputError(
                f"{session.file.bench}: guard: silence: {session.file.guard.silence} is too short: "
                f"the engine is heard every {BEAT_S:g} s; write {SILENCE_MIN_S:g} s or more"
            )
        self._conducting: Conducting | None = None
        self._first = b""
        self._errors = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = self._retry_s = 0.0
        self._step, self._declared_s = Step(""), 0.0
        self._passed_s: float | None = None
        self._beating: asyncio.Task[None] | None = None

    def watch_over(self, conducting: Conducting) -> None:
        """Have a run guarded from its beginning on."""
        if self._session.simulator is not None:
            return
        self._conducting = conducting
        ledger = ledger_path(conducting.run_path)
        self._errors = errors_path(ledger)
        self._first = to_line(self._watch(conducting, ledger))
        conducting.heard_by(self)
        conducting.journal.listeners.append(self._entered)

    def _watch(self, conducting: Conducting, ledger: Path) -> Watch:
        session, me = self._session, ProcessId.mine()
        limits = conducting.program.limits.electrical
        scaled = session.file.speed != 1.0
        return Watch(
            run=conducting.run.id,
            pid=me.pid,
            process_started=me.started,
            ledger=str(ledger.absolute()),
            bench=session.bench_text,
            beside=None if session.beside is None else str(session.beside.absolute()),
            limits=limits.model_dump(),
            # Scaled time stands still while a person is asked: silence says nothing then.
            silence_s=None if scaled else self._silence_s,
            speed=session.file.speed,
        )

    # --- What the engine tells ------------------------------------------------------------------

    def begun(self) -> None:
        """See `Heart`."""
        self._start()
        self._beating = asyncio.create_task(self._beat_on(), name="heartbeat")

    def passed(self) -> None:
        """See `Heart`."""
        self._passed_s = _now_s()
        self._tell(Beat())

    def watch_ended(self) -> None:
        """See `Heart`."""
        self._passed_s = None

    def declare(self, continues: Mapping[str, float]) -> None:
        """See `Heart`."""
        self._say_step(Step(self._step.path, continues))

    def _entered(self, entry: JournalEntry) -> None:
        """Called with each entry of the journal, before the disk has it."""
        if entry.kind == "step started":
            self._say_step(Step(entry.step, self._step_now().continues))

    def _say_step(self, step: Step) -> None:
        self._step, self._declared_s = step, _now_s()
        self._tell(step)

    async def _beat_on(self) -> None:
        while True:
            self._replace_if_gone()
            if self._passed_s is None or _now_s() - self._passed_s < WATCH_HANGS_S:
                self._tell(Beat())
            await asyncio.sleep(BEAT_S)

    async def over(self) -> None:
        """Tell the guard that the bench was left in order, and see it end."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        self._conducting = None
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            os.write(_pipe(process), to_line(Over()))
        try:
            async with asyncio.timeout(_END_S):
                while process.poll() is None:
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            process.kill()
            process.wait()
        _close(process)
        forget_empty(self._errors)

    # --- The guard's process --------------------------------------------------------------------

    def _start(self) -> None:
        self._started_s = _now_s()
        try:
            command = [sys.executable, "-m", "cellbench.engine.guard"]
            process = start_apart(command, self._errors)
        except OSError as error:
            if not self._retry_s:  # said once, tried on and on
                self._say(f"no guard could be started ({error.strerror or error})")
            self._retry_s = _now_s() + _SHORT_LIFE_S
            return
        pipe = _pipe(process)
        try:
            os.write(pipe, self._first)
            never_wait(pipe)
            os.write(pipe, to_line(self._step_now()))
        except OSError:
            pass  # it has ended already, which is seen with the next beat
        self._process = process
        self._say(
            f"guarded by process {process.pid}: it brings the bench to quiet should this process "
            "be lost"
        )

    def _replace_if_gone(self) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                return
            self._gone(process, "has ended")
        if _now_s() >= self._retry_s:
            self._start()

    def _tell(self, message: Message) -> None:
        process = self._process
        if process is None:
            return
        try:
            os.write(_pipe(process), to_line(message))
        except BlockingIOError:
            # Were its end of the pipe closed alone, it would take this process for lost.
            process.kill()
            self._gone(process, "does not listen any more, and was ended")
        except OSError:
            self._gone(process, "has ended")

    def _gone(self, process: subprocess.Popen[bytes], how: str) -> None:
        self._process = None
        process.kill()
        process.wait()
        _close(process)
        code = process.returncode
        self._say(
            f"the guard, process {process.pid}, {how} (exit code {code}): a new one is started"
        )
        short = _now_s() - self._started_s < _SHORT_LIFE_S
        self._retry_s = _now_s() + (_SHORT_LIFE_S if short else 0.0)

    def _step_now(self) -> Step:
        """The step under way, with the bounds of what continues as they are by now."""
        passed_s = _now_s() - self._declared_s
        left_s = {name: at_most_s - passed_s for name, at_most_s in self._step.continues.items()}
        return Step(self._step.path, left_s)

    def _say(self, text: str) -> None:
        """Enter it in the journal, which shows it too; not awaited: the disk may be full."""
        if self._conducting is not None:
            self._conducting.journal.enter_soon("guard", text=text)


def _pipe(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None  # noqa: S101 (it was asked for)
    return process.stdin.fileno()


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 (it was asked for)
    with suppress(OSError):
        process.stdin.close()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
