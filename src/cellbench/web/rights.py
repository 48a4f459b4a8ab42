"""Who may do what: looked at before every route, which needs to say nothing for it.

A route that reads is for whoever is signed in, one that changes something for operators, with the
session's token in a header. What is otherwise says so where it is defined.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

from fastapi import Depends, HTTPException, Request

from cellbench.web.sessions import Session
from cellbench.web.site import Site

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Right = Literal["anybody", "viewer"]
F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "cellbench_right"


class NotSignedIn(Exception):
    """There is no session; a page sends its reader to the sign-in, the API says so."""


def open_to(right: Right) -> Callable[[F], F]:
    """Open a route to more than it would be: to anybody, or where it changes something, to viewers.

    Args:
        right: Who may use it.
    """

    def marked(function: F) -> F:
        setattr(function, _ATTRIBUTE, right)
        return function

    return marked


def session_of(request: Request) -> Session | None:
    """The session that a request bears: in its cookie, or by a token for this request alone."""
    site: Site = request.app.state.site
    bearer = _bearer(request)
    if bearer:
        user = site.users.by_token(bearer)
        return None if user is None else Session(user, local=False, born_s=0.0, seen_s=0.0)
    return site.sessions.find(request.cookies.get(site.cookie, ""))


def _bearer(request: Request) -> str:
    """A token that a program sends with each request; no browser adds it by itself."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def guard(request: Request) -> None:
    """Let a request through to its route, or not.

    Raises:
        NotSignedIn: It bears no session.
        HTTPException: It is not allowed.
    """
    right = getattr(request.scope.get("endpoint"), _ATTRIBUTE, None)
    if right == "anybody":
        return
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    if request.method in SAFE_METHODS:
        return
    if not _bearer(request):
        _check_csrf(request, session)
    if right != "viewer" and session.role != "operator":
        raise HTTPException(403, f"{session.name} is a viewer: this needs an operator")


def _check_csrf(request: Request, session: Session) -> None:
    given = request.headers.get(CSRF_HEADER, "")
    if not secrets.compare_digest(given.encode(), session.csrf.encode()):
        raise HTTPException(403, f"the header {CSRF_HEADER} is missing, or of another session")


def _signed_in(request: Request) -> Session:
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    return session


def _site(request: Request) -> Site:
    return cast("Site", request.app.state.site)


SignedIn = Annotated[Session, Depends(_signed_in)]
TheSite = Annotated[Site, Depends(_site)]
