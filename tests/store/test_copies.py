"""Stores that are backed up, restored, moved and merged: nothing is lost, and all of it is told."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.store.typed import called
from typer.testing import CliRunner

import cellbench
from cellbench.cli.app import app
from cellbench.errors import InputError, StoreError
from cellbench.store import RunReader, RunWriter, Store
from cellbench.store.backup import backup, read_manifest, restore
from cellbench.store.check import check
from cellbench.store.compact import compact, drop_wire
from cellbench.store.files import PART
from cellbench.store.merge import Fate, fingerprint, merge
from cellbench.store.move import move, under_way
from cellbench.store.places import BACKUP_MANIFEST


def prints(store: Store) -> dict[str, object]:
    assert not [each for each in check(store) if each.severity == "error"]
    return {run.id: fingerprint(store.run_path(run.id)) for run in store.runs()}


def prints_of(directory: Path) -> dict[str, object]:
    with Store(directory, make=False) as store:
        return prints(store)


@contextmanager
def written(store: Store) -> Iterator[str]:
    """A run that is written all the time, in a loop and a thread of its own."""
    run = store.register(protocol="p", cell="c", bench="b", simulated=True, seed=None)
    begun, leave = threading.Event(), threading.Event()

    async def main() -> None:
        writer = RunWriter(store.run_path(run.id), durable=False)
        number = 0
        while not leave.is_set():
            writer.add_samples(
                [(float(number), "channel", 1, 0.1, 0.0, 0.0, None, None, 0, number)] * 100
            )
            await writer.flush()
            number += 1
            begun.set()
        await writer.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert begun.wait(20)
        yield run.id
    finally:
        leave.set()
        thread.join()


# --- Backup and restore ---------------------------------------------------------------------------


def test_a_backup_is_restored_bit_for_bit_what_is_beside_the_runs_included(
    store: Store, tmp_path: Path
) -> None:
    (store.directory / "users.json").write_text('{"users": []}')
    place = store.directory / "telemetry"
    place.mkdir()
    (place / "x.told.json").write_text("{}")
    looked_at = store.directory / "laboratory" / "lab at localhost"
    looked_at.mkdir(parents=True)
    (looked_at / "catalogue.sqlite").write_bytes(b"fetched again when it is asked for")
    (looked_at / "web-users.json").write_text("{}")
    backup(store, tmp_path / "backup")
    to, count = restore(tmp_path / "backup", tmp_path / "restored")
    assert prints_of(to) == prints(store)
    assert (to / "users.json").read_text() == '{"users": []}'
    assert (to / "telemetry" / "x.told.json").is_file()
    assert [path.name for path in (to / "laboratory").rglob("*.*")] == ["web-users.json"]
    assert count == len(read_manifest(tmp_path / "backup").files) == 6


def test_only_what_has_changed_is_copied_again(store: Store, tmp_path: Path) -> None:
    backup(store, tmp_path / "backup")
    made = backup(store, tmp_path / "backup")
    assert made.copied <= 1  # the catalogue, which was opened meanwhile
    pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')
    compact(store, store.find("001"))
    again = backup(store, tmp_path / "backup")
    assert again.copied - made.copied == 4  # the run's file, and three Parquet files
    drop_wire(store, store.find("001"))
    backup(store, tmp_path / "backup")
    assert not list((tmp_path / "backup" / "runs").glob("*.wire.parquet"))
    restore(tmp_path / "backup", tmp_path / "restored")
    assert prints_of(tmp_path / "restored") == prints(store)


def test_a_run_that_is_written_meanwhile_is_whole_as_of_one_moment(
    store: Store, tmp_path: Path
) -> None:
    with written(store) as run_id:
        for _ in range(3):
            backup(store, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with Store(tmp_path / "restored") as restored:
        rows = RunReader(restored.run_path(run_id)).samples("channel")["row"]
    # Hundreds that were committed together are there together.
    assert len(rows) % 100 == 0
    assert rows.tolist() == sorted(rows.tolist())
    assert len(rows) > 0


def test_a_damaged_file_does_not_take_the_place_of_its_copy(store: Store, tmp_path: Path) -> None:
    backup(store, tmp_path / "backup")
    expected = prints(store)
    path = store.run_path(store.find("001").id)
    path.write_bytes(path.read_bytes()[:5000] + b"\0" * 200_000)
    code, output = called("backup", str(tmp_path / "backup"))
    assert code == 1
    assert f"NOT COPIED: runs/{path.name} " in output
    assert "the copy from before stays" in output
    restore(tmp_path / "backup", tmp_path / "restored")
    assert prints_of(tmp_path / "restored") == expected


def test_what_was_deleted_in_the_store_stays_in_the_backup(store: Store, tmp_path: Path) -> None:
    backup(store, tmp_path / "backup")
    path = store.run_path(store.find("001").id)
    path.unlink()
    backup(store, tmp_path / "backup")
    (found, _) = merge(store, tmp_path / "backup")
    assert found.fate is Fate.BACK
    assert path.is_file()


def test_a_backup_that_is_damaged_is_not_restored(store: Store, tmp_path: Path) -> None:
    backup(store, tmp_path / "backup")
    name = f"{store.find('002').id}.sqlite"
    with (tmp_path / "backup" / "runs" / name).open("r+b") as file:
        file.seek(20_000)
        file.write(b"x")
    with pytest.raises(StoreError, match=f"1 of 3 files .* damaged.*runs/{name}"):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored" / "catalogue.sqlite").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "runs/../../outside", "C:\\\\x"])
def test_a_manifest_that_leads_out_of_the_backup_is_refused(
    store: Store, tmp_path: Path, name: str
) -> None:
    backup(store, tmp_path / "backup")
    path = tmp_path / "backup" / BACKUP_MANIFEST
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"catalogue.sqlite"', f'"{name}"'), encoding="utf-8")
    with pytest.raises(InputError, match="does not say what the backup holds"):
        restore(tmp_path / "backup", tmp_path / "restored")


def test_places_that_are_surely_not_meant_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are within each other"):
        backup(store, store.directory / "backup")
    with Store(tmp_path / "another") as another, pytest.raises(InputError, match="is a store, and"):
        backup(store, another.directory)
    with pytest.raises(InputError, match="is no backup"):
        restore(tmp_path / "nothing", tmp_path / "restored")
    backup(store, tmp_path / "backup")
    with pytest.raises(InputError, match=r"there is a store in .* stays as it is"):
        restore(tmp_path / "backup", store.directory)
    with pytest.raises(InputError, match="is a backup, which nobody works in"):
        Store(tmp_path / "backup")


def test_a_full_disk_leaves_the_backup_as_it_was(store: Store, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX stand for a disk")
    backup(store, tmp_path / "backup")
    before = read_manifest(tmp_path / "backup")
    with closing(sqlite3.connect(store.run_path(store.find("001").id))) as other, other:
        other.execute("UPDATE document SET text = text || ' '")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="the backup is as it was"):
            backup(store, tmp_path / "backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_manifest(tmp_path / "backup") == before
    restore(tmp_path / "backup", tmp_path / "restored")


# --- Move -----------------------------------------------------------------------------------------


def test_a_store_that_was_moved_is_whole_and_its_old_place_says_where(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prints_of(directory)
    fetched = directory / "laboratory" / "lab at localhost" / "runs"
    fetched.mkdir(parents=True)
    (fetched / "room1.2026-11-20-001.sqlite").write_bytes(b"fetched again")
    to = tmp_path / "new" / "place"
    code, output = called("move", str(to))
    assert code == 2
    assert "add --yes" in output
    code, output = called("move", str(to), "--yes")
    assert code == 0
    assert f"CELLBENCH_STORE={to}" in output
    assert prints_of(to) == before
    assert not (to / "laboratory").exists()
    done = CliRunner().invoke(app, ["runs"])
    assert done.exit_code == 2
    assert f"was moved to {to}" in done.output
    assert [path.name for path in directory.iterdir()] == ["moved-to.txt"]
    monkeypatch.setenv("CELLBENCH_STORE", str(to))
    assert called("check")[0] == 0


def test_a_store_with_a_run_under_way_stays(store: Store, tmp_path: Path) -> None:
    with written(store) as run_id:
        assert [run.id for run in under_way(store)] == [run_id]
        with pytest.raises(InputError, match=f"under way in it is {run_id}"):
            move(store.directory, tmp_path / "new")
    assert not under_way(store)  # it was lost, and is nobody's any more
    store.close()
    move(store.directory, tmp_path / "new")
    assert not (tmp_path / "new" / BACKUP_MANIFEST).exists()


def test_whoever_has_the_old_place_open_begins_no_run_there(store: Store, tmp_path: Path) -> None:
    move(store.directory, tmp_path / "new")
    with pytest.raises(StoreError, match=r"cannot be read: .*no such table"):
        store.register(protocol="p", cell="c", bench="b", simulated=True, seed=None)


def test_a_damaged_store_is_not_moved(store: Store, tmp_path: Path) -> None:
    path = store.run_path(store.find("001").id)
    path.write_bytes(path.read_bytes()[:5000] + b"\0" * 200_000)
    with pytest.raises(StoreError, match="stays where it is, since not all of it can be read"):
        move(store.directory, tmp_path / "new")
    assert path.is_file()


# --- Merge ----------------------------------------------------------------------------------------


@pytest.fixture
def other(kept: Path, tmp_path: Path) -> Path:
    """Another store, with a run of the same id as one here, and one that is here as well."""
    place = shutil.copytree(kept, tmp_path / "other")
    with closing(sqlite3.connect(place / "catalogue.sqlite")) as catalogue, catalogue:
        catalogue.execute("UPDATE run SET started = '2026-01-01 00:00:00' WHERE id LIKE '%-001'")
    with Store(place) as store:
        path = store.run_path(store.find("001").id)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE journalentry SET utc = '2026-01-01 00:00:00.000000'")
    return Path(place)


def test_runs_whose_ids_collide_get_new_names_which_is_told_and_done_once(
    store: Store, other: Path
) -> None:
    day = store.find("001").id[:-4]
    before, theirs = prints(store), prints_of(other)
    code, output = called("merge", str(other))
    assert code == 0
    assert f"{day}-001: taken under another id {day}-003\n" in output
    assert "2 runs: 1 taken, 1 here already, 0 left there." in output
    merged = prints(store)
    assert merged == before | {f"{day}-003": theirs[f"{day}-001"]}
    assert prints_of(other) == theirs
    assert called("merge", str(other))[1] == "2 runs: 0 taken, 2 here already, 0 left there.\n"
    assert prints(store) == merged
    with cellbench.open(store.directory) as opened:
        assert opened.run(f"{day}-003").samples(("voltage_V",))["voltage_V"].size > 1000


def test_an_empty_store_takes_all_of_another_under_their_own_ids(
    kept: Path, tmp_path: Path
) -> None:
    with Store(tmp_path / "empty") as store:
        assert {each.fate for each in merge(store, kept)} == {Fate.TAKEN}
        assert prints(store) == prints_of(kept)
        entries = {run.id: run.model_dump() for run in store.runs()}
    with Store(kept) as given:
        assert entries == {run.id: run.model_dump() for run in given.runs()}


def test_a_compacted_run_is_the_same_as_one_that_is_not(store: Store, kept: Path) -> None:
    pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')
    compact(store, store.find("001"))
    assert {each.fate for each in merge(store, kept)} == {Fate.HERE}


def test_compacted_runs_are_taken_with_what_is_beside_them(
    store: Store, other: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')
    with Store(other) as given:
        compact(given, given.find("001"))
    day = store.find("001").id[:-4]
    list(merge(store, other))
    assert (store.directory / "runs" / f"{day}-003.samples.parquet").is_file()
    assert len(RunReader(store.run_path(f"{day}-003")).spectra()) == 2
    prints(store)


def test_a_run_that_went_on_there_is_kept_beside_the_one_here(store: Store, kept: Path) -> None:
    path = store.run_path(store.find("002").id)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM journalentry WHERE seq > 10")
    fates = {each.run[-3:]: each for each in merge(store, kept)}
    assert fates["002"].fate is Fate.RENAMED
    assert fates["002"].here.endswith("-003")
    assert {each.fate for each in merge(store, kept)} == {Fate.HERE}


def test_what_has_not_ended_or_is_damaged_there_is_left_and_told(
    other: Path, tmp_path: Path
) -> None:
    with Store(other) as given:
        run, damaged = given.find("001"), given.find("002")
        given.reopen(run)
        path = given.run_path(damaged.id)
        path.write_bytes(path.read_bytes()[:5000] + b"\0" * 200_000)
        path = given.run_path(run.id)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM journalentry WHERE kind = 'run ended'")
    code, output = called("merge", str(other), "--store", str(tmp_path / "mine"))
    assert code == 1
    assert f"{run.id}: left there: it has not ended there" in output
    assert f"{damaged.id}: left there: it is damaged there" in output
    with Store(tmp_path / "mine") as mine:
        assert not mine.runs()


def test_a_store_is_not_merged_with_itself_or_with_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with itself"):
        list(merge(store, store.directory))
    with pytest.raises(InputError, match="there is no store in"):
        list(merge(store, tmp_path / "nothing"))
    assert not list(store.directory.rglob(f"*{PART}"))
