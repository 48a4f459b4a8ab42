"""The laboratory: what many benches share, in PostgreSQL.

A copy of every run stands there beside those of other benches. The truth of a run stays its own
file (`cellbench.store`): nothing on the control path comes here.
"""

from cellbench.laboratory.database import Database, database_named

__all__ = ["Database", "database_named"]
