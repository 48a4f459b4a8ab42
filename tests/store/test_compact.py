"""Compacted runs: everything that reads a run gives the same before and after, bit for bit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.web.client import PASSWORD, Browser, serving, site_of
from typer.testing import CliRunner

import cellbench
from cellbench.cli.app import app
from cellbench.engine.resume import session_of
from cellbench.errors import CellbenchError, InputError, StoreError
from cellbench.exchange.export import FORMATS
from cellbench.store import Run, RunReader, RunWriter, SampleRow, Store, maintenance
from cellbench.store.check import check
from cellbench.store.compact import as_tables, compact, drop_wire, expand, left_over, size_of
from cellbench.store.files import sha256
from cellbench.web.buckets import drawn
from cellbench.web.traces import Overview
from cellbench.web.users import Users

pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')

RECORDED = "001"


def said(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def run_of(store: Store, end: str = RECORDED) -> Run:
    return store.find(end)


def made_small(store: Store) -> None:
    for run in store.runs():
        compact(store, run)


# --- Everything that reads ------------------------------------------------------------------------


def _exported(place: Path) -> dict[str, str]:
    for to in (*FORMATS, "recording"):
        said("export", RECORDED, "--to", to, "-o", str(place))
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): sha256(path) for path in files}


def _commands(_: Store, __: Path) -> Any:
    replicates = json.loads(said("replicates", "001", "002", "--json"))
    return [
        said("runs", "--json"),
        *(said("show", each, "--json") for each in ("001", "002")),
        said("show", "last"),
        said("status", "last", "--json"),
        said("analyze", "last", "symmetric_cycling", "--json"),
        replicates,
        json.loads(said("replay", RECORDED, "--json")) | {"wall_s": 0},
    ]


def _report(_: Store, place: Path) -> str:
    said("report", RECORDED, "-o", str(place / "report.html"))
    return (place / "report.html").read_text(encoding="utf-8")


def _exports(_: Store, place: Path) -> Any:
    return _exported(place / "out")


def _python(store: Store, _: Path) -> Any:
    found = []
    with cellbench.open(store.directory) as opened:
        for run in opened.runs():
            samples = run.samples(("time_s", "voltage_V", "charge_C", "cycle", "flags", "path"))
            found.append({name: column.tobytes() for name, column in samples.items()})
            found.append([one.impedance_ohm.tobytes() for one in run.spectra])  # type: ignore[arg-type]
            found.append([run.journal, run.cycles])  # type: ignore[arg-type]
    return found


def _pages(store: Store, _: Path) -> Any:
    Users(store.directory).add_password("vera", "viewer", PASSWORD)
    with serving(site_of(store.directory)) as server:
        vera = Browser(server.port)
        assert vera.sign_in("vera").status == 200
        places = (
            "runs", "runs/last/traces?points=50", "runs/last/traces?points=5000",
            "runs/last/traces?from_s=100&to_s=200", "runs/last/journal",
        )  # fmt: skip
        return [vera.json(f"/api/{each}") for each in places]


def _reader(store: Store, _: Path) -> Any:
    reader = RunReader(store.run_path(run_of(store).id))
    sources = reader.sources()
    first = {name: column.tobytes() for name, column in reader.samples(*sources[:2]).items()}
    blocks = [
        {name: column.tolist() for name, column in sorted(block.items())}
        for by_time in (False, True)
        for block in reader.blocks(*sources[1:], by_time=by_time)
    ]
    steps = [reader.rows_of_step(step, sources) for step in reader.steps]
    edges = [reader.last_row(1), reader.last_s, reader.spark("voltage_V", 30), sources]
    return [first, repr(blocks), steps, edges, reader.wire(), reader.wire_header]


@pytest.mark.parametrize(
    "told",
    [
        _reader,
        _report,
        _exports,
        _python,
        pytest.param(_commands, marks=pytest.mark.long),
        pytest.param(_pages, id="web", marks=pytest.mark.long),
    ],
)
def test_what_reads_a_run_gives_the_same_before_and_after(
    store: Store, tmp_path: Path, told: Any
) -> None:
    places = [tmp_path / name for name in ("before", "after", "again")]
    for place in places:
        place.mkdir()
    before = told(store, places[0])
    made_small(store)
    differing = difference(told(store, places[1]), before)
    assert not differing
    for run in store.runs():
        expand(store, run)
    differing = difference(told(store, places[2]), before)
    assert not differing


def difference(found: Any, expected: Any, where: str = "") -> str:
    """The first place where two answers differ; pytest would look for all of them for minutes."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        each = (difference(found[name], expected[name], f"{where}/{name}") for name in expected)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        each = (difference(*pair, f"{where}/{number}") for number, pair in pairs)
    else:
        same = type(found) is type(expected) and repr(found) == repr(expected)
        return "" if same else f"{where}: {str(found)[:300]} and not {str(expected)[:300]}"
    return next(filter(None, each), "")


