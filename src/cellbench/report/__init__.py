"""What a run came to, for people: a page and closing lines."""

from cellbench.report.html import render
from cellbench.report.text import result_lines

__all__ = ["render", "result_lines"]
