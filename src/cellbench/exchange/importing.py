"""A file of another program as a run in the store, on which analyses and reports work like on ours.

The run's state is "imported". Where its data are from, with the file's checksum and the reader's
version, is kept in its document "origin".
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellbench import __version__
from cellbench.analysis.dataset import NOT_ENDED, Spectrum, StepData
from cellbench.analysis.stored import geometry
from cellbench.analysis.table import dataset_of, step_numbers
from cellbench.cell import CellCard
from cellbench.errors import InputError
from cellbench.exchange.incoming import Incoming, step_charge_C
from cellbench.exchange.outgoing import stretches
from cellbench.exchange.read_bdf import read_bdf
from cellbench.exchange.read_eclab import read_eclab
from cellbench.exchange.read_neware import read_neware
from cellbench.instruments.readings import Flag
from cellbench.protocol import load_card, parse_card
from cellbench.store import IMPORTED, JournalEntry, Run, RunWriter, SampleRow, Store

_READERS: Mapping[str, Callable[[Path], Incoming]] = {
    ".bdf": read_bdf, ".csv": read_bdf, ".gz": read_bdf, ".parquet": read_bdf,
    ".nda": read_neware, ".ndax": read_neware, ".mpr": read_eclab, ".mpt": read_eclab,
}  # fmt: skip
_CHANNEL, _GAUGE, _CHAMBER = "channel", "gauge", "chamber"
_DRIVEN = ("charge", "discharge")
_ROWS_AT_ONCE = 10_000
#: Of a journal's entry: time, kind, step, text, data.
_Told: TypeAlias = tuple[float, str, str, str, dict[str, Any]]


@dataclass(frozen=True)
class _Step:
    """A step of the imported run, with its number in the store."""

    number: int
    data: StepData


def read(path: Path) -> Incoming:
    """Read a file by the reader that its name asks for.

    Raises:
        InputError: There is no such file or reader, or the file is not what its name says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f'"{path.name}" ends in none of {", ".join(_READERS)}')
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return reader(path)


def import_file(
    store: Store, path: Path, cell: str | None, protocol: str | None, analyses: Sequence[str] | None
) -> Run:
    """Bring a file into the store.

    Args:
        store: Where to.
        path: The file.
        cell: The cell card's file, or the name of a shipped one; None for the one that lies beside
            data that cellbench has exported.
        protocol: What to call the test; None for what the file says.
        analyses: Which are its own; None for those of the exported run, else of its capacity where
            the cell has one.

    Returns:
        The run.

    Raises:
        InputError: The file or the card cannot be read.
    """
    incoming = read(path)
    card, card_text = _card(incoming, cell)
    names = _analyses(incoming, card) if analyses is None else list(analyses)
    documents = _documents(incoming, card_text, protocol, names)
    beside = store.directory / "runs" / f".import-{os.getpid()}.sqlite"
    try:
        asyncio.run(_write(beside, incoming, card, documents))
        return _entered(store, beside, incoming, card, protocol)
    finally:
        for left in beside.parent.glob(f"{beside.name}*"):
            left.unlink()


def _entered(
    store: Store, beside: Path, incoming: Incoming, card: CellCard, protocol: str | None
) -> Run:
    kept, began = incoming.metadata, _started(incoming)
    run = store.register(
        protocol=_title(incoming, protocol),
        cell=card.cell,
        bench=kept.bench if kept else incoming.model or incoming.origin.program,
        simulated=kept is not None and kept.simulated,
        seed=kept.seed if kept else None,
        began=began,
    )
    beside.replace(store.run_path(run.id))
    ended = began + timedelta(seconds=_last_s(incoming))
    store.finish(run, IMPORTED, f"from {incoming.origin.file}", ended)
    return store.find(run.id)


def _card(incoming: Incoming, cell: str | None) -> tuple[CellCard, str]:
    if cell is not None:
        return load_card(None, cell)
    text = incoming.metadata and incoming.metadata.documents.get("cell")
    if not text:
        raise InputError(
            f"{incoming.origin.file} does not say what its cell is: name a cell card by --cell "
            "(its areas, masses and signs are what the analyses follow; cellbench cells)"
        )
    return parse_card(text, f"the card beside {incoming.origin.file}"), text


def _started(incoming: Incoming) -> datetime:
    """When it began, UTC; the time of the import where the file does not tell."""
    return (incoming.started or datetime.now(UTC)).astimezone(UTC)


