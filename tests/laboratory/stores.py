"""Stores with runs of made-up rows, and runs that go on being written."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import numpy as np

from cellbench import clock
from cellbench.store import JournalEntry, Run, RunWriter, SampleRow, Store

START = datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=UTC)
#: What people and programs can put into names and notes.
HOSTILE = (
    "'; DROP TABLE cellbench.sample; --",
    '"; COMMIT; TRUNCATE cellbench.journal; --',
    "\\.\n\\N\t\\x00 %s %(run)s $1 {0} ::text",
    "a\0b ␀ ␀. \0␀ \u202e \U0001f50b é e\u0301 \r\n",
    "",
)


def entry(seq: int, text: str = "", kind: str = "note") -> JournalEntry:
    return JournalEntry(
        seq=seq,
        time_s=seq / 3,
        utc=START,
        kind=kind,
        step=text,
        text=text,
        data={text: [1e-7, text]},
    )


def rows(count: int, *, seed: int = 0, source: str = "potentiostat") -> Iterator[SampleRow]:
    """Rows with every kind of value there is."""
    random_ = random.Random(seed)  # noqa: S311 (rows, not secrets)
    for index in range(count):
        a, b, c, d, e = (random_.choice((None, random_.gauss(0, 1), 5e-324, -0.0)) for _ in "abcde")
        step, flags, number = index // 100, random_.choice((0, 8)), random_.choice((None, index))
        yield (index / 10, random_.choice((source, "press")), step, a, b, c, d, e, flags, number)


def registered(store: Store, *, note: str = "", began: datetime = START) -> Run:
    return store.register(
        protocol=f"ccd {note}",
        cell=f"LYC {note}",
        bench=f"bench {note}",
        simulated=True,
        seed=7,
        began=began,
    )


@asynccontextmanager
async def writing(store: Store, run: Run) -> AsyncIterator[RunWriter]:
    writer = RunWriter(store.run_path(run.id), durable=False)
    try:
        yield writer
    finally:
        await writer.close()


async def write_whole(writer: RunWriter, count: int, texts: tuple[str, ...] = ()) -> None:
    """Write all that a run can have."""
    await writer.add_documents({"protocol": "name: x", **{f"n{text}": text for text in texts}})
    for number in range(count // 100 + 1):
        writer.add_step(number, f"cycle[{number}]", "current")
    writer.add_samples(rows(count))
    points = np.geomspace(1e6, 1, 7).tobytes()
    writer.add_spectrum(
        {"time_s": 1.5, "step": 1, "temperature_K": 298.15, "bias_V": None}
        | {"frequency_Hz": points, "impedance_real_ohm": points, "impedance_imag_ohm": points}
        | {"point_time_s": points, "flags": points}
    )
    await writer.add_entries([entry(seq, text) for seq, text in enumerate(("", *texts))])


def add_run(
    store: Store, count: int = 700, *, texts: tuple[str, ...] = (), began: datetime = START
) -> Run:
    """A run that has ended."""
    run = registered(store, note=" ".join(texts), began=began)

    async def write() -> None:
        async with writing(store, run) as writer:
            await write_whole(writer, count, texts)

    clock.run(write(), virtual=True)
    store.finish(run, "completed", " ".join(texts))
    return run
