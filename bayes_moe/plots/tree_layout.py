"""Positions of the panels of a tree figure, in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from bayes_moe.plots.tree_outline import OutlineNode

COLUMN_WIDTHS = {4: 2.2, 6: 1.95}  # by largest number of leaves
NARROW_COLUMN = 1.7
BETWEEN, HEIGHT = 0.42, 1.2  # horizontal gap, height of a panel
BELOW, EDGE, ABOVE = 0.42, 0.55, 0.26  # axis labels, ribbons, title
LEFT, RIGHT, TOP, FOOT = 0.62, 0.15, 0.3, 0.2  # margins
LINE, LETTER = 0.19, 0.075  # height of a line of text, width of a letter


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

    ``foot`` is the text below the legend, ``legend_columns`` the number of the legend's columns.
    """

    boxes: Mapping[str, PanelBox]
    size: tuple[float, float]
    foot: str
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
    foot = fill(f"other columns at {', '.join(statements)}", letters) if statements else ""
    needed = sum(LETTER * len(label) + 0.6 for label in legend)
    legend_columns = max(1, int(len(legend) * min(1.0, wide / needed)))
    under = BELOW + FOOT + LINE * (len(foot.splitlines()) + -(-len(legend) // legend_columns))
    step = HEIGHT + BELOW + EDGE + ABOVE
    size = (wide, TOP + HEIGHT + deepest * step + under)
    boxes: dict[str, PanelBox] = {}
    for node, centre in _centres(root).items():
        bottom = size[1] - TOP - HEIGHT - node.depth * step
        left = LEFT + centre * column - column / 2
        boxes[node.label] = PanelBox(left, bottom, column - BETWEEN)
    return Layout(boxes, size, foot, legend_columns)


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
