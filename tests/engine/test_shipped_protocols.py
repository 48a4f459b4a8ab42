"""Every shipped protocol, shortened, from its first step to its end on the simulated bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellbench import clock, library
from cellbench.engine.run import Conductor, RunEnd, RunState
from cellbench.engine.session import prepare
from cellbench.protocol import check, plan
from cellbench.store import RunReader, Store

pytestmark = pytest.mark.long

#: What makes each short; a protocol that is not here is short enough as it is.
SHORT: dict[str, dict[str, str]] = {
    "ageing_hold": {"rate": "1C", "duration": "1 h", "cycles": "1"},
    "air_exposure": {"duration": "3 h"},
    "arrhenius": {"temperatures": "30, 40 degC", "equilibrate": "5 min"},
    "ccd": {"currents": "0.1, 0.2 mA/cm2", "half_cycle": "2 min", "rest": "1 min"},
    "cu_li_efficiency": {"plate": "6 min", "cycles": "2"},
    "cutoff_ladder": {
        "upper": "4.2, 4.5 V vs Li+/Li", "rate": "1C", "hold": "15 min", "relax": "5 min",
    },
    "cyclic_voltammetry": {"rate": "2 mV/s", "cycles": "1"},
    "dc_polarisation": {"voltages": "0.1, 0.3, 0.5 V", "polarise": "10 min", "offset": "5 min"},
    "electrolyte_compatibility": {"duration": "6 h"},
    "eis_along_cycle": {"rate": "1C", "after": "20 min", "rest": "2 min"},
    "formation": {"rate": "1C", "cycles": "1"},
    "gitt": {"rate": "1C", "pulses": "4", "relax": "2 min"},
    "linear_sweep": {"rate": "5 mV/s"},
    "long_cycling": {"cycles": "4", "check_every": "2", "check_rate": "C/2", "relax": "5 min"},
    "open_circuit_ageing": {"duration": "3 h"},
    "operando_pressure": {"rate": "1C", "cycles": "1", "baseline": "10 min"},
    "pulse_resistance": {"rate": "1C", "steps": "2", "relax": "5 min"},
    "rate_test": {"break_in": "1C", "break_in_cycles": "1", "rates": "1C, 2C", "return_to": "1C",
                  "cycles": "1"},
    "self_discharge": {"rate": "1C", "stand": "1 h"},
    "stack_pressure_eis": {"pressures": "2, 5 MPa", "dwell": "1 min"},
    "stack_pressure_eis_full": {"pressures": "0, 2 MPa", "dwell": "1 min"},
    "standard_benchmark": {"formation": "1C", "formation_cycles": "1", "rate": "1C", "cycles": "2"},
    "stripping": {"foil": "1 mAh/cm2"},
    "symmetric_cycling": {"cycles": "4", "spectrum_every": "2"},
}  # fmt: skip


@pytest.mark.parametrize("name", library.protocol_names())
def test_a_shipped_protocol_runs_to_its_end(name: str, tmp_path: Path) -> None:
    sets = [f"{key}={value}" for key, value in SHORT.get(name, {}).items()]
    session = prepare(name, sets=sets, seed=1)
    check(session.program, session.declared()).raise_problems()
    planned = plan(session.program, session.declared())

    async def conduct(store: Store) -> RunEnd:
        async with session.bench(None) as bench:
            documents = session.documents(bench)
            return await Conductor(session.program, bench, store, documents=documents).conduct()

    with Store(tmp_path) as store:
        end = clock.run(conduct(store), virtual=True)
        journal = RunReader(store.run_path(end.run.id)).journal
    assert (end.state, end.reason) == (RunState.COMPLETED, "every step has ended")
    assert end.exit_code == 0
    assert journal[-1].data["missing_samples"] == 0
    signs = [entry.text for entry in journal if entry.kind == "warning" and "state" in entry.data]
    assert signs == [], "a sound cell shows no signs of a short"
    assert planned.duration_max_s is None or journal[-1].time_s <= 1.02 * planned.duration_max_s
