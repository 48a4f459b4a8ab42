"""The part of the API that only looks: runs, their curves, cycles, spectra, journal and report."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from cellbench.engine.overview import Summary, summaries
from cellbench.errors import CellbenchError, InputError
from cellbench.store import Run
from cellbench.web.facts import QUANTITIES
from cellbench.web.journal import entries_after, newest_entries, without_data
from cellbench.web.report_policy import report_policy
from cellbench.web.rights import TheSite
from cellbench.web.run_page import RunPage
from cellbench.web.site import Site
from cellbench.web.tails import Cursor, newest_entry
from cellbench.web.traces import reading
from cellbench.web.worked_out import Busy

router = APIRouter(prefix="/api")

#: States that the catalogue does not know: they are asked of the run, or of its process.
_UNDER_WAY = frozenset({"running", "held", "asking", "ending", "silent", "lost"})
_FITS_S, _EVALUATION_S, _PROGRAM_S = 300.0, 120.0, 60.0

Time = Annotated[float | None, Query(ge=-1e12, le=1e12, allow_inf_nan=False)]
Text = Annotated[str, Query(max_length=200)]


class Found(BaseModel):
    """Runs, newest first, and the one after which there are more."""

    runs: list[Summary]
    next: str | None


def run_of(site: Site, run_id: str) -> Run:
    """The run that is meant; in a thread.

    Raises:
        HTTPException: There is none.
    """
    try:
        return site.store.find(run_id)
    except InputError as error:
        raise HTTPException(404, str(error)) from None


async def page_of(site: Site, run_id: str) -> RunPage:
    """The page of a run; errors as of `run_of`."""
    run = await asyncio.to_thread(run_of, site, run_id)
    return await asyncio.to_thread(site.pages.of, run)


async def whole_page_of(site: Site, run_id: str) -> RunPage:
    """The same, of which all samples are there: of another bench's run they are fetched first."""
    page = await page_of(site, run_id)
    await asyncio.to_thread(site.store.run_path, page.run_id)
    return page


async def with_program(site: Site, page: RunPage) -> None:
    """Have a run's program made, unless that is done; it never fails."""
    if page.program is not None:
        return
    try:
        page.program = await site.worked_out.of(
            "program", str(site.directory), page.run_id, version=None, most_s=_PROGRAM_S
        )
    except Busy:
        return  # whoever looks next has it made
    except CellbenchError:
        await asyncio.to_thread(page.without_program)


async def page_begun(site: Site, run_id: str) -> RunPage:
    """The page of a run; its program is made meanwhile, and its samples are looked through."""
    page = await page_of(site, run_id)
    if page.program is None:
        site.soon(with_program(site, page))
        if site.database is None:  # whose curves would only be made to be thrown away
            site.soon(_looked_through(site, page))
    return page


async def _looked_through(site: Site, page: RunPage) -> None:
    with suppress(CellbenchError):  # whoever asks for the curves is told
        await asyncio.to_thread(site.overviews.of(page.path).cut, None, None, 1)


@router.get("/runs")
async def runs(
    site: TheSite,
    text: Text = "",
    state: Text = "",
    cell: Text = "",
    protocol: Text = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Text = "",
) -> Found:
    """Search the runs of the store, newest first."""

    def found() -> Found:
        since = site.store.find(before).started if before else None
        kept = "running" if state in _UNDER_WAY else state
        rows = site.store.search(
            text, before=since, limit=limit + 1, state=kept, cell=cell, protocol=protocol
        )
        shown = summaries(site.store, rows[:limit])
        if state in _UNDER_WAY:
            shown = [each for each in shown if each.state == state]
        return Found(runs=list(shown), next=rows[limit - 1].id if len(rows) > limit else None)

    return await asyncio.to_thread(found)


@router.get("/runs/{run}")
async def run(run: str, site: TheSite) -> dict[str, Any]:
    """One run: its summary, its program with the state of each step, what can be done now.

    The program is null until it is made, which takes seconds the first time.
    """
    page = await page_begun(site, run)
    return await asyncio.to_thread(page.whole)


