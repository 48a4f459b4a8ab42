"""A recorded run as a replay wants it: its documents, its wire log, its ledger of steps.

It comes from the run's own file, or from the small file that ``cellbench export --format
recording`` writes: a ZIP archive, version 1, with

``manifest.json``
    ``cellbench recording`` (the version), ``run`` (`RunFacts`), ``ledger`` (`LedgerEntry`),
    ``results`` of the analyses, and ``sha256`` of each other member by name,
``wire``
    the events as `cellbench.transport.recording` lays them out,
``documents/NAME``
    the texts kept with the run: protocol, cell card, bench, surroundings, facts of the wire log.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cellbench.engine.causes import RunState
from cellbench.errors import InputError
from cellbench.store import JournalEntry, Run, RunReader
from cellbench.transport.recording import WIRE_VERSION

FILE_VERSION = 1
_FORMAT = "cellbench recording"
_MANIFEST, _WIRE, _DOCUMENTS = "manifest.json", "wire", "documents/"
#: Nothing in a recording depends on when it was exported.
_DATE = (1980, 1, 1, 0, 0, 0)
#: Larger than any recording; what unpacks to more is none.
_MAX_BYTES = 4_000_000_000


class LedgerEntry(BaseModel):
    """One step that was carried out, by its path; times since the start of the run."""

    model_config = ConfigDict(frozen=True)

    path: str
    verb: str
    started_s: float
    ended_s: float | None = None
    ending: str | None = None


class RunFacts(BaseModel):
    """What the catalogue says of the run, and when it was interrupted, if it was."""

    model_config = ConfigDict(frozen=True)

    id: str
    protocol: str
    cell: str
    bench: str
    simulated: bool
    seed: int | None
    state: str
    reason: str
    interrupted_s: float | None = None


class Recording(BaseModel):
    """A recorded run.

    Attributes:
        results: What its analyses made of it; None where they were not asked for.
    """

    model_config = ConfigDict(frozen=True)

    run: RunFacts
    documents: Mapping[str, str]
    wire: bytes
    ledger: Sequence[LedgerEntry]
    results: Mapping[str, Any] | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was kept beside the wire log."""
        found: dict[str, Any] = json.loads(self.documents["wire"])
        return found

    @property
    def environment(self) -> Mapping[str, Any]:
        """The surroundings of the run."""
        found: dict[str, Any] = json.loads(self.documents["environment"])
        return found


def ledger_of(journal: Sequence[JournalEntry]) -> list[LedgerEntry]:
    """Fold a journal into its ledger of steps, in the order in which they began."""
    begun: list[LedgerEntry] = []
    open_at: dict[str, int] = {}
    for entry in journal:
        if entry.kind == "step started":
            open_at[entry.step] = len(begun)
            verb = entry.data["verb"]
            begun.append(LedgerEntry(path=entry.step, verb=verb, started_s=entry.time_s))
        elif entry.kind == "step ended":
            at = open_at.pop(entry.step)
            ended = {"ended_s": entry.time_s, "ending": entry.data["ending"]}
            begun[at] = begun[at].model_copy(update=ended)
    return begun


def recording_of(
    run: Run,
    reader: RunReader,
    results: Mapping[str, Any] | None = None,
    *,
    needs_wire: bool = True,
) -> Recording:
    """Take a recording from a run's file.

    Args:
        run: The run.
        reader: Its file.
        results: What its analyses made of it.
        needs_wire: Whether the wire log is wanted; without it any run will do.

    Raises:
        InputError: The run was not recorded, or by another version.
        StoreError: Its wire log is damaged.
    """
    header = reader.wire_header if needs_wire else {"version": WIRE_VERSION}
    if header is None:
        raise InputError(
            f"run {run.id} has no wire log: it was run without --record. "
            "Run it again with --record, or repeat it with --on sim."
        )
    _check_wire_version(header.get("version"), f"the wire log of run {run.id}")
    facts = RunFacts(
        interrupted_s=_interrupted_s(run, reader), **run.model_dump(include=set(_FACTS))
    )
    return Recording(
        run=facts,
        documents=reader.documents,
        wire=reader.wire() if needs_wire else b"",
        ledger=ledger_of(reader.journal),
        results=results,
    )


_FACTS = ("id", "protocol", "cell", "bench", "simulated", "seed", "state", "reason")


def _interrupted_s(run: Run, reader: RunReader) -> float | None:
    if run.state != RunState.INTERRUPTED:
        return None
    return next((each.time_s for each in reader.journal if each.kind == "failure"), None)


def _check_wire_version(version: object, what: str) -> None:
    if version != WIRE_VERSION:
        raise InputError(f"{what} has version {version}, this cellbench replays {WIRE_VERSION}")


# --- Files ----------------------------------------------------------------------------------------


def write_recording(recording: Recording, path: Path) -> None:
    """Write a recording to a file of its own."""
    members = {_WIRE: recording.wire} | {
        f"{_DOCUMENTS}{name}": text.encode() for name, text in recording.documents.items()
    }
    manifest = {
        _FORMAT: FILE_VERSION,
        "run": recording.run.model_dump(),
        "sha256": {name: _sum(data) for name, data in members.items()},
        "results": None if recording.results is None else dict(recording.results),
        "ledger": [entry.model_dump() for entry in recording.ledger],
    }
    members = {_MANIFEST: json.dumps(manifest, indent=1, ensure_ascii=False).encode()} | members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data, compresslevel=9)


def read_recording(path: Path) -> Recording:
    """Read a file that `write_recording` has written.

    Raises:
        InputError: It is none, of another version, or damaged.
    """
    members = dict(_members(path))
    try:
        manifest = json.loads(members.pop(_MANIFEST))
        version = manifest[_FORMAT]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no recording: it has no {_MANIFEST} of one") from error
    if version != FILE_VERSION:
        raise InputError(f"{path} has version {version}, this cellbench reads {FILE_VERSION}")
    return _recording(path, manifest, members)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise InputError(f"{path} is too large for a recording")
            for name in archive.namelist():
                yield name, archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{path} is no recording, or a damaged one: {error}") from error


def _recording(path: Path, manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> Recording:
    sums = manifest.get("sha256", {})
    wrong = sorted(name for name in {*sums, *members} if sums.get(name) != _sum_of(members, name))
    if wrong:
        raise InputError(f"{path} is damaged: the checksum of {', '.join(wrong)} is wrong")
    try:
        recording = Recording(
            run=manifest["run"],
            documents={
                name.removeprefix(_DOCUMENTS): data.decode()
                for name, data in members.items()
                if name.startswith(_DOCUMENTS)
            },
            wire=members[_WIRE],
            ledger=manifest["ledger"],
            results=manifest["results"],
        )
        _check_wire_version(recording.facts.get("version"), f"the wire log in {path}")
    except (KeyError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is no complete recording: {error}") from error
    return recording


def _sum_of(members: Mapping[str, bytes], name: str) -> str | None:
    return _sum(members[name]) if name in members else None


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
