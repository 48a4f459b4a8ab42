"""The protocol language: loading, checking and planning. No input or output but the named files.

card, text = load_card("ccd", None)
program = load_protocol("ccd", card, {"half_cycle": "10 min"})
check(program, bench).raise_problems()
for item in Walk(program): ...
"""

from cellbench.protocol.check import Found, adapt, check, problems_of
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.loading import (
    load_card,
    load_protocol,
    parse_card,
    parse_protocol,
    parse_settings,
    shipped_cells,
    shipped_protocols,
)
from cellbench.protocol.plan import Plan
from cellbench.protocol.planning import plan
from cellbench.protocol.program import Program
from cellbench.protocol.schema import json_schema
from cellbench.protocol.walk import Walk

__all__ = [
    "Found",
    "Plan",
    "Problem",
    "Program",
    "ProtocolError",
    "Walk",
    "adapt",
    "check",
    "json_schema",
    "load_card",
    "load_protocol",
    "parse_card",
    "parse_protocol",
    "parse_settings",
    "plan",
    "problems_of",
    "shipped_cells",
    "shipped_protocols",
]
