"""The guard: brings a bench to quiet when its engine is lost, and keeps it there.

A small process of its own that hears the engine's heartbeats through a pipe, and holds neither a
port nor a lock while the engine lives. On a miss it ends the engine, takes the instruments over,
and enters what it did in a ledger beside the run. See docs/guard.md.
"""

from cellbench.engine.guard.ledger import (
    GuardAct,
    GuardReport,
    Kind,
    Ledger,
    ledger_path,
    read_ledger,
)

__all__ = ["GuardAct", "GuardReport", "Kind", "Ledger", "ledger_path", "read_ledger"]
