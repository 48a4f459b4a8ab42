"""What the command line itself refuses, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellbench.cli.app import app

SHORT = "cellbench: 1\nname: Short\ncell: LYC_PMMA\nsteps:\n  - rest: 1 s\n"


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2, captured
    assert len(captured.err.splitlines()) <= 24
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "{protocol}", "--report", "{protocol}"], ".html"),
        (["run", "{protocol}", "--report", "{here}/none/r.html"], "there is no directory"),
        (["run", "{protocol}", "--report", "{here}"], ".html"),
        (["run", "{protocol}", "--seed", "9" * 30], "seed"),
        (["run", "{protocol}", "--seed", "-1"], "seed"),
        (["run", "{protocol}", "--speed", "fast"], "speed"),
        (["run", "{protocol}", "--store", ""], "--store"),
        (["run", "{protocol}", "--store", "{protocol}"], "--store"),
        (["run", "{protocol}", "--sim-cell", "LYCC"], "LYC"),
        (["run", "{protocol}", "--cell", "LYCC"], "LYC"),
        (["run", "{protocol}", "--set", "novalue"], "name=value"),
        (["run", "{protocol}", "--bench", "{here}/none.yaml"], "none.yaml"),
        (["run", "cdd"], "ccd"),
        (["run", "ccd", "--fixture", "anvil"], "laboratory press"),
        (["check", "pelletize", "--fixture", "servo"], '--fixture "laboratory press"'),
        (["check", "ccd", "--fixture", "laboratory press"], '--fixture "servo"'),
        (["check", "operando_pressure", "--fixture", "servo"], "meant for screw or spring"),
        (["check", "ccd", "--bench", "{bench}", "--fixture", "screw"], "--fixture"),
        (["check", "ccd", "--bench", "{bench}", "--sim-cell", "LYC"], "--sim-cell"),
        (["check", "ccd", "--bench", "{half}"], "load cell not"),
        (["check", "ccd", "--bench", "keithly"], "there are: biologic"),
        (["check", "{here}/none.yaml"], "none.yaml"),
        (["show", "999"], "no store"),
        (["runs", "--store", "{here}/none"], "no store"),
        (["export", "last", "--to", "csv"], "no store"),
        (["export", "last", "--to", "xlsx"], "parquet"),
        (["import", "{here}/none.bdf"], "no file"),
        (["import", "{protocol}"], "ends in none of"),
        (["sim", "serve", "--cell", "LYCC"], "LYC"),
        (["sim", "serve", "--port", "99999"], "port"),
    ],
)
def test_a_mistake_on_the_command_line_is_explained(
    capsys: pytest.CaptureFixture[str],
    protocol: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    bench, half = tmp_path / "bench.yaml", tmp_path / "half.yaml"
    bench.write_text("bench: b\ninstruments: {smu: {driver: keithley, port: 192.0.2.1}}\n")
    half.write_text(
        "bench: b\ninstruments:\n"
        "  smu: {driver: keithley, port: simulated}\n"
        "  load cell: {driver: loadstar, port: COM7}\n"
    )
    places = {"protocol": protocol, "here": tmp_path, "bench": bench, "half": half}
    filled = [each.format(**places) for each in arguments]
    assert words in refused(capsys, *filled)
    assert protocol.read_text() == SHORT
    assert not (tmp_path / "none").exists()


def test_an_unknown_analysis_is_explained(
    capsys: pytest.CaptureFixture[str], protocol: Path
) -> None:
    with pytest.raises(SystemExit):
        app(["run", str(protocol)])
    capsys.readouterr()
    assert "ccd" in refused(capsys, "analyze", "last", "foo")


def test_a_catalogue_that_is_none_is_explained(
    capsys: pytest.CaptureFixture[str], protocol: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "catalogue.sqlite").write_text("no database, but long enough to be read")
    text = refused(capsys, "run", protocol, "--store", tmp_path / "broken")
    assert "move it away" in text
    assert "sqlalche" not in text


def test_with_json_an_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["check", "cdd", "--json"])
    assert ended.value.code == 2
    assert "ccd" in json.loads(capsys.readouterr().out)["error"]
