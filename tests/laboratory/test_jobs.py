"""The queue of jobs on a real server: who may do what, who gets what, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cellbench.errors import InputError
from cellbench.laboratory import Database
from cellbench.laboratory.jobs import RefusedJob, deadline_of, works_of
from cellbench.laboratory.queue import JobQueue

from .postgresql import PostgreSQL


class Laboratory:
    """A database, and queues of those who have a role there."""

    def __init__(self, server: PostgreSQL, database: Database) -> None:
        self.database = database
        self._connections: list[psycopg.Connection] = []

    def granted(self, kind: str, name: str) -> str:
        password = self.database.grant(kind, name)  # type: ignore[arg-type]
        return self.database.address_for(name, password)

    def queue(self, kind: str, name: str) -> JobQueue:
        connection = Database(self.granted(kind, name)).connect()
        self._connections.append(connection)
        return JobQueue(connection)

    def close(self) -> None:
        for each in self._connections:
            each.close()


@pytest.fixture
def laboratory(server: PostgreSQL, database: Database) -> Iterator[Laboratory]:
    laboratory = Laboratory(server, database)
    yield laboratory
    laboratory.close()


def test_a_job_is_taken_by_one_bench_and_stays_with_it(laboratory: Laboratory) -> None:
    person = laboratory.queue("operator", "ann")
    one, two = laboratory.queue("bench", "room1"), laboratory.queue("bench", "room2")
    assert one.bench_name() == "room1"
    (number,) = person.submit(works_of("self_discharge", []))
    assert [job.id for job in one.waiting()] == [number]
    assert one.take(number, "room1", "A1", one.register())
    assert not two.take(number, "room2", "A1", two.register())
    assert one.begin(number, "room1", "2026-11-21-001")
    assert not one.begin(number, "room1", "2026-11-21-002")
    assert not two.begin(number, "room2", "2026-11-21-002")
    job = person.find(number)
    assert (job.state, job.bench, job.place, job.run) == (
        "running", "room1", "A1", "2026-11-21-001",
    )  # fmt: skip
    one.finish(number, "room1", "done", "every step has ended")
    assert person.find(number).state == "done"
