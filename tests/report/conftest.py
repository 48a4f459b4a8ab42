"""Stored runs for the tests of the report floor: real files, data shaped like the engine's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellbench import analysis
from cellbench.analysis.dataset import Dataset, Result, Samples, Spectrum
from cellbench.analysis.stored import stored_dataset
from cellbench.cell import CellCard
from cellbench.protocol.source import document_of, load
from cellbench.store import JournalEntry, Run, RunReader, RunWriter, SampleRow, Store

CARD = """\
cell: {name}
layout: Li | LYC_PMMA | Li
kind: symmetric
working: {{material: Li, diameter: 10 mm}}
counter: {{material: Li, potential: 0 V vs Li+/Li, diameter: 10 mm}}
electrolyte:
  {{name: LYC_PMMA, thickness: 0.354 mm, diameter: 10 mm, fabrication pressure: 300 MPa}}
limits: {{voltage: -5 V to 5 V, current: 10 mA/cm2, stack pressure: at most 35 MPa}}
charge current: {charge}
"""
FULL_CARD = """\
cell: {name}
layout: NCM85 | halide | In/InLi
working: {{active: NCM85, loading: 6.22 mg/cm2, 1C: 180 mA/g, diameter: 10 mm}}
counter: {{material: In/InLi, potential: 0.62 V vs Li+/Li}}
electrolyte: {{name: halide, thickness: 0.9 mm, diameter: 10 mm}}
limits: {{potential: 2.5 V to 4.9 V vs Li+/Li, current: 5 mA/cm2}}
charge current: {charge}
"""
AREA_M2 = np.pi / 4 * 0.01**2
DENSITIES_MA_CM2 = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
HALF_CYCLE_S = 1200
ELECTROLYTE_OHM = 284.0


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies in the store, with the analyses' answers."""

    run: Run
    reader: RunReader
    dataset: Dataset
    results: dict[str, Result] = field(default_factory=dict)


class Script:
    """Writes a run the way the engine does: steps, samples, spectra, journal."""

    def __init__(self, writer: RunWriter, run: Run, seed: int) -> None:
        self.writer, self.run = writer, run
        self.random = np.random.default_rng(seed)
        self.now_s = 0.0
        self._steps, self._seq, self._polled_s = 0, 0, 0.0

    async def enter(self, kind: str, step: str = "", text: str = "", **data: Any) -> None:
        entry = JournalEntry(
            seq=self._seq, time_s=self.now_s, utc=self.run.started, kind=kind, step=step,
            text=text, data=data,
        )  # fmt: skip
        self._seq += 1
        await self.writer.add_entries([entry])

    async def step(self, path: str, verb: str, what: str, lasts_s: float, **settings: Any) -> int:
        self._steps += 1
        self.writer.add_step(self._steps, path, verb)
        await self.enter("step started", path, what=what, verb=verb, settings=settings)
        self._poll(self.now_s + lasts_s)
        return self._steps

    async def end(self, path: str, verb: str, duration_s: float, ending: str = "completed") -> None:
        self.now_s += duration_s
        await self.enter("step ended", path, verb=verb, ending=ending, results={})

    def rows(self, step: int, voltage_V: Any, current_A: float, flags: int = 0) -> None:
        voltages = np.asarray(voltage_V, dtype=float)
        times = (self.now_s + 1 + np.arange(len(voltages))).tolist()
        self.writer.add_samples(
            [
                (
                    time_s,
                    "potentiostat",
                    step,
                    voltage,
                    current_A,
                    current_A * i,
                    None,
                    None,
                    flags,
                    None,
                )
                for i, (time_s, voltage) in enumerate(zip(times, voltages.tolist(), strict=True))
            ]
        )

    def spectrum(
        self, step: int, interface_ohm: float, electrolyte_ohm: float, *, spike: bool = False
    ) -> None:
        frequency_Hz = np.geomspace(1e6, 0.1, 71)
        s = 2j * np.pi * frequency_Hz
        capacitance_F = 1e-9 if spike else 1e-6
        clean = electrolyte_ohm + interface_ohm / (1 + (s * interface_ohm * capacitance_F) ** 0.85)
        if spike:
            clean += 1 / (2e-6 * s**0.9)
        noise = self.random.normal(size=(2, 71)) * 1e-3
        impedance = clean * (1 + noise[0] + 1j * noise[1])
        blob: Callable[[Any], bytes] = lambda values: np.asarray(values, "<f8").tobytes()  # noqa: E731
        self.writer.add_spectrum({
            "time_s": self.now_s, "step": step, "temperature_K": 298.0,
            "stack_pressure_Pa": 5.02e6, "bias_V": 0.0, "frequency_Hz": blob(frequency_Hz),
            "impedance_real_ohm": blob(impedance.real), "impedance_imag_ohm": blob(impedance.imag),
            "point_time_s": blob(self.now_s + np.arange(71)), "flags": blob(np.zeros(71)),
        })  # fmt: skip

    def columns(self, step: int, rows: Samples) -> None:
        """Rows with a current of their own."""
        middle_A = (rows.current_A[1:] + rows.current_A[:-1]) / 2
        before_first_C = rows.current_A[:1] * (rows.time_s[0] - self.now_s)
        rises_C = np.concatenate((before_first_C, np.diff(rows.time_s) * middle_A))
        charge_C = np.cumsum(rises_C)
        columns = (rows.time_s, rows.voltage_V, rows.current_A, charge_C)
        self.writer.add_samples(
            [
                (t, "potentiostat", step, v, i, q, None, None, 0, None)
                for t, v, i, q in zip(*(column.tolist() for column in columns), strict=True)
            ]
        )

    def given(self, step: int, spectrum: Spectrum) -> None:
        """A spectrum as it is."""
        blob: Callable[[Any], bytes] = lambda values: np.asarray(values, "<f8").tobytes()  # noqa: E731
        count = len(spectrum)
        self.writer.add_spectrum({
            "time_s": spectrum.time_s, "step": step, "temperature_K": spectrum.temperature_K,
            "stack_pressure_Pa": spectrum.stack_pressure_Pa, "bias_V": spectrum.bias_V,
            "frequency_Hz": blob(spectrum.frequency_Hz),
            "impedance_real_ohm": blob(spectrum.impedance_ohm.real),
            "impedance_imag_ohm": blob(spectrum.impedance_ohm.imag),
            "point_time_s": blob(spectrum.time_s + np.arange(count)),
            "flags": blob(np.zeros(count)),
        })  # fmt: skip

    def _poll(self, until_s: float) -> None:
        rows: list[SampleRow] = []
        while self._polled_s <= until_s:
            t = self._polled_s
            pressure = 5e6 * min(1.0, t / 60) + 2e4 * np.sin(t / 3000) + self.random.normal() * 3e3
            rows.append(
                (t, "load cell", self._steps, None, None, None, pressure * AREA_M2, None, 0, None)
            )
            kelvin = 298.0 + 0.3 * np.sin(t / 9000)
            rows.append((t, "chamber", self._steps, None, None, None, None, kelvin, 0, None))
            self._polled_s += 5.0
        self.writer.add_samples(rows)


