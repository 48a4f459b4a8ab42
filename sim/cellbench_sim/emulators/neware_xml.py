"""XML as the BTS 8 client writes it: elements on lines of their own, numbers without padding."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape, quoteattr

#: What the cycler's calendar shows when the bench is switched on.
_SWITCHED_ON = datetime(2026, 1, 1, tzinfo=UTC)
#: Length of a date without its time zone.
_DATE = len("2026-01-01 00:00:00")
_NEEDS_ESCAPES = re.compile(r"[&<>\"\n\r\t]")


def only(root: ET.Element, tag: str) -> ET.Element:
    """Return the element of a request that has no list, or an empty one that names no channel."""
    element = root.find(f".//{tag}")
    return ET.Element(tag) if element is None else element


def text_of(element: ET.Element) -> str:
    """Return the text of an element, without the space around it."""
    return (element.text or "").strip()


def integer(element: ET.Element, name: str) -> int:
    """Return an attribute that is a whole number, 0 where it is none."""
    return whole(element.get(name, ""))


def whole(text: str) -> int:
    """Return a whole number, 0 where a text is none."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() else 0


def xml_element(tag: str, attributes: Mapping[str, Any], text: str = "", indent: int = 4) -> str:
    """Return one element on a line of its own."""
    pairs = "".join([f" {name}={_quoted(str(value))}" for name, value in attributes.items()])
    end = f">{escape(text)}</{tag}>" if text else " />"
    return f"{' ' * indent}<{tag}{pairs}{end}"


def _quoted(text: str) -> str:
    """Return an attribute's value; hardly any of the thousands in a reply needs escapes."""
    return quoteattr(text) if _NEEDS_ESCAPES.search(text) else f'"{text}"'


def listed(entries: Iterable[str]) -> list[str]:
    """Return the lines of a list of elements."""
    lines = list(entries)
    if not lines:
        return ['  <list count="0" />']
    return [f'  <list count="{len(lines)}">', *lines, "  </list>"]


def decimals(value: float, places: int = 4) -> str:
    """Return a number as live data show it: rounded, without trailing zeros."""
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def digits(value: float) -> str:
    """Return a number as recorded rows show it: with all its digits."""
    return f"{value:.15g}"


def date(time_s: float) -> str:
    """Return the date of a moment of the bench."""
    return (_SWITCHED_ON + timedelta(seconds=time_s)).isoformat(" ", "seconds")[:_DATE]
