"""The Battery Data Format out and in again: nothing is lost, whatever a run holds."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.analysis import analyse
from cellbench.analysis.stored import stored_dataset
from cellbench.errors import InputError
from cellbench.exchange.export import export
from cellbench.exchange.importing import import_file
from cellbench.instruments.readings import Flag
from cellbench.protocol import parse_card
from cellbench.store import IMPORTED, Run, RunReader, Store

#: What is the same bit for bit; capacities differ by what adding up in floats does.
EXACT = (
    "test_time_second", "voltage_volt", "current_ampere", "unix_time_second", "cycle_count",
    "step_count", "step_id", "step_type", "flags",
)  # fmt: skip
CLOSE = (
    "ambient_temperature_celsius", "applied_pressure_pa", "charging_capacity_ah",
    "discharging_capacity_ah", "net_capacity_ah", "cumulative_capacity_ah",
    "cycle_charging_capacity_ah", "cycle_discharging_capacity_ah",
)  # fmt: skip
FORMS = ("bdf", "parquet")

_floats = st.floats(-5, 5, allow_subnormal=False)
_rows = st.lists(
    st.tuples(
        st.floats(0.001, 100),  # interval
        st.one_of(_floats, st.none()),  # voltage
        st.one_of(_floats, st.none()),  # current
        st.integers(0, 2 * max(Flag) - 1),
    ),
    min_size=1,
    max_size=12,
)
_steps = st.lists(
    st.tuples(st.sampled_from(["current", "rest", "hold", "charge", "discharge"]), _rows),
    min_size=1,
    max_size=4,
)
_gauges = st.lists(st.tuples(st.floats(0, 300), st.floats(1, 1e5)), max_size=6)


def _table(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        rows = parquet.read_table(path).to_pylist()
        return [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _close(one: str, other: str) -> bool:
    if not one or not other:
        return one == other
    return math.isclose(float(one), float(other), rel_tol=1e-12, abs_tol=1e-15)


def _same(before: list[dict[str, str]], after: list[dict[str, str]]) -> None:
    assert len(before) == len(after)
    for name in EXACT:
        assert [row[name] for row in before] == [row[name] for row in after], name
    for name in CLOSE:
        assert all(_close(a[name], b[name]) for a, b in zip(before, after, strict=True)), name


def _out_and_in(reader: RunReader, run: Run, to: str, place: Path) -> tuple[Store, Run]:
    data = export(reader, run, to, place, overwrite=True)[0]
    with Store(place / "other store") as store:
        back = import_file(store, data, None, None, None)
        _same(
            _table(data),
            _table(export(RunReader(store.run_path(back.id)), back, to, place / "again")[0]),
        )
        return store, back


@pytest.mark.long
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=_steps,
    gauges=_gauges,
    charge=st.sampled_from(["positive", "negative"]),
    to=st.sampled_from(FORMS),
)
def test_out_and_in_again_is_lossless(
    make_run: Any,
    tmp_path_factory: pytest.TempPathFactory,
    steps: Any,
    gauges: Any,
    charge: str,
    to: str,
) -> None:
    async def write(script: Any) -> None:
        await script.enter("run started")
        for number, (kind, rows) in enumerate(steps):
            path = f"repeat[{number // 2}]/{kind}_{number}"
            step = await script.step(path, kind, kind, 0)
            script.writer.add_samples(_samples(step, script.now_s, rows))
            await script.end(path, kind, sum(row[0] for row in rows))
        script.writer.add_samples([
            (at_s, "load cell", 1, None, None, None, force_N, None, 0, None)
            for at_s, force_N in sorted(gauges)
        ])  # fmt: skip

    stored = make_run(write, charge=charge, analyses=())
    _out_and_in(stored.reader, stored.run, to, tmp_path_factory.mktemp("exchange"))


def _samples(step: int, start_s: float, rows: Any) -> list[Any]:
    """As the engine writes them; a charge is counted where a current is known."""
    samples, time_s, charge_C = [], start_s, 0.0
    for interval_s, voltage_V, current_A, flags in rows:
        time_s += interval_s
        charge_C += (current_A or 0.0) * interval_s
        samples.append(
            (time_s, "potentiostat", step, voltage_V, current_A, charge_C, None, None, flags, None)
        )
    return samples


@pytest.mark.long
@pytest.mark.parametrize("to", FORMS)
def test_a_whole_test_comes_back_with_its_verdict(ramp: Any, tmp_path: Path, to: str) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    store, run = _out_and_in(ramp.reader, ramp.run, to, tmp_path)
    assert (run.state, run.simulated, run.started) == (IMPORTED, True, ramp.run.started)
    reader = RunReader(store.run_path(run.id))
    card = parse_card(reader.documents["cell"], "the card")
    found = analyse("ccd", stored_dataset(reader, card))
    before = analyse("ccd", ramp.dataset)
    stable = "last_stable_mA_cm2"
    assert found[stable] == before[stable]
    origin = json.loads(reader.documents["origin"])
    assert origin["program"].startswith("cellbench")
    assert len(origin["sha256"]) == 64
    kinds = {entry.kind for entry in reader.journal}
    assert {"run started", "step started", "step ended", "deviation", "run ended"} <= kinds


@pytest.mark.long
def test_without_its_metadata_a_file_needs_a_card(ramp: Any, tmp_path: Path) -> None:
    data, beside = export(ramp.reader, ramp.run, "bdf", tmp_path)
    beside.unlink()
    with Store(tmp_path / "store") as store:
        run = import_file(store, data, "LYC_PMMA", "ramp", ["ccd"])
        reader = RunReader(store.run_path(run.id))
    paths = [path for path, _ in reader.steps.values()]
    assert "for_each[3]/current_2" in paths
    kept = reader.samples("channel")
    assert np.array_equal(kept["current_A"], ramp.reader.samples("potentiostat")["current_A"])


@pytest.mark.long
def test_data_that_were_changed_do_not_pass_for_those_that_were_exported(
    ramp: Any, tmp_path: Path
) -> None:
    data, beside = export(ramp.reader, ramp.run, "bdf", tmp_path)
    data.write_text(data.read_text(encoding="utf-8").replace("0.0,", "0.1,", 1), encoding="utf-8")
    with Store(tmp_path / "store") as store:
        with pytest.raises(InputError, match="was changed"):
            import_file(store, data, None, None, None)
        beside.write_text('{"written_by": "cellbench 0.1.0"}', encoding="utf-8")
        with pytest.raises(InputError, match="is not as cellbench writes it"):
            import_file(store, data, None, None, None)


def test_a_parquet_file_brings_its_metadata_within_itself(ramp: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    data, beside = export(ramp.reader, ramp.run, "parquet", tmp_path)
    beside.unlink()
    with Store(tmp_path / "store") as store:
        run = import_file(store, data, None, None, None)
    assert (run.simulated, run.cell, run.protocol) == (True, ramp.run.cell, ramp.run.protocol)
