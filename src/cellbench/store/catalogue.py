"""The store: a small catalogue of runs beside one file per run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Column, Connection, Engine, Table, func, inspect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn
from sqlmodel import Session, SQLModel, col, or_, select

from cellbench.errors import InputError, StoreError
from cellbench.store.places import CATALOGUE, store_directory
from cellbench.store.reader import how_it_ended
from cellbench.store.runfile import open_engine
from cellbench.store.tables import Run

#: Attempts at a free run id when several processes start runs at the same moment.
_ID_ATTEMPTS = 20


class Store:
    """The catalogue and where the runs' files are; may be used by several threads.

    Args:
        directory: Chosen by the user; None for the default place.
        make: Whether to make it where there is none yet.

    Raises:
        InputError: It cannot be used as a store.
    """

    def __init__(self, directory: Path | None = None, *, make: bool = True) -> None:
        self.directory = store_directory(directory, make=make)
        path = self.directory / CATALOGUE
        self._engine: Engine = open_engine(path, durable=True, pool=QueuePool)
        try:
            SQLModel.metadata.create_all(self._engine, tables=[_table()])
            _bring_up_to_date(self._engine)
        except SQLAlchemyError as error:
            self.close()
            raise InputError(
                f"{path} is no catalogue of runs that can be used "
                f"({getattr(error, 'orig', error)}): move it away, or choose another --store"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the catalogue's file."""
        self._engine.dispose()

    def run_path(self, run_id: str) -> Path:
        """Where a run's file is."""
        return self.directory / "runs" / f"{run_id}.sqlite"

    def elsewhere(self, run_id: str) -> str | None:  # noqa: ARG002 (all runs are of this computer)
        """What is known of a run of another computer, for people; None: it is one of this."""
        return None

    def register(
        self,
        *,
        protocol: str,
        cell: str,
        bench: str,
        simulated: bool,
        seed: int | None,
        began: datetime | None = None,
        place: str = "",
        campaign: str = "",
        replicate: int = 0,
    ) -> Run:
        """Enter a new run and return it, its id made of a date and a number.

        The date is today's, or that on which a run began that is brought in. The columns are those
        of `Run`.
        """
        for _ in range(_ID_ATTEMPTS):
            started = began or datetime.now(UTC)
            run = Run(
                id=self._next_id(started),
                protocol=protocol,
                cell=cell,
                bench=bench,
                simulated=simulated,
                seed=seed,
                started=started,
                place=place,
                campaign=campaign,
                replicate=replicate,
            )
            try:
                return self._save(run, new=True)
            except IntegrityError:
                continue  # another process took the number; the next one is free
        raise StoreError(f"no free run id in {self.directory} after {_ID_ATTEMPTS} attempts")

    def enter(self, run: Run) -> Run:
        """Enter a run of another catalogue, or anew, under the id that it has.

        Raises:
            IntegrityError: Another run has this id.
        """
        return self._save(run, new=True)

    def finish(self, run: Run, state: str, reason: str, ended: datetime | None = None) -> None:
        """Enter how a run ended, now or at a time before."""
        run.state, run.reason, run.ended = state, reason, ended or datetime.now(UTC)
        self._save(run)

    def reopen(self, run: Run) -> None:
        """Enter that a run goes on."""
        run.state, run.reason, run.ended = "running", "", None
        self._save(run)

    def runs(self, limit: int | None = None) -> Sequence[Run]:
        """Return the runs, newest first."""
        with Session(self._engine, expire_on_commit=False) as session:
            newest_first = select(Run).order_by(col(Run.started).desc()).limit(limit)
            runs = session.exec(newest_first).all()
            session.expunge_all()
        return [self.believed(run) for run in runs]

    def believed(self, run: Run) -> Run:
        """The run, with an end of which the catalogue has not heard, as its file tells it."""
        ended = how_it_ended(self.run_path(run.id)) if run.state == "running" else None
        if ended is not None:
            run.state, run.reason, run.ended = ended
        return run

    def recent(self, since: datetime) -> Sequence[Run]:
        """Return the runs that have not ended, or did since then, newest first."""
        fresh = or_(col(Run.ended).is_(None), col(Run.ended) >= since)
        with Session(self._engine) as session:
            return session.exec(select(Run).where(fresh).order_by(col(Run.started).desc())).all()

    def search(
        self,
        text: str = "",
        *,
        before: datetime | None = None,
        limit: int | None = 50,
        **exactly: str,
    ) -> Sequence[Run]:
        """Return the runs that hold a text, and are exactly as told in other columns, newest first.

        They are as the catalogue has them; see `believed`.

        Args:
            text: Somewhere in their id, protocol, cell, bench, place, campaign or reason.
            before: Only those that started earlier.
            limit: How many at most, None for all.
            exactly: Columns of `Run` with their values; an empty one is not looked at.
        """
        query = select(Run).order_by(col(Run.started).desc()).limit(limit)
        for name, value in exactly.items():
            query = query.where(getattr(Run, name) == value) if value else query
        if text:
            said = (Run.id, Run.protocol, Run.cell, Run.bench, Run.place, Run.campaign, Run.reason)
            holds = (col(each).icontains(text, autoescape=True) for each in said)
            query = query.where(or_(*holds))
        if before is not None:
            query = query.where(col(Run.started) < before)
        with Session(self._engine) as session:
            return session.exec(query).all()

    def find(self, run_id: str) -> Run:
        """Return a run by its id, ``last``, or an unambiguous ending of an id such as ``003``.

        Raises:
            InputError: There is none, or several.
        """
        with Session(self._engine) as session:
            if (exactly := session.get(Run, run_id)) is not None:
                return exactly
        runs = self.runs()
        if run_id == "last" and runs:
            return runs[0]
        matches = [run for run in runs if run.id.endswith(run_id)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(run.id for run in matches[:5])
            raise InputError(f'"{run_id}" could be any of the runs {names}; write more of the id')
        known = f"the newest is {runs[0].id}" if runs else "there is none yet"
        raise InputError(f'there is no run "{run_id}" in {self.directory} ({known})')

    def _next_id(self, started: datetime) -> str:
        day = started.astimezone().strftime("%Y-%m-%d")
        query = (
            select(Run.id)
            .where(col(Run.id).startswith(day))
            .order_by(func.length(Run.id).desc(), col(Run.id).desc())
        )
        try:
            with Session(self._engine) as session:
                newest = session.exec(query).first()
        except SQLAlchemyError as error:
            raise StoreError(
                f"the catalogue in {self.directory} cannot be read: {error}"
            ) from error
        return f"{day}-{int(newest.rsplit('-', 1)[1]) + 1 if newest else 1:03d}"

    def _save(self, run: Run, *, new: bool = False) -> Run:
        """Write a run; a new one never over another that has its id already."""
        try:
            with Session(self._engine, expire_on_commit=False) as session:
                kept = run if new else session.merge(run)
                session.add(kept)
                session.commit()
                session.expunge(kept)
                return kept
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise StoreError(
                f"the catalogue in {self.directory} cannot be written: {error}"
            ) from error


def _table() -> Table:
    return SQLModel.metadata.tables[str(Run.__tablename__)]


def _bring_up_to_date(engine: Engine) -> None:
    """Give a catalogue from before the columns that have come since.

    Several processes may open it at the same moment: whoever has the lock looks again.
    """
    with engine.connect() as connection:
        if not _missing(connection):
            return
        connection.rollback()
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for column in _missing(connection):
            new = CreateColumn(column).compile(dialect=engine.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {_table().name} ADD COLUMN {new}")
        connection.commit()


def _missing(connection: Connection) -> list[Column[Any]]:
    there = {each["name"] for each in inspect(connection).get_columns(_table().name)}
    return [column for column in _table().columns if column.name not in there]