@router.get("/runs/{run}/traces")
async def traces(
    run: str,
    site: TheSite,
    columns: Annotated[str, Query(max_length=200)] = ",".join(QUANTITIES),
    from_s: Time = None,
    to_s: Time = None,
    points: Annotated[int, Query(ge=10, le=20_000)] = 1500,
) -> Response:
    """Curves between two times, thinned so that no extreme is lost; single samples where few."""
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in QUANTITIES]
    if unknown:
        raise HTTPException(422, f'no column "{unknown[0]}"; there are: {", ".join(QUANTITIES)}')
    page = await page_of(site, run)

    def drawn() -> bytes:
        with reading(page.path) as connection:
            entry = newest_entry(connection)
        found = site.curves(page).cut(from_s, to_s, points // 2)
        curves = [page.facts.curves(cut, wanted) for cut in found.cuts]
        answer = {
            "from_s": found.from_s,
            "to_s": found.to_s,
            "cursor": str(Cursor(found.row, entry)),
            "sources": [each for each in curves if each is not None],
            "spans": page.spans(found.from_s, found.to_s),
        }
        return json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()

    return Response(await asyncio.to_thread(drawn), media_type="application/json")


@router.get("/runs/{run}/journal")
async def journal(
    run: str,
    site: TheSite,
    after: Annotated[int | None, Query(ge=-1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Entries of the journal, oldest first: those after one, or the newest."""
    page = await page_of(site, run)

    def found() -> list[dict[str, Any]]:
        with reading(page.path) as connection:
            if after is None:
                return newest_entries(connection, limit)
            return entries_after(connection, after, limit)

    entries = without_data(await asyncio.to_thread(found))
    more = after is not None and len(entries) == limit
    return {"entries": entries, "next": entries[-1]["number"] if more else None}


@router.get("/runs/{run}/protocol")
async def protocol(run: str, site: TheSite) -> dict[str, Any]:
    """The protocol as it was run, and the lines of the step that was begun last."""
    page = await page_of(site, run)
    await with_program(site, page)
    program = page.program
    if program is None:
        raise Busy("the server is busy with other work: try again in a moment")
    shown = await asyncio.to_thread(page.whole)
    lines = {
        each["path"]: each["line"] for each in program["steps"] if each["file"] == program["name"]
    }
    return {
        "text": program["text"],
        "name": program["name"],
        "line": lines.get(shown["step_path"]),
        "last_line": lines.get(shown["step_path"]),
        "step_lines": sorted(set(lines.values())),
    }


@router.get("/runs/{run}/cycles")
async def cycles(run: str, site: TheSite) -> Any:
    """The cycles of a run: charges in C, mean voltages, efficiency from 0 to 1."""
    return await _worked_out(site, run, "cycles", _EVALUATION_S)


@router.get("/runs/{run}/spectra")
async def spectra(run: str, site: TheSite) -> Any:
    """The spectra of a run with their fits."""
    return await _worked_out(site, run, "spectra", _FITS_S)


@router.get("/runs/{run}/analyses")
async def analyses(run: str, site: TheSite) -> dict[str, Any]:
    """What the analyses of a run's protocol say."""
    return {"analyses": await _worked_out(site, run, "analyses", _FITS_S)}


@router.get("/runs/{run}/report", response_class=HTMLResponse)
async def report(run: str, site: TheSite) -> HTMLResponse:
    """The report of a run, one HTML document of its own origin."""
    html = await _worked_out(site, run, "report", _FITS_S)
    headers = {"Content-Security-Policy": report_policy(), "X-Frame-Options": "SAMEORIGIN"}
    return HTMLResponse(html, headers=headers)


async def _worked_out(site: Site, run_id: str, job: str, most_s: float) -> Any:
    page = await page_of(site, run_id)

    def version() -> Any:
        with reading(page.path) as connection:
            return newest_entry(connection)

    # Before the samples are fetched: what comes meanwhile makes another version.
    made_of = await asyncio.to_thread(version)
    await asyncio.to_thread(site.store.run_path, page.run_id)
    return await site.worked_out.of(
        job, str(site.directory), page.run_id, version=made_of, most_s=most_s
    )
