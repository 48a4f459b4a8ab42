"""A porous cathode against lithium as PyBaMM solves it: built once, solved a stretch at a time.

PyBaMM (Sulzer et al., J. Open Res. Softw. 2021, 9, 14) is an optional extra; this is the only
module that imports it, and only when a cell asks for it. Its telemetry is switched off before the
import, after which it asks nobody, sends nothing and writes nothing. PyBaMM counts current positive
on discharge; here, as everywhere on the simulated bench, it is positive where the cathode is
oxidised.
"""

import math
import os
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellbench.errors import CellbenchError, InputError
from cellbench_sim.physics.look_ahead import Array, LookAhead
from cellbench_sim.presets.electrodes import PybammElectrode

#: Where the model ends, without the drop over the series resistance: beyond, it runs away.
_LOWEST_V, _HIGHEST_V = 1.5, 5.5
#: How much the potential has fallen where the material is full, and risen where it is empty.
_AT_THE_ENDS_V = 3.0
_NOWHERE_V = 1e6
_RELATIVE, _ABSOLUTE = 1e-6, 1e-8
_TERMINALS = ("Voltage [V]", "Current [A]")
_PASSED = "Discharge capacity [A.h]"
_POTENTIAL = "Positive electrode OCP [V]"
_MAXIMUM = "Maximum concentration in positive electrode [mol.m-3]"


class Circuit(NamedTuple):
    """What is imposed on the half cell and the resistance in series with it (A or V, Ohm, K)."""

    by: Literal["current", "voltage"]
    set_point: float
    series_Ohm: float
    temperature_K: float


