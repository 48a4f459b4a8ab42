"""Finding analyses through entry points, a laboratory's own included."""

import sys
from pathlib import Path

import pytest

from cellbench import analysis
from cellbench.analysis import Dataset, Geometry
from cellbench.errors import InputError

MODULE = '''
"""A laboratory's own analysis."""

def analyse(dataset, **options):
    return {"area_m2": dataset.geometry.area_m2, **options}

def describe(result):
    return [f"area {result['area_m2']} m2"]
'''


@pytest.fixture
def _laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of a laboratory, as an installer would leave it."""
    metadata = tmp_path / "lab_analyses-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-analyses\nVersion: 1.0\n")
    points = "[cellbench.analyses]\nlab_area = lab_area_analysis:analyse\n"
    (metadata / "entry_points.txt").write_text(points)
    (tmp_path / "lab_area_analysis.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lab_area_analysis", raising=False)


@pytest.mark.usefixtures("_laboratory")
def test_a_laboratory_adds_its_own_analysis() -> None:
    dataset = Dataset(Geometry(1e-4, "symmetric"))
    assert "lab_area" in analysis.available()
    result = analysis.analyse("lab area", dataset, scale=2)
    assert result == {"area_m2": 1e-4, "scale": 2}
    assert analysis.describe("lab_area", result) == ["area 0.0001 m2"]


def test_an_unknown_analysis_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match='no analysis "no such"'):
        analysis.analyse("no such", Dataset(Geometry(1e-4, "symmetric")))
