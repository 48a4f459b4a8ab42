"""Curves of a million samples: light at first, single samples after a zoom; several runs."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cellbench.store import RunReader, RunWriter, SampleRow, Store

pytest.importorskip("playwright.sync_api", reason="there is no playwright")

from playwright.sync_api import Page, Response, expect
from tests.web.browser.lab import Desk, Lab, picture

pytestmark = pytest.mark.long

PROTOCOL = """
cellbench: 1
name: Three cycles
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - repeat: 3
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 20 min}
      - current: {at: -0.1 mA/cm2, for: 20 min}
"""
SAMPLES, EVERY_S = 1_000_000, 0.5
#: One sample is different.
SPIKE, SPIKE_V = 612_345, 4.0
CURVES_MOST = 200_000
TRACES = re.compile(r"/traces\?")


@pytest.fixture(scope="module")
def cycled(lab: Lab) -> Sequence[str]:
    """Two short runs that have ended."""
    runs = [lab.run(PROTOCOL, "--seed", seed) for seed in ("1", "2")]
    for run in runs:
        run.process.communicate(timeout=60)
    return [run.id for run in runs]


@pytest.fixture(scope="module")
def million(lab: Lab, cycled: Sequence[str]) -> str:
    """A run of a million samples of its channel, with the documents of another."""
    with Store(lab.store) as store:
        documents = dict(RunReader(store.run_path(cycled[0])).documents)
        run = store.register(
            protocol="A long one", cell="LYC_PMMA", bench="b", simulated=True, seed=None
        )
        # Playwright's loop is the running one of this thread.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, written(store.run_path(run.id), documents)).result()
        store.finish(run, "completed", "every step has ended")
        return run.id


async def written(path: Path, documents: dict[str, str]) -> None:
    writer = RunWriter(path, durable=False)
    await writer.add_documents(documents)
    writer.add_step(1, "rest", "rest")
    for first in range(0, SAMPLES, 50_000):
        writer.add_samples([sample(row) for row in range(first, first + 50_000)])
        await writer.flush()
    await writer.close()


def sample(row: int) -> SampleRow:
    voltage_V = SPIKE_V if row == SPIKE else 3.0 + 0.5 * math.sin(row / 20_000)
    current_A = 1e-3 * math.cos(row / 20_000)
    return (row * EVERY_S, "potentiostat", 1, voltage_V, current_A, 0.0, None, None, 0, None)


def drag(page: Page, from_s: float, to_s: float, shown: Sequence[float]) -> Sequence[float]:
    """Drag over a part of the curves; returns what is shown then, the server being asked anew."""
    box = page.locator("#traces .u-over").first.bounding_box()
    assert box is not None

    def at(time_s: float) -> float:
        return box["x"] + box["width"] * (time_s - shown[0]) / (shown[1] - shown[0])

    with page.expect_response(TRACES) as answer:
        page.mouse.move(at(from_s), box["y"] + 30)
        page.mouse.down()
        page.mouse.move(at(to_s), box["y"] + 60, steps=4)
        page.mouse.up()
    asked = parse_qs(urlsplit(answer.value.url).query)
    return float(asked["from_s"][0]), float(asked["to_s"][0])


def test_runs_are_found_ticked_and_compared(desk: Desk, cycled: Sequence[str]) -> None:
    page = desk.open("/runs")
    page.get_by_label("Text").fill("Three")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row")).to_have_count(3)
    for run in cycled:
        page.get_by_label(f"Compare {run}").check()
    page.get_by_role("link", name="Compare 2 runs").click()
    expect(page.locator("#runs li")).to_have_count(2)
    expect(page.locator("#traces canvas")).to_have_count(4)
    expect(page.locator("#cycles canvas")).to_have_count(1)
    page.locator("#traces .u-over").first.hover(position={"x": 300, "y": 40})
    output = page.locator("#traces .plot-head output").first
    for run in cycled:
        expect(output).to_contain_text(f"{run}: ")
    picture(page, "compare", 1000)


def test_a_run_that_has_ended_shows_cycles_findings_and_its_report(
    desk: Desk, cycled: Sequence[str]
) -> None:
    page = desk.open(f"/runs/{cycled[0]}")
    expect(page.get_by_role("region", name="Table: Cycles").get_by_role("row")).to_have_count(4)
    expect(page.locator("#now")).to_contain_text("every step has ended")
    page.get_by_text("cycle, pass 2").click()
    expect(page.locator("#program")).to_contain_text("current -0.1 mA/cm² (-78.54 uA) for 20 min")
    expect(page.locator("#actions button")).to_have_count(0)
    page.get_by_role("link", name="Report").click()
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", level=1)).to_have_text("Three cycles")
    expect(report.locator("#time-plot canvas")).to_have_count(4)


def test_a_million_samples_are_zoomed_down_to_single_ones(desk: Desk, million: str) -> None:
    answers: list[Response] = []
    page = desk.open("/runs")
    page.on("response", lambda answer: answers.append(answer) if "/traces?" in answer.url else None)
    page.goto(f"/runs/{million}")
    hint = page.locator("#traces .tools output")
    expect(hint).to_contain_text("1 000 000 samples, drawn by their extremes")
    assert len(answers[0].body()) < CURVES_MOST
    assert SPIKE_V in voltages(answers[0])  # no spike is lost by thinning
    shown: Sequence[float] = (0.0, (SAMPLES - 1) * EVERY_S)
    spike_s = SPIKE * EVERY_S
    for width_s in (20_000.0, 500.0, 10.0):
        shown = drag(page, spike_s - width_s / 2, spike_s + width_s / 2, shown)
    expect(hint).to_have_text(re.compile(r"^\d+(\.\d)? s, (19|20|21|22) samples, each drawn"))
    assert sorted(voltages(answers[-1]))[-2:] == [pytest.approx(3.0, abs=0.51), SPIKE_V]
    picture(page, "zoom")
    page.get_by_role("button", name="back to what was shown before").click()
    expect(hint).to_contain_text("8 min")
    page.locator("#traces").get_by_role("button", name="closer").press("Backspace")
    expect(hint).to_contain_text(re.compile(r"5 h 3\d min"))
    page.keyboard.press("0")
    expect(hint).to_contain_text("1 000 000 samples")


def voltages(answer: Response) -> list[float]:
    found: list[dict[str, Any]] = answer.json()["sources"]
    return [value for value in found[0]["columns"]["voltage_V"] if value is not None]


def test_curves_are_moved_and_read_off_together(desk: Desk, million: str) -> None:
    page = desk.open(f"/runs/{million}")
    expect(page.locator("#about")).to_contain_text("A long one")
    expect(page.locator("#traces canvas")).to_have_count(2)
    page.locator("#traces .u-over").first.hover(position={"x": 200, "y": 40})
    for output in page.locator("#traces .plot-head output").all():
        expect(output).to_have_text(re.compile(r"(V|mA/cm²) at \d\d:\d\d:\d\d"))
    page.get_by_role("button", name="last hour").click()
    hint = page.locator("#traces .tools output")
    expect(hint).to_contain_text("1 h, 7 20")
    with page.expect_response(re.compile(r"/traces\?.*from_s")) as moved:
        page.get_by_role("button", name="earlier").click()
    assert moved.value.ok
