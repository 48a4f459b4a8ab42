"""What watches the wires for programs without bounds finds one."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.bounds import MacNet

from cellbench.protocol.program import Limits

LIMITS = Limits(voltage_min_V=-1.0, voltage_max_V=1.0, current_max_A=0.01)
SAFETY = {"VSafeMax": 1.0, "VSafeMin": -1.0, "ISafeChg": 0.01, "ISafeDis": 0.01}
OUTPUT = {"Current": 0.005, "Voltage": 0.9}


def told(*asked: tuple[tuple[int, int], dict[str, float]]) -> list[str]:
    found: list[str] = []
    watch = MacNet(LIMITS, found.append)
    for (f_class, number), values in asked:
        params: dict[str, Any] = {"FClass": f_class, "FNum": number, **values}
        watch.heard(json.dumps({"method": "MacNet", "params": params}).encode())
    return found


def test_direct_mode_within_its_safety_limits_is_left_alone() -> None:
    assert told((MacNet.SAFETY, SAFETY), (MacNet.START, OUTPUT)) == []


def test_direct_mode_without_safety_limits_is_found() -> None:
    assert "without safety limits" in told((MacNet.START, OUTPUT))[0]
    wide = SAFETY | {"VSafeMax": 4.0}
    assert "without safety limits" in told((MacNet.SAFETY, wide), (MacNet.START, OUTPUT))[0]


def test_an_output_beyond_the_limits_is_found() -> None:
    for beyond in ({"Current": 0.02}, {"Voltage": 3.0}):
        asked = (MacNet.SAFETY, SAFETY), (MacNet.OUTPUT, OUTPUT | beyond)
        assert "was to put out" in told(*asked)[0]
