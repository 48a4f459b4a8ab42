"""The part of the API on protocols: those that ship, and the check and plan of a pasted text."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cellbench import library
from cellbench.protocol import shipped_protocols
from cellbench.protocol.source import document_of, load
from cellbench.web.rights import TheSite, open_to

router = APIRouter(prefix="/api", tags=["protocols"])

TEXT_MAX = 200_000
_CHECK_S = 60.0
_Name = Annotated[str, StringConstraints(max_length=100)]
_Value = Annotated[str, StringConstraints(max_length=1000)]


class Pasted(BaseModel):
    """A protocol's text, the cell that it is for, and parameters that differ."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    text: str = Field(max_length=TEXT_MAX)
    cell: _Name | None = None
    sets: dict[_Name, _Value] = Field(default={}, alias="set", max_length=100)


@lru_cache(maxsize=1)
def _all() -> list[dict[str, Any]]:
    return [_described(name, text) for name, text in shipped_protocols().items()]


def _described(name: str, text: str) -> dict[str, Any]:
    path = library.shipped_protocol(name)
    written = load(document_of(path.read_text("utf-8"), path.name)).plain()
    return {
        "name": name,
        "title": written["name"],
        "reference": written.get("reference", ""),
        "cell": written.get("cell", ""),
        "text": text,
    }


@router.get("/protocols")
async def protocols() -> dict[str, Any]:
    """The protocols that ship."""
    return {"protocols": await asyncio.to_thread(_all)}


@router.get("/protocols/{name}")
async def protocol(name: str) -> dict[str, Any]:
    """One protocol that ships, whole."""
    found = {each["name"]: each for each in await asyncio.to_thread(_all)}
    if name not in found:
        raise HTTPException(404, f'there is no protocol "{name[:100]}"')
    text = await asyncio.to_thread(library.shipped_protocol(name).read_text, "utf-8")
    return found[name] | {"text": text}


@router.get("/cells")
async def cells() -> dict[str, Any]:
    """Names of the cell cards that ship."""
    return {"cells": await asyncio.to_thread(library.card_names)}


@router.post("/check")
@open_to("viewer")
async def check(body: Pasted, site: TheSite) -> dict[str, Any]:
    """What is wrong with a protocol's text, or its plan on the simulated bench; nothing is kept."""
    found: dict[str, Any] = await site.worked_out.once(
        "check", body.text, body.cell, body.sets, most_s=_CHECK_S
    )
    return found
