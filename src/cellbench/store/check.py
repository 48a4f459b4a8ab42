"""Whether a store is sound: what is wrong in it, and what to do about it.

An *error* is something that is damaged, missing or contradictory; a *note* is something that may
well be as it should. Nothing is changed but by `repair`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from cellbench.errors import CellbenchError, StoreError
from cellbench.protocol.source import document_of, load
from cellbench.store.archive import SUFFIXES, Archived
from cellbench.store.catalogue import Store
from cellbench.store.compact import left_over
from cellbench.store.files import PART, damage_of, sha256
from cellbench.store.maintenance import has_ended
from cellbench.store.places import CATALOGUE
from cellbench.store.reader import RunReader, how_it_ended, never_began
from cellbench.store.tables import Run
from cellbench.transport.ownership import is_held_for

_BACKUP = "bring it back from a backup: cellbench store merge BACKUP"
_REPAIR = "cellbench store check --repair"
#: States of runs that may have been lost before anything was energised, and anything entered.
_MAY_BE_EMPTY = frozenset({"running", "failed"})
#: What every run keeps.
_DOCUMENTS = frozenset({"cell", "environment", "protocol"})


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: A run's id, or the name of a file.
        cure: What to do.
    """

    severity: Literal["error", "note"]
    where: str
    text: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.text}\n  {self.cure}"


def check(store: Store) -> Iterator[Finding]:
    """Look through the catalogue and every file of a store; all of it is read."""
    if found := list(_of_catalogue(store)):
        yield from found
        return  # what it says of the runs is not to be relied on
    runs = {run.id: run for run in store.search(limit=None)}
    for run in sorted(runs.values(), key=lambda each: each.started):
        yield from _of_run(store, run)
    yield from _of_numbers(runs)
    yield from _of_strangers(store, runs)


def _error(where: str, text: str, cure: str) -> Finding:
    return Finding("error", where, text, cure)


# --- The catalogue --------------------------------------------------------------------------------


def _of_catalogue(store: Store) -> Iterator[Finding]:
    for text in damage_of(store.directory / CATALOGUE):
        cure = f"move {CATALOGUE} away, then enter the runs anew by their files: {_REPAIR}"
        yield _error(CATALOGUE, text, cure)


def _of_numbers(runs: Iterable[str]) -> Iterator[Finding]:
    """Numbers of a day that nobody has: a run was deleted, or lost with its entry."""
    days: dict[str, list[int]] = defaultdict(list)
    for run_id in runs:
        day, _, number = run_id.rpartition("-")
        if number.isdecimal():
            days[day].append(int(number))
    for day, numbers in sorted(days.items()):
        for before, after in pairwise([0, *sorted(numbers)]):
            if after > before + 1:
                names = " to ".join(f"{day}-{each:03d}" for each in sorted({before + 1, after - 1}))
                text = "no entry and no file has this number"
                cure = f"if nobody deleted it, {_BACKUP}"
                yield Finding("note", names, text, cure)


# --- Runs -----------------------------------------------------------------------------------------


def _of_run(store: Store, run: Run) -> Iterator[Finding]:
    path = store.run_path(run.id)
    if not path.is_file():
        yield _missing(run)
    elif found := faults(path, run):
        yield from (_error(run.id, text, _BACKUP) for text in found)
    elif not never_began(path):
        yield from _of_state(path, run)
        for left in (each for each in left_over(path) if each.suffix != PART):
            text = "is not part of the run: a compaction was cut off"
            yield Finding("note", left.name, text, _REPAIR)


def faults(path: Path, run: Run) -> list[str]:
    """What is wrong with a run's file, with what stands beside it included."""
    if never_began(path):
        began = run.state not in _MAY_BE_EMPTY
        return [f"its file is empty, though it is {run.state} by the catalogue"] if began else []
    if damage := damage_of(path):
        return [f"{path.name} {text}" for text in damage]
    try:
        return list(_of_content(RunReader(path)))
    except (StoreError, sqlite3.DatabaseError, ValueError) as error:
        return [f"cannot be read: {error}"]


def _missing(run: Run) -> Finding:
    if run.state == "running":
        text = "has an entry, but no file: it was lost before its file was made, or begins just now"
        return Finding("note", run.id, text, f"if it does not begin just now, {_BACKUP}")
    return _error(run.id, "has an entry, but no file", _BACKUP)


def _of_content(reader: RunReader) -> Iterator[str]:
    kept = reader.archived
    with closing(sqlite3.connect(reader.path)) as connection:
        connection.execute("BEGIN")
        yield from _journal(connection)
        yield from _samples(connection, kept)
    for each in kept.values():
        yield from _beside(reader.path, each)
    for name in sorted(_DOCUMENTS - reader.documents.keys()):
        yield f"its {name} is not kept with it"


