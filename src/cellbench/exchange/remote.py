"""The runs that a server (``cellbench serve``) shows, for `cellbench.open`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import Result, Spectrum
from cellbench.errors import InputError
from cellbench.exchange.client import Facts

_PATIENCE_S = 120.0
#: Runs, or entries, that are asked for at once.
_AT_ONCE = 200


class _NoRedirect(HTTPRedirectHandler):
    """A token goes to the server that was named, and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RemoteStore:
    """A backend of `OpenedStore`.

    Args:
        address: Of the server.
        token: What to sign in with.

    Raises:
        InputError: The server cannot be reached, or does not let us in.
    """

    def __init__(self, address: str, token: str | None) -> None:
        self._address = address.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._opener = build_opener(_NoRedirect)
        self._json("/session")

    def close(self) -> None:
        """Nothing is kept open."""

    def runs(
        self, text: str, cell: str, protocol: str, state: str, limit: int | None
    ) -> list[Facts]:
        """The runs that are as told, newest first."""
        filters = {"text": text, "cell": cell, "protocol": protocol, "state": state}
        found: list[Facts] = []
        before: str | None = None
        while limit is None or len(found) < limit:
            at_once = _AT_ONCE if limit is None else min(_AT_ONCE, limit - len(found))
            asked = filters | {"limit": str(at_once)}
            answer = self._json("/runs", asked | ({"before": before} if before else {}))
            found += [_facts(each) for each in answer["runs"]]
            before = answer["next"]
            if before is None:
                break
        return found

    def find(self, name: str) -> Facts:
        """The run of a name."""
        return _facts(self._json(f"/runs/{quote(name, safe='')}"))

    def samples(self, run: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of the channel's rows, bit for bit as they are in the store."""
        content = self._content(f"/runs/{run}/samples", {"columns": ",".join(columns)})
        with np.load(io.BytesIO(content), allow_pickle=False) as read:
            return {name: read[name] for name in columns}

    def spectra(self, run: str) -> tuple[Spectrum, ...]:
        """The spectra as measured."""
        found = self._json(f"/runs/{run}/spectra/measured")["spectra"]
        return tuple(_spectrum(each) for each in found)

    def cycles(self, run: str) -> list[dict[str, Any]]:
        """The cycles as rows."""
        found: list[dict[str, Any]] = self._json(f"/runs/{run}/cycles")["cycles"]
        return found

    def journal(self, run: str) -> list[dict[str, Any]]:
        """The journal's entries."""
        entries: list[dict[str, Any]] = []
        after = -1
        while True:
            asked = {"after": str(after), "limit": str(_AT_ONCE)}
            answer = self._json(f"/runs/{run}/journal", asked)
            entries += answer["entries"]
            if answer["next"] is None:
                return entries
            after = answer["next"]

    def analyse(self, run: str, name: str, cell: str | None) -> Result:
        """What an analysis gives; through the card that the run was kept with."""
        if cell is not None:
            raise InputError("a corrected card needs the store itself: cellbench.open(DIRECTORY)")
        found: Result = self._json(f"/runs/{run}/analyses/{quote(name, safe='')}")["result"]
        return found

    def _json(self, path: str, asked: Mapping[str, str] | None = None) -> Any:
        return json.loads(self._content(path, asked))

    def _content(self, path: str, asked: Mapping[str, str] | None = None) -> bytes:
        query = f"?{urlencode(asked)}" if asked else ""
        request = Request(f"{self._address}/api{path}{query}", headers=self._headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=_PATIENCE_S) as answer:
                content: bytes = answer.read()
                return content
        except HTTPError as error:
            with error:
                raise _refusal(self._address, error) from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"{self._address} cannot be reached: {reason}") from error


def _refusal(address: str, error: HTTPError) -> Exception:
    """What the server says; as locally, data that do not hold what is asked are a ValueError."""
    if error.code == 401:
        return InputError(f"{address} wants a token: cellbench.open(address, token=...)")
    try:
        text = str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        text = f"{error.code} {error.reason}"
    return ValueError(text) if error.code == 422 else InputError(f"{address}: {text}")


def _facts(summary: Mapping[str, Any]) -> Facts:
    ended = summary["ended"]
    return Facts(
        id=summary["run"],
        protocol=summary["protocol"],
        cell=summary["cell"],
        bench=summary["bench"],
        state=summary["state"],
        reason=summary.get("verdict") or "",
        simulated=summary["simulated"],
        started=datetime.fromisoformat(summary["started"]),
        ended=None if ended is None else datetime.fromisoformat(ended),
    )


def _spectrum(measured: Mapping[str, Any]) -> Spectrum:
    real_ohm, imag_ohm = (measured[f"impedance_{part}_ohm"] for part in ("real", "imag"))
    conditions = ("temperature_K", "stack_pressure_Pa", "bias_V")
    return Spectrum(
        time_s=measured["time_s"],
        step=measured["step"],
        frequency_Hz=np.array(measured["frequency_Hz"], float),
        impedance_ohm=np.array(real_ohm, float) + 1j * np.array(imag_ohm, float),
        **{name: measured[name] for name in conditions},
    )
