"""A gate as a tree: shares of the rows, and dependence of each split on a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.group_terms import AVERAGE
from bayes_moe.data.reference_grid import Grid, columns_of, with_values
from bayes_moe.diagnostics.usage import usage
from bayes_moe.gates.splits import Split
from bayes_moe.plots.reference import at_observed, fixed_columns, panel_grid, thinned
from bayes_moe.prediction.branch_probabilities import (
    log_node_probabilities,
    node_probabilities,
    split_tree,
)
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd

MAX_DRAWS = 400
"""Number of draws from which branch probabilities are computed."""

TINY = 1e-6
"""Size, relative to a column's range, below which a threshold counts as zero."""

ZOOMS, ZOOM_POINTS = 2, 50
"""How often, and by how many points, the interval of a grid that has a crossing is divided."""


@dataclass(frozen=True, eq=False)
class OutlineNode:
    """A split or an expert, with the nodes below it.

    Attributes
    ----------
    branch : str
        Label of the branch to this node; empty at the root.
    share : float
        Posterior mean of the rows' responsibility for the experts below, as a share of all rows.
    depth : int
        Number of branches on the path from the root.
    split : Split or None
        None of an expert.
    expert : int or None
        Position of the expert; None of a split.
    label : str
        Name of the split, or ``"expert"`` and the expert's label.
    children : tuple of OutlineNode
        In the order of the branches.
    """

    branch: str
    share: float
    depth: int
    split: Split | None
    expert: int | None
    label: str
    children: tuple[OutlineNode, ...] = ()

    @property
    def leaves(self) -> int:
        """Number of experts below."""
        return sum(child.leaves for child in self.children) or 1

    def nodes(self) -> Iterator[OutlineNode]:
        """Yield this node and all below, parents before children."""
        yield self
        for child in self.children:
            yield from child.nodes()


@dataclass(frozen=True, eq=False)
class Direction:
    """Dependence of a split's branch probabilities on one column, all other columns fixed.

    Attributes
    ----------
    grid : Grid
        Rows along the column.
    middle : float or None
        The value of a numeric column at which two branches are equally likely, if it is unique.
    lower : int or None
        The branch that is likelier below ``middle``.
    likeliest : tuple of int
        Of a categorical column: the likeliest branch of each category.
    probabilities : array or None
        Of the branches along the column (point, branch).
    threshold : str
        The middle in so many digits that every fitted row is on the same side of both.
    """

    grid: Grid
    middle: float | None = None
    lower: int | None = None
    likeliest: tuple[int, ...] = ()
    probabilities: np.ndarray | None = None
    threshold: str = ""

    def condition(self, branch: int) -> str:
        """Return where a branch is the likeliest, such as ``"x < 3"``, or an empty text."""
        levels = [
            str(level)
            for level, best in zip(self.grid.levels, self.likeliest, strict=True)
            if best == branch
        ]
        if 0 < len(levels) < len(self.grid.levels):
            return f"{self.grid.feature} = {', '.join(levels)}"
        if self.middle is None:
            return ""
        sign = "<" if branch == self.lower else ">"
        return f"{self.grid.feature} {sign} {self.threshold}"


def outline(fit: Fit) -> OutlineNode:
    """Return a fit's gate as a tree, with the share of the rows of each node.

    Raises
    ------
    SpecError
        If the gate has no splits.
    """
    # The experts below a split identify it.
    below = {frozenset(split.below): split for split in split_tree(fit).splits}
    shares = usage(fit).mean((names.CHAIN, names.DRAW)).values
    labels = fit.spec.expert_labels

    def node(leaves: tuple[int, ...], branch: str, depth: int) -> OutlineNode:
        share = float(shares[list(leaves)].sum())
        if len(leaves) == 1:
            return OutlineNode(branch, share, depth, None, leaves[0], f"expert {labels[leaves[0]]}")
        split = below[frozenset(leaves)]
        children = tuple(
            node(part, label, depth + 1)
            for part, label in zip(split.leaves, split.labels, strict=True)
        )
        return OutlineNode(branch, share, depth, split, None, split.name, children)

    return node(tuple(range(fit.spec.n_experts)), "", 0)