def _journal(connection: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT count(*), min(seq), max(seq), sum(NOT json_valid(data)) FROM journalentry"
    ((count, first, last, unreadable),) = connection.execute(query).fetchall()
    if count and (first != 0 or last != count - 1):
        yield f"entries of its journal are missing: {count} of numbers {first} to {last}"
    if unreadable:
        yield f"{unreadable} entries of its journal hold no JSON"


def _samples(connection: sqlite3.Connection, kept: dict[str, Archived]) -> Iterator[str]:
    if "sample" in kept:
        return
    query = "SELECT count(*), min(rowid), max(rowid) FROM sample"
    ((count, first, last),) = connection.execute(query).fetchall()
    if count and (first != 1 or last != count):
        yield f"rows of its samples are missing: {count} of numbers {first} to {last}"
    strangers = "SELECT count(*) FROM (SELECT DISTINCT step FROM sample EXCEPT SELECT id FROM step)"
    ((count,),) = connection.execute(strangers).fetchall()
    if count:
        yield f"its samples name {count} steps that it does not know"


def _beside(path: Path, kept: Archived) -> Iterator[str]:
    """What is wrong with a Parquet file."""
    if kept.is_dropped:
        return
    place = kept.beside(path)
    if not place.is_file():
        yield f"{place.name} is missing, which has its {kept.rows} rows of {kept.kind}"
    elif sha256(place) != kept.sha256:
        yield f"{place.name} is not what was written: its checksum differs"


def _of_state(path: Path, run: Run) -> Iterator[Finding]:
    """Whether catalogue and file say the same of a run's end."""
    ended = has_ended(path)
    if run.state == "running" and ended and not is_held_for(path):
        yield _error(run.id, "has ended by its file, but not by the catalogue", _REPAIR)
    elif run.state != "running" and not ended:
        text = f"has ended by the catalogue ({run.state}), but its journal has no end"
        yield Finding("note", run.id, text, "look at how it was left: cellbench status RUN")


# --- What belongs to no run -----------------------------------------------------------------------


def _of_strangers(store: Store, runs: dict[str, Run]) -> Iterator[Finding]:
    for path in strangers(store, runs):
        yield _error(path.name, "is a run's file that the catalogue does not know", _REPAIR)
    for path in _parts(store):
        yield Finding("note", path.name, "was left by a process that was lost", _REPAIR)
    suffixes = tuple(SUFFIXES.values())
    for path in sorted((store.directory / "runs").glob("*.parquet")):
        owner = path.name.removesuffix(next((s for s in suffixes if path.name.endswith(s)), ""))
        if not store.run_path(owner).is_file():
            yield _error(path.name, "has data of a run whose file is not here", _BACKUP)


def strangers(store: Store, runs: Iterable[str]) -> list[Path]:
    """Files of runs that the catalogue does not know."""
    known = set(runs)
    files = sorted((store.directory / "runs").glob("*.sqlite"))
    return [path for path in files if path.stem not in known and not path.name.startswith(".")]


def _parts(store: Store) -> list[Path]:
    """What was being written when a process was lost; an import's files stand as they are named."""
    return sorted((store.directory / "runs").glob(f"*{PART}"))


# --- Repair ---------------------------------------------------------------------------------------


def repair(store: Store) -> Iterator[str]:
    """Do what can be done without a backup; yields what was done.

    Files that the catalogue does not know are entered, ends that it has not heard of too; what
    processes left behind that were lost is deleted. No run's file is changed.

    Raises:
        StoreError: The catalogue cannot be written.
    """
    for path in strangers(store, [run.id for run in store.search(limit=None)]):
        try:
            run = entry_of(path)
        except (CellbenchError, sqlite3.DatabaseError, LookupError, ValueError) as error:
            yield f"{path.name}: cannot be entered: {error}"
        else:
            store.enter(run)
            yield f"{run.id}: entered by its file: {run.protocol} on {run.cell}, {run.state}"
    runs = store.search(limit=None)
    for run in runs:
        path = store.run_path(run.id)
        ended = how_it_ended(path) if run.state == "running" and not is_held_for(path) else None
        if ended is not None:
            store.finish(run, *ended)
            yield f"{run.id}: its end is entered: {run.state}"
    left = [each for run in runs for each in _left(store.run_path(run.id))]
    for path in sorted({*left, *_parts(store)}):
        path.unlink(missing_ok=True)
        yield f"{path.name}: deleted"


def _left(path: Path) -> Sequence[Path]:
    """What is left over beside a run's file; beside a damaged one it may be all there is."""
    try:
        found = left_over(path) if path.is_file() else ()
    except sqlite3.DatabaseError:
        return ()
    return () if found and damage_of(path) else found


def entry_of(path: Path) -> Run:
    """The entry of a run in the catalogue, made anew from its file."""
    reader = RunReader(path)
    surroundings: dict[str, Any] = json.loads(reader.documents["environment"])
    run = Run(
        id=path.stem,
        protocol=_name(reader, "protocol", "name"),
        cell=_name(reader, "cell", "cell"),
        bench=_name(reader, "bench", "bench"),
        simulated=bool(surroundings.get("simulated")),
        seed=surroundings.get("seed"),
        started=_start_of(path),
        place=surroundings.get("place", ""),
        campaign=surroundings.get("campaign", ""),
        replicate=surroundings.get("replicate", 0),
    )
    ended = how_it_ended(path)
    if ended is not None:
        run.state, run.reason, run.ended = ended
    return run


def _start_of(path: Path) -> datetime:
    """When a run began, by the first entry of its journal."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT utc, time_s FROM journalentry ORDER BY seq LIMIT 1"
        ((utc, time_s),) = connection.execute(query).fetchall()
    return datetime.fromisoformat(utc).replace(tzinfo=UTC) - timedelta(seconds=time_s)


def _name(reader: RunReader, document: str, key: str) -> str:
    """What a document calls itself, empty where it is missing or cannot be read."""
    try:
        content = load(document_of(reader.documents.get(document, ""), document)).plain()
    except CellbenchError:
        return ""
    return str(content.get(key, "")) if isinstance(content, dict) else ""
