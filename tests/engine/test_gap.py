"""The interval of what passed unseen encloses what passed, and is as narrow as that can be."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from tests.hosts import Host, run_with_kills

from cellbench.engine.gap import Bounds

PROTOCOL = """
cellbench: 1
name: Held
cell: NMC811_LYC_PMMA_Li
steps:
  - charge: {at: 1C, until: potential >= 4.0 V vs Li+/Li, at most: 2 h, record: {every: 10 s}}
  - hold: {at: 4.0 V vs Li+/Li, for: 30 min, when interrupted: quiet, record: {every: 10 s}}
  - rest: 1 min
"""


@pytest.mark.parametrize(
    ("last_A", "one_way_A", "expected"),
    [(1e-4, 1e-6, (0.0, 1e-3)), (-1e-4, 1e-6, (-1e-3, 0.0)), (1e-7, 1e-6, (-1e-3, 1e-3)),
     (math.nan, 1e-6, (-1e-3, 1e-3)), (1e-4, math.inf, (-1e-3, 1e-3))],
)  # fmt: skip
def test_a_hold_is_bounded_on_the_side_that_its_last_current_tells(
    last_A: float, one_way_A: float, expected: tuple[float, float]
) -> None:
    assert Bounds(1e-3, one_way_A).of_hold_A(last_A) == expected


@pytest.mark.long
@pytest.mark.parametrize(("bench", "one_way"), [("neware", True), ("keithley", False)])
def test_a_gap_within_a_hold_encloses_what_passed(
    tmp_path: Path, bench: str, *, one_way: bool
) -> None:
    async def fate(host: Host, kills: int) -> None:
        if kills:
            await asyncio.sleep(1e9)
        await host.conducts.wait()
        assert host.conducting is not None
        while host.conducting.status.step_path != "hold":
            await asyncio.sleep(1.0)
        await asyncio.sleep(300.0)
        await host.conducting.journal.durable()

    path = tmp_path / "protocol.yaml"
    path.write_text(PROTOCOL, encoding="utf-8")
    ended = run_with_kills(path, tmp_path / "store", fate, away_s=120.0, bench=Path(bench))
    journal = ended.reader.journal
    (gap,) = [each.data for each in journal if each.kind == "gap"]
    assert gap["charge_max_C"] > gap["charge_C"] > 0
    assert (gap["charge_min_C"] == 0) is one_way
    results = [each.data["results"] for each in journal if each.kind == "step ended"]
    counted_C = sum(each["charge_C"] for each in results)
    low_C, high_C = (
        counted_C - gap["charge_C"] + gap[bound] for bound in ("charge_min_C", "charge_max_C")
    )
    passed_C = ended.simulator.world.cell.passed_C
    assert low_C - 2e-3 < passed_C < high_C + 2e-3