def direction(
    fit: Fit, split: Split, feature: str | None = None, at: Mapping[str, Any] | None = None
) -> Direction | None:
    """Return the dependence of a split on a column, or None if the split has no columns.

    By default it is the column with the largest standardised slope: the standard deviation, over
    the fitted rows, of the split's predictor as only this column varies.
    """
    subset = thinned(fit, MAX_DRAWS)
    if feature is None:
        columns = columns_of(fit.design, stems_of(fit, split))
        if not columns:
            return None
        feature = max(columns, key=lambda column: _slope(subset, split, column, at))
    grid = panel_grid(fit, feature, at)
    probabilities = branch_probabilities(subset, split, grid.rows)
    if grid.levels:
        likeliest = tuple(probabilities.argmax(axis=1).tolist())
        return Direction(grid, likeliest=likeliest, probabilities=probabilities)
    along = Direction(grid, probabilities=probabilities)
    if split.branches == 2:
        along = _with_crossing(subset, split, along)
    if along.middle is None:
        return along
    return replace(along, threshold=_rounded(along.middle, grid.positions(fit.design.columns)))


def branch_probabilities(fit: Fit, split: Split, rows: pd.DataFrame | None) -> np.ndarray:
    """Return posterior mean probabilities (obs, branch) of a split's branches."""
    branches = {names.GATE_BRANCH: list(split.labels)}
    return np.asarray(node_probabilities(fit, rows, unseen=AVERAGE).sel(branches).values)


def directions(
    fit: Fit,
    root: OutlineNode,
    feature: str | None = None,
    at: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Direction | None], dict[str, Any]]:
    """Return the :func:`direction` of each split by label, and the columns they fix."""
    by_label: dict[str, Direction | None] = {}
    fixed: dict[str, Any] = {}
    for node in root.nodes():
        if node.split is None:
            continue
        along = by_label[node.label] = direction(fit, node.split, feature, at)
        if along is not None:
            fixed |= fixed_columns(fit, along.grid, stems_of(fit, node.split))
    return by_label, fixed


def stems_of(fit: Fit, split: Split) -> list[str]:
    """Return the stems of a split's predictors: all of the gate's, if it is the only split."""
    is_only = split.branches == fit.spec.n_experts
    return list(fit.spec.gate.formulas) if is_only else [split.stem]


def _slope(fit: Fit, split: Split, column: str, at: Mapping[str, Any] | None) -> float:
    """Standard deviation of a split's predictor over the fitted rows, as one column varies."""
    grid = panel_grid(fit, column, at)
    branches = {names.GATE_BRANCH: list(split.labels)}
    log_probabilities = log_node_probabilities(fit, grid.rows).sel(branches).values
    # Log probabilities less their mean are the softmax predictor up to its free constant.
    centred = log_probabilities - log_probabilities.mean(axis=1, keepdims=True)  # (point, branch)
    return float(np.sqrt(np.var(at_observed(fit, grid, centred), axis=1).sum()))


def _with_crossing(fit: Fit, split: Split, along: Direction) -> Direction:
    """Return a direction with the point where both branches are equally likely, if it is unique."""
    grid, excess = along.grid, _excess(along.probabilities)
    for _ in range(ZOOMS + 1):
        changes = np.flatnonzero(np.diff(excess >= 0))
        if len(changes) != 1:
            break
        j, x = int(changes[0]), grid.x
        # Linear interpolation between two points of the grid.
        step = excess[j] / (excess[j] - excess[j + 1])
        along = replace(along, middle=float(x[j] + step * (x[j + 1] - x[j])))
        along = replace(along, lower=int(excess[j] < 0))
        grid = with_values(grid, np.linspace(x[j], x[j + 1], ZOOM_POINTS))
        excess = _excess(branch_probabilities(fit, split, grid.rows))
    return along


def _rounded(middle: float, x: np.ndarray) -> str:
    """Return a number in the fewest digits that leave rows (obs,) on their side of it."""
    below = x < middle
    for text in (*(["0"] if abs(middle) < TINY * np.ptp(x) else []), *_texts(middle)):
        if np.array_equal(x < float(text), below):
            return text
    return repr(middle)


def _texts(value: float) -> Iterator[str]:
    """Yield a number in 4 to 17 digits."""
    yield from (f"{value:.{digits}g}" for digits in range(4, 18))


def _excess(probabilities: np.ndarray | None) -> np.ndarray:
    """Return by how much the first branch's probability (point,) is above a half."""
    assert probabilities is not None
    return probabilities[:, 0] - 0.5
