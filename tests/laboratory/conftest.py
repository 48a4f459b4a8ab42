"""A server for all tests, and a database with our tables for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cellbench.store import Store

from .postgresql import PostgreSQL

if TYPE_CHECKING:
    from cellbench.laboratory import Database

_numbers = count(1)
_TEMPLATE = "made_once"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A bench's own store, to be copied."""
    with Store(tmp_path / "here") as store:
        yield store


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    """A server on loopback, with a database whose tables are made."""
    from cellbench.laboratory import Database

    server = PostgreSQL()
    server.start()
    try:
        _execute(server, f"CREATE DATABASE {_TEMPLATE}")
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
    from cellbench.laboratory import Database

    server.start()
    name = f"test_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield Database(server.url(name))
    server.start()
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: PostgreSQL, statement: str) -> None:
    import psycopg

    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())
