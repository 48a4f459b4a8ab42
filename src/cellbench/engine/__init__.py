"""Runs protocols on a bench: the walk, its journal, the limits, and the way to the safe state."""

from cellbench.engine.run import Conductor, RunEnd, RunState
from cellbench.engine.status import Status

__all__ = ["Conductor", "RunEnd", "RunState", "Status"]
