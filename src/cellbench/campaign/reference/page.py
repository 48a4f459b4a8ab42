"""The reference campaigns as one HTML file, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from cellbench import __version__
from cellbench.campaign.reference.judging import Judged
from cellbench.report.html import asset


def render(rows: Sequence[Judged]) -> str:
    """Return the page as text; it asks nothing of any network."""
    environment = Environment(
        loader=PackageLoader("cellbench.campaign.reference"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup().join(map(asset, ("palette.css", "parts.css", "report.css")))
    return environment.get_template("reference.html.j2").render(
        rows=rows,
        passed=sum(each.passed for each in rows),
        version=__version__,
        style=style,
    )
