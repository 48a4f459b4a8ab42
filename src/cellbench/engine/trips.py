"""Why a run ends before its protocol does."""

from __future__ import annotations

from enum import StrEnum

from cellbench.errors import CellbenchError


class SafeState(StrEnum):
    """The two safe states: see `cellbench.engine.safe_state`."""

    QUIET = "quiet"  #: cell at open circuit, press and chamber hold
    RELEASED = "released"  #: quiet, and then no force on the stack


class Trip(CellbenchError):
    """A limit was crossed, or what guards it went blind.

    Args:
        what: The quantity or instrument, in the field's words.
        message: Value, limit, and for how long; a whole clause.
        target: The safe state that this calls for.
    """

    def __init__(self, what: str, message: str, target: SafeState = SafeState.QUIET) -> None:
        super().__init__(f"{what}: {message}")
        self.what = what
        self.target = target


class Aborted(CellbenchError):
    """A person ended the run from outside.

    Args:
        message: Who, and why.
        target: The safe state that they want.
    """

    def __init__(self, message: str, target: SafeState = SafeState.QUIET) -> None:
        super().__init__(message)
        self.target = target


class Undone(CellbenchError):
    """The run goes no further, with part of its program not done; the message says which."""


class StepFailed(CellbenchError):
    """A step did not reach what it was for: a pressure that never settles, a required spectrum."""
