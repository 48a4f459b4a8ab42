"""The queue of jobs: procrastinate's own tables and functions, ours beside them, and rights.

The schema is that of procrastinate 3.10 (its latest change came with 3.4). A later one that brings
steps of its own (``procrastinate/sql/migrations``) needs a step of ours that executes them.
"""

from alembic import op
from procrastinate.schema import SchemaManager

revision = "jobs"
down_revision = "runs"
branch_labels = None
depends_on = None

TABLES = """
-- Which bench has a job, where, and what became of it there.
CREATE TABLE cellbench.job_state (
    job_id bigint PRIMARY KEY REFERENCES cellbench.procrastinate_jobs ON DELETE CASCADE,
    bench text NOT NULL,
    place text NOT NULL,
    run text NOT NULL DEFAULT '',
    text text NOT NULL DEFAULT ''
);
-- Why a bench does not take a job that waits.
CREATE TABLE cellbench.job_refusal (
    job_id bigint REFERENCES cellbench.procrastinate_jobs ON DELETE CASCADE,
    bench text,
    text text NOT NULL,
    PRIMARY KEY (job_id, bench)
);
-- How a job that runs is to be ended.
CREATE TABLE cellbench.job_wish (
    job_id bigint PRIMARY KEY REFERENCES cellbench.procrastinate_jobs ON DELETE CASCADE,
    how text NOT NULL CHECK (how IN ('step', 'cycle', 'abort')),
    by text NOT NULL
);

CREATE FUNCTION cellbench.own_bench_name() RETURNS text LANGUAGE sql STABLE
AS 'SELECT name FROM cellbench.bench WHERE role = current_user';
CREATE FUNCTION cellbench.own_queue() RETURNS text LANGUAGE sql STABLE
AS 'SELECT ''bench '' || cellbench.own_bench_name()';
"""

RIGHTS = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cellbench_operator') THEN
        CREATE ROLE cellbench_operator NOLOGIN;
    END IF;
END $$;
GRANT cellbench_viewer TO cellbench_operator;

GRANT SELECT ON cellbench.procrastinate_jobs, cellbench.procrastinate_events,
    cellbench.job_state, cellbench.job_refusal, cellbench.job_wish
    TO cellbench_viewer, cellbench_bench;
GRANT INSERT ON cellbench.procrastinate_events TO cellbench_operator, cellbench_bench;
GRANT USAGE ON SEQUENCE cellbench.procrastinate_events_id_seq
    TO cellbench_operator, cellbench_bench;
GRANT UPDATE (queue_name, lock, status, scheduled_at, attempts, abort_requested, worker_id,
    priority) ON cellbench.procrastinate_jobs TO cellbench_operator, cellbench_bench;

GRANT INSERT ON cellbench.procrastinate_jobs TO cellbench_operator;
GRANT USAGE ON SEQUENCE cellbench.procrastinate_jobs_id_seq TO cellbench_operator;
GRANT DELETE ON cellbench.job_state, cellbench.job_refusal TO cellbench_operator;
GRANT INSERT, UPDATE ON cellbench.job_wish TO cellbench_operator;

GRANT SELECT, INSERT, UPDATE, DELETE ON cellbench.procrastinate_workers TO cellbench_bench;
GRANT INSERT, UPDATE, DELETE ON cellbench.job_state, cellbench.job_refusal TO cellbench_bench;

ALTER TABLE cellbench.procrastinate_jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON cellbench.procrastinate_jobs FOR SELECT
    TO cellbench_viewer, cellbench_bench USING (true);
CREATE POLICY submitted ON cellbench.procrastinate_jobs FOR INSERT TO cellbench_operator
    WITH CHECK (queue_name = 'laboratory');
CREATE POLICY steered ON cellbench.procrastinate_jobs FOR UPDATE TO cellbench_operator
    USING (true);
CREATE POLICY taken ON cellbench.procrastinate_jobs FOR UPDATE TO cellbench_bench
    USING (queue_name IN ('laboratory', cellbench.own_queue()));
"""

OF_BENCHES = """
ALTER TABLE cellbench.{table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON cellbench.{table} FOR SELECT
    TO cellbench_viewer, cellbench_bench USING (true);
CREATE POLICY given_back ON cellbench.{table} FOR DELETE TO cellbench_operator USING (true);
CREATE POLICY own ON cellbench.{table} TO cellbench_bench
    USING (bench = cellbench.own_bench_name());
"""


def upgrade() -> None:
    """Make them."""
    # By the driver itself: SQLAlchemy would look for parameters in it.
    cursor = op.get_bind().connection.cursor()
    cursor.execute("SET LOCAL search_path TO cellbench")
    cursor.execute(SchemaManager.get_schema())
    cursor.close()
    op.execute(TABLES)
    op.execute(RIGHTS)
    for table in ("job_state", "job_refusal"):
        op.execute(OF_BENCHES.format(table=table))