def test_a_compacted_run_is_smaller_and_its_rows_are_in_parquet_alone(store: Store) -> None:
    path = store.run_path(run_of(store).id)
    before_B = size_of(path)
    done = compact(store, run_of(store))
    assert (done.before_B, done.after_B) == (before_B, size_of(path))
    assert done.after_B < 0.7 * before_B
    assert set(done.rows) == {"sample", "spectrum", "wire"}
    assert done.rows["sample"] > 1000
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not tables & {"sample", "spectrum", "wire"}
    assert compact(store, run_of(store)).rows == {}


def test_the_parquet_files_are_read_by_other_programs(store: Store) -> None:
    pandas = pytest.importorskip("pandas")
    run = run_of(store)
    voltage_V = RunReader(store.run_path(run.id)).samples("potentiostat")["voltage_V"]
    compact(store, run)
    frame = pandas.read_parquet(store.run_path(run.id).with_name(f"{run.id}.samples.parquet"))
    channel = frame[frame["source"] == "potentiostat"]
    assert np.array_equal(channel["voltage_V"].to_numpy(), voltage_V, equal_nan=True)
    spectra = pandas.read_parquet(store.run_path(run.id).with_name(f"{run.id}.spectra.parquet"))
    assert len(spectra) == 2
    assert spectra["frequency_Hz"][0][0] == 1e6


_VALUE = st.none() | st.floats(-1e30, 1e30)
_ROW = st.tuples(
    st.floats(0, 1e6), st.sampled_from(["channel", "gauge", "Ω \N{SNOWMAN}"]), st.integers(1, 9),
    _VALUE, _VALUE, _VALUE, _VALUE, _VALUE, st.integers(0, 2**40),
    st.none() | st.integers(0, 2**40),
)  # fmt: skip


@given(st.lists(_ROW, max_size=40))
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_any_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[SampleRow]
) -> None:
    with Store(tmp_path_factory.mktemp("any")) as store:
        run = _written(store, rows)
        path = store.run_path(run.id)
        before = _raw(path)
        shown = _drawn(path)
        compact(store, run)
        assert repr(_drawn(path)) == repr(shown)
        expand(store, run)
        assert repr(_raw(path)) == repr(before)


def _written(store: Store, rows: list[SampleRow]) -> Run:
    run = store.register(protocol="any", cell="c", bench="b", simulated=True, seed=None)

    async def main() -> None:
        from cellbench.store import JournalEntry

        writer = RunWriter(store.run_path(run.id), durable=False)
        writer.add_samples(rows)
        kinds = ("run started", "run ended")
        await writer.add_entries(
            JournalEntry(
                seq=seq, time_s=0.0, utc=run.started, kind=kind, data={"state": "completed"}
            )
            for seq, kind in enumerate(kinds)
        )
        await writer.close()

    asyncio.run(main())
    store.finish(run, "completed", "")
    return run


