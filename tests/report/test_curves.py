"""Every analysis is drawn the way its field draws it, from runs as they lie in the store."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellbench.analysis.dataset import (
    ComplexArray,
    Dataset,
    FloatArray,
    Geometry,
    Samples,
    Spectrum,
    StepData,
)
from cellbench.report import render
from cellbench.report.curves import Axis, Curve, Plot, spread, thin
from cellbench.report.drawers import DRAWERS, plots_of
from cellbench.report.numbers import numbers_table
from cellbench.report.spectra import colours
from cellbench.report.tables import MOST_ROWS, result_tables
from cellbench.report.wording import DASH, MINUS, with_error

pytestmark = pytest.mark.long

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AREA_M2 = np.pi / 4 * 0.01**2
CYCLING = (
    "capacity", "coulombic_efficiency", "retention", "rate_table", "dq_dv", "resistance_growth",
    "pressure_breathing", "self_discharge", "distribution_of_relaxation_times", "leakage",
)  # fmt: skip


class Cycling:
    """Six cycles at two rates with holds, rests and spectra."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rows: list[tuple[Any, Any, Any]] = []
        self.steps: list[StepData] = []
        self.spectra: list[Spectrum] = []

    def step(
        self, kind: str, lasts_s: float, start_V: float, end_V: float, current_A: float
    ) -> None:
        t = np.arange(20.0, lasts_s + 10, 20.0)
        knee = 0.5 * (t / lasts_s) + 0.5 / (1 + np.exp(-12 * (t / lasts_s - 0.5)))
        tail = np.exp(-t / 600) if kind == "hold" else np.ones(len(t))
        self.rows.append((self.now_s + t, start_V + (end_V - start_V) * knee, current_A * tail))
        settings = {"current_A": current_A} if kind in {"charge", "discharge"} else {}
        path = f"repeat[{len(self.steps)}]/{kind}"
        self.steps.append(StepData(path, kind, self.now_s, self.now_s + t[-1], settings, "cut-off"))
        self.now_s += float(t[-1])

    def eis(self, transfer_ohm: float) -> None:
        f = np.geomspace(1e6, 0.1, 61)
        s = 2j * np.pi * f
        z = 60 + transfer_ohm / (1 + (s * transfer_ohm * 5e-5) ** 0.9) + 1 / (0.3 * s**0.5)
        path = f"repeat[{len(self.steps)}]/eis"
        self.spectra.append(Spectrum(self.now_s + 1, path, f, z))
        self.steps.append(StepData(path, "eis", self.now_s, self.now_s + 120))
        self.now_s += 120

    def build(self) -> Dataset:
        for cycle, set_A in enumerate((1e-4, 1e-4, 4e-4, 4e-4, 1e-4, 1e-4)):
            lasts_s = 3.6 * (1 - 0.02 * cycle) / set_A
            self.step("charge", lasts_s, 2.2, 3.6, set_A)
            self.step("hold", 3600, 3.6, 3.6, set_A)
            self.step("discharge", lasts_s, 3.6, 2.2, -set_A)
            self.step("rest", 3600, 2.3, 2.4, 0.0)
            self.eis(80 + 20 * cycle)
        time_s, voltage_V, current_A = (
            np.concatenate(column) for column in zip(*self.rows, strict=True)
        )
        geometry = Geometry(AREA_M2, "full", counter_potential_V=0.62)
        steps, spectra = tuple(self.steps), tuple(self.spectra)
        return Dataset(geometry, steps, Samples(time_s, voltage_V, current_A), spectra, "cycling")


@pytest.fixture(scope="module")
def cycling(replayed: Any) -> Any:
    return replayed(Cycling().build(), CYCLING)


@pytest.fixture(scope="module")
def html(cycling: Any) -> str:
    return render(cycling.reader, cycling.run, cycling.dataset, cycling.results)


def drawn(cycling: Any, name: str) -> list[dict[str, Any]]:
    return plots_of(name, cycling.dataset, cycling.results[name])


def test_the_card_gives_mass_nominal_capacity_and_reference(cycling: Any) -> None:
    sizes = cycling.dataset.geometry
    assert sizes.active_mass_kg == pytest.approx(4.885e-6, rel=1e-3)
    assert sizes.nominal_capacity_C == pytest.approx(0.8793e-3 * 3600, rel=1e-3)
    assert sizes.potential_V(3.0) == pytest.approx(3.62)
    assert sizes.reference == "vs Li+/Li"


def test_capacity_and_efficiency_stand_against_the_cycle(cycling: Any) -> None:
    by_cycle, curves = drawn(cycling, "capacity")
    charge, discharge, efficiency = by_cycle["curves"]
    assert charge["x"] == [1, 2, 3, 4, 5, 6]
    assert (charge["mark"], discharge["mark"], efficiency["right"]) == ("hollow", "points", True)
    assert by_cycle["y"]["label"] == "capacity / mAh/g"
    assert curves["y"]["label"] == "potential vs Li+/Li / V"
    assert curves["scale"] == ["cycle", "1", "6"]
    assert max(curves["curves"][0]["y"]) == pytest.approx(4.22, abs=0.02)


def test_a_rate_that_returns_has_the_colour_it_had(cycling: Any) -> None:
    plot, discharges = drawn(cycling, "rate_table")
    first, fast, back = plot["curves"]
    assert first["along"] == back["along"] != fast["along"]
    assert first["label"] == back["label"]
    assert [one["along"] for one in discharges["curves"]] == [0.0, 1.0]  # slow, fast


