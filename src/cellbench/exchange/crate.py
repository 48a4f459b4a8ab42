"""A run as an RO-Crate 1.1: a directory fit to be deposited with a paper.

Its data, protocol, cell card, bench, journal and results, each with its checksum, and in
``ro-crate-metadata.json`` what made them: the instruments that answered, with serial numbers, and
the program, with its version. https://w3id.org/ro/crate/1.1
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellbench import __version__
from cellbench.exchange.bdf import METADATA, write_bdf
from cellbench.exchange.outgoing import Outgoing
from cellbench.exchange.plain_csv import write_csv
from cellbench.exchange.spectra import write_table
from cellbench.store import IMPORTED
from cellbench.store.files import sha256

_METADATA_FILE = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_SOFTWARE, _ACTION, _CELL, _LICENSE = "#cellbench", "#run", "#cell", "#license"
_BDF = "channel.bdf.csv"
_WHAT = {
    "samples.csv": "Every sample of every instrument, in order of time",
    _BDF: "The cell's channel in the Battery Data Format",
    _BDF + METADATA: "Columns, gaps and remarks of the Battery Data Format file",
    "spectra.csv": "Every point of every impedance spectrum",
    "journal.json": "The run's journal: each decision, action and outcome",
    "protocol.yaml": "The protocol, as it was run",
    "cell.yaml": "The cell card",
    "bench.yaml": "The bench file",
    "environment.json": "Versions, instruments' identities, parameters, seed",
    "documents.json": "All texts that were kept with the run, verbatim",
    "results.json": "What the run's analyses made of it",
    "report.html": "The report",
}
_Entity = dict[str, Any]


def write_crate(
    outgoing: Outgoing, path: Path, license_id: str | None, extra: Mapping[str, str]
) -> None:
    """Write the directory.

    Args:
        outgoing: The run.
        path: The directory, which is made.
        license_id: SPDX's name of the licence that the data are given under, None for not yet.
        extra: Texts of more files by name: ``results.json``, ``report.html``.
    """
    path.mkdir()
    write_csv(outgoing, path / "samples.csv")
    write_bdf(outgoing, path / _BDF)
    if outgoing.reader.spectra():
        write_table(outgoing, path / "spectra.csv")
    for name, text in (_texts(outgoing) | dict(extra)).items():
        (path / name).write_text(text, encoding="utf-8")
    graph = list(_graph(outgoing, path, license_id))
    # Not yet a term of the specification's own context.
    context = [f"{_SPECIFICATION}/context", {"sha256": "https://schema.org/sha256"}]
    (path / _METADATA_FILE).write_text(_json({"@context": context, "@graph": graph}), "utf-8")


def _texts(outgoing: Outgoing) -> dict[str, str]:
    documents = outgoing.reader.documents
    endings = {"protocol": "yaml", "cell": "yaml", "bench": "yaml", "environment": "json"}
    entries = [entry.model_dump(mode="json") for entry in outgoing.reader.journal]
    texts = {
        f"{name}.{ending}": documents[name] for name, ending in endings.items() if name in documents
    }
    return texts | {"journal.json": _json(entries), "documents.json": _json(dict(documents))}


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _graph(outgoing: Outgoing, path: Path, license_id: str | None) -> Iterator[_Entity]:
    files = [_file(each) for each in sorted(path.iterdir())]
    instruments = list(_instruments(outgoing))
    how = "imported" if outgoing.run.state == IMPORTED else "ran"
    yield {
        "@id": _METADATA_FILE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _SPECIFICATION},
        "about": {"@id": "./"},
    }
    yield _root(outgoing, files, _license(license_id)["@id"])
    yield _license(license_id)
    yield from files
    yield from instruments
    yield {
        "@id": _SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "cellbench",
        "version": str(outgoing.environment["cellbench"]),
        "description": f"The version that {how} it; these files were written by {__version__}",
    }
    yield {"@id": _CELL, "@type": "Product", "name": outgoing.run.cell, **_described(outgoing)}
    yield _action(outgoing, files, instruments)


def _root(outgoing: Outgoing, files: list[_Entity], license_id: str) -> _Entity:
    run = outgoing.run
    simulated = "SIMULATED, no cell was measured. " if run.simulated else ""
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{simulated}{run.protocol} of {run.cell}, run {run.id}",
        "description": f"{simulated}{run.protocol} of cell {run.cell} ({outgoing.card.layout}) on "
        f"bench {run.bench}. State: {run.state}. {run.reason}".strip(),
        "identifier": run.id,
        "datePublished": f"{datetime.now(UTC):%Y-%m-%d}",
        "keywords": ["battery", *(["simulated"] if run.simulated else [])],
        "license": {"@id": license_id},
        "hasPart": _ids(files),
        "mentions": {"@id": _ACTION},
    }


def _license(license_id: str | None) -> _Entity:
    if license_id is None:
        return {
            "@id": _LICENSE,
            "@type": "CreativeWork",
            "name": "No licence was chosen yet",
            "description": "All rights are the owner's until this is replaced by a licence.",
        }
    return {
        "@id": f"https://spdx.org/licenses/{license_id}",
        "@type": "CreativeWork",
        "name": license_id,
        "description": f"The licence {license_id}",
    }


def _file(path: Path) -> _Entity:
    kind, _ = mimetypes.guess_type(path.name)
    return {
        "@id": path.name,
        "@type": "File",
        "name": path.name,
        "description": _WHAT[path.name],
        "encodingFormat": "application/yaml" if path.suffix == ".yaml" else kind,
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
    }


def _instruments(outgoing: Outgoing) -> Iterator[_Entity]:
    for name, identity in outgoing.environment["instruments"].items():
        known = {"model": identity.get("model"), "serialNumber": identity.get("serial")}
        remarks = [f"firmware {identity.get('firmware')}", *identity.get("remarks", ())]
        emulated = ["simulated instrument"] if outgoing.run.simulated else []
        yield {
            "@id": f"#instrument-{name.replace(' ', '-')}",
            "@type": "IndividualProduct",
            "name": name,
            "description": ", ".join([*emulated, *remarks]),
        } | {key: value for key, value in known.items() if value}


def _described(outgoing: Outgoing) -> _Entity:
    card = outgoing.card
    return {
        "description": f"{card.layout}, {card.kind} cell, electrode {card.area_m2 * 1e4:.4g} cm2",
        "subjectOf": {"@id": "cell.yaml"},
    }


def _action(outgoing: Outgoing, files: list[_Entity], instruments: list[_Entity]) -> _Entity:
    run = outgoing.run
    ended = run.ended and run.ended.replace(tzinfo=UTC).isoformat()
    return {
        "@id": _ACTION,
        "@type": "CreateAction",
        "name": f"Run {run.id} of {run.protocol}",
        "description": f"{run.state}: {run.reason}",
        "startTime": outgoing.started.isoformat(),
        "instrument": [{"@id": _SOFTWARE}, *_ids(instruments)],
        "object": {"@id": _CELL},
        "result": _ids(files),
    } | ({"endTime": ended} if ended else {})


def _ids(entities: list[_Entity]) -> list[_Entity]:
    return [{"@id": entity["@id"]} for entity in entities]
