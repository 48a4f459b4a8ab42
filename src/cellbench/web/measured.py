"""What was measured, as it is: samples bit for bit, spectra without fits, one analysis whole.

For programs; `cellbench.open` reads these.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from cellbench.analysis import available, bare
from cellbench.web.looking import whole_page_of
from cellbench.web.rights import TheSite

router = APIRouter(prefix="/api/runs/{run}", tags=["measured"])

_SAMPLES_S, _SPECTRA_S, _ANALYSIS_S = 120.0, 60.0, 300.0


@router.get("/samples", response_class=FileResponse)
async def samples(
    run: str, site: TheSite, columns: Annotated[str, Query(max_length=500)] = ""
) -> FileResponse:
    """The channel's rows, column by column: a file of numpy's (.npz); empty for all numbers."""
    page = await whole_page_of(site, run)
    beside = tempfile.TemporaryDirectory(prefix="cellbench-")
    out = Path(beside.name) / f"{page.run_id}.npz"
    try:
        arguments = (str(site.directory), page.run_id, columns, str(out))
        await site.worked_out.once("samples", *arguments, most_s=_SAMPLES_S)
    except BaseException:
        beside.cleanup()
        raise
    return FileResponse(
        out,
        media_type="application/octet-stream",
        filename=out.name,
        background=BackgroundTask(beside.cleanup),
    )


@router.get("/spectra/measured")
async def spectra(run: str, site: TheSite) -> dict[str, Any]:
    """The spectra's points and conditions."""
    page = await whole_page_of(site, run)
    arguments = (str(site.directory), page.run_id)
    found = await site.worked_out.once("measured_spectra", *arguments, most_s=_SPECTRA_S)
    return {"spectra": found}


@router.get("/analyses/{name}")
async def analysis(run: str, name: str, site: TheSite) -> dict[str, Any]:
    """What one analysis gives, of the run's protocol or any other that is installed."""
    if bare(name) not in available():
        raise HTTPException(404, f'there is no analysis "{name}"')
    page = await whole_page_of(site, run)
    arguments = (str(site.directory), page.run_id, name)
    result = await site.worked_out.once("analysis", *arguments, most_s=_ANALYSIS_S)
    return {"name": name, "result": result}
