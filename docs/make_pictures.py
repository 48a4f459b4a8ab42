"""Make the README's pictures from a real simulated run: the live view, and the report.

python docs/make_pictures.py      (needs Chromium)
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from cellbench import clock
from cellbench.cli.live import LiveView
from cellbench.engine.evaluation import evaluate, write_report
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import Session, prepare
from cellbench.engine.snapshot import snapshot
from cellbench.protocol import plan
from cellbench.store import Store

IMAGES = Path(__file__).parent / "images"
#: Test time at which the live view is drawn: well into the ramp.
MOMENT_S = 20_300.0
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
    "--disable-background-networking", "--force-device-scale-factor=1.5",
]  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory)) as store:
        session = prepare("ccd", seed=0)
        end = clock.run(_run(session, store, Path(directory)), virtual=True)
        report = write_report(evaluate(store, end.run, session.card))
        _screenshot(report, IMAGES / "report.png", "1000,1480", directory)
        _screenshot(Path(directory) / "live.svg", IMAGES / "live.png", "1100,420", directory)


async def _run(session: Session, store: Store, directory: Path) -> RunEnd:
    async with session.bench(None) as bench:
        conductor = Conductor(
            session.program, bench, store, documents=session.documents(bench), seed=session.seed,
            planned=plan(session.program, bench),
        )  # fmt: skip
        drawing = asyncio.create_task(_draw(conductor, directory / "live.svg"))
        end = await conductor.conduct()
        await drawing
        return end


async def _draw(conductor: Conductor, path: Path) -> None:
    await asyncio.sleep(MOMENT_S)
    console = Console(record=True, width=112, force_terminal=True, file=io.StringIO())
    console.print(LiveView(lambda: snapshot(conductor)))
    console.save_svg(str(path), title="cellbench run protocols/ccd.yaml")


def _screenshot(source: Path, target: Path, size: str, profile: str) -> None:
    command = [
        *CHROMIUM, f"--user-data-dir={profile}/chromium", f"--window-size={size}",
        f"--screenshot={target}", source.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
