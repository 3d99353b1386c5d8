"""Positions of the panels of a tree figure, in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill

from bayes_moe.plots.tree_outline import OutlineNode

COLUMN_WIDTHS = {4: 2.2, 6: 1.95}  # by largest number of leaves
NARROW_COLUMN = 1.7
BETWEEN, HEIGHT = 0.42, 1.2  # horizontal gap, height of a panel
BELOW, EDGE, ABOVE = 0.42, 0.55, 0.26  # axis labels, ribbons, title
LEFT, RIGHT, TOP, FOOT = 0.62, 0.15, 0.3, 0.2  # margins
LINE, LETTER = 0.19, 0.075  # height of a line of text, width of a letter
HANDLE = 0.6  # width of a legend's line beside its label
LEAST_LETTERS = 24  # in a line of a legend


@dataclass(frozen=True)
class PanelBox:
    """Position of a node's panel, in inches from the lower left corner of the figure."""

    left: float
    bottom: float
    width: float
    height: float = HEIGHT

    @property
    def centre(self) -> float:
        """Horizontal centre."""
        return self.left + self.width / 2


@dataclass(frozen=True, eq=False)
class Layout:
    """Boxes of all nodes by label, and the size of the figure in inches.

    ``foot`` is the text below the legend, ``legend`` the legend's labels in lines, and
    ``legend_columns`` the number of its columns.
    """

    boxes: Mapping[str, PanelBox]
    size: tuple[float, float]
    foot: str
    legend: Sequence[str]
    legend_columns: int


def lay_out(root: OutlineNode, statements: Sequence[str], legend: Sequence[str]) -> Layout:
    """Return the layout: leaves from left to right, splits above the centre of their branches.

    ``statements`` are the values of the fixed columns, ``legend`` the labels of the legend.
    """
    leaves = root.leaves
    column = next((c for most, c in COLUMN_WIDTHS.items() if leaves <= most), NARROW_COLUMN)
    deepest = max(node.depth for node in root.nodes())
    wide = LEFT + max(leaves, 2) * column + RIGHT
    letters = int(wide / LETTER)
    foot = _wrapped(statements, letters) if statements else ""
    legend = [fill(label, max(letters // 2, LEAST_LETTERS)) for label in legend]
    columns = _legend_columns(legend, wide)
    lines = max(sum(len(label.splitlines()) for label in column) for column in columns)
    under = BELOW + FOOT + LINE * (len(foot.splitlines()) + lines)
    step = HEIGHT + BELOW + EDGE + ABOVE
    size = (wide, TOP + HEIGHT + deepest * step + under)
    boxes: dict[str, PanelBox] = {}
    for node, centre in _centres(root).items():
        bottom = size[1] - TOP - HEIGHT - node.depth * step
        left = LEFT + centre * column - column / 2
        boxes[node.label] = PanelBox(left, bottom, column - BETWEEN)
    return Layout(boxes, size, foot, legend, len(columns))


def _legend_columns(labels: Sequence[str], wide: float) -> list[list[str]]:
    """Return the labels of each column of a legend: as many columns as there is room for."""
    for count in range(len(labels), 0, -1):
        # Columns are filled as matplotlib does it: the first ones have one label more.
        size, more = divmod(len(labels), count)
        ends = [size * c + min(c, more) for c in range(count + 1)]
        columns = [list(labels[a:b]) for a, b in pairwise(ends)]
        letters = (max(len(line) for t in column for line in t.splitlines()) for column in columns)
        if sum(LETTER * most + HANDLE for most in letters) <= wide:
            return columns
    return [list(labels)]


def _wrapped(statements: Sequence[str], letters: int) -> str:
    """Return the values of fixed columns in lines; a value is not parted from its column."""
    whole = [statement.replace(" ", "\0") for statement in statements]
    return fill(f"other columns at {', '.join(whole)}", letters).replace("\0", " ")


def _centres(root: OutlineNode, first_leaf: int = 0) -> dict[OutlineNode, float]:
    """Return the horizontal centre of each node, in widths of a column; children first."""
    if not root.children:
        return {root: first_leaf + 0.5}
    centres: dict[OutlineNode, float] = {}
    for child in root.children:
        centres |= _centres(child, first_leaf)
        first_leaf += child.leaves
    ends = root.children[0], root.children[-1]
    return centres | {root: (centres[ends[0]] + centres[ends[1]]) / 2}