def _last_s(incoming: Incoming) -> float:
    ends = [incoming.time_s[-1:], *(one.time_s + np.zeros(1) for one in incoming.spectra)]
    return float(np.max(np.concatenate([*ends, [0.0]])))


def _title(incoming: Incoming, protocol: str | None) -> str:
    kept = incoming.metadata
    return protocol or (kept.protocol if kept else incoming.origin.file)


def _analyses(incoming: Incoming, card: CellCard) -> list[str]:
    if incoming.metadata is not None:
        return list(incoming.metadata.environment.get("analyses", ()))
    return ["capacity"] if card.kind in {"full", "half"} and len(incoming.time_s) else []


def _documents(
    incoming: Incoming, card_text: str, protocol: str | None, analyses: list[str]
) -> dict[str, str]:
    origin, kept = asdict(incoming.origin), incoming.metadata
    surroundings = {
        "cellbench": __version__,
        "roles": {"channel": _CHANNEL, "gauge": _GAUGE, "chamber": _CHAMBER},
        "channels": [_CHANNEL],
        "instruments": _identities(incoming),
        "parameters": kept.environment.get("parameters", {}) if kept else {},
        "analyses": analyses,
        "seed": kept.seed if kept else None,
        "simulated": kept is not None and kept.simulated,
    }
    told = f"# {_title(incoming, protocol)}: imported from {origin['file']}, no protocol of ours\n"
    return {
        "protocol": kept.documents.get("protocol", told) if kept else told,
        "cell": card_text,
        "environment": json.dumps(surroundings, indent=2),
        "origin": json.dumps(origin, indent=2),
    }


def _identities(incoming: Incoming) -> dict[str, Any]:
    if incoming.metadata is not None:
        return dict(incoming.metadata.environment.get("instruments", {}))
    own = {"model": incoming.model, "serial": incoming.serial, "firmware": "", "remarks": []}
    return {_CHANNEL: own}


# --- The run's file -----------------------------------------------------------------------------


async def _write(
    path: Path, incoming: Incoming, card: CellCard, documents: Mapping[str, str]
) -> None:
    writer = RunWriter(path, durable=True)
    try:
        await writer.add_documents(documents)
        steps, numbers = _steps(incoming, card)
        spectra = _spectrum_steps(incoming, 1 + max((step.number for step in steps), default=0))
        for step in (*steps, *spectra):
            writer.add_step(step.number, step.data.path, step.data.kind)
        for step, one in zip(spectra, incoming.spectra, strict=True):
            writer.add_spectrum(_spectrum_row(step.number, one))
        rows = _rows(incoming, card, numbers)
        while block := list(islice(rows, _ROWS_AT_ONCE)):
            writer.add_samples(block)
            await writer.flush()
        await writer.add_entries(_entries(incoming, (*steps, *spectra)))
    finally:
        await writer.close()


def _rows(incoming: Incoming, card: CellCard, numbers: NDArray[np.int_]) -> Iterator[SampleRow]:
    """All rows; what is missing in a slow column is a stale reading there, not no reading."""
    sign = _sign(incoming, card)
    current_A = sign * incoming.current_A
    passed_C = sign * step_charge_C(incoming, numbers)
    flags = incoming.flags
    for row, (time_s, step) in enumerate(
        zip(incoming.time_s.tolist(), numbers.tolist(), strict=True)
    ):
        flag = 0 if flags is None else int(flags[row])
        measured = (incoming.voltage_V[row], current_A[row], passed_C[row])
        yield (time_s, _CHANNEL, step, *map(_known, measured), None, None, flag, None)
        if incoming.stack_pressure_Pa is not None:
            force_N = _known(incoming.stack_pressure_Pa[row] * card.stack_area_m2)
            yield (time_s, _GAUGE, step, None, None, None, force_N, None, _stale(force_N), None)
        if incoming.temperature_K is not None:
            kelvin = _known(incoming.temperature_K[row])
            yield (time_s, _CHAMBER, step, None, None, None, None, kelvin, _stale(kelvin), None)


def _sign(incoming: Incoming, card: CellCard) -> float:
    return geometry(card).charge_sign if incoming.positive == "charge" else 1.0


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _stale(value: float | None) -> int:
    return int(Flag.STALE) if value is None else 0


