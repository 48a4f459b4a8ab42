"""A store that is looked through: what is wrong is found, and what cures it is said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.store.typed import called

from cellbench.store import Store
from cellbench.store.backup import backup
from cellbench.store.check import Finding, check, repair
from cellbench.store.compact import compact
from cellbench.store.merge import merge


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def first(store: Store) -> Path:
    return store.run_path(store.find("001").id)


def errors(store: Store) -> list[Finding]:
    return [each for each in check(store) if each.severity == "error"]


def test_a_sound_store_has_nothing_to_find(directory: Path) -> None:
    assert called("check") == (0, "2 runs, 0 errors, 0 notes.\n")


def _no_file(store: Store) -> None:
    first(store).unlink()


def _garbage(store: Store) -> None:
    path = first(store)
    path.write_bytes(path.read_bytes()[:5000] + b"\0" * 200_000)


def _nothing(store: Store) -> None:
    first(store).write_bytes(b"")


def _no_samples(store: Store) -> None:
    change(first(store), "DELETE FROM sample WHERE rowid BETWEEN 10 AND 20")


def _no_entry_in_between(store: Store) -> None:
    change(first(store), "DELETE FROM journalentry WHERE seq = 3")


def _no_json(store: Store) -> None:
    change(first(store), "UPDATE journalentry SET data = '{' WHERE seq = 3")


def _no_card(store: Store) -> None:
    change(first(store), "DELETE FROM document WHERE name = 'cell'")


def _no_step(store: Store) -> None:
    change(first(store), "DELETE FROM step WHERE id = 2")


def _newer(store: Store) -> None:
    change(first(store), "PRAGMA user_version = 9")


def _lost_parquet(store: Store) -> None:
    compact(store, store.find("001"))
    first(store).with_name(f"{first(store).stem}.samples.parquet").unlink()


def _changed_parquet(store: Store) -> None:
    compact(store, store.find("001"))
    with first(store).with_name(f"{first(store).stem}.wire.parquet").open("r+b") as file:
        file.seek(100)
        file.write(b"X")


_DAMAGES: list[tuple[Callable[[Store], None], str, bool]] = [
    (_no_file, "has an entry, but no file", False),
    (_garbage, "is damaged", False),
    (_nothing, "its file is empty, though it is completed", False),
    (_no_samples, "rows of its samples are missing", False),
    (_no_entry_in_between, "entries of its journal are missing", False),
    (_no_json, "1 entries of its journal hold no JSON", False),
    (_no_card, "its cell is not kept with it", False),
    (_no_step, "its samples name 1 steps that it does not know", False),
    (_lost_parquet, "samples.parquet is missing, which has its", True),
    (_changed_parquet, "wire.parquet is not what was written", True),
]


@pytest.mark.long
@pytest.mark.parametrize(("damage", "text", "needs_arrow"), _DAMAGES)
def test_damage_is_found_and_the_run_comes_back_from_a_backup(
    store: Store, tmp_path: Path, damage: Callable[[Store], None], text: str, needs_arrow: bool
) -> None:
    if needs_arrow:
        pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')
    backup(store, tmp_path / "backup")
    run_id = first(store).stem
    damage(store)
    code, output = called("check")
    assert code == 1
    assert f"error: {run_id}: " in output
    assert text in output
    assert "cellbench store merge BACKUP" in output
    (brought, other) = merge(store, tmp_path / "backup")
    assert (brought.run, str(brought.fate), str(other.fate)) == (
        run_id, "brought back", "here already"
    )  # fmt: skip
    assert not errors(store)


def test_a_file_of_a_later_cellbench_is_found(store: Store) -> None:
    _newer(store)
    (found,) = errors(store)
    assert "has format 9" in found.text


def test_a_file_that_the_catalogue_does_not_know_is_entered_again(store: Store) -> None:
    before = store.find("001").model_dump()
    change(store.directory / "catalogue.sqlite", "DELETE FROM run WHERE id LIKE '%-001'")
    (found,) = errors(store)
    assert (found.where, found.cure) == (first_name(before), "cellbench store check --repair")
    code, output = called("check", "--repair")
    assert code == 0
    assert "entered by its file: Two cycles on LYC_PMMA, completed" in output
    after = store.find("001").model_dump()
    assert {name for name in before if before[name] != after[name]} <= {"ended"}


def first_name(entry: dict[str, object]) -> str:
    return f"{entry['id']}.sqlite"


def test_a_catalogue_that_is_lost_is_made_anew(store: Store, directory: Path) -> None:
    ids = [run.id for run in store.runs()]
    store.close()
    (directory / "catalogue.sqlite").unlink()
    with Store(directory) as fresh:
        assert len(list(repair(fresh))) == 2
        assert [run.id for run in fresh.runs()] == ids
        assert not errors(fresh)


def test_an_end_that_the_catalogue_has_not_heard_of_is_entered(store: Store) -> None:
    store.reopen(store.find("001"))
    (found,) = errors(store)
    assert "has ended by its file, but not by the catalogue" in found.text
    list(repair(store))
    assert store.find("001").state == "completed"
    assert not errors(store)


def test_numbers_that_nobody_has_and_left_overs_are_notes(store: Store) -> None:
    path = first(store)
    store.run_path("x").with_name("2026-01-01-001.samples.parquet.part").write_bytes(b"half")
    path.with_name(f"{path.stem}.samples.parquet").write_bytes(b"of a compaction that was cut off")
    change(store.directory / "catalogue.sqlite", "DELETE FROM run WHERE id LIKE '%-001'")
    path.rename(path.with_name("elsewhere"))
    code, output = called("check", "--json")
    found = {each["where"]: each for each in json.loads(output)["findings"]}
    assert code == 1  # a Parquet file has data of no run
    assert found[path.stem]["text"] == "no entry and no file has this number"
    assert found["2026-01-01-001.samples.parquet.part"]["severity"] == "note"
    shutil.move(path.with_name("elsewhere"), path)
    code, output = called("check", "--repair")
    assert code == 0
    assert "2026-01-01-001.samples.parquet.part: deleted" in output
    assert "0 errors, 0 notes" in called("check")[1]


def test_what_a_compaction_that_was_cut_off_has_left_is_told_once(store: Store) -> None:
    path = first(store)
    half = path.with_name(f"{path.stem}.samples.parquet.part")
    half.write_bytes(b"half")
    assert [each.where for each in check(store)] == [half.name]
    assert list(repair(store)) == [f"{half.name}: deleted"]
    half.write_bytes(b"half")
    beside = path.with_name(f"{path.stem}.spectra.parquet")
    beside.write_bytes(b"whole")
    path.write_bytes(path.read_bytes()[:5000] + b"\0" * 200_000)
    list(repair(store))
    assert beside.exists()  # it may be all that is left of a damaged run


def test_a_catalogue_that_is_damaged_is_found(store: Store, directory: Path) -> None:
    path = directory / "catalogue.sqlite"
    change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    change(path, "CREATE INDEX by_cell ON run (cell)")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'by_cell'")
    found = errors(store)
    assert {each.where for each in found} == {"catalogue.sqlite"}
    assert "move catalogue.sqlite away" in found[0].cure


def test_a_run_under_way_and_one_that_never_began_are_no_errors(store: Store) -> None:
    store.register(protocol="p", cell="c", bench="b", simulated=False, seed=None)
    run = store.register(protocol="p", cell="c", bench="b", simulated=False, seed=None)
    store.run_path(run.id).write_bytes(b"")
    found = list(check(store))
    assert [each.severity for each in found] == ["note"]
    assert "lost before its file was made, or begins just now" in found[0].text


def test_two_commands_on_one_store_wait_for_each_other(directory: Path) -> None:
    from cellbench.store.maintenance import alone

    with alone(directory):
        code, output = called("check")
    assert code == 2
    assert "another cellbench store command works on" in output
