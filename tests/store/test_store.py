"""The store: what is acknowledged is on disk, what cannot be kept is said."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cellbench
from cellbench.clock import run
from cellbench.errors import InputError, StoreError
from cellbench.store import JournalEntry, RunReader, RunWriter, SampleRow, Store, places

START = datetime(2026, 11, 20, tzinfo=UTC)


def entry(seq: int, **data: object) -> JournalEntry:
    return JournalEntry(seq=seq, time_s=float(seq), utc=START, kind="step started", data=data)


def row(index: int) -> SampleRow:
    return (float(index), "potentiostat", 1, 0.1, 1e-3, 0.0, None, None, 0, None)


async def write(path: Path) -> None:
    writer = RunWriter(path, durable=False)
    await writer.add_documents({"protocol": "name: x"})
    writer.add_step(1, "rest", "rest")
    writer.add_samples([row(index) for index in range(1000)])
    await writer.add_entries([entry(0, value=1.5)])
    await writer.close()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    run(write(path), virtual=True)
    reader = RunReader(path)
    samples = reader.samples("potentiostat")
    assert samples["time_s"].tolist() == [float(index) for index in range(1000)]
    assert samples["force_N"].size == 1000
    assert reader.journal[0].data == {"value": 1.5}
    assert reader.documents == {"protocol": "name: x"}
    assert reader.steps == {1: ("rest", "rest")}
    assert reader.sources() == ["potentiostat"]


def test_what_was_not_measured_is_null_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    # Most are inserted by the 64, the rest one by one. A number that is none was not measured.
    rows = [row(index) for index in range(100)]
    rows += [(100.0, "press", 2, None, float("nan"), None, 392.7, 298.15, 4, 7)]

    async def main() -> None:
        writer = RunWriter(path, durable=False)
        writer.add_samples(rows)
        await writer.close()

    run(main(), virtual=True)
    with closing(sqlite3.connect(path)) as file:
        *kept, last = file.execute("SELECT * FROM sample ORDER BY rowid").fetchall()
    assert kept == rows[:100]
    assert last == (100.0, "press", 2, None, None, None, 392.7, 298.15, 4, 7)


def test_samples_before_a_journal_entry_are_durable_when_it_is_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"

    async def main() -> int:
        writer = RunWriter(path, durable=False)
        writer.add_samples([row(0)])
        await writer.add_entries([entry(0)])
        with closing(sqlite3.connect(path)) as other:
            (count,) = other.execute("SELECT count(*) FROM sample").fetchone()
        await writer.close()
        return int(count)

    assert run(main(), virtual=True) == 1


def test_samples_alone_are_durable_within_a_second_of_wall_time(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"

    async def main() -> int:
        writer = RunWriter(path, durable=False)
        writer.add_samples([row(0)])
        await asyncio.sleep(1.0)
        with closing(sqlite3.connect(path)) as other:
            (count,) = other.execute("SELECT count(*) FROM sample").fetchone()
        await writer.close()
        return int(count)

    assert run(main()) == 1


KILLED = """
import asyncio, sys
from pathlib import Path
from cellbench.store import RunWriter
sys.path.insert(0, {tests!r})
from test_store import entry, row

async def main():
    writer = RunWriter(Path({path!r}), durable=False)
    for seq in range(10**6):
        writer.add_samples([row(seq)])
        await writer.add_entries([entry(seq)])
        print(seq, flush=True)

asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    script = KILLED.format(path=str(path), tests=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.kill()
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout)])
    assert process.returncode in {-signal.SIGKILL if sys.platform != "win32" else 1, 1}
    reader = RunReader(path)
    assert len(reader.journal) >= acknowledged + 1
    assert len(reader.samples("potentiostat")["time_s"]) >= acknowledged + 1


