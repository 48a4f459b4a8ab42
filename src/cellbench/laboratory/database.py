"""The laboratory's database: how it is reached, its tables brought up to date, who may do what."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from cellbench.errors import CellbenchError, InputError
from cellbench.store.places import LOOKED_AT

if TYPE_CHECKING:
    from alembic.config import Config

#: Where the address of the database is found.
VARIABLE = "CELLBENCH_DATABASE"
#: Our tables' schema; others may live in the same database.
SCHEMA = "cellbench"
#: Roles that rights belong to; a person or a bench has one of its own that is a member.
BENCHES, VIEWERS, OPERATORS = "cellbench_bench", "cellbench_viewer", "cellbench_operator"

Kind: TypeAlias = Literal["bench", "viewer", "operator"]
_GROUPS: dict[Kind, str] = {"bench": BENCHES, "viewer": VIEWERS, "operator": OPERATORS}
Connection: TypeAlias = psycopg.Connection[TupleRow]

#: A network that is cut without a word is noticed after 40 s: by us, and by the server, where what
#: the lost session had locked would else stay so for hours. See libpq's connection parameters.
_LINK = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
    "application_name": "cellbench",
    "options": f"-c search_path={SCHEMA} -c timezone=UTC -c tcp_keepalives_idle=20 "
    "-c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 -c tcp_user_timeout=40000",
}
_WHO = ("user", "password")


@dataclass(frozen=True)
class Bench:
    """A bench that copies its runs here.

    Attributes:
        runs, under_way: How many there are, and have not ended.
        samples: How many rows are copied.
        seen: When something new came, None for never.
    """

    name: str
    role: str
    runs: int
    under_way: int
    samples: int
    seen: datetime | None

    def __str__(self) -> str:
        seen = (
            "nothing came yet" if self.seen is None else f"heard of {self.seen:%Y-%m-%d %H:%M} UTC"
        )
        under_way = f", {self.under_way} under way" if self.under_way else ""
        return f"{self.name}: {self.runs} runs{under_way}, {self.samples} samples, {seen}"


class Database:
    """A database, by its address; nothing is opened until it is asked for.

    Args:
        url: ``postgresql://user@host:5432/name``, or libpq's ``host=... dbname=...``. A password
            may be in it, or where libpq looks for one: PGPASSWORD, ``~/.pgpass``.

    Attributes:
        name: For people: no password is in it.

    Raises:
        InputError: That is no address.
    """

    def __init__(self, url: str) -> None:
        try:
            self._address = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise InputError(f"that is no database's address: {str(error).strip()}") from None
        self.name = _shown(self._address)

    def connect(self) -> Connection:
        """A connection, on which our tables are found without their schema's name.

        Raises:
            psycopg.OperationalError: The server cannot be reached, or does not let us in.
        """
        return psycopg.connect(make_conninfo(**{**_LINK, **self._address}))  # type: ignore[arg-type]

    def kept_in(self, store: Path) -> Path:
        """Where in a store's directory is kept what is looked at of this database."""
        return store / LOOKED_AT / quote(self.name, safe=" ")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection for a person's command: committed at the end, errors in plain words.

        Raises:
            CellbenchError: The database cannot be reached, or refuses.
        """
        with self._in_plain_words(), self.connect() as connection:
            yield connection

    @contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            yield
        except errors.UndefinedTable as error:
            raise InputError(
                f"{self.name} has no tables of cellbench: cellbench database init makes them"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise InputError(
                f"{self.name}: {self._address.get('user')} may not do that "
                f"({str(error).strip().splitlines()[0]}): cellbench database grant gives rights"
            ) from error
        except psycopg.Error as error:
            raise CellbenchError(f"{self.name}: {str(error).strip()}") from error

    # --- Tables -----------------------------------------------------------------------------------

    def create(self) -> bool:
        """Make the database itself, where it is not there; whether it was made.

        Raises:
            CellbenchError: The server cannot be reached, or does not allow it.
        """
        name = str(self._address.get("dbname", "postgres"))
        try:
            self.connect().close()
        except psycopg.OperationalError as error:
            with self._in_plain_words(), self._elsewhere() as connection:
                there = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
                if there.rowcount:
                    raise error from None  # it is another trouble
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return True
        return False

    def _elsewhere(self) -> Connection:
        """A connection to the database that every server has."""
        address = self._address | {"dbname": "postgres"}
        return psycopg.connect(make_conninfo(**address), autocommit=True)  # type: ignore[arg-type]

    def upgrade(self) -> None:
        """Make our tables, or bring them up to date; nothing is lost.

        Raises:
            CellbenchError: The server cannot be reached, or does not allow it.
        """
        from alembic import command  # noqa: PLC0415 (half a second, for one command)
        from sqlalchemy import create_engine  # noqa: PLC0415
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

        engine = create_engine("postgresql+psycopg://", creator=self.connect)
        try:
            with engine.begin() as connection:
                configuration = _configuration()
                configuration.attributes["connection"] = connection
                command.upgrade(configuration, "head")
        except DBAPIError as error:
            raise CellbenchError(f"{self.name}: {str(error.orig).strip()}") from error
        finally:
            engine.dispose()

    def versions(self) -> tuple[str | None, str]:
        """Version of the tables, None where there are none, and that which this cellbench makes."""
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        newest = ScriptDirectory.from_config(_configuration()).get_current_head()
        assert newest is not None  # noqa: S101 (it ships with us)
        with self.connected() as connection:
            found = connection.execute("SELECT to_regclass('cellbench.alembic_version')").fetchone()
            if found is None or found[0] is None:
                return None, newest
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return (None if version is None else str(version[0])), newest

    def benches(self) -> list[Bench]:
        """The benches, by name.

        Raises:
            CellbenchError: The database cannot be reached, or has no tables.
        """
        with self.connected() as connection:
            rows = connection.execute(
                "SELECT name, role, count(id), count(id) FILTER (WHERE ended IS NULL), "
                "coalesce(sum(greatest(samples, 0)), 0)::bigint, max(seen) "
                "FROM bench LEFT JOIN copied_run ON bench.number = bench_number "
                "GROUP BY name, role ORDER BY name"
            )
            return [Bench(*row) for row in rows]

    # --- Rights -----------------------------------------------------------------------------------

    def grant(self, kind: Kind, name: str) -> str:
        """Give somebody a role of their own, with a new password, which is returned.

        Args:
            kind: What for: a bench writes its own runs and reads no others; a viewer reads all;
                an operator is a viewer who submits and cancels jobs.
            name: Of the bench or the person; the role is called the same, with ``cellbench_``
                before it. Given again, only the password is another one.

        Raises:
            CellbenchError: The server cannot be reached, or does not allow it.
        """
        role, password = role_of(name), secrets.token_urlsafe(24)
        group = sql.Identifier(_GROUPS[kind])
        with self.connected() as connection:
            there = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
            hashed = connection.pgconn.encrypt_password(password.encode(), role.encode()).decode()
            change = "ALTER ROLE" if there.rowcount else "CREATE ROLE"
            connection.execute(
                sql.SQL(change + " {} LOGIN PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(hashed)
                )
            )
            connection.execute(sql.SQL("GRANT {} TO {}").format(group, sql.Identifier(role)))
            if kind == "bench":
                connection.execute(
                    "INSERT INTO bench (name, role) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (name, role),
                )
        return password

    def address_for(self, name: str, password: str) -> str:
        """The address for whoever was granted a role; as ours, but for who comes."""
        address = self._address | {"user": role_of(name), "password": password}
        parts = ("host", "port", "dbname")
        host, port, database = (quote(str(address.get(each, ""))) for each in parts)
        more = {key: value for key, value in address.items() if key not in {*parts, *_WHO}}
        who = ":".join(str(address[each]) for each in _WHO)
        query = f"?{urlencode(more)}" if more else ""
        return f"postgresql://{who}@{host}{port and f':{port}'}/{database}{query}"


def role_of(name: str) -> str:
    """The role of a bench or a person.

    Raises:
        InputError: The name cannot be one of a role's.
    """
    role = f"cellbench_{name}".lower()
    usable = all(each.isascii() and (each.isalnum() or each in "_-") for each in name)
    if not name or not usable or len(role) > 63 or role in {BENCHES, VIEWERS, OPERATORS}:
        raise InputError(
            f'"{name}" cannot be the name of a role: letters, digits, - and _, at most 50 of them'
        )
    return role


def database_named(url: str | None) -> Database | None:
    """The database that somebody names, or else CELLBENCH_DATABASE; None where neither does."""
    found = url or os.environ.get(VARIABLE)
    return Database(found) if found else None


def _configuration() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    # Alembic expands percent signs.
    place = str(files("cellbench.laboratory").joinpath("migrations")).replace("%", "%%")
    configuration.set_main_option("script_location", place)
    configuration.set_main_option("path_separator", "os")
    return configuration


def _shown(address: dict[str, Any]) -> str:
    host, port = address.get("host", "localhost"), address.get("port", 5432)
    return f"{address.get('dbname', 'postgres')} at {host}:{port}"
