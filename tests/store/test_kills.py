"""Real processes killed at every kind of step: no run is lost, and it can be done again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbench.errors import InputError
from cellbench.store import Store
from cellbench.store.backup import backup, restore
from cellbench.store.check import check
from cellbench.store.compact import compact, drop_wire, expand, left_over
from cellbench.store.merge import fingerprint, merge
from cellbench.store.move import move
from cellbench.store.places import BACKUP_MANIFEST, MOVED
from cellbench.store.samples import samples_of

pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="forks, and SIGKILL"),
]

KILLS = int(os.environ.get("CELLBENCH_STORE_KILLS", "5"))
Told = dict[str, tuple[object, ...]]


def killed(command: str, place: Path, store: Path, other: Path | None = None) -> Iterator[Path]:
    """The places in each of which a command was killed at another step."""
    script = Path(__file__).with_name("kills.py")
    given = [str(each) for each in (store, other, place) if each is not None]
    done = subprocess.run(
        [sys.executable, str(script), command, str(KILLS), *given],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    numbers = done.stdout.split()
    assert len(numbers) == KILLS
    yield from (place / number for number in numbers)


def told(directory: Path) -> Told:
    """All that the runs of a store say, which must be sound."""
    with Store(directory, make=False) as store:
        assert not [each for each in check(store) if each.severity == "error"]
        found: Told = {}
        for run in store.runs():
            path = store.run_path(run.id)
            with samples_of(path) as samples:
                rows = samples.between(1, samples.last_row)
            content = {name: rows[name].tobytes() for name in sorted(rows)}
            found[run.id] = (fingerprint(path), content)
        return found


@pytest.mark.parametrize("command", ["compact", "expand", "drop_wire"])
def test_a_run_is_readable_wherever_it_was_cut_off(
    directory: Path, tmp_path: Path, command: str
) -> None:
    change = {"compact": compact, "expand": expand, "drop_wire": drop_wire}[command]
    with Store(directory) as store:
        if command != "compact":
            for run in store.runs():
                compact(store, run)
    before = told(directory)
    for place in killed(command, tmp_path / "killed", directory):
        assert told(place / "store") == before
        with Store(place / "store") as store:
            for run in store.runs():
                change(store, run)
                assert not left_over(store.run_path(run.id))
        assert told(place / "store") == before


def test_a_backup_that_was_cut_off_is_still_one(directory: Path, tmp_path: Path) -> None:
    with Store(directory) as store:
        backup(store, tmp_path / "backup")
        old = told(directory)
        compact(store, store.find("001"))  # of which the next backup has three new files
    new = told(directory)
    for place in killed("backup", tmp_path / "killed", directory, tmp_path / "backup"):
        restore(place / "other", place / "restored")
        assert told(place / "restored") in (old, new)
        assert told(place / "store") == new
        with Store(place / "store") as store:
            assert not backup(store, place / "other").troubles
        restore(place / "other", place / "again")
        assert told(place / "again") == new
        shutil.rmtree(place)


def test_a_store_that_is_moved_is_always_in_one_of_two_places(
    directory: Path, tmp_path: Path
) -> None:
    before = told(directory)
    for place in killed("move", tmp_path / "killed", directory):
        old, new = place / "store", place / "other"
        if not (old / MOVED).is_file():
            assert told(old) == before
        if not (new / "catalogue.sqlite").is_file() or (new / BACKUP_MANIFEST).is_file():
            move(old, new)
        assert told(new) == before
        with pytest.raises(InputError, match="was moved to"):
            Store(old)


def test_a_merge_that_was_cut_off_is_done_again(
    directory: Path, kept: Path, tmp_path: Path
) -> None:
    expected = told(directory)
    target = tmp_path / "empty"
    Store(target).close()
    for place in killed("merge", tmp_path / "killed", target, kept):
        with Store(place / "store") as store:
            merged = list(merge(store, kept))
            assert all(each.here for each in merged)
        assert told(place / "store") == expected
