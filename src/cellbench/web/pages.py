"""The pages: skeletons made here, filled by their scripts from the API."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader

from cellbench import __version__
from cellbench.web.rights import TheSite, open_to, session_of
from cellbench.web.site import Site

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cellbench.web", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(template: str, site: Site, request: Request, **context: Any) -> HTMLResponse:
    session = session_of(request)
    html = (
        _environment()
        .get_template(f"{template}.html.j2")
        .render(
            user=session.name if session is not None else "",
            role=session.role if session is not None else "",
            csrf=session.csrf if session is not None else "",
            version=__version__,
            store=site.directory.name,
            **context,
        )
    )
    return HTMLResponse(html)


@router.get("/")
async def overview(site: TheSite, request: Request) -> HTMLResponse:
    """All runs at a glance."""
    return _page("overview", site, request)


@router.get("/runs")
async def runs(site: TheSite, request: Request) -> HTMLResponse:
    """The search."""
    return _page("runs", site, request)


@router.get("/runs/{run}")
async def run(run: str, site: TheSite, request: Request) -> HTMLResponse:
    """One run."""
    return _page("run", site, request, run=run)


@router.get("/runs/{run}/report")
async def report(run: str, site: TheSite, request: Request) -> HTMLResponse:
    """One run's report."""
    return _page("report", site, request, run=run)


@router.get("/compare")
async def compare(site: TheSite, request: Request) -> HTMLResponse:
    """Several runs in one plot."""
    return _page("compare", site, request)


@router.get("/protocols")
async def protocols(site: TheSite, request: Request) -> HTMLResponse:
    """The library."""
    return _page("protocols", site, request)


@router.get("/protocols/{name}")
async def protocol(name: str, site: TheSite, request: Request) -> HTMLResponse:
    """One protocol."""
    return _page("protocol", site, request, name=name)


@router.get("/check")
async def check(site: TheSite, request: Request) -> HTMLResponse:
    """The check of a pasted text."""
    return _page("check", site, request)


@router.get("/sign-in")
@open_to("anybody")
async def sign_in(
    site: TheSite,
    request: Request,
    next: Annotated[str, Query(max_length=1000)] = "/",  # noqa: A002
) -> HTMLResponse:
    """The sign-in."""
    return _page("sign_in", site, request, next=local_path(next))


def local_path(path: str) -> str:
    """A path of this server; what leads elsewhere leads to the overview."""
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if local else "/"
