"""Who may do what: a viewer reads, a bench writes its own runs, and what they call themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")
import psycopg
from psycopg import sql

from cellbench.errors import InputError
from cellbench.laboratory import Database
from cellbench.laboratory.database import Kind
from cellbench.laboratory.follower import Follower
from cellbench.store import Store

from .stores import add_run

#: Each table with a row of it that would be whole.
ROWS = {
    "journal": "(run, seq, time_s, utc, kind, step, text) VALUES ({}, 99, 0, now(), '', '', '')",
    "document": "(run, name, text) VALUES ({}, 'report', 'x')",
    "step": "(run, id, path, kind) VALUES ({}, 99, 'x', 'y')",
    "sample": "(run, number, time_s, source, step, flags) VALUES ({}, 999999, 0, 'x', 1, 0)",
    "spectrum": "VALUES ({}, 99, 0, 1, 0, 0, 0, '', '', '', '', '')",
    "level": "(run, size, place, source, count, from_s, to_s, first_step, last_step, missing) "
    "VALUES ({}, 256, 99, 'x', 1, 0, 0, 1, 1, 0)",
}


@pytest.fixture
def laboratory(database: Database, tmp_path: Path) -> dict[str, Database]:
    """A run of each of two benches, and the database as these and a viewer know it."""
    known = {name: as_(database, "bench", name) for name in ("room1", "room2")}
    known["vera"] = as_(database, "viewer", "vera")
    for bench in ("room1", "room2"):
        with Store(tmp_path / bench) as store:
            add_run(store)
            with Follower(store, known[bench], print) as follower:
                follower.once()
    return known | {"keeper": database}


def as_(database: Database, kind: Kind, name: str) -> Database:
    return Database(database.address_for(name, database.grant(kind, name)))


def refused(database: Database, statement: str) -> bool:
    """Whether a statement is refused or changes nothing."""
    with database.connect() as connection:
        try:
            return connection.execute(statement.encode()).rowcount == 0
        except psycopg.errors.InsufficientPrivilege:
            return True


def run_of(laboratory: dict[str, Database], bench: str) -> int:
    with laboratory["keeper"].connect() as connection:
        ((number,),) = connection.execute(
            "SELECT copied_run.number FROM copied_run JOIN bench ON bench.number = bench_number "
            "WHERE name = %s",
            (bench,),
        ).fetchall()
    return int(number)


def writes(run: int) -> list[str]:
    """All that could be done to a run."""
    to_rows = ("DELETE FROM {} WHERE run = {}", "UPDATE {} SET run = run WHERE run = {}")
    to_run = (
        "UPDATE copied_run SET state = 'x' WHERE number = {}",
        "DELETE FROM copied_run WHERE number = {}",
    )
    return [
        *(f"INSERT INTO {table} {row.format(run)}" for table, row in ROWS.items()),
        *(each.format(table, run) for table in ROWS for each in to_rows),
        *(each.format(run) for each in to_run),
    ]


def test_a_viewer_reads_all_and_writes_nothing(laboratory: dict[str, Database]) -> None:
    vera = laboratory["vera"]
    with vera.connect() as connection:
        rows = connection.execute("SELECT id FROM run ORDER BY id").fetchall()
        assert rows == [("room1.2026-11-20-001",), ("room2.2026-11-20-001",)]
        ((samples,),) = connection.execute("SELECT count(*) FROM sample").fetchall()
        assert samples == 1400
    more = [
        "CREATE TABLE cellbench.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "INSERT INTO bench (name, role) VALUES ('mine', 'cellbench_vera')",
        "UPDATE alembic_version SET version_num = 'x'",
        "TRUNCATE sample",
        "DROP TABLE sample",
        "SET ROLE cellbench_bench",
    ]
    for statement in (*writes(run_of(laboratory, "room1")), *more):
        assert refused(vera, statement), statement


def test_a_bench_touches_only_its_own_runs(laboratory: dict[str, Database]) -> None:
    room1, room2 = run_of(laboratory, "room1"), run_of(laboratory, "room2")
    for statement in writes(room2):
        assert refused(laboratory["room1"], statement), statement
    with laboratory["room1"].connect() as connection:
        for table in ROWS:
            seen = connection.execute(sql.SQL("SELECT run FROM {}").format(sql.Identifier(table)))
            assert set(seen) == {(room1,)}, table
        assert connection.execute("SELECT number FROM copied_run").fetchall() == [(room1,)]
        assert connection.execute("SELECT name FROM bench").fetchall() == [("room1",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM run")


def test_a_bench_cannot_become_another_or_take_back_what_it_wrote(
    laboratory: dict[str, Database],
) -> None:
    for statement in (
        "UPDATE bench SET role = 'cellbench_room1' WHERE name = 'room2'",
        "UPDATE copied_run SET bench_number = bench_number + 1",
        "SET ROLE cellbench_room2",
        "DELETE FROM sample",
        "UPDATE journal SET text = 'x'",
        "DELETE FROM copied_run",
        "TRUNCATE sample",
        "ALTER TABLE sample DISABLE ROW LEVEL SECURITY",
    ):
        assert refused(laboratory["room1"], statement), statement


@pytest.mark.parametrize("name", ['x"; DROP TABLE sample; --', "", "bench", "é", "a b", 60 * "a"])
def test_a_hostile_name_is_no_name_of_a_role(database: Database, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a role"):
        database.grant("viewer", name)


def test_a_password_given_again_is_another_one(database: Database) -> None:
    before = Database(database.address_for("vera", database.grant("viewer", "vera")))
    after = Database(database.address_for("vera", database.grant("viewer", "vera")))
    after.connect().close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        before.connect()


def test_who_is_no_bench_cannot_copy(laboratory: dict[str, Database], tmp_path: Path) -> None:
    with (
        Store(tmp_path / "room1") as store,
        Follower(store, laboratory["vera"], print) as follower,
        pytest.raises(InputError, match="role of no bench"),
    ):
        follower.once()
