"""The application: its routes, and what becomes of errors."""

from __future__ import annotations

import traceback
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from cellbench import __version__
from cellbench.errors import CellbenchError, InputError
from cellbench.web import actions, events, library, looking, measured, pages, signing_in
from cellbench.web.outer import Outer
from cellbench.web.rights import NotSignedIn, guard
from cellbench.web.site import Site
from cellbench.web.worked_out import Busy

#: All that is served, but for static files and the description of the API itself.
ROUTERS = tuple(
    part.router for part in (signing_in, looking, measured, actions, events, library, pages)
)


def make_app(site: Site) -> Outer:
    """The application of one server, behind what every request passes."""
    return Outer(inner_app(site), site)


def inner_app(site: Site) -> FastAPI:
    """The routes of one server."""
    app = FastAPI(
        title="cellbench",
        version=__version__,
        description=__doc__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # they are loaded from elsewhere
        redoc_url=None,
        dependencies=[Depends(guard)],
    )
    app.state.site = site
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static/report", StaticFiles(packages=[("cellbench.report", "static")]))
    app.mount("/static", StaticFiles(packages=[("cellbench.web", "static")]))
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(CellbenchError, _foreseen)
    app.add_exception_handler(Exception, _unforeseen)
    return app


def _not_signed_in(request: Request, _error: Exception) -> Response:
    path = request.url.path
    if path.startswith("/api/"):
        return JSONResponse({"error": "nobody is signed in"}, 401)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/sign-in?next={quote(path + query)}", 303)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 (what it is registered for)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _invalid(_request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a request; never what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 (what it is registered for)
    first = error.errors()[0]
    place = ".".join(str(each) for each in first["loc"][1:])
    return JSONResponse({"error": f"{place}: {first['msg']}".removeprefix(": ")}, 422)


def _foreseen(_request: Request, error: Exception) -> Response:
    status = 503 if isinstance(error, Busy) else 422 if isinstance(error, InputError) else 409
    return JSONResponse({"error": str(error)}, status)


def _unforeseen(request: Request, error: Exception) -> Response:
    site: Site = request.app.state.site
    trace = "".join(traceback.format_exception(error))
    site.say(f"internal error in {request.method} {request.url.path}:\n{trace}")
    return JSONResponse({"error": "internal error; the server's log says more"}, 500)
