"""What alembic runs: the steps that a database does not have yet, in one transaction.

The connection comes from `cellbench.laboratory.Database.upgrade`.
"""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# Two who upgrade at once: the second finds all done.
connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('cellbench upgrade'))"))
connection.execute(text("CREATE SCHEMA IF NOT EXISTS cellbench"))
context.configure(connection=connection, version_table_schema="cellbench")
with context.begin_transaction():
    context.run_migrations()
