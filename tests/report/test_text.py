"""The closing lines of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellbench.report import result_lines
from cellbench.report.wording import clock, described, duration, number, powers, with_error

Stored = Any  # the class StoredRun of conftest


def lines_of(stored: Stored, report: Path | None = None) -> list[str]:
    return result_lines(stored.run, stored.reader, stored.dataset, stored.results, report)


def test_the_block_reads_heading_verdict_closing(ramp: Stored) -> None:
    lines = lines_of(ramp, Path("report.html"))
    assert lines[0].startswith("Critical current density of Li | LYC_PMMA | Li   5.0 MPa   24.")
    assert lines[1] == "  last stable   1.5 mA/cm2"
    assert lines[2].startswith("  irregular at  2 mA/cm2 (")
    assert lines[-1] == (
        "1 deviation, 3 samples missing, everything in its safe state.   report.html   "
        f"cellbench show {ramp.run.id}"
    )


def test_a_stopped_run_says_first_why_and_what_became_of_every_instrument(
    make_run: Any, ramp_script: Any
) -> None:
    reason = "stack pressure: 12.4 MPa, above its limit of 12 MPa"
    stored = make_run(ramp_script, state="stopped", reason=reason, trip=True, confirmed=False)
    lines = lines_of(stored)
    assert lines[0] == f"stopped at 09:16:20 in for_each[3]/current: {reason}"
    assert lines[1] == "  potentiostat: cell off, 0.00 mA: confirmed"
    assert lines[2] == "  press: holds 393 N: NOT CONFIRMED"
    assert "NOT CONFIRMED SAFE (press: holds 393 N)" in lines[-1]


def test_without_an_analysis_the_heading_still_tells_pressure_and_temperature(
    ramp: Stored,
) -> None:
    lines = result_lines(ramp.run, ramp.reader, ramp.dataset, {})
    assert lines[0].endswith("Li | LYC_PMMA | Li   5.0 MPa   25.0 °C")
    assert len(lines) == 2


def test_an_analysis_without_words_shows_its_plain_values() -> None:
    lines = described("our own", {"R_film_ohm": 12.5, "kind": "thick", "rows": []})
    assert lines == ["R film ohm   12.5", "kind   thick"]


def test_times_are_told_in_their_two_leading_units() -> None:
    assert [duration(value) for value in (4.5, 200, 3600, 40_320, 100_000)] == [
        "4.5 s", "3 min 20 s", "1 h", "11 h 12 min", "1 d 3 h",
    ]  # fmt: skip
    assert clock(11_561) == "03:12:41"


def test_numbers_show_what_is_known_of_them() -> None:
    assert number(None) == number(float("nan")) == "\N{EN DASH}"
    assert number(-0.00123456) == "\N{MINUS SIGN}0.001235"
    assert with_error(283.9451, 0.066) == "283.945 ± 0.066"
    assert with_error(1234.5, 20.0) == "1234 ± 20"
    assert powers("0.27 mAh/cm2 at 5 Ω m2") == "0.27 mAh/cm² at 5 Ω m²"
