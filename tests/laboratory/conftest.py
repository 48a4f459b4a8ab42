"""A server for all tests, and a database with our tables for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count

import pytest

from .postgresql import PostgreSQL

pytest.importorskip("psycopg", reason="the extra [server] is not installed")
import psycopg
from psycopg import sql

from cellbench.laboratory import Database
from cellbench.laboratory.database import Connection, Kind

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
    with made(server) as database:
        yield database


@pytest.fixture(scope="module")
def shared(server: PostgreSQL) -> Iterator[Database]:
    """The same for all tests of a file."""
    with made(server) as database:
        yield database


@contextmanager
def made(server: PostgreSQL) -> Iterator[Database]:
    server.start()
    name = f"test_{next(_numbers)}"
    names = {"name": sql.Identifier(name), "template": sql.Identifier(_TEMPLATE)}
    _execute(server, sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))
    yield Database(server.url(name))
    server.start()
    _execute(server, sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


def _execute(server: PostgreSQL, statement: sql.Composed) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def connected(database: Database) -> Iterator[Callable[[Kind, str], Connection]]:
    """Connects to the test's database as somebody who is granted a role there."""
    with ExitStack() as stack:

        def connect(kind: Kind, name: str) -> Connection:
            address = database.address_for(name, database.grant(kind, name))
            connection = stack.enter_context(closing(Database(address).connect()))
            connection.autocommit = True
            return connection

        yield connect
