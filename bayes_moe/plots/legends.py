"""Legends: entries for experts, intervals and data, in the shape in which they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from textwrap import fill
from typing import Any

from bayes_moe.data.reference_grid import Grid, state
from bayes_moe.plots.canvas import BAND_ALPHA, BAR_WIDTHS, Canvas, Look

WITH_MARKERS = ("matplotlib", "plotly")
"""Backends whose legends may have other marks than lines."""

PLOTLY_SYMBOLS = {
    "o": "circle",
    "|": "line-ns",
    "^": "triangle-up",
    "v": "triangle-down",
    "d": "diamond",
}
LETTERS = 34  # most in a line of a legend


def add_legend(canvas: Canvas, entries: Mapping[str, Look], fixed: Mapping[str, Any]) -> None:
    """Add a legend beside the plot, with the values of the fixed columns as its title."""
    collection = canvas.collection
    statements = [_wrapped(text) for text in state(fixed)]
    title = "at " + "\nand ".join(statements) if statements else None
    looks: Look = {"title": title and canvas.text(title), "update_visuals": False}
    if canvas.backend == "matplotlib":
        looks |= {"frameon": False, "alignment": "left"}
        # Projecting caps would lengthen the lines of bands.
        looks["visual_kwargs"] = {"solid_capstyle": "butt"}
    wanted = canvas.wanted("legend", looks)
    # A second plot in the same collection keeps the first one's legend.
    if wanted is None or "legend" in collection.viz.children:
        return
    module = import_module(f"arviz_plots.backend.{canvas.backend}")
    drawn = list(entries.values())
    if canvas.backend != "matplotlib":
        drawn = [_as_line(look, canvas.backend) for look in drawn]
    labels = [canvas.text(_wrapped(label)) for label in entries]
    legend = module.legend(collection, drawn, labels, **wanted)
    if canvas.backend == "plotly":
        _mark_plotly(collection.viz["figure"].item(), list(entries.values()))
    collection.viz["legend/expert"] = legend


def expert_entries(canvas: Canvas, grid: Grid) -> dict[str, Look]:
    """Return legend entries of the experts: lines, or points over categories."""
    return {f"expert {k}": mean_entry(grid, c) for k, c in canvas.colours.items()}


def mean_entry(grid: Grid, colour: str) -> Look:
    """Return the legend entry of a mean: a line, or a point over categories."""
    if not grid.levels:
        return {"color": colour, "width": 2}
    return {"color": colour, "marker": "o", "markersize": 7, "linestyle": "none"} | {
        "markeredgecolor": "black",
        "markeredgewidth": 0.8,
    }


def band_entries(
    probabilities: Sequence[float], grid: Grid, colour: str, what: str = "interval"
) -> dict[str, Look]:
    """Return legend entries of nested bands, whose opacities add up, or of bars, widest first."""
    entries: dict[str, Look] = {}
    for j, p in enumerate(probabilities):
        shade = 1 - (1 - BAND_ALPHA) ** (j + 1)
        look: Look = {"width": 8, "alpha": shade}
        if grid.levels:
            look = {"marker": "|", "markersize": 12, "linestyle": "none"}
            look |= {"markeredgewidth": BAR_WIDTHS[j > 0]}
        entries[f"{100 * p:g} % {what}"] = {"color": colour} | look
    return entries


def point_entries(canvas: Canvas, label: str, colour: str) -> dict[str, Look]:
    """Return the legend entry of the data, if the backend's legend supports markers."""
    if canvas.backend not in WITH_MARKERS:
        return {}
    return {label: {"color": colour, "marker": "o", "markersize": 5, "linestyle": "none"}}


def _wrapped(text: str) -> str:
    """Return a text with line breaks between words, where its lines are too long."""
    return "\n".join(fill(line, LETTERS, break_long_words=False) for line in text.split("\n"))


def _as_line(look: Look, backend: str) -> Look:
    """Return the look of a line in a legend that has only lines."""
    line = {"color": look["color"], "width": look.get("width", 2)}
    if "alpha" in look:
        line["opacity" if backend == "plotly" else "alpha"] = look["alpha"]
    return line


def _mark_plotly(figure: Any, looks: Sequence[Look]) -> None:
    """Give the legend's traces, the last of a plotly figure, their markers."""
    for trace, look in zip(figure.data[-len(looks) :], looks, strict=True):
        if "marker" in look:
            # The line has the colour without arviz-plots' aliases.
            colour = trace.line.color
            edge = {"color": look.get("markeredgecolor", colour)}
            edge["width"] = look.get("markeredgewidth", 0)
            marker = {"color": colour, "symbol": PLOTLY_SYMBOLS[look["marker"]]}
            marker |= {"size": look["markersize"], "line": edge}
            trace.update(mode="markers", marker=marker)
