"""Curves of the runs of all benches, straight from the laboratory's database.

Of a long run the server reduces what is asked for: its rows need not be fetched to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellbench.laboratory.database import Database
from cellbench.laboratory.tables import BLOCK
from cellbench.laboratory.traces import CopiedRun
from cellbench.web.buckets import Buckets, FloatArray, of_rows
from cellbench.web.traces import Cut, Cuts


class DatabaseCurves:
    """Those of one run; see `cellbench.web.traces.Curves`.

    Args:
        database: With the address of a viewer's role.
        run_id: The run, with its bench: ``room2.2026-11-20-001``.
    """

    look_s = 1.0

    def __init__(self, database: Database, run_id: str) -> None:
        self._database = database
        self._run_id = run_id

    def commits(self) -> None:
        """See `Curves`."""
        return

    def cut(self, from_s: float | None, to_s: float | None, stretches: int) -> Cuts:
        """See `Curves`; errors as of `cellbench.laboratory.trace`."""
        with CopiedRun.of(self._database, self._run_id) as run:
            _, newest_s = run.ends_s() or (0.0, 0.0)
            begin_s = 0.0 if from_s is None else from_s
            end_s = max(begin_s, newest_s if to_s is None else to_s)
            found = run.trace(begin_s, end_s, stretches)
        cuts = [
            Cut.of(source, _buckets(found[source]), 0.0, begin_s, end_s) for source in sorted(found)
        ]
        return Cuts(cuts, run.last, begin_s, end_s)

    def newest(self) -> int:
        """See `Curves`."""
        with CopiedRun.of(self._database, self._run_id) as run:
            return run.last

    def after(self, row: int, until: int) -> tuple[dict[str, Buckets], int]:
        """See `Curves`."""
        with CopiedRun.of(self._database, self._run_id) as run:
            last = min(run.last, until)
            rows = run.rows(row + 1, last) if last > row else {}
            return {source: of_rows(each) for source, each in rows.items()}, max(row, last)


def _buckets(curve: Mapping[str, FloatArray]) -> Buckets:
    """What the database says of blocks; these are not those of a file, and have no place there."""
    nowhere = np.full(len(curve["count"]), np.nan)
    return Buckets(np.column_stack([nowhere, *(curve[name] for name in BLOCK)]))
