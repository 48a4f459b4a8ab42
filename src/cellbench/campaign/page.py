"""The reference campaigns as one HTML file, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from cellbench import __version__
from cellbench.campaign.judging import Judged


def render(rows: Sequence[Judged]) -> str:
    """Return the page as text; it asks nothing of any network."""
    environment = Environment(
        loader=PackageLoader("cellbench.campaign"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("cellbench.report").joinpath("static", "report.css").read_text(encoding="utf-8")
    return environment.get_template("reference.html.j2").render(
        rows=rows,
        passed=sum(each.passed for each in rows),
        version=__version__,
        style=Markup(style),  # noqa: S704 (a file of this program)
    )