def _raw(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT rowid, * FROM sample ORDER BY rowid").fetchall()


def _drawn(path: Path) -> list[Any]:
    return [
        (cut.source, cut.rows_in_range, drawn(cut.buckets, cut.gaps, ["voltage_V", "force_N"]))
        for points in (3, 500)
        for cut in Overview(path).cut(None, None, points).cuts
    ]


@pytest.mark.long
def test_curves_of_many_blocks_are_the_same_zoomed_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellbench.store.parquet._GROUP_ROWS", 5000)  # of which many are read
    random = np.random.default_rng(1)
    rows: list[SampleRow] = [
        (
            float(index), "channel" if index % 3 else "gauge", index // 10_000 + 1,
            float(value) if index % 3 else None, None, None, None if index % 3 else float(value),
            None, 8 if index == 9_000 else 0, None,
        )
        for index, value in enumerate(random.normal(size=30_000))
    ]  # fmt: skip
    late = rows[-2_000:]  # fetched later
    rows += [(each[0] - 9_000, *each[1:]) for each in late]
    with Store(tmp_path / "many") as store:
        run = _written(store, rows)
        path = store.run_path(run.id)
        overview = Overview(path)
        zooms = [(None, None, 300), (9_000.0, 10_500.0, 300), (9_995.0, 10_005.0, 300)]
        before = [_cut(overview, *zoom) for zoom in zooms]
        in_order = [block["time_s"] for block in RunReader(path).blocks("gauge", by_time=True)]
        compact(store, run)
        assert [_cut(overview, *zoom) for zoom in zooms] == before  # of a page that stays open
        assert [_cut(Overview(path), *zoom) for zoom in zooms] == before
        again = [block["time_s"] for block in RunReader(path).blocks("gauge", by_time=True)]
        assert np.concatenate(again).tolist() == np.concatenate(in_order).tolist()


def _cut(overview: Overview, *zoom: Any) -> str:
    cuts = overview.cut(*zoom).cuts
    return repr([drawn(cut.buckets, cut.gaps, ["voltage_V", "force_N"]) for cut in cuts])


def test_sql_finds_the_rows_of_a_compacted_run_by_their_numbers(store: Store) -> None:
    path = store.run_path(run_of(store).id)
    before = _raw(path)
    compact(store, run_of(store))
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        as_tables(connection, path)
        query = "SELECT rowid, * FROM sample WHERE rowid > 100 ORDER BY rowid LIMIT 50"
        assert connection.execute(query).fetchall() == before[100:150]
        assert connection.execute("SELECT count(*) FROM spectrum").fetchone() == (2,)


# --- What is refused ------------------------------------------------------------------------------


def test_to_go_on_with_a_compacted_run_its_rows_are_brought_back_first(store: Store) -> None:
    run = run_of(store)
    store.finish(run, "interrupted", "somebody ended it")
    compact(store, run)
    with pytest.raises(InputError, match=f"cellbench store expand {run.id}"):
        session_of(store, run)

    async def again() -> None:
        RunWriter(store.run_path(run.id), durable=False, again=True)

    with pytest.raises(StoreError, match="was compacted and takes no more data"):
        asyncio.run(again())
    expand(store, run)
    with pytest.raises(InputError, match="simulated bench"):
        session_of(store, run)


@pytest.mark.parametrize("change", [compact, expand, drop_wire])
def test_a_run_that_is_not_finished_is_left_as_it_is(store: Store, change: Any) -> None:
    run = run_of(store)
    path = store.run_path(run.id)
    before = sha256(path)
    store.reopen(run)
    with pytest.raises(InputError, match="is left as it is: it is under way"):
        change(store, run)
    store.finish(run, "completed", "")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM journalentry WHERE kind = 'run ended'")
    with pytest.raises(InputError, match="its journal has no end"):
        change(store, run)
    assert sha256(path) != before  # by this test alone
    assert not left_over(path)


def test_a_run_that_is_gone_on_with_meanwhile_is_left_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(store)
    committed = maintenance.commit_of_finished

    def resumed_just_before(*given: Any) -> None:
        with Store(store.directory) as another:
            another.reopen(another.find(run.id))
        committed(*given)

    monkeypatch.setattr("cellbench.store.compact.commit_of_finished", resumed_just_before)
    with pytest.raises(StoreError, match="goes on just now: nothing was changed"):
        compact(store, run)
    assert not RunReader(store.run_path(run.id)).archived


def test_a_file_that_another_program_has_locked_is_left_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellbench.store.maintenance.PATIENCE_S", 0.1)
    path = store.run_path(run_of(store).id)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is as it was: database is locked"):
            compact(store, run_of(store))
    assert compact(store, run_of(store)).rows


@contextmanager
def _full_disk(bytes_left: int) -> Iterator[None]:
    resource = pytest.importorskip("resource", reason="limits of POSIX stand for a disk")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("bytes_left", [100, 10_000, 60_000])
def test_a_full_disk_leaves_the_run_as_it_was(store: Store, bytes_left: int) -> None:
    run = run_of(store)
    path = store.run_path(run.id)
    before = _raw(path)
    with _full_disk(bytes_left), pytest.raises(StoreError, match="cannot be"):
        compact(store, run)
    assert _raw(path) == before
    assert not [each for each in check(store) if each.severity == "error"]
    assert compact(store, run).rows["sample"] == len(before)


def test_rows_that_another_program_deleted_are_noticed(store: Store) -> None:
    path = store.run_path(run_of(store).id)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM sample WHERE rowid = 7")
    with pytest.raises(StoreError, match="rows of its samples are missing"):
        compact(store, run_of(store))


def test_a_parquet_file_that_is_missing_or_damaged_is_said(store: Store) -> None:
    run = run_of(store)
    path = store.run_path(run.id)
    compact(store, run)
    parquet = path.with_name(f"{run.id}.samples.parquet")
    whole = parquet.read_bytes()
    parquet.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="is damaged"):
        RunReader(path).samples("potentiostat")
    parquet.unlink()
    with pytest.raises(StoreError, match="is missing: the run was compacted"):
        RunReader(path).samples("potentiostat")
    with pytest.raises(CellbenchError, match="missing"):
        expand(store, run)
    assert RunReader(path).journal


def test_what_needs_pyarrow_says_so_where_it_is_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    compact(store, run_of(store))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reader = RunReader(store.run_path(run_of(store).id))
    assert reader.journal
    with pytest.raises(InputError, match=r'pip install "cellbench\[data\]"'):
        reader.samples("potentiostat")
    with pytest.raises(InputError, match=r'pip install "cellbench\[data\]"'):
        compact(store, run_of(store, "002"))
