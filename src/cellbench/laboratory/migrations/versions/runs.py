"""Copies of runs: tables, rights, and the list of all benches' runs.

Texts are kept as they are, but for the NUL character, which PostgreSQL has not
(`cellbench.laboratory.texts`). A journal's data stay the text that the run's file has: jsonb would
make another number of some.
"""

from alembic import op

revision = "runs"
down_revision = None
branch_labels = None
depends_on = None

_DRAWN = ("voltage_V", "current_A", "force_N", "temperature_K")
_EXTREMES = ", ".join(
    f"{end}_{name} double precision" for end in ("low", "high") for name in _DRAWN
)

TABLES = f"""
CREATE TABLE cellbench.bench (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    role name NOT NULL UNIQUE
);

-- A run of a bench, as its catalogue has it; below, how far its rows are copied.
CREATE TABLE cellbench.copied_run (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bench_number integer NOT NULL REFERENCES cellbench.bench,
    id text NOT NULL,
    protocol text NOT NULL,
    cell text NOT NULL,
    bench text NOT NULL,
    place text NOT NULL,
    campaign text NOT NULL,
    replicate integer NOT NULL,
    simulated boolean NOT NULL,
    seed bigint,
    state text NOT NULL,
    reason text NOT NULL,
    started timestamptz NOT NULL,
    ended timestamptz,
    seen timestamptz NOT NULL DEFAULT now(),
    journal bigint NOT NULL DEFAULT -1,
    samples bigint NOT NULL DEFAULT -1,
    steps bigint NOT NULL DEFAULT -1,
    spectra bigint NOT NULL DEFAULT -1,
    UNIQUE (bench_number, id)
);
CREATE INDEX ON cellbench.copied_run (seen);

CREATE TABLE cellbench.journal (
    run integer REFERENCES cellbench.copied_run, seq bigint,
    time_s double precision NOT NULL, utc timestamptz NOT NULL, kind text NOT NULL,
    step text NOT NULL, text text NOT NULL, data text,
    PRIMARY KEY (run, seq)
);
CREATE TABLE cellbench.document (
    run integer REFERENCES cellbench.copied_run, name text, text text NOT NULL,
    PRIMARY KEY (run, name)
);
CREATE TABLE cellbench.step (
    run integer REFERENCES cellbench.copied_run, id bigint,
    path text NOT NULL, kind text NOT NULL,
    PRIMARY KEY (run, id)
);
-- Without a reference to its run, which would be looked up for each row: the policy does it once.
CREATE TABLE cellbench.sample (
    run integer, number bigint,
    time_s double precision NOT NULL, source text NOT NULL, step integer NOT NULL,
    voltage_V double precision, current_A double precision, charge_C double precision,
    force_N double precision, temperature_K double precision,
    flags integer NOT NULL, row bigint,
    PRIMARY KEY (run, number)
);
CREATE TABLE cellbench.spectrum (
    run integer REFERENCES cellbench.copied_run, id bigint,
    time_s double precision NOT NULL, step integer NOT NULL,
    temperature_K double precision, stack_pressure_Pa double precision, bias_V double precision,
    frequency_Hz bytea NOT NULL, impedance_real_ohm bytea NOT NULL,
    impedance_imag_ohm bytea NOT NULL, point_time_s bytea NOT NULL, flags bytea NOT NULL,
    PRIMARY KEY (run, id)
);
-- Samples reduced: of each block of so many rows (size) what a curve of them shows.
CREATE TABLE cellbench.level (
    run integer, size integer, place bigint, source text,
    count bigint NOT NULL, from_s double precision NOT NULL, to_s double precision NOT NULL,
    first_step integer NOT NULL, last_step integer NOT NULL, missing integer NOT NULL,
    {_EXTREMES},
    PRIMARY KEY (run, size, place, source)
);
"""

VIEW = """
CREATE VIEW cellbench.run AS
SELECT bench.name || '.' || copied_run.id AS id, protocol, cell, copied_run.bench, place, campaign,
    replicate, simulated, seed, state, reason, started, ended, copied_run.number, seen
FROM cellbench.copied_run JOIN cellbench.bench ON bench.number = bench_number;
"""

ROLES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cellbench_bench') THEN
        CREATE ROLE cellbench_bench NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cellbench_viewer') THEN
        CREATE ROLE cellbench_viewer NOLOGIN;
    END IF;
    -- Rows pass through a temporary table.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO cellbench_bench', current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA cellbench TO cellbench_bench, cellbench_viewer;
GRANT SELECT ON ALL TABLES IN SCHEMA cellbench TO cellbench_viewer;
GRANT SELECT ON cellbench.bench, cellbench.alembic_version TO cellbench_bench;

CREATE FUNCTION cellbench.own_bench() RETURNS integer LANGUAGE sql STABLE
AS 'SELECT number FROM cellbench.bench WHERE role = current_user';

GRANT SELECT, INSERT, UPDATE ON cellbench.copied_run, cellbench.document TO cellbench_bench;
GRANT SELECT, INSERT ON cellbench.journal, cellbench.step, cellbench.sample, cellbench.spectrum,
    cellbench.level TO cellbench_bench;

ALTER TABLE cellbench.bench ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON cellbench.bench FOR SELECT TO cellbench_viewer USING (true);
CREATE POLICY own ON cellbench.bench FOR SELECT TO cellbench_bench USING (role = current_user);

ALTER TABLE cellbench.copied_run ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON cellbench.copied_run FOR SELECT TO cellbench_viewer USING (true);
CREATE POLICY own ON cellbench.copied_run TO cellbench_bench
    USING (bench_number = cellbench.own_bench());
"""

OF_RUNS = """
ALTER TABLE cellbench.{table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON cellbench.{table} FOR SELECT TO cellbench_viewer USING (true);
CREATE POLICY own ON cellbench.{table} TO cellbench_bench USING (run IN (
    SELECT number FROM cellbench.copied_run WHERE bench_number = cellbench.own_bench()
));
"""


def upgrade() -> None:
    """Make them."""
    op.execute(TABLES)
    op.execute(VIEW)
    op.execute(ROLES)
    for table in ("journal", "document", "step", "sample", "spectrum", "level"):
        op.execute(OF_RUNS.format(table=table))
