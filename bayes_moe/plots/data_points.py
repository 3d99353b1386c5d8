"""Rows of the data as points, with marks of their own where a response is only known in part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.plots.canvas import Canvas, Look, points
from bayes_moe.plots.legends import point_entries
from bayes_moe.results.fit import Fit


@dataclass(frozen=True)
class Mark:
    """How a row is shown of which this much is known.

    ``ending`` is that of the part's name; ``text`` is the legend's, empty for that of the data.
    ``symbols`` are the backends' names of the mark.
    """

    ending: str
    text: str
    symbols: dict[str, str]

    @property
    def part(self) -> str:
        """Name under which the artist is kept."""
        return f"observed_scatter_{self.ending}" if self.ending else "observed_scatter"

    def look(self, backend: str) -> Look:
        """Keyword arguments of a visual that draws this mark."""
        return {"marker": self.symbols[backend]} if backend in self.symbols else {}


def _symbols(matplotlib: str, plotly: str, bokeh: str) -> dict[str, str]:
    return {"matplotlib": matplotlib, "plotly": plotly, "bokeh": bokeh}


MARKS = (
    Mark("", "", {}),
    Mark("least", "at least, censored", _symbols("^", "triangle-up", "triangle")),
    Mark("most", "at most, censored", _symbols("v", "triangle-down", "inverted_triangle")),
    Mark("between", "between, at the middle", _symbols("d", "diamond", "diamond")),
)
"""Marks of responses that were observed, are at least or at most a number, or are between two."""


def marks_of_rows(fit: Fit) -> np.ndarray:
    """Positions (obs,) in :data:`MARKS` of the fitted rows."""
    design = fit.design
    if design.limits is None:
        return np.zeros(design.rows.size, dtype=int)
    lower, upper = design.response[:2]
    below, above = np.isfinite(lower), np.isfinite(upper)
    return np.select([lower == upper, below & ~above, above & ~below], [0, 1, 2], 3)


def draw_rows(
    canvas: Canvas, x: np.ndarray, y: np.ndarray, colour: str | list[str], marks: np.ndarray
) -> None:
    """Draw rows of the data (obs,) with their marks."""
    for position, mark in enumerate(MARKS):
        (own,) = np.nonzero(marks == position)
        colours = [colour[i] for i in own] if isinstance(colour, list) else colour
        look = mark.look(canvas.backend)
        points(canvas, x[own], y[own], colours, count=len(x), label=mark.part, **look)


def row_entries(canvas: Canvas, label: str, colour: str, marks: np.ndarray) -> dict[str, Look]:
    """Legend entries of the rows, one for each mark that is drawn."""
    entries: dict[str, Look] = {}
    for position, mark in enumerate(MARKS):
        if position and not (marks == position).any():
            continue
        looks = point_entries(canvas, mark.text or label, colour)
        entries |= {text: look | mark.look("matplotlib") for text, look in looks.items()}
    return entries
