"""The laboratory: what many benches share, in PostgreSQL.

A copy of every run stands there beside those of other benches. The truth of a run stays its own
file (`cellbench.store`): nothing on the control path comes here.
"""

from importlib.util import find_spec

from cellbench.errors import InputError

if find_spec("psycopg") is None:
    raise InputError('the laboratory\'s database needs psycopg: pip install "cellbench[server]"')

from cellbench.laboratory.database import Database, database_named
from cellbench.laboratory.mirror import Mirror
from cellbench.laboratory.traces import trace

__all__ = ["Database", "Mirror", "database_named", "trace"]