class PybammHalfCell:
    """A cathode and lithium in PyBaMM's SPM, SPMe or DFN; a state is its vector of unknowns.

    Raises:
        InputError: PyBaMM is not installed, or does not know what the preset names.
    """

    def __init__(self, parameters: PybammElectrode, area_m2: float) -> None:
        self._pybamm = pybamm = _import_pybamm()
        model = _model(pybamm, parameters.model)
        known = {parameter.name for parameter in model.parameters}
        values = _values(pybamm, parameters, known, area_m2)
        solver = pybamm.IDAKLUSolver(rtol=_RELATIVE, atol=_ABSOLUTE)
        simulation = pybamm.Simulation(
            model,
            parameter_values=values,
            solver=solver,
            var_pts={
                **model.default_var_pts,
                "x_p": parameters.points_across,
                "r_p": parameters.points_in_particle,
            },
        )
        simulation.build()
        self._model, self._solver = simulation.built_model, simulation.solver
        self._passed = self._index(_PASSED)
        self._driven = self._index("Current variable [A]")
        self._outputs, self._linear = _functions(self._model)
        self._mass = self._model.mass_matrix.entries
        fresh = self._model.concatenated_initial_conditions.evaluate(0, inputs={})
        self.fresh: list[float] = fresh[:, 0].tolist()

    def charge_C(self, state: Array) -> float:
        """Return the charge that has passed since the cell was fresh, positive where charged."""
        return -3600.0 * float(state[self._passed])

    def voltage_V(self, state: Array, circuit: Circuit) -> float:
        """Return the voltage of a state, without the series resistance."""
        outputs = self._outputs(state, np.zeros_like(state), list(_inputs(circuit).values()))
        return float(outputs[0][0])

    def solve(
        self, start_s: float, state: list[float], circuit: Circuit, horizon_s: float
    ) -> LookAhead:
        """Look ahead from a state, at most to the horizon or to where the model ends.

        The voltage of the result is without the series resistance.

        Raises:
            CellbenchError: The solver found no way on.
        """
        inputs, limits = _inputs(circuit), self._limits(circuit, np.array(state))
        if limits is None:
            return self._standing(start_s, np.array(state), circuit)
        column = np.array(state)[:, None]
        start = self._pybamm.Solution(np.zeros(1), column, self._model, inputs | limits)
        try:
            solution = self._solver.step(
                start, self._model, horizon_s, inputs=inputs | limits, save=False
            )
        except self._pybamm.SolverError as error:
            raise CellbenchError(f"PyBaMM found no way on from {circuit}: {error}") from error
        return self._look_ahead(start_s, solution, circuit)

    def impedance(
        self, state: Array, circuit: Circuit, omega: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about a state, at omega in rad/s.

        The discretised model M dy/dt = f(y) is linearised there: (j w M - df/dy) y = b.
        """
        from scipy.sparse import csc_matrix  # noqa: PLC0415
        from scipy.sparse.linalg import splu  # noqa: PLC0415

        inputs = list(_inputs(circuit._replace(by="current")).values())
        jacobian, to_outputs = self._linear(state, inputs)
        mass, slopes = csc_matrix(self._mass), csc_matrix(jacobian.sparse())
        forcing = np.zeros(len(state), dtype=np.complex128)
        forcing[self._driven] = 1.0
        observed = to_outputs.full()
        result = np.empty(omega.shape, dtype=np.complex128)
        for place, w in enumerate(omega):
            voltage, current = observed @ splu(1j * w * mass - slopes).solve(forcing)
            result[place] = voltage / current
        return result

    def _index(self, name: str) -> int:
        """Place of a scalar unknown in the state."""
        for variable, slices in self._model.y_slices.items():
            if variable.name == name:
                return int(slices[0].start)
        raise CellbenchError(f"this PyBaMM has no unknown {name!r}")

    def _limits(self, circuit: Circuit, state: Array) -> dict[str, float] | None:
        """Return the voltages at which to stop; None where the state is beyond them already."""
        limits = {"lowest [V]": -_NOWHERE_V, "highest [V]": _NOWHERE_V}
        if circuit.by == "voltage" or circuit.set_point == 0.0:
            return limits
        voltage_V = self.voltage_V(state, circuit)
        if circuit.set_point < 0.0:
            limits["lowest [V]"] = _LOWEST_V
            return limits if voltage_V > _LOWEST_V else None
        limits["highest [V]"] = _HIGHEST_V
        return limits if voltage_V < _HIGHEST_V else None

    def _standing(self, start_s: float, state: Array, circuit: Circuit) -> LookAhead:
        """Return a model at its end: the state stands, and so does the voltage."""
        one, still = state[None, :], np.zeros((1, 2))
        terminals = np.array([[self.voltage_V(state, circuit), circuit.set_point]])
        return LookAhead(
            start_s, np.zeros(1), one, np.zeros_like(one), terminals, still, spent=True
        )

    def _look_ahead(self, start_s: float, solution: Any, circuit: Circuit) -> LookAhead:
        states, slopes = np.asarray(solution.y), np.asarray(solution.yp)
        inputs = np.array(list(_inputs(circuit).values()))[:, None].repeat(states.shape[1], axis=1)
        values, changes = self._outputs(states, slopes, inputs)
        return LookAhead(
            start_s,
            np.asarray(solution.t) - solution.t[0],
            states.T,
            slopes.T,
            values.full().T,
            changes.full().T,
            spent=solution.termination != "final time",
        )


def _import_pybamm() -> ModuleType:
    os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
    try:
        import pybamm  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "pybamm":
            raise
        raise InputError(
            "this simulated cell is computed by PyBaMM, which is not installed: "
            'pip install "cellbench[pybamm]"'
        ) from error
    module: ModuleType = pybamm
    return module


def _model(pybamm: ModuleType, name: str) -> Any:
    """Build the equations, driven through a series resistance by a current or a voltage."""
    by_voltage = pybamm.InputParameter("by voltage")
    set_point = pybamm.InputParameter("set point")
    series_Ohm = pybamm.InputParameter("series [Ohm]")

    def control(variables: Any) -> Any:
        discharge_A = variables["Current [A]"]
        voltage_V = variables["Voltage [V]"] - series_Ohm * discharge_A
        by_current = -discharge_A - set_point
        return by_voltage * (voltage_V - set_point) + (1 - by_voltage) * by_current

    options = {
        "working electrode": "positive",
        "operating mode": control,
        "surface form": "differential",
    }
    model = getattr(pybamm.lithium_ion, name)(options)
    voltage_V = model.variables["Voltage [V]"]
    model.events = [
        pybamm.Event("lowest voltage", voltage_V - pybamm.InputParameter("lowest [V]")),
        pybamm.Event("highest voltage", pybamm.InputParameter("highest [V]") - voltage_V),
    ]
    return model


def _values(
    pybamm: ModuleType, parameters: PybammElectrode, known: set[str], area_m2: float
) -> Any:
    """Return PyBaMM's own values, with the preset's on top, on a square of the cell's area."""
    if parameters.parameter_set not in pybamm.parameter_sets:
        raise InputError(f"PyBaMM has no parameter set {parameters.parameter_set!r}")
    values = pybamm.ParameterValues(parameters.parameter_set)
    if unknown := parameters.values.keys() - values.keys() - known:
        raise InputError(f"PyBaMM has no parameter {', '.join(sorted(unknown))}")
    values.update(dict(parameters.values), check_already_exists=False)
    values.update(
        {
            _POTENTIAL: _steep_at_ends(pybamm, values[_POTENTIAL], parameters.end_width),
            "Electrode height [m]": math.sqrt(area_m2),
            "Electrode width [m]": math.sqrt(area_m2),
            "Number of electrodes connected in parallel to make a cell": 1.0,
            "Ambient temperature [K]": "[input]",
            "Initial concentration in positive electrode [mol.m-3]": (
                parameters.initial_content * values[_MAXIMUM]
            ),
        }
    )
    return values


def _steep_at_ends(pybamm: ModuleType, published: Any, width: float) -> Any:
    """Let a published fit end steeply: most go on flat to contents that no solver gets past."""

    def potential(content: Any) -> Any:
        full, empty = (pybamm.exp(x / width) for x in (content - 1.0, -content))
        return published(content) + _AT_THE_ENDS_V * (empty - full)

    return potential


def _inputs(circuit: Circuit) -> dict[str, float]:
    return {
        "by voltage": 1.0 if circuit.by == "voltage" else 0.0,
        "set point": circuit.set_point,
        "series [Ohm]": circuit.series_Ohm,
        "Ambient temperature [K]": circuit.temperature_K,
    }


def _functions(model: Any) -> tuple[Any, Any]:
    """Return two functions of the discretised model's state.

    The first gives voltage and current with their derivatives along a change of state; the second
    the Jacobian of the equations and that of voltage and current.
    """
    import casadi  # noqa: PLC0415

    size = model.len_rhs_and_alg
    y, change = casadi.MX.sym("y", size), casadi.MX.sym("change", size)
    inputs = _inputs(Circuit("current", 0.0, 0.0, 0.0))
    given = casadi.MX.sym("inputs", len(inputs))
    symbols = dict(zip(inputs, casadi.vertsplit(given), strict=True))
    voltage, discharge = (
        model.get_processed_variable(name).to_casadi(0, y, inputs=symbols) for name in _TERMINALS
    )
    outputs = casadi.vertcat(voltage, -discharge)
    parts = (model.concatenated_rhs, model.concatenated_algebraic)
    equations = casadi.vertcat(*(part.to_casadi(0, y, inputs=symbols) for part in parts))
    along = casadi.jtimes(outputs, y, change)
    return (
        casadi.Function("outputs", [y, change, given], [outputs, along]),
        casadi.Function(
            "linear",
            [y, given],
            [casadi.jacobian(equations, y), casadi.jacobian(outputs, y)],
        ),
    )
