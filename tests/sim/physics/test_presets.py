"""Preset files: every number has a unit and a source, and nothing unknown is let in."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from cellbench_sim.presets import load_preset, preset_names
from cellbench_sim.presets.schema import CreepShort, PelletGeometry


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads(name: str) -> None:
    preset = load_preset(name)

    assert preset.name == name
    assert preset.pellet.thickness_m == pytest.approx(0.354e-3)
    assert (preset.shorts is None) == name.endswith("_blocking")


def test_each_material_comes_as_a_symmetric_and_as_a_blocking_cell_of_one_electrolyte() -> None:
    symmetric = [name for name in preset_names() if not name.endswith("_blocking")]

    assert symmetric == ["LYC", "LYC_PMMA", "Li2ZrCl5.5F0.5", "Li2ZrCl6"]
    for name in symmetric:
        assert load_preset(name).electrolyte == load_preset(f"{name}_blocking").electrolyte


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
