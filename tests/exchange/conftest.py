"""Runs whose data leave, and files of other programs that come in."""

from __future__ import annotations

from tests.report.conftest import make_run, ramp, ramp_script, replayed  # noqa: F401 (fixtures)
