"""A run's data as files that other people's programs open as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cellbench.errors import InputError
from cellbench.exchange.bdf import write_bdf, write_parquet
from cellbench.exchange.crate import write_crate
from cellbench.exchange.mpt import write_mpt, write_spectrum_mpt
from cellbench.exchange.outgoing import Outgoing
from cellbench.exchange.plain_csv import write_csv
from cellbench.exchange.spectra import measured, write_columns, write_table, write_z
from cellbench.exchange.staging import Staging
from cellbench.store import Run, RunReader

_Writer = Callable[[Outgoing, Staging], None]


def export(
    reader: RunReader,
    run: Run,
    to: str,
    directory: Path,
    *,
    overwrite: bool = False,
    license_id: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write a run's data.

    Files are named by the run, with "-simulated" where nothing was measured. They appear when all
    of them are finished.

    Args:
        reader: The run's file.
        run: Its entry in the catalogue.
        to: "csv": every sample of every instrument; "bdf", "parquet": the channel in the Battery
            Data Format, with a metadata file; "mpt": the channel, and each spectrum, as EC-Lab
            writes them; "spectra": all points in one table, and each spectrum as .csv (frequency,
            Re Z, Im Z) and .z; "crate": all of it as an RO-Crate.
        directory: Where the files go.
        overwrite: Whether files of the same names may be replaced.
        license_id: Of a crate: SPDX's name of the data's licence.
        extra: Of a crate: texts of more files, ``results.json`` and ``report.html``.

    Returns:
        The files that were written (of a crate, its directory).

    Raises:
        InputError: There is no such format, a file is there, or cannot be written, or what the
            format needs is not installed.
    """
    outgoing = Outgoing(reader, run)
    with Staging(directory, overwrite=overwrite) as staging:
        if to == "crate":
            place = staging.path(f"{outgoing.name}-crate")
            write_crate(outgoing, place, license_id, extra or {})
        elif to in _WRITERS:
            _WRITERS[to](outgoing, staging)
        else:
            raise InputError(f'there is no export format "{to}": choose {", ".join(FORMATS)}')
    return staging.written


def _csv(outgoing: Outgoing, staging: Staging) -> None:
    write_csv(outgoing, staging.path(f"{outgoing.name}.csv"))


def _bdf(outgoing: Outgoing, staging: Staging) -> None:
    write_bdf(outgoing, staging.path(f"{outgoing.name}.bdf.csv"))


def _parquet(outgoing: Outgoing, staging: Staging) -> None:
    write_parquet(outgoing, staging.path(f"{outgoing.name}.bdf.parquet"))


def _mpt(outgoing: Outgoing, staging: Staging) -> None:
    write_mpt(outgoing, staging.path(f"{outgoing.name}.mpt"))
    for one in measured(outgoing):
        place = staging.path(f"{outgoing.name}-spectrum-{one.number:03d}.mpt")
        write_spectrum_mpt(outgoing, one, place)


def _spectra(outgoing: Outgoing, staging: Staging) -> None:
    write_table(outgoing, staging.path(f"{outgoing.name}-spectra.csv"))
    for one in measured(outgoing):
        name = f"{outgoing.name}-spectrum-{one.number:03d}"
        write_columns(one, staging.path(f"{name}.csv"))
        write_z(one, staging.path(f"{name}.z"))


_WRITERS: Mapping[str, _Writer] = {
    "bdf": _bdf, "parquet": _parquet, "mpt": _mpt, "csv": _csv, "spectra": _spectra,
}  # fmt: skip
#: What can be exported.
FORMATS = (*_WRITERS, "crate")
