"""Runs under way, seen and steered from a browser: what is done there is done on the bench."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.processes import ServedBench

pytest.importorskip("playwright.sync_api", reason="there is no playwright")

from playwright.sync_api import Page, expect
from tests.web.browser.lab import PASSWORD, Desk, Lab, Running, picture, wait_for

pytestmark = pytest.mark.long

CYCLING = """
cellbench: 1
name: A night of cycles
cell: LYC_PMMA
limits: {voltage: -1 V to 1 V, stack pressure: at most 12 MPa}
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - eis: {from: 1 MHz, to: 10 Hz, points: 10 per decade, amplitude: 10 mV}
  - repeat: 500
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 4 min}
      - current: {at: -0.1 mA/cm2, for: 4 min}
      - rest: 1 min
"""
BY_HAND = """
cellbench: 1
name: Pressed by hand
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s}
  - current: {at: 0.1 mA/cm2, for: 10 h}
"""
STEP = re.compile(r"cycle\[\d+\]")


@pytest.fixture(scope="module")
def cycling(lab: Lab) -> Running:
    """A run at a minute per second."""
    return lab.run(CYCLING, "--speed", "60")


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def test_who_signs_in_sees_the_cells_and_what_they_do(desk: Desk, cycling: Running) -> None:
    desk.tolerated.append("401")
    page = desk.open("/runs?text=night", user=None)
    expect(page).to_have_title("Sign in · cellbench")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("wrong")
    button(page, "Sign in")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    button(page, "Sign in")
    expect(page.get_by_role("link", name=cycling.id)).to_be_visible()  # where one was going
    page.get_by_role("link", name="Overview").click()
    card = page.get_by_role("article").filter(has_text=cycling.id)
    expect(card.get_by_text("running")).to_be_visible()
    expect(card.locator(".values")).to_contain_text(
        re.compile("voltage\N{MINUS SIGN}?0\\.[0-9]{4} V")
    )
    expect(card.locator(".values")).to_contain_text("mA/cm²")
    expect(card.locator(".course")).to_contain_text("ends by")
    expect(card.locator(".step")).to_contain_text(STEP)
    card.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("LYC_PMMA")


def test_curves_steps_and_journal_follow_a_run_at_60_times(desk: Desk, cycling: Running) -> None:
    page = desk.open(f"/runs/{cycling.id}")
    expect(page.locator("#traces canvas")).to_have_count(4)
    hint = page.locator("#traces .tools output")
    expect(hint).to_contain_text("samples")
    before = hint.inner_text()
    expect(hint).not_to_have_text(before)  # nobody has asked
    expect(page.locator("#program [aria-current=step]")).to_contain_text(re.compile("current|rest"))
    expect(page.locator("#protocol li.now code")).to_have_text(re.compile("current|rest"))
    expect(page.locator("#journal")).to_contain_text("spectrum")
    expect(page.locator("#spectra canvas")).to_have_count(1)
    expect(page.locator("#facts")).to_contain_text("at most 12 MPa")
    expect(page.get_by_role("note")).to_contain_text("SIMULATED")
    picture(page, "run", 1150)
    page.emulate_media(color_scheme="dark")
    picture(page, "phone", 844, 390)


def test_an_operator_pauses_a_run_and_lets_it_go_on(desk: Desk, cycling: Running) -> None:
    page = desk.open(f"/runs/{cycling.id}")
    button(page, "Pause")
    page.get_by_label("Reason").fill("topping up the press")
    picture(page, "dialog")
    confirm(page, "Pause")
    expect(page.locator("h1 .chip")).to_have_text("held")
    expect(page.locator("#journal")).to_contain_text("paused by anna")
    expect(page.locator("#now .needs")).to_contain_text("topping up the press")
    wait_for(lambda: any("paused by anna" in text for text in cycling.texts("command")), "paused")
    button(page, "Continue")
    confirm(page, "Continue")
    expect(page.locator("h1 .chip")).to_have_text("running")
    assert any("continued by anna" in text for text in cycling.texts("command"))


def test_who_thinks_better_of_it_changes_nothing(desk: Desk, cycling: Running) -> None:
    page = desk.open(f"/runs/{cycling.id}")
    button(page, "Abort")
    expect(page.get_by_role("dialog")).to_contain_text("open circuit")
    confirm(page, "Cancel")
    button(page, "Emergency stop")
    expect(page.get_by_role("dialog").get_by_role("button", name="Emergency stop")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto("/")
    expect(page.get_by_role("article")).to_have_count(1)
    button(page, "Emergency stop")
    expect(page.get_by_role("dialog")).to_contain_text(cycling.id)
    confirm(page, "Cancel")
    assert cycling.process.poll() is None
    assert not any("abort" in text for text in cycling.texts("command"))


def test_a_viewer_sees_all_and_can_do_nothing(desk: Desk, cycling: Running) -> None:
    page = desk.open(f"/runs/{cycling.id}", user="vera")
    expect(page.locator("#traces canvas")).to_have_count(4)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    expect(page.get_by_role("button", name="Emergency stop")).to_have_count(0)
    token = page.locator('meta[name="csrf-token"]').get_attribute("content") or ""
    refused = page.request.post(
        f"/api/runs/{cycling.id}/abort", data={"confirm": True},
        headers={"X-CSRF-Token": token, "Origin": desk.lab.url},
    )  # fmt: skip
    assert refused.status == 403
    assert cycling.process.poll() is None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ServedBench]:
    """A bench in another process, with a press that a person works, and an onlooker there."""
    made = ServedBench(tmp_path, "LYC_PMMA", 1)
    instruments = made.description["instruments"]
    instruments["press"] = {"driver": "manual_press", "port": "none", "capacity": "5 kN"}
    del instruments["load cell"]
    made.write()
    yield made
    made.close()


def test_a_prompt_is_answered_and_the_emergency_stop_opens_the_cell(
    desk: Desk, bench: ServedBench
) -> None:
    run = desk.lab.run(BY_HAND, "--bench", str(bench.file))
    page = desk.open()
    card = page.get_by_role("article").filter(has_text=run.id)
    expect(card.locator(".needs")).to_contain_text("Press by hand to 5 MPa on the cell = 0.39")
    picture(page, "overview", 720)
    card.get_by_role("link").click()
    expect(page.locator("#prompt")).to_contain_text("Then type what it shows")
    picture(page, "prompt")
    page.get_by_label("Answer").fill("0.393 kN")
    button(page, "Answer")
    expect(page.locator("#prompt")).to_be_hidden()
    wait_for(lambda: bench.now.current_A != 0, "no current flows")
    assert any("answered by anna" in text for text in run.texts("command"))

    button(page, "Emergency stop")
    confirm(page, "Emergency stop")
    wait_for(lambda: bench.now.current_A == 0, "current flows on")
    expect(page.locator("h1 .chip")).not_to_have_text("running")
    expect(page.locator("#prompt")).to_contain_text("Unload the press by hand")
    page.get_by_label("Answer").fill("0 kN")
    button(page, "Answer")
    run.process.wait(timeout=60)
    assert bench.settle().current_A == 0
    assert any("emergency stop" in entry.text for entry in run.journal)


def test_a_lost_connection_is_said_and_values_look_old(desk: Desk, cycling: Running) -> None:
    page = desk.open(f"/runs/{cycling.id}")
    expect(page.locator("#now .values")).to_be_visible()
    desk.tolerated += ["net::ERR_", "401"]
    desk.lab.stop_server()
    expect(page.locator("#connection")).to_have_text(
        re.compile(r"Connection lost\. Last values \d+ s old\.")
    )
    expect(page.locator("body")).to_have_class("unfed")
    desk.lab.start_server()
    expect(page).to_have_url(re.compile("/sign-in"))  # a new server knows no session
    assert cycling.process.poll() is None