def test_a_file_that_cannot_be_written_any_more_is_said_in_words(tmp_path: Path) -> None:
    async def main() -> None:
        writer = RunWriter(tmp_path / "run.sqlite", durable=False)
        await writer.add_entries([entry(0)])
        with pytest.raises(StoreError, match="UNIQUE"):
            await writer.add_entries([entry(0)])
        with pytest.raises(StoreError, match="no longer be written"):
            writer.add_samples([row(0)])
        with pytest.raises(StoreError):
            await writer.close()

    run(main(), virtual=True)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="format 99"):
        RunReader(path)
    with pytest.raises(StoreError, match="missing"):
        RunReader(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("this is no database at all, but a long enough text")
    with pytest.raises(StoreError, match="not a run's file"):
        RunReader(tmp_path / "text.sqlite")


def register(store: Store, **changes: object) -> str:
    facts = {"protocol": "p", "cell": "c", "bench": "b", "simulated": True, "seed": 1} | changes
    return store.register(**facts).id  # type: ignore[arg-type]


def test_runs_are_numbered_by_day_and_found_by_the_end_of_their_id(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first, second = register(store), register(store)
        assert int(second[-3:]) == int(first[-3:]) + 1
        assert store.find("002").id == second
        assert store.find("last").id == second
        assert [found.id for found in store.runs()] == [second, first]
        with pytest.raises(InputError, match="could be any of"):
            store.find("")
        with pytest.raises(InputError, match="no run"):
            store.find("999")


def test_how_a_run_ended_is_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        found = store.register(protocol="p", cell="c", bench="b", simulated=True, seed=1)
        store.finish(found, "stopped", "stack pressure")
    with Store(tmp_path) as again:
        kept = again.find("last")
    assert (kept.state, kept.reason) == ("stopped", "stack pressure")
    assert kept.ended is not None


def test_a_place_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--store"):
        Store(tmp_path / "file" / "store")


def test_a_network_drive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_on_network", lambda _: True)
    with pytest.raises(InputError, match="network drive"):
        Store(tmp_path)


def test_the_environment_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLBENCH_STORE", str(tmp_path / "elsewhere"))
    with Store() as store:
        assert store.directory == tmp_path / "elsewhere"


async def ended_in_its_file(path: Path, *after: str) -> None:
    """Leave a run's file that has ended, and perhaps gone on after that."""
    writer = RunWriter(path, durable=False)
    kinds = ["run started", "run ended", *after]
    await writer.add_entries([
        JournalEntry(
            seq=seq, time_s=float(seq), utc=START, kind=kind,
            text="stopped: too warm" if kind == "run ended" else kind,
            data={"state": "stopped"} if kind == "run ended" else {},
        )
        for seq, kind in enumerate(kinds)
    ])  # fmt: skip
    await writer.close()


@pytest.mark.parametrize(("after", "state"), [((), "stopped"), (("resumed",), "running")])
async def test_a_run_whose_end_the_catalogue_never_heard_of_has_ended_as_its_file_says(
    store_directory: Path, after: tuple[str, ...], state: str
) -> None:
    with Store(store_directory) as store:
        begun = store.register(protocol="ccd", cell="A", bench="2", simulated=False, seed=None)
        await ended_in_its_file(store.run_path(begun.id), *after)
        (listed,), found = store.runs(), store.find("last")
    with cellbench.open(store_directory) as opened:
        seen = [*opened.runs(), *opened.runs(state=state), opened.run(begun.id)]
        others = opened.runs(state="running" if state == "stopped" else "stopped")
    assert others == []
    assert [each.state for each in seen] == [state] * 3
    assert {each.ended for each in seen} == {None if after else START}
    assert listed.state == found.state == state
    assert found.reason == ("" if after else "too warm")
    assert (found.ended is None) is bool(after)


def test_a_file_without_a_format_is_no_runs_file(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE anything (x)")
    with pytest.raises(StoreError, match="is no run's file"):
        RunReader(path)


#: A catalogue as it was before runs had a place.
OLD_CATALOGUE = """
PRAGMA journal_mode = WAL;
CREATE TABLE run (
    id VARCHAR NOT NULL, protocol VARCHAR NOT NULL, cell VARCHAR NOT NULL, bench VARCHAR NOT NULL,
    simulated BOOLEAN NOT NULL, seed INTEGER, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    started DATETIME NOT NULL, ended DATETIME, PRIMARY KEY (id)
);
INSERT INTO run VALUES
    ('2026-11-01-001', 'ccd', 'A', '2', 0, NULL, 'completed', '', '2026-11-01 10:00:00', NULL);
"""


def test_a_catalogue_from_before_is_brought_up_to_date_by_whoever_opens_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as old:
        old.executescript(OLD_CATALOGUE)

    def register(number: int) -> str:
        with Store(tmp_path) as store:
            facts = {"protocol": "ccd", "cell": "B", "bench": "2", "simulated": False, "seed": None}
            place = {"place": f"A{number}", "campaign": "spread", "replicate": number}
            return store.register(**facts | place).id  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(register, [1, 2, 3, 4]))
    with Store(tmp_path) as store:
        before = store.find("2026-11-01-001")
        assert (before.place, before.campaign, before.replicate) == ("", "", 0)
        assert sorted(run.place for run in store.search("spread")) == ["A1", "A2", "A3", "A4"]
        assert [run.id for run in store.search(place="A3")] == [begun[2]]
        assert store.find(begun[2]).replicate == 3


def test_a_program_from_before_goes_on_writing_to_the_catalogue(tmp_path: Path) -> None:
    with Store(tmp_path) as store, closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as old:
        old.execute(
            "INSERT INTO run (id, protocol, cell, bench, simulated, state, reason, started)"
            " VALUES ('2026-11-01-002', 'ccd', 'A', '2', 0, 'running', '', '2026-11-01 10:00:00')"
        )
        old.commit()
        assert store.find("2026-11-01-002").place == ""