async def write_ramp(script: Script) -> None:
    """A critical-current ramp: stable, then irregular at 2 mA/cm2, short at 3 mA/cm2."""
    await script.enter("run started", text="Critical current density")
    await script.step("press", "press", "press to 5 MPa", 180, kind="to", pressure_Pa=5e6)
    await script.end("press", "press", 180)
    step = await script.step("rest", "rest", "rest for 10 min", 600, duration_s=600.0)
    script.rows(step, script.random.normal(size=600) * 2e-5, 0.0)
    await script.end("rest", "rest", 600)
    await script.enter("deviation", "eis", "band ends at 1 MHz (asked for 7 MHz)")
    await _eis(script, "eis", 60.0, ELECTROLYTE_OHM)
    for number, density in enumerate(DENSITIES_MA_CM2):
        for name, sign in (("current", 1), ("current_2", -1)):
            await _half_cycle(script, f"for_each[{number}]/{name}", sign * density)
        shorted = density >= 3
        await _eis(script, f"for_each[{number}]/eis", 60 - 6 * density, 40 if shorted else 284)
    await script.enter("loop ended", f"for_each[{number}]", "loop ended: short")


async def _half_cycle(script: Script, path: str, density_mA_cm2: float) -> None:
    current_A = density_mA_cm2 * 10 * AREA_M2
    step = await script.step(
        path, "current", f"current {density_mA_cm2:g} mA/cm2 for 20 min", HALF_CYCLE_S,
        technique="constant current", current_A=current_A, duration_s=float(HALF_CYCLE_S),
    )  # fmt: skip
    ohm = 340 + 0.006 * np.arange(HALF_CYCLE_S)
    if abs(density_mA_cm2) >= 2:
        ohm[700:] *= 1.2
        ohm[900:] *= 0.85
    if abs(density_mA_cm2) >= 3:
        ohm[300:] = 45.0
    noise_V = script.random.normal(size=HALF_CYCLE_S) * 2e-5
    script.rows(step, current_A * ohm + noise_V, current_A)
    await script.end(path, "current", HALF_CYCLE_S)


