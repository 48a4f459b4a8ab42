"""What a channel that lists spectra has to do: take them whole and right, in their band."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

from cellbench.instruments.readings import EndingKind
from cellbench.instruments.techniques import ConstantVoltage, Impedance
from cellbench.testing.channel import (
    Record,
    direct_techniques,
    record_of,
    require_refused,
    spectrum,
)
from cellbench.testing.checks import NotApplicable, check, demand
from cellbench.testing.subject import Session, Subject

_COLUMNS = {"frequency_Hz", "impedance_real_ohm", "impedance_imag_ohm"}
#: Frequencies of an instrument's own grid may be so far from those asked for.
_FREQUENCY = 0.05


def _able(session: Session) -> None:
    if session.driver.capabilities.impedance is None:
        raise NotApplicable("it takes no spectra")


@check("channel")
async def spectra_are_whole(subject: Subject) -> None:
    """A spectrum has every point, from the highest frequency down, and opens the cell."""
    async with subject.session() as session:
        _able(session)
        wanted = [spectrum(session)]
        if session.driver.capabilities.impedance.galvanostatic:
            currents = {"amplitude_V": None, "amplitude_A": session.amounts.current_A / 10}
            wanted.append(wanted[0].model_copy(update=currents))
        for technique in wanted:
            record = await record_of(session, technique)
            demand(
                record.ending is not None and record.ending.kind is EndingKind.COMPLETED,
                f"it did not complete: {record.ending}",
            )
            demand(not session.energised(), "the cell is still energised after its end")
            _require_points(record, technique)
            _require_impedance(record, session)
        demand(
            abs(record.open_circuit_V - session.amounts.rest_V) <= session.amounts.change_V,
            f"the open circuit before it is {record.open_circuit_V:.4g} V",
        )


def _require_points(record: Record, technique: Impedance) -> None:
    demand(set(record.columns) >= _COLUMNS, f"columns {list(record.columns)}")
    found, asked = record.columns["frequency_Hz"], technique.frequencies_Hz
    demand(len(found) == len(asked), f"{len(found)} points, not {len(asked)}")
    demand(all(a > b for a, b in pairwise(found)), "frequencies do not fall")
    for one, other in zip(found, asked, strict=True):
        demand(abs(one / other - 1) <= _FREQUENCY, f"{one:.5g} Hz in place of {other:.5g} Hz")


def _require_impedance(record: Record, session: Session) -> None:
    truth = session.rig.impedance_ohm
    columns = (record.columns[f"impedance_{part}_ohm"] for part in ("real", "imag"))
    for frequency_Hz, real, imag in zip(record.columns["frequency_Hz"], *columns, strict=True):
        demand(math.isfinite(real) and math.isfinite(imag), f"no number at {frequency_Hz:.4g} Hz")
        if truth is not None:
            found_ohm, true_ohm = complex(real, imag), truth(frequency_Hz)
            off = abs(found_ohm - true_ohm) / abs(true_ohm)
            demand(
                off <= 2 * session.amounts.exactness,
                f"{found_ohm:.4g} ohm at {frequency_Hz:.4g} Hz, where it is {true_ohm:.4g}",
            )


@check("channel")
async def spectra_beyond_the_band_are_refused(subject: Subject) -> None:
    """A spectrum beyond the band is refused before anything is sent."""
    async with subject.session() as session:
        _able(session)
        band, mild = session.driver.capabilities.impedance, spectrum(session)
        wrong = [{"frequency_max_Hz": 10 * band.frequency_max_Hz}]
        wrong.append({"frequency_min_Hz": band.frequency_min_Hz / 10})
        for change in wrong:
            await require_refused(session, mild.model_copy(update=change))
        if not band.galvanostatic:
            currents = {"amplitude_V": None, "amplitude_A": session.amounts.current_A / 10}
            await require_refused(session, mild.model_copy(update=currents))


@check("channel")
async def spectra_in_hold_keep_the_voltage(subject: Subject) -> None:
    """Where spectra are taken within a hold, the cell stays on throughout."""
    async with subject.session() as session:
        _able(session)
        if not session.driver.capabilities.spectra_in_hold:
            raise NotApplicable("it leaves a hold for spectra")
        hold = direct_techniques(session)["constant voltage"]
        assert isinstance(hold, ConstantVoltage)  # noqa: S101 (asked for by name)
        duration_s = 3 * hold.duration_s
        within = hold.model_copy(
            update={
                "duration_s": duration_s,
                "spectra": spectrum(session).model_copy(update={"bias_V": hold.voltage_V}),
                "spectra_every_s": duration_s / 2,
            }
        )
        points, seen = 0, []
        async with session.driver.run(within, session.amounts.limits) as running:
            async for block in running:
                points += len(block.time_s) if "frequency_Hz" in block.columns else 0
                if asyncio.get_running_loop().time() < running.started_s + duration_s:
                    seen.append(session.energised())
            ending = running.ending
        demand(points >= len(spectrum(session).frequencies_Hz), "no whole spectrum in the hold")
        demand(ending is not None and ending.kind is EndingKind.COMPLETED, f"it ends: {ending}")
        demand(all(seen[:-1]), "the cell is let go in the hold")
        demand(not session.energised(), "the cell is still energised after its end")
