"""Why a run ended: the cause among what went wrong, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cellbench.engine.trips import Aborted, SafeState, StepFailed, Trip, Undone
from cellbench.errors import InputError, InstrumentError, StoreError

#: What explains the others comes first: a trip drags failures of the clean-up along.
_ORDER = (
    Trip, Aborted, StoreError, InstrumentError, StepFailed, Undone, Exception,
    asyncio.CancelledError,
)  # fmt: skip
_FORESEEN = (Trip, Aborted, StoreError, InstrumentError, StepFailed, Undone, InputError)


#: Why a run ended whose process was told to: by Ctrl-C, a service manager, the computer's shutdown.
BY_SIGNAL = "ended by the operator"


class RunState(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"  #: the protocol came to an end that it foresees
    STOPPED = "stopped"  #: a safety limit ended it
    FAILED = "failed"  #: a step, an instrument, the store or cellbench itself failed
    INTERRUPTED = "interrupted"  #: somebody ended it, or it could not be taken up to its end


@dataclass(frozen=True)
class Judgement:
    """What follows from a cause: how the run counts, and the safe state that it calls for."""

    state: RunState
    reason: str
    target: SafeState
    exit_code: int


def root_cause(error: BaseException) -> BaseException:
    """What ended the run, out of a task group's bundle and out of what happened on the way out."""
    return min(_related(error), key=_rank)


def is_bug(cause: BaseException | None) -> bool:
    """Whether this is nothing that cellbench foresees."""
    return isinstance(cause, Exception) and not isinstance(cause, _FORESEEN)


def judge(cause: BaseException | None) -> Judgement:
    """What follows from a cause; None is the program's own end."""
    quiet = SafeState.QUIET
    match cause:
        case None:
            return Judgement(RunState.COMPLETED, "every step has ended", quiet, 0)
        case Trip():
            return Judgement(RunState.STOPPED, str(cause), cause.target, 1)
        case StepFailed() | StoreError() | InputError():
            return Judgement(RunState.FAILED, str(cause), quiet, 1)
        case InstrumentError():
            return Judgement(RunState.FAILED, str(cause), quiet, 3)
        case Undone():
            return Judgement(RunState.INTERRUPTED, str(cause), quiet, 1)
        case Aborted():
            return Judgement(RunState.INTERRUPTED, str(cause), cause.target, 130)
        case asyncio.CancelledError() | KeyboardInterrupt():
            return Judgement(RunState.INTERRUPTED, BY_SIGNAL, quiet, 130)
        case _:
            reason = f"internal error: {type(cause).__name__}: {cause}"
            return Judgement(RunState.FAILED, reason, quiet, 1)


def _related(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _related(each)
        return
    yield error
    # A clean-up that fails hides the trip that it was cleaning up after.
    context = error.__context__
    while context is not None:
        if isinstance(context, Trip):
            yield context
        context = context.__context__


def _rank(cause: BaseException) -> int:
    return next((rank for rank, kind in enumerate(_ORDER) if isinstance(cause, kind)), len(_ORDER))
