"""Make the pages' pictures from simulated runs: the live view, a report, each protocol's plot.

python docs/make_pictures.py            (all, in minutes; needs Chromium, playwright, Pillow)
python docs/make_pictures.py ccd gitt   (the plots of these protocols)
python docs/make_pictures.py run        (the live view and the report alone)
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import tempfile
from pathlib import Path

from make_library import SHORTENED
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from cellbench import clock, library
from cellbench.cli.live import LiveView
from cellbench.engine.evaluation import evaluate, write_report
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import Session, prepare
from cellbench.engine.snapshot import snapshot
from cellbench.protocol import plan
from cellbench.store import Store

IMAGES = Path(__file__).parent / "images"
#: What stands for the live view and the report among the names of protocols.
RUN = "run"
#: Test time at which the live view is drawn: well into the ramp.
MOMENT_S = 20_300.0
#: Where a report has its plot: what its analysis draws, else the spectra, else all over time.
PLOTS = ("figure[data-curves='0']:has(canvas)", "#nyquist-plot:has(canvas)", "#time-plot")
#: What is of no use in a picture.
PLAIN = "figure button, figure .hint { display: none } figure { padding: 8px }"


def main() -> None:
    wanted = sys.argv[1:] or [RUN, *library.protocol_names()]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        live = place / "live.svg"
        reports = {name: _report_of(name, place, live) for name in wanted}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, report in reports.items():
                if name == RUN:
                    _picture(browser, report, IMAGES / "report.png", 1000, 1480)
                    _picture(browser, live, IMAGES / "live.png", 1100, 420)
                else:
                    _picture_of_a_plot(browser, report, IMAGES / "protocols" / f"{name}.png")


def _picture_of_a_plot(browser: Browser, report: Path, target: Path) -> None:
    page = _opened(browser, report, 720, 1200)
    page.add_style_tag(content=PLAIN)
    found = next(each for plot in PLOTS if (each := page.query_selector(plot)))
    _keep(found.screenshot(), target)


def _picture(browser: Browser, source: Path, target: Path, width: int, height: int) -> None:
    _keep(_opened(browser, source, width, height).screenshot(), target)


def _keep(png: bytes, target: Path) -> None:
    """With as many colours as curves on white need, which is a third of the size."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(target, optimize=True)


def _opened(browser: Browser, source: Path, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.5)
    page.goto(source.as_uri())
    page.wait_for_timeout(500)  # plots take the width that the finished page leaves them
    return page


def _report_of(name: str, directory: Path, live: Path) -> Path:
    if name == RUN:
        return _report(prepare("ccd", seed=0), directory, live)
    return _report(prepare(name, sets=list(SHORTENED.get(name, ())), seed=0), directory)


def _report(session: Session, directory: Path, live: Path | None = None) -> Path:
    with Store(directory) as store:
        end = clock.run(_run(session, store, live), virtual=True)
        return write_report(evaluate(store, end.run, session.card))


async def _run(session: Session, store: Store, live: Path | None) -> RunEnd:
    async with session.bench(None) as bench:
        conductor = Conductor(
            session.program, bench, store, documents=session.documents(bench), seed=session.seed,
            planned=plan(session.program, bench),
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            if live is not None:
                tasks.create_task(_draw(conductor, live))
            return await conductor.conduct()


async def _draw(conductor: Conductor, path: Path) -> None:
    await asyncio.sleep(MOMENT_S)
    console = Console(record=True, width=112, force_terminal=True, file=io.StringIO())
    console.print(LiveView(lambda: snapshot(conductor)))
    console.save_svg(str(path), title="cellbench run protocols/ccd.yaml")


if __name__ == "__main__":
    main()
