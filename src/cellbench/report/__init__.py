"""What a run came to, for people and for other programs: a page, closing lines, data files."""

from cellbench.report.export import FORMATS, export
from cellbench.report.html import render
from cellbench.report.text import result_lines

__all__ = ["FORMATS", "export", "render", "result_lines"]