def test_leakage_stands_on_a_logarithmic_axis(cycling: Any) -> None:
    (plot,) = drawn(cycling, "leakage")
    assert plot["y"]["log"]
    assert min(plot["curves"][0]["y"]) > 0


@pytest.mark.parametrize("name", CYCLING)
def test_every_plot_has_labelled_axes_and_numbers(cycling: Any, name: str) -> None:
    plots = drawn(cycling, name)
    assert plots
    for plot in plots:
        assert plot["x"]["label"]
        assert plot["y"]["label"]
        for curve in plot["curves"]:
            assert len(curve["x"]) == len(curve["y"]) > 0
            json.dumps(curve, allow_nan=False)


def test_every_installed_analysis_is_drawn() -> None:
    from cellbench.analysis import available

    assert set(DRAWERS) == set(available()) - {"replicates"}  # which has a page of its own


def test_an_unknown_analysis_has_no_plot(cycling: Any) -> None:
    assert plots_of("a laboratory's own", cycling.dataset, {}) == []


def test_the_page_holds_every_finding_with_its_place_for_plots(html: str) -> None:
    for place in range(len(CYCLING)):
        assert f'data-curves="{place}"' in html
    assert "Pressure breathing in detail" in html
    assert "dQ/dV" in html


def test_spectra_that_nothing_else_tells_apart_are_told_by_their_time(html: str) -> None:
    labels = re.findall(r'"label":"([\d.]+ h)","along":', html)
    assert len(labels) == len(set(labels)) > 2
    assert '"scale":["time / h"' in html


def test_a_long_table_is_thinned_and_says_so() -> None:
    rows = [{"cycle": k, "time_h": float(k), "polarisation_V": 0.1} for k in range(1400)]
    (table,) = result_tables("symmetric cycling", {"rows": rows})
    assert len(table.rows) == MOST_ROWS
    assert table.title == "By cycle: 60 of 1400 rows"
    assert (table.rows[0][0], table.rows[-1][0]) == ("0", "1399")


def test_every_number_stands_beneath_with_its_unit_and_interval() -> None:
    table = numbers_table({
        "leakage_limit_uA": 0.21, "leakage_limit_interval_uA": 0.03, "exponent": 0.5,
        "exponent_interval": 0.04, "stack_pressure_MPa": None, "steady": True, "cycles": 3,
        "electronic_conductivity_S_cm": 4.729e-10, "conductivity_mS_cm": 2.0,
        "conductivity_uncertainty_mS_cm": 0.01,
    })  # fmt: skip
    assert table is not None
    assert [tuple(row) for row in table.rows] == [
        ("leakage limit", "0.210 ± 0.030 (95 %)", "µA"),
        ("exponent", "0.500 ± 0.040 (95 %)", DASH),
        ("cycles", "3", DASH),
        ("electronic conductivity", f"4.729e{MINUS}10", "S/cm"),
        ("conductivity", "2.000 ± 0.010", "mS/cm"),
    ]
    assert numbers_table({"verdict": "none"}) is None


def test_a_tiny_value_and_its_error_share_their_power() -> None:
    assert with_error(4.7294e-10, 0.011e-10) == f"(4.729 ± 0.011)e{MINUS}10"


def _resistor(frequency_Hz: FloatArray) -> ComplexArray:
    return np.full(len(frequency_Hz), 10.0, dtype=np.complex128)


@pytest.mark.parametrize(
    ("times_h", "along"),
    [((0.0, 1.0, 4.0), [0.0, 0.25, 1.0]), ((0.0, 1.0, 2.0, 99.0), [0.0, 0.3333, 0.6667, 1.0])],
)
def test_spectra_are_coloured_by_value_unless_they_would_look_alike(
    times_h: tuple[float, ...], along: list[float]
) -> None:
    f = np.geomspace(1e5, 1, 20)
    spectra = [Spectrum(hour * 3600, "eis", f, _resistor(f)) for hour in times_h]
    found = colours(Dataset(Geometry(1e-4, "full")), spectra)
    assert found.along == along
    assert found.name == "time / h"


def test_spectra_over_pressures_are_coloured_by_pressure() -> None:
    f = np.geomspace(1e5, 1, 20)
    spectra = [
        Spectrum(0.0, "eis", f, _resistor(f), stack_pressure_Pa=p) for p in (2e6, 12e6, 22e6)
    ]
    found = colours(Dataset(Geometry(1e-4, "symmetric")), spectra)
    assert (found.scale, found.along) == (("stack pressure / MPa", "2", "22"), [0.0, 0.5, 1.0])


def test_an_efficiency_has_more_digits_than_other_numbers() -> None:
    rows = [{"cycle": 1, "coulombic_efficiency_percent": 99.4213}]
    (table,) = result_tables("coulombic efficiency", {"rows": rows})
    assert table.rows[0][-1] == "99.421"


def test_what_is_not_there_is_not_drawn() -> None:
    nan = float("nan")
    plot = Plot("t", Axis("x"), Axis("y"), [Curve("a", [1.0, 2.0, nan], [1.0, None, 3.0])])
    assert plot.data()["curves"][0]["x"] == [1.0]
    assert Plot("t", Axis("x"), Axis("y"), [Curve("a", [nan], [1.0])]).data()["curves"] == []


def test_thinning_keeps_both_ends() -> None:
    (x,) = thin(np.arange(10_000.0))
    assert (x[0], x[-1], len(x)) == (0.0, 9999.0, 500)
    assert spread(100, 5) == [0, 25, 50, 74, 99]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_draws_every_plot_without_complaint(html: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "--virtual-time-budget=5000", "--enable-logging=stderr", "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("<canvas") >= 4 + 1 + 12
    assert "Uncaught" not in done.stderr
