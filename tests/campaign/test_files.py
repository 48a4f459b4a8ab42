"""What is wrong with a campaign is found before anything is energised, and told at its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellbench.campaign.loading import load_campaign
from cellbench.cli.app import app
from cellbench.errors import InputError

SOUND = """\
cellbench campaign: 1
name: Pellets
cells: [LYC_blocking, LYC_PMMA_blocking]
runs:
  - protocol: pellet_conductivity
    set: {equilibrate: 1 min}
  - protocol: dc_polarisation
"""


def refusal(directory: Path, text: str) -> str:
    path = directory / "pellets.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_campaign(path)
    return " ".join(str(refused.value).split())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("campaign: 1", "campaign: 2", 'line 1: "2" must be "1"'),
        ("name: Pellets", "nam: Pellets", 'line 2: "nam" is not known here; did you mean "name"?'),
        ("name: Pellets", "name: ' '", 'line 2: "name" must be a line of at most 100 characters'),
        ("[LYC_blocking, LYC_PMMA_blocking]", "LYC", 'line 3: "cells" must be a list'),
        ("[LYC_blocking, LYC_PMMA_blocking]", "[]", 'line 3: "cells" is empty'),
        ("- protocol: pell", "- protocoll: pell", 'line 5: "protocoll" is not known here; did you '
         'mean "protocol"?'),
        ("name:", "replicates: 0\nname:", 'line 2: "replicates" must be greater than'),
        ("name:", "order: upwards\nname:", 'line 2: "upwards" must be "by cell" or "by protocol"'),
        ("LYC_PMMA_blocking", "LYC_blocking", 'line 3: "LYC_blocking" stands there twice'),
        ("LYC_PMMA_blocking", "LYC_PMA_blocking", 'line 3: there is no cell card '
         '"LYC_PMA_blocking"; did you mean "LYC_PMMA_blocking"?'),
        ("LYC_PMMA_blocking", "mine.yaml", 'line 3: there is no file "mine.yaml" beside the '
         "campaign file"),
        ("dc_polarisation", "dc_polarization", 'line 7: there is no protocol "dc_polarization"; '
         'did you mean "dc_polarisation"?'),
        ("equilibrate:", "equilibrat:", 'line 6: the protocol has no such parameter; did you mean '
         '"equilibrate"?'),
        ("1 min", "1 MPa", 'line 6: "1 MPa" is not what "equilibrate" holds'),
        ("1 min}", "1 min, temperature: 200 degC}", 'line 5: "pellet_conductivity" cannot be run: '
         "pellet_conductivity.yaml, line 15: 200 °C is outside the limits"),
        ("LYC_PMMA_blocking", "LYC", 'line 7: "dc_polarisation" cannot be run on LYC: '
         "dc_polarisation.yaml, line 21: 50 MPa is beyond the limit of stack pressure"),
        ("name:", "bench: room\nname:", 'line 2: there is no file "room" beside this one, and no '
         "simulated bench of that name"),
        ("name:", "bench: neware\nname:", '"pellet_conductivity" cannot be run: '
         "pellet_conductivity.yaml, line 18: the bench has no instrument that measures impedance"),
        ("cells: [", "replicates: 1000\ncells: [LYC, LYC_PMMA, Cu_LYC_Li, NMC811_LYC_Li, ",
         "a campaign has at most 10000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in refusal(tmp_path, SOUND.replace(old, new, 1))


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = SOUND.replace("LYC_PMMA_blocking", "LYC_PMA").replace("dc_pol", "ac_pol")
    said = refusal(tmp_path, text)
    assert "pellets.yaml, line 3: " in said
    assert "pellets.yaml, line 7: " in said


def test_what_is_beside_the_file_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: Mine\nsteps: [rest: 1 min]\n", encoding="utf-8")
    text = SOUND.replace("dc_polarisation", "mine")
    (tmp_path / "pellets.yaml").write_text(text, encoding="utf-8")
    campaign = load_campaign(tmp_path / "pellets.yaml")
    assert {trial.protocol for trial in campaign.outline.trials} >= {"Mine"}


def test_the_command_refuses_in_one_message_and_leaves_nothing_behind(
    tmp_path: Path, store_directory: Path
) -> None:
    path = tmp_path / "pellets.yaml"
    path.write_text(SOUND.replace("name: Pellets", "name:"), encoding="utf-8")
    done = CliRunner().invoke(app, ["campaign", "run", str(path), "--json"])
    assert done.exit_code == 2
    assert 'pellets.yaml, line 3: "name"' in json.loads(done.stdout)["error"]
    assert not store_directory.exists()