def _spectrum_row(step: int, one: Spectrum) -> dict[str, Any]:
    count = len(one)
    return {
        "time_s": one.time_s, "step": step, "temperature_K": one.temperature_K,
        "stack_pressure_Pa": one.stack_pressure_Pa, "bias_V": one.bias_V,
        "frequency_Hz": one.frequency_Hz.tobytes(),
        "impedance_real_ohm": one.impedance_ohm.real.tobytes(),
        "impedance_imag_ohm": one.impedance_ohm.imag.tobytes(),
        "point_time_s": np.full(count, one.time_s).tobytes(), "flags": np.zeros(count).tobytes(),
    }  # fmt: skip


# --- Steps --------------------------------------------------------------------------------------


def _steps(incoming: Incoming, card: CellCard) -> tuple[list[_Step], NDArray[np.int_]]:
    """The steps, and the number of each row's."""
    if incoming.metadata is not None:
        return [_Step(each.number, each.data) for each in incoming.metadata.steps], incoming.step
    if not len(incoming.time_s):
        return [], incoming.step
    table = {
        "time_s": incoming.time_s,
        "voltage_V": incoming.voltage_V,
        "current_A": _sign(incoming, card) * incoming.current_A,
    }
    step = incoming.step if np.ptp(incoming.step) else step_numbers(table)
    found = dataset_of(table | {"step": step}, geometry(card)).steps
    steps: dict[str, _Step] = {}
    numbers = np.empty(len(step), dtype=int)
    for rows, plain in zip(stretches(step), found, strict=True):
        data = _named(incoming, rows, plain, card)
        before = steps.get(data.path)
        number = before.number if before else len(steps) + 1
        start_s = before.data.start_s if before else data.start_s
        steps[data.path] = _Step(number, replace(data, start_s=start_s))
        numbers[rows] = number
    return list(steps.values()), numbers


def _named(incoming: Incoming, rows: slice, plain: StepData, card: CellCard) -> StepData:
    """A step with the technique and the place that the file tells, else those of its rows."""
    kind = str(incoming.kind[rows.start]) or plain.kind
    if kind in _DRIVEN and card.kind not in {"full", "half"}:
        kind = "current"
    settings = dict(plain.settings)
    if kind in {*_DRIVEN, "current"}:
        current_A = incoming.current_A[rows][np.isfinite(incoming.current_A[rows])]
        if len(current_A):
            typical_A = _sign(incoming, card) * float(np.median(current_A))
            settings.setdefault("current_A", typical_A)
    path = f"{kind}_{plain.path.rpartition('_')[2]}"
    if incoming.path is not None:
        path = str(incoming.path[rows.start])
    elif incoming.cycle is not None:
        path = f"cycle[{incoming.cycle[rows.start]}]/{path}"
    return replace(plain, path=path, kind=kind, settings=settings, ending="completed")


def _spectrum_steps(incoming: Incoming, first: int) -> list[_Step]:
    return [
        _Step(number, StepData(f"eis_{number}", "eis", one.time_s, one.time_s, ending="completed"))
        for number, one in enumerate(incoming.spectra, start=first)
    ]


def _entries(incoming: Incoming, steps: Sequence[_Step]) -> list[JournalEntry]:
    """The journal: where the data are from, when each step began and ended."""
    origin = incoming.origin
    text = f"imported from {origin.file} ({origin.program}) by {origin.reader}"
    told: list[_Told] = [(0.0, "run started", "", text, asdict(origin))]
    for step in steps:
        told += _begin_and_end(step.data)
    if incoming.metadata is not None:
        told += [
            (gap.from_s, "gap", gap.step, gap.text, gap.model_dump())
            for gap in incoming.metadata.gaps
        ]
        told += [
            (each.time_s, each.kind, each.step, each.text, {}) for each in incoming.metadata.remarks
        ]
    told.sort(key=lambda each: each[0])
    told.append((max(_last_s(incoming), told[-1][0]), "run ended", "", text, {"state": IMPORTED}))
    began = _started(incoming)
    return [
        JournalEntry(
            seq=number, time_s=time_s, utc=began + timedelta(seconds=time_s), kind=kind, step=step,
            text=text, data=data,
        )
        for number, (time_s, kind, step, text, data) in enumerate(told)
    ]  # fmt: skip


def _begin_and_end(step: StepData) -> list[_Told]:
    if not step.ending and not step.settings and not step.end_s:
        return []
    what = {"what": step.kind, "verb": step.kind, "settings": dict(step.settings)}
    ended = {"verb": step.kind, "ending": step.ending, "results": {}}
    began: _Told = (step.start_s, "step started", step.path, "", what)
    if step.ending == NOT_ENDED:
        return [began]
    return [began, (step.end_s, "step ended", step.path, "", ended)]
