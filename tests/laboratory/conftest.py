"""A server for all tests, and a database with our tables for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from .postgresql import ADMIN, PostgreSQL

pytest.importorskip("psycopg", reason="the extra [server] is not installed")
import psycopg
from psycopg import sql

from cellbench.laboratory import Database

_numbers = count(1)
_TEMPLATE = "made_once"


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    """A server on loopback, with a database whose tables are made."""
    server = PostgreSQL()
    server.start()
    try:
        _execute(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        Database(server.url(_TEMPLATE)).upgrade()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(server: PostgreSQL) -> Iterator[Database]:
    """A database of its own for a test, with our tables; of the server's keeper."""
    server.start()
    name = sql.Identifier(f"test_{next(_numbers)}")
    _execute(
        server,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_TEMPLATE)),
    )
    yield Database(server.url(name.as_string().strip('"')))
    server.start()
    _execute(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _execute(server: PostgreSQL, statement: sql.Composed) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)


__all__ = ["ADMIN", "PostgreSQL"]
