"""What the server has worked out in a process of its own: ``python -m cellbench.web.jobs JOB``.

Arguments come as a JSON list on standard input; one JSON object goes to standard output.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cellbench import open as open_store
from cellbench.engine.evaluation import Evaluation, evaluate
from cellbench.errors import CellbenchError, InputError
from cellbench.protocol import Plan, Problem, ProtocolError, parse_card
from cellbench.store import RunReader, Store
from cellbench.system import give_way


def _evaluated(directory: str, run_id: str, analyses: list[str] | None) -> Evaluation:
    with Store(Path(directory), make=False) as store:
        run = store.find(run_id)
        reader = RunReader(store.run_path(run.id))
        card = parse_card(reader.documents["cell"], f"the card of run {run.id}")
        return evaluate(store, run, card, analyses)


def cycles(directory: str, run_id: str) -> dict[str, Any]:
    """The cycles of a run; none where no charge passed."""
    from cellbench.analysis.cycle_rows import cycle_rows  # noqa: PLC0415

    dataset = _evaluated(directory, run_id, []).dataset
    return {"cycles": cycle_rows(dataset), "active_mass_kg": dataset.geometry.active_mass_kg}


def spectra(directory: str, run_id: str) -> dict[str, Any]:
    """The spectra of a run with their fits, as its report draws them."""
    from cellbench.report.plots import nyquist_plot  # noqa: PLC0415
    from cellbench.report.spectra import drawn_spectra, spectra_table  # noqa: PLC0415

    dataset = _evaluated(directory, run_id, []).dataset
    drawn = drawn_spectra(dataset)
    return nyquist_plot(dataset, drawn) | {"table": asdict(spectra_table(drawn))}


def analyses(directory: str, run_id: str) -> list[dict[str, Any]]:
    """What the analyses of a run's protocol say."""
    from cellbench.report.wording import described, powers, title_of  # noqa: PLC0415

    evaluation = _evaluated(directory, run_id, None)
    found = [
        {
            "name": name,
            "title": title_of(name),
            "verdict": str(result.get("verdict") or "").replace("_", " "),
            "lines": [powers(line).strip() for line in described(name, result)],
        }
        for name, result in evaluation.results.items()
    ]
    missing = [
        {"name": name, "title": title_of(name), "verdict": "", "lines": [f"not possible: {why}"]}
        for name, why in evaluation.failures.items()
    ]
    return found + missing


def report(directory: str, run_id: str) -> str:
    """The report of a run, as one HTML file."""
    from cellbench.report.html import render  # noqa: PLC0415

    found = _evaluated(directory, run_id, None)
    return render(found.reader, found.run, found.dataset, found.results)


def program(directory: str, run_id: str) -> dict[str, Any]:
    """The steps that a run's program expands to, the lines they stand in, and its limits."""
    from cellbench.engine.recorded import recording_of  # noqa: PLC0415
    from cellbench.engine.replay import program_of  # noqa: PLC0415
    from cellbench.protocol import Walk  # noqa: PLC0415
    from cellbench.web.shown import limits_of, step_row  # noqa: PLC0415

    with Store(Path(directory), make=False) as store:
        run = store.find(run_id)
        reader = RunReader(store.run_path(run.id))
        found = program_of(recording_of(run, reader, needs_wire=False))
    steps = [row for item in Walk(found, planning=True) for row in step_row(item)]
    return {
        "steps": steps,
        "limits": limits_of(found.limits),
        "name": found.sources[0].name,
        "text": reader.documents["protocol"],
    }


