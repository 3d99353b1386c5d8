"""Sections as text for the terminal and as the page docs/benchmarks.md."""

import datetime
import math
import textwrap
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.timing import ROOT, Row

PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Section:
    """A heading, a text and rows of a table; rows need not have all columns."""

    title: str
    text: str
    rows: list[Row]

    @property
    def prose(self) -> str:
        """The text, one paragraph per blank line, in lines of at most 100 characters."""
        paragraphs = self.text.split("\n\n")
        return "\n\n".join(textwrap.fill(p, 100, break_on_hyphens=False) for p in paragraphs)

    @property
    def cells(self) -> list[list[str]]:
        """The heading row, then the rows, as text."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        body = [[shown(column, row.get(column, "")) for column in columns] for row in self.rows]
        return [columns, *body] if columns else []


def shown(column: str, value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if math.isnan(value):
        return "–"
    if "log likelihood" in column:
        return f"{value:.4f}"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def terminal(section: Section) -> str:
    cells = section.cells
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    ]
    return "\n".join([f"== {section.title} ==", section.prose, *lines, ""])


def markdown(section: Section, measured: str) -> str:
    cells = section.cells
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    if cells:
        lines.insert(1, "|---" + "|---:" * (len(cells[0]) - 1) + "|")
    parts = [f"## {section.title}", "", section.prose, "", *lines, "", measured]
    return "\n".join(parts).rstrip() + "\n"


def put(section: Section, rounds: int, load: float) -> None:
    """Write a section into docs/benchmarks.md, in place of the one with its title."""
    head = f"""# Benchmarks

Written by `make bench`, or a theme at a time by `python -m benchmarks --write --only nuts`. Seconds
are medians over the rounds (fewer for what takes minutes). A ratio is the median of the ratios of
runs taken in turn. Everything runs on one thread, unless it says otherwise.

Machine: {machine.words()}.
"""
    day = datetime.date.today()
    measured = (
        f"*Measured on {day}, {rounds} rounds, load average {load:.1f} at the beginning. "
        f"{machine.versions()}.*"
    )
    texts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:] if PAGE.exists() else []
    sections = {text.split("\n", 1)[0]: f"## {text.rstrip()}\n" for text in texts}
    sections[section.title] = markdown(section, measured)
    PAGE.write_text("\n".join([head, *sections.values()]), encoding="utf-8")
