"""Benches as people name them: a bench file, or a simulated bench that ships; read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cellbench.bench import BenchFile, parse_bench, simulated_benches
from cellbench.errors import InputError
from cellbench.protocol.source import Document, document_of, load, read_document


@dataclass(frozen=True)
class NamedBench:
    """A bench that somebody named.

    Attributes:
        path: The bench file, or the name of a simulated bench.
        file: What it says; its folders are beside it.
        document: The same as it stands there.
        beside: Where relative folders and driver files are: the directory of the bench file. One
            that ships with the simulated bench keeps nothing beside itself.
    """

    path: Path
    file: BenchFile
    document: Document
    beside: Path


def read_bench(bench: Path) -> NamedBench:
    """Read a bench file, or one of those that ship.

    Raises:
        InputError: It is no bench file.
    """
    shipped = simulated_benches()
    if str(bench) in shipped and not bench.exists():
        document = document_of(shipped[str(bench)], f"{bench}.yaml")
        beside = data_directory()
    elif not bench.exists() and bench.suffix not in {".yaml", ".yml"}:
        raise InputError(
            f"there is no bench file {bench}, and no simulated bench of that name; there are: "
            + ", ".join(shipped)
        )
    else:
        document, beside = read_document(bench), bench.parent
    file = with_folders(parse_bench(load(document), beside), beside)
    return NamedBench(bench, file, document, beside)


def data_directory() -> Path:
    """Where a bench without a file of its own has its folders."""
    # The database library, which `check` needs for nothing else, takes as long as all the rest.
    from cellbench.store import data_directory as found  # noqa: PLC0415

    return found()


def with_folders(file: BenchFile, beside: Path) -> BenchFile:
    """Let options that name a folder of this computer be within the directory of the bench."""
    instruments = {
        name: entry.model_copy(
            update={
                key: str((beside / str(value)).absolute())
                for key, value in entry.options.items()
                if key.replace(" ", "_").endswith("_folder")
            }
        )
        for name, entry in file.instruments.items()
    }
    return file.model_copy(update={"instruments": instruments})
