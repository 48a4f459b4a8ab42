"""The report in a real Chromium, from disk: it draws, complains of nothing, asks for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cellbench.cli.app import app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The page's elements after its scripts have run, and what the browser logged."""
    directory = tmp_path_factory.mktemp("browser")
    report = directory / "report.html"
    with pytest.raises(SystemExit) as ended:
        app(["run", "stack_pressure_eis", "--store", str(directory), "--report", str(report)])
    assert ended.value.code == 0
    return browse(report, directory)


def browse(report: Path, directory: Path) -> tuple[str, str]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "--virtual-time-budget=5000", "--enable-logging=stderr", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={directory / 'profile'}", report.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_every_plot_is_drawn(page: tuple[str, str]) -> None:
    elements, _ = page
    assert elements.count("<canvas") >= 5  # voltage, current, pressure, temperature, Nyquist


def test_plots_side_by_side_are_of_one_width(page: tuple[str, str]) -> None:
    elements, _ = page
    (pair,) = re.findall(r'<figure[^>]*data-curves="0".*?</figure>', elements, re.DOTALL)
    widths = re.findall(r'class="u-wrap" style="width: (\d+)px', pair)
    assert len(widths) == 2
    assert abs(int(widths[0]) - int(widths[1])) <= 1


def test_the_browser_has_nothing_to_complain_of(page: tuple[str, str]) -> None:
    _, log = page
    assert not re.findall(r"CONSOLE.*(?:error|Uncaught).*", log, re.IGNORECASE)


def test_the_verdict_can_be_read(page: tuple[str, str]) -> None:
    elements, _ = page
    text = re.sub(r"<script.*?</script>|<[^>]+>", " ", elements, flags=re.DOTALL)
    assert "SIMULATED BENCH" in text
    assert "Impedance over stack pressure" in text
