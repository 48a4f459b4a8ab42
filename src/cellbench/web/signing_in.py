"""Signing in and out: by password or token, slowed down for who guesses."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from cellbench.web.limiter import TooManyAttempts, address_key
from cellbench.web.rights import SignedIn, TheSite, open_to
from cellbench.web.sessions import MOST_S, Session
from cellbench.web.site import Site
from cellbench.web.users import PASSWORD_MAX, Role, User

router = APIRouter(prefix="/api", tags=["session"])

_Short = Annotated[str, StringConstraints(max_length=PASSWORD_MAX)]


class Credentials(BaseModel):
    """A user's name and password; or a token."""

    model_config = ConfigDict(extra="forbid")

    user: _Short = ""
    password: _Short = ""
    token: _Short = ""


class Signed(BaseModel):
    """Who is signed in, and what each request that changes something bears as X-CSRF-Token."""

    user: str
    role: Role
    csrf: str


@router.post("/session")
@open_to("anybody")
async def sign_in(body: Credentials, site: TheSite, request: Request, response: Response) -> Signed:
    """Sign in; the session is in a cookie that scripts cannot read."""
    host = request.client.host if request.client is not None else ""
    keys = [address_key(host), *([f"user {body.user}"] if body.user else [])]
    try:
        site.limiter.begin(keys)
    except TooManyAttempts as error:
        wait = {"Retry-After": f"{error.wait_s:.0f}"}
        raise HTTPException(429, str(error), wait) from None
    user, local = await _known(site, body)
    if user is None:
        site.say(f"a sign-in from {host} was refused")
        raise HTTPException(401, "the name or the password is wrong, or the link was used before")
    site.limiter.succeeded(keys)
    site.say(f"{user.name} ({user.role}) signed in from {host}")
    token, session = site.sessions.begin(user, local=local)
    response.set_cookie(
        site.cookie,
        token,
        max_age=int(MOST_S),
        path="/",
        secure=site.tls,
        httponly=True,
        samesite="strict",
    )
    return _signed(session)


@router.get("/session")
async def session(who: SignedIn) -> Signed:
    """Who is signed in."""
    return _signed(who)


@router.delete("/session")
@open_to("viewer")
async def sign_out(site: TheSite, request: Request, response: Response) -> dict[str, str]:
    """Sign out."""
    site.sessions.end(request.cookies.get(site.cookie, ""))
    response.delete_cookie(site.cookie, path="/", secure=site.tls, httponly=True, samesite="strict")
    return {"done": "signed out"}


def _signed(who: Session) -> Signed:
    return Signed(user=who.name, role=who.role, csrf=who.csrf)


async def _known(site: Site, body: Credentials) -> tuple[User | None, bool]:
    """Who this is, and whether by a link that was printed at the start."""
    if body.token:
        user = site.sessions.by_link(body.token)
        if user is not None:
            if site.new_link is not None:
                site.new_link()
            return user, True
        return site.users.by_token(body.token), False
    async with site.hashing:
        user = await asyncio.to_thread(site.users.by_password, body.user, body.password)
    return user, False
