"""The laboratory's database: made, brought up to date, and who may do what in it."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from cellbench.laboratory import Database


def test_tables_are_made_once_and_of_the_version_that_ships(database: Database) -> None:
    version, newest = database.versions()
    assert version == newest
    database.upgrade()
    assert database.versions() == (newest, newest)
