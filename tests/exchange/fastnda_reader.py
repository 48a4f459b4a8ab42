"""Run by the Python of another environment: capacities of the half-cycles of a Neware file (mAh).

python fastnda_reader.py FILE.ndax
"""

import json
import sys

import fastnda
import polars as pl


def main(path: str) -> None:
    frame = fastnda.read(path)
    steps = frame.group_by("step_count", maintain_order=True).agg(
        pl.col("cycle_count").first(), pl.col("capacity_mAh").last()
    )
    signed = steps.with_columns(pl.col("capacity_mAh") > 0)
    halves = steps.with_columns(charging=signed["capacity_mAh"])
    found = halves.group_by("cycle_count", "charging", maintain_order=True).agg(
        pl.col("capacity_mAh").sum().abs()
    )
    json.dump(found["capacity_mAh"].to_list(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
