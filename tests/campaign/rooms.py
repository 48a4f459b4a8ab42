"""A room of many cells for campaigns: cyclers, one potentiostat for all, one press for some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PRESS = "  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}\n"
_SPECTRUM = "  - eis: {from: 1 MHz, to: 100 Hz, points: 5 per decade, amplitude: 10 mV}\n"
PROTOCOLS = {
    "fresh": f"name: Fresh\nsteps:\n{_PRESS}{_SPECTRUM}analyses: [interface_resistance]\n",
    "stress": f"name: Stress\nsteps:\n{_PRESS}  - current: {{at: 1.2 mA/cm2, for: 3 min}}\n",
    "aged": f"name: Aged\nsteps:\n{_PRESS}{_SPECTRUM}analyses: [interface_resistance]\n",
}
#: What a stress of some minutes shorts, and what it leaves alone.
WEAK, STRONG = "LYC", "LYC_PMMA"


def room(cells: int, weak: tuple[str, ...] = (), in_press: int = 3) -> dict[str, Any]:
    """A bench file: each cell on a channel of its own, the last of them in one press.

    Args:
        cells: How many there are: A1, A2...
        weak: Those that stress shorts.
        in_press: How many share the press; the others have a cylinder each.
    """
    numbers = range(1, cells + 1)
    alone = cells - in_press
    instruments: dict[str, Any] = {
        f"n{k}": _played("neware", channel=f"27-21-{(k - 1) // 8 + 1}-{(k - 1) % 8 + 1}",
                         **{"voltage min": "-5 V", "steps folder": "steps"})
        for k in numbers
    }  # fmt: skip
    cylinder = _played("alicat", **{"piston area": "20 cm2", "capacity": "1.5 kN"})
    instruments |= {f"cylinder {k}": cylinder for k in range(1, alone + 1)}
    positions = {f"A{k}": f"{99 + 2 * k},{100 + 2 * k}" for k in numbers}
    instruments |= {
        "eis": _played("palmsens", f_max="1 MHz"),
        "mux": _played("scpi_switch", positions=positions),
        "press": _played("plc_press", capacity="5 kN", **{"force min": "5 N"}),
    }
    return {
        "bench": f"a room of {cells} cells",
        "instruments": instruments,
        "fixture": {"die": "10 mm", "kind": "servo", "at most": "5 kN"},
        "cells": {
            f"A{k}": {
                "card": STRONG,
                "simulate": WEAK if f"A{k}" in weak else STRONG,
                "cycling": f"n{k}",
                "impedance": "eis",
                "changeover": "mux",
                "press": f"cylinder {k}" if k <= alone else "press",
            }
            for k in numbers
        },
    }


def _played(driver: str, **options: Any) -> dict[str, Any]:
    return {"driver": driver, "port": "simulated"} | options


def write(directory: Path, bench: dict[str, Any], **more: Any) -> Path:
    """A campaign of all cells of a bench through all protocols; its file."""
    for name, text in PROTOCOLS.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    campaign = {
        "cellbench campaign": 1,
        "name": "Who survives stress",
        "bench": "room.yaml",
        "cells": list(bench["cells"]),
        "runs": [{"protocol": f"{name}.yaml"} for name in PROTOCOLS],
    }
    _dump(bench, directory / "room.yaml")
    return _dump(campaign | more, directory / "campaign.yaml")


def _dump(content: dict[str, Any], path: Path) -> Path:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
