"""Server-sent events: of one run, or of all at a glance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from cellbench.web.looking import page_begun
from cellbench.web.rights import TheSite, session_of
from cellbench.web.tails import Cursor

router = APIRouter(prefix="/api", tags=["events"])

_KINDS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}
}
_Id = Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)]
_After = Annotated[str | None, Query(max_length=100)]


@router.get("/events", response_class=StreamingResponse, responses=_KINDS)
async def events(site: TheSite, request: Request) -> StreamingResponse:
    """All runs at a glance: `run` for each that has changed, `gone` for one that is history."""
    return _streamed(site.tails.glances.watch(lambda: session_of(request) is not None))


@router.get("/runs/{run}/events", response_class=StreamingResponse, responses=_KINDS)
async def run_events(
    run: str, site: TheSite, request: Request, last: _Id = None, after: _After = None
) -> StreamingResponse:
    """One run: `run` (its summary, and what else has changed), `samples`, `journal`.

    Goes on after the event whose id comes back as Last-Event-ID, or after the cursor of a page's
    traces (``after``); else from now on.
    """
    page = await page_begun(site, run)
    since = Cursor.of(last) or Cursor.of(after)
    tail = site.tails.of(page, site.curves(page))
    return _streamed(tail.watch(since, lambda: session_of(request) is not None))


def _streamed(events: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream")
