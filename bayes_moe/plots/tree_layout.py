"""Where the panels of a tree's picture stand, in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from bayes_moe.plots.tree_outline import OutlineNode

COLUMN = {4: 2.2, 6: 1.95}  # inches between leaves, up to so many leaves
NARROW = 1.7
BETWEEN, HEIGHT = 0.42, 1.2  # inches between panels, and of a panel
BELOW, EDGE, ABOVE = 0.42, 0.55, 0.26  # inches: axis labels, ribbons, title
LEFT, RIGHT, TOP, FOOT = 0.62, 0.15, 0.3, 0.2  # inches around
LINE, LETTER = 0.19, 0.075  # inches of a line of text, and of a letter


@dataclass(frozen=True)
class PanelBox:
    """Where a node's panel stands, in inches from the left bottom corner of the figure."""

    left: float
    bottom: float
    width: float
    height: float = HEIGHT

    @property
    def middle(self) -> float:
        """Centre from left to right."""
        return self.left + self.width / 2


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of all nodes by label, and the size of the figure in inches.

    ``foot`` is the text below the legend, ``columns`` the number of the legend's columns.
    """

    places: Mapping[str, PanelBox]
    size: tuple[float, float]
    foot: str
    columns: int


def lay_out(root: OutlineNode, stated: Sequence[str], legend: Sequence[str]) -> Layout:
    """Leaves from left to right, splits above the middle of their branches, rows by depth."""
    leaves = root.leaves
    column = next((c for most, c in COLUMN.items() if leaves <= most), NARROW)
    width, step = column - BETWEEN, HEIGHT + BELOW + EDGE + ABOVE
    deepest = max(node.depth for node in root.walk())
    columns = max(leaves, 2)
    wide = LEFT + columns * column + RIGHT
    foot = fill(f"other columns at {', '.join(stated)}", int(wide / LETTER)) if stated else ""
    needed = sum(LETTER * len(label) + 0.6 for label in legend)
    beside = max(1, int(len(legend) * min(1.0, wide / needed)))
    under = BELOW + FOOT + LINE * (len(foot.splitlines()) + -(-len(legend) // beside))
    size = (wide, TOP + HEIGHT + deepest * step + under)
    places: dict[str, PanelBox] = {}

    def put(node: OutlineNode, first: int) -> float:
        start, middles = first, []
        for child in node.children:
            middles.append(put(child, start))
            start += child.leaves
        middle = (middles[0] + middles[-1]) / 2 if middles else first + 0.5
        bottom = size[1] - TOP - HEIGHT - node.depth * step
        places[node.label] = PanelBox(LEFT + middle * column - column / 2, bottom, width)
        return middle

    put(root, 0)
    return Layout(places, size, foot, beside)
