"""All pages: readable by everybody, on a phone, by keyboard alone; what people type stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tests.faults.processes import ServedBench

pytest.importorskip("playwright.sync_api", reason="there is no playwright")
pytest.importorskip("axe_playwright_python", reason="there is no axe")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.web.browser.lab import Desk, Lab, Running, picture, wait_for

from cellbench import library

pytestmark = pytest.mark.long

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
NAME = json.dumps(EVIL)
#: Cell, protocol, prompt and step are all named by who wants to be run as a script.
PROTOCOL = f"""
cellbench: 1
name: {NAME}
# {EVIL}
cell: evil.yaml
steps:
  - press: {{to: 5 MPa, ramp: 1 MPa/s, settle: {{within: 0.3 MPa, for: 2 s}}}}
  - repeat: 2
    name: cycle
    steps:
      - current: {{at: 0.1 mA/cm2, for: 10 s}}
      - current: {{at: -0.1 mA/cm2, for: 10 s}}
  - prompt: {{ask: {NAME}, choices: ["<b>yes</b>", "no"]}}
  - rest: 10 h
"""
PATHS = (
    "/", "/runs", "/runs/{run}", "/runs/{run}/report", "/compare?runs={run}", "/protocols",
    "/protocols/ccd", "/check?protocol=ccd", "/sign-in",
)  # fmt: skip
#: In other colours, and with most of them.
DARK = ("/", "/runs", "/runs/{run}", "/check?protocol=ccd")


@pytest.fixture(scope="module")
def bench(lab: Lab) -> Iterator[ServedBench]:
    """A bench in another process: nobody simulated answers what is asked there."""
    made = ServedBench(lab.directory, "LYC_PMMA", 1, speed=5)
    yield made
    made.close()


@pytest.fixture(scope="module")
def evil(lab: Lab, bench: ServedBench) -> Running:
    """A run whose every name is an attack; it asks."""
    card = library.shipped_card("LYC_PMMA").read_text("utf-8")
    card = re.sub(r"^cell: .*", lambda _: f"cell: {NAME}", card, flags=re.MULTILINE)
    (lab.directory / "evil.yaml").write_text(card, encoding="utf-8")
    run = lab.run(PROTOCOL, "--bench", str(bench.file))
    wait_for(lambda: run.texts("prompt"), "nothing is asked")
    return run


def settled(page: Page) -> None:
    """Wait for what pages fetch when they are opened."""
    page.locator("main :is(.card, td, li, canvas, iframe, textarea, input)").first.wait_for()


@pytest.mark.parametrize(
    ("path", "scheme"),
    [*((path, "light") for path in PATHS), *((path, "dark") for path in DARK)],
)
def test_axe_finds_nothing(desk: Desk, evil: Running, path: str, scheme: str) -> None:
    page = desk.open(path.format(run=evil.id), color_scheme=scheme)
    settled(page)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["target"]) for each in found] == []


@pytest.mark.parametrize("path", PATHS)
def test_pages_fit_a_phone(desk: Desk, evil: Running, path: str) -> None:
    page = desk.open(path.format(run=evil.id), viewport={"width": 390, "height": 844})
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if path != "/sign-in":
        stop = page.get_by_role("button", name="Emergency stop")
        box = stop.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390


def test_names_prompts_and_notes_of_an_attacker_are_text(desk: Desk, evil: Running) -> None:
    page = desk.open()
    card = page.get_by_role("article").filter(has_text=evil.id)
    expect(card.get_by_role("heading")).to_have_text(EVIL)
    expect(card.locator(".needs")).to_contain_text(EVIL)
    card.get_by_role("link").click()
    expect(page.locator("#prompt-text")).to_have_text(EVIL)
    page.get_by_role("button", name="Note").click()
    page.get_by_role("dialog").get_by_label("Note").fill(EVIL)
    page.get_by_role("dialog").get_by_role("button", name="Note").click()
    expect(page.locator("#journal .human").first).to_contain_text(EVIL)
    expect(page.locator("#protocol")).to_contain_text(EVIL)
    page.goto("/runs")
    expect(page.get_by_role("cell", name=EVIL).first).to_be_visible()
    page.goto(f"/runs?text={EVIL}")
    expect(page.get_by_label("Text")).to_have_value(EVIL)
    assert page.locator("img").count() == 0
    assert page.title() != "owned"


def test_everything_is_done_by_keyboard_alone(desk: Desk, evil: Running) -> None:
    page = desk.open(f"/runs/{evil.id}")
    expect(page.locator("#traces canvas").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Pause":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("!document.activeElement || document.activeElement === document.body"
                             " || !!document.activeElement.closest('dialog')")  # fmt: skip
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Pause")).to_be_focused()


def test_mistakes_in_a_pasted_text_stand_at_their_lines(desk: Desk) -> None:
    page = desk.open("/protocols")
    page.get_by_role("link", name="Critical current density").click()
    expect(page.get_by_label("ccd")).to_contain_text("analyses: [ccd]")
    page.get_by_role("link", name="Check and plan it").click()
    text = page.get_by_label("Protocol", exact=True)
    expect(text).to_have_value(re.compile("amplitude: 10 mV"))
    wrong = text.input_value().replace("amplitude: 10 mV", "amplitude: 10 mA")
    text.fill(wrong)
    page.get_by_role("button", name="Check").click()
    marked = page.locator("li.wrong")
    expect(marked).to_have_count(1)
    expect(marked.locator("code")).to_contain_text("amplitude: 10 mA")
    picture(page, "check", 1100)
    marked.click()  # puts the caret there
    line = text.evaluate("field => field.value.slice(0, field.selectionStart).split('\\n').length")
    assert "10 mA" in wrong.split("\n")[line - 1]
    text.fill(wrong.replace("10 mA,", "10 mV,"))
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("heading", name="No mistake found")).to_be_visible()
    plan = page.get_by_role("region", name="Plan")
    expect(plan.get_by_role("row").nth(1)).to_contain_text("press to 5 MPa")


def test_who_signs_out_is_out(desk: Desk) -> None:
    page = desk.open("/sign-in", user=None)
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill("a password of some length")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in$"))
    page.goto("/runs")
    expect(page).to_have_url(re.compile("/sign-in"))
