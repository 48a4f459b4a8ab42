"""Preset files: every number has a unit and a source, and nothing unknown is let in."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from ruamel.yaml import YAML

from cellbench.cell import CellCard
from cellbench_sim.presets import load_preset, preset_names
from cellbench_sim.presets.cathode import CathodeElectrode
from cellbench_sim.presets.schema import CreepShort, PelletGeometry
from cellbench_sim.world import World

SYMMETRIC = ["LYC", "LYC_PMMA", "Li2ZrCl5.5F0.5", "Li2ZrCl6", "Li3YBr5.7F0.3"]
CARDS = Path(__file__).parents[3] / "protocols" / "cells"


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads_and_says_what_emerges(name: str) -> None:
    preset = load_preset(name)

    assert preset.name == name
    assert preset.emergent or preset.by_construction
    assert not set(preset.emergent) & set(preset.by_construction)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name.endswith("_pybamm") else ())
        for name in preset_names()
    ],
)
def test_every_preset_rests_in_a_world_and_has_a_spectrum(
    name: str, frequencies_Hz: NDArray[np.float64]
) -> None:
    preset = load_preset(name)
    if preset.working.kind == "pybamm" and importlib.util.find_spec("pybamm") is None:
        pytest.skip('PyBaMM is not installed: pip install "cellbench[pybamm]"')
    world = World(preset, seed=0)
    world.advance_to(600.0)

    assert -0.1 < world.terminals()[0] < 3.5
    assert world.impedance(frequencies_Hz).real.min() > 0.0


def test_lithium_symmetric_cells_can_short_and_blocking_cells_cannot() -> None:
    for name in preset_names():
        if name in SYMMETRIC:
            assert load_preset(name).shorts is not None
        if name.endswith("_blocking"):
            assert load_preset(name).shorts is None


@pytest.mark.parametrize("name", SYMMETRIC[:4])
def test_each_material_comes_as_a_symmetric_and_as_a_blocking_cell_of_one_electrolyte(
    name: str,
) -> None:
    assert load_preset(name).electrolyte == load_preset(f"{name}_blocking").electrolyte


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_card_names_a_preset_and_agrees_with_it(path: Path) -> None:
    card = CellCard.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    assert card.simulate is not None
    preset = load_preset(card.simulate)

    assert card.electrolyte.diameter_m == pytest.approx(preset.pellet.diameter_m)
    if isinstance(preset.working, CathodeElectrode):
        assert card.working.loading_kg_per_m2 == pytest.approx(preset.working.loading_kg_per_m2)
        low_V, high_V = card.voltage_window_V
        assert low_V < World(preset, seed=0).terminals()[0] < high_V


def test_every_preset_has_a_card() -> None:
    assert {path.stem for path in CARDS.glob("*.yaml")} >= set(preset_names())


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(LookupError, match="LYC_PMMA"):
        load_preset("unobtainium")


def geometry(**changes: object) -> dict[str, Any]:
    known = {
        "diameter_m": {"value": "10 mm", "source": "assumed"},
        "thickness_m": {"value": "0.354 mm", "source": "assumed"},
        "fabrication_pressure_Pa": {"value": "300 MPa", "source": "assumed"},
    }
    return known | changes


def bad_geometries() -> Iterator[dict[str, Any]]:
    yield geometry(thickness_m={"value": "0.354 mm"})
    yield geometry(thickness_m={"value": "0.354 mm", "source": " "})
    yield geometry(thickness_m={"value": "0.354", "source": "assumed"})
    yield geometry(thickness_m={"value": "5 MPa", "source": "assumed"})
    yield geometry(thickness_m={"value": "-1 mm", "source": "assumed"})
    yield geometry(thickness_m={"value": "thin", "source": "assumed"})
    yield geometry(colour={"value": "1 mm", "source": "assumed"})


@pytest.mark.parametrize("raw", list(bad_geometries()))
def test_a_number_without_unit_or_source_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PelletGeometry.model_validate(raw)


def test_values_are_kept_in_si() -> None:
    creep = CreepShort.model_validate(
        {
            "critical_pressure_Pa": {"value": "25 MPa", "source": "assumed"},
            "width_Pa": {"value": "0.5 MPa", "source": "assumed"},
            "mean_time_at_critical_s": {"value": "1 h", "source": "assumed"},
        }
    )

    assert creep.critical_pressure_Pa == 25e6
    assert creep.mean_time_at_critical_s == 3600.0
