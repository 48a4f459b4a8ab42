"""What a report may do in a browser: run its own scripts, of no origin, and nothing else.

The report is one file with its scripts in it. Those of this package are allowed by their hashes:
made from the template without a run's data, so that nothing in a run can become one of them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from cellbench.report.html import environment

_SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<text>.*?)</script>", re.DOTALL)


@lru_cache(maxsize=1)
def report_policy() -> str:
    """The Content-Security-Policy of a report."""
    scripts = environment().get_template("scripts.html.j2").render(data="")
    hashes = " ".join(
        f"'sha256-{_hash(found['text'])}'"
        for found in _SCRIPT.finditer(scripts)
        if "application/json" not in found["attributes"]
    )
    return (
        f"sandbox allow-scripts; default-src 'none'; script-src {hashes}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
