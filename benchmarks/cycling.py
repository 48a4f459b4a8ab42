"""Cycles per second at 1C with 10 s output: our cells, the whole of cellbench, and PyBaMM.

Every row charges and discharges NMC811 against lithium between the same voltages at 180 mA/g of its
active material. The cells are not equally thick, so that a cycle is not equally long: the ratio is
of simulated time per second, to the reduced model alone, measured in the same run. Experiments run
with PyBaMM's own defaults (mesh of 20, tolerance 1e-4, no double layer), ours with 60 points in the
particle, 1e-6 and the double layer. Without PyBaMM its rows are left out, and that is said.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.engine.run import Conductor
from cellbench.engine.session import prepare
from cellbench.store import Store
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.electrodes import PybammElectrode
from cellbench_sim.world import World

_LOW_V, _HIGH_V = 3.0, 4.2
_SAMPLE_S = 10.0
_REDUCED, _PYBAMM = "NMC811_LYC_PMMA_Li", "NMC811_Li_pybamm"
#: 1C over the area: 180 mA/g of the loadings of the two cards.
_ONE_C_A_PER_M2 = {_REDUCED: 0.18 * 53.8, _PYBAMM: 0.18 * 81.8}
#: Seconds simulated and seconds that it took.
Measured = tuple[float, float]


def cycling(cycles: int) -> list[dict[str, Any]]:
    steps: list[tuple[str, Callable[[int], Measured] | None]] = [
        ("reduced model alone", lambda count: _world(_REDUCED, None, count)),
        ("reduced model, emulators, wire, drivers, engine, store", _cellbench),
    ]
    if importlib.util.find_spec("pybamm") is not None:
        for model in ("SPM", "SPMe", "DFN"):
            steps += [
                (f"PyBaMM {model} behind our interface", _behind_interface(model)),
                (f"PyBaMM {model}, its own Experiment", _experiment(model)),
            ]
    else:
        steps.append(("PyBaMM is not installed: its rows are left out", None))
    rows: list[dict[str, Any]] = []
    fastest = 0.0
    for name, measure in steps:
        if measure is None:
            rows.append({"cycling": name})
            continue
        simulated_s, seconds = measure(cycles)
        speed = simulated_s / seconds
        fastest = fastest or speed
        rows.append(
            {
                "cycling": name,
                "cycles_per_s": round(cycles / seconds, 2),
                "h_per_cycle": round(simulated_s / cycles / 3600, 2),
                "ms_per_simulated_h": round(3.6e6 / speed, 2),
                "ratio_to_reduced": round(fastest / speed, 1),
            }
        )
    return rows


def _behind_interface(model: str) -> Callable[[int], Measured]:
    return lambda count: _world(_PYBAMM, model, count)


def _world(name: str, model: str | None, cycles: int) -> Measured:
    preset = load_preset(name)
    if model is not None:
        working = preset.working.model_copy(update={"model": model})
        preset = preset.model_copy(update={"working": working})
    world = World(preset, seed=1)
    world.press.ramp_to(5e6 * world.model.area_m2, 40.0)
    world.advance_to(120.0)
    current_A = _ONE_C_A_PER_M2[name] * world.model.area_m2
    started = time.perf_counter()
    for _ in range(cycles):
        _until(world, current_A, _HIGH_V)
        _until(world, -current_A, _LOW_V)
    return world.time_s - 120.0, time.perf_counter() - started


def _until(world: World, current_A: float, cut_off_V: float) -> None:
    world.apply_current(current_A)
    while (world.terminals()[0] - cut_off_V) * current_A < 0.0:
        world.advance_to(world.time_s + _SAMPLE_S)


def _cellbench(cycles: int) -> Measured:
    rows = "at most: 3 h, record: {every: 10 s, sample: 10 s}"
    protocol = (
        f"cellbench: 1\nname: Cycles at 1C\ncell: {_REDUCED}\nconditions: {{every: 10 s}}\nsteps:\n"
        "  - press: {to: 5 MPa, ramp: 0.5 MPa/s, settle: {within: 0.2 MPa, for: 1 min}}\n"
        f"  - repeat: {cycles}\n    steps:\n"
        f"      - charge: {{at: 180 mA/g, until: potential >= {_HIGH_V} V vs Li+/Li, {rows}}}\n"
        f"      - discharge: {{at: 180 mA/g, until: potential <= {_LOW_V} V vs Li+/Li, {rows}}}\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cycles.yaml"
        path.write_text(protocol)
        session = prepare(str(path), seed=1)

        async def main(store: Store) -> Measured:
            async with session.bench(None) as bench:
                documents = session.documents(bench)
                conductor = Conductor(session.program, bench, store, documents=documents, seed=1)
                started, begun_s = time.perf_counter(), asyncio.get_running_loop().time()
                end = await conductor.conduct()
                if end.exit_code:
                    raise SystemExit(end.reason)
                return asyncio.get_running_loop().time() - begun_s, time.perf_counter() - started

        with Store(Path(directory)) as store:
            return clock.run(main(store), virtual=True)


def _experiment(model: str) -> Callable[[int], Measured]:
    def measure(cycles: int) -> Measured:
        os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
        import pybamm

        working = load_preset(_PYBAMM).working
        assert isinstance(working, PybammElectrode)
        area_m2 = World(load_preset(_REDUCED), seed=1).model.area_m2
        values = pybamm.ParameterValues(working.parameter_set)
        values.update(dict(working.values), check_already_exists=False)
        content = (
            working.initial_content
            * values["Maximum concentration in positive electrode [mol.m-3]"]
        )
        values.update(
            {
                "Electrode height [m]": area_m2**0.5,
                "Electrode width [m]": area_m2**0.5,
                "Initial concentration in positive electrode [mol.m-3]": content,
                "Lower voltage cut-off [V]": 2.0,
                "Upper voltage cut-off [V]": 4.6,
            }
        )
        current_A = _ONE_C_A_PER_M2[_PYBAMM] * area_m2
        cycle = (
            f"Charge at {current_A} A until {_HIGH_V} V ({_SAMPLE_S:g} second period)",
            f"Discharge at {current_A} A until {_LOW_V} V ({_SAMPLE_S:g} second period)",
        )
        simulation = pybamm.Simulation(
            getattr(pybamm.lithium_ion, model)({"working electrode": "positive"}),
            parameter_values=values,
            experiment=pybamm.Experiment([cycle] * cycles),
        )
        simulation.build_for_experiment()
        started = time.perf_counter()
        solution = simulation.solve()
        _ = solution["Voltage [V]"].entries
        seconds = time.perf_counter() - started
        if len(solution.cycles) != cycles:
            raise SystemExit(f"PyBaMM ended after {len(solution.cycles)} of {cycles} cycles")
        return float(solution.t[-1]), seconds

    return measure
