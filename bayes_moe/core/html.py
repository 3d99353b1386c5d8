"""HTML of a notebook's views: escaped text, small tables, and a heading with its parts.

The style is inline and takes the notebook's own colours, so that it suits light and dark themes,
and needs no file from elsewhere.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top"
"""Style of a cell: inherited colours, since a notebook's background may be light or dark."""

RULE = "border-bottom:1px solid rgba(128,128,128,.5)"
"""Style of the line below a table's head, visible on light and on dark."""


def escape(value: Any) -> str:
    """Text of a value with HTML's special characters escaped, quotes included."""
    return html.escape(str(value), quote=True)


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]], caption: object | None = None) -> str:
    """HTML table of values, all of them escaped.

    Parameters
    ----------
    head : iterable
        Titles of the columns; without any, the table has no head.
    rows : iterable of iterables
        Cells of each row. Line breaks in a cell are kept.
    caption : object, optional
        Text above the table.
    """
    titles = [f'<th style="{CELL};{RULE}">{escape(title)}</th>' for title in head]
    parts = ['<table style="border-collapse:collapse;margin:4px 0">']
    if caption is not None:
        style = "caption-side:top;text-align:left;padding:2px 0;opacity:.75;color:inherit"
        parts.append(f'<caption style="{style}">{escape(caption)}</caption>')
    if titles:
        parts.append(f"<thead><tr>{''.join(titles)}</tr></thead>")
    parts.append("<tbody>")
    for row in rows:
        cells = (f'<td style="{CELL};white-space:pre-line">{escape(cell)}</td>' for cell in row)
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*parts, "</tbody></table>"])


def paragraph(text: Any) -> str:
    """HTML paragraph of a text, escaped; its line breaks are kept."""
    return f'<div style="margin:4px 0;white-space:pre-line">{escape(text)}</div>'


def items(texts: Iterable[Any]) -> str:
    """HTML list of texts, escaped; the empty string if there are none."""
    entries = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul style="margin:4px 0;padding-left:20px">{entries}</ul>' if entries else ""


def view(title: Any, *parts: str) -> str:
    """HTML view of an object: its title, escaped, and parts that are HTML already."""
    head = f'<div style="font-weight:600;{RULE};padding:2px 0">{escape(title)}</div>'
    return f'<div style="max-width:60em;line-height:1.4">{head}{"".join(parts)}</div>'


def folded(summary: Any, *parts: str) -> str:
    """HTML parts that are shown on a click on the summary, which is escaped."""
    return (
        f'<details style="margin:4px 0"><summary>{escape(summary)}</summary>'
        f"{''.join(parts)}</details>"
    )
