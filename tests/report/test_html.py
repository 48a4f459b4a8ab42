"""The report page: complete, harmless whatever the names are, and alone in the world."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from cellbench.report import render

Stored = Any  # the class StoredRun of conftest
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser would make of the page: texts, links, scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style" and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def data(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.scripts[0])
        return content


def page_of(stored: Stored) -> Page:
    return Page(render(stored.reader, stored.run, stored.dataset, stored.results))


@pytest.fixture(scope="module")
def page(ramp: Stored) -> Page:
    return page_of(ramp)


def test_a_simulated_run_says_so_first(page: Page) -> None:
    assert page.texts[0].startswith("SIMULATED: ")
    assert page.texts[1] == "SIMULATED BENCH, seed 7: no instrument was connected"


async def _short(script: Any) -> None:
    await script.enter("run started")
    step = await script.step("rest", "rest", "rest for 1 min", 60, duration_s=60.0)
    script.rows(step, [0.0] * 60, 0.0)
    await script.end("rest", "rest", 60)


def test_a_real_run_has_no_banner(make_run: Any) -> None:
    page = page_of(make_run(_short, simulated=False, analyses=()))
    assert "SIMULATED" not in page.text


def test_the_verdict_stands_in_the_words_of_its_analysis(page: Page) -> None:
    assert "last stable 1.5 mA/cm²" in page.text
    assert "irregular at 2 mA/cm²" in page.text
    assert "▲ irregular" in page.texts


def test_deviations_counts_and_safe_states_are_all_told(page: Page) -> None:
    assert "1 deviation 00:13:00 band ends at 1 MHz (asked for 7 MHz)" in page.text
    assert ": 3 missing, 0 late, 0 saturated, 0 stale." in page.text
    assert "✓ confirmed press: holds 393 N" in page.text
    assert "No warnings." in page.text


def test_conditions_name_cell_pressure_temperature_instruments_and_software(page: Page) -> None:
    assert "stack pressure 5.00 MPa on average" in page.text
    assert "temperature 25.00 °C on average" in page.text
    assert "pressed with 300 MPa" in page.text
    assert "EmStat4S" in page.texts
    assert "cellbench 0.1.0" in page.texts


def test_pressing_is_not_part_of_the_measured_pressure(page: Page) -> None:
    (told,) = re.findall(r"([\d.]+) to [\d.]+ MPa while the cell was measured", page.text)
    assert float(told) > 4.9


def test_a_trip_and_an_unconfirmed_safe_state_cannot_be_missed(
    make_run: Any, ramp_script: Any
) -> None:
    stored = make_run(
        ramp_script, state="stopped", reason="stack pressure: 12.4 MPa, above its limit of 12 MPa",
        trip=True, confirmed=False,
    )  # fmt: skip
    text = page_of(stored).text
    assert "Stopped at" in text
    assert "above its limit of 12 MPa" in text
    assert "✗ not confirmed press: holds 393 N" in text


def test_a_hostile_name_stays_text(make_run: Any) -> None:
    stored = make_run(_short, name=HOSTILE, analyses=())
    page = page_of(stored)
    assert page.tags.count("script") == 3  # data, library, our own
    assert not any("alert(1)" in script for script in page.scripts)
    assert any(HOSTILE in text for text in page.texts)


def test_data_cannot_end_their_script_element(make_run: Any) -> None:
    async def hostile(script: Any) -> None:
        await _short(script)
        step = await script.step(f"</script>{HOSTILE}", "eis", HOSTILE, 100)
        script.spectrum(step, 60.0, 284.0)
        await script.end(f"</script>{HOSTILE}", "eis", 100)

    page = page_of(make_run(hostile, analyses=()))
    assert "<" not in page.scripts[0]
    assert page.data["nyquist"]["spectra"][0]["label"] == f"</script>{HOSTILE}"


def test_nothing_is_loaded_from_anywhere(ramp: Stored, page: Page) -> None:
    html = render(ramp.reader, ramp.run, ramp.dataset, ramp.results)
    assert set(page.loads) <= {"#time", "data:,"}
    assert "link" in page.tags
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", html)


def test_the_protocol_is_shown_verbatim(page: Page) -> None:
    assert "# <b>verbatim</b> & all" in page.text


def test_every_step_is_listed_with_its_ending(ramp: Stored, page: Page) -> None:
    assert f"{len(ramp.dataset.steps)} steps as they ran" in page.text
    assert "current -0.02 mA/cm² for 20 min" in page.texts


def test_the_time_axis_has_every_quantity_and_names_every_half_cycle(page: Page) -> None:
    time = page.data["time"]
    assert [panel["name"] for panel in time["panels"]] == [
        "voltage", "current", "stack pressure", "temperature",
    ]  # fmt: skip
    assert time["unit"] == "h"
    kinds = [span["kind"] for span in time["spans"]]
    assert (kinds.count("plus"), kinds.count("minus"), kinds.count("eis")) == (13, 13, 14)
    assert time["spans"][1]["label"] == "0.02"
    assert all(len(panel["x"]) < 4200 for panel in time["panels"])


def test_the_extremes_survive_the_thinning(ramp: Stored, page: Page) -> None:
    voltage = [value for value in page.data["time"]["panels"][0]["y"] if value is not None]
    assert max(voltage) == pytest.approx(ramp.dataset.samples.voltage_V.max(), rel=1e-5)
    assert min(voltage) == pytest.approx(ramp.dataset.samples.voltage_V.min(), rel=1e-5)


def test_the_channel_is_not_drawn_across_a_spectrum(page: Page) -> None:
    voltage = page.data["time"]["panels"][0]
    gaps = [voltage["x"][index] for index, value in enumerate(voltage["y"]) if value is None]
    spectra = [span for span in page.data["time"]["spans"] if span["kind"] == "eis"][1:-1]
    assert len(gaps) >= len(spectra)
    assert all(any(span["from"] <= gap <= span["to"] for gap in gaps) for span in spectra)


def test_spectra_are_labelled_by_the_current_before_them_and_carry_fits(page: Page) -> None:
    nyquist = page.data["nyquist"]["spectra"]
    assert [one["label"] for one in nyquist[:2]] == [
        "before the first current", "after 0.02 mA/cm²",
    ]  # fmt: skip
    first = nyquist[0]
    assert first["re"][0] == pytest.approx(first["fit_re"][0], rel=0.01)
    assert min(first["fit_im"]) > -1


def test_levels_carry_their_verdicts(page: Page) -> None:
    voltage, resistance = page.data["curves"][0]
    verdicts = {curve["label"]: curve for curve in voltage["curves"]}
    assert verdicts["irregular"]["x"] == [2.0]
    assert verdicts["soft short"]["tone"] == "warn-fill"
    assert resistance["y"]["label"] == "apparent ASR / Ω cm²"
    assert len(verdicts[""]["x"]) == sum(len(one["x"]) for one in verdicts.values()) / 2


def test_a_blocking_spectrum_says_what_its_band_does_not_identify(make_run: Any) -> None:
    async def spectrum(script: Any) -> None:
        await _short(script)
        step = await script.step("eis", "eis", "spectrum", 100)
        script.spectrum(step, 60.0, 284.0)
        await script.end("eis", "eis", 100)

    page = page_of(make_run(spectrum, analyses=("conductivity",)))
    assert "Conductivity in detail" in page.texts
    assert "not identified" in page.texts
    assert any(re.fullmatch(r"0\.\d+ ± 0\.\d+", text) for text in page.texts)


def test_a_report_of_nine_hours_stays_small(ramp: Stored) -> None:
    html = render(ramp.reader, ramp.run, ramp.dataset, ramp.results)
    assert len(ramp.dataset.samples) > 30_000
    assert len(html.encode()) < 1_500_000


def test_the_plotting_library_is_the_one_that_was_pinned() -> None:
    static = files("cellbench.report") / "static"
    table = (static / "README.md").read_text(encoding="utf-8")
    pinned = re.findall(r"\| `(uPlot[\w.]+)` \| `([0-9a-f]{64})` \|", table)
    assert len(pinned) == 3
    for name, checksum in pinned:
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == checksum


def test_a_blocking_spectrum_is_framed_where_its_spike_begins(make_run: Any) -> None:
    async def spectrum(script: Any) -> None:
        await _short(script)
        step = await script.step("eis", "eis", "spectrum", 100)
        script.spectrum(step, 60.0, 284.0, spike=True)
        await script.end("eis", "eis", 100)

    stored = make_run(spectrum, analyses=())
    blocking = replace(stored.dataset.geometry, layout="blocking")
    stored = replace(stored, dataset=replace(stored.dataset, geometry=blocking))
    (drawn,) = page_of(stored).data["nyquist"]["spectra"]
    assert drawn["spike_beyond"] == pytest.approx(344, rel=0.05)


def test_another_card_than_the_runs_own_is_named(ramp: Stored) -> None:
    corrected = replace(ramp.dataset.geometry, electrolyte_thickness_m=5e-4)
    stored = replace(ramp, dataset=replace(ramp.dataset, geometry=corrected))
    assert "0.5 mm thick; not the card of the run" in page_of(stored).text
    assert "not the card of the run" not in page_of(ramp).text


def test_a_run_that_failed_before_it_measured_has_a_report_too(make_run: Any) -> None:
    async def nothing(script: Any) -> None:
        await script.enter("run started")

    page = page_of(make_run(nothing, state="failed", reason="potentiostat: silent", analyses=()))
    assert "Failed: potentiostat: silent." in page.text
    assert "Nothing was measured." in page.text
    assert "Critical current density No result:" in page.text
    assert page.data["time"]["panels"] == []
    assert page.data["nyquist"]["spectra"] == []