def check(text: str, cell: str | None, sets: Mapping[str, str]) -> dict[str, Any]:
    """What is wrong with a protocol's text, or its plan on the simulated bench."""
    from cellbench.analysis import available  # noqa: PLC0415
    from cellbench.engine.session import on_simulated_bench  # noqa: PLC0415
    from cellbench.protocol import check as check_program  # noqa: PLC0415
    from cellbench.protocol import parse_protocol, plan  # noqa: PLC0415
    from cellbench.wiring import DEFAULT_FIXTURE  # noqa: PLC0415

    try:
        loaded, card_text = parse_protocol(text, cell, sets)
        fixture = next(iter(loaded.fixtures), DEFAULT_FIXTURE)
        session = on_simulated_bench(loaded, card_text, None, fixture, 0)
        found = check_program(loaded, session.declared(), available())
        found.raise_problems()
        planned = plan(loaded, session.declared())
    except ProtocolError as error:
        return {"ok": False, "errors": [_problem(each) for each in error.problems], "plan": None}
    except CellbenchError as error:
        return {"ok": False, "errors": [_problem(Problem(str(error)))], "plan": None}
    return {"ok": True, "errors": [], "plan": _plan(planned, found.deviations)}


def _problem(problem: Problem) -> dict[str, Any]:
    end = "" if problem.message.endswith((".", "?", "!")) else "."
    return {
        "line": problem.line or None,
        "column": problem.column + 1 if problem.line else None,
        "text": f"{problem.message}{f'{end} {problem.cure}' if problem.cure else ''}",
        "snippet": problem.excerpt,
    }


def _plan(planned: Plan, deviations: tuple[str, ...]) -> dict[str, Any]:
    ends_s = planned.duration_max_s
    return {
        "protocol": planned.name,
        "duration_s": planned.duration_min_s,
        "duration_max_s": ends_s,
        "ends_at": None
        if ends_s is None
        else (datetime.now(UTC) + timedelta(seconds=ends_s)).isoformat(timespec="seconds"),
        "samples": planned.samples,
        "rows": list(_plan_rows(planned)),
        "warnings": list(dict.fromkeys((*deviations, *planned.deviations))),
        "lines": planned.lines(),
    }


def _plan_rows(planned: Plan) -> list[dict[str, Any]]:
    start_s, rows = 0.0, []
    for row in planned.rows:
        rows.append(
            {
                "path": row.path,
                "text": row.what,
                "optional": row.optional,
                "start_s": start_s,
                "duration_s": row.duration_min_s,
                "duration_max_s": row.duration_max_s,
                "bounds": ", ".join((*row.on_device, *row.on_host)),
            }
        )
        start_s += row.duration_max_s or 0.0
    return rows


def samples(directory: str, run_id: str, columns: str, out: str) -> None:
    """Columns of a run's samples, by name with "," between, to a file of numpy's."""
    import numpy as np  # noqa: PLC0415

    from cellbench.exchange.client import NUMBERS  # noqa: PLC0415

    with open_store(directory) as store:
        names = columns.split(",") if columns else NUMBERS
        measured: dict[str, Any] = store.run(run_id).samples(names)
        np.savez(out, **measured)


def measured_spectra(directory: str, run_id: str) -> list[dict[str, Any]]:
    """The points of a run's spectra, with their conditions."""
    with open_store(directory) as store:
        return [
            {
                "time_s": one.time_s,
                "step": one.step,
                "frequency_Hz": one.frequency_Hz.tolist(),
                "impedance_real_ohm": one.impedance_ohm.real.tolist(),
                "impedance_imag_ohm": one.impedance_ohm.imag.tolist(),
                "temperature_K": one.temperature_K,
                "stack_pressure_Pa": one.stack_pressure_Pa,
                "bias_V": one.bias_V,
            }
            for one in store.run(run_id).spectra
        ]


def analysis(directory: str, run_id: str, name: str) -> dict[str, Any]:
    """What one analysis gives."""
    with open_store(directory) as store:
        try:
            return store.run(run_id).analyse(name)
        except ValueError as error:
            raise InputError(str(error)) from error


JOBS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        cycles,
        spectra,
        analyses,
        report,
        program,
        check,
        samples,
        measured_spectra,
        analysis,
    )
}


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def main() -> None:
    """Work out the job that the command line names."""
    give_way()  # to runs on the same computer, first of all
    arguments = json.load(sys.stdin)
    try:
        answer = {"done": _finite(JOBS[sys.argv[1]](*arguments))}
    except CellbenchError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer, allow_nan=False).encode())


if __name__ == "__main__":
    main()
