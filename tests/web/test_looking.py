"""What the API tells of a run that is over, against the run's own file; and what it refuses."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from cellbench.store import RunReader
from cellbench.web.report_policy import report_policy

from .client import Browser

pytestmark = pytest.mark.long

CHANNEL = "potentiostat"


def curves(browser: Browser, query: str = "") -> dict[str, dict[str, Any]]:
    found = browser.json(f"/api/runs/last/traces{query}")
    return {each["source"]: each for each in found["sources"]}


def test_the_run_is_listed_with_all_that_a_card_shows(vera: Browser, reader: RunReader) -> None:
    (found,) = vera.json("/api/runs")["runs"]
    assert found["run"] == reader.path.stem
    assert found["protocol"] == "Two cycles <b>&amp;</b>"
    assert found["state"] == "completed"
    assert found["verdict"] == "every step has ended"
    assert found["progress"] == 1.0
    assert found["simulated"] is True
    assert 30 < len(found["spark"]) <= 60


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("text=two+CYCLES", 1),
        ("text=LYC", 1),
        ("text=%25", 0),
        ("text=nothing", 0),
        ("state=completed", 1),
        ("state=failed", 0),
        ("state=lost", 0),
        ("cell=LYC_PMMA&limit=1", 1),
        ("cell=LYC", 0),
        ("protocol=Two+cycles+%3Cb%3E%26amp%3B%3C%2Fb%3E", 1),
        ("before=last", 0),
    ],
)
def test_runs_are_searched(vera: Browser, query: str, count: int) -> None:
    assert len(vera.json(f"/api/runs?{query}")["runs"]) == count


def test_one_run_is_told_whole(vera: Browser, reader: RunReader) -> None:
    vera.json("/api/runs/last/protocol")  # which waits for the program to be made
    found = vera.json("/api/runs/last")
    assert found["actions"] == []
    assert found["prompt"] is None
    assert found["identities"].keys() == {"potentiostat", "press", "load cell", "chamber"}
    assert [each["name"] for each in found["analyses"]] == ["interface_resistance"]
    assert {each["quantity"] for each in found["limits"]} >= {"voltage", "current"}
    tops = {node["path"]: node for node in found["program"]}
    assert list(tops) == ["press", "eis", "cycle[1]", "cycle[2]", "rest"]
    assert tops["cycle[2]"]["text"] == "cycle, pass 2"
    inner = [node["path"] for node in tops["cycle[2]"]["children"]]
    assert inner == ["cycle[2]/current", "cycle[2]/current_2"]
    assert {node["state"] for node in found["program"]} == {"done"}


def test_curves_are_what_was_measured(vera: Browser, reader: RunReader) -> None:
    samples = reader.samples(CHANNEL)
    found = curves(vera, "?points=20000")[CHANNEL]
    assert found["thinned"] is False
    assert found["rows_in_range"] == len(samples["time_s"])
    drawn = [
        (time, value)
        for time, value in zip(
            found["columns"]["time_s"], found["columns"]["voltage_V"], strict=True
        )
        if value is not None
    ]
    order = np.argsort(samples["time_s"], kind="stable")
    assert [time for time, _ in drawn] == pytest.approx(samples["time_s"][order].tolist())
    assert [value for _, value in drawn] == pytest.approx(
        samples["voltage_V"][order].tolist(), rel=1e-6
    )


def test_every_quantity_comes_from_its_own_instrument(vera: Browser) -> None:
    found = {source: set(each["columns"]) for source, each in curves(vera).items()}
    assert found == {
        CHANNEL: {"time_s", "voltage_V", "current_A"},
        "load cell": {"time_s", "stack_pressure_Pa"},
        "chamber": {"time_s", "temperature_K"},
    }
    pressures = curves(vera, "?columns=stack_pressure_Pa")["load cell"]["columns"]
    assert max(pressures["stack_pressure_Pa"]) == pytest.approx(5e6, rel=0.05)


def test_the_background_of_curves_tells_which_way_the_current_went(vera: Browser) -> None:
    spans = vera.json("/api/runs/last/traces")["spans"]
    assert [span["kind"] for span in spans] == ["eis", "plus", "minus", "plus", "minus"]
    assert {span["label"] for span in spans[1:]} == {"0.1"}
    assert all(span["to"] - span["from"] == pytest.approx(300, abs=2) for span in spans[1:])
    assert vera.json("/api/runs/last/traces?from_s=1e6&to_s=2e6")["spans"] == []


def test_thinned_curves_keep_the_extremes(vera: Browser, reader: RunReader) -> None:
    voltage_V = reader.samples(CHANNEL)["voltage_V"]
    found = curves(vera, "?points=100&columns=voltage_V")
    values = [each for each in found[CHANNEL]["columns"]["voltage_V"] if each is not None]
    assert found[CHANNEL]["thinned"] is True
    assert len(values) <= 110
    assert max(values) == pytest.approx(np.nanmax(voltage_V), rel=1e-6)
    assert min(values) == pytest.approx(np.nanmin(voltage_V), rel=1e-6)


@pytest.mark.parametrize(
    "query",
    ["columns=secret", "points=1", "points=1e9", "from_s=x", "from_s=nan", "to_s=inf", "to_s=1e99"],
)
def test_a_query_that_makes_no_sense_is_refused(vera: Browser, query: str) -> None:
    answer = vera.get(f"/api/runs/last/traces?{query}")
    assert answer.status == 422
    assert answer.error


def test_the_journal_is_read_in_pages(vera: Browser, reader: RunReader) -> None:
    read: list[dict[str, Any]] = []
    after: int | None = -1
    while after is not None:
        page = vera.json(f"/api/runs/last/journal?after={after}&limit=7")
        read += page["entries"]
        after = page["next"]
    assert [each["number"] for each in read] == [entry.seq for entry in reader.journal]
    assert [each["kind"] for each in read] == [entry.kind for entry in reader.journal]
    started = next(each for each in read if each["kind"] == "step started")
    assert "5 MPa" in started["text"]
    newest = vera.json("/api/runs/last/journal?limit=3")["entries"]
    assert newest == read[-3:]


def test_the_protocol_is_as_it_was_run(vera: Browser, reader: RunReader) -> None:
    found = vera.json("/api/runs/last/protocol")
    assert found["text"] == reader.documents["protocol"]
    assert "rest: 1 min" in found["text"].splitlines()[found["line"] - 1]


def test_cycles_and_spectra_are_those_of_the_analyses(vera: Browser) -> None:
    found = vera.json("/api/runs/last/cycles")["cycles"]
    assert [each["cycle"] for each in found] == [1, 2]
    for each in found:
        assert each["charge_C"] == pytest.approx(1e-4 * 1e-3 * 785.4 * 300, rel=0.01)
        assert each["efficiency"] == pytest.approx(1, rel=0.01)
    drawn = vera.json("/api/runs/last/spectra")
    assert len(drawn["spectra"]) == 1
    assert len(drawn["spectra"][0]["frequency"]) == 26
    assert drawn["table"]["rows"]
    (said,) = vera.json("/api/runs/last/analyses")["analyses"]
    assert said["title"] == "Interface resistance"
    assert said["lines"]


def test_the_report_runs_its_own_scripts_and_nothing_else(vera: Browser) -> None:
    answer = vera.get("/api/runs/last/report")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert policy == report_policy()
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; script-src 'sha256-")
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    html = answer.body.decode()
    assert "Two cycles &lt;b&gt;&amp;amp;&lt;/b&gt;" in html
    assert "<b>&amp;</b>" not in html


@pytest.mark.parametrize(
    "name",
    [
        "none", "..", "../catalogue", "..%2fcatalogue", "..%5c..%5ccatalogue", "%2e%2e%2f%2e%2e",
        "/etc/passwd", "%00", "last%00", "x" * 3000, "%ff%fe", "' OR 1=1 --", "*", "%25",
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", ["", "/traces", "/journal", "/report", "/protocol", "/events"])
def test_no_name_leads_out_of_the_store(vera: Browser, name: str, part: str) -> None:
    answer = vera.get(f"/api/runs/{quote(name, safe='%/')}{part}")
    assert answer.status in {404, 405}
    assert b"root:" not in answer.body
    assert "error" in answer.json()


@pytest.mark.parametrize("name", ["..%2f..%2fpyproject", "cells/LYC", "%00", "/etc/passwd"])
def test_no_name_leads_out_of_the_library(vera: Browser, name: str) -> None:
    assert vera.get(f"/api/protocols/{name}").status == 404
    assert vera.get(f"/static/{name}").status in {400, 404}


def test_the_library_is_told(vera: Browser) -> None:
    names = {each["name"] for each in vera.json("/api/protocols")["protocols"]}
    assert {"ccd", "formation"} <= names
    assert "current_densities" not in vera.json("/api/protocols/ccd")["text"][:10]
    assert vera.json("/api/protocols/ccd")["text"].startswith("cellbench: 1")
    assert "LYC_PMMA" in vera.json("/api/cells")["cells"]


def test_the_api_describes_itself_without_anything_from_elsewhere(server: Browser) -> None:
    described = server.json("/api/openapi.json")
    assert "/api/runs/{run}/traces" in described["paths"]
    assert server.get("/docs").status == 404
    assert server.get("/redoc").status == 404


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/runs/last", "/runs/last/report", "/compare?runs=last", "/protocols",
             "/protocols/ccd", "/check", "/sign-in"]
)  # fmt: skip
def test_every_page_is_there_and_asks_nothing_of_the_network(vera: Browser, path: str) -> None:
    answer = vera.get(path)
    assert answer.status == 200
    html = answer.body.decode()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    assert "<script>" not in html
    assert "style=" not in html