async def _eis(script: Script, path: str, interface_ohm: float, electrolyte_ohm: float) -> None:
    step = await script.step(path, "eis", "spectrum 1 MHz to 100 mHz", 100, technique="impedance")
    script.spectrum(step, interface_ohm, electrolyte_ohm)
    await script.enter("spectrum", path, "spectrum: 284 Ω at 1e+06 Hz")
    await script.end(path, "eis", 100)


async def replay(script: Script, dataset: Dataset) -> None:
    """Write a dataset that was put together elsewhere: its steps, rows and spectra."""
    await script.enter("run started")
    spectra = {one.step: one for one in dataset.spectra}
    for step in dataset.steps:
        script.now_s = step.start_s
        number = await script.step(
            step.path, step.kind, f"{step.kind} {step.path}", step.duration_s, **step.settings
        )
        if step.path in spectra:
            script.given(number, spectra[step.path])
        else:
            rows = dataset.samples.between(step.start_s + 1e-6, step.end_s)
            script.columns(number, rows)
        await script.end(step.path, step.kind, step.duration_s, step.ending)


async def write_end(
    script: Script, state: str, reason: str, *, trip: bool, confirmed: bool
) -> None:
    if trip:
        await script.enter("trip", "for_each[3]/current", reason)
    await script.enter(
        "safe state", text="potentiostat: cell off, 0.00 mA", target="quiet", confirmed=True
    )
    await script.enter("safe state", text="press: holds 393 N", target="quiet", confirmed=confirmed)
    await script.enter("run ended", text=f"{state}: {reason}", state=state, missing_samples=3)


@dataclass
class Maker:
    """Makes stored runs below one directory."""

    directory: Path

    def __call__(
        self, write: Callable[[Script], Any], *, name: str = "LYC_PMMA", charge: str = "positive",
        state: str = "completed", reason: str = "every step has ended", trip: bool = False,
        confirmed: bool = True, simulated: bool = True, analyses: tuple[str, ...] = ("ccd",),
        card_text: str = CARD,
    ) -> StoredRun:  # fmt: skip
        card_text = card_text.format(name=json.dumps(name), charge=charge)
        card = CellCard.model_validate(load(document_of(card_text, "cell")).plain())
        with Store(self.directory) as store:
            run = store.register(
                protocol="Critical current density", cell=name, bench="simulated bench",
                simulated=simulated, seed=7 if simulated else None,
            )  # fmt: skip
            path = store.run_path(run.id)

            async def make() -> None:
                writer = RunWriter(path, durable=False)
                await writer.add_documents(_documents(card_text))
                script = Script(writer, run, 7)
                await write(script)
                await write_end(script, state, reason, trip=trip, confirmed=confirmed)
                await writer.close()

            asyncio.run(make())
            store.finish(run, state, reason)
            stored = store.find(run.id)
        reader = RunReader(path)
        dataset = stored_dataset(reader, card)
        results = {each: analysis.analyse(each, dataset) for each in analyses}
        return StoredRun(stored, reader, dataset, results)


def _documents(card_text: str) -> dict[str, str]:
    surroundings = {
        "cellbench": "0.1.0",
        "roles": {"channel": "potentiostat", "gauge": "load cell", "chamber": "chamber"},
        "instruments": {
            "potentiostat": {"model": "EmStat4S", "serial": "ES4-1", "firmware": "1.3",
                             "remarks": ["range 100 mA"]},
            "load cell": {"model": "DI-1000U", "serial": "F230", "firmware": "2.1", "remarks": []},
        },
        "seed": 7,
        "analyses": ["ccd"],
    }  # fmt: skip
    return {
        "protocol": "cellbench: 1\nname: Critical current density\n# <b>verbatim</b> & all\n",
        "cell": card_text,
        "bench": "{}",
        "environment": json.dumps(surroundings),
    }


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def ramp_script() -> Callable[[Script], Any]:
    return write_ramp


@pytest.fixture(scope="session")
def ramp(make_run: Maker) -> StoredRun:
    """A whole critical-current test: 26 half-cycles of 20 min, 14 spectra."""
    return make_run(write_ramp)


@pytest.fixture(scope="session")
def replayed(make_run: Maker) -> Callable[[Dataset, tuple[str, ...]], StoredRun]:
    """Stores a dataset of a full cell that was put together elsewhere, and analyses it."""

    def make(dataset: Dataset, analyses: tuple[str, ...]) -> StoredRun:
        return make_run(
            lambda script: replay(script, dataset), card_text=FULL_CARD, analyses=analyses
        )

    return make
