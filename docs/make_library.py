"""Writes the pages of docs/protocols: each shipped protocol with its plot, parameters and text.

python docs/make_library.py      (the plots are made by docs/make_pictures.py)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cellbench import library
from cellbench.engine.session import prepare
from cellbench.protocol import plan
from cellbench.report.wording import duration

DOCS = Path(__file__).parent
HEAD = """# The library

Protocols that come with cellbench. Each runs as it is on the simulated bench, on the cell that it
names; with `--cell` on another one, with `--set` with other values, and with `--bench` on
instruments. `cellbench protocols NAME > mine.yaml` begins one's own from it.

The plots are of runs on the simulated bench: they show what a protocol measures, not what a
material does.
"""
#: What each is for, in the order of the page.
LIBRARY: dict[str, dict[str, str]] = {
    "Pellets": {
        "pelletize": "Presses a pellet, holds it, and asks for thickness and mass.",
        "pellet_conductivity": "Ionic conductivity of a pellet under stack pressure.",
        "arrhenius": "Conductivity over temperature, and its activation energy.",
        "dc_polarisation": "Electronic conductivity from currents that have become steady.",
        "fabrication_pressure": "Conductivity as the pellet is pressed harder and harder.",
        "air_exposure": "What air does to a pellet, spectrum by spectrum.",
        "electrolyte_compatibility": "Whether two electrolytes react with each other.",
    },
    "Lithium": {
        "ccd": "Raises the current until lithium shorts the cell: last stable, irregular, short.",
        "stack_pressure_eis": "Resistance of the interface over stack pressure.",
        "stripping": "How much lithium one side gives before contact is lost.",
        "symmetric_cycling": "Plating and stripping at one current for as long as it goes.",
        "cu_li_efficiency": "How much of the lithium that is plated on copper comes back.",
    },
    "Stability": {
        "cyclic_voltammetry": "Where an electrolyte with carbon is oxidised and reduced.",
        "linear_sweep": "Onset of oxidation in a single sweep.",
        "cutoff_ladder": "What a higher and higher upper cut-off costs.",
        "ageing_hold": "Leakage and resistance while the cathode is held at a high potential.",
        "open_circuit_ageing": "How the resistance of a charged cell grows at open circuit.",
        "self_discharge": "What a charged cell loses while it stands.",
    },
    "Full cells": {
        "formation": "The first cycles, gently.",
        "rate_test": "Capacity over C-rate, and what is left on the way back.",
        "long_cycling": "Retention over many cycles, with check-ups.",
        "eis_along_cycle": "Spectra along one charge and discharge.",
        "stack_pressure_eis_full": "Resistance of a full cell over stack pressure.",
        "operando_pressure": "How the stack pressure breathes with the state of charge.",
        "gitt": "Diffusion coefficient and open-circuit potential by titration.",
        "pulse_resistance": "Resistance over the state of charge, by pulses.",
        "standard_benchmark": "Formation, rate and cycling as one record, for three cells.",
    },
}
#: Protocols of which a part shows as much; the plot is from a run with these values.
SHORTENED = {"symmetric_cycling": ("cycles=100",)}


def pages() -> dict[str, str]:
    """The pages, by their places in docs/."""
    rows = ""
    for group, protocols in LIBRARY.items():
        listed = "".join(f"- [`{name}`]({name}.md): {said}\n" for name, said in protocols.items())
        rows += f"\n## {group}\n\n{listed}"
    found = {"protocols/index.md": HEAD + rows}
    for protocols in LIBRARY.values():
        found |= {f"protocols/{name}.md": _page(name, said) for name, said in protocols.items()}
    return found


def _page(name: str, said: str) -> str:
    text = library.find_protocol(name).read_text(encoding="utf-8")
    content = YAML(typ="safe").load(text)
    parts = [
        f"# {content['name']}", said, _facts(name, content), _picture(name),
        _parameters(text), f"## The protocol\n\n```yaml\n{text.rstrip()}\n```",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(name: str, content: dict[str, Any]) -> str:
    session = prepare(name)
    planned = plan(session.program, session.declared())
    longest = planned.duration_max_s
    facts = {
        "Reference": content.get("reference", ""),
        "Cell": f"`{content['cell']}` ({session.card.layout})",
        "Fixture": ", ".join(content.get("fixture", [])),
        "Takes": "" if longest is None else f"{duration(longest)} at most, on the simulated bench",
        "Analyses": ", ".join(_analysis(each) for each in content.get("analyses", [])),
    }
    return "\n".join(f"- **{key}**: {value}" for key, value in facts.items() if value)


def _analysis(written: str) -> str:
    name = written.partition(" within ")[0].replace(" ", "_")
    return f"[{written}](../analyses.md#{name})"


def _picture(name: str) -> str:
    values = SHORTENED.get(name, ())
    command = " ".join(["cellbench", "run", name, *(f'--set "{each}"' for each in values)])
    return f"![Plot of {name}](../images/protocols/{name}.png)\n\nFrom the report of `{command}`."


def _parameters(text: str) -> str:
    """The parameters with their values, and with the comments beside them."""
    block = re.search(r"^parameters:\n((?:  .*\n)+)", text, re.MULTILINE)
    if not block:
        return ""
    rows = ""
    for name, value, comment in re.findall(r"^  (\w+): (.*?)(?: +# (.*))?$", block[1], re.M):
        rows += f"| `{name}` | `{value}` | {comment} |\n"
    head = "## Parameters\n\n`--set NAME=VALUE` changes one.\n\n"
    return head + "| Name | Value | |\n|---|---|---|\n" + rows.rstrip()


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
