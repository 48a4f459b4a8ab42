"""What cellbench costs: start-up, runs, each layer, replay, fits, cycles, calls, journal
and safety, many cells, many channels, a wire, the store, the server, the laboratory's database.

    python benchmarks/run.py [--quick]

Absolute times mean little on a noisy machine: each stands beside a reference measured in the same
run, and the ratio to it is what to compare between versions. Results go to standard output as a
table, with --json as one object.
"""

from __future__ import annotations

import argparse
import json
import sys

from calls import calls
from channels import channels
from cycling import cycling
from database import database
from fits import fits
from layers import layers
from long import long
from many_cells import many_cells
from processes import processes
from realtime import realtime
from replaying import replaying
from safety import safety
from store import store
from web import web


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short pass")
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    chosen = arguments.parse_args()
    repeats = 1 if chosen.quick else 5
    results = {
        "processes": processes(repeats),
        "long": long(quick=chosen.quick),
        "layers": layers(2_000 if chosen.quick else 20_000),
        "fits": fits(repeats),
        "replay": replaying(quick=chosen.quick),
        "cycling": cycling(2 if chosen.quick else 20),
        "calls": calls(100 if chosen.quick else 1_000),
        "journal and safety": safety(quick=chosen.quick),
        "many cells": many_cells(quick=chosen.quick),
        "channels": channels(quick=chosen.quick),
        "store": store(quick=chosen.quick),
        "web": web(quick=chosen.quick),
        "database": database(quick=chosen.quick),
        "realtime": realtime(2.0 if chosen.quick else 10.0),
    }
    if chosen.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
        return
    for title, rows in results.items():
        print(f"\n{title}")
        for row in rows:
            print("  " + "   ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
